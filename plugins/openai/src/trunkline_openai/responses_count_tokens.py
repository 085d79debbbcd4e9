"""Count the tokens of a request with the Responses API: POST {base}/responses/input_tokens. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trunkline.authoring.http_errors import error_from_json
from trunkline.authoring.json import as_count, decode_object
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.request import ChatRequest

from trunkline_openai.errors import error_from_body
from trunkline_openai.responses_translate import ResponsesTranslator

# The fields that the endpoint accepts, from the typed schema of the openai SDK 3.54. Fields that only shape the answer
# do not change the number.
_COUNTED = frozenset(
    {
        "model",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "text",
        "reasoning",
        "truncation",
        "previous_response_id",
        "conversation",
        "personality",
    }
)


def count_tokens(translator: Callable[[ServiceContext[Any]], ResponsesTranslator]) -> Operation[ChatRequest, int]:
    """The operation that counts the tokens of a request, as the translator of the service would send it."""

    def build(context: ServiceContext[Any], request: ChatRequest) -> Translation:
        """The request for the number of input tokens. Warnings that do not affect the number are dropped."""
        warnings = Warnings()
        for_model = translator(context).for_model(request.model or "")
        body = for_model.whole_body(request, warnings, stream=False)
        counted = {name: value for name, value in body.items() if name in _COUNTED}
        return Translation(
            wire_request=for_model.wire_request("/responses/input_tokens", request.model, counted),
            warnings=tuple(
                warning
                for warning in warnings.all()
                if warning.kind != "unsupported" and warning.subject != "max_output_tokens"
            ),
        )

    return Operation(build=build, parse=parse_count_tokens)


def parse_count_tokens(context: ServiceContext[Any], wire_response: WireResponse) -> int:
    """The number of tokens. Raises `ProtocolViolation` for a body without one."""
    data = decode_object(wire_response.body, "the body", provider=context.provider)
    tokens = as_count(data.get("input_tokens"))
    if tokens is not None:
        return tokens
    if data.get("error"):
        raise error_from_json(data, provider=context.provider, read=error_from_body, headers=wire_response.headers)
    raise ProtocolViolation("the body has no input_tokens", provider=context.provider)
