"""What a provider implements for batches: its limits, and the pure functions that build and parse its requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeAlias, TypeVar

import attrs

from trunkline._json import JSONObject
from trunkline.authoring.json import as_objects, decode_object
from trunkline.authoring.structure import check_structure
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.batches import Batch, BatchStatus
from trunkline.errors import InvalidRequest, ProtocolViolation, RemoteError, TrunklineError
from trunkline.request import ChatRequest

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class BatchFilling:
    """How `trunkline.batch` submits: as many of the requests as fit into one batch, in their order.

    `token` becomes that of the submission. Before the batch is sent, `accept` is called with the ids of the requests
    that are in it, and with the error of each request that cannot be sent. If none is in it, nothing is sent, and the
    result is a batch without an id.
    """

    token: str
    accept: Callable[[Collection[str], Mapping[str, TrunklineError]], None]


@attrs.frozen(kw_only=True)
class BatchRequests:
    """What `Service.submit_batch` was called with, as middlewares and observers see it.

    `requests` has the request of each id. `options` are those of the batch, by provider. `filling` is set if only as
    many requests as fit are to be submitted.
    """

    requests: Mapping[str, ChatRequest] = attrs.field(repr=False)
    options: Mapping[str, JSONObject] = attrs.field(factory=dict, repr=False)
    filling: BatchFilling | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class BatchItem:
    """One request of a batch: its id, its model, and the request that `chat` would send for it."""

    id: str
    model: str
    wire_request: WireRequest = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class BatchSubmission:
    """A batch to submit.

    `options` are the provider's own options of the batch. `token` is a random text that is the same in all attempts,
    for a provider that recognises a repeated request by it. If the provider stores a name or metadata of a batch, put
    `mark` there: `Batch.raw` of a listed batch then tells which submission made it. `previous` is the result of the
    operation before, if submitting takes several.
    """

    items: tuple[BatchItem, ...] = attrs.field(repr=False)
    options: JSONObject = attrs.field(factory=dict, repr=False)
    token: str
    previous: object = attrs.field(default=None, repr=False)

    @property
    def mark(self) -> str:
        """The text by which a batch of this submission is found in a list of batches."""
        return f"trunkline-{self.token}"

    def with_mark(self) -> JSONObject:
        """Return the options with the mark in their `metadata`."""
        metadata = self.options.get("metadata", {})
        if not isinstance(metadata, Mapping):  # the provider will refuse it
            return self.options
        return {**self.options, "metadata": {"trunkline": self.mark, **metadata}}


@attrs.frozen(kw_only=True)
class BatchLimits:
    """What a provider accepts as a batch. The core checks it before anything is sent. `None` means no known limit.

    `bytes` is the most that the bodies of all requests may have together. `ids` is the pattern of a request's id, and
    `id_rule` says it in words. `one_model` is true if all requests must be for the same model. `least_requests` is the
    smallest batch. Name the source of each number in a comment.
    """

    requests: int | None = None
    bytes: int | None = None
    ids: re.Pattern[str] = re.compile(r".{1,512}", re.DOTALL)
    id_rule: str = "1 to 512 characters"
    one_model: bool = False
    least_requests: int = 1

    def check_ids(self, ids: Iterable[str]) -> None:
        """Raise `InvalidRequest` if there are too few or too many requests, or if an id is not accepted."""
        checked: list[object] = list(ids)
        count = len(checked)
        for made in checked:
            if not isinstance(made, str) or not self.ids.fullmatch(made):
                raise InvalidRequest(f"the provider does not accept the request id {made!r}: it must be {self.id_rule}")
        if count < self.least_requests:
            requests = "request" if self.least_requests == 1 else "requests"
            raise InvalidRequest(f"a batch needs at least {self.least_requests} {requests}, and this one has {count}")
        if self.requests is not None and count > self.requests:
            raise InvalidRequest(f"the provider accepts at most {self.requests} requests in a batch, not {count}")

    def check(self, items: Sequence[BatchItem]) -> None:
        """Raise `InvalidRequest` if the requests are too large together, or for different models."""
        size = sum(len(item.wire_request.body) for item in items)
        if self.bytes is not None and size > self.bytes:
            raise InvalidRequest(
                f"the provider accepts batches of at most {self.bytes} bytes, and this one has {size}; split it"
            )
        if self.one_model and items:
            first = items[0]
            other = next((item for item in items if item.model != first.model), None)
            if other is not None:
                raise InvalidRequest(
                    f"the provider accepts one model per batch, but request {first.id!r} is for {first.model!r} and "
                    f"request {other.id!r} for {other.model!r}; submit a batch for each model"
                )


BatchOutcome: TypeAlias = tuple[str | None, WireResponse | TrunklineError]
"""The id of a request, and its response as `chat` would have received it, or the error that it ended with.

The core reads the response with the service's `ResponseParser`, by its status. The id is `None` for a result that
cannot be read, and the error says why.
"""

BatchPage: TypeAlias = tuple[tuple[Batch, ...], str | None]
"""A page of a list of batches, newest first, and the cursor of the next page, or `None` after the last one."""


class BatchContext(Protocol):
    """What `batch_parser` and `list_parser` read of a `ServiceContext`."""

    @property
    def provider(self) -> str:
        """The provider's name."""
        ...


