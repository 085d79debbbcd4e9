"""Call a service for rows: each row is called until it has a response, or an error that is its own.

Errors are of three kinds:

- **The service cannot serve at all**, such as a wrong key: `MapStopped` is raised.
- **The error is the row's own**, such as a text that is too long: it is the row's result.
- **Another try may succeed**, such as after a 503: the row is tried again, beyond the retries of the service.

While calls fail in the third way and none is answered, the service is taken to be down. Then only one row at a time is
called, after a pause that grows. The rows that wait take turns, so that a row that makes the provider fail does not
stop the others. The first answer ends the pause for all. If there is none within `patience` seconds, `MapStopped` is
raised.

While others are answered, a row that keeps failing is tried `MAX_TRIES` times. A provider that is too busy says nothing
about the row, so those errors do not count.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, cast

import anyio
import attrs

from trunkline.answers import AnswerType, answer_type_of
from trunkline.batch.results import MapStopped, Row, RowError, RowResponse, RowResult
from trunkline.batch.stable_text import stable_text
from trunkline.batch.templates import RowRequests
from trunkline.errors import (
    AuthenticationError,
    ConfigurationError,
    InvalidAnswer,
    InvalidRequest,
    LimitTimeout,
    Overloaded,
    PluginError,
    ProtocolViolation,
    QuotaExhausted,
    RateLimited,
    RemoteError,
    RequestTimeout,
    ServiceClosed,
    TrunklineError,
    UnsupportedOperation,
)
from trunkline.operations import ModerationRequest
from trunkline.request import EmbedRequest
from trunkline.response import ChatResponse, EmbedResponse, Usage
from trunkline.service import Service

MAX_TRIES = 8
"""How many times a row that keeps failing is tried, while other rows are answered."""

ROW_PATIENCE = 120.0
"""After how many seconds a row that failed `MAX_TRIES` times is given up, even if no other row was answered."""

MOST_FIRST_FAILURES = 20
"""A run whose first rows all fail stops after so many: the mistake is in the requests or the settings."""

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""The pauses before further tries, in seconds: each is twice as long as the one before."""

_CANNOT_SERVE = (AuthenticationError, ConfigurationError, QuotaExhausted, ServiceClosed, UnsupportedOperation)
_BUSY = (Overloaded, RateLimited)
_GROUPED = {"embed": EmbedRequest, "moderate": ModerationRequest}
"""The operations that take several inputs in a request, with the class of a whole request."""

Cost = Callable[[RowResponse], Decimal | None]
"""Calculates what a response costs, in USD. Returns `None` if that is unknown."""


class Interrupted(Exception):
    """A row was not called, or not tried again, since the run stops. It has no result."""


@attrs.frozen(kw_only=True)
class NumberedRow:
    """A row with its number in the input, from 1, and its id."""

    number: int
    id: str
    row: Row


@attrs.define(eq=False)
class _Outage:
    """A time in which calls fail and none is answered."""

    since: float
    error: RemoteError
    tries: int = 0
    over: anyio.Event = attrs.field(factory=anyio.Event)


