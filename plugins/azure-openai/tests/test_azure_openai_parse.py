"""Answers: content filters, chunks without choices, blocked prompts and completions, errors of every form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from trunkline._plugins.registry import open_steps
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ResponseParser, ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    NotFound,
    Overloaded,
    PermissionDenied,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    ServerError,
)
from trunkline.events import Event, ResponseStarted
from trunkline.fold import fold
from trunkline.messages import Citation
from trunkline.response import ChatResponse, FinishReason, Usage
from trunkline_azure_openai import AzureOpenAISettings, azure_openai
from trunkline_azure_openai.parse import most_severe

SAFE = {"hate": {"filtered": False, "severity": "safe"}, "jailbreak": {"filtered": False, "detected": False}}
LOW = {"hate": {"filtered": False, "severity": "low"}}
BLOCKED = {"hate": {"filtered": True, "severity": "high"}}
PROMPT = [{"prompt_index": 0, "content_filter_results": SAFE}]
FIRST: dict[str, Any] = {
    "id": "",
    "model": "",
    "object": "",
    "created": 0,
    "choices": [],
    "prompt_filter_results": PROMPT,
}


def parser(api: str = "chat") -> ResponseParser:
    settings = AzureOpenAISettings(api_url="https://r.openai.azure.com", api_key="key-REDACTED", api=api)  # type: ignore[arg-type]
    return open_steps(azure_openai, ServiceContext(name="mine", provider="azure-openai", settings=settings)).parser


def chunk(delta: object = None, finish: object = None, **choice: object) -> dict[str, Any]:
    return {
        "id": "c1",
        "model": "gpt-4.1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}],
    }


def wire(*chunks: object, done: bool = True) -> bytes:
    lines = [b"data: " + json.dumps(item).encode() + b"\n\n" for item in chunks]
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


def events(data: bytes, api: str = "chat") -> list[Event]:
    decoder = StreamDecoder(*parser(api).stream())
    return [*decoder.feed(data), *decoder.finish()]


def streamed(*chunks: object) -> ChatResponse:
    return fold(events(wire(*chunks)), "azure-openai")


def body(
    message: object, finish: object = "stop", *, choice: dict[str, Any] | None = None, **fields: Any
) -> ChatResponse:
    data = {
        "id": "c1",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, **(choice or {})}],
    }
    return parser().body(WireResponse(status=200, body=json.dumps({**data, **fields}).encode()))


def metadata(response: ChatResponse) -> Any:
    return response.provider_metadata["azure-openai"]


def test_a_chunk_that_only_tells_of_the_prompt_is_neither_the_start_nor_lost() -> None:
    found = events(
        wire(FIRST, chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"}), chunk({}, "stop"))
    )
    assert found[0] == ResponseStarted(id="c1", model="gpt-4.1")
    assert sum(type(event) is ResponseStarted for event in found) == 1
    response = fold(found, "azure-openai")
    assert (response.text, response.finish_reason) == ("Hi", FinishReason.STOP)
    assert metadata(response)["prompt_filter_results"] == PROMPT


def test_the_findings_of_all_chunks_are_brought_together() -> None:
    response = streamed(
        chunk({"content": "a"}, content_filter_results=SAFE),
        chunk({"content": "b"}, content_filter_results=LOW),
        chunk({"content": "c"}, content_filter_results={}),
        chunk({"content": "d"}, content_filter_results=SAFE),
        chunk({}, "stop", content_filter_results={"sexual": {"filtered": False, "severity": "safe"}}),
    )
    assert response.text == "abcd"
    assert metadata(response)["content_filter_results"] == {
        **SAFE,
        **LOW,
        "sexual": {"filtered": False, "severity": "safe"},
    }


def test_the_chunks_of_the_asynchronous_filter_change_nothing_but_the_findings() -> None:
    offsets = {"check_offset": 44, "start_offset": 44, "end_offset": 198}
    response = streamed(
        FIRST,
        chunk({"role": "assistant"}),
        chunk({"content": "Hi"}),
        chunk({}, "stop"),
        chunk(None, None, content_filter_results=LOW, content_filter_offsets=offsets),
        {"id": "", "choices": [{"index": 0, "finish_reason": None, "content_filter_results": SAFE}]},
    )
    assert (response.text, response.finish_reason) == ("Hi", FinishReason.STOP)
    assert metadata(response)["content_filter_results"]["hate"]["severity"] == "low"
    assert metadata(response)["content_filter_offsets"] == offsets


def test_the_findings_of_a_whole_answer_are_kept() -> None:
    response = body({"content": "Hi"}, choice={"content_filter_results": SAFE}, prompt_filter_results=PROMPT)
    assert metadata(response) == {"content_filter_results": SAFE, "prompt_filter_results": PROMPT}


@pytest.mark.parametrize("message", [{"content": None}, {"content": "Half of"}, {}])
def test_a_blocked_completion_finishes_so_with_what_there_is(message: dict[str, Any]) -> None:
    response = body(message, "content_filter", choice={"content_filter_results": BLOCKED})
    assert response.finish_reason is FinishReason.CONTENT_FILTER
    assert response.text == (message.get("content") or "")
    same = streamed(chunk(message), chunk({}, "content_filter", content_filter_results=BLOCKED))
    assert (same.finish_reason, same.parts) == (response.finish_reason, response.parts)


@pytest.mark.parametrize("finish", ["tool_call", "tool_calls", "stop", None])
def test_a_tool_call_finishes_so_whatever_the_wire_says(finish: str | None) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    response = streamed(chunk({"tool_calls": [{"index": 0, **call}]}), chunk({}, finish))
    assert response.finish_reason is FinishReason.TOOL_CALLS
    assert response.tool_calls[0].arguments == {}


def test_reasoning_of_other_makers_models_is_read() -> None:
    response = streamed(chunk({"reasoning_content": "hm"}), chunk({"content": "a"}), chunk({}, "stop"))
    assert (response.reasoning, response.text) == ("hm", "a")


def test_usage_is_normalised() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "total_tokens": 30,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    wanted = Usage(input_tokens=10, output_tokens=20, total_tokens=30, cache_read_tokens=4, reasoning_tokens=5)
    last = {"id": "c1", "choices": [], "usage": usage}
    assert streamed(chunk({"content": "a"}), chunk({}, "stop"), last).usage == wanted
    assert body({"content": "a"}, usage=usage).usage == wanted


def test_citations_of_the_service_s_own_data_are_read() -> None:
    context = {
        "intent": "[]",
        "citations": [{"content": "text", "title": None, "url": "https://x", "filepath": "a.pdf", "chunk_id": "0"}, 7],
    }
    wanted = Citation(url="https://x", title="a.pdf", cited_text="text")
    whole = body({"content": "a [doc1]", "context": context})
    assert whole.citations == (wanted,)
    assert metadata(whole)["context"] == context
    assert streamed(chunk({"context": context}), chunk({"content": "a [doc1]"}), chunk({}, "stop")).parts == whole.parts


GRAVER = [
    ({"filtered": False, "severity": "safe"}, {"filtered": False, "severity": "low"}),
    ({"filtered": False, "severity": "high"}, {"filtered": True, "severity": "medium"}),
    ({"filtered": False, "detected": False}, {"filtered": False, "detected": True}),
    ({"filtered": False, "detected": True}, {"filtered": True, "detected": False}),
    ("odd", {"filtered": False}),
    ({"severity": ["odd"]}, {"severity": "safe"}),
]


@pytest.mark.parametrize(("less", "more"), GRAVER)
def test_the_graver_finding_counts(less: Any, more: Any) -> None:
    assert most_severe({"x": less}, {"x": more}) == most_severe({"x": more}, {"x": less}) == {"x": more}


# Truncation


# Errors


def error(status: int, data: object, api: str = "chat", **headers: str) -> RemoteError:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    found = parser(api).error(WireResponse(status=status, headers=named, body=raw))
    assert isinstance(found, RemoteError)
    return found


def envelope(**fields: Any) -> dict[str, Any]:
    return {"error": {"message": "no", **fields}}


INNER = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": BLOCKED}
ERRORS: list[tuple[int, Any, type[RemoteError], bool]] = [
    (400, envelope(param="prompt", code="content_filter", status=400, innererror=INNER), ContentFiltered, False),
    (400, envelope(inner_error={**INNER, "content_filter_results": BLOCKED}), ContentFiltered, False),
    (400, envelope(code="content_filter"), ContentFiltered, False),
    (400, envelope(code="context_length_exceeded"), ContextTooLong, False),
    (400, envelope(code="BadRequest"), BadRequest, False),
    (400, envelope(code="OperationNotSupported"), BadRequest, False),
    (400, envelope(message="Unrecognized request argument supplied: x", code=None), BadRequest, False),
    (401, envelope(code="401"), AuthenticationError, False),
    (401, {"statusCode": 401, "message": "Access token is missing or invalid."}, AuthenticationError, False),
    (401, envelope(code="PermissionDenied"), PermissionDenied, False),
    (403, envelope(code="AccessDenied"), PermissionDenied, False),
    (404, envelope(code="DeploymentNotFound"), NotFound, False),
    (404, envelope(code="404"), NotFound, False),
    (404, {"statusCode": 404, "message": "Resource not found"}, NotFound, False),
    (408, envelope(code="Timeout"), RemoteError, True),
    (422, {"error": {"code": "Invalid input", "details": [{"loc": ["body"], "msg": "m"}], "message": "invalid input error"}}, BadRequest, False),  # noqa: E501
    (429, envelope(code="429"), RateLimited, True),
    (429, envelope(code="RateLimitReached"), RateLimited, True),
    (429, {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 1 seconds."}, RateLimited, True),
    (500, envelope(code="InternalServerError"), ServerError, True),
    (502, b"<html><head><title>502 Bad Gateway</title></head></html>", ServerError, True),
    (503, b"The service is temporarily unable", Overloaded, True),
    (504, b"", ServerError, True),
]  # fmt: skip


@pytest.mark.parametrize(("status", "data", "kind", "retryable"), ERRORS)
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_an_error_has_its_class_a_message_and_the_request_s_id(
    status: int, data: Any, kind: type[RemoteError], retryable: bool, api: str
) -> None:
    found = error(status, data, api, apim_request_id="r1", retry_after_ms="1500")
    assert type(found) is kind
    assert (found.status, found.request_id, found.retry_after, found.retryable) == (status, "r1", 1.5, retryable)
    assert found.message.strip()
    assert found.provider == "azure-openai"


def test_what_the_filter_found_in_the_prompt_stays_on_the_error() -> None:
    found = error(400, envelope(code="content_filter", innererror=INNER))
    assert found.body == envelope(code="content_filter", innererror=INNER)


def test_an_error_inside_a_stream_or_a_200_answer_is_typed() -> None:
    with pytest.raises(ContentFiltered):
        events(wire(FIRST, chunk({"content": "Hi"}), envelope(code="content_filter", innererror=INNER)))
    with pytest.raises(ContentFiltered):
        parser().body(WireResponse(status=200, body=json.dumps(envelope(inner_error=INNER)).encode()))


@pytest.mark.parametrize("data", [b"7", b'{"id":"c"}', b'{"choices":7}', b'{"choices":[7]}'])
def test_what_is_no_answer_is_a_protocol_violation(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        parser().body(WireResponse(status=200, body=data))


# Responses


def response_object(**fields: Any) -> dict[str, Any]:
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
    return {"id": "resp_1", "object": "response", "model": "gpt-5", "status": "completed", "output": [item], **fields}


FILTERS = [{"blocked": False, "source_type": "prompt", "content_filter_results": SAFE}]


def test_the_findings_of_the_responses_api_are_kept() -> None:
    whole = response_object(content_filters=FILTERS, service_tier="default")
    found = parser("responses").body(WireResponse(status=200, body=json.dumps(whole).encode()))
    assert metadata(found) == {"content_filters": FILTERS, "service_tier": "default"}
    done = {"type": "response.completed", "response": whole}
    response = fold(events(wire(done, done=False), "responses"), "azure-openai")
    assert (response.text, metadata(response)) == ("Hi", metadata(found))


def test_a_blocked_completion_of_the_responses_api_finishes_so() -> None:
    whole = response_object(status="incomplete", incomplete_details={"reason": "content_filter"})
    found = parser("responses").body(WireResponse(status=200, body=json.dumps(whole).encode()))
    assert found.finish_reason is FinishReason.CONTENT_FILTER


def test_a_prompt_blocked_while_a_response_streams_is_typed() -> None:
    failed = {
        "type": "response.failed",
        "response": {"status": "failed", "error": {"code": "content_filter", "message": "no"}},
    }
    with pytest.raises(ContentFiltered):
        events(wire(failed, done=False), "responses")
