"""No secret is exposed: the tests send canaries of each kind of credential through each way in which a call can fail.

There is one table of cases and one of responses. No canary may appear in an error, in a traceback with the variables of
each frame, in any log record at DEBUG, in what an observer and its OpenTelemetry spans see, or in the `repr`, pickle
and copies of an error. This includes each encoded form in which servers echo a secret.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import struct
import traceback
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zlib import crc32

import anyio
import anyio.abc
import attrs
import httpx
import httpx2
import pytest
import trunkline
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, StatusCode
from trunkline._calls.retry import RetryPolicy
from trunkline._plugins.registry import load_provider
from trunkline.authoring.provider import Call, Observer
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ConfigurationError, PluginError, TrunklineError, UnexpectedRedirect
from trunkline.secrets import Secret, scrub
from trunkline.service import Service
from trunkline.storage import to_json
from trunkline.testing import Exchange, serve
from trunkline_otel.telemetry import Telemetry

KEY = "sk-canary/Ab+9=Zz0-key"
SECOND = "sk-canary/Cd+8=Yy1-two"
ID = "AKIACANARY0123456789"
TOKEN = "canary/session+token=="
USER, PASSWORD = "canary-the-user", "canary@the:password/"
USERINFO = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
IN_USERINFO = (USER, PASSWORD, f"{USER}:{PASSWORD}", USERINFO)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No keys, no proxies and no AWS in the environment."""
    for name in list(os.environ):
        if name.upper().startswith(("AWS_", "TRUNKLINE_", "ECS_")) or name.lower().endswith(("_proxy", "_api_key")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


# The cases: every kind of credential


@attrs.frozen(kw_only=True)
class Case:
    """A service's settings, the canaries in them or in the environment, and what else is set up."""

    provider: str
    settings: Mapping[str, Any] = {}
    canaries: tuple[str, ...] = (KEY,)
    unsent: tuple[str, ...] = ()
    """Canaries that go to the source of the credentials alone."""
    environ: Mapping[str, str] = {}
    files: Mapping[str, str] = {}
    same_requests: bool = False
    """Whether another case sends the same requests, and only the source of the credentials is different."""


def token_provider() -> str:
    return KEY


IAM = {"aws_access_key_id": ID, "aws_secret_access_key": KEY, "aws_session_token": TOKEN}
VARIABLES = {name.upper(): value for name, value in IAM.items()}
IAM_CANARIES = (ID, KEY, TOKEN)
REGION = {"aws_region": "us-east-1"}
GRANTED = json.dumps(
    {"AccessKeyId": ID, "SecretAccessKey": KEY, "Token": TOKEN, "Expiration": "2099-01-01T00:00:00Z", "Code": "Success"}
)
STS = (
    '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
    f"<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{ID}</AccessKeyId><SecretAccessKey>{KEY}"
    f"</SecretAccessKey><SessionToken>{TOKEN}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
    "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
)
CONTAINER = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/granted", "AWS_CONTAINER_AUTHORIZATION_TOKEN": SECOND}
IDENTITY = {
    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/r",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}/token",
    "AWS_ENDPOINT_URL_STS": "{url}/sts",
}
INSTANCE = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "{url}/"}
AWS_FILE = f"[canary]\naws_access_key_id = {ID}\naws_secret_access_key = {KEY}\naws_session_token = {TOKEN}\n"

