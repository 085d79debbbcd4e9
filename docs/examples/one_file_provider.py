"""A provider with a wire format of its own in one file: text, parallel tools with streamed arguments, usage.

The wire is the invented one of `trunkline new-plugin --flavour wire`, which has the same in modules of their own, with
types, and with more of what a request may hold. What this one leaves out of a request becomes a warning.
"""

from __future__ import annotations

from typing import Any, ClassVar

from trunkline import FinishReason, ProtocolViolation, Secret, StreamInterrupted, Text, ToolCall, ToolResult, Usage
from trunkline.authoring.auth import HeaderAuth
from trunkline.authoring.event_builder import EventBuilder
from trunkline.authoring.framing import SSEOrJSONFramer
from trunkline.authoring.http_errors import error_body, status_error
from trunkline.authoring.json import decode_object, dumps
from trunkline.authoring.provider import Provider, Translation
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.fold import fold
from trunkline.settings import Converted, Settings, setting, settings

REASONS = {"stop": FinishReason.STOP, "calls": FinishReason.TOOL_CALLS, "length": FinishReason.LENGTH}


@settings
class BoltSettings(Settings):
    provider: ClassVar[str] = "bolt"
    api_key: Converted[Secret, str] = setting("API key", "The key of your account.", environment=("BOLT_API_KEY",))
    api_url: str = setting("API URL", "The root of the API.", default="https://api.bolt.example/v1")


class Translator:
    def __init__(self, context):
        self.url = context.settings.api_url + "/generate"

    def translate(self, request, *, stream):
        warnings = Warnings()
        warnings.unsupported(request, supported={"tools"})
        body = {"model": request.model, "stream": stream, "messages": []}
        for message in request.messages:
            turn = {"role": message.role, "text": message.text, "calls": []}
            for part in message.parts:
                if isinstance(part, ToolCall):
                    turn["calls"].append({"id": part.id, "name": part.name, "arguments": part.arguments})
                elif isinstance(part, ToolResult):
                    body["messages"].append({"role": "tool", "call": part.tool_call_id, "text": part.text})
                elif not isinstance(part, Text):
                    warnings.add("left_out", type(part).__name__, "it cannot be sent; it was left out")
            if turn["text"] or turn["calls"]:
                body["messages"].append(turn)
        if request.tools:
            body["tools"] = [{"name": tool.name, "parameters": tool.parameters} for tool in request.tools]
        return Translation(wire_request=WireRequest(url=self.url, body=dumps(body)), warnings=warnings.all())


class Parser:
    def __init__(self):
        self.answer = EventBuilder("bolt")

    def feed(self, frame):
        self.read(decode_object(frame.data, "an event", provider="bolt"))
        return self.answer.take()

    def read(self, data: dict[str, Any]):
        match data:
            case {"error": _}:
                raise failure(data)
            case {"type": "start", "id": str(response_id), "model": str(model)}:
                self.answer.start(response_id, model)
            case {"type": "text", "text": str(text)}:
                self.answer.text(text)
            case {"type": "call", "index": int(index)}:
                given = {name: text for name in ("name", "arguments") if isinstance(text := data.get(name), str)}
                self.answer.tool_call(index, call_id=str(data.get("id") or "") or None, **given)
            case {"type": "usage", "input": int(sent), "output": int(made)}:
                self.answer.usage(Usage(input_tokens=sent, output_tokens=made, raw=data))
            case {"type": "end", "reason": str(reason)}:
                self.answer.finish(REASONS.get(reason, FinishReason.OTHER), raw_reason=reason)

    def finish(self):
        raise StreamInterrupted("the stream ended before its event 'end'")


class ResponseParser:
    def stream(self):
        return SSEOrJSONFramer(), Parser()

    def body(self, wire_response):
        parser, data = Parser(), decode_object(wire_response.body, "the body", provider="bolt")
        calls = data.get("calls") if isinstance(data.get("calls"), list) else []
        parser.read({"type": "text", "text": data.get("text")} | ({"error": data["error"]} if "error" in data else {}))
        for index, call in enumerate(call for call in calls if isinstance(call, dict)):
            parser.read({**call, "type": "call", "index": index, "arguments": dumps(call.get("arguments")).decode()})
        parser.read({**data["usage"], "type": "usage"} if isinstance(data.get("usage"), dict) else {})
        parser.read({"type": "end", "reason": data.get("reason")})
        if not parser.answer.finished:
            raise ProtocolViolation("the body has no reason")
        return fold(parser.answer.take(), "bolt")

    def error(self, wire_response):
        return failure(error_body(wire_response), status=wire_response.status, headers=wire_response.headers)


def failure(body, **facts):
    error = body.get("error") if isinstance(body, dict) else body
    message = error.get("message") if isinstance(error, dict) else error
    return status_error(message if isinstance(message, str) else "", provider="bolt", body=body, **facts)


bolt = Provider(
    name="bolt",
    settings=BoltSettings,
    auth=lambda context: HeaderAuth("authorization", context.settings.api_key.reveal(), prefix="Bearer "),
    translator=Translator,
    response_parser=lambda context: ResponseParser(),
)
