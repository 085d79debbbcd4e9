"""Recorded traffic of `bedrock-mantle` with OpenAI's APIs, beside what OpenAI's client reads in it.

There are two exchanges of Responses at `/v1` (GPT OSS), two at `/openai/v1` (GPT-5.6, whose call ids begin anew in each
response), and one of Chat Completions at `/v1` (GPT OSS Safeguard). Nothing is recorded of `bedrock-runtime`, of
Messages, of signatures and of errors.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from openai._models import construct_type
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from recordings import CHAT, RESPONSES, Exchange, recorded
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext
from trunkline.fold import fold
from trunkline.messages import Reasoning, tool_result, user
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, FinishReason
from trunkline_bedrock import BedrockSettings, bedrock
from trunkline_bedrock.routing import openai_address


def mantle(scope: str | None = None) -> list[Exchange]:
    exchanges = [exchange for exchange in recorded("other") if exchange.variant == "bedrock-mantle"]
    return [exchange for exchange in exchanges if scope in (None, exchange.scope)]


def context(api: str) -> ServiceContext[BedrockSettings]:
    settings = BedrockSettings(aws_region="us-east-1", api=api)  # type: ignore[arg-type]
    return ServiceContext(name="recorded", provider="bedrock", settings=settings)


def read(exchange: Exchange, size: int | None = None) -> ChatResponse:
    """Our reading of an answer; of a stream in pieces of `size` bytes."""
    parser = bedrock.response_parser(context(exchange.scope))
    if not exchange.streaming:
        return parser.body(exchange.wire_response)
    decoder = StreamDecoder(*parser.stream())
    body, events = exchange.body, []
    step = size or len(body)
    for at in range(0, len(body), step):
        events += decoder.feed(body[at : at + step])
    return fold([*events, *decoder.finish()], "bedrock")


def last_response(exchange: Exchange) -> Response:
    """The response object of a Responses answer, as OpenAI's client reads it."""
    if not exchange.streaming:
        return constructed(json.loads(exchange.body))
    lines = [line[5:].strip() for line in exchange.body.splitlines() if line.startswith(b"data:")]
    events = [json.loads(line) for line in lines if line != b"[DONE]"]
    return constructed(next(event["response"] for event in reversed(events) if "response" in event))


def constructed(data: object) -> Response:
    """What OpenAI's client makes of a response. It fills no gaps and refuses nothing."""
    response = construct_type(type_=Response, value=data)
    assert isinstance(response, Response)
    return response


def model_of(exchange: Exchange) -> str:
    if exchange.scope == CHAT:
        return ChatCompletion.model_validate_json(exchange.body).model
    return str(last_response(exchange).model)


def test_requests_go_to_the_recorded_urls() -> None:
    assert len(mantle()) == 5
    for exchange in mantle():
        path = {CHAT: "/chat/completions", RESPONSES: "/responses"}[exchange.scope]
        found = openai_address(context(exchange.scope).settings, path, model_of(exchange))
        assert found == exchange.url, exchange.id
        assert urlsplit(found).hostname == "bedrock-mantle.us-east-1.api.aws"


@pytest.mark.parametrize("size", [None, 1, 7])
def test_responses_are_read_as_openais_client_reads_them(size: int | None) -> None:
    for exchange in mantle(RESPONSES):
        ours, theirs = read(exchange, size), last_response(exchange)
        assert ours.text == theirs.output_text, exchange.id
        calls = [item for item in theirs.output if item.type == "function_call"]
        assert [(call.id, call.name, call.arguments_json) for call in ours.message.tool_calls] == [
            (call.call_id, call.name, call.arguments) for call in calls
        ]
        assert theirs.usage is not None
        assert ours.usage is not None
        assert (ours.usage.input_tokens, ours.usage.output_tokens, ours.usage.total_tokens) == (
            theirs.usage.input_tokens,
            theirs.usage.output_tokens,
            theirs.usage.total_tokens,
        )
        reason = FinishReason.TOOL_CALLS if calls else FinishReason.STOP
        assert (ours.id, ours.finish_reason) == (theirs.id, reason)
        thought = [part.text for item in theirs.output if item.type == "reasoning" for part in item.content or ()]
        assert [part.text for part in ours.message.parts if isinstance(part, Reasoning)] == thought


def test_a_chat_completion_is_read_as_openais_client_reads_it() -> None:
    [exchange] = mantle(CHAT)
    ours, theirs = read(exchange), ChatCompletion.model_validate_json(exchange.body)
    message: Any = theirs.choices[0].message
    assert (ours.text, ours.id) == (message.content, theirs.id)
    assert [part.text for part in ours.message.parts if isinstance(part, Reasoning)] == [message.reasoning]
    assert (ours.usage is None) == (theirs.usage is None)
    assert ours.usage is not None
    assert theirs.usage is not None
    assert ours.usage.output_tokens == theirs.usage.completion_tokens


def test_a_conversation_of_responses_with_equal_call_ids_stays_unambiguous() -> None:
    answers = [read(exchange) for exchange in mantle(RESPONSES)]
    first, second = sorted(
        (answer for answer in answers if answer.message.tool_calls),
        key=lambda answer: answer.message.tool_calls[0].name,
    )
    assert [answer.message.tool_calls[0].id for answer in (first, second)] == ["call_0", "call_0"]
    messages = [
        user("Follow the tool instructions."),
        first.message,
        tool_result("call_0", "first result"),
        second.message,
        tool_result("call_0", "second result"),
    ]
    request = ChatRequest(messages=messages, model="openai.gpt-5.6-luna")
    body = json.loads(bedrock.translator(context("responses")).translate(request, stream=False).wire_request.body)
    names = {item["call_id"]: item["name"] for item in body["input"] if item.get("type") == "function_call"}
    results = {item["call_id"]: item["output"] for item in body["input"] if item.get("type") == "function_call_output"}
    assert sorted(names.values()) == ["first_tool", "second_tool"]
    assert {names[call]: result for call, result in results.items()} == {
        "first_tool": "first result",
        "second_tool": "second result",
    }
