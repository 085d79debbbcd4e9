"""Batch APIs that run many batches, and remember how often each text was submitted.

A batch ends after it was asked for `polls` times. Requests are answered by their text, as in `batch_servers`, but:
"flaky …" fails with a status of 500 the first time, "lost …" has no result the first time, and "late …" expires the
first time. Run this file for a server in a process of its own, which remembers across the deaths of its clients.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from batch_servers import JSON, LINES, AnthropicBatches, OpenAIBatches, chat_answer, file_of, found, lines_of, text_of
from trunkline.testing import serve

NOT_FOUND = 404, JSON, b'{"error":{"message":"No such batch","type":"invalid_request_error","code":null}}'


class ManyBatches(OpenAIBatches):
    """OpenAI's Batch API."""

    def __init__(self, polls: int = 1) -> None:
        super().__init__()
        self.polls = polls
        self.seen: Counter[str] = Counter()
        self.batches: dict[str, dict[str, Any]] = {}
        self.most_running = 0
        self.lost_answers = 0
        """How many batches are accepted without an answer."""
        self.refusals: list[tuple[int, bytes]] = []
        """The status and the body of the answers to the next submissions."""
        self.failures = 0
        """How many batches fail as a whole."""
        self.down = 0
        """How many requests are answered with a status of 503."""
        self.listed = 0
        self.on_poll: Callable[[], None] = int
        """Called when a batch is asked for."""

    def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        if path == "/stats":
            return found({"seen": self.seen, "batches": len(self.batches), "most_running": self.most_running})
        if self.down:
            self.down -= 1
            return 503, JSON, b'{"error":{"message":"down"}}'
        match method, path.removeprefix("/v1").strip("/").split("/"):
            case "POST", ["files"]:
                name = f"file-{len(self.files)}"
                self.files[name] = file_of(body, headers["content-type"])
                return found({"id": name, "object": "file", "purpose": "batch", "bytes": len(self.files[name])})
            case "GET", ["files", name, "content"] if name in self.files:
                return 200, LINES, self.files[name]
            case "POST", ["batches"]:
                created = json.loads(body)
                return self._accept(created, lines_of(self.files[created["input_file_id"]]))
            case "GET", ["batches"]:
                self.listed += 1
                newest = [self._shown(batch) for batch in reversed(self.batches.values())]
                return found({"object": "list", "data": newest, "has_more": False})
            case "GET", ["batches", name] if name in self.batches:
                self._poll(self.batches[name])
                return found(self._shown(self.batches[name]))
            case "POST", ["batches", name, "cancel"] if name in self.batches:
                self.batches[name]["status"] = "cancelling"
                return found(self._shown(self.batches[name]))
        return NOT_FOUND

    def _accept(self, created: dict[str, Any], lines: list[dict[str, Any]]) -> tuple[int, Mapping[str, str], bytes]:
        if self.refusals:
            status, body = self.refusals.pop(0)
            return status, JSON, body
        name = f"batch_{len(self.batches)}"
        batch = {"name": name, "status": "running", "polls": 0, "created": int(time.time()), "lines": lines, **created}
        self.batches[name] = batch
        self.most_running = max(self.most_running, sum(one["status"] == "running" for one in self.batches.values()))
        if self.failures:
            self.failures -= 1
            batch["status"] = "failed"
        else:
            self.seen.update(self._text(line) for line in lines)
        if self.lost_answers:
            self.lost_answers -= 1
            return 0, {}, b""
        return found(self._shown(batch))

    def _text(self, line: dict[str, Any]) -> str:
        return text_of(line["body"])

    def _poll(self, batch: dict[str, Any]) -> None:
        batch["polls"] += 1
        self.on_poll()
        if batch["status"] == "running" and batch["polls"] >= self.polls:
            late = any(
                self._text(line).startswith("late") and self.seen[self._text(line)] == 1 for line in batch["lines"]
            )
            batch["status"] = "expired" if late else "completed"
            self._finish(batch)
        elif batch["status"] == "cancelling":
            batch["status"] = "cancelled"
            self._finish(batch)

    def _outcome(self, batch: dict[str, Any], text: str) -> str:
        """How the request with a text ends: answered, `fail`, `flaky`, `skip` or `not run`."""
        first = text.partition(" ")[0]
        if batch["status"] == "cancelled" and first == "slow":
            return "not run"
        if self.seen[text] > 1:
            return "answered"
        return {"fail": "fail", "flaky": "flaky", "lost": "skip", "late": "not run"}.get(first, "answered")

    def _finish(self, batch: dict[str, Any]) -> None:
        outputs: list[str] = []
        errors: list[str] = []
        for number, line in enumerate(batch["lines"]):
            result: dict[str, Any] = {"id": f"batch_req_{number}", "custom_id": line["custom_id"]}
            outcome = self._outcome(batch, text_of(line["body"]))
            if outcome == "skip":
                continue
            if outcome == "not run":
                error = {"code": f"batch_{batch['status']}", "message": "This request could not be executed."}
                errors.append(json.dumps({**result, "response": None, "error": error}))
                continue
            status, body = chat_answer(line["body"])
            if outcome == "flaky":
                status, body = 500, {"error": {"message": "try again", "type": "server_error"}}
            elif outcome == "fail":
                status, body = 400, {"error": {"message": "not that", "type": "invalid_request_error"}}
            response = {"status_code": status, "request_id": f"req_{number}", "body": body}
            (outputs if status == 200 else errors).append(json.dumps({**result, "response": response, "error": None}))
        for kind, made in (("out", outputs), ("err", errors)):
            self.files[f"{batch['name']}-{kind}"] = "\n".join(made).encode()

    def _shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        ended = batch["status"] not in ("running", "cancelling")
        size = len(batch["lines"])
        return {
            "id": batch["name"],
            "object": "batch",
            "endpoint": batch["endpoint"],
            "errors": {"data": [{"message": "too many tokens are enqueued"}]} if batch["status"] == "failed" else None,
            "status": {"running": "in_progress"}.get(batch["status"], batch["status"]),
            "output_file_id": f"{batch['name']}-out" if ended else None,
            "error_file_id": f"{batch['name']}-err" if ended else None,
            "created_at": batch["created"],
            "request_counts": {"total": size, "completed": size if ended else 0, "failed": 0},
            "metadata": batch.get("metadata"),
        }


