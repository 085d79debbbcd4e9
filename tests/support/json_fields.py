"""The fields of recorded JSON: where they are, and copies of a recording in which some of them have another value.

A field's *path* is its place in the JSON without the positions in lists. Where an object says what it is, in `type` or
by the one key that it has, the path says so too, because the same name may mean something else in another kind of
object: `<content_block_start>.content_block<tool_use>.name`. In a stream, the path begins with the type of the event.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias
from zlib import crc32

import attrs

Leaf: TypeAlias = str | int | float | bool | None
Change: TypeAlias = Callable[[str, Any], Any]
"""From the path and the value of a leaf to the value in the copy."""

FREE_FORM = frozenset({"input", "args", "arguments", "parameters", "properties", "schema", "json", "response_format"})
"""The fields whose objects have keys that a model or an application chose. Their leaves share one path, which ends in
`**`."""

KINDS: Mapping[str, tuple[str, ...]] = {
    "parts": ("functionCall", "inlineData", "executableCode", "codeExecutionResult", "text"),
    "content": ("toolUse", "reasoningContent", "citationsContent", "guardContent", "text"),
}
"""Keys that say what an object of a list is, for wire formats whose objects have no `type`."""

ALTERNATIVES = frozenset({"choices", "candidates"})
"""Lists of alternative answers. Those after the first have their own paths."""


def _kind(value: Mapping[str, Any], name: str) -> str:
    kind = value.get("type")
    if isinstance(kind, str):
        return f"<{kind}>"
    found = next((key for key in KINDS.get(name, ()) if key in value), None)
    return f"<{found}>" if found else ""


def _is_other(item: object, position: int) -> bool:
    index = item.get("index") if isinstance(item, dict) else None
    return bool(index if isinstance(index, int) else position)


def changed(value: Any, change: Change, path: str = "", name: str = "") -> Any:
    """Return a copy of JSON in which each leaf is what `change` says. An empty object or list is a leaf too."""
    if isinstance(value, dict) and value:
        if name in FREE_FORM:
            return {key: _free(item, change, f"{path}.**") for key, item in value.items()}
        place = path + _kind(value, name)
        return {key: changed(item, change, f"{place}.{key}" if place else key, key) for key, item in value.items()}
    if isinstance(value, list) and value:
        return [
            changed(item, change, f"{path}[{'others' if name in ALTERNATIVES and _is_other(item, at) else ''}]", name)
            for at, item in enumerate(value)
        ]
    return change(path, value)


def _free(value: Any, change: Change, path: str) -> Any:
    if isinstance(value, dict) and value:
        return {key: _free(item, change, path) for key, item in value.items()}
    if isinstance(value, list) and value:
        return [_free(item, change, path) for item in value]
    return change(path, value)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each leaf of JSON with its path."""
    found: list[tuple[str, Any]] = []

    def note(place: str, leaf: Any) -> Any:
        found.append((place, leaf))
        return leaf

    changed(value, note, path)
    return iter(found)


@attrs.frozen
class Document:
    """One JSON value of a recording: a whole body, or the payload of one frame."""

    value: Any
    event: str
    """The type of the frame, where the framing has one."""
    encode: Callable[[bytes], bytes]
    """Put a payload back into the frame."""


Piece: TypeAlias = bytes | Document


def body_pieces(body: bytes) -> list[Piece]:
    """The one document of a body."""
    return [Document(json.loads(body), "", bytes)]


def array_pieces(body: bytes) -> list[Piece]:
    """The documents of a stream that is one JSON array, one element on each line."""
    pieces: list[Piece] = [b"["]
    for at, value in enumerate(json.loads(body)):
        pieces += [b",\n"] if at else []
        pieces.append(Document(value, "", bytes))
    return [*pieces, b"]"]


def line_pieces(body: bytes) -> list[Piece]:
    """The documents of server-sent events or of JSON lines, and the bytes between them."""
    pieces: list[Piece] = []
    for line in body.splitlines(keepends=True):
        content = line.rstrip(b"\r\n")
        ending = line[len(content) :]
        prefix = b"data:" if content.startswith(b"data:") else b""
        try:
            value = json.loads(content[len(prefix) :])
        except ValueError:
            pieces.append(line)
            continue

        def encode(payload: bytes, prefix: bytes = prefix, ending: bytes = ending) -> bytes:
            return prefix + payload + ending

        pieces.append(Document(value, "", encode) if isinstance(value, (dict, list)) else line)
    return pieces


def event_stream_pieces(body: bytes) -> list[Piece]:
    """The documents of an AWS event stream."""
    pieces: list[Piece] = []
    at = 0
    while at < len(body):
        total, length = struct.unpack_from("!II", body, at)
        head = body[at + 12 : at + 12 + length]
        payload = body[at + 12 + length : at + total - 4]
        at += total

        def encode(new: bytes, head: bytes = head) -> bytes:
            prelude = struct.pack("!II", len(head) + len(new) + 16, len(head))
            message = prelude + struct.pack("!I", crc32(prelude)) + head + new
            return message + struct.pack("!I", crc32(message))

        pieces.append(Document(json.loads(payload), f"<{_event_type(head)}>", encode))
    return pieces


def _event_type(head: bytes) -> str:
    marker = b"\x0b:event-type\x07"
    start = head.index(marker) + len(marker)
    (size,) = struct.unpack_from("!H", head, start)
    return head[start + 2 : start + 2 + size].decode()


def fields(pieces: list[Piece]) -> list[tuple[str, Any]]:
    """All leaves of the documents, in order, with their paths."""
    return [leaf for piece in pieces if isinstance(piece, Document) for leaf in leaves(piece.value, piece.event)]


def rewritten(pieces: list[Piece], change: Change) -> bytes:
    """The bytes of the recording with changed leaves. A document without a change is encoded anew as well."""
    return b"".join(
        piece if isinstance(piece, bytes) else piece.encode(_dumps(changed(piece.value, change, piece.event)))
        for piece in pieces
    )


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
