"""Translate a `ChatRequest` into Mistral's `POST {root}/v1/chat/completions`. Does no I/O."""

from __future__ import annotations

from typing import Any, ClassVar

from trunkline.authoring.warnings import Warnings
from trunkline.request import ChatRequest
from trunkline_openai.history import History
from trunkline_openai.translate import ChatTranslator

from trunkline_mistral.history import MistralHistory

_UNDOCUMENTED = "not in Mistral's published specification; if your model supports it, use provider_options"


class MistralTranslator(ChatTranslator):
    """Translates requests for one service."""

    history: ClassVar[type[History]] = MistralHistory

    def body(self, request: ChatRequest, warnings: Warnings, *, stream: bool) -> dict[str, Any]:
        """Return the JSON body, without the request's `provider_options`."""
        body = super().body(request, warnings, stream=stream)
        if "seed" in body:
            body["random_seed"] = body.pop("seed")
        self._choice(body, warnings)
        if body.get("reasoning_effort") == "max":
            body["reasoning_effort"] = "xhigh"
            warnings.add(
                "changed", "reasoning.effort", "Mistral's highest effort is xhigh, which was sent for max", lossy=False
            )
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
        message = _UNDOCUMENTED if feature in ("top_k", "logprobs") else "not supported by Mistral; ignored"
        warnings.add("unsupported", subject, message, lossy=lossy)
        return False

    def _choice(self, body: dict[str, Any], warnings: Warnings) -> None:
        choice = body.get("tool_choice")
        if choice == "required":
            body["tool_choice"] = "any"
        elif isinstance(choice, dict) and choice.get("type") != "function":
            del body["tool_choice"]
            warnings.add("unsupported", "tool_choice", "Mistral can force only functions by name; ignored", lossy=True)
