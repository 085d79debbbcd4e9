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
        assert headers.get("x-api-key") == "k" or headers["authorization"] == "Bearer k"
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


def file_of(body: bytes, content_type: str) -> bytes:
    """The file in a form, whose purpose must be `batch`."""
    boundary = content_type.partition("boundary=")[2].encode()
    purpose, file = body.split(b"--" + boundary)[1:-1]
    assert purpose.endswith(b'name="purpose"\r\n\r\nbatch\r\n')
    head, _, content = file.partition(b"\r\n\r\n")
    assert b'name="file"' in head
    assert b".jsonl" in head
    return content.removesuffix(b"\r\n")


def text_of(body: dict[str, Any]) -> str:
    """The text of the last message of a request, in any form of OpenAI's."""
    last = (body.get("messages") or body.get("input"))[-1]
    content = last["content"]
    return content if isinstance(content, str) else content[-1]["text"]


CHAT_ERROR = {
    "message": "This model's maximum context length is 1 token.",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded",
}


def chat_answer(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The status and the body of the answer to a request of OpenAI's."""
    text = text_of(body)
    if text == "fail":
        return 400, {"error": CHAT_ERROR}
    if "input" in body:
        content = [{"type": "output_text", "text": text.upper(), "annotations": []}]
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        usage = {"input_tokens": 20, "output_tokens": 5, "total_tokens": 25}
        return 200, {
            "id": "resp_1",
            "object": "response",
            "created_at": 1787150442,
            "status": "completed",
            "model": body["model"],
            "output": [item],
            "usage": usage,
        }
    message = {"role": "assistant", "content": text.upper()}
    return 200, {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1787150442,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    }


class OpenAIBatches(BatchServer):
    """OpenAI's Batch API, below `root`."""

    root = "/v1"

    def authorized(self, headers: Mapping[str, str]) -> bool:
        """Whether the credentials are right."""
        return headers["authorization"] == "Bearer k"

    def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        assert self.authorized(headers)
        match method, path.removeprefix(self.root).strip("/").split("/"):
            case "POST", ["files"]:
                name = f"file-{len(self.files)}"
                self.files[name] = file_of(body, headers["content-type"])
                return found({"id": name, "object": "file", "purpose": "batch", "bytes": len(self.files[name])})
            case "GET", ["files", name, "content"] if name in self.files:
                return 200, LINES, self.files[name]
            case "POST", ["batches"]:
                created = json.loads(body)
                assert created["completion_window"] == "24h"
                lines = lines_of(self.files[created["input_file_id"]])
                assert {line["url"] for line in lines} == {created["endpoint"]}
                return self.submit({**created, "lines": lines}, self._batch(len(lines)))
            case "GET", ["batches"]:
                return found({"object": "list", "data": [self._batch()], "has_more": False, "last_id": "batch_1"})
            case "GET", ["batches", "batch_1"]:
                return found(self._batch())
            case "POST", ["batches", "batch_1", "cancel"]:
                self.status = "cancelling"
                return found(self._batch())
        return 404, JSON, b'{"error":{"message":"No such batch","type":"invalid_request_error","code":null}}'

    def _batch(self, total: int = 0) -> dict[str, Any]:
        ended = self.status not in ("running", "cancelling")
        if ended:
            self._run()
        lines = self.submitted[-1]["lines"] if self.submitted else []
        return {
            "id": "batch_1",
            "object": "batch",
            "endpoint": self.submitted[-1]["endpoint"] if self.submitted else "",
            "errors": None,
            "input_file_id": "file-0",
            "completion_window": "24h",
            "status": {"running": "in_progress"}.get(self.status, self.status),
            "output_file_id": "file-out" if ended else None,
            "error_file_id": "file-err" if self.files.get("file-err") else None,
            "created_at": 1787150474,
            "expires_at": 1787236874,
            "request_counts": {"total": len(lines), "completed": len(lines) if ended else 0, "failed": 0},
            "metadata": self.submitted[-1].get("metadata") if self.submitted else None,
        }

    def _run(self) -> None:
        outputs: list[str] = []
        errors: list[str] = []
        for number, line in enumerate(self.submitted[-1]["lines"]):
            result: dict[str, Any] = {"id": f"batch_req_{number}", "custom_id": line["custom_id"]}
            if text_of(line["body"]) == "skip":
                error = {"code": f"batch_{self.status}", "message": "This request could not be executed."}
                errors.append(json.dumps({**result, "response": None, "error": error}))
                continue
            status, body = chat_answer(line["body"])
            response = {"status_code": status, "request_id": f"req_{number}", "body": body}
            (outputs if status == 200 else errors).append(json.dumps({**result, "response": response, "error": None}))
        self.files["file-out"] = "\n".join(outputs).encode()
        self.files["file-err"] = "\n".join(errors).encode()


class AzureBatches(OpenAIBatches):
    """Azure's Batch API, on the surface `/openai/v1`."""

    root = "/openai/v1"

    def authorized(self, headers: Mapping[str, str]) -> bool:
        return headers["api-key"] == "k"


class MistralBatches(OpenAIBatches):
    """Mistral's batch jobs."""

    def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        match method, path.removeprefix("/v1/batch/jobs").strip("/").split("/"):
            case "POST", [""]:
                created = json.loads(body)
                lines = [line for name in created["input_files"] for line in lines_of(self.files[name])]
                return self.submit({**created, "lines": lines}, self._job(len(lines)))
            case "GET", [""]:
                return found({"object": "list", "data": [self._job()], "total": 1})
            case "GET", ["job-1"]:
                return found(self._job())
            case "POST", ["job-1", "cancel"]:
                self.status = "cancelling"
                return found(self._job())
        return super().answer(method, path, query, headers, body)

    def _job(self, total: int = 0) -> dict[str, Any]:
        ended = self.status not in ("running", "cancelling")
        if ended:
            self._run()
        words = {
            "running": "RUNNING",
            "cancelling": "CANCELLATION_REQUESTED",
            "completed": "SUCCESS",
            "cancelled": "CANCELLED",
            "expired": "TIMEOUT_EXCEEDED",
        }
        return {
            "id": "job-1",
            "object": "batch",
            "input_files": ["file-0"],
            "metadata": self.submitted[-1].get("metadata") if self.submitted else None,
            "endpoint": "/v1/chat/completions",
            "model": "mistral-small-latest",
            "output_file": "file-out" if ended else None,
            "error_file": "file-err" if self.files.get("file-err") else None,
            "errors": [],
            "outputs": None,
            "status": words[self.status],
            "created_at": 1787150442,
            "total_requests": total,
            "completed_requests": 0,
            "succeeded_requests": 0,
            "failed_requests": 0,
        }


class GeminiBatches(BatchServer):
    """Gemini's Batch API, with requests and results in messages or in files."""

    def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        assert headers["x-goog-api-key"] == "k"
        match method, path:
            case "POST", "/v1beta/models/gemini-2.5-flash:batchGenerateContent":
                batch = json.loads(body)["batch"]
                assert batch["displayName"]
                source = batch["inputConfig"]
                if "requests" in source:
                    items = [
                        {"key": item["metadata"]["key"], "request": item["request"]}
                        for item in source["requests"]["requests"]
                    ]
                else:
                    items = lines_of(self.files[source["fileName"]])
                return self.submit({**batch, "items": items}, self._batch(len(items)))
            case "GET", "/v1beta/batches":
                return found({"operations": [self._batch()]})
            case "GET", "/v1beta/batches/b1":
                return found(self._batch())
            case "POST", "/v1beta/batches/b1:cancel":
                self.status = "cancelled"  # there is no state for a batch that is being cancelled
                return found({})
            case "POST", "/upload/v1beta/files":
                assert headers["x-goog-upload-command"] == "start"
                return 200, {**JSON, "x-goog-upload-url": f"{self.url}/upload/v1beta/files?upload_id=1"}, b""
            case "GET", "/download/v1beta/files/out:download":
                assert query["alt"] == "media"
                return 200, LINES, self.files["files/out"]
        return 404, JSON, b'{"error":{"code":404,"message":"Requested entity was not found.","status":"NOT_FOUND"}}'

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.request.target.endswith("upload_id=1"):
            assert exchange.request.headers["x-goog-upload-command"] == "upload, finalize"
            self.files["files/in"] = exchange.request.body
            await exchange.respond(b'{"file":{"name":"files/in","sizeBytes":"1"}}')
            return
        await super().__call__(exchange)

    def _batch(self, total: int = 0) -> dict[str, Any]:
        ended = self.status not in ("running", "cancelling")
        state = {"completed": "SUCCEEDED", "cancelled": "CANCELLED", "expired": "EXPIRED"}.get(self.status, "RUNNING")
        batch: dict[str, Any] = {
            "name": "batches/b1",
            "metadata": {
                "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
                "model": "models/gemini-2.5-flash",
                "displayName": self.submitted[-1]["displayName"] if self.submitted else "",
                "createTime": "2026-08-19T14:34:12.267870162Z",
                "batchStats": {"requestCount": str(total), "pendingRequestCount": str(total)},
                "state": f"BATCH_STATE_{state}",
                "name": "batches/b1",
            },
        }
        if not ended:
            return batch
        made = [self._result(item) for item in self.submitted[-1]["items"] if self._text(item) != "skip"]
        output: dict[str, Any]
        if "fileName" in self.submitted[-1]["inputConfig"]:
            self.files["files/out"] = "\n".join(json.dumps({"key": key, **result}) for key, result in made).encode()
            output = {"responsesFile": "files/out"}
        else:
            inlined = [{**result, "metadata": {"key": key}} for key, result in made]
            output = {"inlinedResponses": {"inlinedResponses": inlined}}
        batch["metadata"]["output"] = output
        return {**batch, "done": True, "response": {"@type": "GenerateContentBatchOutput", **output}}

    @staticmethod
    def _text(item: dict[str, Any]) -> str:
        return str(item["request"]["contents"][-1]["parts"][-1]["text"])

    def _result(self, item: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        text = self._text(item)
        if text == "fail":
            message = "The input token count (2) exceeds the maximum number of tokens allowed (1)."
            return item["key"], {"error": {"code": 3, "message": message}}
        content = {"parts": [{"text": text.upper()}], "role": "model"}
        return item["key"], {
            "response": {
                "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
                "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 5, "totalTokenCount": 25},
                "modelVersion": "gemini-2.5-flash",
                "responseId": "r1",
            }
        }


def s3_error(code: str) -> bytes:
    """The body of an error of S3."""
    repeated = "<AWSAccessKeyId>AKIAIOSFODNN7EXAMPLE</AWSAccessKeyId><StringToSign>AWS4-HMAC</StringToSign>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>Why &amp; how.</Message>{repeated}<RequestId>R1</RequestId></Error>"
    ).encode()


class BedrockBatches(BatchServer):
    """Bedrock's jobs, and S3 at `/s3`. Signatures are verified with botocore's own signers."""

    KEYS = ("AKIAIOSFODNN7EXAMPLE", "secret-of-the-tests")

    def _verify(self, method: str, target: str, headers: Mapping[str, str], body: bytes, service: str) -> None:
        from botocore.auth import S3SigV4Auth, SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        scope, signed, signature = (part.partition("=")[2] for part in headers["authorization"].split(", "))
        assert scope.split("/")[3] == service
        covered = {name: headers[name] for name in signed.split(";")}
        kind = S3SigV4Auth if service == "s3" else SigV4Auth
        signer = kind(Credentials(*self.KEYS), service, "us-east-1")
        request = AWSRequest(method=method, url=f"http://{headers['host']}{target}", data=body, headers=covered)
        request.context["timestamp"] = headers["x-amz-date"]
        # S3's signer sets this header itself.
        assert service != "s3" or covered["x-amz-content-sha256"] == signer.payload(request)
        expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        assert signature == expected

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        headers = {name.lower(): value for name, value in request.headers.items()}
        service = "s3" if request.target.startswith("/s3/") else "bedrock"
        self._verify(request.method, request.target, headers, request.body, service)
        await super().__call__(exchange)

    def answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        match method, path.removeprefix("/model-invocation-job").strip("/").split("/"):
            case "PUT", ["s3", bucket, *key]:
                self.files[f"s3://{bucket}/{'/'.join(key)}"] = body
                return 200, {}, b""
            case "GET", ["s3", bucket, *key]:
                found_file = self.files.get(f"s3://{bucket}/{'/'.join(key)}")
                return (200, LINES, found_file) if found_file is not None else (404, {}, s3_error("NoSuchKey"))
            case "POST", [""]:
                created = json.loads(body)
                assert created["modelInvocationType"] == "Converse"
                known = [job for job in self.submitted if job["clientRequestToken"] == created["clientRequestToken"]]
                if known:
                    return found({"jobArn": self._arn})
                return self.submit(created, {"jobArn": self._arn})
            case "GET", ["s"]:
                return found({"invocationJobSummaries": [self._job()]})
            case "GET", [*arn] if "/".join(arn) == self._arn:
                return found(self._job())
            case "POST", [*arn, "stop"] if "/".join(arn) == self._arn:
                self.status = "cancelling"
                return found({})
        return 404, {**JSON, "x-amzn-errortype": "ResourceNotFoundException"}, b'{"message":"no such job"}'

    _arn = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/abcdefghijkl"

    def _job(self) -> dict[str, Any]:
        words = {
            "running": "InProgress",
            "cancelling": "Stopping",
            "completed": "Completed",
            "cancelled": "Stopped",
            "expired": "PartiallyCompleted",
        }
        job = self.submitted[-1]
        source = job["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
        records = lines_of(self.files[source])
        if self.status not in ("running", "cancelling"):
            place = job["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"]
            output = f"{place}abcdefghijkl/{source.rpartition('/')[2]}.out"
            made = [self._record(record) for record in records]
            self.files[output] = "\n".join(json.dumps(record) for record in made if record).encode()
        return {
            "jobArn": self._arn,
            "jobName": job["jobName"],
            "modelId": job["modelId"],
            "roleArn": job["roleArn"],
            "status": words[self.status],
            "submitTime": "2026-11-22T01:02:03Z",
            "jobExpirationTime": "2026-11-23T01:02:03Z",
            "inputDataConfig": job["inputDataConfig"],
            "outputDataConfig": job["outputDataConfig"],
            "totalRecordCount": len(records),
            "processedRecordCount": len(records) if self.status != "running" else 0,
        }

    @staticmethod
    def _record(record: dict[str, Any]) -> dict[str, Any] | None:
        text = record["modelInput"]["messages"][-1]["content"][-1]["text"]
        if text == "skip":
            return None
        if text == "fail":
            return {**record, "error": {"errorCode": 400, "errorMessage": "Input is too long for requested model."}}
        message = {"role": "assistant", "content": [{"text": text.upper()}]}
        usage = {"inputTokens": 20, "outputTokens": 5, "totalTokens": 25}
        output = {"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}}
        return {**record, "modelOutput": output}
