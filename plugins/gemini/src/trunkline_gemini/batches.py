"""Gemini's Batch API: pure functions that build the requests and parse the responses.

A small batch is sent in the request that creates it, and its results are in the answer about its state. A large one is
uploaded as a file, and its results are a file.

Sources: google-genai 3.4 (batches.py, files.py, _api_client.py), recorded traffic, and
ai.google.dev/gemini-api/docs/batch-api (2026-11).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from trunkline.authoring.batches import (
    BatchLimits,
    BatchOutcome,
    BatchSubmission,
    ResultLines,
    batch_id,
    batch_parser,
    batch_status,
    cancelled_error,
    epoch_seconds,
    list_parser,
    readable_outcome,
    result_id,
)
from trunkline.authoring.json import (
    as_count,
    as_list,
    as_object,
    as_string,
    decode_object,
    dumps,
    encode_request,
)
from trunkline.authoring.provider import BatchOperations, Operation, ServiceContext
from trunkline.authoring.urls import endpoint_url, path_segments, query_string
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.batches import Batch, BatchCounts, BatchStatus
from trunkline.errors import ProtocolViolation, TrunklineError

from trunkline_gemini.errors import error_from_body
from trunkline_gemini.settings import GeminiSettings
from trunkline_gemini.translate import HEADERS
from trunkline_gemini.urls import base_url, default_url

LIMITS = BatchLimits(
    # A file of at most 2 GB: docs, "Input file". One model: it is in the URL.
    bytes=2 * 1000**3,
    one_model=True,
)

INLINE_LIMIT = 19 * 1000 * 1000
"""The most bytes that requests may have without a file. Gemini accepts requests of less than 20 MB: docs, "Inline"."""

PAGE = 100
"""How many batches a page has."""

STATUSES: dict[str, BatchStatus] = {
    "PENDING": "running",
    "RUNNING": "running",
    "SUCCEEDED": "completed",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
    "CANCELLING": "cancelling",
    "PARTIALLY_SUCCEEDED": "completed",
}
"""The states, without the prefix `BATCH_STATE_` or `JOB_STATE_`."""

_HTTP_STATUS = {
    **{1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400},
    **{10: 409, 11: 400, 12: 501, 13: 500, 14: 503, 15: 500, 16: 401},
}
"""The HTTP statuses of gRPC's codes, which the errors of single requests have: google/rpc/code.proto."""

_CANCELLED = 1


def submit(
    context: ServiceContext[GeminiSettings], submission: BatchSubmission
) -> Sequence[Operation[BatchSubmission, Any]]:
    """Return the operations that submit a batch: in one request, or with a file."""
    if sum(len(item.wire_request.body) for item in submission.items) <= INLINE_LIMIT:
        return (Operation(build=build_inline, parse=parse_batch, repeatable=False),)
    return (
        Operation(build=build_upload_start, parse=parse_upload_start),
        Operation(build=build_upload, parse=parse_upload),
        Operation(build=build_create, parse=parse_batch, repeatable=False),
    )


def build_inline(context: ServiceContext[GeminiSettings], submission: BatchSubmission) -> WireRequest:
    """Build the request that creates a batch and contains its requests."""
    requests = b",".join(
        b'{"request":' + item.wire_request.body + b',"metadata":{"key":' + dumps(item.id) + b"}}"
        for item in submission.items
    )
    return _create(context, submission, b'{"requests":{"requests":[' + requests + b"]}}")


def build_create(context: ServiceContext[GeminiSettings], submission: BatchSubmission) -> WireRequest:
    """Build the request that creates a batch of the uploaded file."""
    return _create(context, submission, encode_request({"fileName": submission.previous}))


def _create(context: ServiceContext[GeminiSettings], submission: BatchSubmission, source: bytes) -> WireRequest:
    # The name is required. It tells batches apart in the list if the answer to a submission is lost.
    fields = encode_request({"displayName": submission.mark, **submission.options})
    url = default_url(context.settings, submission.items[0].model, "batchGenerateContent")
    return WireRequest(url=url, headers=HEADERS, body=b'{"batch":' + fields[:-1] + b',"inputConfig":' + source + b"}}")


