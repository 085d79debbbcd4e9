"""Errors belong to each caller alone, and no secret is in them, whichever step of a plugin raised what."""

from __future__ import annotations

import asyncio
import base64
import copy
import html
import json
import logging
import pickle
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn
from urllib.parse import quote

import anyio
import anyio.lowlevel
import httpx
import httpx2
import pytest
from trunkline import errors
from trunkline._urls import url_secrets
from trunkline.authoring.auth import HeaderAuth, NoAuth
from trunkline.authoring.provider import Call, Observer, Operation, Operations, hookimpl
from trunkline.authoring.wire import LowerHeaders, WireRequest
from trunkline.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    InvalidAnswer,
    PluginError,
    RemoteError,
    ServiceClosed,
    TrunklineError,
)
from trunkline.opening import Services
from trunkline.response import ChatResponse, FinishReason
from trunkline.secrets import Headers, Secret, header_secrets, scrub, scrub_error, without_traceback
from trunkline.service import Service
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

KEY = "toy-secret-key"  # the key of the toy provider
TOKEN = "toy-token-0123456789"
LONG = 20.0


async def answer(exchange: Exchange) -> None:
    if exchange.request.target.startswith("/models"):
        await exchange.respond(b'{"models": ["a"], "next": null}')
    elif b'"stream": true' in exchange.request.body or b'"stream":true' in exchange.request.body:
        await exchange.start()
        await exchange.chunk(b'{"text": "hello"}\n{"done": true}\n')
        await exchange.end()
    else:
        await exchange.respond(b'{"text": "hello"}')


def text_of(error: BaseException) -> str:
    """Return all text of an error: its fields, its notes and its causes."""
    return "".join(traceback.format_exception(error)) + repr(vars(error)) + repr(error.args)


class Acquires(NoAuth):
    """An `Auth` whose `acquire` is the function that it is made with."""

    def __init__(self, acquire: Callable[[], object], *secrets: str) -> None:
        self._acquire = acquire
        self._secrets = secrets

    @property
    def secrets(self) -> tuple[str, ...]:
        return self._secrets

    async def acquire(self, *, refresh: bool = False) -> None:
        await anyio.lowlevel.checkpoint()
        self._acquire()


async def failure(service: Service, call: str = "chat") -> BaseException:
    """Return the exception that a call raises."""
    with pytest.raises(BaseException) as caught:
        if call == "chat":
            await service.chat("hi")
        elif call == "stream":
            async with service.stream("hi") as stream:
                async for _ in stream:
                    pass
        else:
            await service.list_models()
    return caught.value


# Errors that several calls share


async def test_error_that_an_auth_keeps_is_raised_anew_in_each_task(toy: Any) -> None:
    kept = AuthenticationError("the token endpoint refuses", code="no", body={"why": "no"})
    kept.add_note("asked once")
    caught: list[TrunklineError] = []
    went_on = 0

    async def call() -> None:
        nonlocal went_on
        try:
            await service.chat("hi")
        except TrunklineError as error:
            caught.append(error)
            if len(caught) == 3:
                done.set()
            # Before Python 3.13, `traceback.clear_frames` on the shared error would close this coroutine here.
            await done.wait()
            went_on += 1

    def refuse() -> NoReturn:
        raise kept

    async with toy("http://localhost", {"auth": lambda context: Acquires(refuse)}) as service:
        done = anyio.Event()
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(call)
    assert went_on == 3
    assert len({id(error) for error in [*caught, kept]}) == 4
    for error in caught:
        assert isinstance(error, AuthenticationError)
        assert (error.code, error.body, error.__notes__) == ("no", {"why": "no"}, ["asked once"])
    caught[0].add_note("one more")
    assert caught[1].__notes__ == kept.__notes__ == ["asked once"]
    assert kept.service is None, "the plugin's own object was changed"


@pytest.mark.parametrize("call", ["chat", "stream"])
async def test_application_s_own_exception_is_the_context_and_is_left_alone(toy: Any, call: str) -> None:
    # aiohttp makes Python forget the exception that is being handled.
    async with toy("http://127.0.0.1:9", max_retries=0, http_library="httpx2") as service:
        try:
            raise LookupError("the application's own")
        except LookupError as error:
            own = error
            caught = await failure(service, call)
    assert isinstance(caught, ConnectionFailed)
    assert caught.__context__ is own
    assert own.__traceback__ is not None
    assert own.__context__ is None


