"""Services made of services.

`fallback` calls the next service if one cannot serve the call, `balance` spreads calls over several services, and
`limit` delays calls so that a service gets no more of them than its limits allow.

A composed service is a `Service`: it has the same methods, and may be a member of another composed service.
"""

from __future__ import annotations

import copy
import weakref
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TypeVar, cast

import anyio
import attrs

from trunkline._calls.admission import Admission, LimitStatus, Ticket
from trunkline._calls.call_tokens import TokenEstimate, used_tokens
from trunkline._calls.circuit_breaker import Attempt, CircuitBreaker
from trunkline._calls.options import CallOptions, TimeLimit, checked_options, time_limit
from trunkline._calls.shared_limits import SharedTicket
from trunkline._calls.turns import Turns
from trunkline._config.compositions import HIGHEST_WEIGHT, MAX_NESTING
from trunkline._event_loops import running_loop
from trunkline._exception_text import exception_text
from trunkline._masking import quoted
from trunkline.authoring.limits import SharedLimiter
from trunkline.authoring.provider import Hop, Operation
from trunkline.errors import (
    AuthenticationError,
    CallError,
    ConfigurationError,
    NotFound,
    PermissionDenied,
    ProtocolViolation,
    QuotaExhausted,
    RemoteError,
    StreamClosed,
    TotalTimeout,
    TrunklineError,
    UnexpectedRedirect,
    UnsupportedOperation,
    UnsupportedRequest,
)
from trunkline.events import Event, ResumePoint
from trunkline.fold import Fold
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import ChatResponse, EmbedResponse, ModelInfo
from trunkline.secrets import without_traceback
from trunkline.service import Service
from trunkline.stream import CLOSING_LIMIT, EndCallback, Stream, read_failure

T = TypeVar("T")
V = TypeVar("V")
R = TypeVar("R")

_CANNOT_SERVE = (
    AuthenticationError,
    ConfigurationError,
    NotFound,
    PermissionDenied,
    ProtocolViolation,
    QuotaExhausted,
    TotalTimeout,
    UnexpectedRedirect,
    UnsupportedOperation,
    UnsupportedRequest,
)
"""Errors that say that a member cannot serve the call, although trying the same one again would not help."""


def fallback(*services: Service, name: str | None = None, total_timeout: float | None = None) -> Service:
    """Combine services into one: a call goes to the first one, and to the next one if the first cannot serve it.

    The next one is called at once after an error that is `retryable`, or that says that the service cannot serve the
    call: for example a wrong key, an unknown model, an exhausted quota, or something that a `strict` service cannot
    express. A `BadRequest` is raised, since the request itself is wrong. So is every error once a stream has started.

    Only the last service retries, unless another one has a `max_retries` that is not the default, or an option of
    `with_options`. A service rests if it fails five times in a row, if the timeouts among them took 30 s in total, or
    if it asks for a wait with `Retry-After`. While it rests, it is called only if no other one can serve. After its
    rest, one call is sent to it as a probe.

    `name` is the name of the new service. `total_timeout` is the time in seconds that a call may take with all
    services; those of the services themselves apply as well. Closing the new service closes the others.

    The response and the errors name the service that answered. If all services fail, the error is that of the last one;
    its notes have those of the others.

    Raises `ConfigurationError` if there is no service, if one is given twice, if composed services are nested more than
    50 deep, or if `name` or `total_timeout` is wrong.
    """
    members = _members(services, "fallback")
    name = _name(name, "fallback", members)
    return _Fallback(members, name, _checked_total_timeout(total_timeout, name))


def balance(
    *services: Service,
    weights: Sequence[float] | None = None,
    name: str | None = None,
    total_timeout: float | None = None,
) -> Service:
    """Combine services into one that spreads the calls over them, in turn.

    With `weights`, one for each service, a service with the weight 2 gets twice as many calls as one with the weight 1.
    If a service cannot serve a call, another one is called, by the rules of `fallback`: so services that rest are
    called only if no other one can serve.

    `name` is the name of the new service. `total_timeout` is the time in seconds that a call may take with all
    services; those of the services themselves apply as well. Closing the new service closes the others.

    Raises `ConfigurationError` if there is no service, if one is given twice, if composed services are nested more than
    50 deep, or if the weights, `name` or `total_timeout` are wrong.
    """
    members = _members(services, "balance")
    given = (1.0,) * len(members) if weights is None else tuple(weights) if isinstance(weights, Sequence) else ()
    if len(given) != len(members) or not all(
        isinstance(weight, (int, float)) and not isinstance(weight, bool) and 0 < weight <= HIGHEST_WEIGHT
        for weight in given
    ):
        raise ConfigurationError(f"balance: weights must be {len(members)} positive numbers, one for each service")
    name = _name(name, "balance", members)
    return _Balance(members, name, _checked_total_timeout(total_timeout, name), given)