CASES: dict[str, Case] = {
    "openai": Case(provider="openai", settings={"api_key": KEY}),
    "openai-environment": Case(provider="openai", environ={"OPENAI_API_KEY": KEY}, same_requests=True),
    "openai-responses": Case(provider="openai", settings={"api_key": KEY, "api": "responses"}),
    "openai-hashed-user": Case(provider="openai", settings={"api_key": KEY, "send_user_id": "hashed"}),
    "openai-headers": Case(
        provider="openai", settings={"api_key": KEY, "headers": {"X-Gateway-Key": SECOND}}, canaries=(KEY, SECOND)
    ),
    "compatible": Case(provider="openai-compatible", settings={"api_key": KEY}),
    "compatible-authorization": Case(
        provider="openai-compatible", settings={"headers": {"Authorization": f"Bearer {KEY}"}}
    ),
    "compatible-userinfo": Case(
        provider="openai-compatible", settings={"api_url": f"http://{USERINFO}@{{host}}/v1"}, canaries=IN_USERINFO
    ),
    "compatible-query": Case(
        provider="openai-compatible", settings={"api_url": f"{{url}}/v1?v=1&key={quote(KEY, safe='')}"}
    ),
    "compatible-proxy": Case(
        provider="openai-compatible",
        settings={"api_url": "http://api.example/v1", "proxy": f"http://{USERINFO}@{{host}}"},
        canaries=IN_USERINFO,
    ),
    "compatible-environment-proxy": Case(
        provider="openai-compatible",
        settings={"api_url": "http://api.example/v1"},
        environ={"HTTP_PROXY": f"http://{USERINFO}@{{host}}"},
        canaries=IN_USERINFO,
        same_requests=True,
    ),
    "anthropic": Case(provider="anthropic", settings={"api_key": KEY}),
    "cohere": Case(provider="cohere", settings={"api_key": KEY}),
    "gemini": Case(provider="gemini", settings={"api_key": KEY}),
    "ollama": Case(provider="ollama", settings={"api_key": KEY}),
    "vertex": Case(provider="vertex", settings={"api_key": KEY}),
    "vertex-token": Case(provider="vertex", settings={"project": "p", "access_token": KEY}),
    "google-cloud-token": Case(
        provider="anthropic-google-cloud", settings={"project": "p", "workspace_id": "wrkspc_1", "access_token": KEY}
    ),
    "mistral": Case(provider="mistral", settings={"api_key": KEY}),
    "azure": Case(provider="azure-openai", settings={"api_key": KEY}),
    "azure-anthropic": Case(provider="azure-anthropic", settings={"api_key": KEY}),
    "azure-anthropic-token": Case(provider="azure-anthropic", settings={"token_provider": token_provider}),
    "aws-anthropic": Case(provider="anthropic-aws", settings={**REGION, "workspace_id": "wrkspc_1", "api_key": KEY}),
    "aws-anthropic-iam": Case(
        provider="anthropic-aws", settings={**REGION, "workspace_id": "wrkspc_1", **IAM}, canaries=IAM_CANARIES
    ),
    "bedrock-iam-messages": Case(
        provider="bedrock", settings={**REGION, **IAM, "api": "messages"}, canaries=IAM_CANARIES
    ),
    "bedrock-iam-responses": Case(
        provider="bedrock", settings={**REGION, **IAM, "api": "responses"}, canaries=IAM_CANARIES
    ),
    "azure-token": Case(provider="azure-openai", settings={"token_provider": token_provider}),
    "bedrock-key": Case(provider="bedrock", settings={**REGION, "api_key": KEY}),
    "bedrock-iam": Case(provider="bedrock", settings={**REGION, **IAM}, canaries=IAM_CANARIES),
    "bedrock-legacy": Case(
        provider="bedrock",
        settings={**REGION, "api_key": f"{ID}:{KEY}:{TOKEN}"},
        canaries=(*IAM_CANARIES, f"{ID}:{KEY}"),
    ),
    "bedrock-environment": Case(
        provider="bedrock", settings=REGION, environ=VARIABLES, canaries=IAM_CANARIES, same_requests=True
    ),
    "bedrock-token": Case(
        provider="bedrock", settings=REGION, environ={"AWS_BEARER_TOKEN_BEDROCK": KEY}, same_requests=True
    ),
    "bedrock-profile": Case(
        provider="bedrock",
        settings={**REGION, "aws_profile": "canary"},
        files={"credentials": AWS_FILE},
        canaries=IAM_CANARIES,
        same_requests=True,
    ),
    "bedrock-container": Case(
        provider="bedrock",
        settings=REGION,
        environ=CONTAINER,
        canaries=IAM_CANARIES,
        unsent=(SECOND,),
        same_requests=True,
    ),
    "bedrock-identity": Case(
        provider="bedrock",
        settings=REGION,
        environ=IDENTITY,
        files={"token": SECOND},
        canaries=IAM_CANARIES,
        unsent=(SECOND,),
        same_requests=True,
    ),
    "bedrock-instance": Case(
        provider="bedrock",
        settings=REGION,
        environ=INSTANCE,
        canaries=IAM_CANARIES,
        unsent=(SECOND,),
        same_requests=True,
    ),
}