async def test_exception_that_is_no_error_passes_through_unchanged(toy: Any) -> None:
    class Interrupted(BaseException):
        pass

    interrupted = Interrupted()

    def interrupt() -> NoReturn:
        raise interrupted

    async with toy("http://localhost", {"auth": lambda context: Acquires(interrupt)}) as service:
        assert await failure(service) is interrupted
    names = [frame.f_code.co_name for frame, _ in traceback.walk_tb(interrupted.__traceback__)]
    assert "interrupt" not in names
    assert names[-1] == "_attempts"


# Exceptions of other libraries


def broken(*arguments: object, **options: object) -> NoReturn:
    secret = KEY
    error = LookupError(f"no entry for {secret}")
    error.add_note(secret)
    raise error


class BrokenFramer:
    at_boundary = True

    def feed(self, data: bytes) -> NoReturn:
        broken()

    def finish(self) -> tuple[bytes, ...]:
        return ()


class BrokenTransport:
    """A transport that fails when it is entered, when it sends, or while the body is read."""

    def __init__(self, when: str) -> None:
        self._when = when
        self.status = 200
        self.headers = Headers()

    def _fail(self, when: str) -> None:
        if when == self._when:
            broken()

    async def __aenter__(self) -> BrokenTransport:
        self._fail("enter")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._fail("leave")

    @asynccontextmanager
    async def send(self, wire_request: WireRequest, timeouts: Any) -> AsyncIterator[BrokenTransport]:
        self._fail("send")
        yield self

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._fail("read")
        yield b'{"text": "hello"}\n{"done": true}\n'


BROKEN: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "acquire": ({"auth": lambda context: Acquires(broken)}, "the authentication", ("chat", "stream", "list_models")),
    "translate": ({"translator": "translate"}, "the translator", ("chat", "stream")),
    "body": ({"response_parser": "body"}, "the response parser", ("chat",)),
    "error": ({"response_parser": "error"}, "the response parser", ("chat", "stream")),
    "stream": ({"response_parser": "stream"}, "the response parser", ("stream",)),
    "framer": ({"response_parser": "framer"}, "the response parser", ("stream",)),
    "build": (
        {"operations": lambda context: Operations(list_models=Operation(build=broken, parse=broken))},
        "an operation",
        ("list_models",),
    ),
    "parse": ({"operations": "parse"}, "an operation", ("list_models",)),
    "hook": ({"translator": broken}, "the hook trunkline_translator", ("chat", "stream")),
    **{
        f"transport {when}": (
            {"transport": lambda context, when=when: BrokenTransport(when)},
            "the transport",
            ("chat", "stream"),
        )
        for when in ("enter", "send", "read")
    },
}


def changed(name: str, provider: Any) -> dict[str, Any]:
    """Return the changes of the toy provider for a case of `BROKEN`."""
    [(field, value)] = BROKEN[name][0].items()
    if not isinstance(value, str):
        return {field: value}
    make = getattr(provider, field)
    if value == "framer":

        def parser(context: Any) -> Any:
            made = make(context)
            made.stream = lambda: (BrokenFramer(), type(made)().stream()[1])
            return made

        return {field: parser}
    if field == "operations":

        def operations(context: Any) -> Operations:
            return Operations(list_models=Operation(build=make(context).list_models.build, parse=broken))

        return {field: operations}

    def step(context: Any) -> Any:
        made = make(context)
        setattr(made, value, broken)
        return made

    return {field: step}


@pytest.mark.parametrize("name", BROKEN)
async def test_foreign_exception_of_a_step_becomes_a_plugin_error(toy: Any, name: str) -> None:
    _, step, calls = BROKEN[name]

    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"no", status=400)

    async with serve(refuse if name == "error" else answer) as server:
        async with toy(server.url, changed(name, toy(server.url)._provider), max_retries=0) as service:
            for call in calls:
                error = await failure(service, call)
                assert isinstance(error, PluginError)
                assert error.distribution == "toy"
                assert error.service == "toy"
                assert f"{step} of toy failed: LookupError: no entry for ***" in str(error)
                assert "in broken" in error.__notes__[0], "a note has the place in the source"
                assert KEY not in text_of(error)
                assert not [
                    frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code is broken.__code__
                ]


async def test_exception_that_closing_a_step_raises_becomes_a_plugin_error(toy: Any) -> None:
    service = toy("http://localhost", {"transport": lambda context: BrokenTransport("leave")})
    await service.authenticate()
    with pytest.raises(PluginError, match="the transport of toy failed"):
        await service.aclose()


async def test_exception_whose_text_fails_is_an_error_of_the_plugin_that_raised_it(toy: Any) -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def fail(*args: Any) -> Any:
        raise Silent

    async with toy("http://localhost", {"auth": lambda context: Acquires(fail)}) as service:
        error = await failure(service)
    assert isinstance(error, PluginError)
    assert "the authentication of toy failed: Silent (its text cannot be shown)" in str(error)


