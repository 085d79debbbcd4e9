"""Recorded exchanges: the values, their file, what is taken out of them, and how a request is matched. No network.

The file is JSON, made to be read and to be compared in a review: bodies that are JSON stand as JSON, text as text, and
each chunk of an answer as it arrived, decompressed. Only what cannot be text is base64.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import attrs

from trunkline._json import loads
from trunkline.authoring.wire import WireRequest
from trunkline.errors import CallError
from trunkline.secrets import scrub

FORMAT = "trunkline-recording/1"
REDACTED = "REDACTED"

COMPLETE = "complete"
"""The answer was read to its end."""
LEFT = "left"
"""The reader left before the end; after the terminator of a stream that is the rule."""

_SECRET_NAME = re.compile(r"auth|cookie|secret|signature|credential|password|organization|key|token\b", re.IGNORECASE)
_TRANSFER = frozenset({"content-encoding", "content-length", "transfer-encoding", "connection", "date", "keep-alive"})
"""Headers of the connection, not of the answer: the chunks are recorded as they are after decoding."""
_COMPARED = ("method", "url", "body")

Object: TypeAlias = dict[str, Any]


class RecordingMismatch(CallError):
    """A request that is not in the recording, or a recording that was not used up. The message shows the difference."""


@attrs.define(kw_only=True)
class RecordedExchange:
    """One request and what came of it, in the form in which the file has it.

    `request` has `method`, `url`, `headers` and `body`; `response` has `status` and `headers`, or is `None` where
    none came; `ended` is `complete`, `left`, or `{"error": class, "message": text}` of the error that ended it.
    """

    service: str
    request: Object
    response: Object | None = None
    chunks: list[bytes] = attrs.field(factory=list)
    ended: str | Object = LEFT
    used: bool = False

    def dump(self, secrets: tuple[str, ...]) -> Object:
        """The exchange for the file, without `secrets`."""
        table: Object = {"service": self.service, "request": self.request, "response": self.response}
        if self.response is not None:
            table["chunks"] = [_dump_bytes(chunk) for chunk in _scrubbed_chunks(self.chunks, secrets)]
        table["ended"] = self.ended
        scrubbed: Object = _scrubbed(table, secrets)
        return scrubbed

    @classmethod
    def load(cls, table: Object) -> RecordedExchange:
        """The exchange that `dump` made `table` of."""
        return cls(
            service=table["service"],
            request=table["request"],
            response=table["response"],
            chunks=[_load_bytes(chunk) for chunk in table.get("chunks", ())],
            ended=table["ended"],
        )


def describe(wire_request: WireRequest, secrets: tuple[str, ...]) -> Object:
    """A request as it is recorded and compared: credentials redacted, a body of JSON as JSON."""
    description: Object = _scrubbed(
        {
            "method": wire_request.method,
            "url": _redacted_url(wire_request.url),
            "headers": _redacted(wire_request.headers),
            "body": _dump_body(wire_request.body),
        },
        secrets,
    )
    return description


def describe_response(status: int, headers: Mapping[str, str]) -> Object:
    """The head of an answer as it is recorded."""
    kept = {name.lower(): value for name, value in headers.items() if name.lower() not in _TRANSFER}
    return {"status": status, "headers": _redacted(kept)}


def match(request: Object, exchanges: Sequence[RecordedExchange], path: Path) -> RecordedExchange:
    """The first unused exchange whose method, URL and body are those of `request`; it is marked as used.

    Raises `RecordingMismatch`, which shows what differs from the closest one.
    """
    wanted = _compared(request)
    unused = [exchange for exchange in exchanges if not exchange.used]
    for exchange in unused:
        if _compared(exchange.request) == wanted:
            exchange.used = True
            return exchange
    if not unused:
        told = "every exchange of it has been used" if exchanges else "it is empty"
        raise RecordingMismatch(f"{path.name} has no answer to this request: {told}\n{_pretty(wanted)}")
    text = _pretty(wanted)

    def likeness(exchange: RecordedExchange) -> float:
        return difflib.SequenceMatcher(None, _pretty(_compared(exchange.request)), text).quick_ratio()

    closest = max(unused, key=likeness)
    difference = "\n".join(
        difflib.unified_diff(
            _pretty(_compared(closest.request)).splitlines(), text.splitlines(), "recorded", "sent", lineterm=""
        )
    )
    raise RecordingMismatch(
        f"{path.name} has no answer to this request, which differs from the closest that is left:\n{difference}\n"
        f"If the change is meant, record anew."
    )


def read(path: Path) -> list[RecordedExchange]:
    """The exchanges of a file. Raises `RecordingMismatch` where it is missing or not a recording."""
    try:
        table = loads(path.read_bytes())
    except FileNotFoundError:
        raise RecordingMismatch(f"there is no recording {path}; make it once with trunkline.testing.record") from None
    except ValueError as error:
        raise RecordingMismatch(f"{path} is no recording: {error}") from None
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise RecordingMismatch(f"{path} is no recording of the format {FORMAT!r}")
    try:
        return [RecordedExchange.load(exchange) for exchange in table["exchanges"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordingMismatch(f"{path} is damaged: {type(error).__name__}: {error}") from None


def write(path: Path, exchanges: Sequence[RecordedExchange], secrets: tuple[str, ...]) -> None:
    """Write a file, and the folders above it. It appears whole or not at all."""
    table = {"format": FORMAT, "exchanges": [exchange.dump(secrets) for exchange in exchanges]}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(
        json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="backslashreplace"
    )
    temporary.replace(path)


def _compared(request: Object) -> Object:
    return {name: request.get(name) for name in _COMPARED}


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def _redacted(headers: Mapping[str, str]) -> Object:
    return {name: REDACTED if _SECRET_NAME.search(name) else headers[name] for name in sorted(headers)}


def _redacted_url(url: str) -> str:
    parts = urlsplit(url)
    query = urlencode(
        [
            (name, REDACTED if _SECRET_NAME.search(name) else value)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
        ]
    )
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def _scrubbed(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, dict):
        return {scrub(name, secrets): _scrubbed(item, secrets) for name, item in value.items()}
    return [_scrubbed(item, secrets) for item in value] if isinstance(value, list) else value


def _scrubbed_chunks(chunks: list[bytes], secrets: tuple[str, ...]) -> list[bytes]:
    scrubbed = [_scrubbed_bytes(chunk, secrets) for chunk in chunks]
    whole = b"".join(scrubbed)
    # A secret may lie across two chunks; where the answer is cut then no longer matters.
    return scrubbed if _scrubbed_bytes(whole, secrets) == whole else [_scrubbed_bytes(whole, secrets)]


def _scrubbed_bytes(data: bytes, secrets: tuple[str, ...]) -> bytes:
    as_bytes = tuple(secret.encode().decode("latin-1") for secret in secrets)
    return scrub(data.decode("latin-1"), as_bytes).encode("latin-1")


def _dump_bytes(data: bytes) -> str | Object:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _load_bytes(data: str | Object) -> bytes:
    if isinstance(data, str):
        return data.encode()
    try:
        return base64.b64decode(data["base64"], validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _dump_body(body: bytes) -> Object:
    try:
        return {"json": loads(body)}
    except (ValueError, RecursionError):
        data = _dump_bytes(body)
        return {"text": data} if isinstance(data, str) else data
