"""Images by `POST /images/generations`, and by `POST /images/edits`, a form, if there are images to edit. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_object, as_string, encode_request, unknown_fields, with_options
from trunkline.authoring.multipart import FormValue, encode_form, form_fields, media_file
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.results import decode_data
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.messages import Image
from trunkline.operations import ImageRequest, ImageResponse
from trunkline.settings import Settings

from trunkline_openai.errors import response_body
from trunkline_openai.translate import request_headers, sent_user_id
from trunkline_openai.urls import HeadersFor, S, UrlFor, no_headers
from trunkline_openai.usage import usage_from

_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif", "svg": "image/svg+xml"}
_SUPPORTED = frozenset({"images", "mask", "count", "size", "quality", "format", "user_id"})


def generate_images(url: UrlFor[S], headers: HeadersFor[S] = no_headers) -> Operation[ImageRequest, ImageResponse]:
    """Return the operation for a server."""

    def build(context: ServiceContext[S], request: ImageRequest) -> Translation:
        settings = context.settings
        warnings = Warnings()
        warnings.unsupported(request, supported=_SUPPORTED)
        fields = with_options(_fields(request, settings), request.provider_options, context.provider)
        all_headers = dict(request_headers(settings, further=headers(settings)))
        if request.images:
            all_headers["content-type"], body = encode_form([*form_fields(fields), *_files(request)])
        else:
            body = encode_request(fields)
        wire_request = WireRequest(
            url=url(settings, "/images/edits" if request.images else "/images/generations", request.model),
            headers=all_headers,
            body=body,
        )
        return Translation(wire_request=wire_request, warnings=warnings.all())

    return Operation(build=build, parse=parse_images)


def _fields(request: ImageRequest, settings: Settings) -> dict[str, Any]:
    values = {
        "n": request.count,
        "size": request.size,
        "quality": request.quality,
        "output_format": request.format,
        "user": sent_user_id(request.user_id, settings),
    }
    given = {name: value for name, value in values.items() if value is not None}
    return {"model": request.model, "prompt": request.prompt, **given}


def _files(request: ImageRequest) -> list[tuple[str, FormValue]]:
    name = "image" if len(request.images) == 1 else "image[]"
    files: list[tuple[str, FormValue]] = [(name, media_file(image, "image")) for image in request.images]
    if request.mask is not None:
        files.append(("mask", media_file(request.mask, "mask")))
    return files


def parse_images(context: ServiceContext[Any], wire_response: WireResponse) -> ImageResponse:
    """Return the images, as data or URLs. Raises `ProtocolViolation` if the response has no list of images."""
    body = as_object(response_body(context, wire_response))
    data = body.get("data")
    if not isinstance(data, list):
        raise ProtocolViolation("the response has no list of images", provider=context.provider)
    media_type = _TYPES.get(as_string(body.get("output_format")) or "")
    return ImageResponse(
        images=tuple(_image(as_object(item), media_type, context.provider) for item in data),
        model=as_string(body.get("model")),
        usage=usage_from(body.get("usage")),
        raw={**body, "data": [_without_data(item) for item in data]},
    )


def _image(item: dict[str, Any], media_type: str | None, provider: str) -> Image:
    about = unknown_fields(item, {"b64_json", "url", "mime_type"})
    metadata = {provider: about} if about else {}
    own_type = as_string(item.get("mime_type")) or media_type
    if not item.get("b64_json") and (url := as_string(item.get("url"))):
        return Image(url=url, media_type=own_type, provider_metadata=metadata)
    data = decode_data(item.get("b64_json"), "an image", provider=provider)
    return Image(data=data, media_type=own_type, provider_metadata=metadata)


def _without_data(item: Any) -> Any:
    return {name: value for name, value in item.items() if name != "b64_json"} if isinstance(item, dict) else item
