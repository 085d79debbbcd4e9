"""Messages and the parts that they are made of: text, media, reasoning, tool calls and tool results.

`provider_metadata` of a part holds the provider's data for which the part has no field, under the provider's name.
`family` is the family of the model that made the part, as the provider's plugin names it (`claude`, `gemini-3`), or
`None` if your code made it. Metadata such as a signature is sent back only to the provider and family that made it.

`cache` of a part (and of a `Tool`) asks the provider to cache the prompt up to and including this part, for later
requests that begin in the same way: for 5 minutes (`5m`), for an hour (`1h`), or for the provider's usual time
(`auto`). It changes the price and the time of a call, never its answer. Providers that cache every prompt anyway ignore
it, without a warning. See the guide to prompt caching.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, TypeAlias, Union, cast, get_args
from urllib.parse import unquote_to_bytes

import attrs

from trunkline._base_errors import InvalidRequest, refuse_dict
from trunkline._field_types import (
    DATA,
    FLAG,
    JSON_OBJECT,
    METADATA,
    OFFSET_OR_NONE,
    OPTIONS,
    PROVIDER_OBJECT,
    TEXT,
    TEXT_OR_NONE,
    FieldTypes,
    json_problem,
    shown,
)
from trunkline._json import JSONObject, JSONValue, ProviderOptions, dumps

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
_ROLES = get_args(Role)

CacheLifetime: TypeAlias = Literal["auto", "5m", "1h"]
"""How long a provider is asked to cache the beginning of a prompt: `auto` is the provider's usual time."""

_LIFETIMES = (None, *get_args(CacheLifetime))


def check_cache(value: object, owner: str) -> None:
    """Raise `InvalidRequest` if a value of the field `cache` is neither `None` nor a lifetime."""
    if value not in _LIFETIMES:
        raise InvalidRequest(f"{owner}.cache must be auto, 5m, 1h or None, not {shown(value)}")


_BOTH = {"family": TEXT_OR_NONE, "provider_options": OPTIONS, "provider_metadata": METADATA}
_TEXT_TYPES = FieldTypes({"text": TEXT, "refusal": FLAG, **_BOTH})
_MEDIA = {
    "data": DATA.optional(),
    "url": TEXT_OR_NONE,
    "file_id": TEXT_OR_NONE,
    "media_type": TEXT_OR_NONE,
    **_BOTH,
}
_REASONING_TYPES = FieldTypes(
    {
        "text": TEXT,
        "provider": TEXT_OR_NONE,
        "signature": TEXT_OR_NONE,
        "encrypted": TEXT_OR_NONE,
        "redacted": FLAG,
        **_BOTH,
    }
)
_CALL_TYPES = FieldTypes(
    {"id": TEXT, "name": TEXT, "arguments": JSON_OBJECT, "invalid_arguments": TEXT_OR_NONE, **_BOTH}
)
_CITATION_TYPES = FieldTypes(
    {
        "url": TEXT_OR_NONE,
        "title": TEXT_OR_NONE,
        "cited_text": TEXT_OR_NONE,
        "start": OFFSET_OR_NONE,
        "end": OFFSET_OR_NONE,
        "provider_metadata": METADATA,
    }
)
_OPAQUE_TYPES = FieldTypes(
    {"provider": TEXT, "kind": TEXT, "data": PROVIDER_OBJECT, "family": TEXT_OR_NONE, "awaits_answer": FLAG}
)
_RESULT_TYPES = FieldTypes({"tool_call_id": TEXT, "name": TEXT_OR_NONE, "is_error": FLAG, "provider_options": OPTIONS})
_MESSAGE_TYPES = FieldTypes({"name": TEXT_OR_NONE, "provider_options": OPTIONS})


@attrs.frozen(kw_only=True)
class Text:
    """Plain text. `refusal` is true for text in which the model declines to answer."""

    text: str
    refusal: bool = False
    cache: CacheLifetime | None = attrs.field(default=None, repr=False)
    family: str | None = attrs.field(default=None, repr=False, eq=False)
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if (
            type(self.text) is not str
            or type(self.refusal) is not bool
            or self.family is not None
            or type(self.provider_options) is not dict
            or type(self.provider_metadata) is not dict
            or self.provider_options
            or self.provider_metadata
        ):
            _TEXT_TYPES.check(self)
        if self.cache is not None:
            check_cache(self.cache, "Text")


