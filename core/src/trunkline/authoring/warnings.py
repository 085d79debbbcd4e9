"""Collect the warnings of one translation. `docs/reference/contracts.md` says when a warning is lossy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import attrs

from trunkline.response import CallWarning, WarningKind

_ALWAYS = frozenset({"model", "provider_options"})
_NOT_LOSSY = frozenset({"background", "cache", "cache_key", "parallel_tool_calls", "input_type"})
_NOTHING = frozenset({"logprobs", "diarize", "background"})
"""Fields that ask for nothing if they are false."""


class Warnings:
    """Collects warnings. Warnings with the same cause are merged into one with a count."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, bool, str], CallWarning] = {}
        self._counts: dict[tuple[str, str, bool, str], int] = {}

    def add(self, kind: WarningKind, subject: str, message: str, *, lossy: bool, cause: str | None = None) -> None:
        """Add a warning. The arguments are the fields of `CallWarning`.

        If equal warnings are added, the result has one of them, and their number in `count`. Where the message names
        one of many parts, such as the id of a tool call, `cause` is the text that all these messages have in common:
        the first message is kept.
        """
        key = (kind, subject, lossy, message if cause is None else cause)
        if key not in self._found:
            self._found[key] = CallWarning(kind=kind, subject=subject, message=message, lossy=lossy)
        self._counts[key] = self._counts.get(key, 0) + 1

    def mended(self, subject: str, message: str, *, cause: str | None = None) -> None:
        """Add a warning about a change to the history that the provider would refuse. Such a warning is never lossy."""
        self.add("mended", subject, message, lossy=False, cause=cause)

    def unsupported(self, request: attrs.AttrsInstance, *, supported: Collection[str]) -> None:
        """Add a warning for each field of the request that is set but is not in `supported`.

        `logprobs=False`, `diarize=False` and `background=False` ask for nothing, so they count as not set. The warnings
        are lossy, except for `parallel_tool_calls=True`, which asks for what every model does by default, for
        `background`, `cache` and `cache_key`, which do not change the answer, and for `input_type`: an API without it
        embeds documents and queries alike.
        """
        for field in attrs.fields(type(request)):
            if field.name in supported or field.name in _ALWAYS or field.default is attrs.NOTHING:
                continue
            value = getattr(request, field.name)
            if value is None or value in ((), {}) or (field.name in _NOTHING and value is False):
                continue
            lossy = field.name not in _NOT_LOSSY or value is False
            self.add("unsupported", field.name, "not supported by this provider; ignored", lossy=lossy)

    def all(self) -> tuple[CallWarning, ...]:
        """Return the warnings, in order."""
        return tuple(_counted(warning, self._counts[key]) for key, warning in self._found.items())


def merged(warnings: Iterable[CallWarning]) -> tuple[CallWarning, ...]:
    """Return the warnings in order, with equal ones merged into one that has their number in `count`."""
    counts: dict[CallWarning, int] = {}
    for warning in warnings:
        one = _counted(warning, 1)
        counts[one] = counts.get(one, 0) + warning.count
    return tuple(_counted(warning, count) for warning, count in counts.items())


def _counted(warning: CallWarning, count: int) -> CallWarning:
    return warning if warning.count == count else attrs.evolve(warning, count=count)


_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def nearest_effort(effort: str, levels: Sequence[str]) -> str:
    """Return the reasoning level of a model that is nearest to an effort. If two are equally near, the lower one wins.

    The levels are efforts, in any order; there must be at least one. `none` is returned only for the effort `none`, or
    if there is no other level: the lowest level is nearer to a low effort than no reasoning is.
    """
    if effort in levels:
        return effort
    place = _EFFORTS.index(effort)
    candidates = [level for level in levels if level != "none"] or levels
    return min(candidates, key=lambda level: (abs(_EFFORTS.index(level) - place), _EFFORTS.index(level)))


def changes_effort(effort: str) -> bool:
    """Return whether the nearest level of reasoning that a model has is a lossy replacement for this effort.

    It is not for `minimal` and `max`, which ask for the least and the most reasoning that the model is capable of.
    """
    return effort not in ("minimal", "max")