async def test_plugin_error_names_the_extension_whose_step_failed(toy: Any) -> None:
    class Wrapping:
        @hookimpl(wrapper=True)
        def trunkline_auth(self, context: Any) -> Any:
            yield
            return Acquires(broken)

    async with toy("http://localhost", extensions=[Wrapping()]) as service:
        error = await failure(service)
    assert isinstance(error, PluginError)
    assert error.distribution == "Wrapping"
    assert "the authentication of Wrapping failed" in str(error)


# Secrets in every place and form


async def test_secrets_of_an_auth_inside_another_are_removed(toy: Any) -> None:
    def refuse() -> NoReturn:
        raise AuthenticationError(f"wrong: {TOKEN}, {quote(TOKEN)}, {base64.b64encode(TOKEN.encode()).decode()}")

    class Outer(NoAuth):
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        async def acquire(self, *, refresh: bool = False) -> None:
            await self._inner.acquire(refresh=refresh)

    class Wrapping:
        @hookimpl(wrapper=True)
        def trunkline_auth(self, context: Any) -> Any:
            return Outer((yield))

    inner = Acquires(refuse, TOKEN)
    async with toy("http://localhost", {"auth": lambda context: inner}, extensions=[Wrapping()]) as service:
        error = await failure(service)
    assert str(error) == "toy: wrong: ***, ***, ***"


async def test_secrets_of_an_auth_that_an_old_style_wrapper_puts_around_another_are_removed(toy: Any) -> None:
    def refuse() -> NoReturn:
        raise LookupError(f"wrong: {TOKEN}")

    class Wrapping:
        @hookimpl(hookwrapper=True)
        def trunkline_auth(self, context: Any) -> Any:
            outcome = yield
            outcome.force_result(Acquires(refuse, TOKEN))

    async with toy("http://localhost", {"auth": lambda context: NoAuth()}, extensions=[Wrapping()]) as service:
        error = await failure(service)
    assert isinstance(error, PluginError)
    assert "LookupError: wrong: ***" in str(error)
    assert "Wrapping" in str(error), "the error does not name the extension"


async def test_notes_and_causes_of_any_depth_show_no_secret(toy: Any) -> None:
    def with_note() -> NoReturn:
        error = AuthenticationError("no token")
        error.add_note(f"asked with {KEY}")
        raise error

    def with_group() -> NoReturn:
        raise ConnectionFailed("no connection", retryable=False) from ExceptionGroup("all", [OSError(f"no {KEY}")])

    def with_note_in_group() -> NoReturn:
        single = OSError("no connection")
        single.add_note(KEY)
        raise ConnectionFailed("no connection", retryable=False) from ExceptionGroup("all", [single])

    def with_cause_in_group() -> NoReturn:
        single, cause = OSError("no connection"), OSError("the cause")
        single.__cause__, cause.__cause__ = cause, ValueError(KEY)
        raise ConnectionFailed("no connection", retryable=False) from ExceptionGroup("all", [single])

    def with_deep_cause() -> NoReturn:
        inner = OSError("refused")
        inner.__cause__ = ExceptionGroup("inner", [ExceptionGroup("innermost", [ValueError(KEY)])])
        middle = RemoteError(f"middle {KEY}")
        middle.__cause__ = inner
        raise ConnectionFailed("outer", retryable=False) from middle

    def with_context() -> NoReturn:
        try:
            raise OSError(KEY)
        except OSError:
            raise ConnectionFailed("no connection", retryable=False)  # noqa: B904

    for function in (with_note, with_group, with_note_in_group, with_cause_in_group, with_deep_cause, with_context):
        async with toy("http://localhost", {"auth": lambda context, f=function: Acquires(f)}) as service:
            error = await failure(service)
        assert KEY not in text_of(error), function.__name__
        if function is with_deep_cause:
            assert str(error.__cause__) == "toy: middle ***"
            assert isinstance(error.__cause__, RemoteError)
            assert str(error.__cause__.__cause__) == "refused"
            assert error.__cause__.__cause__.__cause__ is None


async def test_cause_is_kept_without_its_frames_and_the_original_is_left_alone(toy: Any) -> None:
    causes: list[BaseException] = []

    def refuse() -> NoReturn:
        try:
            raise OSError(111, "refused")
        except OSError as cause:
            causes.append(cause)
            raise ConnectionFailed("no connection", retryable=False) from cause

    async with toy("http://localhost", {"auth": lambda context: Acquires(refuse)}) as service:
        error = await failure(service)
    assert isinstance(error.__cause__, OSError)
    assert error.__cause__.errno == 111
    assert error.__cause__.__traceback__ is None
    assert causes[0].__traceback__ is not None


