"""The batch APIs of the providers, played by a server of our own.

They accept what the official SDKs send, and answer in the form of the SDKs' types and of recorded answers. A batch runs
until the test ends it. Each request is answered by its text: "fail" with an error, "skip" with nothing, anything else
with that text in capital letters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from trunkline.testing import Exchange

JSON = {"content-type": "application/json"}
LINES = {"content-type": "application/octet-stream"}


def lines_of(body: bytes) -> list[dict[str, Any]]:
    """The JSON objects of a file."""
    return [json.loads(line) for line in body.splitlines() if line.strip()]


class BatchServer:
    """The handler of `trunkline.testing.serve`. A subclass answers in `answer`."""

    def __init__(self) -> None:
        self.submitted: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.status = "running"  # or "completed", "cancelled", "expired"
        self.fails = 0
        """How many submissions are answered with nothing, although the batch was accepted."""
        self.limited = 0
        """How many submissions are refused with status 429."""
        self.url = ""

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        url = urlsplit(request.target)
        headers = {name.lower(): value for name, value in request.headers.items()}
        status, more, body = self.answer(
            request.method, unquote(url.path), dict(parse_qsl(url.query)), headers, request.body
        )
        if status == 0:
            await exchange.hang_up()
        else:
            await exchange.respond(body, status=status, headers=more)

    def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """The status, the headers and the body of the answer."""
        raise NotImplementedError

    def submit(self, batch: dict[str, Any], answer: object) -> tuple[int, Mapping[str, str], bytes]:
        """Accept a batch, unless the test wants it to be refused, or the answer to be lost."""
        if self.limited:
            self.limited -= 1
            return 429, {**JSON, "retry-after": "0"}, b'{"error":{"message":"slow down","type":"rate_limit_error"}}'
        self.submitted.append(batch)
        if self.fails:
            self.fails -= 1
            return 0, {}, b""
        return 200, JSON, json.dumps(answer).encode()


def found(value: object) -> tuple[int, Mapping[str, str], bytes]:
    """An answer with this JSON."""
    return 200, JSON, json.dumps(value).encode()


class AnthropicBatches(BatchServer):
    """Message Batches."""

    def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        assert headers["x-api-key"] == "k" or headers["authorization"] == "Bearer k"
        match method, path.removeprefix("/v1/messages/batches").strip("/").split("/"):
            case "POST", [""]:
                return self.submit(json.loads(body), self._batch())
            case "GET", [""]:
                return found({"data": [self._batch()], "has_more": False, "first_id": "b1", "last_id": "b1"})
            case "GET", ["b1"]:
                return found(self._batch())
            case "POST", ["b1", "cancel"]:
                self.status = "cancelling"
                return found(self._batch())
            case "GET", ["b1", "results"]:
                lines = [json.dumps(self._line(request)) for request in reversed(self.submitted[0]["requests"])]
                return 200, {"content-type": "application/x-jsonl"}, "\n".join(lines).encode()
        return 404, JSON, b'{"type":"error","error":{"type":"not_found_error","message":"no such batch"}}'

    def _batch(self) -> dict[str, Any]:
        total = len(self.submitted[-1]["requests"]) if self.submitted else 0
        ended = self.status not in ("running", "cancelling")
        counts = {"processing": 0 if ended else total, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        if self.status == "completed":
            counts["succeeded"], counts["errored"] = total - 1, 1
        elif ended:
            counts["succeeded"], counts["canceled" if self.status == "cancelled" else "expired"] = total - 1, 1
        return {
            "id": "b1",
            "type": "message_batch",
            "processing_status": "ended" if ended else {"running": "in_progress"}.get(self.status, "canceling"),
            "request_counts": counts,
            "ended_at": "2026-08-19T15:49:30.044811+00:00" if ended else None,
            "created_at": "2026-08-19T14:49:30.044811+00:00",
            "expires_at": "2026-08-20T14:49:30.044811+00:00",
            "archived_at": None,
            "cancel_initiated_at": "2026-08-19T14:50:00Z" if "cancel" in self.status else None,
            "results_url": f"{self.url}/v1/messages/batches/b1/results" if ended else None,
        }

    def _line(self, request: dict[str, Any]) -> dict[str, Any]:
        content = request["params"]["messages"][-1]["content"]
        text = content if isinstance(content, str) else content[-1]["text"]
        result: dict[str, Any]
        if text == "skip":
            result = {"type": {"cancelled": "canceled"}.get(self.status, "expired")}
        elif text == "fail":
            error = {"type": "invalid_request_error", "message": "prompt is too long: 2 tokens > 1 maximum"}
            result = {"type": "errored", "error": {"type": "error", "error": error, "request_id": "req_1"}}
        else:
            message = {
                "model": request["params"]["model"],
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "content": [{"type": "text", "text": text.upper()}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 20, "output_tokens": 5, "service_tier": "batch"},
            }
            result = {"type": "succeeded", "message": message}
        return {"custom_id": request["custom_id"], "result": result}
