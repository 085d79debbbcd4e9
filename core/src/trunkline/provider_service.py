"""`ProviderService`, a configured provider that an application calls."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, TypeVar, cast

import anyio
import attrs

from trunkline._calls.batch_calls import CALLS as BATCH_CALLS
from trunkline._calls.borders import run_step
from trunkline._calls.deadline import CallDeadline
from trunkline._calls.middleware import chat_through, perform_through, run_through
from trunkline._calls.model_pages import ModelPages
from trunkline._calls.observed import ObservedCall, ServiceCall
from trunkline._calls.options import NO_OPTIONS, CallOptions
from trunkline._calls.pipeline import Pipeline, parse_result
from trunkline._calls.retry import RetryBudget, RetryPolicy
from trunkline._event_loops import PerLoop
from trunkline._http.choice import HTTPTransports, SharedTransport
from trunkline._http.proxies import environment_secrets
from trunkline._kept import KeptObjects
from trunkline._masking import without_keys
from trunkline._plugins.plugin_errors import plugin_error
from trunkline._plugins.registry import Steps, open_steps, provider_label
from trunkline.authoring.provider import Operation, Provider, ServiceContext, Translation, Transport
from trunkline.authoring.results import check_result
from trunkline.authoring.warnings import merged
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    CallError,
    ProtocolViolation,
    ServiceClosed,
    TrunklineError,
    UnsupportedOperation,
)
from trunkline.events import ResumePoint
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, ModelInfo
from trunkline.secrets import scrub, scrub_error, without_names, without_traceback
from trunkline.service import Service
from trunkline.settings import Settings, replaced, setting_infos
from trunkline.stream import CLOSING_LIMIT, PipelineStream, Stream

T = TypeVar("T")
V = TypeVar("V")
R = TypeVar("R")

_log = logging.getLogger("trunkline")


def _check_count(count: object) -> None:
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"count_tokens must return an int, not a value of type {type(count).__name__}")


def _check_class(result: object, wanted: type, name: str) -> None:
    if not isinstance(result, wanted):
        raise TypeError(f"{name} must return a {wanted.__name__}, not a value of type {type(result).__name__}")


class _LoopPart:
    """What a service has open in one event loop, and the calls that run in it."""

    def __init__(self) -> None:
        self.pipeline: Pipeline | None = None
        self.resources = AsyncExitStack()
        self.opening = anyio.Lock()  # held by the call that opens the service
        self.calls: set[anyio.CancelScope] = set()
        self.streams: set[Stream] = set()
        self.closing = False
        self._no_calls = anyio.Event()  # set when the last call has ended, once `closing` is true

    def call_ended(self, scope: anyio.CancelScope) -> None:
        self.calls.discard(scope)
        if self.closing and not self.calls:
            self._no_calls.set()

    async def end_calls(self) -> None:
        # Running calls are cancelled: their scopes are open in the tasks that make them. A stream has no scope that
        # stays open, so it is closed, which interrupts its reads. Both raise `ServiceClosed` in their own tasks.
        self.closing = True
        for scope in tuple(self.calls):
            scope.cancel()
        async with anyio.create_task_group() as tasks:
            for stream in tuple(self.streams):
                tasks.start_soon(_close_stream, stream)
            if self.calls:
                with anyio.move_on_after(CLOSING_LIMIT):
                    await self._no_calls.wait()


class _State:
    """What all views of a service and all event loops share."""

    def __init__(self) -> None:
        self.parts = PerLoop(_LoopPart, _close_part)
        self.closed = False
        self.retry_budget = RetryBudget()
        self.kept = KeptObjects()
        self.noted = False


class ProviderService(Service):
    """A configured provider, ready to be called. `open_service` makes one.

    `settings` are its settings. Each event loop has its own connections and credentials, which are closed when the loop
    ends.
    """

    def __init__(
        self,
        name: str,
        provider: Provider,
        settings: Settings,
        *,
        transports: HTTPTransports,
    ) -> None:
        super().__init__(name)
        self.settings = settings
        """The settings that the service was opened with."""
        self._provider = provider
        self._transports = transports
        self._state = _State()

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._provider.name

    def __repr__(self) -> str:
        return f"<Service {self.name!r} of {self.provider}>"

    def _own_total_timeout(self) -> float | None:
        return self._options.total_timeout(self.settings.total_timeout)

    # Calls

    @property
    def _default_model(self) -> str | None:
        return self.settings.default_model

    def _with_model(self, request: ChatRequest) -> ChatRequest:
        model = self.settings.default_model
        return request if request.model is not None or model is None else attrs.evolve(request, model=model)

    async def _chat(self, request: ChatRequest, outer: CallOptions) -> ChatResponse:
        async def send(pipeline: Pipeline, request: ChatRequest, call: ObservedCall) -> ChatResponse:
            translation = await pipeline.translate(request, call.deadline, stream=False)
            response = await pipeline.call(translation, pipeline.read_chat, call.deadline, call.retried)
            return pipeline.finish_body(response, translation.warnings, translation.family)

        return await self._run("chat", self._with_model(request), send, outer, chat_through)

    def _stream(self, request: ChatRequest, outer: CallOptions) -> Stream:
        return self._stream_of(self._with_model(request), outer)

    def _resume(self, point: ResumePoint, outer: CallOptions) -> Stream:
        return self._stream_of(point, outer)

    def _stream_of(self, request: ChatRequest | ResumePoint, outer: CallOptions) -> Stream:
        options = self._options.within(outer)
        return PipelineStream(
            request,
            options,
            service=self.name,
            provider=self.provider,
            total_timeout=options.total_timeout(self.settings.total_timeout),
            open_streams=self._open_streams,
            open_service=lambda: self._open(self._part(), options),
            service_is_closed=self._is_closed,
        )

    async def _list_models(self, outer: CallOptions) -> tuple[ModelInfo, ...]:
        async def send(pipeline: Pipeline, _: None, call: ObservedCall) -> tuple[ModelInfo, ...]:
            operation = self._operation(pipeline.steps.operations.list_models, "list_models")
            pages = ModelPages()
            while True:
                translation = pipeline.run_step("operations", operation.translation, pipeline.context, pages.cursor)
                parse = partial(parse_result, pipeline.at_border, pipeline.context, operation)
                problem = pages.add(await pipeline.call(translation, parse, call.deadline, call.retried))
                if problem is not None:
                    raise pipeline.finalize_error(ProtocolViolation(f"the list of models has no end: {problem}"))
                if pages.cursor is None:
                    return pages.models

        return await self._run("list_models", None, send, outer, partial(run_through, result_class=tuple))

    async def _count_tokens(self, request: ChatRequest, outer: CallOptions) -> int:
        async def send(pipeline: Pipeline, request: ChatRequest, call: ObservedCall) -> int:
            operation = self._operation(pipeline.steps.operations.count_tokens, "count_tokens")
            prepared, warnings = await pipeline.prepare(request, call.deadline)
            translation = pipeline.run_step("operations", operation.translation, pipeline.context, prepared)
            translation = attrs.evolve(translation, warnings=(*warnings, *translation.warnings))
            self._log_warnings("count_tokens", translation)
            parse = partial(parse_result, pipeline.at_border, pipeline.context, operation)
            count = await pipeline.call(translation, parse, call.deadline, call.retried)
            pipeline.run_step("operations", _check_count, count)
            return count

        through = partial(run_through, value_class=ChatRequest, result_class=int)
        return await self._run("count_tokens", self._with_model(request), send, outer, through)

    async def _perform(self, name: str, value: object, result: type[R], outer: CallOptions) -> R:
        async def send(pipeline: Pipeline, value: object, call: ObservedCall) -> R:
            operation = self._operation(getattr(pipeline.steps.operations, name), name)
            if not getattr(value, "model", "none"):
                value = attrs.evolve(cast(Any, value), model=pipeline.model(None))
            translation = pipeline.run_step("operations", operation.translation, pipeline.context, value)
            known: dict[str, object] = {"provider": self.provider, "service": self.name}

            def parse(wire_response: WireResponse) -> Any:
                response = parse_result(pipeline.at_border, pipeline.context, operation, wire_response)
                pipeline.run_step("operations", _check_class, response, result, name)
                pipeline.run_step("operations", check_result, value, response)
                known["rate_limits"] = pipeline.rate_limits(wire_response)
                return response

            response = await pipeline.for_operation(operation).call(translation, parse, call.deadline, call.retried)
            if isinstance(response, ChatResponse):
                response = pipeline.finish_body(response, (), None)
            own_warnings = getattr(response, "warnings", ())
            known["warnings"] = pipeline.run_step("operations", merged, (*translation.warnings, *own_warnings))
            fields = {field: known[field] for field in known if hasattr(response, field)}
            return cast(R, attrs.evolve(response, **fields))

        return await self._run(name, value, send, outer, partial(perform_through, result_class=result))

    async def _run_operation(self, operation: Operation[V, R], value: V, outer: CallOptions) -> R:
        function = getattr(operation.parse, "func", operation.parse)  # of a `functools.partial`
        module = getattr(function, "__module__", type(function).__module__)

        async def send(pipeline: Pipeline, value: V, call: ObservedCall) -> R:
            at_border = partial(pipeline.at_border, owner=f"the module {module}")
            translation = run_step(at_border, "operations", operation.translation, pipeline.context, value)
            run_step(at_border, "operations", self._log_warnings, operation.name, translation)
            parse = partial(parse_result, at_border, pipeline.context, operation)
            return await pipeline.for_operation(operation).call(translation, parse, call.deadline, call.retried)

        return await self._run(operation.name, value, send, outer, run_through)

    async def _call_batches(self, name: str, value: object, result: type[R], outer: CallOptions) -> R:
        async def send(pipeline: Pipeline, value: object, call: ObservedCall) -> R:
            return cast(R, await BATCH_CALLS[name](pipeline, value, call))

        return await self._run(name, value, send, outer, partial(run_through, result_class=result))

    async def _authenticate(self, outer: CallOptions) -> None:
        async def send(pipeline: Pipeline, _: None, call: ObservedCall) -> None:
            await pipeline.acquire()

        await self._run("authenticate", None, send, outer)

    async def aclose(self) -> None:
        self._state.closed = True
        try:
            await self._state.parts.aclose()
        finally:
            self._state.kept.clear()

    def _operation(self, operation: T | None, name: str) -> T:
        if operation is None:
            raise UnsupportedOperation(f"service {self.name!r}: the provider {self.provider!r} has no {name}")
        return operation

    def _part(self) -> _LoopPart:
        """Return the part of the running event loop. Raises `ServiceClosed` if the service is closed or closing."""
        if not self._state.closed:
            try:
                part = self._state.parts.get()
            except RuntimeError:
                raise CallError("no event loop of asyncio or trio is running", service=self.name) from None
            if not part.closing:
                return part
        raise ServiceClosed(f"service {self.name!r} is closed", service=self.name)

    def _is_closed(self) -> bool:
        return self._state.closed

    def _open_streams(self) -> set[Stream]:
        return self._part().streams

    async def _open(self, part: _LoopPart, options: CallOptions = NO_OPTIONS) -> Pipeline:
        """Open the service in the running event loop, unless another call did, and return the pipeline for a call.

        If the call that opens it is cancelled or runs out of time, the next one that waits opens it.
        """
        if part.pipeline is None:
            async with part.opening:
                if part.pipeline is None:
                    part.pipeline = await self._make_pipeline(part)
        return part.pipeline if options is NO_OPTIONS else self._with_options(part.pipeline, options)

    def _with_options(self, pipeline: Pipeline, options: CallOptions) -> Pipeline:
        """Return a pipeline that differs from the service's in the settings that the options change."""
        changes = options.settings_for(self.settings)
        is_set = "max_retries" in changes or self.settings.max_retries != _DEFAULT_RETRIES
        no_retries = options.is_not_last and not is_set
        if options.gates:
            pipeline = attrs.evolve(pipeline, gates=options.gates)
        if not changes:
            return pipeline.without_retries if no_retries else pipeline
        settings = replaced(self.settings, changes)
        pipeline = attrs.evolve(
            pipeline,
            context=attrs.evolve(pipeline.context, settings=settings),
            policy=_policy(settings),
            resend=settings.max_retries > 0,
            secrets=self._secrets(settings) if "headers" in changes else pipeline.secrets,
        )
        return pipeline.without_retries if no_retries else pipeline

    def _secrets(self, settings: Settings | None = None) -> tuple[str, ...]:
        secrets = (*(settings or self.settings).secrets(), *environment_secrets(), *self._transports.secrets())
        return without_names(secrets, self.name, self.provider)

    async def _make_pipeline(self, part: _LoopPart) -> Pipeline:
        own = self._transports.shared(self.settings)
        context = ServiceContext(
            name=self.name, provider=self.provider, settings=self.settings, transport=own, kept=self._state.kept
        )
        try:
            self._log_notes()
            steps = open_steps(self._provider, context, self.settings.extensions, own)
        except Exception as error:
            known = isinstance(error, TrunklineError)
            opened = (
                without_traceback(error)
                if known
                else plugin_error(self.name, "settings", provider_label(self._provider), error)
            )
            failed = cast(TrunklineError, opened)
            failed.service = failed.service or self.name
            failed = scrub_error(failed, self._secrets())
        else:
            pipeline = self._pipeline_of(context, steps, steps.transport or own, own.secrets)
            async with AsyncExitStack() as resources:
                resources.push_async_exit(own)
                await pipeline.enter(resources, pipeline.transport, "transport")
                await pipeline.enter(resources, steps.auth, "auth")
                if part.closing or self._state.closed:
                    raise ServiceClosed(f"service {self.name!r} was closed while it opened", service=self.name)
                part.resources = resources.pop_all()
            return pipeline
        raise failed

    def _pipeline_of(
        self,
        context: ServiceContext[Settings],
        steps: Steps,
        transport: Transport,
        client_secrets: Callable[[], tuple[str, ...]],
    ) -> Pipeline:
        return Pipeline(
            context=context,
            steps=steps,
            transport=transport,
            policy=_policy(self.settings),
            resend=self.settings.max_retries > 0,
            retry_budget=self._state.retry_budget,
            secrets=self._secrets(),
            client_secrets=client_secrets,
        )

    def _log_warnings(self, operation: str, translation: Translation) -> None:
        for warning in translation.warnings:
            _log.warning("service %r: %s: %s", without_keys(self.name), operation, warning)

    def _log_notes(self) -> None:
        if not self._state.noted:
            self._state.noted = True
            for setting, note in self.settings.notes():
                note = without_keys(scrub(note, self._secrets()))
                _log.warning("service %r: setting %r: %s", without_keys(self.name), setting, note)

    async def _run(
        self,
        operation: str,
        value: V,
        send: Callable[[Pipeline, V, ObservedCall], Awaitable[T]],
        outer: CallOptions,
        through: Callable[[ServiceCall, V, Callable[[V], Awaitable[T]]], Awaitable[T]] | None = None,
    ) -> T:
        """Make a call. `send` makes it without middlewares, and `through` calls `send` through those of the service."""
        options = self._options.within(outer)
        part = self._part()
        deadline = CallDeadline(options.total_timeout(self.settings.total_timeout), options.time_limit)
        scope = deadline.scope
        call: ServiceCall | None = None
        part.calls.add(scope)
        try:
            try:
                with scope, deadline:
                    pipeline = await self._open(part, options)
                    call = ServiceCall(pipeline, operation, deadline, options)
                    if through is None or not pipeline.steps.middlewares:
                        result = await call.make(send, value)
                    else:
                        result = await through(call, value, partial(call.make, send))
                    call.finished(result)
                    return result
            except BaseException as error:
                if call is not None:
                    call.failed(error)
                raise
            # The scope was cancelled: by the closing of the service, otherwise by the deadline.
            ended: TrunklineError
            if part.closing:
                ended = ServiceClosed(f"service {self.name!r} was closed during the call", service=self.name)
            else:
                ended = deadline.timeout_error(provider=self.provider, service=self.name)
            if call is not None:
                call.failed(ended)
            raise ended
        finally:
            part.call_ended(scope)


def last_endpoint(service: ProviderService) -> str | None:
    """Return the method and URL of the last request that a service sent in this event loop, or `None`.

    It is always `None` if the provider has a transport of its own.
    """
    pipeline = service._part().pipeline
    transport = pipeline and pipeline.context.transport
    return transport.last_endpoint if isinstance(transport, SharedTransport) else None


_DEFAULT_RETRIES = next(info.default for info in setting_infos(Settings) if info.name == "max_retries")


def _policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(max_retries=settings.max_retries, retry_after_limit=settings.retry_after_limit)


async def _close_stream(stream: Stream) -> None:
    with suppress(TrunklineError):  # nobody waits for this stream, and the others must be closed too
        await stream.aclose()


async def _close_part(part: _LoopPart) -> None:
    """Close what a service has open in the running event loop. Nothing in here waits without a limit."""
    try:
        await part.end_calls()
    finally:
        if part.pipeline is not None:
            part.pipeline.read_timeouts.close()
        with anyio.move_on_after(CLOSING_LIMIT):
            await part.resources.aclose()
