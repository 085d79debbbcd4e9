"""The same conversations through every provider's translation; the table in the docs is made of the same."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from trunkline.authoring.replay import LEFT_OUT
from trunkline.messages import (
    Audio,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    user,
)
from trunkline.request import ChatRequest, Tool

_spec = importlib.util.spec_from_file_location("portability", Path(__file__).parents[1] / "docs" / "portability.py")
assert _spec is not None
assert _spec.loader is not None
portability = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(portability)

PAIRS = [(service, title) for service in portability.SERVICES for title in portability.CONVERSATIONS]


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def sent(service: str, title: str) -> tuple[Any, str]:
    translation = portability.translate(service, portability.CONVERSATIONS[title])
    body = json.loads(translation.wire_request.body)
    return translation, "\n".join(strings(body))


@pytest.mark.parametrize(("service", "title"), PAIRS)
def test_every_text_of_the_conversation_is_sent(service: str, title: str) -> None:
    request = portability.CONVERSATIONS[title]
    _, body = sent(service, title)
    for message in request.messages:
        for part in message.parts:
            for text in (part, *getattr(part, "parts", ())):
                assert not isinstance(text, Text) or text.text in body


@pytest.mark.parametrize("service", portability.SERVICES)
def test_signed_parts_of_another_provider_are_left_out_with_a_warning(service: str) -> None:
    translation, body = sent(service, "a history from elsewhere")
    assert "c2lnbmVk" not in body
    assert "web_search" not in body
    assert {"left_out", "mended"} & {warning.kind for warning in translation.warnings}


@pytest.mark.parametrize("service", portability.SERVICES)
def test_ids_that_a_provider_refuses_are_replaced_in_call_and_result(service: str) -> None:
    ids: dict[str, list[str]] = {"call": [], "result": []}

    def collect(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                collect(item)
        elif isinstance(value, dict):
            kind = value.get("type")
            if value.get("tool_call_id") or value.get("tool_use_id") or kind == "function_call_output":
                ids["result"].append(value.get("tool_call_id") or value.get("tool_use_id") or value["call_id"])
            elif kind == "function_call":
                ids["call"].append(value["call_id"])
            elif (kind in ("function", "tool_use") or "function" in value) and "id" in value:
                ids["call"].append(value["id"])
            elif "functionCall" in value:
                ids["call"].append(value["functionCall"]["id"])
            elif "functionResponse" in value:
                ids["result"].append(value["functionResponse"]["id"])
            elif "toolUseId" in value:
                ids["result" if "content" in value else "call"].append(value["toolUseId"])
            for item in value.values():
                collect(item)

    translation = portability.translate(service, portability.CONVERSATIONS["a history from elsewhere"])
    collect(json.loads(translation.wire_request.body))
    assert ids["call"] == ids["result"]
    assert len(set(ids["call"])) == 2
    if service not in ("cohere", "gemini", "ollama"):  # their specifications have no rule for ids
        assert all(len(value) <= 64 and " " not in value for value in ids["call"])


@pytest.mark.parametrize("service", portability.SERVICES)
def test_unsupported_fields_give_warnings_and_are_not_sent(service: str) -> None:
    translation, _ = sent(service, "sampling")
    body = json.loads(translation.wire_request.body)
    keys = set(body) | set(body.get("inferenceConfig", {})) | set(body.get("additionalModelRequestFields", {}))
    for warning in translation.warnings:
        if warning.kind == "unsupported":
            assert warning.subject not in keys
            assert warning.message


RESULTS: dict[str, Part] = {
    "audio": Audio(data=b"RIFF0000WAVE", media_type="audio/wav"),
    "flac": Audio(data=b"fLaC", media_type="audio/flac"),
    "audio at a URL": Audio(url="https://media.test/a.wav"),
    "image": Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png"),
    "image at a URL": Image(url="https://media.test/a.png"),
    "uploaded image": Image(file_id="file-1"),
    "TIFF": Image(data=b"II*\0", media_type="image/tiff"),
    "PDF": Document(data=b"%PDF-1.4 ", media_type="application/pdf"),
    "archive": Document(data=b"PK\3\4", media_type="application/zip"),
    "document at a URL": Document(url="https://media.test/a.zip"),
    "film": Document(data=b"0", media_type="video/mp4"),
    "part of another provider": Opaque(provider="other", kind="weird", data={}),
}


@pytest.mark.parametrize("result", RESULTS)
@pytest.mark.parametrize("service", portability.SERVICES)
def test_result_of_which_nothing_can_be_sent_is_not_sent_as_empty(service: str, result: str) -> None:
    messages = [
        user("Listen."),
        assistant(ToolCall(id="call_1", name="record", arguments={})),
        Message(role="tool", parts=[ToolResult(tool_call_id="call_1", parts=[RESULTS[result]])]),
    ]
    tool = Tool(name="record", parameters={"type": "object", "properties": {}})
    translation = portability.translate(service, ChatRequest(messages=messages, tools=[tool]))
    body = "\n".join(strings(json.loads(translation.wire_request.body)))
    lost = {warning.kind for warning in translation.warnings if warning.lossy} & {"left_out", "unsupported"}
    assert bool(lost) == (LEFT_OUT in body)


@pytest.mark.parametrize("role", ["system", "user"])
@pytest.mark.parametrize("service", portability.SERVICES)
def test_texts_of_a_message_do_not_run_together(service: str, role: Literal["system", "user"]) -> None:
    messages = [Message(role=role, parts=["Be brief.", "Be ", "kind."]), user("Hi")]
    translation = portability.translate(service, ChatRequest(messages=messages))
    sent = strings(json.loads(translation.wire_request.body))
    assert "Be brief.\nBe kind." in sent or {"Be brief.", "Be ", "kind."} <= set(sent)