def batch_parser(
    read: Callable[[str, dict[str, Any]], Batch],
) -> Callable[[BatchContext, WireResponse], Batch]:
    """Return the `parse` of an operation that returns a batch. `read` takes the provider's name and the batch."""

    def parse(context: BatchContext, wire_response: WireResponse) -> Batch:
        provider = context.provider
        return read(provider, decode_object(wire_response.body, "the batch", provider=provider))

    return parse


def list_parser(
    read: Callable[[str, dict[str, Any]], Batch],
    field: str,
    *,
    cursor: Callable[[dict[str, Any], tuple[Batch, ...]], str | None],
    required: bool = False,
) -> Callable[[BatchContext, WireResponse], BatchPage]:
    """Return the `parse` of an operation that lists batches.

    `read` is as in `batch_parser`. `field` is the field with the batches; if it is `required`, a list without it raises
    `ProtocolViolation`. `cursor` returns the cursor of the next page for the body and its batches.
    """

    def parse(context: BatchContext, wire_response: WireResponse) -> BatchPage:
        provider = context.provider
        body = decode_object(wire_response.body, "the list of batches", provider=provider)
        if required and not isinstance(body.get(field), list):
            raise ProtocolViolation(f"the list of batches has no {field!r}", provider=provider)
        batches = tuple(read(provider, item) for item in as_objects(body.get(field)))
        return batches, cursor(body, batches)

    return parse


def batch_id(batch: Mapping[str, object], field: str, *, provider: str) -> str:
    """Return the id of a batch. Raises `ProtocolViolation` if the field has none."""
    value = batch.get(field)
    if not isinstance(value, str):
        raise ProtocolViolation(f"the batch has no {field!r}", provider=provider)
    return value


class ResultLines:
    """The outcomes in a file with a JSON object on each line. Each line is decoded when the iteration reaches it.

    A line that cannot be decoded, or for which `read` raises an error, becomes an outcome without an id, so that the
    lines after it can still be read. Set `Operation.has_lines` of the operation that fetches the file: the service's
    `nesting_limit`, given here, then applies to each line.
    """

    def __init__(
        self,
        body: bytes,
        read: Callable[[dict[str, Any]], BatchOutcome],
        *,
        provider: str,
        nesting_limit: int | None,
    ) -> None:
        self._body = body
        self._read = read
        self._provider = provider
        self._nesting_limit = nesting_limit

    def __iter__(self) -> Iterator[BatchOutcome]:
        start = 0
        while start < len(self._body):
            end = self._body.find(b"\n", start)
            end = len(self._body) if end < 0 else end
            line = self._body[start:end].strip()
            start = end + 1
            if line:
                yield readable_outcome(self._line, line)

    def _line(self, line: bytes) -> BatchOutcome:
        check_structure(line, self._nesting_limit)
        return self._read(decode_object(line, "a line of the batch's results", provider=self._provider))


def readable_outcome(read: Callable[[T], BatchOutcome], result: T) -> BatchOutcome:
    """Return the outcome that `read` returns for a result, or one without an id if it raises a `TrunklineError`."""
    try:
        return read(result)
    except TrunklineError as error:
        return None, error


def result_id(value: object, *, provider: str) -> str:
    """Return the id of a request in its result. Raises `ProtocolViolation` if there is none."""
    if not isinstance(value, str):
        raise ProtocolViolation("a result of the batch has no id of its request", provider=provider)
    return value


def batch_status(raw: str, words: dict[str, BatchStatus]) -> BatchStatus:
    """Return the status for the provider's word. An unknown word counts as `running`, since it may be a new state."""
    return words.get(raw, "running")


def epoch_seconds(value: object) -> int | None:
    """Return a time (an ISO 8601 text, or a number) in seconds since the epoch, or `None`."""
    if type(value) is int:
        return value
    if not isinstance(value, str):
        return None
    try:
        return int(datetime.fromisoformat(value).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def cancelled_error(provider: str, body: JSONObject | None = None) -> RemoteError:
    """Return the error of a request that did not run because its batch was cancelled."""
    message = "the batch was cancelled before this request ran"
    return RemoteError(message, provider=provider, code="batch_cancelled", retryable=True, body=body)


def expired_error(provider: str, body: JSONObject | None = None) -> RemoteError:
    """Return the error of a request that did not run because its batch expired."""
    message = "the batch expired before this request ran"
    return RemoteError(message, provider=provider, code="batch_expired", retryable=True, body=body)


def missing_error(batch: Batch, provider: str) -> RemoteError:
    """Return the error of a request for which an ended batch has no result."""
    if batch.status == "cancelled":
        return cancelled_error(provider)
    if batch.status == "expired":
        return expired_error(provider)
    if batch.status == "failed":
        why = f": {batch.message}" if batch.message else ""
        return RemoteError(f"the batch failed{why}", provider=provider, code="batch_failed")
    return ProtocolViolation("the batch has ended without a result for this request", provider=provider)