async def test_log_of_a_broken_observer_shows_no_secret(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Reports(Observer):
        def finished(self, call: Call, response: object) -> None:
            broken()

    class Extension:
        @hookimpl
        def trunkline_observer(self, context: Any) -> Observer:
            return Reports()

    async with serve(answer) as server, toy(server.url, extensions=[Extension()]) as service:
        with caplog.at_level(logging.DEBUG, "trunkline"):
            await service.chat("hi")
    [record] = [record for record in caplog.records if "observer" in record.getMessage()]
    assert "LookupError: no entry for ***" in record.getMessage()
    assert record.exc_info is None
    assert KEY not in caplog.text


@pytest.mark.parametrize("before", ["", "a", "ab", "Bearer ", "user:"])
@pytest.mark.parametrize("after", ["", "x", "xy", "\n"])
async def test_base64_of_a_text_around_a_secret_is_scrubbed(before: str, after: str) -> None:
    encoded = base64.b64encode(f"{before}{TOKEN}{after}".encode()).decode()
    shown = scrub(f"sent {encoded}", (TOKEN,))
    # The characters next to the secret's own encode a part of its first or last byte together with the text around it.
    assert "***" in shown
    assert len(shown) <= len("sent ***") + len(before) * 2 + len(after) * 2 + 8


def test_headers_are_found_in_any_case() -> None:
    headers = Headers({"Authorization": "1"})
    assert (headers["authorization"], headers.get("AUTHORIZATION"), "authorization" in headers) == ("1", "1", True)
    assert list(headers) == ["Authorization"]
    assert 1 not in headers
    with pytest.raises(KeyError, match="other"):
        headers["other"]


def test_headers_are_no_mapping_but_can_be_used_like_one() -> None:
    from collections.abc import Mapping, Sequence

    headers = Headers({"a": "1", "b": "2"})
    assert not isinstance(headers, (Mapping, Sequence))
    assert dict(headers) == {**headers} == dict(headers.items()) == {"a": "1", "b": "2"}
    assert (headers["a"], headers.get("c"), headers.get("c", "3"), "b" in headers, "c" in headers) == (
        "1",
        None,
        "3",
        True,
        False,
    )
    assert (list(headers), list(headers.keys()), len(headers), bool(Headers())) == (["a", "b"], ["a", "b"], 2, False)
    assert headers == Headers(headers) == LowerHeaders(headers) == {"a": "1", "b": "2"}
    assert headers != Headers({"a": "1"})
    assert HeaderAuth("x-key", "secret", prefix="Bearer ").secrets == ("secret", "Bearer secret")


# Errors that a plugin made of something else than text


class Response:
    def __repr__(self) -> str:
        return f"<Response {TOKEN}>"


class Refused(AuthenticationError):
    """An error of a plugin that shows an object."""

    def __init__(self, response: object) -> None:
        super().__init__("refused")
        self.response = response

    def __str__(self) -> str:
        return f"refused: {self.response}"


class Hidden(AuthenticationError):
    """An error of a plugin whose text is in none of its fields."""

    __slots__ = ("hidden",)
    hidden: str

    def __str__(self) -> str:
        return f"refused: {self.hidden}"


def hidden() -> Hidden:
    error = Hidden("refused", status=401)
    error.hidden = TOKEN
    return error


ODD_ERRORS: dict[str, tuple[Callable[[], TrunklineError], str]] = {
    "an exception": (lambda: ConnectionFailed(OSError(f"said {TOKEN}"), retryable=False), "toy: said ***"),  # type: ignore[arg-type]
    "an exception as a setting's problem": (
        lambda: ConfigurationError(OSError(f"said {TOKEN}")),  # type: ignore[arg-type]
        "service 'toy': said ***",
    ),
    "bytes": (lambda: AuthenticationError(f"said {TOKEN}".encode()), "toy: said ***"),  # type: ignore[arg-type]
    "bytes as the body": (lambda: AuthenticationError("no", body=TOKEN.encode()), "toy: no"),
    "a set in the body": (lambda: AuthenticationError("no", body={"keys": {TOKEN}}), "toy: no"),  # type: ignore[dict-item]
    "an object": (lambda: Refused(Response()), "refused: None"),
    "an object with a slot": (hidden, "toy: refused (status 401)"),
}


@pytest.mark.parametrize("name", ODD_ERRORS)
async def test_error_made_of_anything_is_text_without_secrets(toy: Any, name: str) -> None:
    make, text = ODD_ERRORS[name]

    def refuse() -> NoReturn:
        raise make()

    async with toy("http://localhost", {"auth": lambda context: Acquires(refuse, TOKEN)}) as service:
        for call in ("chat", "stream"):
            error = await failure(service, call)
            assert str(error) == text
            assert TOKEN not in text_of(error) + repr(error)
            assert isinstance(error, make().__class__.__mro__[1])
            assert all(isinstance(arg, str) for arg in error.args)
            assert isinstance(getattr(error, "message", ""), str)


async def test_fields_of_a_plugin_s_error_that_show_no_secret_are_kept(toy: Any) -> None:
    response = object()

    def refuse() -> NoReturn:
        raise Refused(response)

    async with toy("http://localhost", {"auth": lambda context: Acquires(refuse, TOKEN)}) as service:
        error = await failure(service)
    assert isinstance(error, Refused)
    assert error.response is response


async def test_single_errors_of_a_kept_error_are_each_caller_s_own(toy: Any) -> None:
    single = ConfigurationError(f"first {TOKEN}")
    kept = ConfigurationError("two settings are wrong", errors=[single, PluginError("second", distribution="d")])

    def refuse() -> NoReturn:
        raise kept

    async with toy("http://localhost", {"auth": lambda context: Acquires(refuse, TOKEN)}) as service:
        first, second = await failure(service), await failure(service)
    assert isinstance(first, ConfigurationError)
    assert isinstance(second, ConfigurationError)
    assert [str(one) for one in first.errors] == ["first ***", "second"]
    assert not {id(one) for one in first.errors} & {id(one) for one in (*second.errors, *kept.errors)}
    assert single.args == (f"first {TOKEN}",)


# What an `Auth` says are its secrets


class Claims(NoAuth):
    """An `Auth` that refuses with its token, and whose `secrets` are what it was made with."""

    def __init__(self, value: Any) -> None:
        self.value = value

    @property
    def secrets(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    async def acquire(self, *, refresh: bool = False) -> NoReturn:
        raise AuthenticationError(f"refused {TOKEN}")


async def test_secrets_of_an_auth_may_be_secret_values_in_any_collection(toy: Any) -> None:
    for value in ((Secret(TOKEN),), [TOKEN], {TOKEN}, ("other", Secret(TOKEN))):
        made = Claims(value)
        async with toy("http://localhost", {"auth": lambda context, made=made: made}) as service:
            assert str(await failure(service)) == "toy: refused ***"


WRONG_SECRETS: list[Any] = [None, (None,), TOKEN, TOKEN.encode(), (TOKEN.encode(),), {"a": TOKEN}, 3]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("value", WRONG_SECRETS, ids=repr)
async def test_wrong_secrets_of_an_auth_are_a_plugin_error(toy: Any, value: Any, late: bool) -> None:
    made = Claims(() if late else value)
    async with toy("http://localhost", {"auth": lambda context: made}) as service:
        if late:
            await failure(service)
            made.value = value
        for call in ("chat", "stream", "models"):
            error = await failure(service, call)
            assert isinstance(error, PluginError)
            assert error.service == "toy"
            assert error.distribution == "toy"
            assert "must be a tuple of `str` and `Secret`" in str(error)
            assert TOKEN not in text_of(error)
            assert error.__context__ is None


async def test_secrets_that_cannot_be_read_are_a_plugin_error(toy: Any) -> None:
    made = Claims(())
    async with toy("http://localhost", {"auth": lambda context: made}) as service:
        await failure(service)
        made.value = LookupError(TOKEN)
        error = await failure(service)
    assert isinstance(error, PluginError)
    assert "`secrets` of the Claims of toy cannot be read (LookupError)" in str(error)
    assert TOKEN not in text_of(error)


# Spellings


def as_dot_net(text: str) -> str:
    return "".join(character if character.isalnum() else f"\\u{ord(character):04X}" for character in text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "escapes in upper case": as_dot_net,
    "escapes in lower case": lambda text: as_dot_net(text).lower(),
    "escapes of all": lambda text: "".join(f"\\u{ord(character):04x}" for character in text),
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "JSON in JSON in JSON": lambda text: json.dumps(json.dumps(json.dumps(text))),
    "escapes in JSON": lambda text: json.dumps(as_dot_net(text)),
    "decimal entities": lambda text: "".join(c if c.isalnum() else f"&#{ord(c)};" for c in text),
    "hexadecimal entities": lambda text: "".join(c if c.isalnum() else f"&#x{ord(c):X};" for c in text),
    "named entities": html.escape,
    "percent": lambda text: quote(text, safe=""),
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
}


@pytest.mark.parametrize(
    "secret", ["ab+cd/efgh0123456789+ijkl==", "pa\"ss\\wo/rd'<&>-0123456789", "s\u00e9cret 0123456789"]
)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_of_a_secret_is_scrubbed(secret: str, spelling: str) -> None:
    spelled = SPELLINGS[spelling](secret if "lower" not in spelling else secret.lower())
    found = scrub(f"it said {spelled} twice", (secret,))
    assert "0123456789" not in found
    assert found.startswith("it said ")
    assert found.endswith(" twice")


# Headers and cookies


def test_a_header_is_secret_if_its_name_or_its_value_looks_like_a_credential() -> None:
    found = set(
        header_secrets(
            {
                "X-Title": "My application",
                "X-Beta": "fine-grained-streaming-2025-05-14, output-128k-2025-02-19",
                "Referer": "https://my-application.example/",
                "X-Author": "somebody",
                "X-Tenant": "f81d4fae7dec11d0",
                "Authorization": "Bearer wordlike",
                "X-Service-Token": "wordlike token",
                "X-Pw": "password",
                "Cookie": 'session=one-session; other="another"',
            }
        )
    )
    assert found == {
        "f81d4fae7dec11d0",
        "Bearer wordlike",
        "wordlike",
        "wordlike token",
        "token",
        "password",
        'session=one-session; other="another"',
        'other="another"',
        "one-session",
        "another",
    }


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_cookies_of_the_application_s_own_client_are_secret(toy: Any, library: Any) -> None:
    async def echo(exchange: Exchange) -> None:
        cookies = exchange.request.headers.get("cookie", "")
        # The second cookie is set while the service is open, by an answer.
        await exchange.respond(f"cookies {cookies}".encode(), status=401, headers={"set-cookie": f"later={TOKEN}"})

    async with library.AsyncClient(cookies={"session": "session-0123456789"}) as client, serve(echo) as server:
        async with toy(server.url, client=client) as service:
            assert str(await failure(service)).startswith("toy: cookies session=*** (")
            error = await failure(service)
    assert TOKEN not in text_of(error)
    assert "later=***" in str(error)
    assert "session=***" in str(error)


IN_HEADERS = {
    "token scheme": {"Authorization": f'Token token="{TOKEN}", nonce="abc"'},
    "JSON": {"x-gate-config": json.dumps({"api_key": TOKEN, "provider": "toys"})},
    "list": {"X-Api-Keys": f"firstkey-000111222333,{TOKEN},lastkey-000111222333"},
    "login": {"Authorization": "Basic " + base64.b64encode(f"bob:{TOKEN}".encode()).decode()},
    "login of words": {"Proxy-Authorization": "Basic " + base64.b64encode(b"bob:wordlike").decode().rstrip("=")},
    "three words": {"Authorization": f"ApiKey {TOKEN} v1"},
    "pair": {"Authorization": f"sso-key {TOKEN}:lastpart000111222"},
}


@pytest.mark.parametrize("kind", IN_HEADERS)
def test_a_part_of_a_credential_header_is_secret(kind: str) -> None:
    secret = "wordlike" if kind == "login of words" else TOKEN
    assert scrub(f"wrong: {secret}!", header_secrets(IN_HEADERS[kind])) == "wrong: ***!"


def test_names_in_a_credential_header_are_not_secret() -> None:
    config = {"api_key": TOKEN, "provider": "toys", "model": "toy-4-sonnet-20241022", "retry": {"attempts": 3}}
    text = "toys: the model toy-4-sonnet-20241022 was not found after 3 attempts"
    assert scrub(text, header_secrets({"x-gate-key": json.dumps(config)})) == text


@pytest.mark.parametrize("name", ["api_key", "pwd", "jwt", "sid", "sas", "ticket", "k", "hmac", "se"])
def test_value_in_the_query_of_a_url_is_secret_unless_it_is_words_or_a_number(name: str) -> None:
    assert "canary-0123" in url_secrets("'https://u:canary-0123@x.example/v1'")
    assert TOKEN in url_secrets(
        f"https://a.example/v1?api-version=2024-10-21-preview&{name}={TOKEN}&region=west-europe"
    )
    assert not list(url_secrets("https://a.example/v1?api-version=2024-10-21-preview&region=west-europe&size=4096"))


@pytest.mark.parametrize("name", ["db_pass", "userpass", "proxy_pass", "pass", "password", "sig", "auth_code"])
def test_words_in_the_query_of_a_url_are_secret_if_the_parameter_says_so(name: str) -> None:
    assert "swordfish" in url_secrets(f"https://a.example/v1?{name}=swordfish&region=west-europe")


async def test_no_more_than_fifty_cookies_of_the_application_s_own_client_are_searched_for(toy: Any) -> None:
    # Thousands of cookies that a server sets would block the event loop in each error.
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"value-x0050y, value-x0051y", status=400)

    async with (
        httpx2.AsyncClient() as client,
        serve(refuse) as server,
        toy(server.url, client=client, max_retries=0) as service,
    ):
        for number in range(1, 61):
            client.cookies.set(f"c{number:02}", f"value-x{number:04}y", domain="127.0.0.1")
        assert "***, value-x0051y (" in str(await failure(service))
        client.cookies.set("a", "x1" * 10_000, domain="127.0.0.1")  # longer than a header may be, so it is left out
        assert "***, value-x0051y (" in str(await failure(service))


@pytest.mark.parametrize("domain", ["other.example", "27.0.0.1"])
async def test_cookies_for_other_hosts_are_not_searched_for(toy: Any, domain: str) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"the id is value-x0001y", status=400)

    async with (
        httpx2.AsyncClient() as client,
        serve(refuse) as server,
        toy(server.url, client=client, max_retries=0) as service,
    ):
        client.cookies.set("id", "value-x0001y", domain=domain)
        assert "value-x0001y" in str(await failure(service))


