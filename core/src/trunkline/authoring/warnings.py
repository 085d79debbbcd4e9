"""Collect the warnings of one translation."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import CallWarning, WarningKind

_ALWAYS = frozenset({"messages", "texts", "model", "provider_options"})


class Warnings:
    """Collects warnings. Equal warnings are kept once."""

    def __init__(self) -> None:
        self._found: dict[CallWarning, None] = {}

    def add(self, kind: WarningKind, subject: str, message: str) -> None:
        """Add a warning. The arguments are the fields of `CallWarning`."""
        self._found.setdefault(CallWarning(kind=kind, subject=subject, message=message))

    def unsupported(self, request: ChatRequest | EmbedRequest, *, supported: Collection[str]) -> None:
        """Add a warning for each field of the request that is set but is not in `supported`.

        `logprobs=False` asks for nothing, so it counts as not set.
        """
        for field in attrs.fields(type(request)):
            if field.name in supported or field.name in _ALWAYS:
                continue
            value = getattr(request, field.name)
            if value is None or value in ((), {}) or (field.name == "logprobs" and value is False):
                continue
            self.add("unsupported", field.name, "not supported by this provider; ignored")

    def all(self) -> tuple[CallWarning, ...]:
        """Return the warnings, in order."""
        return tuple(self._found)
