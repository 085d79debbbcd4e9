"""A toy provider, so that the core is tested without a plugin, and both backends."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from trunkline._http.choice import HTTPTransports
from trunkline.authoring.auth import HeaderAuth
from trunkline.authoring.framing import JSONLinesFramer
from trunkline.authoring.http_errors import error_body, retry_after
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.provider import Operation, Operations, Provider, ServiceContext, Translation
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import (
    AuthenticationError,
    NotFound,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    ServerError,
    StreamInterrupted,
    TrunklineError,
)
from trunkline.events import Event, Finished, ResponseStarted, TextDelta, TextEnd, TextStart, UsageReported
from trunkline.messages import Text
from trunkline.provider_service import ProviderService
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import CallWarning, ChatResponse, EmbedResponse, FinishReason, ModelInfo, Usage
from trunkline.secrets import Secret
from trunkline.settings import Converted, KeySource, Settings, setting, settings


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    """A folder with a short path: the path of a Unix socket is limited to about a hundred bytes."""
    with TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(params=["asyncio-aiohttp", "asyncio-httpx2", "trio-httpx2"])
def stack(request: pytest.FixtureRequest) -> str:
    """A backend and the HTTP library on it; a module takes `anyio_backend` and `http_library` from it."""
    name: str = request.param
    return name


STACKS = {"asyncio-aiohttp": "auto", "asyncio-httpx2": "httpx2", "trio-httpx2": "auto"}
"""The backends and the HTTP libraries on them, with the setting `http_library` that chooses it."""


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests with the mark `each_stack` on each stack, or on each backend if they use no HTTP library."""
    if metafunc.definition.get_closest_marker("each_stack") is None:
        return
    names = [name for name in ("anyio_backend", "http_library") if name in metafunc.fixturenames]
    if names:
        rows = {stack: {"anyio_backend": stack.partition("-")[0], "http_library": STACKS[stack]} for stack in STACKS}
        stacks = {tuple(row[name] for name in names): stack for stack, row in rows.items()}
        # As a mark, since pytest then leaves out the parameters of the fixture.
        metafunc.definition.add_marker(pytest.mark.parametrize(names, list(stacks), ids=list(stacks.values())))


@pytest.fixture
def http_library() -> str:
    """The setting of the toy's services."""
    return "auto"


@settings
class ToySettings(Settings):
    """Settings of a provider that exists in these tests alone."""

    provider = "toy"

    url: str = setting("URL", "Where it is.")
    api_key: Converted[Secret, KeySource] = setting(
        "API Key", "Its key.", default=Secret("toy-secret-key"), environment=("TOY_KEY",), from_function=True
    )


def toy_error(status: int, body: bytes, headers: Any) -> RemoteError:
    message = body.decode("utf-8", "replace")
    options: dict[str, Any] = {"status": status, "retry_after": retry_after(headers)}
    if status == 401:
        return AuthenticationError(message, **options)
    if status == 404:
        return NotFound(message, **options)
    if status == 429:
        return RateLimited(message, **options)
    return ServerError(message, **options)


class ToyTranslator:
    def __init__(self, context: ServiceContext[ToySettings]) -> None:
        self._settings = context.settings

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        warnings = ()
        if request.seed is not None:
            warnings = (CallWarning(kind="unsupported", subject="seed", message="toys have no seed", lossy=True),)
        body = {
            "model": request.model,
            "text": [message.text for message in request.messages],
            "stream": stream,
            "max": request.max_output_tokens,
        }
        return Translation(
            wire_request=WireRequest(url=self._settings.url + "/chat", body=dumps(body)), warnings=warnings
        )


