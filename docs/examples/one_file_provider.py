"""A provider for an API of its own in one file: text, parallel tool calls with streamed arguments, usage.

The API is the invented one of `trunkline new-plugin --flavour wire`. That command creates a complete package, with
types and support for more fields of a request. Here, every field that is not sent gives a warning.

The provider is in no package: `main` passes it to `open_service`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import anyio
import trunkline
from trunkline import Citation, FinishReason, ProtocolViolation, Secret, StreamInterrupted, Text, ToolCall, Usage
from trunkline.authoring.auth import key_auth
from trunkline.authoring.event_builder import EventBuilder
from trunkline.authoring.framing import SSEOrJSONFramer
from trunkline.authoring.http_errors import error_body, error_from_json, status_error
from trunkline.authoring.json import as_list, as_object, as_string, decode_object, dumps, encode_request, unknown_fields
from trunkline.authoring.provider import Provider, Translation
from trunkline.authoring.replay import ReplayRules, replay
from trunkline.authoring.schemas import tool_parameters
from trunkline.authoring.urls import endpoint_url
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.fold import fold
from trunkline.settings import Converted, Settings, setting, settings, url_setting

REASONS = {"stop": FinishReason.STOP, "calls": FinishReason.TOOL_CALLS, "length": FinishReason.LENGTH}
KNOWN = {"type", "id", "model", "text", "index", "name", "arguments", "input", "output", "reason", "calls", "usage"}
RULES = ReplayRules(provider="bolt", reasoning="never", result_media=())


@settings
class BoltSettings(Settings):
    provider: ClassVar[str] = "bolt"
    api_key: Converted[Secret, str] = setting("API Key", "API key of your account.", environment=("BOLT_API_KEY",))
    api_url: str = url_setting("API URL", "Root URL of the API.", default="https://api.bolt.example/v1")


class Translator:
    def __init__(self, context):
        self.url = endpoint_url(context.settings.api_url, "/generate")

    def translate(self, request, *, stream):
        warnings = Warnings()
        warnings.unsupported(request, supported={"tools"})
        body = {"model": request.model, "stream": stream, "messages": []}
        for turn in replay(request.messages, RULES, warnings):
            calls = [
                {"id": call.id, "name": call.name, "arguments": call.arguments} for call in turn.message.tool_calls
            ]
            body["messages"].append({"role": turn.message.role, "text": turn.message.text, "calls": calls})
            for result in turn.results:
                body["messages"].append({"role": "tool", "call": result.tool_call_id, "text": result.text})
            for part in turn.message.parts:
                if not isinstance(part, (Text, ToolCall, Citation)):
                    warnings.add("left_out", type(part).__name__, "not supported by Bolt", lossy=True)
        if request.tools:
            body["tools"] = [
                {
                    "name": tool.name,
                    "description": tool.description or "",
                    "parameters": tool_parameters(tool, warnings),
                }
                for tool in request.tools
            ]
        return Translation(wire_request=WireRequest(url=self.url, body=encode_request(body)), warnings=warnings.all())


class Parser:
    def __init__(self):
        self.builder = EventBuilder("bolt")

    def feed(self, frame):
        self.read(decode_object(frame.data, "an event", provider="bolt"))
        return self.builder.take()

    def read(self, data: dict[str, Any]):
        self.builder.metadata(unknown_fields(data, KNOWN))
        match data:
            case {"error": _}:
                raise error_from_json(data, provider="bolt", read=failure)
            case {"type": "start", "id": str(response_id), "model": str(model)}:
                self.builder.start(response_id, model)
            case {"type": "text", "text": str(text)}:
                self.builder.text(text)
            case {"type": "call", "index": int(index)}:
                name, arguments = as_string(data.get("name")) or "", as_string(data.get("arguments")) or ""
                self.builder.tool_call(index, call_id=as_string(data.get("id")), name=name, arguments=arguments)
            case {"type": "usage", "input": int(input_tokens), "output": int(output_tokens)}:
                self.builder.usage(Usage(input_tokens=input_tokens, output_tokens=output_tokens, raw=data))
            case {"type": "end", "reason": str(reason)}:
                self.builder.finish(REASONS.get(reason, FinishReason.OTHER), raw_reason=reason)

    def finish(self):
        raise StreamInterrupted("the stream ended before its event 'end'")


class ResponseParser:
    def stream(self):
        return SSEOrJSONFramer(), Parser()

    def body(self, wire_response):
        parser, data = Parser(), decode_object(wire_response.body, "the body", provider="bolt")
        parser.builder.start(as_string(data.get("id")), as_string(data.get("model")))
        parser.builder.metadata(unknown_fields(data, KNOWN))
        parser.read({"type": "text", "text": data.get("text")} | ({"error": data["error"]} if "error" in data else {}))
        for index, call in enumerate(map(as_object, as_list(data.get("calls")))):
            parser.read({**call, "type": "call", "index": index, "arguments": dumps(call.get("arguments")).decode()})
        parser.read({**as_object(data.get("usage")), "type": "usage"})
        parser.read({"type": "end", "reason": data.get("reason")})
        if not parser.builder.finished:
            raise ProtocolViolation("the body has no field 'reason'")
        return fold(parser.builder.take(), "bolt")

    def error(self, wire_response):
        return failure(error_body(wire_response), status=wire_response.status, headers=wire_response.headers)


def failure(body, provider="bolt", **response):
    error = body.get("error") if isinstance(body, dict) else body
    message = error.get("message") if isinstance(error, dict) else error
    return status_error(as_string(message) or "", provider=provider, body=body, **response)


def auth(context):
    return key_auth(context.settings.api_key, "authorization", prefix="Bearer ", headers=context.settings.headers)


bolt = Provider(
    name="bolt",
    settings=BoltSettings,
    auth=auth,
    translator=Translator,
    response_parser=lambda context: ResponseParser(),
)


async def main():
    async with trunkline.open_service(bolt, default_model="bolt-1") as service:
        print((await service.chat("Why is the sky blue?")).text)


if __name__ == "__main__":
    anyio.run(main)
