"""ChatRequest -> the endpoint of a deployment, where Azure differs from OpenAI. Pure."""

from __future__ import annotations

from typing import Any, Self

import attrs
from trunkline.authoring.warnings import Warnings
from trunkline.request import ChatRequest
from trunkline_openai.model_facts import ModelFacts
from trunkline_openai.responses_translate import ENCRYPTED_REASONING, ResponsesTranslator
from trunkline_openai.translate import ChatTranslator

from trunkline_azure_openai.model_facts import RESPONSES_MODELS, facts_of


class AzureTranslator(ChatTranslator):
    """Translates for Chat Completions with the facts about the deployment's model."""

    def facts_about(self, model: str) -> ModelFacts:
        """The facts about the model of a deployment."""
        return facts_of(model, self.profile.models, self.context.settings.model_facts)

    def for_model(self, model: str) -> Self:
        """The translator for one model. Models of other vendors, and unknown ones, get no `prompt_cache_key`."""
        translator = super().for_model(model)
        if translator.facts.family != "gpt":
            # "Unrecognized request argument supplied: prompt_cache_key": zed-industries/zed#52000, 2026-03 (Kimi);
            # vectorize-io/hindsight#3518, 2026-08 (DeepSeek)
            takes = translator.profile.takes - {"cache_key"}
            translator.profile = attrs.evolve(translator.profile, takes=takes)
        return translator

    def body(self, request: ChatRequest, warnings: Warnings, *, stream: bool) -> dict[str, Any]:
        """The JSON body, without the request's `provider_options`."""
        body = super().body(request, warnings, stream=stream)
        if request.provider_options.get(self.context.provider, {}).get("data_sources"):
            # "Validation error at #/stream_options": https://github.com/microsoft/semantic-kernel/issues/10510, 2025-02
            body.pop("stream_options", None)
        return body


class AzureResponsesTranslator(ResponsesTranslator):
    """Responses. The user's id is sent as `user`, and encrypted reasoning is requested only if the model reasons."""

    def facts_about(self, model: str) -> ModelFacts:
        """The facts about the model of a deployment."""
        return facts_of(model, RESPONSES_MODELS, self.context.settings.model_facts)

    def body(self, request: ChatRequest, facts: ModelFacts, warnings: Warnings, *, stream: bool) -> dict[str, Any]:
        """The JSON body, without the request's `provider_options`."""
        body = super().body(request, facts, warnings, stream=stream)
        # Older versions refuse unknown fields.
        body.pop("stream_options", None)
        if facts.family != "gpt" and body.pop("prompt_cache_key", None) is not None:
            warnings.add("unsupported", "cache_key", "Azure accepts it only for models of OpenAI; ignored", lossy=False)
        if "safety_identifier" in body:
            body["user"] = body.pop("safety_identifier")
        # A model that never reasons refuses this, and a deployment's name need not contain the model's.
        if "include" in body and request.reasoning is None and facts.reasons == "never":
            body["include"] = [item for item in body["include"] if item != ENCRYPTED_REASONING]
            if not body["include"]:
                del body["include"]
        return body
