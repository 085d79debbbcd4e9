"""The turns of a conversation and the parts of their content."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, Union, cast, get_args
from urllib.parse import unquote_to_bytes

import attrs

from trunkline._base_errors import InvalidRequest, refuse_dict
from trunkline._json import JSONObject, JSONValue, ProviderOptions, dumps

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@attrs.frozen(kw_only=True)
class Text:
    """Plain text. `refusal` marks the words in which a model declined to answer."""

    text: str
    refusal: bool = False
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)


def _media_source(data: bytes | None, url: str | None, file_id: str | None, kind: str) -> None:
    if sum(source is not None for source in (data, url, file_id)) != 1:
        raise InvalidRequest(f"{kind} takes exactly one of data (bytes), url or file_id")


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
        raise InvalidRequest(f"a data: URL holds broken base64: {error}") from None


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
    """What image, document and audio share: one source, and a media type that is found out where it can be."""

    __slots__ = ()
    data: bytes | None
    url: str | None
    file_id: str | None
    media_type: str | None

    def __attrs_post_init__(self) -> None:
        _media_source(self.data, self.url, self.file_id, type(self).__name__)
        if self.url is not None and self.url[:5].lower() == "data:":
            data, media_type = _split_data_url(self.url)
            object.__setattr__(self, "data", data)
            object.__setattr__(self, "url", None)
            object.__setattr__(self, "media_type", self.media_type or media_type)
        if self.media_type is None and self.data is not None:
            object.__setattr__(self, "media_type", _sniff(self.data))

    @property
    def base64(self) -> str:
        """`data` in base64. Raises `InvalidRequest` where the part has a URL or a file id in its place."""
        if self.data is None:
            raise InvalidRequest(f"{type(self).__name__} has no data of its own, only a URL or a file id")
        return base64.b64encode(self.data).decode()


@attrs.frozen(kw_only=True)
class Image(_Media):
    """A picture: its bytes, a URL (an `https:` URL is passed on, a `data:` URL taken apart), or a provider's file id.

    `media_type` is found out from the first bytes where it is not given. `detail` is how closely a model should look
    (`low`, `high`, `auto`, where the provider has it).
    """

    data: bytes | None = attrs.field(default=None, repr=False)
    url: str | None = attrs.field(default=None, repr=False)
    file_id: str | None = None
    media_type: str | None = None
    detail: str | None = None
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Document(_Media):
    """A document (PDF, plain text …): its bytes, a URL, or a provider's file id. `name` is its file name or title."""

    data: bytes | None = attrs.field(default=None, repr=False)
    url: str | None = attrs.field(default=None, repr=False)
    file_id: str | None = None
    media_type: str | None = None
    name: str | None = None
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Audio(_Media):
    """Sound: its bytes, a URL, or a provider's file id. `transcript` holds the spoken words of a model's answer."""

    data: bytes | None = attrs.field(default=None, repr=False)
    url: str | None = attrs.field(default=None, repr=False)
    file_id: str | None = None
    media_type: str | None = None
    transcript: str | None = None
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Reasoning:
    """What a model thought before it answered.

    `text` may be a summary, or empty. `provider` is the name of the provider that made it; `signature`, `encrypted`
    and `redacted` are what that provider needs to accept it back, opaque to everyone else: it is replayed to no other.
    `encrypted` is the encrypted reasoning, `redacted` says that a safety system hid the text.
    """

    text: str = ""
    provider: str | None = None
    signature: str | None = attrs.field(default=None, repr=False)
    encrypted: str | None = attrs.field(default=None, repr=False)
    redacted: bool = False
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class ToolCall:
    """A model's call of a tool.

    `arguments` is the decoded JSON object. Where the model wrote something else, `arguments` is empty and
    `invalid_arguments` holds the text as it came; the response then carries a `CallWarning`.
    """

    id: str
    name: str
    arguments: JSONObject = attrs.field(factory=dict)
    invalid_arguments: str | None = None
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)

    @property
    def arguments_json(self) -> str:
        """The arguments as the JSON text that a wire format takes."""
        return self.invalid_arguments if self.invalid_arguments is not None else dumps(self.arguments).decode()