def _media_source(data: bytes | None, url: str | None, file_id: str | None, kind: str) -> None:
    if sum(source is not None for source in (data, url, file_id)) != 1:
        raise InvalidRequest(f"{kind} needs exactly one of data (bytes), url or file_id")


def _split_data_url(url: str) -> tuple[bytes, str | None]:
    # RFC 2397: data:[<mediatype>][;base64],<data>
    head, comma, payload = url[5:].partition(",")
    if not comma:
        raise InvalidRequest("a data: URL needs a comma before its data (RFC 2397)")
    media_type, *parameters = head.split(";")
    if "base64" not in parameters:
        return unquote_to_bytes(payload), media_type or None
    try:
        return base64.b64decode(unquote_to_bytes(payload), validate=True), media_type or None
    except binascii.Error as error:
        raise InvalidRequest(f"a data: URL contains invalid base64: {error}") from None


def _sniff(data: bytes) -> str | None:
    for magic, media_type in (
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
        (b"%PDF-", "application/pdf"),
        (b"ID3", "audio/mpeg"),
        (b"\xff\xfb", "audio/mpeg"),
        (b"OggS", "audio/ogg"),
        (b"fLaC", "audio/flac"),
    ):
        if data.startswith(magic):
            return media_type
    if data[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(data[8:12])
    return None


class _Media:
    """The base of `Image`, `Document` and `Audio`.

    Checks that the part has exactly one source, decodes a `data:` URL into `data`, and detects a missing media type
    from the first bytes.
    """

    __slots__ = ()
    _types: ClassVar[FieldTypes]
    data: bytes | None
    url: str | None
    file_id: str | None
    media_type: str | None

    def __attrs_post_init__(self) -> None:
        self._types.check(self)
        if isinstance(self, (Image, Document)) and self.cache is not None:
            check_cache(self.cache, type(self).__name__)
        _media_source(self.data, self.url, self.file_id, type(self).__name__)
        if self.url is not None and self.url[:5].lower() == "data:":
            data, media_type = _split_data_url(self.url)
            object.__setattr__(self, "data", data)
            object.__setattr__(self, "url", None)
            object.__setattr__(self, "media_type", self.media_type or media_type)
        if self.data is not None and type(self.data) is not bytes:
            object.__setattr__(self, "data", bytes(self.data))  # a memoryview can be neither stored nor compared
        if self.media_type is None and self.data is not None:
            object.__setattr__(self, "media_type", _sniff(self.data))

    @property
    def base64(self) -> str:
        """`data`, encoded in base64. Raises `InvalidRequest` if the part has a URL or a file id instead."""
        if self.data is None:
            raise InvalidRequest(f"this {type(self).__name__} has no data, only a URL or a file id")
        return base64.b64encode(self.data).decode()


@attrs.frozen(kw_only=True)
class Image(_Media):
    """An image, given as bytes, as a URL, or as the id of a file at the provider.

    An `https:` URL is sent to the provider as it is; a `data:` URL is decoded into `data`. A missing `media_type` is
    detected from the first bytes of `data`. `detail` is the resolution at which the model reads the image (`low`,
    `high` or `auto`), for providers that support it.
    """

    _types: ClassVar[FieldTypes] = FieldTypes({**_MEDIA, "detail": TEXT_OR_NONE})
    data: bytes | None = attrs.field(default=None, repr=False)
    url: str | None = attrs.field(default=None, repr=False)
    file_id: str | None = None
    media_type: str | None = None
    detail: str | None = None
    cache: CacheLifetime | None = attrs.field(default=None, repr=False)
    family: str | None = attrs.field(default=None, repr=False, eq=False)
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Document(_Media):
    """A document (PDF, plain text …), given as bytes, as a URL, or as the id of a file at the provider.

    `name` is the document's file name or title.
    """

    _types: ClassVar[FieldTypes] = FieldTypes({**_MEDIA, "name": TEXT_OR_NONE})
    data: bytes | None = attrs.field(default=None, repr=False)
    url: str | None = attrs.field(default=None, repr=False)
    file_id: str | None = None
    media_type: str | None = None
    name: str | None = None
    cache: CacheLifetime | None = attrs.field(default=None, repr=False)
    family: str | None = attrs.field(default=None, repr=False, eq=False)
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Audio(_Media):
    """Audio, given as bytes, as a URL, or as the id of a file at the provider.

    `transcript` is the text of audio that a model generated.
    """

    _types: ClassVar[FieldTypes] = FieldTypes({**_MEDIA, "transcript": TEXT_OR_NONE})
    data: bytes | None = attrs.field(default=None, repr=False)
    url: str | None = attrs.field(default=None, repr=False)
    file_id: str | None = None
    media_type: str | None = None
    transcript: str | None = None
    family: str | None = attrs.field(default=None, repr=False, eq=False)
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Reasoning:
    """The model's reasoning before its answer.

    `text` is the reasoning or a summary of it; it may be empty. `provider` and `family` name the provider and the
    family of models that sent the part. Only they can verify `signature` and read `encrypted` (the encrypted
    reasoning), so the part is sent back only to them. `redacted` is true if a safety system removed the text.
    """

    text: str = ""
    provider: str | None = None
    signature: str | None = attrs.field(default=None, repr=False)
    encrypted: str | None = attrs.field(default=None, repr=False)
    redacted: bool = False
    family: str | None = attrs.field(default=None, repr=False, eq=False)
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        _REASONING_TYPES.check(self)


def _json_text(value: object, what: str) -> str:
    try:
        return dumps(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what} cannot be encoded as JSON: {error}") from None


@attrs.frozen(kw_only=True)
class ToolCall:
    """A tool call that the model asks for.

    `arguments` is the decoded JSON object. If the model's text is not a JSON object, `arguments` is empty,
    `invalid_arguments` holds the text, and the response carries a `CallWarning`.
    """

    id: str
    name: str
    arguments: JSONObject = attrs.field(factory=dict)
    invalid_arguments: str | None = None
    family: str | None = attrs.field(default=None, repr=False, eq=False)
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if (
            type(self.id) is not str
            or type(self.name) is not str
            or type(self.arguments) is not dict
            or self.invalid_arguments is not None
            or self.family is not None
            or type(self.provider_options) is not dict
            or type(self.provider_metadata) is not dict
            or self.provider_options
            or self.provider_metadata
        ):
            _CALL_TYPES.check(self)
        elif self.arguments and (problem := json_problem(self.arguments)) is not None:
            raise InvalidRequest(f"ToolCall.arguments{problem}")

    @property
    def arguments_json(self) -> str:
        """The arguments as JSON text: `arguments` encoded, or `invalid_arguments` unchanged.

        Raises `InvalidRequest` if your code added a value to `arguments` that JSON does not have.
        """
        return self.invalid_arguments if self.invalid_arguments is not None else _json_text(self.arguments, "arguments")


@attrs.frozen(kw_only=True)
class Citation:
    """A source that the response cites.

    `start` and `end` are character offsets into the text of the response, or `None` if the provider sends none.
    `cited_text` is the quoted passage of the source. `provider_metadata` holds the provider's other fields.
    """

    url: str | None = None
    title: str | None = None
    cited_text: str | None = None
    start: int | None = None
    end: int | None = None
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        _CITATION_TYPES.check(self)


@attrs.frozen(kw_only=True)
class Opaque:
    """A block that only its provider understands, such as the call of a hosted tool or a compaction item.

    The block keeps its place among the parts. It is sent back unchanged to `provider`; if `family` is set, only to
    models of this family. For any other model it is left out, with a warning. `awaits_answer` is true for a call of the
    provider's own that your program has to answer, such as a shell command.
    """

    provider: str
    kind: str
    data: JSONObject = attrs.field(repr=False)
    family: str | None = attrs.field(default=None, repr=False, eq=False)
    awaits_answer: bool = attrs.field(default=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        _OPAQUE_TYPES.check(self)


ToolResultPart: TypeAlias = Union[Text, Image, Document, Audio, Opaque]


_RESULT_PARTS = get_args(ToolResultPart)


def _result_parts(content: str | Iterable[ToolResultPart]) -> tuple[ToolResultPart, ...]:
    if isinstance(content, str):
        return (Text(text=content),)
    try:
        return tuple(content)
    except TypeError:
        message = f"the parts of a tool result must be a string or several parts, not {type(content).__name__}"
        raise InvalidRequest(message) from None


@attrs.frozen(kw_only=True)
class ToolResult:
    """The result of the tool call with the id `tool_call_id`. `is_error` is true if the tool failed."""

    tool_call_id: str
    name: str | None = None
    parts: tuple[ToolResultPart, ...] = attrs.field(converter=_result_parts, default=())
    is_error: bool = False
    cache: CacheLifetime | None = attrs.field(default=None, repr=False)
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.cache is not None:
            check_cache(self.cache, "ToolResult")
        if (
            type(self.tool_call_id) is not str
            or (self.name is not None and type(self.name) is not str)
            or type(self.is_error) is not bool
            or type(self.provider_options) is not dict
            or self.provider_options
        ):
            _RESULT_TYPES.check(self)
        for part in self.parts:
            if type(part) not in _RESULT_PARTS and not isinstance(part, _RESULT_PARTS):
                raise InvalidRequest(f"a tool result contains text, media or Opaque, not {type(part).__name__}")

    @property
    def text(self) -> str:
        """The text parts, joined with line breaks. Many tools return one part for each thing that they find."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text) and part.text)


Part: TypeAlias = Union[Text, Image, Document, Audio, Reasoning, ToolCall, ToolResult, Citation, Opaque]

_PART_TYPES = get_args(Part)


def _parts(content: str | Part | Iterable[str | Part]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(text=content),)
    if not isinstance(content, (tuple, list)):
        refuse_dict(content, "the content of a message", _PARTS)
        if not isinstance(content, Iterable):
            return (_part(content),)
    return tuple(map(_part, content))


def _part(part: str | Part) -> Part:
    if isinstance(part, str):
        return Text(text=part)
    if type(part) not in _PART_TYPES and not isinstance(part, _PART_TYPES):
        refuse_dict(part, "a part of a message", _PARTS)
        raise InvalidRequest(f"a part of a message must be {_PARTS}, not {type(part).__name__}")
    return part


_PARTS = "a string or a part such as trunkline.Image"


@attrs.frozen(kw_only=True)
class Message:
    """One message of a conversation. `parts` accepts a string, a part, or an iterable of strings and parts."""

    role: Role
    parts: tuple[Part, ...] = attrs.field(converter=_parts)
    name: str | None = None
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.role not in _ROLES:
            raise InvalidRequest(f"a message's role must be one of {', '.join(_ROLES)}, not {shown(self.role)}")
        if self.name is not None or type(self.provider_options) is not dict or self.provider_options:
            _MESSAGE_TYPES.check(self)

    @property
    def text(self) -> str:
        """The text parts, joined, without refusals."""
        return "".join(part.text for part in self.parts if isinstance(part, Text) and not part.refusal)

    @property
    def reasoning(self) -> str:
        """The reasoning parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Reasoning))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))


