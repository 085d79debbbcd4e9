"""OpenAI's and Anthropic's APIs at Bedrock: the translators and parsers of their plugins, with Bedrock's differences.

What `bedrock-mantle` and `bedrock-runtime` accept is data: `PROFILE`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
from trunkline.authoring.model_facts import FactOverrides
from trunkline.authoring.provider import Auth, Operations, ProviderParts, ServiceContext, Translation
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import TrunklineError
from trunkline.request import ChatRequest
from trunkline.response import TokenLogprob
from trunkline_anthropic import MessagesEndpoint, MessagesParts, at_root, messages_parts
from trunkline_anthropic.errors import error_from_body as anthropic_error
from trunkline_anthropic.model_facts import facts_of as claude_facts
from trunkline_anthropic.operations import messages_operations
from trunkline_anthropic.parse import MessagesParser
from trunkline_anthropic.translate import MessagesTranslator
from trunkline_openai import BASIC_FEATURES, BASIC_RESPONSES_FEATURES, Profile
from trunkline_openai.compatible_models import ANYWHERE
from trunkline_openai.errors import error_from_body as openai_error
from trunkline_openai.model_facts import OPENAI_MODELS, ModelFacts, facts_of
from trunkline_openai.parse import ChatParser, ChatResponseParser
from trunkline_openai.responses_parse import ResponsesParser
from trunkline_openai.responses_translate import ResponsesTranslator
from trunkline_openai.translate import ChatTranslator

from trunkline_bedrock.converse_options import without_converse_options
from trunkline_bedrock.credentials import ServerClock
from trunkline_bedrock.errors import or_aws
from trunkline_bedrock.model_facts import openai_name
from trunkline_bedrock.routing import messages_root, openai_address
from trunkline_bedrock.settings import BedrockSettings

PROFILE = Profile(
    name="bedrock",
    # No `max_tokens`: the model cards of GPT-6 (docs.aws.amazon.com, October 2026); examples for GPT OSS have this
    max_tokens_field="max_completion_tokens",
    user_id_field=None,
    models=(*OPENAI_MODELS, *ANYWHERE),
    # Nothing here confirms which fields Chat Completions refuses. URLs of media are not listed, since no AWS page says
    # that Bedrock downloads them.
    takes=BASIC_FEATURES - {"image_url", "names"} | {"parallel_tool_calls", "strict_tools", "reasoning_effort"},
    # Recorded in 2026: `include` with encrypted reasoning, `store`, and responses with `metadata`, `reasoning.summary`
    # and `prompt_cache_key`. Caching only with this API: the card of GPT-6 Astra.
    responses=BASIC_RESPONSES_FEATURES - {"image_url"}
    | {
        "parallel_tool_calls",
        "strict_tools",
        "reasoning_effort",
        "reasoning_summary",
        "encrypted_reasoning",
        "store",
        "metadata",
        "cache_key",
        "cache_breakpoints",
    },
    stream_options=True,
    system_messages="first",
    other_content=False,
    reasoning_fields=("reasoning", "reasoning_content"),  # `reasoning`: recorded
)
"""What Bedrock accepts in OpenAI's APIs."""

_REASONING, _REASONING_END = "<reasoning>", "</reasoning>"

_UNKNOWN = ModelFacts(reasons="opt_in", refuses_while_reasoning=frozenset())


def _facts(settings: BedrockSettings, model: str, api: str) -> ModelFacts:
    """Return the facts about a model. Its family is that of one API: the others do not accept its reasoning."""
    name = openai_name(model, settings.model_facts)
    facts = facts_of(name, PROFILE.models, {})
    if facts.family is None:
        facts = attrs.evolve(_UNKNOWN, family=name)
    return attrs.evolve(facts, family=f"{facts.family}:{api}")


def _warn_of_user_id(request: ChatRequest, warnings: Warnings) -> None:
    if request.user_id is not None:
        warnings.add("unsupported", "user_id", "not supported by Bedrock; ignored", lossy=True)


class BedrockChatTranslator(ChatTranslator):
    """Translates requests for Chat Completions."""

    # The setting `model_facts` has the facts of Converse, under other names.
    @property
    def _configured_facts(self) -> FactOverrides:
        return {}

    def facts_about(self, model: str) -> ModelFacts:
        """The facts about a model of any vendor, by its id at Bedrock."""
        return _facts(self.context.settings, model, "chat")

    def body(self, request: ChatRequest, warnings: Warnings, *, stream: bool) -> dict[str, Any]:
        """The JSON body, without the request's `provider_options`."""
        _warn_of_user_id(request, warnings)
        request = without_converse_options(request, self.context.provider, warnings)
        return super().body(request, warnings, stream=stream)


class BedrockResponsesTranslator(ResponsesTranslator):
    """Translates requests for the Responses API."""

    # As above.
    @property
    def _configured_facts(self) -> FactOverrides:
        return {}

    def facts_about(self, model: str) -> ModelFacts:
        """The facts about a model of any vendor, by its id at Bedrock."""
        return _facts(self.context.settings, model, "responses")

    def wants_encrypted_reasoning(self, request: ChatRequest) -> bool:
        """Whether to ask for reasoning in encrypted form: of OpenAI's own models, since others send it as text."""
        return self.facts.family == "gpt:responses" and super().wants_encrypted_reasoning(request)

    def body(self, request: ChatRequest, warnings: Warnings, *, stream: bool) -> dict[str, Any]:
        """The JSON body, without the request's `provider_options`."""
        _warn_of_user_id(request, warnings)
        request = without_converse_options(request, self.context.provider, warnings)
        return super().body(request, warnings, stream=stream)


