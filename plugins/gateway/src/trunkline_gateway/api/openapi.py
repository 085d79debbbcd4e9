"""The OpenAPI document of the API. It names the fields that every client sends; the wire formats have more."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from trunkline.authoring.json import JSONObject, JSONValue

_ID: JSONObject = {"type": "string", "minLength": 1, "description": "`service/model`, an alias, or a service."}
_COUNT: JSONObject = {"type": ["integer", "null"], "minimum": 1}
_TEXT_OR_PARTS: JSONObject = {
    "oneOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/components/schemas/Part"}}]
}
_STREAM: JSONObject = {"type": ["boolean", "null"], "description": "Whether to answer with server-sent events."}
_TEMPERATURE: JSONObject = {"type": ["number", "null"], "minimum": 0, "maximum": 2}
_ERROR_DETAIL: JSONObject = {
    "type": "object",
    "required": ["message", "type"],
    "properties": {"message": {"type": "string"}, "type": {"type": "string"}},
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


def _operation(summary: str, schema: str, error: str, *, streams: bool) -> JSONObject:
    events: JSONObject = {"text/event-stream": {"schema": {"type": "string"}}} if streams else {}
    content: JSONObject = {"application/json": {"schema": {"type": "object"}}, **events}
    return {
        "post": {
            "summary": summary,
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
            },
            "responses": {"200": {"description": "The answer.", "content": content}, **_error_responses(error)},
        }
    }


def _error_responses(error: str) -> JSONObject:
    schema: JSONObject = {"$ref": f"#/components/schemas/{error}"}
    return {
        status: {"description": text, "content": {"application/json": {"schema": schema}}}
        for status, text in _ERRORS.items()
    }


def document(version: str) -> JSONObject:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Trunkline gateway", "version": version},
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": {
            "/v1/chat/completions": _operation("Chat Completions", "ChatRequest", "Error", streams=True),
            "/v1/responses": _operation("Responses", "ResponsesRequest", "Error", streams=True),
            "/v1/embeddings": _operation("Embeddings", "EmbeddingsRequest", "Error", streams=False),
            "/v1/messages": _operation("Messages", "MessagesRequest", "AnthropicError", streams=True),
            "/v1/messages/count_tokens": _operation("Count tokens", "CountRequest", "AnthropicError", streams=False),
            "/v1/models": {
                "get": {
                    "summary": "The models that the key may use",
                    "responses": {
                        "200": {
                            "description": "The models.",
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Models"}}},
                        },
                        **_error_responses("Error"),
                    },
                }
            },
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": _schemas(),
        },
    }


def _object(required: Sequence[str], **properties: JSONValue) -> JSONObject:
    return {"type": "object", "required": list(required), "properties": properties}


def _array(items: JSONObject) -> JSONObject:
    return {"type": "array", "minItems": 1, "items": items}


def _schemas() -> JSONObject:
    return {**_openai_schemas(), **_anthropic_schemas()}


def _openai_schemas() -> JSONObject:
    return {
        "Part": _object(["type", "text"], type={"enum": ["text"]}, text={"type": "string"}),
        "Message": _object(
            ["role", "content"],
            role={"enum": ["system", "developer", "user", "assistant"]},
            content=_TEXT_OR_PARTS,
        ),
        "ChatRequest": _object(
            ["model", "messages"],
            model=_ID,
            messages=_array({"$ref": "#/components/schemas/Message"}),
            max_tokens=_COUNT,
            temperature=_TEMPERATURE,
            stream=_STREAM,
        ),
        "ResponsesRequest": _object(
            ["model", "input"],
            model=_ID,
            input={"type": "string"},
            instructions={"type": ["string", "null"]},
            max_output_tokens=_COUNT,
            temperature=_TEMPERATURE,
            stream=_STREAM,
        ),
        "EmbeddingsRequest": _object(
            ["model", "input"],
            model=_ID,
            input={"oneOf": [{"type": "string"}, _array({"type": "string"})]},
            encoding_format={"enum": ["float", "base64"]},
        ),
        "Models": _object(["data"], data={"type": "array", "items": {"type": "object", "required": ["id"]}}),
        "Error": _object(["error"], error=_ERROR_DETAIL),
    }


def _anthropic_schemas() -> JSONObject:
    counted: JSONObject = {
        "model": _ID,
        "messages": _array({"$ref": "#/components/schemas/AnthropicMessage"}),
        "system": {"type": "string"},
    }
    return {
        "AnthropicMessage": _object(["role", "content"], role={"enum": ["user", "assistant"]}, content=_TEXT_OR_PARTS),
        "MessagesRequest": _object(
            ["model", "messages", "max_tokens"],
            **counted,
            max_tokens={"type": "integer", "minimum": 1},
            temperature={"type": "number", "minimum": 0, "maximum": 1},
            stream={"type": "boolean"},
        ),
        "CountRequest": _object(["model", "messages"], **counted),
        "AnthropicError": _object(["type", "error"], type={"enum": ["error"]}, error=_ERROR_DETAIL),
    }


async def openapi(request: Request) -> Response:
    """Answer `GET /openapi.json`."""
    from trunkline_gateway import __version__

    return JSONResponse(document(__version__))
