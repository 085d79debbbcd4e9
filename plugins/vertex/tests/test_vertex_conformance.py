"""The conformance kit over Gemini on Vertex AI, and over its credentials with the code of google-auth."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from trunkline.authoring.json import dumps
from trunkline.authoring.provider import Provider, ProviderParts, lazy_provider
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest
from trunkline.response import FinishReason, ModelInfo
from trunkline.testing import (
    EMBED_DIMENSIONS,
    EMBED_TEXTS,
    SSE,
    TOOL_HISTORY,
    WEATHER,
    AuthTests,
    ProviderTests,
    Sample,
    canary,
)
from trunkline_anthropic import MessagesEndpoint, facts_of
from trunkline_anthropic.testing import MESSAGES, NO_LIMIT, SIGNED, counted_request, messages_history
from trunkline_anthropic.translate import MessagesTranslator
from trunkline_gemini.testing import GENERATE_CONTENT, HISTORY_BODY, JSON_TYPE
from trunkline_openai.testing import RESPONSES, responses_history
from trunkline_vertex import VertexSettings, vertex

EXPRESS = "{url}/v1beta1/publishers/google/models"
BODY = {**HISTORY_BODY, "labels": {"kit": "metadata"}}

HISTORY = attrs.evolve(
    GENERATE_CONTENT.samples[0],
    name="after a history of tools",
    request=TOOL_HISTORY,
    request_wire=WireRequest(url=f"{EXPRESS}/m:streamGenerateContent?alt=sse", headers=JSON_TYPE, body=dumps(BODY)),
    unstreamed_wire=WireRequest(url=f"{EXPRESS}/m:generateContent", headers=JSON_TYPE, body=dumps(BODY)),
)


def piece(call: dict[str, Any], **candidate: Any) -> bytes:
    content = {"role": "model", "parts": [{"functionCall": call}]}
    return SSE.frame(dumps({"candidates": [{"content": content, **candidate}], "responseId": "r1"}), "")


# No recording has these pieces: they are made from the types of google-genai 3.6.1 (`FunctionCall`, `PartialArg`).
STREAMED_ARGUMENTS = Sample(
    name="arguments of a function call in pieces",
    request=ChatRequest(messages="Oslo?", tools=[WEATHER]),
    frames=(
        piece({"name": "weather", "id": "c1", "willContinue": True}),
        piece(
            {
                "partialArgs": [{"jsonPath": "$.city", "stringValue": "Os", "willContinue": True}],
                "willContinue": True,
            }
        ),
        piece({"partialArgs": [{"jsonPath": "$.city", "stringValue": "lo"}], "willContinue": True}),
        piece({}, finishReason="STOP"),
    ),
    tool_calls=(("weather", {"city": "Oslo"}),),
    finish_reason=FinishReason.TOOL_CALLS,
)


@pytest.mark.tests_more
class TestVertexGemini(ProviderTests):
    """In express mode, with an API key."""

    provider = "vertex"
    settings = {"api_url": "{url}", "api_key": canary("api_key")}
    credentials = {"x-goog-api-key": canary("api_key")}
    wire = attrs.evolve(
        GENERATE_CONTENT,
        unkept_fields={
            **GENERATE_CONTENT.unkept_fields,
            "candidates[].content.parts[].functionCall.partialArgs[]": "a piece of an argument has no metadata",
        },
        embeddings=lambda vectors, indexes: dumps(
            {
                "predictions": [
                    {"embeddings": {"values": vector, "statistics": {"token_count": 1}}} for vector in vectors
                ]
            }
        ),
    )
    families = (("gemini-3-flash", "gemini-3.5-flash"), ("gemini-4-pro",), ("gemini-2.5-flash",))
    samples = (HISTORY, STREAMED_ARGUMENTS)
    model_pages = (
        dumps({"publisherModels": [{"name": "publishers/google/models/m1"}], "nextPageToken": "next"}),
        dumps({"publisherModels": [{"name": "publishers/google/models/m2"}]}),
    )
    listed_models = (ModelInfo(id="m1"), ModelInfo(id="m2"))
    operation_requests = {
        "list_models": WireRequest(method="GET", url=f"{EXPRESS}?pageSize=100"),
        "embed": WireRequest(
            url=f"{EXPRESS}/m:predict",
            headers=JSON_TYPE,
            body=dumps(
                {
                    "instances": [{"content": text} for text in EMBED_TEXTS],
                    "parameters": {"outputDimensionality": EMBED_DIMENSIONS},
                }
            ),
        ),
        "count_tokens": WireRequest(
            url=f"{EXPRESS}/m:countTokens",
            headers=JSON_TYPE,
            body=dumps(
                {name: HISTORY_BODY[name] for name in ("contents", "systemInstruction", "tools", "generationConfig")}
            ),
        ),
    }


# The kit's model is `m`, which means Gemini, so the parts of the other publishers' models are providers of their own.


def provider_of(load: Callable[[], ProviderParts[VertexSettings]]) -> Provider:
    def load_parts() -> ProviderParts[VertexSettings]:
        return attrs.evolve(load(), auth=vertex.auth, advice=vertex.advice)

    return lazy_provider(name="vertex", settings=VertexSettings, load=load_parts)


def claude_models() -> ProviderParts[VertexSettings]:
    from trunkline_vertex.claude import claude_endpoint, claude_parts

    def endpoint(settings: VertexSettings) -> MessagesEndpoint:
        return attrs.evolve(claude_endpoint(settings), facts=lambda model: facts_of(model, SIGNED))

    return attrs.evolve(
        claude_parts(vertex.auth),
        translator=lambda context: MessagesTranslator(context, endpoint=endpoint(context.settings)),
    )


def openai_models() -> ProviderParts[VertexSettings]:
    from trunkline_vertex.responses import responses_parts

    return responses_parts(vertex.auth)


CLAUDE = "{url}/v1/publishers/anthropic/models"
VERSION = {"anthropic_version": "2026-10-21"}


@pytest.mark.tests_more
class TestVertexClaude(ProviderTests):
    """Claude's models."""

    provider = provider_of(claude_models)
    variant = "messages"
    settings = TestVertexGemini.settings
    credentials = TestVertexGemini.credentials
    wire = MESSAGES
    samples = (
        messages_history(
            f"{CLAUDE}/m:rawPredict", stream_url=f"{CLAUDE}/m:streamRawPredict", model_in_body=False, **VERSION
        ),
    )
    operation_requests = {"count_tokens": counted_request(f"{CLAUDE}/count-tokens:rawPredict", **VERSION)}
    skips = NO_LIMIT