def test_the_cases_hold_every_provider_that_is_installed() -> None:
    from trunkline._plugins.registry import PROVIDERS, installed

    names = {case.provider for case in CASES.values()}
    assert names == {entry.name for entry in installed(PROVIDERS)} - {
        "llamacpp"
    }  # which runs in the process and has no secret


# The answers: every way in which a call fails, with the secrets echoed


Answer = Callable[[Exchange, str], Awaitable[None]]


def echoes(case: Case, exchange: Exchange) -> str:
    """The request and the canaries, as careless servers and proxies say them."""
    heard = [f"{name}: {value}" for name, value in exchange.request.headers.items()]
    forms = [form for canary in case.canaries for form in (*spelled(canary), json.dumps(canary).replace("/", "\\/"))]
    return " ; ".join([*forms, exchange.request.target, *heard])


def spelled(text: str) -> tuple[str, ...]:
    encoded = b64encode(text.encode()).decode()
    return (text, quote(text, safe=""), quote(text, safe="").replace("%2F", "%2f"), encoded.rstrip("="))


def answering(status: int, body: Callable[[str], Any], **headers: str) -> Answer:
    async def answer(exchange: Exchange, echo: str) -> None:
        content = body(echo)
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        sent = {"content-type": "application/json", "x-request-id": echo[:150], **headers}
        await exchange.respond(data, status=status, headers=sent)

    return answer


def aws_message(echo: str) -> bytes:
    named = {":message-type": "exception", ":exception-type": "validationException"}
    packed = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in named.items()
    )
    payload = json.dumps({"message": echo}).encode()
    prelude = struct.pack("!II", len(packed) + len(payload) + 16, len(packed))
    message = prelude + struct.pack("!I", crc32(prelude)) + packed + payload
    return message + struct.pack("!I", crc32(message))


def streaming(*pieces: Callable[[str], bytes], media_type: str = "text/event-stream") -> Answer:
    async def answer(exchange: Exchange, echo: str) -> None:
        await exchange.start(headers={"content-type": media_type})
        for piece in pieces:
            await exchange.chunk(piece(echo))
        with suppress(OSError):  # the client has hung up first
            await exchange.hang_up()

    return answer


async def lost(exchange: Exchange, echo: str) -> None:
    await exchange.reset()


async def malformed(exchange: Exchange, echo: str) -> None:
    await exchange.raw(f"HTTP/1.1 {echo}\r\nx\r\n\r\n".encode())
    with suppress(OSError):
        await exchange.hang_up()


def sse(value: Any, event: str = "message") -> bytes:
    return f"event: {event}\ndata: {json.dumps(value)}\n\n".encode()


def error_fields(echo: str) -> dict[str, Any]:
    return {"message": echo, "type": "canary", "code": echo[:60], "param": {echo[:40]: [echo]}}


TEXT = {"id": "1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello"}}]}
ANSWERS: dict[str, Answer] = {
    **{
        f"status {code}": answering(code, lambda echo: {"error": error_fields(echo), **error_fields(echo)})
        for code in (400, 401, 403)
    },
    **{
        f"status {code}": answering(code, lambda echo: {"error": error_fields(echo)})
        for code in (402, 404, 413, 422, 429)
    },
    **{f"status {code}": answering(code, error_fields) for code in (418, 500, 503, 529)},
    "text": answering(401, lambda echo: echo, **{"content-type": "text/plain"}),
    "page": answering(502, lambda echo: f"<html><body>{echo}</body></html>", **{"content-type": "text/html"}),
    **{f"cut at {size}": answering(401, lambda echo, size=size: "x" * size + echo) for size in (60, 70, 185, 480, 490)},
    "redirect": answering(307, lambda echo: echo, location=f"/v1?token={quote(KEY, safe='')}#{TOKEN}"),
    "redirect away": answering(302, lambda echo: echo, location=f"https://u:{KEY}@elsewhere.example/{quote(KEY)}"),
    "wrong JSON": answering(200, lambda echo: {"echo": echo, "choices": echo, "content": echo, "message": echo}),
    "no JSON": answering(200, lambda echo: f"{echo}"),
    "cut JSON": answering(200, lambda echo: '{"error": "' + echo),
    "garbled stream": streaming(lambda echo: f"data: {echo}\n\n".encode()),
    "cut stream": streaming(lambda echo: sse(TEXT), lambda echo: f"data: {echo}".encode()),
    "error in the stream": streaming(lambda echo: sse({"error": error_fields(echo)}), lambda echo: b""),
    "error event": streaming(lambda echo: sse(TEXT) + sse({"type": "error", "error": error_fields(echo)}, "error")),
    "failed event": streaming(lambda echo: sse({"type": "response.failed", "response": {"error": error_fields(echo)}})),
    "error message": streaming(aws_message, media_type="application/vnd.amazon.eventstream"),
    "lost": lost,
    "malformed": malformed,
}
SAME_CODE = {f"status {code}" for code in (402, 404, 413, 422, 418, 503, 529)}
"""Errors that the same code reads as that of another status."""
ONE_OF_EACH = {"status 400", "status 401", "wrong JSON", "error in the stream", "redirect away", "lost", "malformed"}
"""The answers for each further source of credentials, and on trio: one of each way to fail."""


