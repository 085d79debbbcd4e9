"""Count the tokens of a request with the Responses API: POST {base}/responses/input_tokens. Pure."""

from __future__ import annotations

from trunkline.authoring.http_errors import error_from_json
from trunkline.authoring.json import as_count, decode_object, encode_request, with_options
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.request import ChatRequest

from trunkline_openai.errors import error_from_body
from trunkline_openai.responses_translate import JOINED, openai_facts, responses_body
from trunkline_openai.settings import OpenAISettings
from trunkline_openai.translate import request_headers
from trunkline_openai.urls import default_url

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


def build_count_tokens(context: ServiceContext[OpenAISettings], request: ChatRequest) -> Translation:
    """The request for the number of input tokens of `request`. Warnings that do not affect the number are dropped."""
    warnings = Warnings()
    body = responses_body(request, context, openai_facts(context, request.model or ""), warnings)
    body = with_options(body, request.provider_options, context.provider, joined=JOINED)
    counted = {name: value for name, value in body.items() if name in _COUNTED}
    return Translation(
        wire_request=WireRequest(
            url=default_url(context.settings, "/responses/input_tokens", request.model),
            headers=request_headers(context.settings),
            body=encode_request(counted),
        ),
        warnings=tuple(
            warning
            for warning in warnings.all()
            if warning.kind != "unsupported" and warning.subject != "max_output_tokens"
        ),
    )


def parse_count_tokens(context: ServiceContext[OpenAISettings], wire_response: WireResponse) -> int:
    """The number of tokens. Raises `ProtocolViolation` for a body without one."""
    data = decode_object(wire_response.body, "the body", provider=context.provider)
    tokens = as_count(data.get("input_tokens"))
    if tokens is not None:
        return tokens
    if data.get("error"):
        raise error_from_json(data, provider=context.provider, read=error_from_body, headers=wire_response.headers)
    raise ProtocolViolation("the body has no input_tokens", provider=context.provider)


count_tokens = Operation(build=build_count_tokens, parse=parse_count_tokens)