async def test_cookies_of_parent_domains_are_secret(toy: Any) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"the ids are value-x0001y and value-x0002y", status=400)

    async with httpx2.AsyncClient() as client, serve(refuse) as server:
        async with toy(server.url.replace("127.0.0.1", "api.localhost"), client=client, max_retries=0) as service:
            client.cookies.set("id", "value-x0001y", domain=".localhost")
            client.cookies.set("id", "value-x0002y", domain="api.localhost")
            try:
                error = await failure(service)
            except ConnectionFailed:
                pytest.skip("the name api.localhost has no address here")
        if not isinstance(error, ConnectionFailed):
            assert "the ids are *** and ***" in str(error)


async def test_cookies_that_are_words_are_not_removed_from_errors(toy: Any) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"the model was not found", status=404)

    async with httpx2.AsyncClient(cookies={"a": "model", "b": "not found", "c": "service-toy"}) as client:
        async with serve(refuse) as server, toy(server.url, client=client) as service:
            assert "the model was not found" in str(await failure(service))


# Groups of exceptions


def grouped(*errors: Exception) -> Callable[[], NoReturn]:
    def refuse() -> NoReturn:
        raise ExceptionGroup("in a task group", [ExceptionGroup("inner", list(errors))])

    return refuse


async def test_key_that_is_the_name_of_the_service_is_no_secret(toy: Any) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"start kittens first", status=400)

    async with serve(refuse) as server:
        async with toy(server.url, name="kittens", api_key="kittens", max_retries=0) as service:
            with pytest.raises(RemoteError) as caught:
                await service.chat("hi")
    assert caught.value.service == "kittens"
    assert caught.value.message == "start kittens first"