def limit(
    service: Service,
    *,
    concurrency: int | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    limiter: SharedLimiter | None = None,
    name: str | None = None,
) -> LimitedService:
    """Make a service whose calls wait until the limits allow them to be sent, in the order in which they came.

    `concurrency` is the number of calls that run at once; a stream counts until it has ended or is closed. No interval
    of 60 seconds has more than `requests_per_minute` requests, retries included, or `tokens_per_minute` tokens. The
    tokens of a call are estimated from its request and its `max_output_tokens`, and corrected when the response reports
    its usage. If that is more than was estimated, later calls wait for it. A call with more tokens than the limit is
    sent when no others are counted.

    When the provider says that its own limit is used up (`rate_limits`, `Retry-After`), no call is sent until it has
    reset, but for at most five minutes. This does not apply if `service` has several providers, as a `fallback` does.

    The wait is part of `total_timeout`. If it takes longer, or certainly will, the call raises `LimitTimeout`. Without
    a `total_timeout`, it waits for as long as it takes.

    These limits hold for this process: in all its event loops and threads, and for all calls of the new service and its
    views. `limiter` adds limits that several processes share: it is asked before each request, after these limits have
    allowed it. `trunkline_ray` has one for the actors of a Ray cluster. `name` is the name of the new service. Closing
    it closes `service`.

    Raises `ConfigurationError` if there is no limit, if one is not a positive whole number, if composed services are
    nested more than 50 deep, or if `name` is wrong.
    """
    (member,) = _members((service,), "limit")
    limits = {
        "concurrency": concurrency,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
    }
    for keyword, value in limits.items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ConfigurationError(f"limit: {keyword} must be a positive whole number", setting=keyword)
    if limiter is None and all(value is None for value in limits.values()):
        raise ConfigurationError(f"limit needs one of {', '.join(limits)}, or a limiter")
    name = _name(name, "limit", (member,))
    admission = Admission(
        name,
        concurrency=concurrency,
        requests=requests_per_minute,
        tokens=tokens_per_minute,
        heeds_provider=_has_one_provider(member),
    )
    return LimitedService(member, name, admission, limiter)


def _has_one_provider(service: Service) -> bool:
    return not isinstance(service, _Composed) or (len(service._members) == 1 and _has_one_provider(service._members[0]))


def _members(services: Sequence[object], function: str) -> tuple[Service, ...]:
    for service in services:
        if not isinstance(service, Service):
            raise ConfigurationError(f"{function} takes services, not a value of type {type(service).__name__}")
    members = tuple(service for service in services if isinstance(service, Service))
    if not members:
        raise ConfigurationError(f"{function} needs at least one service")
    if len({id(member) for member in members}) != len(members):
        raise ConfigurationError(f"{function} was given the same service twice")
    if max(_depth(member) for member in members) >= MAX_NESTING:
        raise ConfigurationError(f"{function}: composed services cannot be nested more than {MAX_NESTING} deep")
    return members


def _depth(service: Service) -> int:
    return service._depth if isinstance(service, _Composed) else 0


def _checked_total_timeout(seconds: float | None, service: str) -> float | None:
    return checked_options({"total_timeout": seconds}, service).total_timeout(None)


def _name(name: object, function: str, services: Iterable[Service]) -> str:
    """Return the name of a composed service, for which `name` was given."""
    if not isinstance(name, (str, type(None))):
        raise ConfigurationError(f"{function}: the name of a service must be a string, not {type(name).__name__}")
    return name or f"{function}({', '.join(service.name for service in services)})"