# Where a canary could show


class Recorder(Observer):
    """Observes, and keeps what telemetry would: the `repr` of all it is given, and each call as a span.

    The extensions of this project for telemetry record the same calls, with their content.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.failures: list[BaseException] = []
        self.spans: dict[int, Span] = {}
        self._exported = InMemorySpanExporter()
        provider = TracerProvider(resource=Resource({}), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exported))
        self._tracer = provider.get_tracer("test")
        self._telemetry = Telemetry(tracer_provider=provider, content=True, propagate=True)

    @property
    def extensions(self) -> list[object]:
        return [self, self._telemetry, "logging"]

    def recorded(self) -> list[str]:
        """All that was recorded, with the spans that have ended since the last call did."""
        return [*self.seen, *(span.to_json() for span in self._exported.get_finished_spans())]

    @trunkline.hookimpl
    def trunkline_observer(self, context: Any) -> Observer:
        return self

    def started(self, call: Call, context: Any, operation: str, request: object) -> None:
        shown = [repr(context), str(context.settings), repr(request)]
        self.seen += shown
        self.spans[call] = self._tracer.start_span(operation, attributes={"call": shown})

    def retried(self, call: Call, error: TrunklineError, delay: float) -> None:
        self.seen.append(exposed(error))
        self.spans[call].record_exception(error)

    def finished(self, call: Call, response: object) -> None:
        self.seen.append(repr(response))
        self.spans[call].set_attribute("response", repr(response))
        self._end(call)

    def failed(self, call: Call, error: BaseException) -> None:
        self.seen.append(exposed(error))
        self.failures.append(error)
        self.spans[call].record_exception(error)
        self.spans[call].set_status(StatusCode.ERROR, str(error))
        self._end(call)

    def _end(self, call: Call) -> None:
        self.spans.pop(call).end()
        self.seen += [span.to_json() for span in self._exported.get_finished_spans()]
        self._exported.clear()


class Log(logging.Handler):
    """Everything that anyone logs, formatted, with its variables."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {self.format(record)} {record.args!r}")


