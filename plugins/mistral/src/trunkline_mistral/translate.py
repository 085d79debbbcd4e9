"""Translate a `ChatRequest` into Mistral's `POST {root}/v1/chat/completions`. Does no I/O."""

from __future__ import annotations

from hashlib import sha256
from itertools import takewhile
from typing import Any, ClassVar, Self

import attrs
from trunkline.authoring.json import encode_request
from trunkline.authoring.warnings import Warnings
from trunkline.request import ChatRequest
from trunkline_openai.history import History
from trunkline_openai.translate import ChatTranslator

from trunkline_mistral.history import MistralHistory

HOTTEST = 1.5
"""The highest temperature in Mistral's published specification (21 August 2026). A higher one gives status 422."""


def _key_of_beginning(body: dict[str, Any]) -> str:
    """Return the key of requests with the same tools and the same system prompt, or else the same first message."""
    leading = list(takewhile(lambda message: message["role"] == "system", body["messages"])) or body["messages"][:1]
    return sha256(encode_request({"tools": body.get("tools"), "messages": leading})).hexdigest()[:32]


class MistralTranslator(ChatTranslator):
    """Translates requests for one service."""

    history: ClassVar[type[History]] = MistralHistory

    def for_model(self, model: str) -> Self:
        """Return the translator for one model. For a model that does not reason, reasoning in the history is left out.

        Older models refuse reasoning: `_validate_assistant_content_chunks` in mistral-common 1.13, before tokenizer
        version 11.
        """
        translator = super().for_model(model)
        if translator.facts.efforts == ():
            translator.profile = attrs.evolve(translator.profile, reasoning_replay=None)
        return translator

    def body(self, request: ChatRequest, warnings: Warnings, *, stream: bool) -> dict[str, Any]:
        """Return the JSON body, without the request's `provider_options`."""
        body = super().body(request, warnings, stream=stream)
        if "seed" in body:
            body["random_seed"] = body.pop("seed")
        if request.cache is not None and request.cache_key is None:
            # Only requests with the same key surely share a cache: strands-agents/harness-sdk#3685, 2026-08;
            # anomalyco/opencode#27556, 2026-05.
            body["prompt_cache_key"] = _key_of_beginning(body)
        self._choice(body, warnings)
        self._temperature(body, warnings)
        if request.user_id is not None:
            warnings.add(
                "unsupported",
                "user_id",
                "not supported by Mistral; ignored. If you need it, use `metadata`",
                lossy=True,
            )
        return body

    def takes(self, feature: str, subject: str, warnings: Warnings, *, lossy: bool = True) -> bool:
        """Return whether Mistral supports a feature; if not, add a warning that `subject` was ignored."""
        if feature in self.profile.takes:
            return True
        who = "this model" if feature in self.facts.refuses else "Mistral"
        warnings.add("unsupported", subject, f"not supported by {who}; ignored", lossy=lossy)
        return False

    def _temperature(self, body: dict[str, Any], warnings: Warnings) -> None:
        temperature = body.get("temperature")
        if temperature is None:
            return
        if temperature > HOTTEST:
            body["temperature"] = HOTTEST
            message = f"Mistral accepts 0 to {HOTTEST}; {temperature:g} was sent as {HOTTEST}"
            warnings.add("changed", "temperature", message, lossy=True)
        elif temperature == 0 and body.get("top_p", 1) != 1:
            # "top_p must be 1 when using greedy sampling": devoxx/DevoxxGenieIDEAPlugin issue 338 (November 2024)
            del body["top_p"]
            message = "Mistral refuses top_p with a temperature of 0; ignored"
            warnings.add("changed", "top_p", message, lossy=False)

    def _choice(self, body: dict[str, Any], warnings: Warnings) -> None:
        choice = body.get("tool_choice")
        if choice == "required":
            body["tool_choice"] = "any"
        elif isinstance(choice, dict) and choice.get("type") != "function":
            del body["tool_choice"]
            warnings.add("unsupported", "tool_choice", "Mistral can force only functions by name; ignored", lossy=True)
