"""Transcription by `POST /audio/transcriptions`, a form with a file. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.http_errors import error_from_json
from trunkline.authoring.json import as_number, as_object, as_string, decode_object, with_options
from trunkline.authoring.multipart import encode_form, form_fields, media_file
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.results import decode_times
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.operations import TranscriptionRequest, TranscriptionResponse

from trunkline_openai.errors import error_from_body
from trunkline_openai.translate import request_headers
from trunkline_openai.urls import HeadersFor, S, UrlFor, no_headers
from trunkline_openai.usage import usage_from

_TEXTS = frozenset({"text/plain", "text/vtt", "text/srt", "application/x-subrip"})
"""The types of the formats `text`, `vtt` and `srt`."""


def transcribe(
    url: UrlFor[S], headers: HeadersFor[S] = no_headers
) -> Operation[TranscriptionRequest, TranscriptionResponse]:
    """Return the operation for a server."""

    def build(context: ServiceContext[S], request: TranscriptionRequest) -> Translation:
        settings = context.settings
        warnings = Warnings()
        fields: dict[str, Any] = {"model": request.model}
        fields |= {
            name: value
            for name in ("language", "prompt", "temperature")
            if (value := getattr(request, name)) is not None
        }
        fields |= _response_format(request, warnings)
        fields = with_options(fields, request.provider_options, context.provider)
        form = [*form_fields(fields), ("file", media_file(request.audio))]
        content_type, body = encode_form(form)
        wire_request = WireRequest(
            url=url(settings, "/audio/transcriptions", request.model),
            headers={**request_headers(settings, further=headers(settings)), "content-type": content_type},
            body=body,
        )
        return Translation(wire_request=wire_request, warnings=warnings.all())

    return Operation(build=build, parse=parse_transcription)


def _response_format(request: TranscriptionRequest, warnings: Warnings) -> dict[str, Any]:
    # Only `verbose_json` has the times that Whisper finds, and only `diarized_json` has speakers. The segments of the
    # latter have times too. Without a way to cut it, the models that tell speakers apart refuse audio over 30 seconds.
    if request.diarize:
        if "word" in request.timestamps:
            message = "the times of words cannot be had together with speakers; those of segments are sent"
            warnings.add("changed", "timestamps", message, lossy=True)
        return {"response_format": "diarized_json", "chunking_strategy": "auto"}
    if request.timestamps:
        return {"response_format": "verbose_json", "timestamp_granularities": list(request.timestamps)}
    return {}


def parse_transcription(context: ServiceContext[Any], wire_response: WireResponse) -> TranscriptionResponse:
    """Return the transcription. A body that is not JSON is its text, in the format that an option asked for."""
    media_type = wire_response.headers.get("content-type", "").partition(";")[0].strip().lower()
    # Some servers call JSON, also that of an error, a plain text.
    if media_type in _TEXTS and not wire_response.body.lstrip().startswith(b"{"):
        return TranscriptionResponse(text=wire_response.body.decode("utf-8", "replace").removesuffix("\n"))
    body = decode_object(wire_response.body, "the response", provider=context.provider)
    if body.get("error"):
        raise error_from_json(body, provider=context.provider, read=error_from_body, headers=wire_response.headers)
    text = as_string(body.get("text"))
    if text is None:
        raise ProtocolViolation("the response has no field 'text'", provider=context.provider)
    segments, _ = decode_times(body.get("segments"))
    _, words = decode_times(body.get("words"))
    languages = body.get("languages")
    first = as_object(languages[0]).get("language") if isinstance(languages, list) and languages else None
    return TranscriptionResponse(
        text=text,
        segments=segments,
        words=words,
        language=as_string(body.get("language")) or as_string(first),
        duration=as_number(body.get("duration")),
        model=as_string(body.get("model")),
        usage=usage_from(body.get("usage")),
        raw=body,
    )
