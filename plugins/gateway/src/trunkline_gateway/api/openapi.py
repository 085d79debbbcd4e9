"""The OpenAPI document of the API. It names the fields that every client sends; the wire formats have more."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from trunkline.authoring.json import JSONObject, JSONValue


def _ref(schema: str) -> JSONObject:
    return {"$ref": f"#/components/schemas/{schema}"}


def _object(*required: str, **properties: JSONValue) -> JSONObject:
    return {"type": "object", "required": list(required), "properties": properties}


def _array(items: JSONObject) -> JSONObject:
    return {"type": "array", "minItems": 1, "items": items}


_TEXT: JSONObject = {"type": "string"}
_ID: JSONObject = {"type": "string", "minLength": 1, "description": "`service/model`, an alias, or a service."}
_COUNT: JSONObject = {"type": ["integer", "null"], "minimum": 1}
_TEXT_OR_PARTS: JSONObject = {"oneOf": [_TEXT, {"type": "array", "items": _ref("Part")}]}
_OPENAI_OPTIONS: dict[str, JSONValue] = {
    "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
    "stream": {"type": ["boolean", "null"], "description": "Whether to answer with server-sent events."},
}
_ANTHROPIC_INPUT: dict[str, JSONValue] = {
    "model": _ID,
    "messages": _array(_ref("AnthropicMessage")),
    "system": _TEXT,
}
_ERROR_DETAIL = _object("message", "type", message=_TEXT, type=_TEXT)

_SCHEMAS: JSONObject = {
    "Part": _object("type", "text", type={"enum": ["text"]}, text=_TEXT),
    "Message": _object(
        "role", "content", role={"enum": ["system", "developer", "user", "assistant"]}, content=_TEXT_OR_PARTS
    ),
    "ChatRequest": _object(
        "model", "messages", model=_ID, messages=_array(_ref("Message")), max_tokens=_COUNT, **_OPENAI_OPTIONS
    ),
    "ResponsesRequest": _object(
        "model",
        "input",
        model=_ID,
        input=_TEXT,
        instructions={"type": ["string", "null"]},
        max_output_tokens=_COUNT,
        **_OPENAI_OPTIONS,
    ),
    "EmbeddingsRequest": _object(
        "model",
        "input",
        model=_ID,
        input={"oneOf": [_TEXT, _array(_TEXT)]},
        encoding_format={"enum": ["float", "base64"]},
    ),
    "Models": _object("data", data={"type": "array", "items": {"type": "object", "required": ["id"]}}),
    "Error": _object("error", error=_ERROR_DETAIL),
    "AnthropicMessage": _object("role", "content", role={"enum": ["user", "assistant"]}, content=_TEXT_OR_PARTS),
    "MessagesRequest": _object(
        "model",
        "messages",
        "max_tokens",
        **_ANTHROPIC_INPUT,
        max_tokens={"type": "integer", "minimum": 1},
        temperature={"type": "number", "minimum": 0, "maximum": 1},
        stream={"type": "boolean"},
    ),
    "CountRequest": _object("model", "messages", **_ANTHROPIC_INPUT),
    "AnthropicError": _object("type", "error", type={"enum": ["error"]}, error=_ERROR_DETAIL),
}

_ERRORS = {
    "400": "The request is wrong.",
    "401": "The key is missing, wrong, revoked or expired.",
    "403": "The key may not use the model.",
    "404": "There is no such model.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is compressed.",
    "429": "A limit or a budget of the key, or of the provider, is used up.",
    "500": "The gateway failed.",
    "502": "The provider failed, or refused the gateway's credentials.",
    "503": "The gateway or the provider cannot answer now.",
    "504": "The provider did not answer in time.",
}


def _json(schema: JSONObject) -> JSONObject:
    return {"application/json": {"schema": schema}}


def _responses(description: str, schema: JSONObject, error: str, *, streams: bool = False) -> JSONObject:
    events: JSONObject = {"text/event-stream": {"schema": _TEXT}} if streams else {}
    return {
        "200": {"description": description, "content": {**_json(schema), **events}},
        **{status: {"description": text, "content": _json(_ref(error))} for status, text in _ERRORS.items()},
    }


def _post(summary: str, request: str, error: str, *, streams: bool) -> JSONObject:
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": _json(_ref(request))},
            "responses": _responses("The answer.", {"type": "object"}, error, streams=streams),
        }
    }


def document(version: str) -> JSONObject:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Trunkline gateway", "version": version},
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": {
            "/v1/chat/completions": _post("Chat Completions", "ChatRequest", "Error", streams=True),
            "/v1/responses": _post("Responses", "ResponsesRequest", "Error", streams=True),
            "/v1/embeddings": _post("Embeddings", "EmbeddingsRequest", "Error", streams=False),
            "/v1/messages": _post("Messages", "MessagesRequest", "AnthropicError", streams=True),
            "/v1/messages/count_tokens": _post("Count tokens", "CountRequest", "AnthropicError", streams=False),
            "/v1/models": {
                "get": {
                    "summary": "The models that the key may use",
                    "responses": _responses("The models.", _ref("Models"), "Error"),
                }
            },
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": _SCHEMAS,
        },
    }


async def openapi(request: Request) -> Response:
    """Answer `GET /openapi.json`."""
    from trunkline_gateway import __version__

    return JSONResponse(document(__version__))
