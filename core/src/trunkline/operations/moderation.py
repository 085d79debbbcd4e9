"""Moderation: whether texts and images break a provider's rules, and which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import attrs

from trunkline._base_errors import InvalidRequest
from trunkline._field_types import OPTIONS, TEXT_OR_NONE, FieldTypes
from trunkline._json import JSONValue, ProviderOptions
from trunkline.inputs import Input, as_inputs
from trunkline.response import CallWarning, RateLimits, Usage


@attrs.frozen(kw_only=True)
class ModerationRequest:
    """Texts and images to judge.

    `inputs` accepts a string, an `Image`, or an iterable of them. A list among the inputs holds what is judged
    together, such as an image with its caption. Raises `InvalidRequest` if there is no input.
    """

    inputs: tuple[Input, ...] = attrs.field(converter=as_inputs, repr=False)
    model: str | None = None
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        _TYPES.check(self)
        if not self.inputs:
            raise InvalidRequest("a moderation request needs at least one input")


_TYPES = FieldTypes({"model": TEXT_OR_NONE, "provider_options": OPTIONS})


class ModerationParams(TypedDict, total=False):
    """The keywords of `Service.moderate`: the fields of a `ModerationRequest` but for `inputs`."""

    model: str | None
    provider_options: ProviderOptions


@attrs.frozen(kw_only=True)
class Moderation:
    """What a provider found in one input.

    `flagged` is whether it found anything. `categories` says for each of the provider's categories, such as
    `violence`, whether the input belongs to it. `scores` are the provider's confidences, from 0 to 1.
    """

    flagged: bool
    categories: Mapping[str, bool] = attrs.field(factory=dict)
    scores: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ModerationResponse:
    """The response to a `ModerationRequest`: one result for each input, in the same order."""

    results: tuple[Moderation, ...]
    model: str | None = None
    provider: str | None = None
    service: str | None = attrs.field(default=None, eq=False)
    usage: Usage | None = None
    warnings: tuple[CallWarning, ...] = ()
    rate_limits: RateLimits | None = attrs.field(default=None, repr=False, eq=False)
    raw: JSONValue = attrs.field(default=None, repr=False, eq=False)
