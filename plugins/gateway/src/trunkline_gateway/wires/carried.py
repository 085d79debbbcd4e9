"""A provider's opaque data inside a client's conversation: reasoning signatures, encrypted reasoning, hosted tools.

A client sends its whole conversation with each request, so data that only the provider can read has to pass through the
client. Each wire format has a field that clients keep and send back unchanged. The data is put there together with the
provider and the family of models that made it, since no other provider accepts it: `tl1.` and JSON in base64url.

The names of the data that the wire formats use are those of the parts' fields: `text`, `signature`, `encrypted`,
`redacted`, and `metadata` for `provider_metadata`.

A client can send anything in that field. What `unwrap` returns has the right shape, but nothing more is known about it:
use it only for parts of messages.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import TypeGuard, cast

from trunkline import Reasoning
from trunkline.authoring.json import JSONObject, JSONValue, ProviderOptions, as_string, dumps, loads
from trunkline.events import ReasoningEnd

PREFIX = "tl1."
"""How wrapped data begins. The digit is the version of the format."""

_DEEPEST = 128
"""How deep wrapped data may be nested, as in the core's requests."""


def wrap(provider: str | None, family: str | None, **data: JSONValue) -> str:
    """Wrap data of a provider for the way through a client. Never raises.

    Fields that are `None`, `False` or empty are left out. If a value is not JSON (some servers send NaN), only the
    fields that are strings are kept.
    """
    fields: dict[str, JSONValue] = {name: value for name, value in data.items() if value or _is_number(value)}
    fields |= {"provider": provider, "family": family}
    try:
        encoded = dumps(fields)
    except (TypeError, ValueError, RecursionError):
        encoded = dumps({name: value for name, value in fields.items() if value is None or isinstance(value, str)})
    return PREFIX + urlsafe_b64encode(encoded).rstrip(b"=").decode()


def wrap_reasoning(
    part: Reasoning | ReasoningEnd, family: str | None, *, metadata: ProviderOptions | None = None, **more: JSONValue
) -> str:
    """Wrap what only the provider understands of reasoning: all but its text. `metadata` replaces its own."""
    return wrap(
        part.provider,
        family,
        **more,
        signature=part.signature,
        encrypted=part.encrypted,
        redacted=part.redacted,
        metadata=part.provider_metadata if metadata is None else metadata,
    )


def unwrap(text: str) -> JSONObject | None:
    """Return the fields that `wrap` was given, or `None` for a text that is not ours or is damaged.

    `provider` and `family` are always there, as a string or `None`; `text`, `signature` and `encrypted` are strings,
    `redacted` is a bool and `metadata` a mapping of mappings, if they are there.
    """
    if not text.startswith(PREFIX):
        return None
    payload = text[len(PREFIX) :]
    try:
        encoded = payload.encode("ascii")
        decoded = urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
        if urlsafe_b64encode(decoded).rstrip(b"=") != encoded:  # the decoder skips characters that are not base64
            return None
        fields = loads(decoded)
    except (binascii.Error, ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not _is_whole(fields) or _is_deep(fields, decoded):
        return None
    return fields


def passable(fields: JSONObject) -> JSONObject:
    """Return a provider's fields, or none if they have a value that JSON does not have: some servers send NaN."""
    try:
        dumps(fields)
    except (TypeError, ValueError, RecursionError):
        return {}
    return fields


def carried_metadata(fields: JSONObject) -> ProviderOptions:
    """Return the metadata of what `unwrap` returned."""
    return cast("ProviderOptions", fields.get("metadata", {}))


def carried_reasoning(fields: JSONObject, text: str) -> Reasoning:
    """Return the reasoning that `unwrap` returned, with the text that the client has of it."""
    return Reasoning(
        text=text,
        provider=as_string(fields["provider"]),
        signature=as_string(fields.get("signature")),
        encrypted=as_string(fields.get("encrypted")),
        redacted=fields.get("redacted") is True,
        family=as_string(fields["family"]),
        provider_metadata=carried_metadata(fields),
    )


def _is_number(value: JSONValue) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(fields: dict[str, object]) -> bool:
    if "provider" not in fields or "family" not in fields:
        return False
    texts = (fields.get(name) for name in ("provider", "family", "text", "signature", "encrypted"))
    return (
        all(value is None or isinstance(value, str) for value in texts)
        and isinstance(fields.get("redacted", False), bool)
        and _is_metadata(fields.get("metadata", {}))
    )


def _is_metadata(value: object) -> TypeGuard[ProviderOptions]:
    return isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())


def _is_deep(value: object, encoded: bytes) -> bool:
    """Whether a JSON value is nested too deeply to be sent. Its encoded form makes the usual answer fast."""
    if encoded.count(b"{") + encoded.count(b"[") <= _DEEPEST:
        return False
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, Mapping) else cast("list[object]", container))
            if isinstance(item, (Mapping, list, tuple))
        ]
        if not level:
            return False
    return True
