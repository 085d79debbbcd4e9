"""ChatRequest -> the endpoint of a deployment, where Azure differs from OpenAI. Pure."""

from __future__ import annotations

from typing import Any, Self

import attrs
from trunkline.authoring.warnings import Warnings
from trunkline.request import ChatRequest
from trunkline_openai.model_facts import ModelFacts
from trunkline_openai.profile import Profile
from trunkline_openai.responses_translate import ResponsesTranslator
from trunkline_openai.translate import ChatTranslator

from trunkline_azure_openai.model_facts import RESPONSES_MODELS, facts_of


def _for_family(profile: Profile, facts: ModelFacts) -> Profile:
    """The profile for a family of models. Models of other vendors, and unknown ones, get no `prompt_cache_key`."""
    if facts.family == "gpt":
        return profile
    # "Unrecognized request argument supplied: prompt_cache_key": zed-industries/zed#52000, 2026-03 (Kimi);
    # vectorize-io/hindsight#3518, 2026-08 (DeepSeek)
    return attrs.evolve(profile, takes=profile.takes - {"cache_key"}, responses=profile.responses - {"cache_key"})


class AzureTranslator(ChatTranslator):
    """Translates for Chat Completions with the facts about the deployment's model."""

    def facts_about(self, model: str) -> ModelFacts:
        """The facts about the model of a deployment."""
        return facts_of(model, self.profile.models, self.context.settings.model_facts)

    def for_model(self, model: str) -> Self:
        """The translator for one model."""
        translator = super().for_model(model)
        translator.profile = _for_family(translator.profile, translator.facts)
        return translator

    def body(self, request: ChatRequest, warnings: Warnings, *, stream: bool) -> dict[str, Any]:
        """The JSON body, without the request's `provider_options`."""
        body = super().body(request, warnings, stream=stream)
        if request.provider_options.get(self.context.provider, {}).get("data_sources"):
            # "Validation error at #/stream_options": https://github.com/microsoft/semantic-kernel/issues/10510, 2025-02
            body.pop("stream_options", None)
        return body


class AzureResponsesTranslator(ResponsesTranslator):
    """Responses, with the facts about the deployment's model."""

    def facts_about(self, model: str) -> ModelFacts:
        """The facts about the model of a deployment."""
        return facts_of(model, RESPONSES_MODELS, self.context.settings.model_facts)

    def for_model(self, model: str) -> Self:
        """The translator for one model."""
        translator = super().for_model(model)
        translator.profile = _for_family(translator.profile, translator.facts)
        return translator

    def wants_encrypted_reasoning(self, request: ChatRequest) -> bool:
        """Whether to ask for reasoning in encrypted form.

        A model that never reasons refuses this, and a deployment's name need not contain the model's.
        """
        may_reason = request.reasoning is not None or self.facts.reasons != "never"
        return may_reason and super().wants_encrypted_reasoning(request)