def _file(submission: BatchSubmission) -> bytes:
    return b"".join(
        b'{"key":' + dumps(item.id) + b',"request":' + item.wire_request.body + b"}\n" for item in submission.items
    )


def build_upload_start(context: ServiceContext[GeminiSettings], submission: BatchSubmission) -> WireRequest:
    """Build the request that starts an upload. The answer has the URL that the file is sent to."""
    headers = {
        **HEADERS,
        "x-goog-upload-protocol": "resumable",
        "x-goog-upload-command": "start",
        "x-goog-upload-header-content-length": str(len(_file(submission))),
        "x-goog-upload-header-content-type": "application/jsonl",
    }
    body = encode_request({"file": {"mimeType": "application/jsonl", "displayName": submission.mark}})
    return WireRequest(url=_beside(context, "upload", "/files"), headers=headers, body=body)


def parse_upload_start(context: ServiceContext[GeminiSettings], wire_response: WireResponse) -> str:
    """Return the URL that the file is sent to. Raises `ProtocolViolation` if it is on another server.

    The URL gets the credentials, and the response must not decide who gets them.
    """
    url = wire_response.headers.get("x-goog-upload-url", "")
    ours = urlsplit(_base(context))
    if urlsplit(url)[:2] != ours[:2]:
        raise ProtocolViolation(
            f"the upload of the batch is to be sent to another server than {ours.netloc}; it was not sent, since that "
            "would send the credentials there",
            provider=context.provider,
        )
    return url


def build_upload(context: ServiceContext[GeminiSettings], submission: BatchSubmission) -> WireRequest:
    """Build the request that sends the file."""
    headers = {"x-goog-upload-command": "upload, finalize", "x-goog-upload-offset": "0"}
    return WireRequest(url=str(submission.previous), headers=headers, body=_file(submission))


def parse_upload(context: ServiceContext[GeminiSettings], wire_response: WireResponse) -> str:
    """Return the name of the file that was uploaded."""
    body = decode_object(wire_response.body, "the uploaded file", provider=context.provider)
    name = as_string(as_object(body.get("file")).get("name"))
    if name is None:
        raise ProtocolViolation("the uploaded file has no 'name'", provider=context.provider)
    return name


def build_get(context: ServiceContext[GeminiSettings], batch: Batch) -> WireRequest:
    """Build the request for the state of a batch. The answer has the results of a batch without files."""
    return WireRequest(method="GET", url=endpoint_url(_base(context), _path(batch)), headers=HEADERS)


def build_cancel(context: ServiceContext[GeminiSettings], batch: Batch) -> WireRequest:
    """Build the request that cancels a batch."""
    return WireRequest(url=endpoint_url(_base(context), f"{_path(batch)}:cancel"), headers=HEADERS, body=b"{}")


def build_list(context: ServiceContext[GeminiSettings], cursor: str | None) -> WireRequest:
    """Build the request for a page of batches."""
    query = {"pageSize": str(PAGE)} | ({"pageToken": cursor} if cursor is not None else {})
    return WireRequest(method="GET", url=endpoint_url(_base(context), "/batches", query_string(query)), headers=HEADERS)


