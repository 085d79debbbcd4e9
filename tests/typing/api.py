"""What a user's editor sees of the public names. Never run: mypy and pyright check it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, assert_never, assert_type

import httpx
import httpx2
import trunkline
from trunkline import (
    Batch,
    CallWarning,
    ChatParams,
    ChatRequest,
    ChatResponse,
    Citation,
    Event,
    Finished,
    FinishReason,
    Message,
    ModelInfo,
    Operation,
    PartAdded,
    ProviderService,
    ReasoningDelta,
    ReasoningEnd,
    ReasoningStart,
    ResponseStarted,
    ResumePoint,
    Secret,
    Service,
    Services,
    Stream,
    TextDelta,
    TextEnd,
    TextStart,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    TrunklineError,
    Usage,
    UsageReported,
    assistant,
    hookimpl,
    system,
    tool_result,
    user,
)
from trunkline.authoring.auth import HeaderAuth
from trunkline.authoring.provider import Auth, Provider
from trunkline.authoring.wire import WireRequest
from trunkline_anthropic import AnthropicSettings
from trunkline_azure_openai import AzureOpenAISettings
from trunkline_bedrock import BedrockSettings
from trunkline_cohere import CohereSettings
from trunkline_gemini import GeminiSettings
from trunkline_llamacpp import LlamaCppSettings
from trunkline_mistral import MistralSettings
from trunkline_ollama import OllamaSettings
from trunkline_openai import OpenAICompatibleSettings, OpenAISettings, Profile
from trunkline_vertex import VertexSettings

weather = Tool(
    name="weather",
    description="The weather of a city, now.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    strict=True,
)


def opening(acme: Provider) -> None:
    """By name, settings object or provider, with a client of the application's own; many from a file or a mapping."""
    assert_type(trunkline.open_service("openai", api_key="k", default_model="m"), ProviderService)
    assert_type(trunkline.open_service(OpenAISettings(api_key="k", api="responses")), ProviderService)
    assert_type(trunkline.open_service(OpenAICompatibleSettings(api_url="http://127.0.0.1:8080")), ProviderService)
    assert_type(trunkline.open_service(LlamaCppSettings(model_path="model.gguf"), name="local"), ProviderService)
    assert_type(trunkline.open_service(acme, api_key="k", default_model="m"), ProviderService)
    assert_type(trunkline.open_service(acme, OpenAISettings(api_key="k"), name="main"), ProviderService)
    trunkline.open_service("openai", http_client=httpx2.AsyncClient())
    trunkline.open_service("openai", http_client=httpx.AsyncClient())
    assert_type(trunkline.open_services("trunkline.toml"), Services)
    assert_type(trunkline.open_services({"services": {"local": {"provider": "llamacpp"}}}), Services)


def settings() -> None:
    """A setting may be given as text where it reads as another type."""
    openai = OpenAISettings(api_key="k", extensions=["audit"], headers={"x-team": "search"})
    assert_type(openai.api_key, Secret)
    assert_type(openai.chunk_timeout, float | None)
    assert_type(OpenAISettings(api_key=Secret("k"), max_retries=0).api, Literal["chat", "responses"])
    server = OpenAICompatibleSettings(api_url="http://127.0.0.1:8080", api_key="k", profile="vllm")
    assert_type(server.api_key, Secret | None)
    assert_type(server.profile, Profile | None)
    OpenAICompatibleSettings(api_url="http://127.0.0.1:8080", profile={"base": "vllm", "stream_options": False})
    AnthropicSettings(api_key="k", betas=["files"])
    AzureOpenAISettings(api_url="https://example.openai.azure.com", api_key="k")
    BedrockSettings(aws_region="us-east-1", aws_access_key_id="id", aws_secret_access_key="k", aws_session_token="t")
    BedrockSettings(aws_region="us-east-1", api_key="k")
    CohereSettings(api_key="k")
    GeminiSettings(api_key="k")
    VertexSettings(project="p", location="eu", access_token=lambda: "token")
    LlamaCppSettings()
    MistralSettings(api_key="k")
    OllamaSettings(api_key="k", keep_alive=-1)


async def running(service: Service, length: Operation[str, int]) -> None:
    """An operation gives the type of its result, whatever type the place of the call accepts."""
    assert_type(await service.run(length, "text"), int)
    print(await service.run(length, "text"))