async def close_services(services: Iterable[Service]) -> None:
    """Close services at the same time, and return when all of them are closed.

    If closing fails, raises the error of the first service that failed, with those of others as notes.
    """
    found = _with_members(services)
    # A composed service has no connections, so only its members are closed.
    for service in found:
        if isinstance(service, _Composed):
            service._refuse_calls()
    every = [service for service in found if not isinstance(service, _Composed)]
    failed: dict[int, Exception] = {}

    async def close(number: int, service: Service) -> None:
        try:
            await service.aclose()
        except Exception as error:  # raised when the others are closed, too
            failed[number] = error

    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            for number, service in enumerate(every):
                tasks.start_soon(close, number, service)
    errors = [failed[number] for number in sorted(failed)]
    for other in errors[1:]:
        errors[0].add_note(exception_text(other))
    if errors:
        raise errors[0]


def _with_members(services: Iterable[Service]) -> list[Service]:
    """Return the services, and all that they are made of: each once, however many services it is a member of."""
    found: dict[int, Service] = {}
    waiting = list(services)[::-1]
    while waiting:
        service = waiting.pop()
        if id(service) not in found:
            found[id(service)] = service
            if isinstance(service, _Composed):
                waiting.extend(reversed(service._members))
    return list(found.values())


class _Composed(Service):
    """A service whose calls are calls of its members. A subclass decides of which, in `_serve`."""

    kind = ""

    def __init__(self, members: tuple[Service, ...], name: str, total_timeout: float | None) -> None:
        super().__init__(name)
        self._members = members
        self._depth = 1 + max(_depth(member) for member in members)
        self._total_timeout = total_timeout

    def __repr__(self) -> str:
        return f"<Service {self.name!r}: {self.kind} of {', '.join(quoted(member.name) for member in self._members)}>"

    @abstractmethod
    async def _serve(self, outer: CallOptions, call: Callable[[Service, CallOptions], Awaitable[T]]) -> T:
        """Make a call with one member or several: `call` makes it with the member and the options it is given."""

    def _limits(self, outer: CallOptions) -> tuple[CallOptions, TimeLimit | None]:
        """Return the options for the members, and the time limit of the whole call."""
        options = self._options.within(outer)
        limit = time_limit(options, self._total_timeout, self.name)
        settings = {name: value for name, value in options.settings.items() if name != "total_timeout"}
        return attrs.evolve(options, settings=settings, time_limit=limit), limit

    def _hop(self, options: CallOptions, number: int, error: TrunklineError | None = None) -> tuple[Hop, ...]:
        return (*options.hops, Hop(service=self.name, kind=self.kind, number=number, error=error))

    def _own_total_timeout(self) -> float | None:
        return self._options.total_timeout(self._total_timeout)

    def _refuse_calls(self) -> None:
        """Refuse further calls that the members, which are closed as well, would not refuse."""

    async def aclose(self) -> None:
        await close_services((self,))

    async def _chat(self, request: ChatRequest, outer: CallOptions) -> ChatResponse:
        return await self._serve(outer, lambda member, options: member._chat(request, options))

    def _stream(self, request: ChatRequest, outer: CallOptions) -> Stream:
        return _MemberStream(self.name, lambda enter: self._open_stream(request, outer, enter))

    async def _open_stream(
        self, request: ChatRequest, outer: CallOptions, enter: Callable[[Stream], Awaitable[Stream]]
    ) -> Stream:
        return await self._serve(outer, lambda member, options: enter(member._stream(request, options)))

    def _resume(self, point: ResumePoint, outer: CallOptions) -> Stream:
        return _MemberStream(self.name, lambda enter: self._open_resumed(point, outer, enter))

    async def _open_resumed(
        self, point: ResumePoint, outer: CallOptions, enter: Callable[[Stream], Awaitable[Stream]]
    ) -> Stream:
        return await self._serve(outer, lambda member, options: enter(member._resume(point, options)))

    async def _list_models(self, outer: CallOptions) -> tuple[ModelInfo, ...]:
        return await self._serve(outer, lambda member, options: member._list_models(options))

    async def _count_tokens(self, request: ChatRequest, outer: CallOptions) -> int:
        return await self._serve(outer, lambda member, options: member._count_tokens(request, options))

    async def _perform(self, name: str, value: object, result: type[R], outer: CallOptions) -> R:
        return await self._serve(outer, lambda member, options: member._perform(name, value, result, options))

    async def _run_operation(self, operation: Operation[V, R], value: V, outer: CallOptions) -> R:
        return await self._serve(outer, lambda member, options: member._run_operation(operation, value, options))

    async def _call_batches(self, name: str, value: object, result: type[R], outer: CallOptions) -> R:
        return await self._serve(outer, lambda member, options: member._call_batches(name, value, result, options))

    async def _authenticate(self, outer: CallOptions) -> None:
        await self._authenticate_members(outer, set())

    async def _authenticate_members(self, outer: CallOptions, done: set[int]) -> None:
        """Authenticate all members but those in `done`, to which they are added."""
        options, _ = self._limits(outer)
        for member in self._members:
            if id(member) in done:
                continue
            done.add(id(member))
            if isinstance(member, _Composed):
                await member._authenticate_members(options, done)
            else:
                await member._authenticate(options)


