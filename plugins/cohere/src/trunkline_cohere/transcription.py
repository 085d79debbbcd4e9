"""Transcription by `POST /v2/audio/transcriptions`, a form with a file. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_string, with_options
from trunkline.authoring.multipart import encode_form, form_fields, media_file
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.urls import endpoint_url
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import InvalidRequest, ProtocolViolation
from trunkline.operations import TranscriptionRequest, TranscriptionResponse

from trunkline_cohere.errors import response_body
from trunkline_cohere.settings import CohereSettings
from trunkline_cohere.translate import HEADERS
from trunkline_cohere.urls import base_url
from trunkline_cohere.usage import embedding_usage


def build_transcription(context: ServiceContext[CohereSettings], request: TranscriptionRequest) -> Translation:
    """Build the request for the text of some audio. Raises `InvalidRequest` without its language."""
    if request.language is None:
        raise InvalidRequest("Cohere does not detect the language of speech: set language, such as language='en'")
    warnings = Warnings()
    warnings.unsupported(request, supported={"language", "temperature"})
    fields: dict[str, Any] = {"model": request.model, "language": request.language}
    if request.temperature is not None:
        fields["temperature"] = request.temperature
    fields = with_options(fields, request.provider_options, context.provider)
    content_type, body = encode_form([*form_fields(fields), ("file", media_file(request.audio))])
    url = endpoint_url(base_url(context.settings.api_url)[0], "/v2/audio/transcriptions")
    wire_request = WireRequest(url=url, headers={**HEADERS, "content-type": content_type}, body=body)
    return Translation(wire_request=wire_request, warnings=warnings.all())


def parse_transcription(context: ServiceContext[CohereSettings], wire_response: WireResponse) -> TranscriptionResponse:
    """Return the text. Raises `ProtocolViolation` if there is none."""
    body = response_body(context, wire_response)
    text = as_string(body.get("text"))
    if text is None:
        raise ProtocolViolation("the response has no field 'text'", provider=context.provider)
    return TranscriptionResponse(text=text.strip(), usage=embedding_usage(body.get("meta")), raw=body)


TRANSCRIBE = Operation(build=build_transcription, parse=parse_transcription)
"""Transcribing speech."""