def system(*parts: str | Part) -> Message:
    """Create a system message: instructions for the whole conversation."""
    return Message(role="system", parts=parts)


def user(*parts: str | Part) -> Message:
    """Create a user message from strings and parts."""
    return Message(role="user", parts=parts)


def assistant(*parts: str | Part) -> Message:
    """Create an assistant message from strings and parts.

    To append a model's response to a conversation, use `ChatResponse.message`, which keeps every part.
    """
    return Message(role="assistant", parts=parts)


def tool_result(
    call: ToolCall | str,
    result: JSONValue | ToolResultPart | Sequence[ToolResultPart] = "",
    *,
    is_error: bool = False,
    cache: CacheLifetime | None = None,
) -> Message:
    """Create the message that answers a tool call, given as a `ToolCall` or by its id.

    `result` is a string, one or more parts, or any other JSON value, which is sent as JSON text. `is_error=True` tells
    the model that the tool failed. `cache` is the field of `ToolResult`. Raises `InvalidRequest` for another call, or a
    result that contains anything else.
    """
    if not isinstance(call, (str, ToolCall)):
        raise InvalidRequest(f"call must be a trunkline.ToolCall or the id of one, not {type(call).__name__}")
    call_id, name = (call, None) if isinstance(call, str) else (call.id, call.name)
    parts: str | tuple[ToolResultPart, ...]
    if isinstance(result, str):
        parts = result
    elif isinstance(result, (Text, Image, Document, Audio, Opaque)):
        parts = (result,)
    elif isinstance(result, Sequence) and result and isinstance(result[0], (Text, Image, Document, Audio, Opaque)):
        parts = tuple(cast("Sequence[ToolResultPart]", result))
    elif isinstance(result, (Mapping, Sequence, int, float)) or result is None:
        parts = _json_text(result, "a tool result")
    else:
        raise InvalidRequest(f"a tool result must be a string, parts or a JSON value, not {type(result).__name__}")
    answer = ToolResult(tool_call_id=call_id, name=name, parts=parts, is_error=is_error, cache=cache)
    return Message(role="tool", parts=answer)
