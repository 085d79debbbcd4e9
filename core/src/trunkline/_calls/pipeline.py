"""The flow of one call: prepare, translate, sign, send, read, and decide whether to try again.

No cancel scope is open while the application's code runs: each is entered and left within one await. A scope that is
held open across a yield would corrupt the scope stack on both backends.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from functools import cached_property, partial
from typing import Any, ParamSpec, Protocol, TypeVar, cast
from urllib.parse import urljoin

import anyio
import attrs

from trunkline._calls.answer import Answer
from trunkline._calls.borders import (
    STEPS,
    AtBorder,
    Credentials,
    GuardedParser,
    Step,
    blamed_on_provider,
    is_foreign_cancellation,
    run_step,
    show_in_one_line,
    without_cancellations,
)
from trunkline._calls.deadline import CallDeadline
from trunkline._calls.event_reader import EventReader
from trunkline._calls.model_limits import KnownLimits
from trunkline._calls.options import Gate
from trunkline._calls.read_timeout import ReadTimeouts
from trunkline._calls.request_limits import RequestLimits
from trunkline._calls.response_reader import check_headers, parse_body, read_body, read_error
from trunkline._calls.retry import RetryBudget, RetryPolicy
from trunkline._exception_groups import most_telling
from trunkline._excerpts import single_line
from trunkline._plugins.plugin_errors import plugin_error
from trunkline._plugins.registry import Steps, acquired_secrets
from trunkline._urls import redact_url, same_origin, split_login
from trunkline.authoring.http_errors import is_web_page
from trunkline.authoring.provider import (
    ByteStream,
    Operation,
    SendOptions,
    ServiceContext,
    Translation,
    Transport,
    call_variable,
)
from trunkline.authoring.rate_limits import read_rate_limits
from trunkline.authoring.warnings import merged
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import (
    AuthenticationError,
    InvalidRequest,
    NotFound,
    PluginError,
    ProtocolViolation,
    RemoteError,
    TrunklineError,
    UnsupportedOperation,
    UnsupportedRequest,
)
from trunkline.events import ResumePoint
from trunkline.fold import response_warnings, with_family
from trunkline.request import ChatRequest
from trunkline.response import CallWarning, ChatResponse, RateLimits
from trunkline.secrets import scrub_error, without_names, without_traceback
from trunkline.settings import Settings, setting_error

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V")
R = TypeVar("R")


class RetryCallback(Protocol):
    """Called before each retry with the error of the failed attempt and the delay in seconds."""

    def __call__(self, error: TrunklineError, delay: float) -> None: ...


def parse_result(
    at_border: AtBorder, context: ServiceContext[Any], operation: Operation[Any, T], response: WireResponse
) -> T:
    """Return the result of an operation. What `parse` of the operation raises is blamed on the provider."""

    def parse() -> T:
        try:
            return operation.result(context, response)
        except InvalidRequest as error:
            failed = blamed_on_provider(error)
        raise failed

    return run_step(at_border, "operations", parse)


@attrs.frozen(kw_only=True)
class Pipeline:
    """The steps of one open service, ready to run calls."""

    context: ServiceContext[Any]
    steps: Steps = attrs.field(repr=False)  # of plugins, which may show secrets
    transport: Transport = attrs.field(repr=False)
    policy: RetryPolicy
    resend: bool
    """Whether a request is sent once more if a reused connection turns out to be closed: see `SendOptions`."""
    retry_budget: RetryBudget
    gates: tuple[Gate, ...] = attrs.field(default=(), repr=False)
    """The limits that each request passes through."""
    read_timeouts: ReadTimeouts = attrs.field(factory=ReadTimeouts)
    secrets: tuple[str, ...] = attrs.field(repr=False)
    client_secrets: Callable[[], tuple[str, ...]] = attrs.field(repr=False, default=tuple)
    """Returns the secrets of the application's own client, whose cookies change with each answer."""
    parser: GuardedParser = attrs.field(
        init=False,
        repr=False,
        default=attrs.Factory(lambda self: GuardedParser(self.steps.parser, self.at_border), True),
    )
    """The service's parser. Its exceptions pass through `at_border`."""
    limits: RequestLimits = attrs.field(
        init=False,
        repr=False,
        default=attrs.Factory(
            lambda self: RequestLimits(
                settings=self.settings,
                provider=self.context.provider,
                operations=self.steps.operations,
                known=self.context.keep(KnownLimits, KnownLimits),
            ),
            True,
        ),
    )

    @property
    def settings(self) -> Settings:
        """The settings of the service."""
        settings: Settings = self.context.settings
        return settings

    def _send(self, wire_request: WireRequest, credentials: Credentials) -> AbstractAsyncContextManager[ByteStream]:
        """Sign a request and send it once, with the service's timeouts for the connection and for the headers."""
        settings = self.settings
        options = SendOptions(
            connect=settings.connect_timeout,
            headers=settings.first_chunk_timeout,
            resend=self.resend,
            sign=partial(self._sign_further, wire_request, credentials),
        )
        return self.transport.send(self._sign(wire_request, credentials), options)

    @cached_property
    def without_retries(self) -> Pipeline:
        """The same pipeline, but a failed attempt is not retried."""
        return attrs.evolve(self, policy=attrs.evolve(self.policy, max_retries=0))

    def for_operation(self, operation: Operation[Any, Any]) -> Pipeline:
        """Return the pipeline for the requests of an operation: one that is not `repeatable` has other retries."""
        if operation.repeatable:
            return self
        return attrs.evolve(self, policy=attrs.evolve(self.policy, only_refused=True), resend=False)

    # The two kinds of calls

    async def call(
        self,
        translation: Translation,
        read: Callable[[WireResponse], T],
        deadline: CallDeadline,
        on_retry: RetryCallback,
        *,
        has_lines: bool = False,
    ) -> T:
        """Send a request, read the whole body, and return the result of `read`."""

        async def attempt(exchange: AbstractAsyncContextManager[ByteStream], answer: Answer) -> T:
            async with exchange as byte_stream:
                answer.arrived(byte_stream.status, byte_stream.headers)
                if not 200 <= byte_stream.status < 300:
                    raise await read_error(byte_stream, self.settings, self.read_timeouts, self.parser, deadline)
                check_headers(byte_stream, self.settings)
                response = await read_body(byte_stream, self.settings, self.read_timeouts, has_lines=has_lines)
            return parse_body(response, read)

        self.refuse_if_strict(translation)
        return await self._attempts(translation.wire_request, attempt, deadline, on_retry)

    async def stream(
        self,
        translation: Translation,
        deadline: CallDeadline,
        on_retry: RetryCallback,
        parser: GuardedParser | None = None,
    ) -> EventReader:
        """Send a request and read the stream up to its first event with content. `parser` replaces the service's."""

        async def attempt(exchange: AbstractAsyncContextManager[ByteStream], answer: Answer) -> EventReader:
            reader = EventReader(
                exchange,
                context=self.context,
                parser=parser or self.parser,
                deadline=deadline,
                read_timeouts=self.read_timeouts,
                warnings=translation.warnings,
                family=translation.family,
                answer=answer,
            )
            await reader.open()
            return reader

        self.refuse_if_strict(translation)
        return await self._attempts(translation.wire_request, attempt, deadline, on_retry)

    async def resume(self, point: ResumePoint, deadline: CallDeadline, on_retry: RetryCallback) -> EventReader:
        """Read the stream of a response that runs in the background on from a point."""
        operation = self.steps.operations.resume_stream
        if operation is None:
            name, provider = self.context.name, self.context.provider
            raise UnsupportedOperation(f"service {name!r}: the provider {provider!r} has no resume_stream")
        request = self.run_step("operations", operation.build, self.context, point)
        parser = GuardedParser(self.steps.parser, self.at_border, partial(operation.stream, self.context, point))
        return await self.stream(Translation(wire_request=request), deadline, on_retry, parser)

    # Before the request

    def model(self, requested: str | None) -> str:
        """Return the model to use. Raises `ConfigurationError` if neither the request nor the settings name one."""
        model = requested or self.settings.default_model
        if not model:
            problem = "is not set, and the request names no model; set one of the two"
            raise setting_error("default_model", problem, service=self.context.name)
        return model

    async def prepare(
        self, request: ChatRequest, deadline: CallDeadline
    ) -> tuple[ChatRequest, tuple[CallWarning, ...]]:
        """Return a request as the translator gets it, with warnings about what was left out.

        Its model is set, the token limits are applied, and media are fetched that the provider accepts only as bytes.
        """
        model = self.model(request.model)
        with_model = request if request.model == model else attrs.evolve(request, model=model)
        request, warnings = await self.limits.apply(with_model, _Ask(self, deadline))
        if self.steps.bytes_only_media and self.settings.fetch_urls:
            from trunkline._calls.fetch import fetch_parts

            request = await fetch_parts(request, self.steps.bytes_only_media)
        return request, warnings

    async def translate(self, request: ChatRequest, deadline: CallDeadline, *, stream: bool) -> Translation:
        """Prepare and translate a request. The warnings of both are in the result."""
        request, warnings = await self.prepare(request, deadline)
        translation = self.run_step("translator", self.steps.translator.translate, request, stream=stream)
        if not warnings and not translation.warnings:
            return translation
        return attrs.evolve(translation, warnings=merged((*warnings, *translation.warnings)))

    def read_chat(self, wire_response: WireResponse) -> ChatResponse:
        """Parse the whole body of a chat, and add the rate limits from the headers."""
        response = self.parser.body(wire_response)
        # Set in place: the parser made this object for this call.
        object.__setattr__(response, "rate_limits", self.rate_limits(wire_response))
        return response

    def rate_limits(self, wire_response: WireResponse) -> RateLimits | None:
        """Return the rate limits that the headers of a response report."""
        return read_rate_limits(wire_response.headers, self.steps.rate_limits)

    def finish_body(
        self, response: ChatResponse, warnings: tuple[CallWarning, ...], family: str | None
    ) -> ChatResponse:
        """Return the response of a whole body, with the model's family, the names of service and provider, and
        the warnings of the request and of the core.
        """
        # A parser that folds events has these warnings already.
        new = tuple(
            warning
            for warning in response_warnings(response.parts, response.finish_reason)
            if warning not in response.warnings
        )
        parts = with_family(response.parts, family)
        if warnings or new or response.provider != self.context.provider or parts is not response.parts:
            every = (*warnings, *response.warnings, *new)
            response = attrs.evolve(response, parts=parts, provider=self.context.provider, warnings=every)
        # Set in place: the parser made this object for this call, and a copy would take a twentieth of its time.
        object.__setattr__(response, "service", self.context.name)
        return response

    def refuse_if_strict(self, translation: Translation) -> None:
        """Raise `UnsupportedRequest` if the service is strict and the translation has a lossy warning."""
        if not self.settings.strict:
            return
        lossy = [warning for warning in translation.warnings if warning.lossy]
        if lossy:
            lines = "".join(f"\n  - {warning}" for warning in lossy)
            raise UnsupportedRequest(
                f"service {self.context.name!r} is strict, so the request was not sent. "
                f"Without strict, it would be sent with these warnings:{lines}"
            )

    # The attempts

    async def _attempts(
        self,
        wire_request: WireRequest,
        attempt: Callable[[AbstractAsyncContextManager[ByteStream], Answer], Awaitable[T]],
        deadline: CallDeadline,
        on_retry: RetryCallback,
    ) -> T:
        # Two kinds of failure lead to another attempt. A 401 does once, if `Auth` then has other credentials: the old
        # ones may have expired, and the same ones would only fail again. A retryable error does while the policy, the
        # deadline and the retry budget allow it; if one of them does not, the error is raised at once.
        wire_request = wire_request.with_headers(self.settings.headers)
        failures = 0
        stale: Credentials | None = None
        refused: TrunklineError | None = None
        scheduled = False  # whether a retry has been sent at the time that the provider asked for
        while True:
            answer = Answer(wire_request, self.steps.rate_limits)
            # For each attempt: a token may have expired while a retry waited.
            credentials: Credentials | None = None
            try:
                credentials = await self._credentials(stale)
                if refused is not None and credentials == stale:
                    raise refused
                for gate in self.gates:
                    await gate.attempt()
                for gate in self.gates:
                    gate.sent()
                if (call := call_variable.get()) is not None:
                    call._count_request()
                result = await attempt(self._send(wire_request, credentials), answer)
            except BaseException as error:
                failed = self.at_border(error)
            else:
                self.retry_budget.give()
                for gate in self.gates:
                    gate.answered(answer.rate_limits())
                return result
            if not isinstance(failed, TrunklineError):
                raise failed
            answer.complete(failed)
            failed = self.finalize_error(failed)
            if isinstance(failed, RemoteError):
                for gate in self.gates:
                    gate.failed(failed)
            if isinstance(failed, AuthenticationError) and credentials is not None and refused is None:
                refused, stale = failed, credentials
                deadline.resume()
                continue
            failures += 1
            delay = self.policy.delay(failures, failed)
            if not isinstance(failed, RemoteError):
                raise failed
            if delay is None:
                self._explain_limit(failed, failures)
                raise failed
            if anyio.current_time() + delay >= deadline.end:
                _add_reason(failed, f"a wait of {math.ceil(delay)} s would exceed total_timeout ({deadline.total:g} s)")
                raise failed
            free = failed.retry_after is not None and not scheduled
            if free:
                scheduled = True
            elif not self.retry_budget.take():
                _add_reason(
                    failed,
                    f"too many calls of service {self.context.name!r} failed lately (its retry budget is empty)",
                )
                raise failed
            try:
                deadline.resume()
                on_retry(failed, delay)
                await anyio.sleep(delay)
            except BaseException:
                if not free:
                    self.retry_budget.give()  # cancelled: the retry that the token paid for is not sent
                raise

    async def enter(self, resources: AsyncExitStack, manager: AbstractAsyncContextManager[object], step: Step) -> None:
        """Enter the context manager of a step, to be left with `resources`."""

        async def leave(*exc_info: Any) -> bool | None:
            try:
                return await manager.__aexit__(*exc_info)
            except BaseException as error:
                failed = self.at_border(error, step)
            raise failed

        try:
            await manager.__aenter__()
        except BaseException as error:
            failed = self.at_border(error, step)
        else:
            resources.push_async_exit(leave)
            return
        raise failed

    async def acquire(self, *, refresh: bool = False) -> Credentials:
        """Return credentials from the service's `Auth`."""
        try:
            return Credentials(await self.steps.auth.acquire(refresh=refresh))
        except BaseException as error:
            failed = self.at_border(error, "auth")
        raise failed

    async def _credentials(self, stale: Credentials | None) -> Credentials:
        """Return the credentials for the next attempt: not the `stale` ones, if `Auth` can get others."""
        credentials = await self.acquire()
        if credentials == stale:  # if they differ, another call has refreshed them
            credentials = await self.acquire(refresh=True)
        return credentials

    def _sign(self, wire_request: WireRequest, credentials: Credentials) -> WireRequest:
        signed = self.run_step("auth", lambda: self.steps.auth.sign(wire_request, credentials.value))
        if "@" not in signed.url:
            return signed
        # HTTP libraries differ in what they send if a URL has a login and the request an `Authorization`.
        url, login = split_login(signed.url)
        return _with_login(attrs.evolve(signed, url=url), login)

    def _sign_further(self, first: WireRequest, credentials: Credentials, further: WireRequest) -> WireRequest:
        """Sign a request that a transport sends after the `first` one, for the same call: see `SendOptions.sign`."""
        if not same_origin(further.url, first.url):
            shown, server = redact_url(further.url), redact_url(urljoin(first.url, "/"))
            raise ProtocolViolation(
                f"a further request of the call leads to {single_line(shown, 500)}, which is not on {server}; it was "
                "not sent, since that would send the credentials there"
            )
        signed = self._sign(further.with_headers(self.settings.headers), credentials)
        _, login = split_login(first.url)  # a URL from a response is without it
        return _with_login(signed, login)

    def _explain_limit(self, failed: RemoteError, failures: int) -> None:
        """If the provider asks for too long a wait, and nothing else prevents a retry, add that to the message."""
        limit, asked = self.policy.retry_after_limit, failed.retry_after
        if asked is None or not self.policy.exceeds_limit(failed):
            return
        if failed.retryable and failures <= self.policy.max_retries:
            most = "any call waits" if limit is None else f"retry_after_limit ({limit:g} s)"
            _add_reason(failed, f"the provider asks for a wait of {math.ceil(asked)} s, more than {most}")

    # Errors

    def at_border(self, error: BaseException, step: Step = "transport", *, owner: str | None = None) -> BaseException:
        """Return the exception to raise for one that a step raised, without secrets and without its traceback.

        `owner` is the name of the plugin that the step belongs to, if the service has several such steps.

        Call it in the `except` block, and raise the result after that block; see `_calls/borders.py`.
        """
        if isinstance(error, BaseExceptionGroup):
            error = without_cancellations(error)
        if isinstance(error, ExceptionGroup):
            error = most_telling(error) or error
        if step == "parser":
            error = blamed_on_provider(error)
        if is_foreign_cancellation(error):
            message = "a task that it waited for was cancelled, but the call was not"
            error = RuntimeError(message).with_traceback(error.__traceback__)
        if isinstance(error, Exception) and not isinstance(error, TrunklineError):
            error = plugin_error(self.context.name, STEPS[step], owner or self.steps.owners[step], error)
        else:
            error = without_traceback(error)
        return self.finalize_error(error) if isinstance(error, TrunklineError) else error

    def run_step(self, step: Step, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function of a plugin. An exception passes through `at_border`."""
        return run_step(self.at_border, step, function, *args, **kwargs)

    def known_secrets(self) -> tuple[str, ...]:
        """Return the secrets of the settings and of the environment, and those that the service's `Auth` acquired."""
        acquired = (*self.client_secrets(), *acquired_secrets(self.context, self.steps))
        return (*self.secrets, *without_names(acquired, self.context.name, self.context.provider))

    def finalize_error(self, error: TrunklineError) -> TrunklineError:
        """Add the names of the service and the provider to an error, and remove the service's secrets from it."""
        try:
            secrets = self.known_secrets()
        except PluginError as broken:  # the secrets that may be in `error` are not known
            error, secrets = cast(TrunklineError, without_traceback(broken)), self.secrets
        self._add_advice(error)
        error = scrub_error(error, secrets)
        show_in_one_line(error)
        error.service = error.service or self.context.name
        if isinstance(error, RemoteError):
            error.provider = error.provider or self.context.provider
            # A traceback also shows the cause.
            if isinstance(error.__cause__, RemoteError):
                self.finalize_error(error.__cause__)
        return error

    def _add_advice(self, error: TrunklineError) -> None:
        """Add the provider's advice about an error. If the plugin fails to advise, the error stays as it is.

        A provider knows nothing about a proxy that failed, or about the proxy or firewall that answers with a web page.
        Its advice about a page that is not found still helps, since the URL may be wrong.
        """
        if (
            error.advice is not None
            or error.problem == "proxy"
            or (is_web_page(error) and not isinstance(error, NotFound))
        ):
            return
        with suppress(Exception):
            advice = self.steps.advice(self.context, error)
            if advice is not None:
                error.advice, error.problem = str(advice.text), advice.problem or error.problem


@attrs.frozen
class _Ask:
    """Sends the requests that preparing a call needs, within its deadline."""

    pipeline: Pipeline
    deadline: CallDeadline

    async def __call__(self, operation: Operation[V, R], value: V, kind: type[object]) -> R:
        pipeline, deadline = self.pipeline, self.deadline
        # One retry, since a server may close an idle connection. The call itself does not depend on the result.
        policy = attrs.evolve(pipeline.policy, max_retries=min(pipeline.policy.max_retries, 1))
        translation = pipeline.run_step("operations", operation.translation, pipeline.context, value)
        parse = partial(parse_result, pipeline.at_border, pipeline.context, operation)
        try:
            result = await attrs.evolve(pipeline, policy=policy, gates=()).call(
                translation, parse, deadline, _ignore_retry
            )
        except BaseException:
            deadline.resume()  # the call goes on
            raise
        pipeline.run_step("operations", _check_result, result, kind)
        return result


def _ignore_retry(error: TrunklineError, delay: float) -> None:
    pass


def _check_result(result: object, kind: type[object]) -> None:
    if not isinstance(result, kind):
        raise TypeError(f"parse returned a value of type {type(result).__name__}, not a {kind.__name__}")


def _with_login(signed: WireRequest, login: str | None) -> WireRequest:
    if login is None:
        return signed
    return attrs.evolve(signed, headers={"authorization": login, **signed.headers})


def _add_reason(failed: RemoteError, reason: str) -> None:
    """Add to an error's message why the call is not retried."""
    failed.message += f"; not retried, because {reason}"
    failed.args = (failed.message,)
