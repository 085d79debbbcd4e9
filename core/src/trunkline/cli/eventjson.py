"""Write stream events as JSON lines: one object for each event, with the event's name in snake case as its `type`."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import attrs

from trunkline._json import type_tag
from trunkline.errors import RemoteError, TrunklineError
from trunkline.events import Event
from trunkline.messages import Audio, Citation, Document, Image, Opaque


def _plain(value: object) -> object:
    cls = type(value)
    if attrs.has(cls):
        fields = {field.name: _plain(getattr(value, field.name)) for field in attrs.fields(cls)}
        is_part = isinstance(value, (Audio, Citation, Document, Image, Opaque))
        return {"type": type_tag(cls), **fields} if is_part else fields
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, int, float)) or value is None:
        return value
    return str(value)


def event_fields(event: Event) -> dict[str, object]:
    """Return the event as a JSON object, with every field; bytes are in base64."""
    fields = _plain(event)
    assert isinstance(fields, dict)
    return {**fields, "type": type_tag(type(event))}


def error_fields(error: TrunklineError) -> dict[str, object]:
    """Return the error that ended the stream as a JSON object with the type `error`."""
    fields: dict[str, object] = {"type": "error", "error": type(error).__name__, "message": str(error)}
    fields["service"] = error.service
    if isinstance(error, RemoteError):
        for name in ("provider", "model", "endpoint", "status", "code", "request_id", "retry_after", "retryable"):
            fields[name] = getattr(error, name)
    return fields
