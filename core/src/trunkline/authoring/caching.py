"""Prompt caching: which breakpoints a request sends, and for how long. For translators; pure.

Some APIs cache the beginning of a prompt up to a breakpoint, which a request sets at the end of a tool, of the system
prompt or of a part. A translator collects the breakpoints that the request asks for in the order of the wire, and
`plan_breakpoints` decides which of them are sent. Other APIs cache every prompt; for them, there is `cached_anyway`.

Caching never changes an answer, so no warning about it is lossy. Breakpoints are part of the stored history, where they
may be older than the choice of the provider: a warning about them has the kind `mended`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import attrs

from trunkline.authoring.warnings import Warnings
from trunkline.messages import CacheLifetime as CacheLifetime, Document, Image, Text, ToolResult
from trunkline.request import ChatRequest

Section: TypeAlias = Literal["tools", "system", "messages"]
"""The sections of a prompt, in the order in which APIs with breakpoints read them."""


@attrs.frozen
class Breakpoint:
    """A place up to which the prompt is to be cached.

    `automatic` means that `ChatRequest.cache` asked for it. `fixed` means that it is from `provider_options`: it is
    sent unchanged, and the lifetimes of the others are adapted to it.
    """

    section: Section
    lifetime: CacheLifetime
    automatic: bool = False
    fixed: bool = False


def plan_breakpoints(
    points: Sequence[Breakpoint], warnings: Warnings, *, limit: int = 4, one_hour: bool = True
) -> list[Literal["5m", "1h"] | None]:
    """Return the lifetime to send for each breakpoint, or `None` for one that is left out.

    `points` are in the order of the wire. Of more than `limit`, the last one of each section is kept first, then the
    latest: the last one covers everything before it, and those of the tools and of the system prompt still help when
    the conversation is another. `one_hour` is whether the model has the longer lifetime.

    APIs demand that longer lifetimes precede shorter ones, so breakpoints before one of an hour get an hour as well.
    That costs nothing more: the prompt up to the later breakpoint is written for an hour anyway. Breakpoints after a
    fixed one of five minutes get five minutes.
    """
    fixed = {at for at, point in enumerate(points) if point.fixed}
    limit = max(limit - len(fixed), 0)
    last = {point.section: at for at, point in enumerate(points)}

    def usefulness(at: int) -> tuple[bool, bool, int]:
        point = points[at]
        covered = point.automatic and point.section == "tools"  # by the breakpoint of the system prompt, if it has one
        return not covered, at == last[point.section], at

    others = [at for at in range(len(points)) if at not in fixed]
    kept = {*sorted(others, key=usefulness, reverse=True)[:limit], *fixed}
    for at, point in enumerate(points):
        if at not in kept and not point.automatic:
            why = (
                f"the API accepts {limit} cache breakpoints besides those of provider_options; the others were left out"
            )
            warnings.mended("cache", why)
    if not one_hour and any(points[at].lifetime == "1h" for at in kept - fixed):
        warnings.mended("cache", "this model caches a prompt for 5 minutes at most; '1h' was sent as '5m'")
    planned: list[Literal["5m", "1h"] | None] = [None] * len(points)
    hour, shorter = False, min((at for at in fixed if points[at].lifetime != "1h"), default=len(points))
    for at in sorted(kept, reverse=True):
        lifetime = points[at].lifetime
        if at in fixed:
            planned[at] = "1h" if lifetime == "1h" else "5m"
            hour = hour or lifetime == "1h"
            continue
        if at > shorter:
            planned[at] = "5m"
            if lifetime == "1h" and not points[at].automatic:
                why = "'1h' after a breakpoint of five minutes in provider_options was sent as '5m'"
                warnings.mended("cache", why)
            continue
        hour = hour or (one_hour and lifetime == "1h")
        planned[at] = "1h" if hour else "5m"
        if hour and lifetime == "5m" and not points[at].automatic:
            why = "a lifetime of '5m' before one of '1h' was sent as '1h': the API demands that longer ones come first"
            warnings.mended("cache", why)
    return planned


def stated_lifetime(control: object) -> CacheLifetime:
    """Return the lifetime of a breakpoint from `provider_options`: an hour if its `ttl` is `1h`, else five minutes."""
    return "1h" if isinstance(control, Mapping) and control.get("ttl") == "1h" else "5m"


def cached_anyway(request: ChatRequest, warnings: Warnings) -> None:
    """Add a warning for what `request.cache` cannot choose at a provider that caches every prompt by itself.

    `auto` and `5m` are what such a provider does. There is no warning about the `cache` of parts and tools either,
    since the provider caches these prefixes by itself.
    """
    if request.cache == "1h":
        why = "the provider caches prompts by itself, for a time that a request cannot choose; ignored"
        warnings.add("unsupported", "cache", why, lossy=False)


def result_lifetime(result: ToolResult) -> CacheLifetime | None:
    """Return the lifetime of the breakpoint of a tool's result, or else of the first one in its parts."""
    if result.cache is not None:
        return result.cache
    for part in result.parts:
        if isinstance(part, (Text, Image, Document)) and part.cache is not None:
            return part.cache
    return None
