"""Responses in the background: submit, poll, cancel, and read a stream on, against a server on loopback.

The requests are compared with those of OpenAI's SDK. No recording has a stream that was resumed: what the server sends
after `starting_after` is as OpenAI's documentation describes it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from recordings import recorded
from strict_types import strict_adapter
from trunkline import ResumePoint, fallback, open_service
from trunkline._plugins.registry import Steps, open_steps
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import Provider, ServiceContext
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import InvalidRequest, NotFound, ServerError, StreamInterrupted, UnsupportedOperation
from trunkline.events import Event, Finished, ResponseStarted, TextDelta
from trunkline.fold import fold
from trunkline.messages import Image, Reasoning, Text, ToolCall, assistant, system, tool_result, user
from trunkline.request import ChatRequest
from trunkline.response import FinishReason
from trunkline.secrets import Secret
from trunkline.service import Service
from trunkline.settings import Settings
from trunkline.testing import Exchange, serve
from trunkline_openai import OpenAISettings, openai, openai_compatible
from trunkline_openai.responses_parse import ResponsesParser

KEY = "sk-REDACTED"
CONTEXT = ServiceContext(name="test", provider="openai", settings=OpenAISettings(api_key=Secret(KEY)))


def steps(provider: Provider = openai, **settings: Any) -> Steps:
    kind: Any = provider.settings
    made: Settings = kind(**{"api": "responses", **settings})
    return open_steps(provider, ServiceContext(name="s", provider=provider.name, settings=made))


# Requests, with OpenAI's SDK as the oracle


def official(call: str, *arguments: Any, **options: Any) -> tuple[str, str, bytes]:
    """What OpenAI's SDK sends."""
    import httpx2
    from openai import OpenAI

    sent: list[tuple[str, str, bytes]] = []

    def handle(request: Any) -> Any:
        sent.append((request.method, str(request.url), request.read()))
        return httpx2.Response(400, json={"error": {"message": "caught"}})

    client = OpenAI(
        base_url="https://api.openai.com/v1",
        api_key=KEY,
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(handle)),
    )
    with pytest.raises(Exception, match="caught"):
        getattr(client.responses, call)(*arguments, **options)
    [request] = sent
    return request


def sent(request: Any) -> tuple[str, str, bytes]:
    assert isinstance(request, WireRequest)
    return request.method, request.url, request.body


def test_the_requests_are_those_of_openais_sdk() -> None:
    opened = steps(api_key=Secret(KEY))
    operations, context = opened.operations, CONTEXT
    assert operations.get_response is not None
    assert operations.cancel_response is not None
    resume = operations.resume_stream
    assert resume is not None
    assert sent(operations.get_response.build(context, "resp_1")) == official("retrieve", "resp_1")
    assert sent(operations.cancel_response.build(context, "resp_1")) == official("cancel", "resp_1")
    assert sent(resume.build(context, ResumePoint(response_id="resp_1"))) == official("retrieve", "resp_1", stream=True)
    method, url, body = sent(resume.build(context, ResumePoint(response_id="resp_1", after=42)))
    expected = official("retrieve", "resp_1", stream=True, starting_after=42)
    assert (method, body) == (expected[0], expected[2])
    assert sorted(url.partition("?")[2].split("&")) == sorted(expected[1].partition("?")[2].split("&"))
    assert resume.build(context, ResumePoint(response_id="resp_1")).headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_in_the_background_is_stored(stream: bool) -> None:
    from openai.types.responses import response_create_params as params

    request = ChatRequest(messages="Hi", model="gpt-5.2", background=True)
    body = json.loads(steps(api_key=Secret(KEY)).translator.translate(request, stream=stream).wire_request.body)
    kind = params.ResponseCreateParamsStreaming if stream else params.ResponseCreateParamsNonStreaming
    strict_adapter(kind).validate_python(body)
    assert body["background"] is True
    assert body["store"] is True


def test_the_id_of_a_response_is_one_segment_of_the_path() -> None:
    operation = steps(api_key=Secret(KEY)).operations.get_response
    assert operation is not None
    assert sent(operation.build(CONTEXT, "a/../b?c"))[1] == "https://api.openai.com/v1/responses/a%2F..%2Fb%3Fc"
    with pytest.raises(InvalidRequest, match="id of the response"):
        operation.build(CONTEXT, "..")


