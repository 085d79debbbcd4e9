"""Listing models and embedding texts: pure build-and-parse pairs."""

from __future__ import annotations

import binascii
import struct
from base64 import b64decode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from trunkline.authoring.json import loads
from trunkline.authoring.provider import Embed, ListModels, Operations, ServiceContext, Translation
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.request import EmbedRequest
from trunkline.response import CallWarning, EmbedResponse, ModelInfo

from trunkline_openai.errors import error_from_body, request_id
from trunkline_openai.profile import Profile
from trunkline_openai.translate import UrlFor, encode, request_headers, sent_user_id
from trunkline_openai.usage import usage_from


def chat_operations(
    profile: Profile | Callable[[Any], Profile], url: UrlFor, *, embed: bool = True, list_models: bool = True
) -> Operations:
    """The operations of a server that speaks the dialect: `GET /models` and `POST /embeddings`."""

    def build_models(context: ServiceContext[Any], cursor: str | None) -> WireRequest:
        settings = context.settings
        address = url(settings, "/models", None)
        if cursor is not None:
            address = f"{address}{'&' if '?' in address else '?'}after={quote(cursor, safe='', errors='replace')}"
        return WireRequest(method="GET", url=address, headers=request_headers(settings))

    def build_embed(context: ServiceContext[Any], request: EmbedRequest) -> Translation:
        settings = context.settings
        chosen = profile(settings) if callable(profile) else profile
        body: dict[str, Any] = {"model": request.model, "input": list(request.texts), "encoding_format": "float"}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        warnings: list[CallWarning] = []
        user_id = sent_user_id(request.user_id, settings)
        if user_id is not None and chosen.user_id_field is not None:
            # The embeddings endpoint knows the older field alone.
            body["user"] = user_id
        elif user_id is not None:
            message = "this server has no field for a user's id; it was not sent"
            warnings.append(CallWarning(kind="unsupported", subject="user_id", message=message))
        body.update(request.provider_options.get(context.provider, {}))
        wire_request = WireRequest(
            url=url(settings, "/embeddings", request.model), headers=request_headers(settings), body=encode(body)
        )
        return Translation(wire_request=wire_request, warnings=tuple(warnings))

    return Operations(
        list_models=ListModels(build=build_models, parse=parse_models) if list_models else None,
        embed=Embed(build=build_embed, parse=parse_embeddings) if embed else None,
    )


def parse_models(context: ServiceContext[Any], wire_response: WireResponse) -> tuple[tuple[ModelInfo, ...], str | None]:
    """The models of a page, and the cursor of the next (OpenAI has one page; `has_more` and `last_id` are others')."""
    body = _body(context, wire_response)
    # Together answers with the list itself.
    data = body if isinstance(body, list) else body.get("data", body.get("models"))
    if not isinstance(data, list):
        raise _violation(context, wire_response, "the list of models has no 'data'")
    models = tuple(
        ModelInfo(
            id=model["id"],
            name=_name(model),
            created=_created(model.get("created", model.get("created_at"))),
            raw=model,
        )
        for model in data
        if isinstance(model, dict) and isinstance(model.get("id"), str)
    )
    more = isinstance(body, dict) and body.get("has_more") is True and body.get("last_id")
    return models, more if isinstance(more, str) and models else None


def parse_embeddings(context: ServiceContext[Any], wire_response: WireResponse) -> EmbedResponse:
    """The vectors, in the order of the texts. Raises `ProtocolViolation` for what are none."""
    body = _body(context, wire_response)
    data = body if isinstance(body, list) else body.get("data")
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise _violation(context, wire_response, "the answer has no list of embeddings")
    ordered = data
    if all(type(item.get("index")) is int for item in data):
        ordered = sorted(data, key=lambda item: int(item["index"]))
    try:
        embeddings = tuple(_vector(item.get("embedding")) for item in ordered)
    except (ValueError, TypeError, OverflowError, struct.error, binascii.Error):
        raise _violation(context, wire_response, "an embedding is neither numbers nor base64") from None
    told = body if isinstance(body, dict) else {}
    model = told.get("model")
    return EmbedResponse(
        embeddings=embeddings,
        model=model if isinstance(model, str) else None,
        usage=usage_from(told.get("usage")),
        raw=body,
    )


def _vector(value: Any) -> tuple[float, ...]:
    if isinstance(value, str):
        # Little-endian float32, as the official client asks for by default.
        data = b64decode(value, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    if not isinstance(value, list):
        raise ValueError("no vector")
    if len(value) == 1 and isinstance(value[0], list):
        # llama.cpp without pooling of its own.
        value = value[0]
    if not all(isinstance(number, (int, float)) for number in value):
        raise ValueError("no vector")
    return tuple(float(number) for number in value)


def _body(context: ServiceContext[Any], wire_response: WireResponse) -> Any:
    try:
        body = loads(wire_response.body)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict) and body.get("error"):
        raise error_from_body(body, provider=context.provider, headers=wire_response.headers)
    if not isinstance(body, (dict, list)):
        raise _violation(context, wire_response, "the answer is not JSON")
    return body


def _violation(context: ServiceContext[Any], wire_response: WireResponse, message: str) -> ProtocolViolation:
    return ProtocolViolation(
        message,
        provider=context.provider,
        status=wire_response.status,
        request_id=request_id(wire_response.headers),
    )


def _name(model: dict[str, Any]) -> str | None:
    found = model.get("name") or model.get("display_name")
    return found if isinstance(found, str) else None


def _created(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
