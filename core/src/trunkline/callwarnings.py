"""The warnings of one translation."""

from __future__ import annotations

from trunkline.response import CallWarning, WarningKind


class Warnings:
    """Collects warnings, each once."""

    def __init__(self) -> None:
        self._found: dict[CallWarning, None] = {}

    def add(self, kind: WarningKind, subject: str, message: str) -> None:
        """Note a warning."""
        self._found.setdefault(CallWarning(kind=kind, subject=subject, message=message))

    def all(self) -> tuple[CallWarning, ...]:
        """The warnings, in order."""
        return tuple(self._found)