def test_where_the_api_has_no_background_the_response_is_made_as_usual_with_a_warning() -> None:
    request = ChatRequest(messages="Hi", model="m", background=True)
    for opened in (
        steps(api_key=Secret(KEY), api="chat"),
        steps(openai_compatible, api_url="http://localhost:1/v1", profile="groq"),
    ):
        translation = opened.translator.translate(request, stream=False)
        assert b"background" not in translation.wire_request.body
        assert [(warning.subject, warning.lossy) for warning in translation.warnings] == [("background", False)]
        assert opened.operations.get_response is None
        assert opened.operations.resume_stream is None


# Answers


TEXT = ["The ", "answer ", "is ", "42."]
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}


def response(status: str, text: str | None = None, **fields: Any) -> dict[str, Any]:
    output = (
        [] if text is None else [{**MESSAGE, "content": [{"type": "output_text", "text": text, "annotations": []}]}]
    )
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7} if status == "completed" else None
    made = {"id": "resp_1", "object": "response", "model": "gpt-5.2", "status": status, "background": True}
    return {**made, "output": output, "usage": usage, **fields}


def stream_events() -> list[dict[str, Any]]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    whole = {**part, "text": "".join(TEXT)}
    events: list[dict[str, Any]] = [
        {"type": "response.queued", "response": response("queued")},
        {"type": "response.created", "response": response("in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": {**MESSAGE, "content": []}},
        {"type": "response.content_part.added", **place, "part": part},
        *({"type": "response.output_text.delta", **place, "delta": text} for text in TEXT),
        {"type": "response.output_text.done", **place, "text": "".join(TEXT)},
        {"type": "response.content_part.done", **place, "part": whole},
        {"type": "response.output_item.done", "output_index": 0, "item": {**MESSAGE, "content": [whole]}},
        {"type": "response.completed", "response": response("completed", "".join(TEXT))},
    ]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def wire(events: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


class Background:
    """A server that needs two polls for a response, and breaks off each stream after some events."""

    def __init__(self, breaks_after: int = 6) -> None:
        self.statuses = ["queued", "in_progress", "completed"]
        self.breaks_after = breaks_after

    async def __call__(self, exchange: Exchange) -> None:
        method, target = exchange.request.method, exchange.request.target
        path, _, query = target.partition("?")
        if method == "POST" and path == "/v1/responses/resp_1/cancel":
            assert exchange.request.body == b""
            return await exchange.respond(json.dumps(response("cancelled")).encode())
        if path == "/v1/responses/resp_1" and "stream=true" in query:
            _, _, after = query.partition("starting_after=")
            return await self.stream(exchange, stream_events()[int(after) + 1 if after else 0 :])
        if path == "/v1/responses/resp_1":
            return await exchange.respond(json.dumps(self.next()).encode())
        if path == "/v1/responses/resp_failed":
            error = {"code": "server_error", "message": "The model broke down."}
            return await exchange.respond(json.dumps(response("failed", error=error)).encode())
        if method == "GET":
            return await exchange.respond(b'{"error":{"message":"Response not found"}}', status=404)
        body = json.loads(exchange.request.body)
        assert body["background"] is True
        assert body["store"] is True
        if body.get("stream"):
            return await self.stream(exchange, stream_events())
        return await exchange.respond(json.dumps(self.next()).encode())

    def next(self) -> dict[str, Any]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return response(status, "".join(TEXT) if status == "completed" else None)

    async def stream(self, exchange: Exchange, events: list[dict[str, Any]]) -> None:
        await exchange.start()
        for event in events[: self.breaks_after]:
            await exchange.chunk(wire([event]))
        await exchange.end()


def service_of(url: str, **settings: Any) -> Service:
    fields = {"api": "responses", "api_key": KEY, "default_model": "gpt-5.2", "max_retries": 0, **settings}
    return open_service("openai", api_url=url + "/v1", **fields)


@pytest.mark.anyio
async def test_a_response_is_polled_until_it_is_complete() -> None:
    async with serve(Background()) as server, service_of(server.url) as service:
        submitted = await service.chat("Think long", background=True)
        assert (submitted.id, submitted.finish_reason, submitted.raw_finish_reason) == (
            "resp_1",
            FinishReason.PENDING,
            "queued",
        )
        assert submitted.warnings == ()
        running = await service.get_response(submitted)
        assert (running.finish_reason, running.raw_finish_reason) == (FinishReason.PENDING, "in_progress")
        done = await service.get_response(running)
    assert done.finish_reason is FinishReason.STOP
    assert done.text == "The answer is 42."
    assert (done.service, done.provider, done.usage and done.usage.output_tokens) == ("openai", "openai", 4)
    # As for a chat, the parts have the family of the model, so that they can be sent back to it.
    assert [part.family for part in done.parts if hasattr(part, "family")] == ["gpt"]


@pytest.mark.anyio
async def test_a_response_is_cancelled() -> None:
    async with serve(Background()) as server, service_of(server.url) as service:
        cancelled = await service.cancel_response("resp_1")
        again = await service.cancel_response(cancelled)
        with pytest.raises(InvalidRequest, match="has no id"):
            await service.get_response(attrs.evolve(cancelled, id=None))
    assert (cancelled.finish_reason, cancelled.raw_finish_reason) == (FinishReason.OTHER, "cancelled")
    assert again == cancelled


@pytest.mark.anyio
async def test_a_failed_and_an_unknown_response_raise_as_a_chat_does() -> None:
    async with serve(Background()) as server, service_of(server.url) as service:
        with pytest.raises(ServerError, match="broke down"):
            await service.get_response("resp_failed")
        with pytest.raises(NotFound):
            await service.get_response("resp_2")


@pytest.mark.anyio
@pytest.mark.parametrize("breaks_after", [1, 2, 3, 4, 6, 9])
async def test_a_stream_that_breaks_off_is_read_on_from_its_last_point(breaks_after: int) -> None:
    text, points, broken = "", [], 0
    async with serve(Background(breaks_after)) as server, service_of(server.url) as service:
        stream = service.stream("Think long", background=True)
        while True:
            try:
                async with stream:
                    async for event in stream:
                        if isinstance(event, ResumePoint):
                            points.append(event)
                        elif isinstance(event, TextDelta):
                            text += event.text
                break
            except StreamInterrupted:
                broken += 1
                stream = service.resume_stream(points[-1])
        assert stream.response.finish_reason is FinishReason.STOP
    assert text == "The answer is 42."
    assert broken == -(-12 // breaks_after) - 1
    assert {point.response_id for point in points} == {"resp_1"}
    numbers = [point.after for point in points]
    assert numbers == sorted(set(numbers), key=lambda number: number or 0)


@pytest.mark.anyio
async def test_a_stream_is_read_again_from_its_beginning() -> None:
    async with serve(Background(breaks_after=99)) as server, service_of(server.url) as service:
        async with service.resume_stream(ResumePoint(response_id="resp_1")) as stream:
            whole = await stream.finish()
        asked = service.stream("Think long", background=True)
        async with asked as stream:
            assert await stream.finish() == whole
    assert whole.text == "The answer is 42."
    assert [request.target for request in server.requests] == ["/v1/responses/resp_1?stream=true", "/v1/responses"]


@pytest.mark.anyio
async def test_a_stream_in_the_background_opens_as_soon_as_the_response_exists() -> None:
    async with serve(Background(breaks_after=1)) as server, service_of(server.url, max_retries=3) as service:
        stream = service.stream("Think long", background=True)
        async with stream:
            assert isinstance(await anext(stream), ResponseStarted)
            assert await anext(stream) == ResumePoint(response_id="resp_1", after=0)
            with pytest.raises(StreamInterrupted):
                await anext(stream)
    # It is not retried, since that would make a second response.
    assert len(server.requests) == 1


@pytest.mark.anyio
async def test_a_provider_without_background_says_so() -> None:
    async with serve(Background()) as server:
        service, other = (service_of(server.url, api="chat", name=name) for name in ("one", "other"))
        async with fallback(service, other) as both:
            for one in (service, both):
                with pytest.raises(UnsupportedOperation, match=r"get_response.*set api to responses"):
                    await one.get_response("resp_1")
                with pytest.raises(UnsupportedOperation, match="resume_stream"):
                    async with one.resume_stream(ResumePoint(response_id="resp_1")):
                        pass
                with pytest.raises(InvalidRequest, match="takes a ResumePoint, not str"):
                    one.resume_stream("resp_1")  # type: ignore[arg-type]
    assert server.requests == []


# The parser of a stream that is read on


def read_on(events: Sequence[dict[str, Any]], after: int, size: int | None = None) -> list[Event]:
    data = wire(events[after + 1 :])
    decoder = StreamDecoder(*ResponsesParser(CONTEXT).resumed(ResumePoint(response_id="resp_1", after=after)))
    pieces = [data] if size is None else [data[at : at + size] for at in range(0, len(data), size)]
    found = [event for piece in pieces for event in decoder.feed(piece)]
    return [*found, *decoder.finish()]


def visible(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, ResumePoint)]


@pytest.mark.parametrize("after", range(10))
def test_from_each_point_the_events_are_the_same_for_any_split(after: int) -> None:
    whole = read_on(stream_events(), after)
    for size in (1, 7, 64):
        assert read_on(stream_events(), after, size) == whole
    folded = fold(whole)
    assert folded.id == "resp_1"
    assert folded.text == "".join(TEXT[max(after - 3, 0) :])
    assert folded.finish_reason is FinishReason.STOP
    assert folded.usage is not None


CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "status": "completed"}
WHOLE_CALL = {**CALL, "arguments": '{"city":"Oslo"}'}


def call_events() -> list[dict[str, Any]]:
    place = {"item_id": "fc_1", "output_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response("in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": {**CALL, "arguments": ""}},
        {"type": "response.function_call_arguments.delta", **place, "delta": '{"city":'},
        {"type": "response.function_call_arguments.delta", **place, "delta": '"Oslo"}'},
        {"type": "response.function_call_arguments.done", **place, "arguments": WHOLE_CALL["arguments"]},
        {"type": "response.output_item.done", "output_index": 0, "item": WHOLE_CALL},
        {"type": "response.completed", "response": response("completed", output=[WHOLE_CALL])},
    ]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


@pytest.mark.parametrize("after", range(6))
def test_a_call_that_is_read_on_has_all_of_its_arguments(after: int) -> None:
    folded = fold(read_on(call_events(), after))
    assert folded.finish_reason is FinishReason.TOOL_CALLS
    if after < 5:
        (call,) = folded.tool_calls
        assert isinstance(call, ToolCall)
        assert (call.id, dict(call.arguments), call.invalid_arguments) == ("call_1", {"city": "Oslo"}, None)
    else:  # it was complete before the point, so the application has it
        assert folded.tool_calls == ()


@pytest.mark.parametrize(
    ("item", "answered"),
    [
        ({"type": "mcp_approval_request", "id": "mcpr_1", "name": "x", "arguments": "{}", "server_label": "s"}, False),
        ({"type": "shell_call", "id": "sh_1", "call_id": "c1", "action": {"commands": ["ls"]}}, False),
        ({"type": "web_search_call", "id": "ws_1", "status": "completed"}, True),
    ],
)
def test_an_item_before_the_point_that_awaits_the_application_counts(item: dict[str, Any], answered: bool) -> None:
    done = {"type": "response.completed", "response": response("completed", output=[item]), "sequence_number": 9}
    (*_, finished) = read_on([done], -1)
    assert isinstance(finished, Finished)
    assert finished.reason is (FinishReason.STOP if answered else FinishReason.TOOL_CALLS)


def test_points_are_given_only_for_responses_in_the_background() -> None:
    events = stream_events()
    decoder = StreamDecoder(*ResponsesParser(CONTEXT).stream())
    found = [*decoder.feed(wire(events)), *decoder.finish()]
    assert [event.after for event in found if isinstance(event, ResumePoint)] == list(range(11))
    for event in events:
        event.get("response", {})["background"] = False
    decoder = StreamDecoder(*ResponsesParser(CONTEXT).stream())
    usual = [*decoder.feed(wire(events)), *decoder.finish()]
    assert [type(event) for event in usual] == [type(event) for event in visible(found)]


@pytest.mark.parametrize(
    ("recording", "finish_reason", "raw"),
    [
        ("4209ff564bb29a6f", FinishReason.PENDING, "queued"),
        ("98c25db8d75e3629", FinishReason.PENDING, "queued"),
        ("a0c763f870efd151", FinishReason.PENDING, "in_progress"),
        ("97f9b11bb8f15df5", FinishReason.STOP, "completed"),
    ],
)
def test_recorded_responses_say_whether_they_are_complete(
    recording: str, finish_reason: FinishReason, raw: str
) -> None:
    (exchange,) = [one for one in recorded("openai-responses") if one.id == recording]
    body = exchange.body
    response = ResponsesParser(CONTEXT).body(WireResponse(status=200, body=body))
    assert (response.finish_reason, response.raw_finish_reason) == (finish_reason, raw)


def test_the_items_of_a_stored_response_are_sent_back_with_their_ids() -> None:
    metadata: Any = {"openai": {"id": "rs_1"}}
    thought = Reasoning(text="", provider="openai", family="gpt", provider_metadata=metadata)
    said = Text(text="42", provider_metadata={"openai": {"id": "msg_1"}})
    request = ChatRequest(
        messages=[user("Hi"), assistant(thought, said), user("Why?")], model="gpt-5.2", background=True
    )
    translation = steps(api_key=Secret(KEY)).translator.translate(request, stream=False)
    items = json.loads(translation.wire_request.body)["input"]
    assert [item.get("id") for item in items] == [None, "rs_1", "msg_1", None]
    assert translation.warnings == ()


# Stored conversations


@pytest.mark.parametrize(
    "continued", [{"store": True, "previous_response_id": "resp_1"}, {"store": True, "conversation": "conv_1"}]
)
def test_what_continues_a_stored_conversation_is_sent_as_it_is(continued: dict[str, Any]) -> None:
    from openai.types.responses import response_create_params as params

    request = ChatRequest(
        messages=[system("Be brief."), tool_result("call_1", "Sun"), user("And Rome?")],
        model="gpt-5.2",
        provider_options={"openai": continued},
    )
    translation = steps(api_key=Secret(KEY)).translator.translate(request, stream=False)
    body = json.loads(translation.wire_request.body)
    strict_adapter(params.ResponseCreateParamsNonStreaming).validate_python(body)
    # The provider does not keep the instructions of earlier requests, so they are sent each time.
    assert body["instructions"] == "Be brief."
    assert body["input"] == [
        {"type": "function_call_output", "call_id": "call_1", "output": "Sun"},
        {"role": "user", "content": "And Rome?"},
    ]
    assert {name: body[name] for name in continued} == continued
    assert translation.warnings == ()


@pytest.mark.parametrize("stored", [True, False])
def test_reasoning_is_sent_by_its_id_only_if_the_provider_stores_it(stored: bool) -> None:
    metadata: Any = {"openai": {"id": "rs_1"}}
    thought = Reasoning(text="", provider="openai", family="gpt", provider_metadata=metadata)
    conversation = [user("Hi"), assistant(thought, Text(text="42")), user("Why?")]
    request = ChatRequest(
        messages=conversation, model="gpt-5.2", provider_options={"openai": {"store": True}} if stored else {}
    )
    translation = steps(api_key=Secret(KEY)).translator.translate(request, stream=False)
    kinds = [item.get("type") for item in json.loads(translation.wire_request.body)["input"]]
    assert ("reasoning" in kinds) == stored
    assert bool(translation.warnings) != stored


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        ({"type": "mcp_approval_request", "id": "m", "name": "x", "arguments": "{}", "server_label": "s"}, "Opaque"),
        ({"type": "computer_call", "id": "c", "call_id": "c1", "actions": [], "status": "completed"}, "Opaque"),
        ({"type": "shell_call", "id": "s", "call_id": "c2", "action": {"commands": ["ls"]}}, "Opaque"),
        ({"type": "apply_patch_call", "id": "a", "call_id": "c4", "operation": {"type": "delete_file"}}, "Opaque"),
        ({"type": "tool_search_call", "id": "t", "call_id": "c5", "execution": "client", "arguments": {}}, "Opaque"),
        ({"type": "tool_search_call", "id": "t", "call_id": "c5", "execution": "server", "arguments": {}}, None),
        ({"type": "image_generation_call", "id": "i", "result": "iVBORw0KGgo=", "status": "completed"}, None),
    ],
)
def test_only_what_awaits_the_application_finishes_with_tool_calls(item: dict[str, Any], kind: str | None) -> None:
    body = json.dumps(response("completed", output=[item])).encode()
    answer = ResponsesParser(CONTEXT).body(WireResponse(status=200, body=body))
    assert answer.finish_reason is (FinishReason.STOP if kind is None else FinishReason.TOOL_CALLS)
    (part,) = answer.parts
    assert getattr(part, "awaits_answer", False) == (kind is not None)
    assert isinstance(part, Image) == (item["type"] == "image_generation_call")
