"""The calls about batches: submit one, ask for its state, cancel it, list batches, and read results."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import anyio.lowlevel
import attrs

from trunkline._calls.observed import ObservedCall
from trunkline._calls.pipeline import Pipeline, parse_result
from trunkline.authoring.batches import BatchItem, BatchOutcome, BatchRequests, BatchSubmission, missing_error
from trunkline.authoring.provider import BatchOperations, Operation
from trunkline.authoring.wire import WireResponse
from trunkline.batches import Batch, BatchedRequest, BatchResults
from trunkline.errors import (
    BadRequest,
    CallError,
    ConfigurationError,
    InvalidRequest,
    RemoteError,
    ServiceClosed,
    TrunklineError,
    UnsupportedOperation,
)
from trunkline.response import ChatResponse

V = TypeVar("V")
R = TypeVar("R")

_ENVELOPE = 200
"""About how many bytes of a batch each request takes besides its body, such as its id."""

_MOST_EMPTY_PAGES = 100
"""After how many empty pages in a row a list is taken to have ended, even if it says that there are more."""

_TRANSLATED_AT_ONCE = 50
"""How many requests are translated before other tasks get a turn."""


def name_request(error: TrunklineError, request_id: str) -> None:
    """Add to the text of an error which request of a batch it is about."""
    prefix = f"request {request_id!r} of the batch: "
    if isinstance(error, RemoteError):
        error.message = prefix + error.message
    error.args = (prefix + str(error.args[0]) if error.args else prefix, *error.args[1:])


async def submit_batch(pipeline: Pipeline, value: BatchRequests, call: ObservedCall) -> Batch:
    """Translate the requests and submit them. Nothing is sent if one of them cannot be, unless `filling` is set."""
    batches, pipeline = _batches(pipeline, "submit_batch")
    filling, limits = value.filling, batches.limits
    if filling is None:
        pipeline.run_step("operations", limits.check_ids, value.requests)
    items: list[BatchItem] = []
    known: list[BatchedRequest] = []
    refused: dict[str, TrunklineError] = {}
    size = 0
    for number, (request_id, request) in enumerate(value.requests.items(), 1):
        if filling is not None and limits.requests is not None and len(items) >= limits.requests:
            break
        if number % _TRANSLATED_AT_ONCE == 0:
            await anyio.lowlevel.checkpoint()
        try:
            translation = await pipeline.translate(request, call.deadline, stream=False)
            pipeline.refuse_if_strict(translation)
        except TrunklineError as error:
            if filling is not None and _is_own(error):
                refused[request_id] = pipeline.finalize_error(error)
                continue
            name_request(error, request_id)
            raise
        item = BatchItem(id=request_id, model=pipeline.model(request.model), wire_request=translation.wire_request)
        if filling is not None:
            if limits.one_model and items and item.model != items[0].model:
                continue
            try:
                pipeline.run_step("operations", limits.check, [item])
            except InvalidRequest as error:  # it does not fit alone
                refused[request_id] = pipeline.finalize_error(error)
                continue
            size += len(item.wire_request.body) + _ENVELOPE
            if limits.bytes is not None and size > limits.bytes:
                break
        items.append(item)
        known.append(BatchedRequest(id=request_id, warnings=translation.warnings, family=translation.family))
    if filling is not None:
        ids = [item.id for item in items]
        if ids:
            pipeline.run_step("operations", limits.check_ids, ids)
        filling.accept(ids, refused)
        if not ids:
            return _named(pipeline, Batch(id="", status="completed"), ())
    pipeline.run_step("operations", limits.check, items)
    options = value.options.get(pipeline.context.provider) or {}
    token = str(uuid.uuid4()) if filling is None else filling.token
    submission = BatchSubmission(items=tuple(items), options=options, token=token)
    operations = list(pipeline.run_step("operations", batches.submit, pipeline.context, submission))
    if filling is not None and operations:
        # A retry may be refused although the request before it was accepted. The caller looks for the batch instead.
        operations[-1] = attrs.evolve(operations[-1], repeatable=False)
    for operation in operations:
        result = await _send(pipeline, operation, submission, call)
        submission = attrs.evolve(submission, previous=result)
    return _named(pipeline, cast(Batch, submission.previous), tuple(known))


def _is_own(error: TrunklineError) -> bool:
    """Return whether an error of the translation is about the request, rather than about the service or the time."""
    if isinstance(error, RemoteError):  # such as that of counting the tokens
        return isinstance(error, BadRequest)
    return not isinstance(error, (ConfigurationError, ServiceClosed))


async def get_batch(pipeline: Pipeline, batch: Batch, call: ObservedCall) -> Batch:
    """Return the present state of a batch."""
    batches, pipeline = _batches(pipeline, "get_batch")
    _check_provider(pipeline, batch)
    return _named(pipeline, await _send(pipeline, batches.get, batch, call), batch.requests)


async def cancel_batch(pipeline: Pipeline, batch: Batch, call: ObservedCall) -> Batch:
    """Ask the provider to cancel a batch, and return its state."""
    batches, pipeline = _batches(pipeline, "cancel_batch")
    _check_provider(pipeline, batch)
    cancelled = await _send(pipeline, batches.cancel, batch, call)
    if cancelled is None:
        cancelled = await _send(pipeline, batches.get, batch, call)
    return _named(pipeline, cancelled, batch.requests)


async def list_batches(pipeline: Pipeline, limit: int, call: ObservedCall) -> tuple[Batch, ...]:
    """Return the newest batches, at most `limit`."""
    batches, pipeline = _batches(pipeline, "list_batches")
    if batches.list is None:
        raise UnsupportedOperation(f"the provider {pipeline.context.provider!r} has no list of batches")
    found: list[Batch] = []
    cursor: str | None = None
    cursors: set[str] = set()
    empty = 0
    while True:
        page, cursor = await _send(pipeline, batches.list, cursor, call)
        found.extend(page)
        empty = 0 if page else empty + 1
        if cursor is None or cursor in cursors or empty > _MOST_EMPTY_PAGES or len(found) >= limit:
            return tuple(_named(pipeline, batch, ()) for batch in found[:limit])
        cursors.add(cursor)


async def batch_results(pipeline: Pipeline, batch: Batch, call: ObservedCall) -> BatchResults:
    """Fetch the results of a batch. Raises `CallError` if it has not ended."""
    batches, pipeline = _batches(pipeline, "batch_results")
    if not batch.ended or not batch.raw:
        batch = await get_batch(pipeline, batch, call)
    if not batch.ended:
        raise CallError(
            f"the batch {batch.id!r} has no results yet, since it has not ended (it is {batch.status}); "
            "call get_batch until `ended` is true",
            service=pipeline.context.name,
        )
    operations = pipeline.run_step("operations", batches.results, pipeline.context, batch)
    files = [await _send(pipeline, operation, batch, call) for operation in operations]
    return BatchResults(partial(_read, pipeline, batch, files), batch)


def _read(
    pipeline: Pipeline, batch: Batch, files: Sequence[Iterable[BatchOutcome]]
) -> Iterator[tuple[str, ChatResponse | TrunklineError]]:
    known = {request.id: request for request in batch.requests}
    missing = dict.fromkeys(known)
    unreadable: list[TrunklineError] = []
    for file in files:
        outcomes = iter(file)
        while (outcome := pipeline.run_step("operations", next, outcomes, None)) is not None:
            request_id, result = outcome
            if request_id is None:
                unreadable.append(cast(TrunklineError, result))
                continue
            missing.pop(request_id, None)
            request = known.get(request_id) or BatchedRequest(id=request_id)
            yield request_id, _result(pipeline, request, result)
    # If as many results are unreadable as requests have none, they belong together.
    belong = len(unreadable) == len(missing)
    errors = unreadable if belong else [missing_error(batch, pipeline.context.provider) for _ in missing]
    for request_id, error in zip(missing, errors, strict=True):
        yield request_id, pipeline.finalize_error(error)
    if unreadable and not belong:
        raise pipeline.finalize_error(unreadable[0])


def _result(
    pipeline: Pipeline, request: BatchedRequest, result: WireResponse | TrunklineError
) -> ChatResponse | TrunklineError:
    try:
        if isinstance(result, TrunklineError):
            return pipeline.finalize_error(result)
        if 200 <= result.status < 300:
            return pipeline.finish_body(pipeline.read_chat(result), request.warnings, request.family)
        return pipeline.finalize_error(pipeline.parser.error(result))
    except TrunklineError as error:  # such as an error in a response whose status is 200
        return pipeline.finalize_error(error)


def _batches(pipeline: Pipeline, name: str) -> tuple[BatchOperations, Pipeline]:
    """Return the provider's operations, and the pipeline with the translator and the parser of its batches."""
    context, batches = pipeline.context, pipeline.steps.operations.batches
    if batches is None:
        raise UnsupportedOperation(
            f"service {context.name!r}: the provider {context.provider!r} has no {name}", service=context.name
        )
    changes: dict[str, Any] = {}
    if batches.translator is not None:
        if name == "submit_batch":
            _check_owner(pipeline, "translator")
        changes["translator"] = pipeline.run_step("translator", batches.translator, context)
    if batches.response_parser is not None:
        if name == "batch_results":
            _check_owner(pipeline, "parser")
        changes["parser"] = pipeline.run_step("parser", batches.response_parser, context)
    return batches, attrs.evolve(pipeline, steps=attrs.evolve(pipeline.steps, **changes)) if changes else pipeline