class _Fallback(_Composed):
    kind = "fallback"

    def __init__(self, members: tuple[Service, ...], name: str, total_timeout: float | None) -> None:
        super().__init__(members, name, total_timeout)
        self._breakers = tuple(CircuitBreaker() for _ in members)

    def _order(self) -> Iterator[tuple[int, Attempt]]:
        """Yield the numbers of the members in the order in which a call tries them: those that rest come last."""
        # A breaker is asked just before its member is tried, since it takes the call for the probe after a rest.
        resting: list[int] = []
        for number in self._preferred():
            attempt = self._breakers[number].attempt()
            if attempt is not None:
                yield number, attempt
            else:
                resting.append(number)
        for number in resting:
            yield number, self._breakers[number].last_resort()

    async def _call_batches(self, name: str, value: object, result: type[R], outer: CallOptions) -> R:
        raise UnsupportedOperation(
            f"a batch belongs to one provider: call {name} of a member of service {self.name!r}, such as "
            f"{self._members[0].name!r}",
            service=self.name,
        )

    def _preferred(self) -> Sequence[int]:
        """Return the numbers of the members in the order in which they are tried if none rests."""
        return range(len(self._members))

    async def _serve(self, outer: CallOptions, call: Callable[[Service, CallOptions], Awaitable[T]]) -> T:
        options, limit = self._limits(outer)
        errors: list[TrunklineError] = []
        for count, (number, attempt) in enumerate(self._order(), 1):
            is_last = count == len(self._members)
            member_options = attrs.evolve(
                options,
                hops=self._hop(options, count, errors[-1] if errors else None),
                is_not_last=options.is_not_last or not is_last,
            )
            try:
                result = await call(self._members[number], member_options)
            except TrunklineError as error:
                attempt.failed(error)
                if is_last or not _goes_on(error) or (limit is not None and limit.left <= 0):
                    for earlier in errors:
                        for note in getattr(earlier, "__notes__", ()):  # of a composed service that is a member
                            error.add_note(note)
                        error.add_note(f"before that, in {quoted(self.name)}: {earlier}")
                    raise
                errors.append(cast(TrunklineError, without_traceback(error)))
            except BaseException as error:
                attempt.failed(error)
                raise
            else:
                if isinstance(result, Stream):
                    attempt.answered()
                    result._on_end(_reporting(attempt))
                else:
                    attempt.succeeded()
                return result
        raise AssertionError("there is at least one member")


class _Balance(_Fallback):
    kind = "balance"

    def __init__(
        self, members: tuple[Service, ...], name: str, total_timeout: float | None, weights: tuple[float, ...]
    ) -> None:
        super().__init__(members, name, total_timeout)
        self._turns = Turns(weights)

    def _preferred(self) -> Sequence[int]:
        return self._turns.next()


def _reporting(attempt: Attempt) -> EndCallback:
    def report(partial: ChatResponse, error: BaseException | None) -> None:
        if error is None:
            attempt.succeeded()
        else:
            attempt.failed(error)

    return report


def _goes_on(error: TrunklineError) -> bool:
    """Return whether the next member is called after an error."""
    if isinstance(error, CallError) and error.another_may_serve:
        return True
    return isinstance(error, _CANNOT_SERVE) or (isinstance(error, RemoteError) and error.retryable)


