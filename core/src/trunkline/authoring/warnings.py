"""The warnings of one translation."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from trunkline.request import ChatRequest
from trunkline.response import CallWarning, WarningKind

_ALWAYS = frozenset({"messages", "model", "provider_options"})


class Warnings:
    """Collects warnings, each once."""

    def __init__(self) -> None:
        self._found: dict[CallWarning, None] = {}

    def add(self, kind: WarningKind, subject: str, message: str) -> None:
        """Note a warning."""
        self._found.setdefault(CallWarning(kind=kind, subject=subject, message=message))

    def unsupported(self, request: ChatRequest, *, supported: Collection[str]) -> None:
        """Note each field of a request that is set and that the wire cannot express; `supported` names those it can."""
        for field in attrs.fields(ChatRequest):
            value = getattr(request, field.name)
            if field.name in _ALWAYS or field.name in supported or value is None or value in ((), {}):
                continue
            self.add("unsupported", field.name, "the provider has no word for it; it was not sent")

    def all(self) -> tuple[CallWarning, ...]:
        """The warnings, in order."""
        return tuple(self._found)