async def test_error_in_a_group_is_raised_as_itself_and_retried(toy: Any) -> None:
    attempts = []

    def refuse() -> NoReturn:
        attempts.append(1)
        grouped(ConnectionFailed("the token service cannot be reached", retry_after=0))()

    settings = {"max_retries": 1}
    async with toy("http://localhost", {"auth": lambda context: Acquires(refuse)}, **settings) as service:
        error = await failure(service)
    assert isinstance(error, ConnectionFailed)
    assert "the token service cannot be reached" in str(error)
    assert len(attempts) == 2


async def test_of_several_errors_in_a_group_the_one_that_is_not_retried_is_raised(toy: Any) -> None:
    refuse = grouped(OSError("x"), ConnectionFailed("down", retry_after=0), AuthenticationError(f"no {TOKEN}"))
    async with toy("http://localhost", {"auth": lambda context: Acquires(refuse, TOKEN)}) as service:
        error = await failure(service)
    assert isinstance(error, AuthenticationError)
    assert str(error) == "toy: no ***"


async def test_foreign_exceptions_in_a_group_are_quoted(toy: Any) -> None:
    refuse = grouped(OSError("disk full"), LookupError(f"no {TOKEN}"))
    async with toy("http://localhost", {"auth": lambda context: Acquires(refuse, TOKEN)}) as service:
        error = await failure(service)
    assert isinstance(error, PluginError)
    assert "the authentication of toy failed: OSError: disk full; LookupError: no ***" in str(error)


