"""The model families of the matrix: the service for each family, the rules of its server, and its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from strict_servers import anthropic, bedrock, chat, cohere, gemini, mistral, ollama, responses
from strict_servers.answers import (
    Anthropic,
    Chat,
    Converse,
    Gemini,
    Renderer,
    Responses,
    Said,
    cohere as cohere_answer,
    ollama as ollama_answer,
)
from strict_servers.refusal import Body, Check, Refusal
from strict_servers.seal import seal


@attrs.frozen(kw_only=True, eq=False)
class Family:
    """A model family that is reached through one service.

    - `wire`: the wire format, for its errors and for the columns of the table.
    - `settings`: the settings of the service, without the URL.
    - `thinks`: the models reason. `budget`: the number of reasoning tokens that the requests ask for.
    - `images`: the models make pictures. `sees`: the models read pictures. `tools`: the models call tools. `hosted`:
      the provider runs some tools.
    - `text_arguments`: the models write the arguments of calls as text, which may be invalid JSON.
    """

    name: str
    wire: str
    provider: str
    model: str
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    checks: tuple[Check, ...] = attrs.field(repr=False)
    answer: Renderer = attrs.field(repr=False)
    thinks: bool = True
    images: bool = False
    sees: bool = True
    tools: bool = True
    hosted: bool = False
    text_arguments: bool = True
    budget: int | None = None

    def refusals(self, body: Body) -> list[Refusal]:
        """Return the reasons for which the server refuses a request."""
        return [refusal for check in self.checks for refusal in check(body)]


def _hex(said: Said, index: int) -> str:
    return f"call_{said.number:03}{index:021}"


def _restarting(said: Said, index: int) -> str:
    return f"call_{index}"


def _compatible(name: str, model: str, profile: Any, checks: str, answer: Chat, **fields: Any) -> Family:
    return Family(
        name=name,
        wire="chat",
        provider="openai-compatible",
        model=model,
        settings={"profile": profile},
        checks=chat.CHECKS[checks],
        answer=answer,
        **fields,
    )


def _converse(name: str, model: str, checks: str, answer: Converse, **fields: Any) -> Family:
    return Family(
        name=name,
        wire="converse",
        provider="bedrock",
        model=model,
        settings={"aws_region": "us-east-1"},
        checks=bedrock.CHECKS[checks],
        answer=answer,
        **fields,
    )


def _gemini(name: str, model: str, checks: str, sealed: str, **fields: Any) -> Family:
    return Family(
        name=name,
        wire="gemini",
        provider="gemini",
        model=model,
        checks=gemini.CHECKS[checks],
        answer=Gemini(sealed=sealed),
        hosted=True,
        text_arguments=False,
        **fields,
    )


def _tooluse(said: Said, index: int) -> str:
    return f"tooluse_{said.number:03}-{index:018}"


def _claude_signature(said: Said) -> str:
    return seal("claude", f"{said.number}")


ALL: tuple[Family, ...] = (
    Family(
        name="OpenAI (chat)",
        wire="chat",
        provider="openai",
        model="gpt-4.1",
        checks=chat.CHECKS["openai"],
        answer=Chat(call_id=_hex),
        thinks=False,
    ),
    Family(
        name="OpenAI (responses)",
        wire="responses",
        provider="openai",
        model="gpt-5.6",
        settings={"api": "responses"},
        checks=responses.checks("openai"),
        answer=Responses(sealed="openai"),
        images=True,
        hosted=True,
    ),
    Family(
        name="Azure (chat)",
        wire="chat",
        provider="azure-openai",
        model="gpt-4.1",
        checks=chat.CHECKS["azure"],
        answer=Chat(call_id=_hex),
        thinks=False,
    ),
    Family(
        name="Azure (responses)",
        wire="responses",
        provider="azure-openai",
        model="gpt-5.4",
        settings={"api": "responses"},
        checks=responses.checks("azure"),
        answer=Responses(sealed="azure"),
        hosted=True,
    ),
    _compatible(
        "DeepSeek",
        "deepseek-v4-pro",
        "deepseek",
        "deepseek",
        Chat(call_id=lambda said, index: f"call_{index:02}_{said.number:020}"),
        sees=False,
    ),
    _compatible(
        "Kimi",
        "kimi-k2.6",
        "moonshot",
        "kimi",
        Chat(call_id=lambda said, index: f"functions.weather:{said.number * 4 + index}"),
    ),
    _compatible(
        "Groq (gpt-oss)",
        "openai/gpt-oss-120b",
        "groq",
        "groq",
        Chat(reasoning="reasoning", call_id=lambda said, index: f"fc_{said.number:08}-{index:04}-4a9b-a3a1-6d3f0c0d"),
    ),
    _compatible(
        "Cerebras (gpt-oss)",
        "gpt-oss-120b",
        "cerebras",
        "cerebras",
        Chat(reasoning="reasoning", call_id=lambda said, index: f"{said.number:05}{index:04}"),
    ),
    _compatible("xAI", "grok-4.3", "xai", "xai", Chat(call_id=_restarting)),
    _compatible(
        "OpenRouter (Gemini 3)",
        "google/gemini-3-flash-preview",
        "openrouter",
        "openrouter (gemini)",
        Chat(signs="details", sealed="gemini-3", call_id=lambda said, index: f"tool_{index}_weather"),
        images=True,
    ),
    _compatible(
        "Gemini 3 (chat)",
        "gemini-3-flash-preview",
        "gemini",
        "google",
        Chat(signs="calls", sealed="gemini-3", call_id=lambda said, index: f"function-call-{said.number:09}{index:09}"),
    ),
    _compatible(
        "Perplexity",
        "sonar-pro",
        "perplexity",
        "perplexity",
        Chat(call_id=_hex),
        thinks=False,
        tools=False,
    ),
    Family(
        name="Mistral (chat)",
        wire="chat",
        provider="openai-compatible",
        model="mistral-medium-3-5",
        settings={"profile": "mistral"},
        checks=mistral.CHECKS,
        answer=Chat(thinking_chunks=True, call_id=lambda said, index: f"{said.number:05}{index:04}"),
    ),
    _compatible(
        "llama.cpp (Devstral)",
        "devstral-small-2",
        "llama.cpp",
        "llama.cpp (devstral)",
        Chat(call_id=lambda said, index: f"{said.number:016}{index:016}"),
        thinks=False,
    ),
    _compatible(
        "llama.cpp (Qwen)",
        "qwen3.5-9b",
        "llama.cpp",
        "llama.cpp (qwen)",
        Chat(call_id=lambda said, index: f"{said.number:016}{index:016}"),
    ),
    _compatible(
        "vLLM (Qwen)",
        "Qwen/Qwen3.5-9B",
        "vllm",
        "vllm",
        Chat(reasoning="reasoning", call_id=lambda said, index: f"chatcmpl-tool-{said.number:016}{index:016}"),
    ),
    Family(
        name="Claude",
        wire="anthropic",
        provider="anthropic",
        model="claude-sonnet-4-5",
        checks=anthropic.CLAUDE,
        answer=Anthropic(sign=_claude_signature),
        hosted=True,
        budget=2000,
    ),
    Family(
        name="Claude (adaptive)",
        wire="anthropic",
        provider="anthropic",
        model="claude-opus-5",
        checks=(*anthropic.CLAUDE, anthropic.no_prefill),
        answer=Anthropic(sign=_claude_signature),
        hosted=True,
    ),
    Family(
        name="Kimi (Anthropic's API)",
        wire="anthropic",
        provider="anthropic",
        model="kimi-for-coding",
        checks=anthropic.COMPATIBLE,
        answer=Anthropic(sign=lambda said: None),
    ),
    Family(
        name="DeepSeek (Anthropic's API)",
        wire="anthropic",
        provider="anthropic",
        model="deepseek-v4-flash",
        checks=anthropic.COMPATIBLE,
        answer=Anthropic(sign=lambda said: f"91cfbb94-554b-4136-8e21-{said.number:012}"),
        sees=False,
    ),
    _converse(
        "Bedrock (Claude)",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "claude",
        Converse(call_id=_tooluse, signed=True),
        budget=2000,
    ),
    _converse("Bedrock (Nova)", "us.amazon.nova-pro-v1:0", "nova", Converse(call_id=_tooluse), thinks=False),
    _converse(
        "Bedrock (DeepSeek)", "us.deepseek.r1-v1:0", "deepseek", Converse(call_id=_tooluse), sees=False, tools=False
    ),
    _converse("Bedrock (gpt-oss)", "openai.gpt-oss-120b-1:0", "gpt-oss", Converse(call_id=_restarting), sees=False),
    _converse(
        "Bedrock (Llama)",
        "us.meta.llama4-maverick-17b-instruct-v1:0",
        "llama",
        Converse(call_id=_tooluse),
        thinks=False,
    ),
    _converse(
        "Bedrock (Mistral)",
        "mistral.mistral-large-2407-v1:0",
        "mistral",
        Converse(call_id=_tooluse),
        thinks=False,
        sees=False,
    ),
    _gemini("Gemini 2.5", "gemini-2.5-flash", "gemini-2.5", "gemini-2.5"),
    _gemini("Gemini 3", "gemini-3.1-pro-preview", "gemini-3", "gemini-3"),
    _gemini(
        "Gemini 3 (images)", "gemini-3-pro-image-preview", "gemini-3 (images)", "gemini-3", images=True, tools=False
    ),
    Family(
        name="Mistral",
        wire="mistral",
        provider="mistral",
        model="mistral-medium-3-5",
        checks=mistral.CHECKS,
        answer=Chat(thinking_chunks=True, call_id=lambda said, index: f"{said.number:05}{index:04}"),
    ),
    Family(
        name="Cohere",
        wire="cohere",
        provider="cohere",
        model="command-a-03-2025",
        checks=cohere.CHECKS,
        answer=cohere_answer,
        sees=False,
    ),
    Family(
        name="Ollama (Qwen)",
        wire="ollama",
        provider="ollama",
        model="qwen3",
        checks=ollama.CHECKS,
        answer=ollama_answer,
        text_arguments=False,
    ),
)
"""The families of the matrix."""
