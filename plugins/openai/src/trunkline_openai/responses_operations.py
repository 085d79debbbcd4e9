"""Counting a request's tokens with the Responses API: POST {base}/responses/input_tokens. Pure."""

from __future__ import annotations

from trunkline.authoring.json import loads
from trunkline.authoring.provider import CountTokens, ServiceContext, Translation
from trunkline.authoring.urls import endpoint_url
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.request import ChatRequest

from trunkline_openai.errors import error_from_body
from trunkline_openai.responses_translate import merge_options, responses_body
from trunkline_openai.settings import OpenAISettings
from trunkline_openai.translate import encode, request_headers
from trunkline_openai.urls import base_url

# What the endpoint takes, as in the typed schema of the openai SDK 3.54. What only shapes the answer does not count.
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
    """The request for the number of tokens that `request` comes to. Warns only of what would change the number."""
    warnings = Warnings()
    body = responses_body(request, context, warnings)
    merge_options(body, request.provider_options.get(context.provider, {}))
    counted = {name: value for name, value in body.items() if name in _COUNTED}
    return Translation(
        wire_request=WireRequest(
            url=endpoint_url(base_url(context.settings.api_url)[0], "/responses/input_tokens"),
            headers=request_headers(context.settings),
            body=encode(counted),
        ),
        warnings=tuple(warning for warning in warnings.all() if warning.kind != "unsupported"),
    )


def parse_count_tokens(context: ServiceContext[OpenAISettings], wire_response: WireResponse) -> int:
    """The number of tokens. Raises `ProtocolViolation` for a body without one."""
    try:
        data = loads(wire_response.body)
    except (ValueError, RecursionError):
        raise ProtocolViolation("the body is not JSON", provider=context.provider) from None
    tokens = data.get("input_tokens") if isinstance(data, dict) else None
    if type(tokens) is int:
        return tokens
    if isinstance(data, dict) and data.get("error"):
        raise error_from_body(data, provider=context.provider, headers=wire_response.headers)
    raise ProtocolViolation("the body has no input_tokens", provider=context.provider)


count_tokens = CountTokens(build=build_count_tokens, parse=parse_count_tokens)