class LimitedService(_Composed):
    """A service whose calls wait until its limits allow them: see `limit`."""

    kind = "limit"

    def __init__(self, member: Service, name: str, admission: Admission, limiter: SharedLimiter | None = None) -> None:
        # The member's own `total_timeout` begins when the call is admitted; the wait before that counts, too.
        super().__init__((member,), name, member._own_total_timeout())
        self._admission = admission
        self._limiter = limiter
        self._estimate = TokenEstimate()

    @property
    def service(self) -> Service:
        """The service that is limited."""
        return self._members[0]

    @property
    def status(self) -> LimitStatus:
        """The current state: how many calls run and wait, and how much of the limits is used."""
        return self._admission.status()

    def _refuse_calls(self) -> None:
        self._admission.close()

    async def _limited(
        self,
        outer: CallOptions,
        tokens: int,
        call: Callable[[Service, CallOptions], Awaitable[T]],
        used: Callable[[T], int | None],
        tickets: list[Ticket | SharedTicket],
    ) -> T:
        """Make a call once it is admitted. Its tickets are added to `tickets`; the caller ends those of a stream."""
        options, limit = self._limits(outer)
        tickets.append(await self._admission.admit(tokens, limit))
        if self._limiter is not None:
            tickets.append(
                SharedTicket(
                    self._limiter, tokens, limit, service=self.name, heeds_provider=self._admission.heeds_provider
                )
            )
        options = attrs.evolve(options, hops=self._hop(options, 1), gates=(*options.gates, *tickets))
        try:
            result = await call(self._members[0], options)
            counted = None if isinstance(result, Stream) else used(result)
        except BaseException:
            _end_tickets(tickets)
            raise
        if not isinstance(result, Stream):
            _end_tickets(tickets, counted)
        return result

    @property
    def _tokens_limit(self) -> int | None:
        """The smallest limit of tokens."""
        limits = (self._admission.tokens_limit, self._limiter.tokens_per_minute if self._limiter is not None else None)
        return min((limit for limit in limits if limit is not None), default=None)

    async def _serve(self, outer: CallOptions, call: Callable[[Service, CallOptions], Awaitable[T]]) -> T:
        return await self._limited(outer, 0, call, lambda result: None, [])

    async def _chat(self, request: ChatRequest, outer: CallOptions) -> ChatResponse:
        return await self._limited(
            outer,
            self._estimate.of_chat(request, self._tokens_limit),
            lambda member, options: member._chat(request, options),
            self._estimate.used,
            [],
        )

    async def _perform(self, name: str, value: object, result: type[R], outer: CallOptions) -> R:
        return await self._limited(
            outer,
            self._estimate.of_inputs(value.inputs) if isinstance(value, EmbedRequest) else 0,
            lambda member, options: member._perform(name, value, result, options),
            lambda response: used_tokens(response.usage) if isinstance(response, EmbedResponse) else None,
            [],
        )

    def _stream(self, request: ChatRequest, outer: CallOptions) -> Stream:
        tickets: list[Ticket | SharedTicket] = []
        stream = _MemberStream(self.name, lambda enter: self._open_limited(request, outer, enter, tickets))
        # A stream that is dropped without being closed gives its place back, too.
        weakref.finalize(stream, _end_tickets, tickets).atexit = False
        return stream

    async def _open_limited(
        self,
        request: ChatRequest,
        outer: CallOptions,
        enter: Callable[[Stream], Awaitable[Stream]],
        tickets: list[Ticket | SharedTicket],
    ) -> Stream:
        stream = await self._limited(
            outer,
            self._estimate.of_chat(request, self._tokens_limit),
            lambda member, options: enter(member._stream(request, options)),
            lambda stream: None,
            tickets,
        )
        estimate = self._estimate

        def ended(partial: ChatResponse, error: BaseException | None) -> None:
            try:
                _end_tickets(tickets, estimate.used(partial))
            finally:
                _end_tickets(tickets)

        stream._on_end(ended)
        return stream


def _end_tickets(tickets: Iterable[Ticket | SharedTicket], tokens: int | None = None) -> None:
    for ticket in tickets:
        ticket.end(tokens)


