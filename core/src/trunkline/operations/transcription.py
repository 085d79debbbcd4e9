"""Transcription: the text of recorded speech."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias, TypedDict, cast, get_args

import attrs

from trunkline._base_errors import InvalidRequest
from trunkline._field_types import FLAG_OR_NONE, NUMBER_OR_NONE, OPTIONS, TEXT_OR_NONE, FieldTypes, Kind, shown
from trunkline._json import JSONValue, ProviderOptions
from trunkline.inputs import as_strings
from trunkline.messages import Audio
from trunkline.response import CallWarning, RateLimits, Usage

TimestampKind: TypeAlias = Literal["segment", "word"]
"""What a transcription may have times for: segments, which are about a sentence long, or words."""

_KINDS = get_args(TimestampKind)


def _timestamps(value: TimestampKind | Iterable[TimestampKind]) -> tuple[TimestampKind, ...]:
    kinds = as_strings(value, "timestamps")
    for kind in kinds:
        if kind not in _KINDS:
            raise InvalidRequest(f"timestamps must be segment, word or both, not {shown(kind)}")
    return cast("tuple[TimestampKind, ...]", kinds)


@attrs.frozen(kw_only=True)
class TranscriptionRequest:
    """Speech to transcribe.

    `language` is the language of the speech, such as `en` (ISO 639-1); without it, most models detect the language.
    `prompt` is a text that shows the model the names, the spelling and the style to expect. `timestamps` asks for the
    times of segments or words; it accepts `segment`, `word` or both. `diarize` asks who speaks each segment.
    """

    audio: Audio
    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    timestamps: tuple[TimestampKind, ...] = attrs.field(converter=_timestamps, default=())
    diarize: bool | None = None
    temperature: float | None = None
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        _TYPES.check(self)


_TYPES = FieldTypes(
    {
        "audio": Kind((Audio,), "a trunkline.Audio"),
        "model": TEXT_OR_NONE,
        "language": TEXT_OR_NONE,
        "prompt": TEXT_OR_NONE,
        "diarize": FLAG_OR_NONE,
        "temperature": NUMBER_OR_NONE,
        "provider_options": OPTIONS,
    }
)


class TranscriptionParams(TypedDict, total=False):
    """The keywords of `Service.transcribe`: the fields of a `TranscriptionRequest` but for `audio`."""

    model: str | None
    language: str | None
    prompt: str | None
    timestamps: TimestampKind | Iterable[TimestampKind]
    diarize: bool | None
    temperature: float | None
    provider_options: ProviderOptions


@attrs.frozen(kw_only=True)
class TranscribedSegment:
    """A part of a transcription, about a sentence long.

    `start` and `end` are in seconds from the beginning of the audio. `speaker` is the provider's name for who speaks,
    such as `A`, if the request asked for it.
    """

    text: str
    start: float | None = None
    end: float | None = None
    speaker: str | None = None


@attrs.frozen(kw_only=True)
class TranscribedWord:
    """A word of a transcription. `start` and `end` are in seconds from the beginning of the audio."""

    text: str
    start: float | None = None
    end: float | None = None


@attrs.frozen(kw_only=True)
class TranscriptionResponse:
    """The response to a `TranscriptionRequest`.

    `segments` and `words` are empty if the request did not ask for them or the provider sends none. `language` is the
    language of the speech as the provider names it, such as `english` or `en`. `duration` is the length of the audio in
    seconds. Both are `None` if the provider does not report them. `raw` has everything else.
    """

    text: str
    segments: tuple[TranscribedSegment, ...] = attrs.field(default=(), repr=False)
    words: tuple[TranscribedWord, ...] = attrs.field(default=(), repr=False)
    language: str | None = None
    duration: float | None = None
    model: str | None = None
    provider: str | None = None
    service: str | None = attrs.field(default=None, eq=False)
    usage: Usage | None = None
    warnings: tuple[CallWarning, ...] = ()
    rate_limits: RateLimits | None = attrs.field(default=None, repr=False, eq=False)
    raw: JSONValue = attrs.field(default=None, repr=False, eq=False)