class BedrockMessagesTranslator(MessagesTranslator):
    """Translates requests for the Messages API."""

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """Return the wire request. Raises `InvalidRequest` for a request that cannot be sent."""
        warnings = Warnings()
        _warn_of_user_id(request, warnings)
        translation = super().translate(without_converse_options(request, self._provider, warnings), stream=stream)
        return attrs.evolve(translation, warnings=(*warnings.all(), *translation.warnings))


# Parsing

read_error = or_aws(openai_error)
read_messages_error = or_aws(anthropic_error)


class BedrockChatParser(ChatParser):
    """Reads one response of Chat Completions.

    GPT OSS at `bedrock-runtime` reasons in the text, between tags: once in a whole body, and in each chunk of a stream
    that has reasoning. Source: recorded answers of InvokeModel (2025), CherryHQ/cherry-studio#10225 for this API.
    """

    error = staticmethod(read_error)

    def text(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        """Take a piece of text, or of reasoning between tags."""
        if text.startswith(_REASONING):
            reasoning, closed, rest = text.removeprefix(_REASONING).partition(_REASONING_END)
            if closed:
                self.reasoning(reasoning)
                text, logprobs = rest, ()
        if text or logprobs:
            super().text(text, logprobs)


class BedrockChatResponseParser(ChatResponseParser):
    """The `ResponseParser` of one service with Chat Completions."""

    def __init__(self, context: ServiceContext[Any]) -> None:
        super().__init__(context, profile=PROFILE, parser=BedrockChatParser)
        self._clock = context.keep(ServerClock, ServerClock)

    def error(self, wire_response: WireResponse) -> TrunklineError:  # type: ignore[override]
        """The error for a response with an error status. It never raises."""
        error = super().error(wire_response)
        self._clock.correct(error, wire_response)
        return error


class BedrockResponsesParser(ResponsesParser):
    """The `ResponseParser` of one service with the Responses API."""

    read_error = staticmethod(read_error)

    def __init__(self, context: ServiceContext[Any]) -> None:
        super().__init__(context)
        self._clock = context.keep(ServerClock, ServerClock)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """The error for a response with an error status. It never raises."""
        error = super().error(wire_response)
        self._clock.correct(error, wire_response)
        return error


class BedrockMessagesParser(MessagesParser):
    """The `ResponseParser` of one service with the Messages API."""

    read_error = staticmethod(read_messages_error)

    def __init__(self, context: ServiceContext[Any]) -> None:
        super().__init__(context)
        self._clock = context.keep(ServerClock, ServerClock)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """Return the error that a response with an error status describes."""
        error = super().error(wire_response)
        self._clock.correct(error, wire_response)
        return error


# The parts of a provider


def _no_operations(context: ServiceContext[Any]) -> Operations:
    return Operations()


AuthFor: TypeAlias = Callable[[ServiceContext[BedrockSettings]], Auth]


def chat_parts(auth: AuthFor) -> ProviderParts[BedrockSettings]:
    """Return the parts for Chat Completions."""
    return ProviderParts(
        auth=auth,
        translator=lambda context: BedrockChatTranslator(context, profile=PROFILE, url=openai_address),
        response_parser=BedrockChatResponseParser,
        operations=_no_operations,
    )


def responses_parts(auth: AuthFor) -> ProviderParts[BedrockSettings]:
    """Return the parts for the Responses API."""
    return ProviderParts(
        auth=auth,
        translator=lambda context: BedrockResponsesTranslator(context, profile=PROFILE, url=openai_address),
        response_parser=BedrockResponsesParser,
        operations=_no_operations,
    )


def _claude_operations(context: ServiceContext[BedrockSettings]) -> Operations:
    operations = messages_operations(context, _messages_endpoint)
    count = operations.count_tokens
    assert count is not None
    build = count.build

    def build_count(context: ServiceContext[BedrockSettings], request: ChatRequest) -> WireRequest | Translation:
        return build(context, without_converse_options(request, context.provider, Warnings()))

    return attrs.evolve(operations, count_tokens=attrs.evolve(count, build=build_count))


def _messages_endpoint(settings: BedrockSettings) -> MessagesEndpoint:
    return MessagesEndpoint(
        url=lambda path, model, stream: at_root(messages_root(settings))(path, model, stream),
        facts=lambda model: claude_facts(openai_name(model, settings.model_facts)),
        drops_foreign_thinking=False,
        has_models=False,
    )


def claude_parts(auth: AuthFor) -> ProviderParts[BedrockSettings]:
    """Return the parts for Anthropic's Messages API."""
    return messages_parts(
        endpoint=_messages_endpoint,
        auth=auth,
        parts=MessagesParts(
            translator=BedrockMessagesTranslator, parser=BedrockMessagesParser, operations=_claude_operations
        ),
    )
