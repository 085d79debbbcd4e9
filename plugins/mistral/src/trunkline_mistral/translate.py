"""ChatRequest -> POST {base}/v1/chat/completions, as Mistral takes it. Pure."""

from __future__ import annotations

from typing import ClassVar

from trunkline.authoring.warnings import Warnings
from trunkline.request import ChatRequest
from trunkline_openai.history import JSON, History
from trunkline_openai.translate import ChatTranslator

from trunkline_mistral.history import MistralHistory

_LATER = "the published specification does not have it; where a model takes it, pass it in provider_options"


class MistralTranslator(ChatTranslator):
    """Translates requests for one service."""

    history: ClassVar[type[History]] = MistralHistory

    def body(self, request: ChatRequest, warnings: Warnings, *, stream: bool) -> JSON:
        """The JSON body, but for the request's `provider_options`."""
        body = super().body(request, warnings, stream=stream)
        if "seed" in body:
            body["random_seed"] = body.pop("seed")
        self._choice(body, warnings)
        if body.get("reasoning_effort") == "max":
            body["reasoning_effort"] = "xhigh"
            warnings.add("changed", "reasoning.effort", "the highest effort here is xhigh, which was sent for max")
        if request.user_id is not None:
            warnings.add(
                "unsupported",
                "user_id",
                "Mistral has no field for a user's id; put one into `metadata` if it is needed",
            )
        return body

    def takes(self, feature: str, subject: str, warnings: Warnings) -> bool:
        """Whether Mistral takes a feature; where not, a warning says that `subject` was left out."""
        if feature in self.profile.takes:
            return True
        message = _LATER if feature in ("top_k", "logprobs") else "Mistral does not take it; it was not sent"
        warnings.add("unsupported", subject, message)
        return False

    def _choice(self, body: JSON, warnings: Warnings) -> None:
        choice = body.get("tool_choice")
        if choice == "required":
            body["tool_choice"] = "any"
        elif isinstance(choice, dict) and choice.get("type") != "function":
            del body["tool_choice"]
            warnings.add("unsupported", "tool_choice", "only a function can be forced by name; the choice was not sent")