@pytest.mark.tests_more
class TestVertexResponses(ProviderTests):
    """OpenAI's models. No recording confirms the answers."""

    provider = provider_of(openai_models)
    variant = "responses"
    settings = TestVertexGemini.settings
    credentials = TestVertexGemini.credentials
    wire = RESPONSES
    samples = (responses_history("{url}/v1/publishers/openai/v1/responses", include=["reasoning.encrypted_content"]),)


@cache
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class TestServiceAccount(AuthTests):
    """google-auth signs a token with the key of a service account, and exchanges it."""

    provider = "vertex"

    def settings_for(self, url: str) -> dict[str, object]:
        info = {
            "type": "service_account",
            "project_id": "project-1",
            "client_email": "account@project-1.iam.gserviceaccount.com",
            "private_key": private_key(),
            "private_key_id": "1",
            "token_uri": f"{url}{self.token_path}",
        }
        return {"api_url": url, "credentials_json": json.dumps(info), "headers": {"x-canary": canary("headers")}}


class TestWorkloadIdentity(AuthTests):
    """google-auth exchanges a token of another cloud, which it reads from a file."""

    provider = "vertex"
    secrets = (canary("subject"),)
    folder: ClassVar[Path]

    @pytest.fixture(autouse=True)
    def _subject_token(self, tmp_path: Path) -> None:
        type(self).folder = tmp_path
        (tmp_path / "token").write_text(canary("subject"))

    def token_response(self, token: str) -> bytes:
        return json.dumps(
            {
                "access_token": token,
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": self.lifetime,
            }
        ).encode()

    def settings_for(self, url: str) -> dict[str, object]:
        info = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{url}{self.token_path}",
            "credential_source": {"file": str(self.folder / "token")},
        }
        file = self.folder / "credentials.json"
        file.write_text(json.dumps(info))
        return {"api_url": url, "credentials_file": str(file), "project": "project-1"}