@attrs.frozen(kw_only=True)
class Citation:
    """A source that the answer rests on.

    `start` and `end` are offsets in characters into the answer's text, where the provider tells them; `cited_text` is
    the passage of the source. What has no normalised place is in `provider_metadata`.
    """

    url: str | None = None
    title: str | None = None
    cited_text: str | None = None
    start: int | None = None
    end: int | None = None
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Opaque:
    """A block that only its provider understands (a hosted tool's call, a compaction item), kept in its place.

    It is replayed unmodified to `provider` and left out, with a warning, for any other.
    """

    provider: str
    kind: str
    data: JSONObject = attrs.field(repr=False)


ToolResultPart: TypeAlias = Union[Text, Image, Document, Audio, Opaque]


def _result_parts(content: str | Iterable[ToolResultPart]) -> tuple[ToolResultPart, ...]:
    return (Text(text=content),) if isinstance(content, str) else tuple(content)


@attrs.frozen(kw_only=True)
class ToolResult:
    """What a tool answered to the call with the id `tool_call_id`. `is_error` says that the tool failed."""

    tool_call_id: str
    name: str | None = None
    parts: tuple[ToolResultPart, ...] = attrs.field(converter=_result_parts, default=())
    is_error: bool = False
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


Part: TypeAlias = Union[Text, Image, Document, Audio, Reasoning, ToolCall, ToolResult, Citation, Opaque]


def _parts(content: str | Part | Iterable[str | Part]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(text=content),)
    refuse_dict(content, "the content of a message", _PARTS)
    if not isinstance(content, Iterable):
        return (content,)
    return tuple(map(_part, content))


def _part(part: str | Part) -> Part:
    if isinstance(part, str):
        return Text(text=part)
    refuse_dict(part, "a part of a message", _PARTS)
    return part


_PARTS = "a string or a part such as trunkline.Image"


def _check_role(instance: object, attribute: attrs.Attribute[Role], value: Role) -> None:
    if value not in get_args(Role):
        raise InvalidRequest(f"a message's role is one of {', '.join(get_args(Role))}, not {value!r}")


@attrs.frozen(kw_only=True)
class Message:
    """One turn of a conversation. `parts` takes a string, a part, or any number of either."""

    role: Role = attrs.field(validator=_check_role)
    parts: tuple[Part, ...] = attrs.field(converter=_parts)
    name: str | None = None
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    @property
    def text(self) -> str:
        """The text parts, joined; refusals are left out."""
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
    """A system message: instructions that stand above the conversation."""
    return Message(role="system", parts=parts)


def user(*parts: str | Part) -> Message:
    """A user's turn: strings and parts."""
    return Message(role="user", parts=parts)


def assistant(*parts: str | Part) -> Message:
    """A model's turn. For one that came from a call take `ChatResponse.message`, which loses nothing."""
    return Message(role="assistant", parts=parts)


def tool_result(
    call: ToolCall | str,
    result: JSONValue | ToolResultPart | Sequence[ToolResultPart] = "",
    *,
    is_error: bool = False,
) -> Message:
    """The turn that answers a tool call (or the id of one).

    `result` is a string, one or more parts, or any other JSON value, which is sent as JSON text. `is_error` tells the
    model that the tool failed.
    """
    call_id, name = (call, None) if isinstance(call, str) else (call.id, call.name)
    parts: str | tuple[ToolResultPart, ...]
    if isinstance(result, str):
        parts = result
    elif isinstance(result, (Text, Image, Document, Audio, Opaque)):
        parts = (result,)
    elif isinstance(result, Sequence) and result and isinstance(result[0], (Text, Image, Document, Audio, Opaque)):
        parts = tuple(cast("Sequence[ToolResultPart]", result))
    elif isinstance(result, (Mapping, Sequence, int, float)) or result is None:
        parts = dumps(result).decode()
    else:
        raise InvalidRequest(f"a tool result is a string, parts or a JSON value, not {type(result).__name__}")
    return Message(role="tool", parts=ToolResult(tool_call_id=call_id, name=name, parts=parts, is_error=is_error))