class _MemberStream(Stream):
    """The stream of the member that serves the call.

    Until a member's stream has opened, `_opening` is the scope in which members are tried. After that, everything is
    left to the member's stream. If none opens, `_failure` is the reason, which every read raises.
    """

    __slots__ = (
        "_at_end",
        "_closed",
        "_entering",
        "_failure",
        "_loop",
        "_member",
        "_open",
        "_opened",
        "_opening",
        "_service",
    )

    def __init__(
        self, service: str, open_member: Callable[[Callable[[Stream], Awaitable[Stream]]], Awaitable[Stream]]
    ) -> None:
        self._service = service
        self._open = open_member
        self._member: Stream | None = None
        self._entering: Stream | None = None  # the stream of the member that is being tried, or that was tried last
        self._opening: anyio.CancelScope | None = None
        self._opened: anyio.Event | None = None
        self._loop: object = None  # the event loop that the stream is opened in
        self._failure: TrunklineError | None = None
        self._closed = False
        self._at_end: list[EndCallback] = []

    def __repr__(self) -> str:
        return f"<Stream of the service {quoted(self._service)}>"

    @property
    def response(self) -> ChatResponse:
        if self._member is None:
            raise CallError("the stream has not finished; read it to its end, or use 'partial'", service=self._service)
        return self._member.response

    @property
    def partial(self) -> ChatResponse:
        stream = self._member or self._entering
        if stream is not None:
            return stream.partial
        return attrs.evolve(Fold("", self._service).response(), provider=None)

    async def _enter(self, stream: Stream) -> Stream:
        self._entering = stream
        return await stream.__aenter__()

    async def __aenter__(self) -> Stream:
        if self._opened is not None or self._closed:
            raise CallError("a stream can be entered only once; ask the service for another", service=self._service)
        self._opened = anyio.Event()
        self._opening = anyio.CancelScope()
        self._loop = running_loop()
        try:
            with self._opening:
                self._member = await self._open(self._enter)
        except BaseException as error:
            self._failure = read_failure(error, "opening this stream", service=self._service)
            raise
        finally:
            self._opening = None
            self._opened.set()
        if self._member is None:  # `aclose` cancelled the scope
            raise self._closed_error()
        for callback in self._at_end:
            self._member._on_end(callback)
        return self

    def __aiter__(self) -> Stream:
        return self._member or self

    async def __anext__(self) -> Event:
        if self._member is not None:
            return await self._member.__anext__()
        if self._failure is not None:
            raise copy.copy(self._failure)
        if self._closed:
            raise self._closed_error()
        raise CallError(
            "enter the stream before reading it: async with service.stream(…) as stream", service=self._service
        )

    def _closed_error(self) -> StreamClosed:
        message = f"a stream of service {self._service!r} was closed before it opened"
        return StreamClosed(message, service=self._service, partial=self.partial)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._member is not None:
            await self._member.__aexit__(kind, error, traceback)

    async def aclose(self) -> None:
        if self._opening is not None and self._loop is not running_loop():
            message = "a stream can be closed only in the event loop that opened it"
            raise CallError(message, service=self._service)
        self._closed = True
        if self._opening is not None and self._opened is not None:
            # The stream that is being opened raises `StreamClosed`, so that its observers hear that it was closed. The
            # scope ends whatever is not a stream, such as the wait for a limit.
            if self._entering is not None:
                await self._entering.aclose()
            if self._opening is not None:
                self._opening.cancel()
            with anyio.move_on_after(CLOSING_LIMIT):
                await self._opened.wait()
        if self._member is not None:
            await self._member.aclose()

    @property
    def _is_new(self) -> bool:
        return self._opened is None and not self._closed

    @property
    def _refusals(self) -> Collection[int]:
        return () if self._member is None else self._member._refusals

    def _on_end(self, callback: EndCallback) -> None:
        if self._member is None:
            self._at_end.append(callback)
        else:
            self._member._on_end(callback)

    async def _run_locally(
        self, operation: str, value: V, proceed: Callable[[V], Awaitable[T]], result_class: type
    ) -> T:
        if self._member is None:
            raise CallError("enter the stream first", service=self._service)
        return await self._member._run_locally(operation, value, proceed, result_class)
