"""`ExtensionTests`, the tests of an extension: of its middlewares, observers and authentication.

from trunkline.testing import ExtensionTests

class TestCache(ExtensionTests):
    def extension(self) -> object:
        return Cache({})
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, ClassVar

import anyio
import attrs
import pytest

from trunkline._config.sources import make_settings
from trunkline._http.choice import HTTPTransports
from trunkline._plugins.registry import open_steps
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import CallError, PluginError, RemoteError, TrunklineError
from trunkline.messages import user
from trunkline.provider_service import ProviderService
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, EmbedResponse
from trunkline.testing.extension_toy import ANSWERED, ASKED, RESPONSES, Answer, Probe, toy_provider
from trunkline.testing.kit import LIMIT, PROXY_VARIABLES, KitTests, assert_no_secret, check_subclass
from trunkline.testing.server import LoopbackServer, serve

CALLS = 5
"""How many calls are made at the same time."""

_ENDS = (
    "left early",
    "error of the application",
    "error of the provider",
    "cancelled read",
    "cancelled between reads",
)
"""How a stream ends before it is read to its end."""

_METHODS = pytest.mark.parametrize("method", ["chat", "stream"])
_OPERATIONS = pytest.mark.parametrize("method", ["chat", "stream", "embed"])


class _LeftByTheApplication(Exception):
    """An error of the application, raised while it reads a stream."""


@attrs.frozen
class _Opened:
    """A service with the extension between two probes, and its server."""

    service: ProviderService
    server: LoopbackServer
    answer: Answer
    outer: Probe
    inner: Probe


class ExtensionTests(KitTests):
    """The tests of an extension. Subclass it and override `extension`.

    The tests make calls of a provider of their own, whose server returns the text of the request's last message, in
    streams cut into pieces of three characters. These attributes may be set:

    - `request`: a request that the extension lets through to the provider, and whose text it acts on.
    - `refused`: requests that the extension refuses.
    - `secrets`: the secrets that `extension` gives to the extension. Nothing may show them.
    - `provider`: the name of the provider, for an extension that acts only on some providers.
    - `skips`: tests to leave out, by name, each with the reason.

    `folder` is an empty temporary folder, in which `extension` may keep files. Some tests run in a process of their
    own, so `extension` and `failing_extension` cannot use fixtures of pytest.
    """

    request: ClassVar[ChatRequest] = ChatRequest(messages="Why is the sky blue?")
    refused: ClassVar[Sequence[ChatRequest]] = ()
    secrets: ClassVar[Sequence[str]] = ()
    provider: ClassVar[str] = "toy"
    folder: Path

    def extension(self) -> object:
        """Make the extension, in a form that the setting `extensions` accepts. Called once for each service."""
        raise NotImplementedError("override the method 'extension'")

    def failing_extension(self) -> object | None:
        """Make an extension that fails in every call, such as a log whose file cannot be written.

        Returns `None` if there is no such failure.
        """
        return None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_subclass(cls, ExtensionTests)
        for name in ("extension", "failing_extension"):
            if name not in vars(cls):
                continue
            made = vars(cls)[name]
            is_fixture = not isinstance(made, (FunctionType, staticmethod, classmethod))
            if is_fixture or (isinstance(made, FunctionType) and len(inspect.signature(made).parameters) != 1):
                raise TypeError(
                    f"{cls.__name__}.{name} must be a method without arguments. It cannot use fixtures of pytest, "
                    "since it is also called in a process of its own; for files, use the temporary folder self.folder"
                )

    # Fixtures and helpers

    @pytest.fixture(autouse=True)
    def _in_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    @asynccontextmanager
    async def _opened(self, answer: Answer | None = None, **changes: Any) -> AsyncIterator[_Opened]:
        """Open a service with a new extension, or with `extension` if it is among the `changes` of the settings.

        The block fails if it takes longer than `LIMIT`.
        """
        inner = Probe()
        outer = Probe(inner)
        extension = changes.pop("extension") if "extension" in changes else self.extension()
        tested = [] if extension is None else [extension]
        provider = toy_provider(self.provider)
        values = {"default_model": "m", "max_retries": 0, "extensions": [outer, *tested, inner], **changes}
        answer = answer or Answer()
        with anyio.fail_after(LIMIT):
            async with serve(answer) as server:
                settings = make_settings("tested", provider, arguments={"api_url": server.url, **values}, environ={})
                async with ProviderService("tested", provider, settings, transports=HTTPTransports(None)) as service:
                    yield _Opened(service, server, answer, outer, inner)

    async def _call(
        self, service: ProviderService, method: str, request: ChatRequest | None = None
    ) -> ChatResponse | EmbedResponse:
        """Make a call of `chat`, `stream` or `embed`, and return its response."""
        request = request or self.request
        if method == "embed":
            return await service.embed(request.messages[-1].text, model=request.model)
        if method == "chat":
            return await service.chat(request)
        async with service.stream(request) as stream:
            return await stream.finish()

    async def _ask(self, service: ProviderService, method: str, request: ChatRequest | None = None) -> ChatResponse:
        """Make a call of `chat` or `stream`, and return its response."""
        response = await self._call(service, method, request)
        assert isinstance(response, ChatResponse)
        return response

    # Responses

    @pytest.mark.parametrize("answer", list(RESPONSES))
    async def test_chat_and_stream_give_the_same_response(self, answer: str) -> None:
        """`chat` and `stream` give the same response, also if it has parts of all kinds, or none."""
        responses = []
        for method in ("chat", "stream"):
            async with self._opened(Answer(answer)) as opened:
                responses.append(await self._ask(opened.service, method))
        whole, streamed = map(_content, responses)
        for field, value in whole.items():
            assert streamed[field] == value, (
                f"chat and stream must give the same response; they differ in its field {field!r}: "
                f"chat gives {value!r}, and stream {streamed[field]!r}"
            )

    @_METHODS
    async def test_warnings_are_kept(self, method: str) -> None:
        """The response has the warnings about the request and those about the response."""
        async with self._opened() as opened:
            response = await self._ask(opened.service, method)
        for warning, event in ((ASKED, "ResponseStarted"), (ANSWERED, "Finished")):
            assert warning in response.warnings, (
                f"the response of {method} must keep all warnings; it lost {warning!r}, which a stream has in {event}"
            )

    @_METHODS
    async def test_concurrent_calls_do_not_mix(self, method: str) -> None:
        """Calls that run at the same time get the responses that each of them gets alone."""
        first = self.request.messages
        text = first[-1].text
        requests = [
            attrs.evolve(self.request, messages=(*first[:-1], user(f"{text} Number {number}.")))
            for number in range(CALLS)
        ]
        alone, together = {}, {}
        for number, request in enumerate(requests):
            async with self._opened() as opened:
                alone[number] = _content(await self._ask(opened.service, method, request))

        async def make(number: int, service: ProviderService) -> None:
            together[number] = _content(await self._ask(service, method, requests[number]))

        async with self._opened() as opened, anyio.create_task_group() as tasks:
            for number in range(CALLS):
                tasks.start_soon(make, number, opened.service)
        for number in range(CALLS):
            assert together[number] == alone[number], (
                f"{CALLS} calls of {method} at the same time must get the responses that each gets alone; keep what "
                "belongs to a call in local variables or in call.state, not in the extension"
            )

    @_METHODS
    async def test_different_requests_get_their_own_responses(self, method: str) -> None:
        """A request does not get the response to an earlier one that differs in a text, the history or a parameter."""
        messages = self.request.messages
        start = next((place for place, message in enumerate(messages) if message.role != "system"), 0)
        text = messages[-1].text
        requests = {
            "nothing": self.request,
            "the last message": attrs.evolve(self.request, messages=(*messages[:-1], user(f"{text} And why?"))),
            "an earlier message": attrs.evolve(
                self.request, messages=(*messages[:start], user("Hello."), *messages[start:])
            ),
            "max_output_tokens": attrs.evolve(
                self.request, max_output_tokens=(self.request.max_output_tokens or 1000) + 1
            ),
        }
        alone, together = {}, {}
        for difference, request in requests.items():
            async with self._opened(Answer(echoes_all=True)) as opened:
                alone[difference] = _content(await self._ask(opened.service, method, request))
        async with self._opened(Answer(echoes_all=True)) as opened:
            for difference, request in requests.items():
                together[difference] = _content(await self._ask(opened.service, method, request))
        for difference in requests:
            # An extension may answer both alike by intention, such as one that always gives the same answer.
            if alone[difference] != alone["nothing"]:
                assert together[difference] != together["nothing"], (
                    f"{method} must not give the response to an earlier request, from which this one differs in "
                    f"{difference}; the key of a cache must contain the whole request"
                )

    # Errors

    @_OPERATIONS
    @pytest.mark.parametrize("status", [400, 429, 500])
    async def test_error_of_the_provider_passes(self, method: str, status: int) -> None:
        """An error of the provider is the error that the application gets."""
        await self._compare_errors(method, Answer(status=status))

    async def test_error_in_a_stream_passes(self) -> None:
        """An error in the middle of a stream is the error that the application gets."""
        await self._compare_errors("stream", Answer(error=500))

    async def _compare_errors(self, method: str, answer: Answer) -> None:
        errors = []
        for changes in ({"extension": None}, {}):
            async with self._opened(answer, **changes) as opened:
                try:
                    await self._call(opened.service, method)
                except Exception as error:
                    errors.append(error)
                else:
                    raise AssertionError(f"{method} must raise the error of the provider; it returned a response")
        plain, passed = map(_facts, errors)
        assert passed == plain, f"{method} must raise the error of the provider unchanged"

    async def test_refused_calls_are_not_sent(self) -> None:
        """A refused request raises an own subclass of `CallError`, the same in `chat` and `stream`, and is not sent."""
        if not self.refused:
            pytest.skip("n/a: 'refused' has no requests")
        for request in self.refused:
            kinds = []
            for method in ("chat", "stream"):
                async with self._opened() as opened:
                    error = await self._error_of(opened, method, request, "refuse a request of 'refused'")
                    assert not opened.server.requests, f"{method} must refuse a request of 'refused' before it is sent"
                assert not isinstance(error, PluginError), (
                    f"{method} must refuse with a subclass of CallError; it raised: {error}"
                )
                kinds.append(type(error))
            assert kinds[0] is kinds[1], (
                f"chat and stream must refuse with the same error; chat raises {kinds[0].__name__}, and stream "
                f"{kinds[1].__name__}"
            )

    @_OPERATIONS
    async def test_failure_names_the_extension(self, method: str) -> None:
        """If the extension fails, the call fails with an error that names the extension and shows no secret."""
        failing = self.failing_extension()
        if failing is None:
            pytest.skip("n/a: 'failing_extension' returns None")
        async with self._opened(extension=failing) as opened:
            await self._error_of(opened, method, self.request, "fail if the extension fails")

    async def _error_of(self, opened: _Opened, method: str, request: ChatRequest, rule: str) -> TrunklineError:
        """Return the error of a call, which must name the extension. `rule` says what the method must do."""
        try:
            await self._call(opened.service, method, request)
        except TrunklineError as raised:
            error = raised
        else:
            raise AssertionError(f"{method} must {rule}; it returned a response")
        # The text of a `PluginError` names the extension; an own class does it by its module.
        own = isinstance(error, CallError) and type(error).__module__.partition(".")[0] != "trunkline"
        assert own or isinstance(error, PluginError), (
            f"{method} must raise an error that names the extension, a subclass of CallError of your own; it raised "
            f"{type(error).__name__}"
        )
        assert_no_secret("an error", error, self.secrets)
        return error

    # Streams and cancellation

    @pytest.mark.parametrize("end", _ENDS)
    async def test_stream_is_closed(self, end: str) -> None:
        """The stream of the provider is left together with the stream of the extension, however that ends."""
        answer = Answer(error=500 if end == "error of the provider" else None, hangs_in_stream=end == "cancelled read")
        async with self._opened(answer) as opened:

            async def read() -> None:
                async with opened.service.stream(self.request) as stream:
                    async for _ in stream:
                        match end:
                            case "left early":
                                break
                            case "error of the application":
                                raise _LeftByTheApplication
                            case "cancelled between reads":
                                await anyio.sleep_forever()

            if end.startswith("cancelled"):
                await self._cancelled(read, opened)
            else:
                with suppress(_LeftByTheApplication, RemoteError):
                    await read()
            assert not opened.outer.left_open, (
                f"the provider's stream stays open after this end: {end}; enter it with 'async with proceed(request)', "
                "and wrap generators in contextlib.aclosing"
            )

    async def _cancelled(self, make: Callable[[], Awaitable[object]], opened: _Opened) -> None:
        """Make a call and cancel it when it waits. If it waits on, let the server close the connection."""
        ended = anyio.Event()

        async def made() -> None:
            try:
                await make()
            finally:
                ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(made)
            while not opened.server.requests:
                await anyio.wait_all_tasks_blocked()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
                if not ended.is_set():
                    opened.answer.released.set()

    def test_cancellation_passes(self, anyio_backend: str) -> None:
        """A cancelled call of `chat`, `stream` and `embed` ends at once, and as cancelled.

        Runs in a process of its own, since a call that ignores its cancellation may never end.
        """
        self._run_apart("_check_cancellation", anyio_backend)

    async def _check_cancellation(self) -> None:
        """Cancel a call of each kind, before the response and in the middle of a stream."""
        for method, answer in (
            ("chat", Answer(hangs=True)),
            ("stream", Answer(hangs=True)),
            ("stream", Answer(hangs_in_stream=True)),
            ("embed", Answer(hangs=True)),
        ):
            async with self._opened(answer) as opened:
                await self._cancelled(partial(self._call, opened.service, method), opened)
                ended, cancelled = opened.outer.ends[-1], anyio.get_cancelled_exc_class().__name__
                if ended != cancelled:
                    raise AssertionError(f"a cancelled {method} did not end with the cancellation: {ended}")

    def test_no_scope_is_open_at_a_yield(self, anyio_backend: str) -> None:
        """A stream may be entered in one task and left in another: no cancel scope and no task group stays open.

        Runs in a process of its own, since a broken stack of scopes may end the event loop of trio.
        """
        self._run_apart("_check_tasks", anyio_backend)

    async def _check_tasks(self) -> None:
        """Enter a stream in one task; read it on and leave it in another."""
        for reads_on in (True, False):
            try:
                await self._in_two_tasks(reads_on)
            except BaseException as error:
                raise AssertionError(
                    "a stream that was entered in one task and left in another fails; "
                    "close task groups, cancel scopes and timeouts before each yield"
                ) from error

    async def _in_two_tasks(self, reads_on: bool) -> None:
        async with self._opened() as opened:
            stream = opened.service.stream(self.request)

            async def enter() -> None:
                await stream.__aenter__()
                await anext(stream)

            async def leave() -> None:
                if reads_on:
                    await stream.finish()
                await stream.__aexit__(None, None, None)

            for part in (enter, leave):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(part)

    def _run_apart(self, check: str, backend: str) -> None:
        cls = type(self)
        module = sys.modules[cls.__module__]
        arguments = [module.__name__, str(module.__file__), cls.__qualname__, check, backend]
        command = [sys.executable, "-c", f"from {__name__} import run_check; run_check(*{arguments!r})"]
        environ = {name: value for name, value in os.environ.items() if name not in PROXY_VARIABLES}
        environ["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        try:
            done = subprocess.run(  # noqa: S603
                command, env=environ, capture_output=True, text=True, check=False, timeout=LIMIT
            )
        except subprocess.TimeoutExpired:
            raise AssertionError("the call did not end: something waits in spite of the cancellation") from None
        assert done.returncode == 0, done.stderr[-4000:]

    # What others see

    async def test_nothing_secret_is_shown(self) -> None:
        """The extension, and what its hooks return, have no secret in their text, their `repr` and their attributes."""
        if not self.secrets:
            pytest.skip("n/a: 'secrets' has no secrets")
        extension = self.extension()
        async with self._opened(extension=extension) as opened:
            for method in ("chat", "stream", "embed"):
                await self._call(opened.service, method)
            settings, provider = opened.service.settings, toy_provider(self.provider)
            context = ServiceContext(name="tested", provider=provider.name, settings=settings)
            steps = open_steps(provider, context, settings.extensions)
            middlewares = [owned.middleware for owned in steps.middlewares]
            shown = [extension, *middlewares, *steps.observers, *steps.auths, steps.transport, steps.translator]
            for value in shown:
                assert_no_secret(f"an object of the type {type(value).__name__}", value, self.secrets)

    async def test_observers_do_not_raise(self, caplog: pytest.LogCaptureFixture) -> None:
        """No observer raises, in calls that succeed, are retried, fail, are abandoned or are cancelled."""
        for answer in (Answer(), Answer(status=400), Answer(error=500), Answer(hangs_in_stream=True)):
            async with self._opened(answer) as opened:
                for method in ("chat", "stream", "embed"):
                    if answer.hangs_in_stream and method == "stream":
                        await self._cancelled(partial(self._call, opened.service, method), opened)
                        continue
                    with suppress(TrunklineError):
                        await self._call(opened.service, method)
                if answer == Answer():
                    async with opened.service.stream(self.request) as left:
                        await anext(left)
        failed = [record.getMessage() for record in caplog.records if "an observer failed" in record.getMessage()]
        assert not failed, failed[0]


def run_check(module: str, path: str, name: str, check: str, backend: str) -> None:
    """Run a check of a test class, in a process of its own."""
    try:
        found: Any = importlib.import_module(module)
    except ImportError:  # a test module that pytest imported by its path
        spec = importlib.util.spec_from_file_location(module, path)
        assert spec is not None
        assert spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        sys.modules[module] = found
        spec.loader.exec_module(found)
    for part in name.split("."):
        found = getattr(found, part)
    if backend == "asyncio":
        _bind_asyncio_scopes()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        tested = found()
        tested.folder = Path(folder)
        anyio.run(getattr(tested, check), backend=backend)


def _bind_asyncio_scopes() -> None:
    """Make asyncio's timeouts and task groups fail in another task, as those of anyio do. asyncio does not notice."""
    import asyncio

    def bind(scope: Any) -> None:
        enter, leave = scope.__aenter__, scope.__aexit__
        tasks: dict[int, object] = {}

        async def bound_enter(self: Any) -> Any:
            tasks[id(self)] = asyncio.current_task()
            return await enter(self)

        async def bound_leave(self: Any, *error: Any) -> Any:
            if tasks.pop(id(self), None) is not asyncio.current_task():
                raise RuntimeError(f"asyncio.{scope.__name__} was entered in one task and left in another")
            return await leave(self, *error)

        scope.__aenter__, scope.__aexit__ = bound_enter, bound_leave

    bind(asyncio.Timeout)
    bind(asyncio.TaskGroup)


def _content(response: ChatResponse) -> dict[str, object]:
    fields = ("parts", "finish_reason", "raw_finish_reason", "usage", "logprobs")
    return {
        **{field: getattr(response, field) for field in fields},
        "warnings": sorted(map(repr, response.warnings)),
    }


def _facts(error: Exception) -> dict[str, object]:
    names = ("status", "message", "retry_after", "service", "provider")
    return {"class": type(error).__name__, **{name: getattr(error, name, None) for name in names}}