class RowCalls:
    """Calls a service for rows. Use one for all rows of a run, in one event loop.

    `patience` is how long, in seconds, rows wait for a service that is down. `cost` calculates what a response costs.
    """

    def __init__(
        self,
        service: Service,
        requests: RowRequests,
        *,
        answer_type: object = None,
        answer_retries: int = 0,
        patience: float = 900.0,
        cost: Cost | None = None,
    ) -> None:
        if answer_type is not None and requests.operation != "chat":
            raise InvalidRequest(f"answer_type is for chats, not for {requests.operation}")
        self.input_tokens: int = 0
        """The input tokens of all responses."""
        self.output_tokens: int = 0
        """The output tokens of all responses."""
        self.cost: Decimal | None = None
        """What all responses cost together, in USD, as far as that is known."""
        self.cost_error: Exception | None = None
        """What `cost` raised first."""
        self.identity: Mapping[str, str] = {
            **requests.identity,
            "answer_type": "" if answer_type is None else stable_text(answer_type),
        }
        """The `identity` of the requests, and the `answer_type`. A later run with another identity is refused."""
        self._service = service
        self._requests = requests
        self.answer_retries = answer_retries
        """How often the model is asked again if its answer is not of the `answer_type`."""
        self.answer: AnswerType[object] | None = None if answer_type is None else answer_type_of(answer_type)
        """How the answers of the `answer_type` are asked for and read, or `None` if there is no such type."""
        self._typed: dict[str, object] = (
            {} if answer_type is None else {"answer_type": answer_type, "answer_retries": answer_retries}
        )
        self._patience = patience
        self._cost_of = cost
        self._answers = 0
        self._outage: _Outage | None = None
        self._turn = anyio.Lock(fast_acquire=True)
        self._stopping = anyio.Event()

    @property
    def waiting_for(self) -> RemoteError | None:
        """The error of the service while it is down, else `None`."""
        return None if self._outage is None else self._outage.error

    def stop(self) -> None:
        """Let the calls that run finish, but start none, and try none again."""
        self._stopping.set()
        if self._outage is not None:
            self._outage.over.set()

    async def call(self, rows: Sequence[NumberedRow]) -> list[RowResult]:
        """Return the results of some rows, in order. Rows of `embed` and `moderate` are sent in one request.

        Raises `MapStopped` if the service cannot serve, and `Interrupted` if the calls were stopped.
        """
        results: dict[int, RowResult] = {}
        group: list[tuple[NumberedRow, object]] = []
        for row in rows:
            try:
                value = self._requests.request(row.row)
            except TrunklineError as error:
                results[row.number] = _failure(row, error)
                continue
            whole = _GROUPED.get(self._requests.operation)
            if whole is None or isinstance(value, whole):
                results[row.number] = await self._call_one(row, value)
            else:
                group.append((row, tuple(value) if isinstance(value, list) else value))
        if group:
            results |= {result.number: result for result in await self._call_group(group)}
        return [results[row.number] for row in rows]

    def read(self, row: NumberedRow, response: ChatResponse) -> RowResult:
        """Return the result of a row whose response another call has fetched, such as that for a batch.

        Raises `InvalidAnswer` if the response has no answer of the `answer_type`.
        """
        if self.answer is None:
            return self._success(row, response)
        try:
            typed = self.answer.read(response)
        except InvalidAnswer:
            self._count(response)
            raise
        return self._success(row, typed)

    async def _call_one(self, row: NumberedRow, value: object) -> RowResult:
        outcome = await self._answered(partial(self._send, value))
        if isinstance(outcome, TrunklineError):
            return _failure(row, outcome)
        return self._success(row, outcome)

    async def _call_group(self, group: Sequence[tuple[NumberedRow, object]]) -> list[RowResult]:
        """Call for several rows with one request. If the provider refuses it, each row is sent alone."""
        outcome = await self._answered(partial(self._send, [value for _, value in group]))
        if not isinstance(outcome, TrunklineError):
            return self._shared(group, outcome)
        if len(group) == 1:
            return [_failure(group[0][0], outcome)]
        return [result for one in group for result in await self._call_group([one])]

    async def _send(self, value: object) -> RowResponse:
        method = cast("Callable[..., Awaitable[RowResponse]]", getattr(self._service, self._requests.operation))
        return await method(value, **self._requests.params, **self._typed)

    async def _answered(self, send: Callable[[], Awaitable[RowResponse]]) -> RowResponse | TrunklineError:
        """Return the response to a request, or an error that is the row's own."""
        tries = 0
        tries_while_others_are_answered = 0
        first = 0.0
        answers = self._answers
        while True:
            outcome = await self._try_in_turn(send, tries)
            if not isinstance(outcome, TrunklineError):
                return outcome
            if isinstance(outcome, ServiceClosed) and self._stopping.is_set():
                raise Interrupted  # it waited for a limit
            if isinstance(outcome, _CANNOT_SERVE) and not isinstance(outcome, PluginError):
                raise MapStopped(f"the run has stopped: {outcome}", cause=outcome) from outcome
            if isinstance(outcome, InvalidAnswer):
                self._count(outcome.response)
            if not may_pass(outcome):
                return outcome
            if isinstance(outcome, LimitTimeout):
                continue  # nothing was sent
            now = anyio.current_time()
            if tries == 0:
                first = now
            tries += 1
            # Of an outage, in which nobody is answered, only the first try may count.
            tries_while_others_are_answered += self._answers > answers
            answers = self._answers
            if isinstance(outcome, _BUSY):
                if tries_while_others_are_answered and now - first >= self._patience:
                    return outcome
            elif tries_while_others_are_answered >= MAX_TRIES or (tries >= MAX_TRIES and now - first >= ROW_PATIENCE):
                return outcome

    async def _try_in_turn(
        self, send: Callable[[], Awaitable[RowResponse]], tries: int
    ) -> RowResponse | TrunklineError:
        """Make a call; while the service is down, only when it is this row's turn, and after a pause."""
        if tries and self._outage is None:
            with anyio.move_on_after(_pause(tries)):
                await self._stopping.wait()
        while True:
            if self._stopping.is_set():
                raise Interrupted
            if self._outage is None:
                return await self._try(send)
            async with self._turn:
                outage = self._outage
                if outage is None or self._stopping.is_set():
                    continue
                left = outage.since + self._patience - anyio.current_time()
                asked = outage.error.retry_after or 0.0
                with anyio.move_on_after(min(max(_pause(outage.tries), asked), max(left, 0.0))):
                    await outage.over.wait()
                    continue
                # A request that is sent earlier than the provider asks would wait for the limit.
                if left <= 0 or asked > left:
                    raise MapStopped(
                        f"the run has stopped: no request was answered for {self._patience:.0f} s; the last error is: "
                        f"{outage.error}",
                        cause=outage.error,
                    )
                return await self._try(send)

    async def _try(self, send: Callable[[], Awaitable[RowResponse]]) -> RowResponse | TrunklineError:
        answers = self._answers
        try:
            response = await send()
        except TrunklineError as error:
            if not isinstance(error, RemoteError):
                pass  # nothing was sent, so it says nothing about the service
            elif not may_pass(error):
                self._has_answered()
            elif isinstance(error, LimitTimeout):
                with anyio.move_on_after(min(error.retry_after or FIRST_PAUSE, LONGEST_PAUSE)):
                    await self._stopping.wait()
            elif self._answers == answers:
                if self._outage is None:
                    self._outage = _Outage(anyio.current_time(), error)
                self._outage.error = error
                self._outage.tries += 1
            return error
        self._has_answered()
        return response

    def _has_answered(self) -> None:
        self._answers += 1
        if self._outage is not None:
            self._outage.over.set()
            self._outage = None

    def _success(self, row: NumberedRow, response: RowResponse) -> RowResult:
        cost = self._count(response)
        if isinstance(response, EmbedResponse) and len(response.embeddings) != 1:
            return _failure(row, InvalidRequest(f"the row has {len(response.embeddings)} inputs; a row must have one"))
        answer = json = None
        if self.answer is not None and isinstance(response, ChatResponse):
            answer, json = getattr(response, "answer", None), self.answer.value(response)
        return RowResult(id=row.id, number=row.number, response=response, answer=answer, answer_json=json, cost=cost)

    def _shared(self, group: Sequence[tuple[NumberedRow, object]], response: Any) -> list[RowResult]:
        """Return the results of the rows of a request. The cost of each row is unknown if there are several."""
        cost = self._count(response)
        field = "embeddings" if isinstance(response, EmbedResponse) else "results"
        items = getattr(response, field)
        usage = {} if len(group) == 1 else {"usage": None}
        return [
            RowResult(
                id=row.id,
                number=row.number,
                response=attrs.evolve(response, **{field: (item,)}, **usage, raw=None),
                cost=cost if len(group) == 1 else None,
            )
            for (row, _), item in zip(group, items, strict=True)
        ]

    def _count(self, response: RowResponse) -> Decimal | None:
        usage = getattr(response, "usage", None)
        if isinstance(usage, Usage):
            self.input_tokens += usage.input_tokens or 0
            self.output_tokens += usage.output_tokens or 0
        try:
            cost = None if self._cost_of is None else self._cost_of(response)
        except Exception as error:  # of the application's function; the response was paid for, so it is recorded
            self.cost_error = self.cost_error or error
            return None
        if cost is not None:
            self.cost = cost + (self.cost or 0)
        return cost