class ManyMessageBatches(ManyBatches):
    """Anthropic's Message Batches, which store no token of the submission."""

    def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        match method, path.removeprefix("/v1/messages/batches").strip("/").split("/"):
            case "POST", [""]:
                created = json.loads(body)
                return self._accept({}, created["requests"])
            case "GET", [""]:
                self.listed += 1
                newest = [self._shown(batch) for batch in reversed(self.batches.values())]
                return found({"data": newest, "has_more": False})
            case "GET", [name] if name in self.batches:
                self._poll(self.batches[name])
                return found(self._shown(self.batches[name]))
            case "GET", [name, "results"] if name in self.batches:
                return 200, {"content-type": "application/x-jsonl"}, self.files[name]
        return NOT_FOUND

    def _text(self, line: dict[str, Any]) -> str:
        return text_of(line["params"])

    def _finish(self, batch: dict[str, Any]) -> None:
        anthropic = AnthropicBatches()
        anthropic.status = batch["status"]
        lines = [json.dumps(anthropic._line(line)) for line in batch["lines"]]
        self.files[batch["name"]] = "\n".join(lines).encode()

    def _shown(self, batch: dict[str, Any]) -> dict[str, Any]:
        ended = batch["status"] != "running"
        size = len(batch["lines"])
        return {
            "id": batch["name"],
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {"processing": 0 if ended else size, "succeeded": size if ended else 0},
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(batch["created"])),
            "results_url": f"{self.url}/v1/messages/batches/{batch['name']}/results" if ended else None,
        }


async def main(polls: int) -> None:
    """Serve until the process is ended."""
    provider = ManyBatches(polls)
    async with serve(provider) as server:
        provider.url = server.url
        sys.stdout.write(f"ready {server.url}\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]))
