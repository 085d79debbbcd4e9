"""ChatRequest -> the endpoint of a deployment, where Azure differs from OpenAI. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.warnings import Warnings
from trunkline.request import ChatRequest
from trunkline_openai.responses_translate import ENCRYPTED_REASONING, ResponsesTranslator
from trunkline_openai.translate import ChatTranslator

from trunkline_azure_openai.profiles import V1, limit_field


class AzureTranslator(ChatTranslator):
    """Chat Completions, with the field for the output limit that the deployment's model accepts."""

    def body(self, request: ChatRequest, warnings: Warnings, *, stream: bool) -> dict[str, Any]:
        """The JSON body, without the request's `provider_options`."""
        body = super().body(request, warnings, stream=stream)
        field, wanted = self.profile.max_tokens_field, limit_field(self.profile, request.model or "")
        if field != wanted and field in body:
            body[wanted] = body.pop(field)
        return body


class AzureResponsesTranslator(ResponsesTranslator):
    """Responses. The user's id is sent as `user`, and encrypted reasoning is requested only if the model reasons."""

    def body(self, request: ChatRequest, warnings: Warnings, *, stream: bool) -> dict[str, Any]:
        """The JSON body, without the request's `provider_options`."""
        body = super().body(request, warnings, stream=stream)
        # Older versions refuse unknown fields.
        body.pop("stream_options", None)
        if "safety_identifier" in body:
            body["user"] = body.pop("safety_identifier")
        # A model that never reasons refuses this, and a deployment's name need not contain the model's.
        if "include" in body and not _reasons(request):
            body["include"] = [item for item in body["include"] if item != ENCRYPTED_REASONING]
            if not body["include"]:
                del body["include"]
        return body


def _reasons(request: ChatRequest) -> bool:
    return request.reasoning is not None or V1.reasons(request.model or "") != "never"