def _check_owner(pipeline: Pipeline, step: str) -> None:
    """Refuse the call if an extension overrides a step that the provider replaces for batches.

    Without the check, the extension would be skipped, such as one that removes names from requests.
    """
    context, owners = pipeline.context, pipeline.steps.owners
    if owners[step] != owners["operations"]:
        raise UnsupportedOperation(
            f"service {context.name!r}: {owners[step]} overrides the {step}, but batches of the provider "
            f"{context.provider!r} have a {step} of their own; use a service without that extension for batches",
            service=context.name,
        )


async def _send(pipeline: Pipeline, operation: Operation[V, R], value: V, call: ObservedCall) -> R:
    translation = pipeline.run_step("operations", operation.translation, pipeline.context, value)
    parse = partial(parse_result, pipeline.at_border, pipeline.context, operation)
    pipeline = pipeline.for_operation(operation)
    return await pipeline.call(translation, parse, call.deadline, call.retried, has_lines=operation.has_lines)


def _named(pipeline: Pipeline, batch: Batch, requests: tuple[BatchedRequest, ...]) -> Batch:
    context = pipeline.context
    return attrs.evolve(batch, provider=context.provider, service=context.name, requests=requests)


def _check_provider(pipeline: Pipeline, batch: Batch) -> None:
    context = pipeline.context
    if batch.provider not in (None, context.provider):
        raise InvalidRequest(
            f"the batch {batch.id!r} was submitted to the provider {batch.provider!r}, not to {context.provider!r}",
            service=context.name,
        )


CALLS: Mapping[str, Callable[[Pipeline, Any, ObservedCall], Awaitable[object]]] = {
    "submit_batch": submit_batch,
    "get_batch": get_batch,
    "batch_results": batch_results,
    "cancel_batch": cancel_batch,
    "list_batches": list_batches,
}
"""The functions by the names of the methods of `Service`."""
