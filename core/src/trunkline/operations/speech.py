"""Speech: audio in which a voice reads a text."""

from __future__ import annotations

from typing import TypedDict

import attrs

from trunkline._base_errors import InvalidRequest
from trunkline._field_types import NUMBER_OR_NONE, OPTIONS, TEXT, TEXT_OR_NONE, FieldTypes
from trunkline._json import JSONValue, ProviderOptions
from trunkline.messages import Audio
from trunkline.response import CallWarning, RateLimits, Usage


@attrs.frozen(kw_only=True)
class SpeechRequest:
    """A text to read aloud.

    `voice` is the provider's name or id of a voice. `format` is the encoding of the audio, such as `mp3`, `wav`,
    `opus`, `flac`, `aac` or `pcm`; without it, the provider chooses. `speed` is a factor: 1 is the voice's own speed.
    `instructions` describe how to speak, such as the tone. Raises `InvalidRequest` if the text is empty.
    """

    text: str
    model: str | None = None
    voice: str | None = None
    format: str | None = None
    speed: float | None = None
    instructions: str | None = None
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        _TYPES.check(self)
        if not self.text:
            raise InvalidRequest("SpeechRequest.text must not be empty")


_TYPES = FieldTypes(
    {
        "text": TEXT,
        "model": TEXT_OR_NONE,
        "voice": TEXT_OR_NONE,
        "format": TEXT_OR_NONE,
        "speed": NUMBER_OR_NONE,
        "instructions": TEXT_OR_NONE,
        "provider_options": OPTIONS,
    }
)


class SpeechParams(TypedDict, total=False):
    """The keywords of `Service.generate_speech`: the fields of a `SpeechRequest` but for `text`."""

    model: str | None
    voice: str | None
    format: str | None
    speed: float | None
    instructions: str | None
    provider_options: ProviderOptions


@attrs.frozen(kw_only=True)
class SpeechResponse:
    """The response to a `SpeechRequest`. `audio.media_type` says how `data` is encoded.

    `raw` is what the provider sent besides the audio, if it is JSON.
    """

    audio: Audio
    model: str | None = None
    provider: str | None = None
    service: str | None = attrs.field(default=None, eq=False)
    usage: Usage | None = None
    warnings: tuple[CallWarning, ...] = ()
    rate_limits: RateLimits | None = attrs.field(default=None, repr=False, eq=False)
    raw: JSONValue = attrs.field(default=None, repr=False, eq=False)

    @property
    def data(self) -> bytes:
        """The bytes of the audio. Empty only if a provider returns a URL, which no provider of this project does."""
        return self.audio.data or b""
