"""OpenAI's Batch API, for Chat Completions and Responses: pure functions that build the requests and parse the answers.

Sources: the openai SDK 3.54 (resources/batches.py, resources/files.py, types/batch.py), recorded traffic, and
developers.openai.com/api/docs/guides/batch (2026-11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from trunkline.authoring.batches import (
    BatchItem,
    BatchLimits,
    BatchOutcome,
    BatchSubmission,
    ResultLines,
    batch_id,
    batch_parser,
    batch_status,
    cancelled_error,
    epoch_seconds,
    expired_error,
    list_parser,
    result_id,
)
from trunkline.authoring.http_errors import ErrorReader, error_from_json
from trunkline.authoring.json import (
    as_count,
    as_object,
    as_objects,
    as_string,
    decode_object,
    dumps,
    encode_request,
)
from trunkline.authoring.multipart import UploadedFile, encode_form
from trunkline.authoring.provider import BatchOperations, Operation, ServiceContext
from trunkline.authoring.urls import endpoint_url, path_segment, query_string
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.batches import Batch, BatchCounts, BatchStatus
from trunkline.errors import InvalidRequest, ProtocolViolation

from trunkline_openai.errors import error_from_body
from trunkline_openai.translate import request_headers
from trunkline_openai.urls import HeadersFor, S, UrlFor, default_url, no_headers

LIMITS = BatchLimits(
    # `BatchCreateParams.input_file_id` in the SDK: 50,000 requests, 200 MB. The guide: one model in a file.
    requests=50_000,
    bytes=200 * 1000 * 1000,
    one_model=True,
)

PAGE = 100
"""How many batches a page has: the maximum that the API allows."""

STATUSES: dict[str, BatchStatus] = {
    "validating": "running",
    "in_progress": "running",
    "finalizing": "running",
    "completed": "completed",
    "failed": "failed",
    "expired": "expired",
    "cancelling": "cancelling",
    "cancelled": "cancelled",
}


def batch_operations(
    endpoint: str,
    url: UrlFor[S] = default_url,
    headers: HeadersFor[S] = no_headers,
    *,
    limits: BatchLimits = LIMITS,
) -> BatchOperations:
    """Return the operations on batches of a server with OpenAI's Batch API.

    `endpoint` is the path of the requests in a batch, as the API wants it: `/v1/chat/completions` or `/v1/responses`.
    """

    def upload(context: ServiceContext[S], submission: BatchSubmission) -> WireRequest:
        return upload_request(
            url(context.settings, "/files", None),
            batch_file(submission, partial(_line, endpoint)),
            request_headers(context.settings, further=headers(context.settings)),
        )

    def create(context: ServiceContext[S], submission: BatchSubmission) -> WireRequest:
        fields = {"completion_window": "24h", "endpoint": endpoint, "input_file_id": submission.previous}
        return send(context, "POST", "/batches", body=encode_request({**fields, **submission.with_mark()}))

    def get(context: ServiceContext[S], batch: Batch) -> WireRequest:
        return send(context, "GET", _path(batch))

    def cancel(context: ServiceContext[S], batch: Batch) -> WireRequest:
        return send(context, "POST", f"{_path(batch)}/cancel")

    def listed(context: ServiceContext[S], cursor: str | None) -> WireRequest:
        query = {"limit": str(PAGE)} | ({"after": cursor} if cursor is not None else {})
        return send(context, "GET", "/batches", query_string(query))

    def content(file: str) -> Operation[Batch, Iterable[BatchOutcome]]:
        path = f"/files/{path_segment(file, 'the id of the file')}/content"
        return Operation(build=lambda context, batch: send(context, "GET", path), parse=parse_results, has_lines=True)

    def results(context: ServiceContext[S], batch: Batch) -> list[Operation[Batch, Iterable[BatchOutcome]]]:
        check_endpoint(batch, endpoint)
        files = (as_string(batch.raw.get(name)) for name in ("output_file_id", "error_file_id"))
        return [content(file) for file in files if file is not None]

    def send(context: ServiceContext[S], method: str, path: str, query: str = "", *, body: bytes = b"") -> WireRequest:
        settings = context.settings
        address = endpoint_url(url(settings, path, None), "", query)
        sent = request_headers(settings, further=headers(settings))
        return WireRequest(method=method, url=address, headers=sent, body=body)

    submit = (
        Operation(build=upload, parse=parse_file),
        Operation(build=create, parse=parse_batch, repeatable=False),
    )
    return BatchOperations(
        limits=limits,
        submit=lambda context, submission: submit,
        get=Operation(build=get, parse=parse_batch),
        results=results,
        cancel=Operation(build=cancel, parse=parse_batch),
        list=Operation(build=listed, parse=parse_list),
    )


def check_endpoint(batch: Batch, endpoint: str) -> None:
    """Raise `InvalidRequest` if the requests of a batch were for another endpoint, so that it cannot be read."""
    submitted = as_string(batch.raw.get("endpoint")) or endpoint
    if submitted.removeprefix("/v1") != endpoint.removeprefix("/v1"):
        raise InvalidRequest(
            f"the requests of the batch {batch.id!r} are for {submitted}, and this service reads the responses of "
            f"{endpoint}; use a service for the other API (setting api), if there is one"
        )


def _line(endpoint: str, item: BatchItem) -> bytes:
    head = b'{"custom_id":' + dumps(item.id) + b',"method":"POST","url":' + dumps(endpoint)
    return head + b',"body":' + item.wire_request.body + b"}\n"


def _path(batch: Batch) -> str:
    return f"/batches/{path_segment(batch.id, 'the id of the batch')}"


def batch_file(submission: BatchSubmission, line: Callable[[BatchItem], bytes]) -> bytes:
    """Return the file with one line for each request."""
    return b"".join(map(line, submission.items))


def upload_request(url: str, content: bytes, headers: Any) -> WireRequest:
    """Return the request that uploads a file with the purpose `batch`."""
    file = UploadedFile("batch.jsonl", content, "application/jsonl")
    content_type, body = encode_form([("purpose", "batch"), ("file", file)])
    return WireRequest(url=url, headers={**headers, "content-type": content_type}, body=body)


def parse_file(context: ServiceContext[Any], wire_response: WireResponse) -> str:
    """Return the id of a file that was uploaded."""
    file = decode_object(wire_response.body, "the uploaded file", provider=context.provider).get("id")
    if not isinstance(file, str):
        raise ProtocolViolation("the uploaded file has no 'id'", provider=context.provider)
    return file


def _batch(provider: str, data: dict[str, Any]) -> Batch:
    status = as_string(data.get("status")) or ""
    counts = as_object(data.get("request_counts"))
    problems = [as_string(error.get("message")) for error in as_objects(as_object(data.get("errors")).get("data"))]
    return Batch(
        id=batch_id(data, "id", provider=provider),
        status=batch_status(status, STATUSES),
        raw_status=status or None,
        counts=BatchCounts(
            # 0 until the file is validated
            total=as_count(counts.get("total")) or None,
            succeeded=as_count(counts.get("completed")),
            failed=as_count(counts.get("failed")),
        ),
        created=epoch_seconds(data.get("created_at")),
        expires=epoch_seconds(data.get("expires_at")),
        message="; ".join(problem for problem in problems if problem) or None,
        raw=data,
    )


def _next_page(body: dict[str, Any], batches: tuple[Batch, ...]) -> str | None:
    last = as_string(body.get("last_id")) or (batches[-1].id if batches else None)
    return last if body.get("has_more") is True else None


parse_batch = batch_parser(_batch)
parse_list = list_parser(_batch, "data", cursor=_next_page, required=True)


def parse_results(
    context: ServiceContext[Any], wire_response: WireResponse, *, read_error: ErrorReader = error_from_body
) -> Iterable[BatchOutcome]:
    """Return the results in a file, each of which is read when the iteration reaches it."""
    read = partial(_outcome, context.provider, read_error)
    limit = context.settings.nesting_limit
    return ResultLines(wire_response.body, read, provider=context.provider, nesting_limit=limit)


_NOT_RUN = {"batch_expired": expired_error, "batch_cancelled": cancelled_error}


def _outcome(provider: str, read_error: ErrorReader, line: dict[str, Any]) -> BatchOutcome:
    request_id = result_id(line.get("custom_id"), provider=provider)
    response, error = line.get("response"), line.get("error")
    if isinstance(response, dict):
        status = as_count(response.get("status_code")) or 200
        sent = as_string(response.get("request_id"))
        headers = {"x-request-id": sent} if sent else {}
        body = response.get("body")
        content = body.encode() if isinstance(body, str) else dumps(body)  # a text if it is no JSON
        return request_id, WireResponse(status=status, headers=headers, body=content)
    not_run = _NOT_RUN.get(as_string(as_object(error).get("code")) or "")
    if not_run is not None:
        return request_id, not_run(provider, as_object(error))
    return request_id, error_from_json({"error": error}, provider=provider, read=read_error)
