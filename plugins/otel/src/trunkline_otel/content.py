"""Messages, instructions and tools as the JSON that the conventions define for attributes with content.

The forms are those of `docs/gen-ai/gen-ai-input-messages.json` and its neighbours, at the commit in `conventions.py`.
The bytes of media are left out: a span is no place for megabytes. So are the user information, query and fragment of
their URLs, which may give access to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit, urlunsplit

import attrs
from trunkline.messages import (
    Audio,
    Citation,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse
from trunkline.secrets import scrub
from trunkline.storage import to_json

from trunkline_otel import conventions as names

_MODALITIES: Mapping[type[Part], str] = {Image: "image", Audio: "audio", Document: "document"}
_FINISH_REASONS = {"tool_calls": "tool_call"}  # of a message; the attribute has the reason itself


@attrs.frozen
class Content:
    """Makes the attributes with content. The `secrets` of the service are removed, in case a message quotes one.

    They are read each time, since a service acquires new ones, such as tokens.
    """

    secrets: Callable[[], Iterable[str]] = attrs.field(repr=False)

    def request(self, request: ChatRequest) -> dict[str, str]:
        """Return the attributes with the content of a request."""
        instructions = [part for message in request.messages if message.role == "system" for part in message.parts]
        messages = [_message(message) for message in request.messages if message.role != "system"]
        found = {names.INPUT_MESSAGES: self._dumps(messages)}
        if instructions:
            found[names.INSTRUCTIONS] = self._dumps([_part(part) for part in instructions])
        if request.tools:
            tools = [
                {
                    "type": "function",
                    "name": tool.name,
                    **({"description": tool.description} if tool.description else {}),
                    "parameters": tool.parameters,
                }
                for tool in request.tools
            ]
            found[names.TOOL_DEFINITIONS] = self._dumps(tools)
        return found

    def response(self, response: ChatResponse) -> dict[str, str]:
        """Return the attributes with the content of a response, or of the part of one that arrived."""
        reason = str(response.finish_reason)
        message = {**_message(response.message), "finish_reason": _FINISH_REASONS.get(reason, reason)}
        return {names.OUTPUT_MESSAGES: self._dumps([message])}

    def arguments(self, call: ToolCall) -> dict[str, str]:
        """Return the attribute with the arguments of a tool call."""
        return {names.TOOL_ARGUMENTS: self._dumps(_arguments(call))}

    def result(self, result: object) -> dict[str, str]:
        """Return the attribute with the result of a tool."""
        if isinstance(result, Message):
            result = result.parts[0] if len(result.parts) == 1 else list(map(_part, result.parts))
        return {names.TOOL_RESULT: self._dumps(_result(result) if isinstance(result, ToolResult) else result)}

    def error(self, error: BaseException | None) -> str | None:
        """Return the text of an error, without secrets that it may quote. A cancellation has no text."""
        if not isinstance(error, Exception):
            return None
        try:
            text = str(error)
        except Exception as failure:  # the exception may be of any library, and its `__str__` may fail
            return f"<a text that cannot be read: {type(failure).__name__}>"
        return self._scrubbed(text)

    def _dumps(self, value: object) -> str:
        try:
            text = json.dumps(value, ensure_ascii=False, default=to_json)
        except Exception as error:  # a tool may return anything; what cannot be shown must not fail the call
            return f"<a {type(value).__name__} that is not JSON: {type(error).__name__}>"
        return self._scrubbed(text)

    def _scrubbed(self, text: str) -> str:
        try:
            return scrub(text, self.secrets())
        except Exception as error:  # the `secrets` of an `Auth` are a plugin's code
            return f"<not shown, since the secrets of the service are not known: {type(error).__name__}>"


def _message(message: Message) -> dict[str, object]:
    role = "tool" if any(isinstance(part, ToolResult) for part in message.parts) else message.role
    named = {} if message.name is None else {"name": message.name}
    return {"role": role, "parts": list(map(_part, message.parts)), **named}


def _part(part: Part) -> Mapping[str, object]:
    match part:
        case Text():
            return {"type": "text", "content": part.text}
        case Reasoning():
            return {"type": "reasoning", "content": part.text}
        case ToolCall():
            return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": _arguments(part)}
        case ToolResult():
            return {"type": "tool_call_response", "id": part.tool_call_id, "response": _result(part)}
        case Image() | Audio() | Document():
            return _media(part)
        case Citation():
            return {"type": "citation", "url": part.url, "title": part.title}
        case Opaque():
            return {"type": part.kind, "provider": part.provider}


def _media(part: Image | Audio | Document) -> dict[str, object]:
    about: dict[str, object] = {"modality": _MODALITIES[type(part)], "mime_type": part.media_type}
    if part.url is not None:
        return {"type": "uri", "uri": _without_credentials(part.url), **about}
    if part.file_id is not None:
        return {"type": "file", "file_id": part.file_id, **about}
    return {"type": "blob", "size": len(part.data or b""), **about}


def _without_credentials(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _arguments(call: ToolCall) -> object:
    return call.arguments if call.invalid_arguments is None else call.invalid_arguments


def _result(result: ToolResult) -> object:
    parts: Iterable[Part] = result.parts
    texts = [part.text for part in parts if isinstance(part, Text)]
    return texts[0] if len(texts) == len(result.parts) == 1 else [_part(part) for part in result.parts]
