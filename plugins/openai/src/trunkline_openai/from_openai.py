"""Conversations in OpenAI's Chat Completions form, as the core's messages. Pure.

The reverse of `trunkline_openai.history`, which writes this form. It is the form of the published specification
(openai-openapi, operation `createChatCompletion`), with the fields that compatible servers add for reasoning.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

from trunkline.errors import InvalidRequest, ProtocolViolation
from trunkline.events import PartAdded
from trunkline.fold import decode_arguments
from trunkline.messages import (
    Audio,
    Document,
    Image,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    ToolResultPart,
)

from trunkline_openai.reasoning import ReasoningBlocks, detail_text, thinking_text
from trunkline_openai.response_parts import AudioPieces, annotation

Fields: TypeAlias = Mapping[str, Any]

_ROLES = "system, developer, user, assistant, tool or function"
_MEDIA_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}
_COMMON_FIELDS = frozenset({"role", "content", "name"})
_ASSISTANT_FIELDS = _COMMON_FIELDS | {
    "annotations",
    "audio",
    "function_call",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "refusal",
    "tool_calls",
}


def messages_from(messages: Iterable[Mapping[str, object]], *, provider: str = "openai") -> tuple[Message, ...]:
    """Convert a conversation in OpenAI's Chat Completions form to Trunkline's messages.

    `messages` are dicts as `client.chat.completions.create(messages=…)` takes them, with the roles `system`,
    `developer`, `user`, `assistant`, `tool` and the older `function`. Their content is a string or a list of parts:
    `text`, `image_url`, `input_audio`, `file`, and from a model also `refusal` and `thinking`. An assistant's message
    may have `tool_calls`, `function_call`, `refusal`, `audio`, `annotations`, `reasoning_content` (or `reasoning`) and
    `reasoning_details`. Convert a message object of the `openai` package with its method `model_dump()` first.

    `provider` names the provider that wrote the assistant's messages. Reasoning and other content that only this
    provider accepts is sent back to it and to no other. A field that Trunkline has no place for is kept in
    `provider_options` for the same provider; a field that is `None` counts as absent.

    Raises `InvalidRequest` for a message that is not of this form. The error names its position (`messages[2].content`)
    and what is accepted there.
    """
    if isinstance(messages, (str, Mapping)) or not isinstance(messages, Iterable):
        raise InvalidRequest(f"messages must be a list of dicts, not {_shown(messages)}")
    reader = _ConversationReader(provider)
    return tuple(reader.message(f"messages[{position}]", message) for position, message in enumerate(messages))


class _ConversationReader:
    """Reads the messages of one conversation, in order, since a tool's result refers to the call before it."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._tool_names: dict[str, str] = {}
        # Ids for the calls in the older field `function_call`, which has none: by the function's name, the latest one.
        self._function_calls: dict[str, str] = {}

    def message(self, at: str, value: object) -> Message:
        if not isinstance(value, Mapping):
            hint = "; call its model_dump() first" if hasattr(value, "model_dump") else ""
            raise InvalidRequest(f"{at} must be a dict with a role and content, not {_shown(value)}{hint}")
        fields = _present(value)
        match fields.get("role"):
            case "system" | "developer":
                return self._prompt(at, fields, "system")
            case "user":
                return self._prompt(at, fields, "user")
            case "assistant":
                return self._assistant(at, fields)
            case "tool":
                call_id = _string(at, fields, "tool_call_id")
                return self._tool_result(at, fields, call_id, self._tool_names.get(call_id))
            case "function":
                name = _string(at, fields, "name")
                if name not in self._function_calls:
                    raise InvalidRequest(f"{at} is a result of {_shown(name)}, but no function_call of it comes before")
                return self._tool_result(at, fields, self._function_calls[name], name)
            case role:
                raise _unexpected(f"{at}.role", _ROLES, role)

    def _prompt(self, at: str, fields: Fields, role: Any) -> Message:
        return Message(
            role=role,
            parts=self._content(at, fields, _INPUT_PARTS),
            name=_optional_string(at, fields, "name"),
            provider_options=self._options(fields, _COMMON_FIELDS),
        )

    def _tool_result(self, at: str, fields: Fields, call_id: str, name: str | None) -> Message:
        result = ToolResult(
            tool_call_id=call_id,
            name=name,
            parts=cast("tuple[ToolResultPart, ...]", self._content(at, fields, _INPUT_PARTS)),
            provider_options=self._options(fields, _COMMON_FIELDS | {"tool_call_id"}),
        )
        return Message(role="tool", parts=result)

    def _assistant(self, at: str, fields: Fields) -> Message:
        parts: list[Part] = list(self._reasoning(at, fields))
        if fields.get("content", "") != "":
            parts += self._content(at, fields, _ANSWER_PARTS)
        if refusal := _optional_string(at, fields, "refusal"):
            parts.append(Text(text=refusal, refusal=True))
        for where, item in _list(at, fields, "annotations"):
            found = annotation(_object(where, item), self._provider)
            if found is not None:
                parts.append(found.part if isinstance(found, PartAdded) else found)
        if "audio" in fields:
            parts += self._audio(f"{at}.audio", _object(f"{at}.audio", fields["audio"]))
        parts += [self._tool_call(where, _object(where, item)) for where, item in _list(at, fields, "tool_calls")]
        if "function_call" in fields:
            parts.append(self._function_call(at, _object(f"{at}.function_call", fields["function_call"])))
        return Message(
            role="assistant",
            parts=parts,
            name=_optional_string(at, fields, "name"),
            provider_options=self._options(fields, _ASSISTANT_FIELDS),
        )

    def _reasoning(self, at: str, fields: Fields) -> Iterable[Reasoning]:
        details = [dict(_object(where, item)) for where, item in _list(at, fields, "reasoning_details")]
        text = _optional_string(at, fields, "reasoning_content") or _optional_string(at, fields, "reasoning")
        text = text or "".join(map(detail_text, details))
        if not text and not details:
            return
        blocks = ReasoningBlocks(self._provider)
        for detail in details:
            blocks.add(detail)
        end = blocks.end(0)
        yield Reasoning(
            text=text,
            provider=self._provider,
            signature=end.signature,
            encrypted=end.encrypted,
            provider_metadata=end.provider_metadata,
        )

    def _audio(self, at: str, fields: Fields) -> Iterable[Part]:
        sound = AudioPieces(self._provider)
        sound.add(dict(fields))
        try:
            added = sound.end()
        except ProtocolViolation:
            raise InvalidRequest(f"{at}.data must be base64") from None
        return () if added is None else (added.part,)

    def _tool_call(self, at: str, fields: Fields) -> ToolCall:
        call_id, kind = _string(at, fields, "id"), fields.get("type", "function")
        if kind not in ("function", "custom"):
            raise _unexpected(f"{at}.type", "function or custom", kind)
        body = _object(f"{at}.{kind}", fields.get(kind))
        options = self._options(fields, {"id", "type", "function", "custom", "index"})
        name = self._tool_names[call_id] = _string(f"{at}.{kind}", body, "name")
        if kind == "custom":
            return ToolCall(
                id=call_id,
                name=name,
                arguments={"input": _string(f"{at}.custom", body, "input")},
                provider_options=options,
                provider_metadata={self._provider: {"type": "custom"}},
            )
        arguments, invalid = decode_arguments(_string(f"{at}.function", body, "arguments"))
        return ToolCall(id=call_id, name=name, arguments=arguments, invalid_arguments=invalid, provider_options=options)

    def _function_call(self, at: str, fields: Fields) -> ToolCall:
        name = _string(f"{at}.function_call", fields, "name")
        arguments, invalid = decode_arguments(_string(f"{at}.function_call", fields, "arguments"))
        call_id = self._function_calls[name] = f"function_call_{at[len('messages[') : -1]}"
        return ToolCall(id=call_id, name=name, arguments=arguments, invalid_arguments=invalid)

    def _content(self, at: str, fields: Fields, kinds: Mapping[str, PartReader]) -> tuple[Part, ...]:
        content = fields.get("content")
        if isinstance(content, str):
            return (Text(text=content),)
        if not isinstance(content, (list, tuple)):
            raise _unexpected(f"{at}.content", "a string or a list of parts", content)
        return tuple(self._part(where, item, kinds) for where, item in _list(at, fields, "content"))

    def _part(self, at: str, item: object, kinds: Mapping[str, PartReader]) -> Part:
        fields = _object(at, item)
        kind = fields.get("type")
        read = kinds.get(kind) if isinstance(kind, str) else None
        if kind is None or read is None:
            raise _unexpected(f"{at}.type", f"one of {', '.join(kinds)}", kind)
        options = self._options(fields, {"type", kind, "signature"})
        try:
            return read(at, fields, self._provider, options)
        except (binascii.Error, ValueError) as error:
            raise InvalidRequest(f"{at}.{kind} has data that is not base64: {error}") from None

    def _options(self, fields: Fields, known: Iterable[str]) -> Mapping[str, Fields]:
        rest = {name: value for name, value in fields.items() if name not in known}
        return {self._provider: rest} if rest else {}