# Errors in other processes


class OwnError(RemoteError):
    """An error of a plugin, with another signature."""

    def __init__(self, deployment: str, *, quota: int) -> None:
        super().__init__(f"{deployment} is full", status=429, retry_after=3.5, body={"quota": quota}, retryable=True)
        self.quota = quota


RESPONSE = ChatResponse(parts=(), finish_reason=FinishReason.STOP)


def examples() -> list[TrunklineError]:
    found: list[TrunklineError] = [OwnError("d1", quota=3)]
    for name in errors.__all__:
        kind = getattr(errors, name)
        required = {"reason": "empty", "response": RESPONSE} if kind is InvalidAnswer else {}
        error = kind("what happened", **required)
        for field, value in vars(error).items():
            if value is None:
                setattr(error, field, f"the {field}")
        error.add_note("a note")
        found.append(error)
    several = ConfigurationError(
        "two", errors=[ConfigurationError("one", setting="a"), PluginError("b", distribution="d")]
    )
    return [*found, several]


@pytest.mark.parametrize("error", examples(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_every_error_survives_copying_and_pickling(error: TrunklineError, again: Callable[[Any], Any]) -> None:
    made = again(error)
    assert made is not error
    assert type(made) is type(error)
    assert (str(made), repr(made), made.args) == (str(error), repr(error), error.args)
    assert {**vars(made), "errors": ()} == {**vars(error), "errors": ()}
    assert [repr(single) for single in getattr(made, "errors", ())] == [
        repr(one) for one in getattr(error, "errors", ())
    ]
    made.add_note("of the copy")
    assert "of the copy" not in getattr(error, "__notes__", [])


# Cancellations


def test_cancellation_that_two_libraries_replaced_keeps_the_messages_that_event_loops_look_for() -> None:
    first = asyncio.CancelledError("Cancelled via cancel scope 7f")
    second, third = asyncio.CancelledError(), asyncio.CancelledError()
    third.__context__, second.__context__, first.__context__ = second, first, LookupError(KEY)
    cut = without_traceback(third)
    assert cut is third
    assert cut.__context__ is not None
    innermost = cut.__context__.__context__
    assert isinstance(innermost, asyncio.CancelledError)
    assert innermost.args == first.args
    assert innermost.__context__ is None


# Large bodies


def test_large_body_of_an_error_is_scrubbed_in_reasonable_time() -> None:
    body = {"details": [{"message": f"item {number} is wrong: 100% of it", "key": KEY} for number in range(30_000)]}
    secrets = (*(f"{KEY}-{number}-0123456789abcdef" for number in range(5)), KEY)
    error = RemoteError("refused", body=body)
    began = time.process_time()
    scrub_error(error, secrets)
    assert time.process_time() - began < LONG
    assert KEY not in repr(error.body)


def test_body_of_an_error_is_scrubbed_at_the_first_border_and_again_for_new_secrets() -> None:
    error = RemoteError(f"refused {KEY} and {TOKEN}", body={"keys": [KEY, TOKEN]})
    scrub_error(error, (KEY,))
    body = error.body
    assert body == {"keys": ["***", TOKEN]}
    error.message += f", {KEY}"
    scrub_error(error, (KEY,))
    assert error.body is body
    assert error.message == f"refused *** and {TOKEN}, ***"
    passed_on = copy.copy(error)
    scrub_error(passed_on, (KEY, TOKEN))
    assert passed_on.body == {"keys": ["***", "***"]}


# Closing several services


class NotClosed(NoAuth):
    async def __aexit__(self, *exc_info: object) -> None:
        raise OSError(f"the cache of {TOKEN} cannot be written")


@pytest.mark.parametrize("block", [False, True])
async def test_error_of_closing_one_of_several_services_is_raised_and_names_it(toy: Any, block: bool) -> None:
    changed = {"auth": lambda context: NotClosed()}
    made = {
        "good": toy("http://localhost", name="good"),
        "bad": toy("http://localhost", changed, name="bad"),
        "worse": toy("http://localhost", changed, name="worse"),
    }
    services = Services(made)
    for service in made.values():
        await service.authenticate()
    with pytest.raises(PluginError) as caught:
        if block:
            async with services:
                pass
        else:
            await services.aclose()
    assert caught.value.service == "bad"
    assert "the authentication of toy failed: OSError" in str(caught.value)
    assert any("service 'worse'" in note for note in caught.value.__notes__)
    for service in made.values():
        with pytest.raises(ServiceClosed):
            await service.authenticate()