async def calling(service: Service, services: Services) -> None:
    """Each call takes a string, messages or a whole request."""
    response = await service.chat("Why is the sky blue?")
    assert_type(response, ChatResponse)
    assert_type(response.text, str)
    assert_type(response.finish_reason, FinishReason)
    assert_type(response.warnings, tuple[CallWarning, ...])
    assert_type([(warning.lossy, warning.count) for warning in response.warnings], list[tuple[bool, int]])
    assert_type(response.service, str | None)
    assert_type(response.usage, Usage | None)
    if response.usage is not None:
        assert_type(response.usage.input_tokens, int | None)
    assert_type(services["claude"], Service)
    await services["claude"].chat([system("Be short."), user("Hello")])
    assert_type(await service.list_models(), tuple[ModelInfo, ...])
    assert_type((await service.embed(["a", "b"])).embeddings, tuple[tuple[float, ...], ...])
    assert_type(await service.count_tokens("How long is this?"), int)


async def batches(service: Service) -> None:
    """A batch takes whatever `chat` takes, and its results are responses or errors."""
    batch = await service.submit_batch({"a": "one", "b": [user("two")], "c": ChatRequest(messages="three")}, seed=1)
    assert_type(batch, Batch)
    assert_type(batch.ended, bool)
    assert_type(batch.counts.total, int | None)
    assert_type([request.warnings for request in batch.requests], list[tuple[CallWarning, ...]])
    batch = await service.get_batch(batch.id)
    results = dict(await service.batch_results(batch))
    assert_type(results, dict[str, ChatResponse | TrunklineError])
    assert_type(await service.cancel_batch(batch), Batch)
    assert_type(await service.list_batches(limit=5), tuple[Batch, ...])


async def keywords(service: Service, request: ChatRequest, defaults: ChatParams) -> None:
    """The fields of a request are keywords of a call, and change a request that is given."""
    assert_type(await service.chat("Hello", temperature=0, tools=[weather], tool_choice="weather"), ChatResponse)
    assert_type(await service.chat(request, stop="END", metadata={"team": "search"}), ChatResponse)
    assert_type(service.stream("Hello", model="m", reasoning=trunkline.ReasoningOptions(effort="low")), Stream)
    assert_type(await service.count_tokens("Hello", tools=[weather]), int)
    await service.chat("Hello", **defaults)
    await service.embed("a", dimensions=256, model="m")


async def tools(service: Service) -> ChatResponse:
    """A round of tools."""
    request = ChatRequest(
        messages=[system("Use the tools."), user("Weather in Oslo?", trunkline.Image(url="https://example.org/a.png"))],
        tools=[weather],
        tool_choice="weather",
        max_output_tokens=500,
        stop="END",
    )
    response = await service.chat(request)
    assert_type(response.message, Message)
    assert_type(response.tool_calls, tuple[ToolCall, ...])
    results = [tool_result(call, {"celsius": 7}) for call in response.tool_calls]
    assert_type(results, list[Message])
    return await service.chat(request.with_messages(response.message, *results, assistant("7 °C"), user("And Bergen?")))


async def streaming(service: Service) -> str:
    """A stream is an async context manager and an async iterator of events."""
    shown = ""
    async with service.stream("Why is the sky blue?") as stream:
        assert_type(stream, Stream)
        async for event in stream:
            shown += show(event)
    assert_type(stream.response, ChatResponse)
    return shown


def show(event: Event) -> str:
    """The union of events is closed: a type checker reports an event that a `match` does not handle."""
    match event:
        case ResponseStarted(model=model, warnings=warnings):
            assert_type(model, str | None)
            return "".join(str(warning) for warning in warnings)
        case TextDelta(text=text) | ReasoningDelta(text=text):
            assert_type(text, str)
            return text
        case ToolCallStart(index=index, name=name):
            assert_type(index, int)
            return name
        case ToolCallDelta(arguments=arguments):
            return arguments
        case TextStart() | TextEnd() | ReasoningStart() | ReasoningEnd() | ToolCallEnd():
            return ""
        case Citation(url=url):
            return url or ""
        case PartAdded(part=part):
            return type(part).__name__
        case UsageReported(usage=usage):
            assert_type(usage, Usage)
            return ""
        case ResumePoint(response_id=response_id, after=after):
            assert_type(after, int | None)
            return response_id
        case Finished(reason=reason):
            assert_type(reason, FinishReason)
            return reason.value
        case _:
            assert_never(event)