class ToyParser:
    def stream(self) -> tuple[JSONLinesFramer, ToyStream]:
        return JSONLinesFramer(), ToyStream()

    def body(self, wire_response: WireResponse) -> ChatResponse:
        try:
            body = loads(wire_response.body)
            text = body["text"]
        except (ValueError, KeyError, TypeError) as error:
            raise ProtocolViolation("no toy answer") from error
        used = body.get("usage") or (None, 1)
        usage = Usage(input_tokens=used[0], output_tokens=used[1])
        return ChatResponse(parts=(Text(text=text),), finish_reason=FinishReason.STOP, usage=usage)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        error = toy_error(wire_response.status, wire_response.body, wire_response.headers)
        error.body = error_body(wire_response)
        return error


class ToyStream:
    def __init__(self) -> None:
        self._started = False

    def feed(self, frame: bytes) -> list[Event]:
        try:
            line = loads(frame)
        except ValueError as error:
            raise ProtocolViolation("no JSON") from error
        events: list[Event] = []
        if not self._started:
            self._started = True
            events += [ResponseStarted(id="1", model="toy-1")]
        if "error" in line:
            raise toy_error(line["error"], b"in the stream", {})
        if "usage" in line:
            events.append(UsageReported(usage=Usage(input_tokens=line["usage"][0], output_tokens=line["usage"][1])))
        if "open" in line:
            events.append(TextStart(index=0))
        if "text" in line:
            events.append(TextDelta(index=0, text=line["text"]))
        if line.get("done"):
            usage = Usage(output_tokens=1)
            events += [TextEnd(index=0), UsageReported(usage=usage), Finished(reason=FinishReason.STOP, usage=usage)]
        return events

    def finish(self) -> list[Event]:
        raise StreamInterrupted("no done")


def _list(context: ServiceContext[ToySettings], cursor: str | None) -> WireRequest:
    return WireRequest(method="GET", url=f"{context.settings.url}/models?page={cursor or 1}")


def _listed(context: ServiceContext[ToySettings], answer: WireResponse) -> tuple[tuple[ModelInfo, ...], str | None]:
    page = loads(answer.body)
    return tuple(ModelInfo(id=name) for name in page["models"]), page["next"]


def _embed(context: ServiceContext[ToySettings], request: EmbedRequest) -> Translation:
    return Translation(wire_request=WireRequest(url=f"{context.settings.url}/embed", body=dumps(list(request.inputs))))


def _embedded(context: ServiceContext[ToySettings], answer: WireResponse) -> EmbedResponse:
    return EmbedResponse(embeddings=tuple(map(tuple, loads(answer.body))))


def make_toy(**changes: Any) -> Provider:
    fields: dict[str, Any] = {
        "name": "toy",
        "settings": ToySettings,
        "auth": lambda context: HeaderAuth("authorization", context.settings.api_key, prefix="Bearer "),
        "translator": ToyTranslator,
        "response_parser": lambda context: ToyParser(),
        "operations": lambda context: Operations(
            list_models=Operation(build=_list, parse=_listed), embed=Operation(build=_embed, parse=_embedded)
        ),
    }
    return Provider(**{**fields, **changes})


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a distribution: `install("dist", group, {"name": "module:value"}, module=source)`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    imported = set(sys.modules)

    def make(
        distribution: str, group: str, names: dict[str, str], requires: Sequence[str] = (), **modules: str
    ) -> None:
        folder = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        required = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n{required}")
        lines = "".join(f"{name} = {value}\n" for name, value in names.items())
        (folder / "entry_points.txt").write_text(f"[{group}]\n{lines}")
        for module, source in modules.items():
            (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))

    yield make
    for module in set(sys.modules) - imported:
        if module.startswith("plugin_"):
            del sys.modules[module]


@pytest.fixture
def toy(http_library: str) -> Any:
    """Make a service of the toy provider: `toy(url, **settings)`; `provider=` takes changes of the provider."""

    def make(
        url: str, provider: dict[str, Any] | None = None, client: Any = None, name: str = "toy", **values: Any
    ) -> ProviderService:
        values.setdefault("default_model", "toy-1")
        values.setdefault("http_library", http_library)
        return ProviderService(
            name,
            make_toy(**(provider or {})),
            ToySettings(url=url, **values),
            transports=HTTPTransports(client),
        )

    return make
