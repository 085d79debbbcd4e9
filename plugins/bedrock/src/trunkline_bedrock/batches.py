"""Bedrock's batch inference jobs: pure functions that build the requests and parse the responses.

Requests and results are objects in S3. They are put and fetched with the same credentials as the other requests. The
requests have Converse's form, whatever API the service uses for chat.

Sources: botocore 1.43 (service model `bedrock`), and the pages batch-inference-data and batch-inference-results of
docs.aws.amazon.com/bedrock/latest/userguide (2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trunkline.authoring.batches import (
    BatchLimits,
    BatchOutcome,
    BatchSubmission,
    ResultLines,
    batch_id,
    batch_parser,
    batch_status,
    epoch_seconds,
    list_parser,
    result_id,
)
from trunkline.authoring.json import (
    as_count,
    as_object,
    as_string,
    decode_object,
    dumps,
    encode_request,
    loads,
)
from trunkline.authoring.provider import BatchOperations, Operation, ServiceContext, Translation
from trunkline.authoring.urls import path_segment, query_string
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.batches import Batch, BatchCounts, BatchStatus
from trunkline.errors import InvalidRequest, ProtocolViolation
from trunkline.request import ChatRequest
from trunkline.settings import setting_error

from trunkline_bedrock.endpoints import control_base, object_url
from trunkline_bedrock.errors import make_error
from trunkline_bedrock.parse import ConverseParser
from trunkline_bedrock.settings import BedrockSettings
from trunkline_bedrock.translate import ConverseTranslator
from trunkline_bedrock.urls import split_s3_uri

LIMITS = BatchLimits(
    # The numbers of requests and bytes are quotas of the account, which AWS checks. The model is a field of the job.
    ids=re.compile(r"[A-Za-z0-9_-]{1,64}"),  # the documentation says "alphanumeric", and "string" in a newer version
    id_rule="1 to 64 letters, digits, hyphens and underscores",
    one_model=True,
)

PAGE = 100
"""How many jobs a page has."""

STATUSES: dict[str, BatchStatus] = {
    "Submitted": "running",
    "Validating": "running",
    "Scheduled": "running",
    "InProgress": "running",
    "Completed": "completed",
    "PartiallyCompleted": "expired",  # "not all of your records could be processed in time"
    "Expired": "expired",
    "Failed": "failed",
    "Stopping": "cancelling",
    "Stopped": "cancelled",
}

_JOB = "/model-invocation-job"
_FILE = "requests.jsonl"


class BatchTranslator(ConverseTranslator):
    """Translates the requests of a batch."""

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """Return the wire request. Raises `InvalidRequest` for a request with tools, which fail in batches.

        Source: docs.aws.amazon.com/bedrock/latest/userguide/batch-inference.html (2026-11).
        """
        translation = super().translate(request, stream=stream)
        body = translation.wire_request.body
        if b'"toolConfig"' in body and "toolConfig" in loads(body):
            raise InvalidRequest("Bedrock's batches accept no tools")
        return translation


def submit(
    context: ServiceContext[BedrockSettings], submission: BatchSubmission
) -> Sequence[Operation[BatchSubmission, Any]]:
    """Return the operations that store the requests and create the job.

    Raises `ConfigurationError` if a setting that a batch needs is not set.
    """
    if context.settings.batch_s3_uri is None:
        problem = "is not set; Bedrock reads the requests of a batch in S3, and writes the results there"
        raise setting_error("batch_s3_uri", problem, service=context.name)
    if context.settings.batch_role_arn is None:
        problem = "is not set; Bedrock assumes this IAM role to read and write the objects of a batch in S3"
        raise setting_error("batch_role_arn", problem, service=context.name)
    return (
        Operation(build=build_put, parse=lambda context, wire_response: None),
        Operation(build=build_create, parse=parse_created),
    )


def _place(context: ServiceContext[BedrockSettings], submission: BatchSubmission) -> str:
    return f"{(context.settings.batch_s3_uri or '').rstrip('/')}/{submission.token}"


def build_put(context: ServiceContext[BedrockSettings], submission: BatchSubmission) -> WireRequest:
    """Build the request that stores the requests in S3."""
    body = b"".join(
        b'{"recordId":' + dumps(item.id) + b',"modelInput":' + item.wire_request.body + b"}\n"
        for item in submission.items
    )
    url = object_url(context.settings, f"{_place(context, submission)}/{_FILE}")
    return WireRequest(method="PUT", url=url, headers={"content-type": "application/jsonl"}, body=body)


def build_create(context: ServiceContext[BedrockSettings], submission: BatchSubmission) -> WireRequest:
    """Build the request that creates the job. AWS recognises a repeated one by its token."""
    place = _place(context, submission)
    body = {
        "jobName": submission.mark,
        "clientRequestToken": submission.token,
        "roleArn": context.settings.batch_role_arn,
        "modelId": submission.items[0].model,
        "modelInvocationType": "Converse",
        "inputDataConfig": {"s3InputDataConfig": {"s3InputFormat": "JSONL", "s3Uri": f"{place}/{_FILE}"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"{place}/results/"}},
    }
    return _request(context, "POST", _JOB, body=encode_request(_merged(body, submission.options)))


def _merged(fields: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with the options in place of those of the same name. Objects are merged.

    So an option such as the key for encryption leaves the place of the results beside it as it is.
    """
    both = {
        name: _merged(as_object(fields[name]), value) if isinstance(value, dict) and name in fields else value
        for name, value in options.items()
    }
    return {**fields, **both}


