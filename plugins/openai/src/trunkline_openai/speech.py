"""Speech by `POST /audio/speech`. The response is the audio itself. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.http_errors import error_from_json
from trunkline.authoring.json import as_object, decode_object, encode_request, loads, with_options
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.messages import Audio
from trunkline.operations import SpeechRequest, SpeechResponse

from trunkline_openai.errors import error_from_body
from trunkline_openai.translate import request_headers
from trunkline_openai.urls import HeadersFor, S, UrlFor, no_headers

_ERROR_FIELDS = frozenset({"error", "error_message", "detail", "message", "statusCode"})
"""Fields of the errors that `error_from_body` reads."""


def generate_speech(url: UrlFor[S], headers: HeadersFor[S] = no_headers) -> Operation[SpeechRequest, SpeechResponse]:
    """Return the operation for a server."""

    def build(context: ServiceContext[S], request: SpeechRequest) -> Translation:
        settings = context.settings
        body: dict[str, Any] = {"model": request.model, "input": request.text}
        values = {
            "voice": request.voice,
            "response_format": request.format,
            "speed": request.speed,
            "instructions": request.instructions,
        }
        body |= {name: value for name, value in values.items() if value is not None}
        body = with_options(body, request.provider_options, context.provider)
        wire_request = WireRequest(
            url=url(settings, "/audio/speech", request.model),
            headers=request_headers(settings, accept="application/octet-stream", further=headers(settings)),
            body=encode_request(body),
        )
        return Translation(wire_request=wire_request)

    return Operation(build=build, parse=parse_speech)


def parse_speech(context: ServiceContext[Any], wire_response: WireResponse) -> SpeechResponse:
    """Return the audio. Raises the error that a JSON body describes, and `ProtocolViolation` if there is no audio.

    A text, such as a proxy's web page, is no audio, and neither is an error that a server sends without its type.
    """
    media_type = wire_response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not wire_response.body:
        raise ProtocolViolation("the response has no audio", provider=context.provider)
    if media_type.endswith("json") or media_type.startswith("text/") or _is_error(wire_response.body):
        body = decode_object(wire_response.body, "the response, which has no audio,", provider=context.provider)
        if not body.keys() & _ERROR_FIELDS:
            raise ProtocolViolation("the response is JSON, not audio", provider=context.provider)
        raise error_from_json(body, provider=context.provider, read=error_from_body, headers=wire_response.headers)
    known = media_type if media_type.startswith("audio/") else None
    return SpeechResponse(audio=Audio(data=wire_response.body, media_type=known))


def _is_error(body: bytes) -> bool:
    if not body.lstrip().startswith(b"{"):
        return False
    try:
        return "error" in as_object(loads(body))
    except (ValueError, RecursionError):
        return False  # samples without a header
