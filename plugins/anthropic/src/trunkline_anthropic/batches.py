"""Message Batches: pure functions that build the requests and parse the responses.

Sources: the anthropic SDK 2.14 (resources/messages/batches.py, types/messages), recorded traffic, and
platform.claude.com/docs/en/build-with-claude/batch-processing (2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from trunkline.authoring.batches import (
    BatchLimits,
    BatchOutcome,
    BatchSubmission,
    ResultLines,
    batch_id,
    batch_parser,
    cancelled_error,
    epoch_seconds,
    expired_error,
    list_parser,
    result_id,
)
from trunkline.authoring.json import as_count, as_object, as_string, dumps, encode_request
from trunkline.authoring.provider import BatchOperations, Operation, ServiceContext
from trunkline.authoring.urls import path_segment, query_string
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.batches import Batch, BatchCounts, BatchStatus
from trunkline.errors import InvalidRequest, ProtocolViolation
from trunkline.settings import Settings

from trunkline_anthropic.endpoint import EndpointFor, MessagesEndpoint, S
from trunkline_anthropic.errors import error_from_body

LIMITS = BatchLimits(
    # 100,000 requests or 256 MB, whichever comes first: batch-processing, "Batch limitations".
    requests=100_000,
    bytes=256 * 1024 * 1024,
    ids=re.compile(r"[a-zA-Z0-9_-]{1,64}"),  # the pattern of `custom_id` in the API reference
    id_rule="1 to 64 letters, digits, hyphens and underscores",
)

PAGE = 100
"""How many batches a page has. The API allows up to 1,000."""

_BATCHES = "/v1/messages/batches"


def batch_operations(endpoint: EndpointFor[S]) -> BatchOperations:
    """Return the operations on batches of a place. Anthropic keeps results for 29 days after the batch was created."""

    def submit(context: ServiceContext[S], submission: BatchSubmission) -> WireRequest:
        return build_submit(endpoint(context.settings), submission)

    def get(context: ServiceContext[S], batch: Batch) -> WireRequest:
        return _request(endpoint(context.settings), "GET", _path(batch))

    def cancel(context: ServiceContext[S], batch: Batch) -> WireRequest:
        return _request(endpoint(context.settings), "POST", f"{_path(batch)}/cancel")

    def results(context: ServiceContext[S], batch: Batch) -> WireRequest:
        return _request(endpoint(context.settings), "GET", f"{_path(batch)}/results")

    def listed(context: ServiceContext[S], cursor: str | None) -> WireRequest:
        query = query_string({"limit": str(PAGE)} | ({"after_id": cursor} if cursor is not None else {}))
        return _request(endpoint(context.settings), "GET", _BATCHES, query)

    submission = Operation(build=submit, parse=parse_batch, repeatable=False)
    all_results = Operation(build=results, parse=parse_results, has_lines=True)
    return BatchOperations(
        limits=LIMITS,
        submit=lambda context, value: (submission,),
        get=Operation(build=get, parse=parse_batch),
        results=lambda context, batch: (all_results,),
        cancel=Operation(build=cancel, parse=parse_batch),
        list=Operation(build=listed, parse=parse_list),
    )


def build_submit(endpoint: MessagesEndpoint, submission: BatchSubmission) -> WireRequest:
    """Build the request that creates a batch. It has the version and the beta features of its requests.

    Raises `InvalidRequest` if they need different versions of the API.
    """
    items = submission.items
    versions = {item.wire_request.headers.get("anthropic-version"): item.id for item in reversed(items)}
    if len(versions) > 1:
        first, second, *_ = versions.values()
        raise InvalidRequest(
            f"requests {first!r} and {second!r} need different versions of the API, which a batch cannot have"
        )
    options = encode_request(submission.options)[1:-1]
    requests = b",".join(
        b'{"custom_id":' + dumps(item.id) + b',"params":' + item.wire_request.body + b"}" for item in items
    )
    body = b'{"requests":[' + requests + b"]" + (b"," + options if options else b"") + b"}"
    sent = [item.wire_request.headers.get("anthropic-beta", "").split(",") for item in items]
    betas = tuple(dict.fromkeys(beta for names in sent for beta in names if beta))
    headers = endpoint.request_headers(model=items[0].model, betas=betas)
    return WireRequest(url=endpoint.address(_BATCHES), headers=headers, body=body)


def _request(endpoint: MessagesEndpoint, method: str, path: str, query: str = "") -> WireRequest:
    return WireRequest(method=method, url=endpoint.address(path, query=query), headers=endpoint.request_headers())


def _path(batch: Batch) -> str:
    return f"{_BATCHES}/{path_segment(batch.id, 'the id of the batch')}"


def _batch(provider: str, data: dict[str, Any]) -> Batch:
    status = as_string(data.get("processing_status")) or ""
    counts = {name: as_count(value) or 0 for name, value in as_object(data.get("request_counts")).items()}
    return Batch(
        id=batch_id(data, "id", provider=provider),
        status=_status(status, data, counts),
        raw_status=status or None,
        counts=BatchCounts(
            total=sum(counts.values()),
            succeeded=counts.get("succeeded", 0),
            failed=sum(counts.get(name, 0) for name in ("errored", "canceled", "expired")),
        )
        if counts
        else BatchCounts(),
        created=epoch_seconds(data.get("created_at")),
        expires=epoch_seconds(data.get("expires_at")),
        raw=data,
    )


def _status(status: str, data: dict[str, Any], counts: Mapping[str, int]) -> BatchStatus:
    # `ended` is the only state of a batch that has ended; the other fields tell how.
    if status == "canceling":
        return "cancelling"
    if status != "ended":
        return "running"
    if data.get("cancel_initiated_at") is not None:
        return "cancelled"
    return "expired" if counts.get("expired", 0) > 0 else "completed"


def _next_page(body: dict[str, Any], batches: tuple[Batch, ...]) -> str | None:
    return as_string(body.get("last_id")) if body.get("has_more") is True else None


parse_batch = batch_parser(_batch)
parse_list = list_parser(_batch, "data", cursor=_next_page, required=True)


def parse_results(context: ServiceContext[Settings], wire_response: WireResponse) -> Iterable[BatchOutcome]:
    """Return the results, each of which is read when the iteration reaches it."""
    provider = context.provider

    def read(line: dict[str, Any]) -> BatchOutcome:
        request_id = result_id(line.get("custom_id"), provider=provider)
        result = as_object(line.get("result"))
        kind = result.get("type")
        if kind == "succeeded":
            return request_id, WireResponse(status=200, body=dumps(result.get("message")))
        if kind == "errored":
            # An object like the body of an error response: {"type": "error", "error": {…}, "request_id"}.
            return request_id, error_from_body(result.get("error"), provider=provider)
        if kind == "canceled":
            return request_id, cancelled_error(provider, result)
        if kind == "expired":
            return request_id, expired_error(provider, result)
        problem = f"the result of this request has the unknown type {kind!r}"
        return request_id, ProtocolViolation(problem, provider=provider, body=result)

    limit = context.settings.nesting_limit
    return ResultLines(wire_response.body, read, provider=context.provider, nesting_limit=limit)