PartReader: TypeAlias = Callable[[str, Fields, str, Mapping[str, Fields]], Part]
"""Reads a content part, given its position, its fields, the provider's name and the part's provider options."""


def _text(at: str, fields: Fields, provider: str, options: Mapping[str, Fields]) -> Part:
    return Text(text=_string(at, fields, "text"), provider_options=options)


def _refusal(at: str, fields: Fields, provider: str, options: Mapping[str, Fields]) -> Part:
    return Text(text=_string(at, fields, "refusal"), refusal=True, provider_options=options)


def _thinking(at: str, fields: Fields, provider: str, options: Mapping[str, Fields]) -> Part:
    return Reasoning(
        text=thinking_text(dict(fields)),
        provider=provider,
        signature=_optional_string(at, fields, "signature"),
        provider_options=options,
    )


def _image(at: str, fields: Fields, provider: str, options: Mapping[str, Fields]) -> Part:
    image = _payload(at, fields, "image_url")
    return _placed(
        at,
        Image,
        url=_string(f"{at}.image_url", image, "url"),
        detail=_optional_string(f"{at}.image_url", image, "detail"),
        provider_options=_with_rest(options, provider, "image_url", image, {"url", "detail"}),
    )


def _input_audio(at: str, fields: Fields, provider: str, options: Mapping[str, Fields]) -> Part:
    audio = _payload(at, fields, "input_audio")
    form = _string(f"{at}.input_audio", audio, "format")
    if form not in _MEDIA_TYPES:
        raise _unexpected(f"{at}.input_audio.format", " or ".join(_MEDIA_TYPES), form)
    return Audio(
        data=b64decode(_string(f"{at}.input_audio", audio, "data"), validate=True),
        media_type=_MEDIA_TYPES[form],
        provider_options=_with_rest(options, provider, "input_audio", audio, {"data", "format"}),
    )


