"""The conformance kit, over the surfaces of Azure."""

from __future__ import annotations

import time
from typing import Any

import attrs
import httpx2
import pytest
from trunkline.authoring.json import dumps
from trunkline.testing import SSE, AuthTests, ProviderTests, Sample, canary
from trunkline_openai.testing import (
    CHAT_COMPLETIONS,
    RESPONSES,
    chat_history,
    chat_operation_requests,
    responses_history,
)


def rated(severity: str) -> dict[str, Any]:
    return {"content_filter_results": {"hate": {"filtered": False, "severity": severity}}}


SAFE = rated("safe")
PRELUDE = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0, **SAFE}]}


def chunk(**choice: Any) -> bytes:
    return SSE.frame(dumps({"id": "c1", "model": "m", "choices": [{"index": 0, "finish_reason": None, **choice}]}), "")


FILTERED = Sample(
    name="the findings of the content filter",
    frames=(
        SSE.frame(dumps(PRELUDE), ""),
        chunk(delta={"content": "You "}, **rated("high")),
        chunk(delta={"content": "fool"}, **SAFE),
        chunk(delta={}, finish_reason="stop"),
        SSE.frame(b"[DONE]", ""),
    ),
    text="You fool",
    # The most severe result is kept.
    kept=('"severity": "high"',),
)


@pytest.mark.tests_more
class TestAzureOpenAI(ProviderTests):
    provider = "azure-openai"
    settings = {"api_url": "{url}/openai/v1", "api_key": canary("api_key")}
    credentials = {"api-key": canary("api_key")}
    wire = CHAT_COMPLETIONS
    samples = (
        FILTERED,
        chat_history(
            "{url}/openai/v1/chat/completions",
            max_tokens=None,
            max_completion_tokens=4321,
            metadata={"kit": "metadata"},
        ),
    )
    operation_requests = chat_operation_requests("{url}/openai/v1")


@pytest.mark.tests_more
class TestAzureOpenAIResponses(ProviderTests):
    provider = "azure-openai"
    variant = "responses"
    settings = {"api_url": "{url}/openai/v1", "api_key": canary("api_key"), "api": "responses"}
    credentials = {"api-key": canary("api_key")}
    wire = RESPONSES
    samples = (responses_history("{url}/openai/v1/responses"),)
    operation_requests = chat_operation_requests("{url}/openai/v1")


@attrs.frozen
class AccessToken:
    """What a credential of azure-identity returns."""

    token: str
    expires_on: float


class TestTokenProvider(AuthTests):
    provider = "azure-openai"
    skips = {
        "test_exchange_has_a_time_limit": "a token provider has its own HTTP client; the limit is that of `CachedToken`"
    }

    @classmethod
    def token(cls, number: int) -> str:
        """Return a token that looks like those of Entra ID."""
        return f"eyJ{super().token(number)}"

    def settings_for(self, url: str) -> dict[str, object]:
        async def token_provider() -> AccessToken:
            async with httpx2.AsyncClient() as client:
                # With a token, as in the exchange of a federated identity.
                response = await client.post(f"{url}{self.token_path}", content=self.token(1))
            if response.is_error:
                raise RuntimeError(response.text)  # azure-identity quotes the response too
            given = response.json()
            return AccessToken(given["access_token"], time.time() + given["expires_in"])

        return {"api_url": url, "token_provider": token_provider, "headers": {"x-canary": canary("headers")}}