def check_options(operation: str, *, concurrency: int, rows_per_request: int, provider_batches: bool) -> None:
    """Check the options that all ways to call a service for rows have. Raises `InvalidRequest` for a wrong one."""
    for name, value in {"concurrency": concurrency, "rows_per_request": rows_per_request}.items():
        if type(value) is not int or value < 1:
            raise InvalidRequest(f"{name} must be a whole number of at least 1, not {value!r}")
    if rows_per_request > 1 and operation not in _GROUPED:
        raise InvalidRequest(f"rows_per_request is for {' and '.join(_GROUPED)}, not for {operation}")
    if provider_batches and operation != "chat":
        raise InvalidRequest(f"provider_batches is for chats, not for {operation}")


def row_id(row: Row, column: str, name: str) -> str:
    """Return the id in a column of a row. Raises `InvalidRequest`, which names the row, if it has none."""
    value = row.get(column)
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise InvalidRequest(f"{name} has no id: the column {column!r} must be a text or a whole number in each row")


def _failure(row: NumberedRow, error: TrunklineError) -> RowResult:
    # What the model wrote instead of an answer shows what to change in the prompt or the type.
    response = error.response if isinstance(error, InvalidAnswer) else None
    return RowResult(id=row.id, number=row.number, response=response, error=RowError.of(error), input=row.row)


def may_pass(error: TrunklineError) -> bool:
    """Return whether the same request may succeed later.

    A timeout of the whole call, and a response that is not the provider's, are often those of a provider that is down.
    """
    return isinstance(error, (RequestTimeout, ProtocolViolation)) or (
        isinstance(error, RemoteError) and error.retryable
    )


def _pause(tries: int) -> float:
    return min(FIRST_PAUSE * 2.0 ** min(max(tries - 1, 0), 30), LONGEST_PAUSE)