@pytest.fixture
def log() -> Iterator[Log]:
    handler, root = Log(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.setLevel(level)
    root.removeHandler(handler)


def exposed(error: BaseException) -> str:
    """Return all text that an error, its causes and contexts expose, with the variables of frames of other files."""
    lines: list[str] = []
    chain: list[BaseException] = [error]
    while chain:
        current = chain.pop()
        lines += [str(current), repr(current), f"{current}", repr(vars(current)), repr(current.args)]
        for frame, _ in traceback.walk_tb(current.__traceback__):
            if frame.f_code.co_filename != __file__:
                lines += [f"{frame.f_code}: {name} = {shown(value)}" for name, value in frame.f_locals.items()]
        chain += [other for other in (current.__cause__, current.__context__) if other is not None]
    if isinstance(error, TrunklineError):
        lines += [repr(pickle.dumps(error)), repr(vars(copy.copy(error)))]
    return "\n".join(lines)


def shown(value: object) -> str:
    """The `repr` of a variable, as a traceback with the variables of each frame shows it."""
    try:
        return repr(value)
    except Exception:
        return "<no repr>"


def leaks(case: Case, where: str, text: str) -> list[str]:
    """Where a canary shows, the beginning of one included."""
    found = []
    for canary in (*case.canaries, *case.unsent):
        for form in (*spelled(canary), json.dumps(canary)[1:-1], repr(canary)[1:-1]):
            position = text.find(form[:16])
            if position >= 0:
                found.append(f"{where}: …{text[max(position - 200, 0) : position + 60]}…")
                break
    return found


def prepared(case: Case, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings of a case, its environment and files being there."""

    def filled(text: str) -> str:
        host = url.removeprefix("http://")
        return text.replace("{url}", url).replace("{host}", host).replace("{folder}", str(folder))

    for name, text in case.files.items():
        (folder / name).write_text(text)
    for name, text in case.environ.items():
        monkeypatch.setenv(name, filled(text))
    settings = {name: filled(value) if isinstance(value, str) else value for name, value in case.settings.items()}
    return {"api_url": url, "default_model": "m", "max_retries": 0, **settings}


async def granting(exchange: Exchange) -> bool:
    """Answer for AWS's sources of credentials."""
    target = exchange.request.target
    if target.startswith("/granted") or target.endswith("/security-credentials/role"):
        await exchange.respond(GRANTED.encode())
    elif target.startswith("/sts"):
        await exchange.respond(STS.encode(), headers={"content-type": "text/xml"})
    elif target.endswith("/api/token"):
        await exchange.respond(SECOND.encode(), headers={})
    elif target.endswith("/security-credentials/"):
        await exchange.respond(b"role", headers={})
    else:
        return False
    return True


REQUEST = trunkline.ChatRequest(messages="Hello?", user_id="someone")


async def read(service: Service) -> None:
    async with service.stream(REQUEST) as stream:
        async for _ in stream:
            pass


async def fail(service: Service, call: Callable[[], Awaitable[object]]) -> str:
    """What the error of a call shows."""
    with pytest.raises(TrunklineError) as caught:
        await call()
    return exposed(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize("name", CASES)
async def test_no_canary_shows_whatever_fails(
    name: str, log: Log, tmp_path: Path, environment: pytest.MonkeyPatch, anyio_backend: str, exhaustive: bool
) -> None:
    case, recorder = CASES[name], Recorder()
    answers = ANSWERS
    if not exhaustive:
        labels = ONE_OF_EACH if case.same_requests or anyio_backend == "trio" else ANSWERS.keys() - SAME_CODE
        answers = {label: answer for label, answer in ANSWERS.items() if label in labels}
    environment.setattr("trunkline.provider_service.RetryPolicy", partial(RetryPolicy, first_delay=0.001))
    answer: Answer = lost
    reached = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal reached
        if not await granting(exchange):
            reached += 1
            await answer(exchange, echoes(case, exchange))

    found: list[str] = []
    async with serve(handler) as server:
        settings = prepared(case, server.url, tmp_path, environment)
        async with trunkline.open_service(case.provider, extensions=recorder.extensions, **settings) as service:
            for label, current in answers.items():
                answer = current
                logged, shown = len(log.lines), []
                for call in (lambda: service.chat(REQUEST), lambda: read(service)):
                    before = reached
                    while reached == before:  # a kept connection may turn out to be closed: then once more
                        text = await fail(service, call)
                    shown.append(text)
                found += leaks(case, label, "\n".join(shown))
                found += leaks(case, f"{label}, log", "\n".join(log.lines[logged:]))
                if label == "status 400":
                    assert all("***" in text for text in shown), shown
            found += leaks(case, "telemetry", "\n".join(recorder.recorded()))
            pipeline = service._state.parts.get().pipeline
            assert pipeline is not None
            credentials = await pipeline.steps.auth.acquire()
            for value in (
                service,
                service.settings,
                service._provider,
                pipeline,
                pipeline.context,
                pipeline.steps,
                pipeline.steps.auth,
                pipeline.transport,
                service._transports,
                service.stream(REQUEST),
                pipeline.steps.auth.sign(WireRequest(url=server.url), credentials),
                credentials,
            ):
                if not isinstance(value, str):  # a token of an application's own
                    found += leaks(case, f"repr of {type(value).__name__}", f"{value!r} {value} {[value]} {value!s}")
    assert recorder.failures
    assert not recorder.spans
    assert any("trunkline.service.name" in text for text in recorder.recorded())
    assert any("trunkline.calls" in line for line in log.lines)
    assert log.lines
    assert not found, "\n".join([f"{len(found)} leaks", *found[:10]])


# What fails before there is an answer


NOWHERE = "http://127.0.0.1:9"
FAILURES: dict[str, Case] = {
    "refused": Case(provider="openai", settings={"api_key": KEY, "api_url": NOWHERE}),
    "TLS": Case(provider="openai", settings={"api_key": KEY, "api_url": "https://{garbled}"}),
    "query": Case(provider="openai-compatible", settings={"api_url": f"{NOWHERE}/v1?key={quote(KEY, safe='')}"}),
    "proxy refused": Case(
        provider="openai",
        settings={"api_key": KEY, "proxy": f"http://{USERINFO}@127.0.0.1:9"},
        canaries=(KEY, *IN_USERINFO),
    ),
    "proxy says no": Case(
        provider="openai",
        settings={"api_key": KEY, "api_url": "https://api.example", "proxy": f"http://{USERINFO}@{{host}}"},
        canaries=(KEY, *IN_USERINFO),
    ),
    "environment proxy says no": Case(
        provider="openai",
        settings={"api_key": KEY, "api_url": "https://api.example"},
        environ={"HTTPS_PROXY": f"http://{USERINFO}@{{host}}"},
        canaries=(KEY, *IN_USERINFO),
    ),
    "no answer": Case(
        provider="openai", settings={"api_key": KEY, "api_url": "{url}/late", "first_chunk_timeout": 0.1}
    ),
    "total": Case(provider="openai", settings={"api_key": KEY, "api_url": "{url}/late", "total_timeout": 0.1}),
    "container says no": Case(
        provider="bedrock",
        settings=REGION,
        environ={**CONTAINER, "AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/no"},
        canaries=(SECOND,),
    ),
    "container makes no sense": Case(
        provider="bedrock",
        settings=REGION,
        environ={**CONTAINER, "AWS_CONTAINER_CREDENTIALS_FULL_URI": "{url}/nonsense"},
        canaries=(SECOND,),
    ),
    "token service says no": Case(
        provider="bedrock",
        settings=REGION,
        environ={**IDENTITY, "AWS_ENDPOINT_URL_STS": "{url}/no"},
        files={"token": SECOND},
        canaries=(SECOND,),
    ),
    "broken profile": Case(
        provider="bedrock",
        settings={**REGION, "aws_profile": "canary"},
        files={"credentials": f"[canary]\naws_secret_access_key = {KEY}\n{KEY}\n"},
    ),
    "token provider": Case(provider="azure-openai", settings={"token_provider": lambda: SECOND + "\n" + KEY}),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", FAILURES)
async def test_no_canary_shows_where_nothing_was_answered(
    name: str, log: Log, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    case, recorder = FAILURES[name], Recorder()
    environment.setattr("aiobotocore.utils.AioContainerMetadataFetcher.SLEEP_TIME", 0)

    async def handler(exchange: Exchange) -> None:
        if exchange.request.target.startswith("/late"):
            await exchange.hung_up()
            return
        status = 200 if exchange.request.target == "/nonsense" else 407 if exchange.request.method == "CONNECT" else 400
        await exchange.respond(echoes(case, exchange).encode(), status=status)
        exchange.keep_alive = False

    async def garbled(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"no TLS here")

    async with serve(handler) as server, await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        settings = {**prepared(case, server.url, tmp_path, environment), "max_retries": 0}
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        settings["api_url"] = settings["api_url"].replace("{garbled}", f"127.0.0.1:{port}")
        async with (
            anyio.create_task_group() as tasks,
            trunkline.open_service(case.provider, extensions=recorder.extensions, **settings) as service,
        ):
            tasks.start_soon(listener.serve, garbled)
            shown = [await fail(service, lambda: service.chat(REQUEST)), await fail(service, lambda: read(service))]
            tasks.cancel_scope.cancel()
    found = [leak for text in (*shown, *recorder.recorded(), *log.lines) for leak in leaks(case, name, text)]
    assert not found, "\n".join(found)


@pytest.mark.anyio
async def test_a_cancelled_call_and_a_broken_plugin_show_no_variables_either(
    log: Log, environment: pytest.MonkeyPatch
) -> None:
    case = CASES["openai"]

    async def handler(exchange: Exchange) -> None:
        await exchange.hung_up()

    def broken(*arguments: object) -> None:
        headers = {"authorization": f"Bearer {KEY}"}
        raise KeyError(len(headers))

    async with serve(handler) as server:
        async with trunkline.open_service("openai", api_key=KEY, api_url=server.url, default_model="m") as service:
            with pytest.raises(TimeoutError) as caught:
                with anyio.fail_after(0.1):
                    await service.chat("Hello?")
            environment.setattr("trunkline.authoring.auth.HeaderAuth.sign", broken)
            with pytest.raises(
                PluginError, match="the authentication of trunkline-openai failed: KeyError: 1"
            ) as wrong:
                await service.chat("Hello?")
    assert not leaks(case, "cancelled", exposed(caught.value))
    assert not leaks(case, "broken", exposed(wrong.value))


# Settings


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "unknown": ("openai", {"api_key": KEY, "apikey": KEY}),
    "another mistake": ("openai", {"api_key": KEY, "chunk_timeout": "soon", "proxy": f"http://u:{KEY}@p"}),
    "line break": ("openai", {"api_key": f"{KEY}\n{KEY}"}),
    "list": ("openai", {"api_key": [KEY]}),
    "headers": ("openai", {"api_key": KEY, "headers": {"x": [KEY]}}),
    "header that is not ASCII": ("openai", {"api_key": "k", "headers": {"x-key": f"{KEY} \u00e9"}}),
    "header name": ("openai", {"api_key": "k", "headers": {"x key": KEY}}),
    "proxy of another kind": ("openai", {"api_key": KEY, "proxy": f"gopher://{USERINFO}@x"}),
    "headers in a list": ("openai", {"api_key": KEY, "headers": [KEY]}),
    "URL": ("openai-compatible", {"api_url": f"http://{USERINFO}@ x?key={KEY}"}),
    "port": ("openai-compatible", {"api_url": f"http://u:{KEY}@host:port"}),
    "scheme": ("openai-compatible", {"api_url": f"ftp://u:{KEY}@host"}),
    "half a pair": ("bedrock", {**REGION, "aws_secret_access_key": KEY}),
    "id": ("bedrock", {**REGION, "aws_access_key_id": f"{ID} {ID}", "aws_secret_access_key": KEY}),
    "legacy": ("bedrock", {**REGION, "api_key": f"{ID}:{KEY}:{TOKEN}:{TOKEN}"}),
    "token provider": ("azure-openai", {"api_url": "https://x.openai.azure.com", "token_provider": KEY}),
    "two credentials": (
        "azure-openai",
        {"api_url": "https://x.openai.azure.com", "api_key": KEY, "token_provider": token_provider},
    ),
    "reference": ("openai", {"api_key": {"env": "NOTHING", "file": KEY}}),
}
ANY = Case(provider="any", canaries=(KEY, ID, TOKEN, *IN_USERINFO))


@pytest.mark.parametrize("name", BAD)
def test_a_setting_that_is_refused_is_not_shown(name: str, log: Log) -> None:
    provider, values = BAD[name]
    table = {"services": {"s": {"provider": provider, **values}}}
    makers: list[Callable[[], object]] = [
        lambda: trunkline.open_service(provider, **values),
        lambda: trunkline.open_services(table, environ={}),
    ]
    if name not in ("unknown", "reference"):
        makers.append(lambda: load_provider(provider).settings(**values))
    for make in makers:
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert not leaks(ANY, name, exposed(caught.value))
    assert not leaks(ANY, name, "\n".join(log.lines))


@pytest.mark.parametrize("name", [name for name in CASES if not CASES[name].environ])
def test_settings_keep_their_secrets_however_they_are_looked_at(name: str, environment: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    # The test of calls gives the cases with userinfo and queries a server; here any will do.
    values = {
        key: value.replace("{host}", "h.example").replace("{url}", "http://h.example")
        if isinstance(value, str)
        else value
        for key, value in case.settings.items()
    }
    kind = load_provider(case.provider).settings
    made = kind(**({"api_url": "https://h.example"} | values))
    service = trunkline.open_service(made)
    assert not leaks(case, name, f"{made!r} {made} {service!r} {service}")
    assert copy.copy(made) == copy.deepcopy(made) == made
    for value in (made, service):
        with pytest.raises(TypeError):
            pickle.dumps(value)
    if "userinfo" not in name and "query" not in name and "proxy" not in name and "iam" not in name:
        # A URL and the id of a key are plain text to whoever asks for the fields themselves.
        assert not leaks(case, name, repr(attrs.asdict(made)))


def test_secrets_cannot_be_stored_or_pickled() -> None:
    request = WireRequest(url=f"https://u:{KEY}@x/?key={KEY}", headers={"Authorization": KEY}, body=KEY.encode())
    answer = WireResponse(status=200, headers={"x-echo": KEY}, body=KEY.encode())
    for value in (Secret(KEY), request, answer, request.headers):
        assert not leaks(ANY, "repr", f"{value!r} {value} {[value]}")
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(value)
        assert copy.deepcopy(value) == value
    with pytest.raises(TypeError):
        json.dumps(to_json(load_provider("openai").settings(api_key=KEY)))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"no such key: {KEY}.", "no such key: ***."),
        (f"?key={quote(KEY, safe='')}&", "?key=***&"),
        (quote(KEY, safe="").replace("%2F", "%2f"), "***"),
        (json.dumps({"key": KEY}).replace("/", "\\/"), '{"key": "***"}'),
        (b64encode(KEY.encode()).decode().rstrip("="), "***"),
        (f"cut here: {KEY[:15]}", "cut here: ***"),
        (f"{KEY[:14]}… and {KEY[:9]}…{KEY[-4:]}", f"***… and {KEY[:9]}…{KEY[-4:]}"),
        ("sk-can is how keys begin", "sk-can is how keys begin"),
    ],
)
def test_a_secret_is_scrubbed_in_the_forms_in_which_it_is_echoed(text: str, clean: str) -> None:
    assert scrub(text, (KEY,)) == clean


def test_a_short_secret_and_text_without_one_are_left() -> None:
    assert scrub("a key of five: abcde", ("abcde", "")) == "a key of five: abcde"
    assert scrub("caf\\u00e9 caf%C3%A9 99", ("caf\u00e9 99",)) == "caf\\u00e9 caf%C3%A9 99".replace(
        "caf%C3%A9 99", "***"
    )


# Redirects


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [None, httpx2.AsyncClient, httpx.AsyncClient])
async def test_credentials_never_follow_a_redirect(kind: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(status=307, headers={"location": f"{other.url}/v1/chat/completions"})

    async def unreached(exchange: Exchange) -> None:
        raise AssertionError("followed")

    async with serve(handler) as server, serve(unreached) as other:
        client = None if kind is None else kind(follow_redirects=True)
        settings = {"api_key": KEY, "api_url": server.url, "default_model": "m"}
        async with trunkline.open_service("openai", http_client=client, **settings) as service:
            with pytest.raises(UnexpectedRedirect):
                await service.chat("Hello?")
            with pytest.raises(UnexpectedRedirect):
                await read(service)
        if client is not None:
            await client.aclose()
    assert not other.requests


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["bedrock-container", "bedrock-identity", "bedrock-instance"])
async def test_a_source_of_credentials_that_redirects_is_not_followed(
    name: str, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr("aiobotocore.utils.AioContainerMetadataFetcher.SLEEP_TIME", 0)

    async def handler(exchange: Exchange) -> None:
        if exchange.request.target.endswith("/api/token"):
            await exchange.respond(SECOND.encode(), headers={})
        else:
            await exchange.respond(status=307, headers={"location": f"{other.url}/granted"})

    async def unreached(exchange: Exchange) -> None:
        await granting(exchange)

    async with serve(handler) as server, serve(unreached) as other:
        case = CASES[name]
        settings = prepared(case, server.url, tmp_path, environment)
        async with trunkline.open_service(case.provider, **settings) as service:
            with pytest.raises(TrunklineError):
                await service.authenticate()
    assert server.requests
    assert not other.requests