async def failing(service: Service) -> float | None:
    """The attributes of errors have precise types."""
    try:
        await service.chat("Hello")
    except trunkline.StreamInterrupted as error:
        assert_type(error.partial, ChatResponse | None)
    except trunkline.RemoteError as error:
        assert_type(error.status, int | None)
        assert_type((error.service, error.model, error.endpoint), tuple[str | None, str | None, str | None])
        assert_type(error.retryable, bool)
        return error.retry_after
    except trunkline.ConfigurationError as error:
        assert_type(error.setting, str | None)
    return None


class Cost(trunkline.Observer):
    """An observer overrides what it needs."""

    def __init__(self) -> None:
        self.tokens = 0

    def finished(self, call: trunkline.Call, response: object) -> None:
        """Count."""
        if isinstance(response, ChatResponse) and response.usage is not None:
            self.tokens += response.usage.total_tokens or 0


class CompanyAuth(HeaderAuth):
    """An extension may replace a provider's authentication."""

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        """One more header."""
        return super().sign(wire_request, credentials).with_headers({"x-team": "search"})


class Company:
    """An extension: hook implementations, in a class or a module."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    @hookimpl(tryfirst=True)
    def trunkline_auth(self, context: trunkline.ServiceContext[trunkline.Settings]) -> Auth:
        """The token of the company's gateway."""
        return CompanyAuth("authorization", self.environment["GATEWAY_TOKEN"], prefix="Bearer ")

    @hookimpl
    def trunkline_observer(self, context: trunkline.ServiceContext[trunkline.Settings]) -> trunkline.Observer:
        """What it costs."""
        return Cost()


def extended() -> Service:
    """An extension is given as an object, or by its name."""
    return trunkline.open_service("openai", extensions=[Company({"GATEWAY_TOKEN": "t"}), "audit"])


async def limits(first: Service, second: Service) -> None:
    """Services made of services, and what their providers report."""
    limited = trunkline.limit(first, concurrency=5, requests_per_minute=100, tokens_per_minute=10_000)
    assert_type(limited, trunkline.LimitedService)
    assert_type(limited.with_options(max_retries=0), trunkline.LimitedService)
    assert_type(limited.status.overshoot, int)
    assert_type(trunkline.balance(limited, second, weights=[2, 1]), Service)
    response = await limited.chat("hi")
    if response.rate_limits is not None and response.rate_limits.requests is not None:
        assert_type(response.rate_limits.requests.remaining, int | None)
        assert_type(response.rate_limits.requests.reset_after, float | None)
    try:
        await limited.chat("hi")
    except trunkline.LimitTimeout as error:
        assert_type(error.limit, str | None)
    except trunkline.RemoteError as error:
        assert_type(error.rate_limits, trunkline.RateLimits | None)


@trunkline.tool
async def forecast(city: str, days: int = 1) -> list[str]:
    """A tool stays callable with the types of its function."""
    return [city] * days


class Library:
    """A method of an object is a tool without its first argument."""

    @trunkline.tool(strict=True)
    def find(self, title: str) -> bool:
        """Find a book."""
        return bool(title)


async def runs_of_tools(service: Service, library: Library) -> None:
    """A run is awaited, or its events are read; with a type, it has an answer of that type."""
    assert_type(await forecast("Oslo", days=2), list[str])
    assert_type(library.find("Emma"), bool)
    run = await trunkline.run_tools(service, "?", [forecast, library.find, weather, len], temperature=0)
    assert_type(run, trunkline.ToolRun)
    assert_type(run.text, str)
    typed = await trunkline.run_tools(service, "?", [forecast], answer_type=Library, answer_retries=1)
    assert_type(typed.answer, Library)
    in_a_variable: list[trunkline.Tool] = [forecast, library.find, weather]
    assert_type(await trunkline.run_tools(service, "?", in_a_variable), trunkline.ToolRun)
    async with trunkline.run_tools(service, "?", [forecast], approve=lambda call: call.name != "rm") as events:
        async for event in events:
            if isinstance(event, trunkline.ToolFinished):
                assert_type(event.error, Exception | None)
    await service.chat("?", tools=[forecast, library.find])
