"""Mistral's batch jobs: pure functions that build the requests and parse the responses.

Sources: the mistralai SDK 3.7 (jobs.py, files.py, models/batchjob.py), recorded traffic, and
docs.mistral.ai/studio-api/batch-processing (2026-11).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from trunkline.authoring.batches import (
    BatchItem,
    BatchLimits,
    BatchOutcome,
    BatchSubmission,
    batch_id,
    batch_parser,
    batch_status,
    epoch_seconds,
    list_parser,
)
from trunkline.authoring.json import (
    as_count,
    as_objects,
    as_string,
    dumps,
    encode_request,
)
from trunkline.authoring.provider import BatchOperations, Operation, ServiceContext
from trunkline.authoring.urls import endpoint_url, path_segment, query_string
from trunkline.authoring.wire import WireRequest
from trunkline.batches import Batch, BatchCounts, BatchStatus
from trunkline_openai.batches import batch_file, check_endpoint, parse_file, parse_results, upload_request
from trunkline_openai.translate import request_headers
from trunkline_openai.urls import default_url

from trunkline_mistral.errors import error_from_body
from trunkline_mistral.settings import MistralSettings

LIMITS = BatchLimits(
    # "Up to 1M requests" in a file (docs, capabilities/batch), and 512 MB (docs, known-limitations). One model: it is a
    # field of the job.
    requests=1_000_000,
    bytes=512 * 1000 * 1000,
    one_model=True,
)

PAGE = 100
"""How many jobs a page has: the SDK's default."""

STATUSES: dict[str, BatchStatus] = {
    "QUEUED": "running",
    "RUNNING": "running",
    "SUCCESS": "completed",
    "FAILED": "failed",
    "TIMEOUT_EXCEEDED": "expired",
    "CANCELLATION_REQUESTED": "cancelling",
    "CANCELLED": "cancelled",
}

_JOBS = "/batch/jobs"
_ENDPOINT = "/v1/chat/completions"


def build_upload(context: ServiceContext[MistralSettings], submission: BatchSubmission) -> WireRequest:
    """Build the request that uploads the file with the requests."""
    url = default_url(context.settings, "/files", None)
    return upload_request(url, batch_file(submission, _line), request_headers(context.settings))


def _line(item: BatchItem) -> bytes:
    return b'{"custom_id":' + dumps(item.id) + b',"body":' + item.wire_request.body + b"}\n"


def build_create(context: ServiceContext[MistralSettings], submission: BatchSubmission) -> WireRequest:
    """Build the request that creates the job for the uploaded file."""
    body = {
        "endpoint": _ENDPOINT,
        "input_files": [submission.previous],
        "model": submission.items[0].model,
        **submission.with_mark(),
    }
    return _request(context, "POST", _JOBS, body=encode_request(body))


def build_get(context: ServiceContext[MistralSettings], batch: Batch) -> WireRequest:
    """Build the request for the state of a job."""
    return _request(context, "GET", _path(batch))


def build_cancel(context: ServiceContext[MistralSettings], batch: Batch) -> WireRequest:
    """Build the request that cancels a job."""
    return _request(context, "POST", f"{_path(batch)}/cancel")


def build_list(context: ServiceContext[MistralSettings], cursor: str | None) -> WireRequest:
    """Build the request for a page of jobs. `cursor` is the number of the page."""
    query = {"page": cursor or "0", "page_size": str(PAGE), "order_by": "-created"}
    return _request(context, "GET", _JOBS, query_string(query))


def _batch(provider: str, data: dict[str, Any]) -> Batch:
    status = as_string(data.get("status")) or ""
    problems = [as_string(error.get("message")) for error in as_objects(data.get("errors"))]
    return Batch(
        id=batch_id(data, "id", provider=provider),
        status=batch_status(status, STATUSES),
        raw_status=status or None,
        counts=BatchCounts(
            total=as_count(data.get("total_requests")),
            succeeded=as_count(data.get("succeeded_requests")),
            failed=as_count(data.get("failed_requests")),
        ),
        created=epoch_seconds(data.get("created_at")),
        message="; ".join(problem for problem in problems if problem) or None,
        raw={name: value for name, value in data.items() if name != "outputs"},
    )


parse_batch = batch_parser(_batch)
# There is no further page: the list does not say which page it is.
parse_list = list_parser(_batch, "data", cursor=lambda body, batches: None)


def _results(batch: Batch) -> list[Operation[Batch, Iterable[BatchOutcome]]]:
    check_endpoint(batch, _ENDPOINT)
    files = (as_string(batch.raw.get(name)) for name in ("output_file", "error_file"))
    return [_content(file) for file in files if file is not None]


def _content(file: str) -> Operation[Batch, Iterable[BatchOutcome]]:
    path = f"/files/{path_segment(file, 'the id of the file')}/content"

    def build(context: ServiceContext[MistralSettings], batch: Batch) -> WireRequest:
        return _request(context, "GET", path)

    return Operation(build=build, parse=partial(parse_results, read_error=error_from_body), has_lines=True)


def _path(batch: Batch) -> str:
    return f"{_JOBS}/{path_segment(batch.id, 'the id of the batch')}"


def _request(
    context: ServiceContext[MistralSettings], method: str, path: str, query: str = "", *, body: bytes = b""
) -> WireRequest:
    url = endpoint_url(default_url(context.settings, path, None), "", query)
    return WireRequest(method=method, url=url, headers=request_headers(context.settings), body=body)


_SUBMIT = (
    Operation(build=build_upload, parse=parse_file),
    Operation(build=build_create, parse=parse_batch, repeatable=False),
)

BATCHES = BatchOperations(
    limits=LIMITS,
    submit=lambda context, submission: _SUBMIT,
    get=Operation(build=build_get, parse=parse_batch),
    results=lambda context, batch: _results(batch),
    cancel=Operation(build=build_cancel, parse=parse_batch),
    list=Operation(build=build_list, parse=parse_list),
)
"""The operations on batches."""