def _file(at: str, fields: Fields, provider: str, options: Mapping[str, Fields]) -> Part:
    file = _payload(at, fields, "file")
    options = _with_rest(options, provider, "file", file, {"file_id", "filename", "file_data"})
    name = _optional_string(f"{at}.file", file, "filename")
    file_id, data = (_optional_string(f"{at}.file", file, key) for key in ("file_id", "file_data"))
    if (file_id is None) == (data is None):
        raise InvalidRequest(f"{at}.file must have either file_id or file_data")
    if data is not None and not data.startswith("data:"):
        return Document(data=b64decode(data, validate=True), name=name, provider_options=options)
    return _placed(at, Document, url=data, file_id=file_id, name=name, provider_options=options)


_INPUT_PARTS: Mapping[str, PartReader] = {
    "text": _text,
    "image_url": _image,
    "input_audio": _input_audio,
    "file": _file,
}
_ANSWER_PARTS: Mapping[str, PartReader] = {**_INPUT_PARTS, "refusal": _refusal, "thinking": _thinking}


def _placed(at: str, part: Callable[..., Part], **fields: object) -> Part:
    """Make a part. An error of its own, as for a broken data URL, gets the position."""
    try:
        return part(**fields)
    except InvalidRequest as error:
        raise InvalidRequest(f"{at}: {error}") from None


def _with_rest(
    options: Mapping[str, Fields], provider: str, kind: str, payload: Fields, known: set[str]
) -> Mapping[str, Fields]:
    # Options replace whole fields of a part, so an unknown field within one is kept together with its neighbours.
    if payload.keys() <= known:
        return options
    return {provider: {**options.get(provider, {}), kind: dict(payload)}}


def _present(fields: Mapping[Any, Any]) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


def _object(at: str, value: object) -> Fields:
    if not isinstance(value, Mapping):
        raise _unexpected(at, "a dict", value)
    return _present(value)


def _payload(at: str, fields: Fields, kind: str) -> Fields:
    return _object(f"{at}.{kind}", fields.get(kind))


def _list(at: str, fields: Fields, key: str) -> list[tuple[str, object]]:
    """The items of a list, each with its position."""
    items = fields.get(key, ())
    if not isinstance(items, (list, tuple)):
        raise _unexpected(f"{at}.{key}", "a list", items)
    return [(f"{at}.{key}[{position}]", item) for position, item in enumerate(items)]


def _string(at: str, fields: Fields, key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise _unexpected(f"{at}.{key}", "a string", value)
    return value


def _optional_string(at: str, fields: Fields, key: str) -> str | None:
    return _string(at, fields, key) if key in fields else None


def _unexpected(at: str, accepted: str, value: object) -> InvalidRequest:
    if value is None:
        return InvalidRequest(f"{at} is missing; it must be {accepted}")
    return InvalidRequest(f"{at} must be {accepted}, not {_shown(value)}")


def _shown(value: object) -> str:
    # Long strings are the conversation's own words, which do not belong in an error.
    return repr(value) if isinstance(value, str) and len(value) <= 40 else f"a {type(value).__name__}"