def parse_created(context: ServiceContext[BedrockSettings], wire_response: WireResponse) -> Batch:
    """Return the job, of which only the ARN is known yet."""
    job = decode_object(wire_response.body, "the batch", provider=context.provider)
    return Batch(id=batch_id(job, "jobArn", provider=context.provider), status="running")


def build_get(context: ServiceContext[BedrockSettings], batch: Batch) -> WireRequest:
    """Build the request for the state of a job."""
    return _request(context, "GET", _path(batch))


def build_stop(context: ServiceContext[BedrockSettings], batch: Batch) -> WireRequest:
    """Build the request that stops a job. Its answer is empty."""
    return _request(context, "POST", f"{_path(batch)}/stop")


def build_list(context: ServiceContext[BedrockSettings], cursor: str | None) -> WireRequest:
    """Build the request for a page of jobs."""
    query = {"maxResults": str(PAGE), "sortBy": "CreationTime", "sortOrder": "Descending"}
    if cursor is not None:
        query["nextToken"] = cursor
    return _request(context, "GET", f"{_JOB}s?{query_string(query)}")


def _batch(provider: str, data: dict[str, Any]) -> Batch:
    status = as_string(data.get("status")) or ""
    return Batch(
        id=batch_id(data, "jobArn", provider=provider),
        status=batch_status(status, STATUSES),
        raw_status=status or None,
        counts=BatchCounts(
            total=as_count(data.get("totalRecordCount")),
            succeeded=as_count(data.get("successRecordCount")),
            failed=as_count(data.get("errorRecordCount")),
        ),
        created=epoch_seconds(data.get("submitTime")),
        expires=epoch_seconds(data.get("jobExpirationTime")),
        message=as_string(data.get("message")) or None,
        raw=data,
    )


parse_batch = batch_parser(_batch)
parse_list = list_parser(
    _batch, "invocationJobSummaries", cursor=lambda body, batches: as_string(body.get("nextToken")) or None
)


def results(
    context: ServiceContext[BedrockSettings], batch: Batch
) -> Sequence[Operation[Batch, Iterable[BatchOutcome]]]:
    """Return the operation that fetches the results, or none if the job ended before it wrote any."""
    if batch.raw.get("modelInvocationType", "Converse") != "Converse":
        raise InvalidRequest(
            f"the requests of the batch {batch.id!r} are for InvokeModel, and only the responses of Converse are read"
        )
    written = as_object(as_object(batch.raw.get("outputDataConfig")).get("s3OutputDataConfig")).get("s3Uri")
    read = as_object(as_object(batch.raw.get("inputDataConfig")).get("s3InputDataConfig")).get("s3Uri")
    if not isinstance(written, str) or not isinstance(read, str):
        raise ProtocolViolation("the batch does not say where its results are", provider=context.provider)
    if batch.status != "completed" and not as_count(batch.raw.get("processedRecordCount")):
        return ()
    try:
        name = split_s3_uri(read)[1].rpartition("/")[2]
        split_s3_uri(written)
    except ValueError:
        raise ProtocolViolation(
            f"the requests or results of the batch are at a place that is no S3 URI of a batch: {read!r}, {written!r}",
            provider=context.provider,
        ) from None
    if not name:
        raise InvalidRequest(
            f"the requests of the batch {batch.id!r} are a folder, {read}, and only results of a single file are read"
        )
    uri = f"{written.rstrip('/')}/{batch.id.rpartition('/')[2]}/{name}.out"

    def build(context: ServiceContext[BedrockSettings], batch: Batch) -> WireRequest:
        return WireRequest(method="GET", url=object_url(context.settings, uri))

    return (Operation(build=build, parse=parse_results, has_lines=True),)


def parse_results(context: ServiceContext[BedrockSettings], wire_response: WireResponse) -> Iterable[BatchOutcome]:
    """Return the results, each of which is read when the iteration reaches it."""
    provider = context.provider

    def read(line: dict[str, Any]) -> BatchOutcome:
        request_id = result_id(line.get("recordId"), provider=provider)
        if isinstance(line.get("modelOutput"), dict):
            return request_id, WireResponse(status=200, body=dumps(line["modelOutput"]))
        error = as_object(line.get("error"))
        code, message = error.get("errorCode"), as_string(error.get("errorMessage")) or ""
        status = code if isinstance(code, int) else None
        name = code if isinstance(code, str) else None
        return request_id, make_error(name=name, message=message, status=status, provider=provider, body=error)

    limit = context.settings.nesting_limit
    return ResultLines(wire_response.body, read, provider=context.provider, nesting_limit=limit)


def _path(batch: Batch) -> str:
    return f"{_JOB}/{path_segment(batch.id, 'the id of the batch')}"


def _request(context: ServiceContext[BedrockSettings], method: str, path: str, *, body: bytes = b"") -> WireRequest:
    headers = {"accept": "application/json", **({"content-type": "application/json"} if body else {})}
    return WireRequest(method=method, url=control_base(context.settings) + path, headers=headers, body=body)


BATCHES = BatchOperations(
    limits=LIMITS,
    submit=submit,
    get=Operation(build=build_get, parse=parse_batch),
    results=results,
    cancel=Operation(build=build_stop, parse=lambda context, wire_response: None),
    list=Operation(build=build_list, parse=parse_list),
    translator=BatchTranslator,
    response_parser=ConverseParser,
)
"""The operations on batches."""
