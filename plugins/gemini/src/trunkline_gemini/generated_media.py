"""Speech and images by `:generateContent`, of the models that answer with media. Pure."""

from __future__ import annotations

import io
import re
import wave
from typing import Any

from trunkline.authoring.json import (
    as_list,
    as_object,
    as_objects,
    as_string,
    decode_object,
    encode_request,
    with_options,
)
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.results import decode_data
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ContentFiltered, RemoteError, ServerError
from trunkline.messages import Audio, Image
from trunkline.operations import ImageRequest, ImageResponse, SpeechRequest, SpeechResponse
from trunkline.response import FinishReason
from trunkline.settings import Settings

from trunkline_gemini.inputs import image_part
from trunkline_gemini.parse import REASONS
from trunkline_gemini.translate import HEADERS
from trunkline_gemini.urls import UrlFor, default_url
from trunkline_gemini.usage import usage_from

_SIZES = ("512", "1K", "2K", "4K")
"""The values of `imageSize`. Source: ai.google.dev; google-genai's `ImageConfig` has the last three."""

_PCM = re.compile(r"audio/(?:L16|pcm)\b", re.IGNORECASE)
_RATE = re.compile(r"\brate=([0-9]{3,6})\b", re.IGNORECASE)
_DEFAULT_RATE = 24000


def generate_speech(url: UrlFor = default_url) -> Operation[SpeechRequest, SpeechResponse]:
    """Return the operation for a place with Gemini's models."""

    def build(context: ServiceContext[Settings], request: SpeechRequest) -> Translation:
        warnings = Warnings()
        warnings.unsupported(request, supported={"voice", "format", "instructions"})
        if request.format not in (None, "wav"):
            message = "Gemini sends samples without a header; they become a WAV file"
            warnings.add("changed", "format", message, lossy=True)
        text = request.text
        if request.instructions is not None:
            text = f"{request.instructions.rstrip(' .:')}: {text}"
            warnings.add("emulated", "instructions", "written before the text, as Gemini asks for", lossy=False)
        config: dict[str, Any] = {"responseModalities": ["AUDIO"]}
        if request.voice is not None:
            config["speechConfig"] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": request.voice}}}
        body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config}
        body = with_options(body, request.provider_options, context.provider, joined=("generationConfig",))
        return _translation(url(context.settings, str(request.model), "generateContent"), body, warnings)

    return Operation(build=build, parse=parse_speech)


def parse_speech(context: ServiceContext[Any], wire_response: WireResponse) -> SpeechResponse:
    """Return the audio: raw samples (16 bits, one channel) as a WAV file, anything else as it came."""
    body = decode_object(wire_response.body, "the response", provider=context.provider)
    media = _media(body)
    if not media:
        raise _without(body, "audio", context.provider)
    media_type = as_string(media[0].get("mimeType")) or ""
    data = b"".join(decode_data(item.get("data"), "the audio", provider=context.provider) for item in media)
    if _PCM.match(media_type):
        rate = _RATE.search(media_type)
        data, media_type = _wav(data, int(rate[1]) if rate else _DEFAULT_RATE), "audio/wav"
    return SpeechResponse(
        audio=Audio(data=data, media_type=media_type or None),
        model=as_string(body.get("modelVersion")),
        usage=usage_from(body.get("usageMetadata"), is_final=True),
        raw=_without_data(body),
    )


