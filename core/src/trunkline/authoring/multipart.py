"""Build the body of a `multipart/form-data` request (RFC 7578), for APIs that files are uploaded to. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TypeAlias, Union

import attrs

from trunkline.errors import InvalidRequest
from trunkline.messages import Audio, Document, Image

_ESCAPED = {ord('"'): "%22", ord("\r"): "%0D", ord("\n"): "%0A"}
"""How browsers write these characters in names: https://html.spec.whatwg.org/#multipart-form-data."""

_EXTENSIONS: Mapping[str, str] = {
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/m4a": "m4a",
    "audio/mp3": "mp3",
    "audio/mp4": "mp4",
    "audio/mpeg": "mp3",
    "audio/mpga": "mp3",
    "audio/ogg": "ogg",
    "audio/opus": "opus",
    "audio/wav": "wav",
    "audio/webm": "webm",
    "audio/x-m4a": "m4a",
    "audio/x-wav": "wav",
    "image/gif": "gif",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "video/webm": "webm",
}


@attrs.frozen
class UploadedFile:
    """A file in a form: its name, its content and its media type."""

    name: str
    data: bytes = attrs.field(repr=False)
    media_type: str = "application/octet-stream"


FormValue: TypeAlias = Union[str, UploadedFile]
"""A field's value in a form."""


def encode_form(fields: Iterable[tuple[str, FormValue]]) -> tuple[str, bytes]:
    """Return the content type and the body of a form with these fields, in this order. A name may occur repeatedly.

    The same fields always give the same body. The boundary between the fields is a hash of them, and does not occur in
    them.
    """
    sections = [(_head(name, value), _content(value)) for name, value in fields]
    boundary = _digest(b"\0".join(part for section in sections for part in section))
    while any(boundary.encode() in content for _, content in sections):
        boundary = _digest(boundary.encode())
    mark = boundary.encode()
    pieces: list[bytes] = []
    for head, content in sections:
        pieces += (b"--", mark, b"\r\n", head, b"\r\n\r\n", content, b"\r\n")
    return f"multipart/form-data; boundary={boundary}", b"".join((*pieces, b"--", mark, b"--\r\n"))


def media_file(media: Image | Document | Audio, name: str = "file") -> UploadedFile:
    """Return the file of a part. Its name gets the extension of its media type, by which some servers recognise it.

    Raises `InvalidRequest` if the part has a URL or a file id instead of data.
    """
    if media.data is None:
        raise InvalidRequest(
            f"this provider takes the data of an {type(media).__name__} and neither a URL nor a file id here: "
            f"read the file, and pass {type(media).__name__}(data=...)"
        )
    kind = media.media_type or "application/octet-stream"
    extension = _EXTENSIONS.get(kind.partition(";")[0].strip().lower())
    return UploadedFile(f"{name}.{extension}" if extension else name, media.data, kind)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _head(name: str, value: FormValue) -> bytes:
    head = f'Content-Disposition: form-data; name="{name.translate(_ESCAPED)}"'
    if isinstance(value, UploadedFile):
        media_type = value.media_type.translate({ord("\r"): None, ord("\n"): None})
        head += f'; filename="{value.name.translate(_ESCAPED)}"\r\nContent-Type: {media_type}'
    return _encoded(head)


def _content(value: FormValue) -> bytes:
    return value.data if isinstance(value, UploadedFile) else _encoded(value)


def _encoded(text: str) -> bytes:
    # A form has no form for a lone surrogate, such as half an emoji, which JSON escapes.
    return text.encode("utf-8", "replace")


def form_fields(fields: Mapping[str, object]) -> list[tuple[str, FormValue]]:
    """Return the fields of a form for JSON values: lists as `name[]`, objects as `name[key]`, and `None` left out.

    It is how the clients of OpenAI and others write them.
    """
    found: list[tuple[str, FormValue]] = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found += form_fields({f"{name}[{key}]": item for key, item in value.items()})
        elif isinstance(value, (list, tuple)):
            for item in value:
                found += form_fields({f"{name}[]": item})
        elif value is not None:
            found.append((name, form_text(value)))
    return found


def form_text(value: object) -> str:
    """Return a JSON value other than a list or an object as the text of a field: `true` and not `True`."""
    return str(value).lower() if isinstance(value, bool) else str(value)