def _batch(provider: str, data: dict[str, Any]) -> Batch:
    metadata = as_object(data.get("metadata"))
    state = as_string(metadata.get("state")) or ""
    stats = {key: _number(value) for key, value in as_object(metadata.get("batchStats")).items()}
    raw: dict[str, Any] = {
        key: {field: each for field, each in value.items() if field not in ("output", "inlinedResponses")}
        if isinstance(value, dict)
        else value
        for key, value in data.items()
    }
    if (file := _results_file(data)) is not None:
        raw["metadata"] = {**as_object(raw.get("metadata")), "output": {"responsesFile": file}}
    return Batch(
        id=batch_id(data, "name", provider=provider),
        status=batch_status(state.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_"), STATUSES),
        raw_status=state or None,
        counts=BatchCounts(
            total=stats.get("requestCount"),
            # Zero is left out.
            succeeded=stats.get("successfulRequestCount", 0) if stats else None,
            failed=stats.get("failedRequestCount", 0) if stats else None,
        ),
        created=epoch_seconds(metadata.get("createTime")),
        message=as_string(as_object(data.get("error")).get("message")) or None,
        raw=raw,
    )


def _number(value: object) -> int | None:
    """Return a count, which Google sends as a text if it may be large."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else as_count(value)


def _outputs(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [as_object(as_object(data.get("metadata")).get("output")), as_object(data.get("response"))]


def _results_file(data: Mapping[str, Any]) -> str | None:
    return next((file for output in _outputs(data) if (file := as_string(output.get("responsesFile")))), None)


parse_batch = batch_parser(_batch)
parse_list = list_parser(
    _batch, "operations", cursor=lambda body, batches: as_string(body.get("nextPageToken")) or None
)


def results(
    context: ServiceContext[GeminiSettings], batch: Batch
) -> Sequence[Operation[Batch, Iterable[BatchOutcome]]]:
    """Return the operation that reads the results: from the file, or from the answer about the batch's state."""
    file = _results_file(batch.raw)
    if file is None:
        ids = [request.id for request in batch.requests]
        return (Operation(build=build_get, parse=partial(parse_inlined, ids=ids)),)

    def build(context: ServiceContext[GeminiSettings], batch: Batch) -> WireRequest:
        return WireRequest(
            method="GET",
            url=endpoint_url(_beside(context, "download", f"/{path_segments(file)}:download"), "", "alt=media"),
            headers=HEADERS,
        )

    return (Operation(build=build, parse=parse_file, has_lines=True),)


def parse_inlined(
    context: ServiceContext[GeminiSettings], wire_response: WireResponse, *, ids: Sequence[str] = ()
) -> Iterable[BatchOutcome]:
    """Return the results in the answer about a batch's state. `ids` are those of the requests, in their order.

    They are used if a result does not repeat the key of its request.
    """
    data = decode_object(wire_response.body, "the batch", provider=context.provider)
    found: list[Any] = next(
        (items for output in _outputs(data) if (items := as_list(_inlined(output.get("inlinedResponses"))))), []
    )
    return [
        readable_outcome(partial(_outcome, context.provider, known_id=known_id), as_object(item))
        for item, known_id in zip_longest(found, ids[: len(found)])
    ]


def _inlined(value: object) -> object:
    return value.get("inlinedResponses") if isinstance(value, dict) else value


def parse_file(context: ServiceContext[GeminiSettings], wire_response: WireResponse) -> Iterable[BatchOutcome]:
    """Return the results in a file, each of which is read when the iteration reaches it."""
    read = partial(_outcome, context.provider, known_id=None)
    limit = context.settings.nesting_limit
    return ResultLines(wire_response.body, read, provider=context.provider, nesting_limit=limit)


def _outcome(provider: str, item: dict[str, Any], known_id: str | None) -> BatchOutcome:
    key = item.get("key", as_object(item.get("metadata")).get("key", known_id))
    request_id = result_id(key, provider=provider)
    if isinstance(item.get("response"), dict):
        return request_id, WireResponse(status=200, body=dumps(item["response"]))
    return request_id, _error(provider, as_object(item.get("error")))


def _error(provider: str, error: dict[str, Any]) -> TrunklineError:
    code = error.get("code")
    if code == _CANCELLED:
        return cancelled_error(provider, error)
    status = _HTTP_STATUS.get(code) if isinstance(code, int) else None
    return error_from_body({"error": error}, provider=provider, status=status)


BATCHES = BatchOperations(
    limits=LIMITS,
    submit=submit,
    get=Operation(build=build_get, parse=parse_batch),
    results=results,
    cancel=Operation(build=build_cancel, parse=lambda context, wire_response: None),
    list=Operation(build=build_list, parse=parse_list),
)
"""The operations on batches."""


def _base(context: ServiceContext[GeminiSettings]) -> str:
    return base_url(context.settings.api_url)[0]


def _beside(context: ServiceContext[GeminiSettings], service: str, path: str) -> str:
    """Return the URL for uploads or downloads: `{root}/upload/v1beta/files` for `{root}/v1beta`."""
    url = urlsplit(_base(context))
    root, _, version = url.path.rpartition("/")
    return endpoint_url(urlunsplit(url._replace(path=f"{root}/{service}/{version}")), path)


def _path(batch: Batch) -> str:
    name = batch.id if batch.id.startswith("batches/") else f"batches/{batch.id}"
    return f"/{path_segments(name, 'the id of the batch')}"
