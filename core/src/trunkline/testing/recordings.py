"""Recorded exchanges: their classes, their file format, redaction, and matching of requests. No network.

The file is JSON that people can read, and compare in a review. It has JSON bodies as JSON, texts as text, and each
chunk of a response as it arrived, decompressed. Only data that is not UTF-8 text is base64.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import attrs

from trunkline._json import loads
from trunkline.authoring.wire import WireRequest
from trunkline.errors import CallError
from trunkline.secrets import HeaderValues, scrub

FORMAT = "trunkline-recording/1"
REDACTED = "REDACTED"

COMPLETE = "complete"
"""The response was read to its end."""
LEFT = "left"
"""The reader stopped before the end of the body. After the terminator of a stream, this is normal."""

_SECRET_NAME = re.compile(r"auth|cookie|secret|signature|credential|password|organization|key|token\b", re.IGNORECASE)
_TRANSFER = frozenset({"content-encoding", "content-length", "transfer-encoding", "connection", "date", "keep-alive"})
"""Headers that do not apply to the recorded chunks, which are decompressed and outlive the connection."""
_COMPARED = ("method", "url", "body")


class RecordingMismatch(CallError):
    """A request is not in the recording, or part of the recording was not used. The message shows the difference."""


@attrs.define(kw_only=True)
class RecordedExchange:
    """One request and its response, in the form of the recording's file.

    `request` has `method`, `url`, `headers` and `body`. `response` has `status` and `headers`; it is `None` if there
    was no response. `ended` is `complete`, `left`, or `{"error": class, "message": text}` if an error ended it.
    """

    service: str
    request: dict[str, Any]
    response: dict[str, Any] | None = None
    chunks: list[bytes] = attrs.field(factory=list)
    ended: str | dict[str, Any] = LEFT
    used: bool = False

    def dump(self, secrets: tuple[str, ...]) -> dict[str, Any]:
        """Return the exchange as JSON for the file, with `secrets` redacted."""
        table: dict[str, Any] = {"service": self.service, "request": self.request, "response": self.response}
        if self.response is not None:
            table["chunks"] = [_dump_bytes(chunk) for chunk in _scrubbed_chunks(self.chunks, secrets)]
        table["ended"] = self.ended
        scrubbed: dict[str, Any] = _scrubbed(table, secrets)
        return scrubbed

    @classmethod
    def load(cls, table: dict[str, Any]) -> RecordedExchange:
        """Return the exchange from which `dump` made `table`."""
        return cls(
            service=table["service"],
            request=table["request"],
            response=table["response"],
            chunks=[_load_bytes(chunk) for chunk in table.get("chunks", ())],
            ended=table["ended"],
        )


def describe(wire_request: WireRequest, secrets: tuple[str, ...]) -> dict[str, Any]:
    """Return a request in its recorded form: credentials redacted, a JSON body as JSON."""
    description: dict[str, Any] = _scrubbed(
        {
            "method": wire_request.method,
            "url": _redacted_url(wire_request.url),
            "headers": _redacted(wire_request.headers),
            "body": _dump_body(wire_request.body),
        },
        secrets,
    )
    return description


def describe_response(status: int, headers: HeaderValues) -> dict[str, Any]:
    """Return the status and headers of a response in their recorded form."""
    kept = {name.lower(): value for name, value in headers.items() if name.lower() not in _TRANSFER}
    return {"status": status, "headers": _redacted(kept)}


def match(request: dict[str, Any], exchanges: Sequence[RecordedExchange], path: Path) -> RecordedExchange:
    """Return the first unused exchange with the method, URL and body of `request`, and mark it as used.

    Raises `RecordingMismatch` if there is none. Its message shows how the most similar unused exchange differs.
    """
    wanted = _compared(request)
    unused = [exchange for exchange in exchanges if not exchange.used]
    for exchange in unused:
        if _compared(exchange.request) == wanted:
            exchange.used = True
            return exchange
    if not unused:
        reason = "all of its exchanges have been used" if exchanges else "it is empty"
        raise RecordingMismatch(f"{path.name} has no response to this request: {reason}\n{_pretty(wanted)}")
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
        f"{path.name} has no response to this request. Difference from the most similar unused request:\n"
        f"{difference}\nIf the change is intended, record anew."
    )


def read(path: Path) -> list[RecordedExchange]:
    """Return the exchanges of a file. Raises `RecordingMismatch` if the file is missing or not a recording."""
    try:
        table = loads(path.read_bytes())
    except FileNotFoundError:
        raise RecordingMismatch(f"there is no recording {path}; make it once with trunkline.testing.record") from None
    except ValueError as error:
        raise RecordingMismatch(f"{path} is not a recording: {error}") from None
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise RecordingMismatch(f"{path} is not a recording in the format {FORMAT!r}")
    try:
        return [RecordedExchange.load(exchange) for exchange in table["exchanges"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordingMismatch(f"{path} is damaged: {type(error).__name__}: {error}") from None


def write(path: Path, exchanges: Sequence[RecordedExchange], secrets: tuple[str, ...]) -> None:
    """Write a recording atomically, and create its parent directories."""
    table = {"format": FORMAT, "exchanges": [exchange.dump(secrets) for exchange in exchanges]}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(
        json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="backslashreplace"
    )
    temporary.replace(path)


def _compared(request: dict[str, Any]) -> dict[str, Any]:
    return {name: request.get(name) for name in _COMPARED}


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def _redacted(headers: HeaderValues) -> dict[str, Any]:
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
    # A secret may span two chunks. Then the chunks are joined before redaction, and their boundaries are lost.
    return scrubbed if _scrubbed_bytes(whole, secrets) == whole else [_scrubbed_bytes(whole, secrets)]


def _scrubbed_bytes(data: bytes, secrets: tuple[str, ...]) -> bytes:
    as_bytes = tuple(secret.encode().decode("latin-1") for secret in secrets)
    return scrub(data.decode("latin-1"), as_bytes).encode("latin-1")


def _dump_bytes(data: bytes) -> str | dict[str, Any]:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _load_bytes(data: str | dict[str, Any]) -> bytes:
    if isinstance(data, str):
        return data.encode()
    try:
        return base64.b64decode(data["base64"], validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _dump_body(body: bytes) -> dict[str, Any]:
    try:
        return {"json": loads(body)}
    except (ValueError, RecursionError):
        data = _dump_bytes(body)
        return {"text": data} if isinstance(data, str) else data
