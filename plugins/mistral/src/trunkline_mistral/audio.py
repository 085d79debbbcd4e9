"""Transcription and speech by Mistral's Voxtral models: `/v1/audio/transcriptions` and `/v1/audio/speech`. Pure."""

from __future__ import annotations

from typing import Any

import attrs
from trunkline.authoring.json import as_object, encode_request, with_options
from trunkline.authoring.multipart import FormValue, encode_form, form_text, media_file
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.results import decode_data, decode_times
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.messages import Audio
from trunkline.operations import SpeechRequest, SpeechResponse, TranscriptionRequest, TranscriptionResponse
from trunkline_openai.errors import response_body
from trunkline_openai.transcription import parse_transcription as parse_openai_transcription
from trunkline_openai.translate import request_headers
from trunkline_openai.urls import default_url


def build_transcription(context: ServiceContext[Any], request: TranscriptionRequest) -> Translation:
    """Build the request for the text of some audio, given as data, as a URL or as a file at Mistral."""
    warnings = Warnings()
    warnings.unsupported(request, supported={"language", "temperature", "timestamps", "diarize"})
    values: dict[str, Any] = {
        "model": request.model,
        "language": request.language,
        "temperature": request.temperature,
        "diarize": request.diarize,
        "timestamp_granularities": list(request.timestamps) or None,
        "file_url": request.audio.url,
        "file_id": request.audio.file_id,
    }
    values = with_options(values, request.provider_options, context.provider)
    form = [field for name, value in values.items() for field in _fields(name, value)]
    if request.audio.data is not None:
        form.append(("file", media_file(request.audio)))
    content_type, body = encode_form(form)
    wire_request = WireRequest(
        url=default_url(context.settings, "/audio/transcriptions", request.model),
        headers={**request_headers(context.settings), "content-type": content_type},
        body=body,
    )
    return Translation(wire_request=wire_request, warnings=warnings.all())


def _fields(name: str, value: Any) -> list[tuple[str, FormValue]]:
    # Mistral repeats the name of a list, without the brackets that OpenAI adds, and sends an object as JSON.
    if value is None:
        return []
    if isinstance(value, dict):
        return [(name, encode_request(value).decode())]
    values = value if isinstance(value, (list, tuple)) else [value]
    return [(name, form_text(item)) for item in values]


def parse_transcription(context: ServiceContext[Any], wire_response: WireResponse) -> TranscriptionResponse:
    """Return the transcription. Mistral sends the times of words as segments of one word each."""
    response = parse_openai_transcription(context, wire_response)
    segments, _ = decode_times(as_object(response.raw).get("segments"), speaker="speaker_id")
    return attrs.evolve(response, segments=segments)


def build_speech(context: ServiceContext[Any], request: SpeechRequest) -> Translation:
    """Build the request for speech."""
    warnings = Warnings()
    warnings.unsupported(request, supported={"voice", "format"})
    body: dict[str, Any] = {"model": request.model, "input": request.text}
    if request.voice is not None:
        body["voice_id"] = request.voice
    if request.format is not None:
        body["response_format"] = request.format
    body = with_options(body, request.provider_options, context.provider)
    wire_request = WireRequest(
        url=default_url(context.settings, "/audio/speech", request.model),
        headers=request_headers(context.settings),
        body=encode_request(body),
    )
    return Translation(wire_request=wire_request, warnings=warnings.all())


def parse_speech(context: ServiceContext[Any], wire_response: WireResponse) -> SpeechResponse:
    """Return the audio, whose type its first bytes tell."""
    body = as_object(response_body(context, wire_response))
    data = decode_data(body.get("audio_data"), "the audio", provider=context.provider)
    rest = {name: value for name, value in body.items() if name != "audio_data"}
    return SpeechResponse(audio=Audio(data=data), raw=rest)


TRANSCRIBE = Operation(build=build_transcription, parse=parse_transcription)
"""Transcribing speech."""

GENERATE_SPEECH = Operation(build=build_speech, parse=parse_speech)
"""Reading texts aloud."""