def _wav(samples: bytes, rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(samples)
    return file.getvalue()


def generate_images(url: UrlFor = default_url) -> Operation[ImageRequest, ImageResponse]:
    """Return the operation for a place with Gemini's models."""

    def build(context: ServiceContext[Settings], request: ImageRequest) -> Translation:
        warnings = Warnings()
        warnings.unsupported(request, supported={"images", "size", "aspect_ratio", "seed", "count"})
        if request.count not in (None, 1):
            message = "Gemini makes one image for a request; make several calls for more"
            warnings.add("unsupported", "count", message, lossy=True)
        image: dict[str, Any] = {}
        if request.aspect_ratio is not None:
            image["aspectRatio"] = request.aspect_ratio
        if request.size in _SIZES:
            image["imageSize"] = request.size
        elif request.size is not None:
            message = f"Gemini's sizes are {', '.join(_SIZES)}; set one of them and aspect_ratio; ignored"
            warnings.add("unsupported", "size", message, lossy=True)
        config: dict[str, Any] = {"responseModalities": ["IMAGE"]}
        if image:
            config["imageConfig"] = image
        if request.seed is not None:
            config["seed"] = request.seed
        parts = [*map(image_part, request.images), {"text": request.prompt}]
        body: dict[str, Any] = {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}
        body = with_options(body, request.provider_options, context.provider, joined=("generationConfig",))
        return _translation(url(context.settings, str(request.model), "generateContent"), body, warnings)

    return Operation(build=build, parse=parse_images)


def parse_images(context: ServiceContext[Any], wire_response: WireResponse) -> ImageResponse:
    """Return the images. Raises `ContentFiltered` if Gemini refused to make one."""
    body = decode_object(wire_response.body, "the response", provider=context.provider)
    media = _media(body)
    if not media:
        raise _without(body, "image", context.provider)
    return ImageResponse(
        images=tuple(
            Image(
                data=decode_data(item.get("data"), "an image", provider=context.provider),
                media_type=as_string(item.get("mimeType")),
            )
            for item in media
        ),
        model=as_string(body.get("modelVersion")),
        usage=usage_from(body.get("usageMetadata"), is_final=True),
        raw=_without_data(body),
    )


def _parts(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        part
        for candidate in as_objects(body.get("candidates"))
        for part in as_objects(as_object(candidate.get("content")).get("parts"))
    ]


def _media(body: dict[str, Any]) -> list[dict[str, Any]]:
    # A thought is a draft. Models that think make one or two before the image.
    found = [part for part in _parts(body) if part.get("thought") is not True]
    return [media for part in found if (media := as_object(part.get("inlineData")))]


def _without(body: dict[str, Any], what: str, provider: str) -> RemoteError:
    """Return the error for a response without media, of which the reason is the only content."""
    candidate = next(iter(as_objects(body.get("candidates"))), {})
    feedback = as_object(body.get("promptFeedback"))
    blocked = as_string(feedback.get("blockReason"))
    reason = blocked or as_string(candidate.get("finishReason")) or "no reason given"
    said = as_string(candidate.get("finishMessage")) or as_string(feedback.get("blockReasonMessage"))
    text = said or "".join(filter(None, (as_string(part.get("text")) for part in _parts(body))))
    kind = ContentFiltered if blocked or REASONS.get(reason) is FinishReason.CONTENT_FILTER else ServerError
    return kind(f"the model made no {what} ({reason})" + (f": {text[:200]}" if text else ""), provider=provider)


def _without_data(body: dict[str, Any]) -> dict[str, Any]:
    def kept(candidate: Any) -> Any:
        content = as_object(as_object(candidate).get("content"))
        if not isinstance(content.get("parts"), list):
            return candidate
        parts = [_part_without_data(part) for part in as_list(content["parts"])]
        return {**candidate, "content": {**content, "parts": parts}}

    return {**body, "candidates": [kept(candidate) for candidate in as_list(body.get("candidates"))]}


def _part_without_data(part: Any) -> Any:
    media = as_object(as_object(part).get("inlineData"))
    if not media:
        return part
    return {**part, "inlineData": {name: value for name, value in media.items() if name != "data"}}


def _translation(url: str, body: dict[str, Any], warnings: Warnings) -> Translation:
    wire_request = WireRequest(url=url, headers=HEADERS, body=encode_request(body))
    return Translation(wire_request=wire_request, warnings=warnings.all())
