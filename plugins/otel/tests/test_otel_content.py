"""Messages have the form of the conventions' JSON schemas, whatever they contain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trunkline import (
    Audio,
    ChatRequest,
    ChatResponse,
    Citation,
    Document,
    FinishReason,
    Image,
    Message,
    Opaque,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    user,
)
from trunkline_otel.content import Content

FORMS: dict[str, Any] = json.loads(Path(__file__).with_name("conventions.json").read_text(encoding="utf-8"))["messages"]
PNG = b"\x89PNG\r\n\x1a\n"
CALL = ToolCall(id="call-1", name="look", arguments={"where": "up"})
BROKEN = ToolCall(id="call-2", name="look", arguments={}, invalid_arguments='{"where": ')
CONTENT = Content(lambda: ("sk-canary-key",))

MESSAGES = (
    user("Look.", Image(data=PNG), Image(url="https://acme.example/a.png"), Document(file_id="file-1")),
    user(Audio(data=b"RIFF", media_type="audio/wav")),
    assistant(Reasoning(text="Hm."), Text(text="Well."), Citation(url="https://acme.example/"), CALL, BROKEN),
    Message(role="tool", parts=(ToolResult(tool_call_id="call-1", parts=(Text(text="blue"), Image(data=PNG))),)),
    Message(role="tool", parts=(ToolResult(tool_call_id="call-2", parts=(Text(text="blue"),)),)),
    assistant(Opaque(provider="acme", kind="search", data={"canary": 1})),
)


def check(message: dict[str, Any]) -> None:
    assert message["role"] in FORMS["roles"]
    for part in message["parts"]:
        assert {"type", *FORMS["parts"].get(part["type"], [])} <= set(part)
        assert part.get("modality", "image") in FORMS["modalities"]


def test_messages_of_all_kinds_have_the_form_of_the_schemas() -> None:
    messages = json.loads(CONTENT.request(ChatRequest(messages=MESSAGES))["gen_ai.input.messages"])
    assert len(messages) == len(MESSAGES)
    for message in messages:
        check(message)
    image = messages[0]["parts"][1]
    assert (image["type"], image["size"]) == ("blob", len(PNG))
    assert messages[2]["parts"][3]["arguments"] == {"where": "up"}
    assert messages[2]["parts"][4]["arguments"] == '{"where": '
    assert messages[3]["parts"][0]["response"][0] == {"type": "text", "content": "blue"}
    assert messages[4]["parts"][0]["response"] == "blue"
    assert "canary" not in json.dumps(messages)


@pytest.mark.parametrize("reason", FinishReason)
def test_response_has_the_form_of_the_schema(reason: FinishReason) -> None:
    response = ChatResponse(parts=(Text(text="Blue."), CALL), finish_reason=reason)
    [message] = json.loads(CONTENT.response(response)["gen_ai.output.messages"])
    check(message)
    assert message["finish_reason"] in {*FORMS["finish_reasons"], "other", "paused", "pending"}


@pytest.mark.parametrize("result", [object(), {1, 2}, b"bytes", float("nan"), {("a", 1): 2}, None, [MESSAGES[0]]])
def test_result_that_is_no_json_does_not_fail(result: object) -> None:
    assert isinstance(CONTENT.result(result)["gen_ai.tool.call.result"], str)


def test_arguments_that_are_no_json_are_text() -> None:
    assert json.loads(CONTENT.arguments(BROKEN)["gen_ai.tool.call.arguments"]) == '{"where": '


def test_secret_of_the_service_that_a_message_quotes_is_removed() -> None:
    shown = CONTENT.request(ChatRequest(messages="Is sk-canary-key a good key?"))["gen_ai.input.messages"]
    assert json.loads(shown)[0]["parts"] == [{"type": "text", "content": "Is *** a good key?"}]
    assert "canary" not in CONTENT.result("sk-canary-key")["gen_ai.tool.call.result"]


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("used sk-canary-key"), "used ***"),
        (Unreadable(), "<a text that cannot be read: RuntimeError>"),
        (KeyboardInterrupt("canary"), None),
    ],
)
def test_text_of_an_error_shows_no_secret(error: BaseException, text: str | None) -> None:
    assert CONTENT.error(error) == text


def test_text_that_is_no_unicode_is_shown_or_left_out() -> None:
    attributes = CONTENT.request(ChatRequest(messages=(user("canary \ud800 sk-canary-key"),)))
    assert "sk-canary-key" not in str(attributes)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ann:canary@acme.example/a.png?sig=canary#canary", "https://acme.example/a.png"),
        ("https://[canary/a.png", ""),
        ("gs://bucket/a.png", "gs://bucket/a.png"),
    ],
)
def test_url_of_media_shows_nothing_that_gives_access(url: str, shown: str) -> None:
    [text] = CONTENT.request(ChatRequest(messages=(user(Image(url=url, media_type="image/png")),))).values()
    assert "canary" not in text
    assert json.loads(text)[0]["parts"][0]["uri"] == shown
