"""Mistakes that an editor must show. Never run: mypy and pyright check it.

Each mistake is marked with the error that both must report. A mark without its error fails the check.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import trunkline
from trunkline_anthropic import AnthropicSettings
from trunkline_azure_openai import AzureOpenAISettings
from trunkline_bedrock import BedrockSettings
from trunkline_cohere import CohereSettings
from trunkline_gemini import GeminiSettings
from trunkline_llamacpp import LlamaCppSettings
from trunkline_mistral import MistralSettings
from trunkline_ollama import OllamaSettings
from trunkline_openai import OpenAICompatibleSettings, OpenAISettings

URL = "https://api.example.com"


def misspelt_settings() -> None:
    """A setting of the provider's own, and one that all providers share."""
    OpenAISettings(api_kye="k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    OpenAISettings(api_key="k", max_retires=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    OpenAICompatibleSettings(api_ulr=URL)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AnthropicSettings(api_key="k", beta=["a"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AzureOpenAISettings(api_url=URL, key="k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    BedrockSettings(region="us-east-1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    CohereSettings(api_kye="k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    GeminiSettings(api_kye="k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    LlamaCppSettings(modelpath="m.gguf")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MistralSettings(api_kye="k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    OllamaSettings(context_lenght=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def wrong_settings() -> str:
    """A missing setting, a value of the wrong type, and a change afterwards."""
    OpenAISettings()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    OpenAISettings(api_key=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    OpenAISettings(api_key="k", api="complete")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    OpenAISettings(api_key="k", max_retries="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    OpenAISettings(api_key="k", extensions=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    openai = OpenAISettings(api_key="k")
    openai.max_retries = 3  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    openai.api_key = "k"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    return openai.api_key  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def wrong_client() -> None:
    """A client of another library, or a blocking one."""
    trunkline.open_service("openai", http_client=object())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def misspelt_keywords(service: trunkline.Service, request: trunkline.ChatRequest) -> None:
    """A field of a request that does not exist, or has another type."""
    await service.chat("Hello", temprature=0)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await service.chat(request, max_tokens=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await service.chat("Hello", temperature="0")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await service.chat({"role": "user"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    service.stream("Hello", tool=[])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await service.count_tokens("Hello", modle="m")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await service.embed("a", dimension=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    trunkline.ChatRequest(message="Hello")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
