"""The conformance kit, over the plugin's providers and wires."""

from __future__ import annotations

from typing import Any

import pytest
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.wire import WireRequest
from trunkline.testing import SSE, ProviderTests, Sample, canary
from trunkline_openai.testing import (
    CHAT_COMPLETIONS,
    RESPONSES,
    chat_history,
    chat_operation_requests,
    chat_reasoning,
    responses_history,
)


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return SSE.frame(dumps({"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}), "")


REFUSAL = Sample(
    name="a refusal",
    frames=(
        chunk({"role": "assistant", "refusal": ""}),
        chunk({"refusal": "I cannot "}),
        chunk({"refusal": "help."}),
        chunk({}, "stop"),
        SSE.frame(b"[DONE]", ""),
    ),
    body=dumps(
        {
            "id": "c1",
            "object": "chat.completion",
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": None, "refusal": "I cannot help."},
                    "finish_reason": "stop",
                }
            ],
        }
    ),
    text="I cannot help.",
    refusal="I cannot help.",
)


class TestOpenAI(ProviderTests):
    provider = "openai"
    settings = {"api_url": "{url}/v1", "api_key": canary("api_key")}
    credentials = {"authorization": f"Bearer {canary('api_key')}"}
    wire = CHAT_COMPLETIONS
    samples = (
        chat_history(
            "{url}/v1/chat/completions",
            max_tokens=None,
            max_completion_tokens=4321,
            metadata={"kit": "metadata"},
            stream_options={"include_usage": True, "include_obfuscation": False},
        ),
        REFUSAL,
    )
    operation_requests = chat_operation_requests("{url}/v1")


RESPONSES_HISTORY = responses_history(
    "{url}/v1/responses",
    headers={"openai-organization": "org-1", "openai-project": "proj_1"},
    include=["reasoning.encrypted_content"],
    stream_options={"include_obfuscation": False},
)


def counted() -> bytes:
    """The fields of the request that change its number of input tokens."""
    assert RESPONSES_HISTORY.unstreamed_wire is not None
    body = loads(RESPONSES_HISTORY.unstreamed_wire.body)
    return dumps({name: body[name] for name in ("model", "instructions", "input", "tools", "tool_choice")})


class TestOpenAIResponses(ProviderTests):
    provider = "openai"
    variant = "responses"
    settings = {
        "api_url": "{url}/v1",
        "api_key": canary("api_key"),
        "api": "responses",
        "organization_id": "org-1",
        "project_id": "proj_1",
    }
    credentials = {"authorization": f"Bearer {canary('api_key')}"}
    wire = RESPONSES
    samples = (RESPONSES_HISTORY,)
    operation_requests = {
        **chat_operation_requests("{url}/v1"),
        "count_tokens": WireRequest(
            url="{url}/v1/responses/input_tokens", headers={"content-type": "application/json"}, body=counted()
        ),
    }


class TestOpenAICompatible(ProviderTests):
    provider = "openai-compatible"
    settings = {"api_url": "{url}/v1", "api_key": canary("api_key")}
    credentials = {"authorization": f"Bearer {canary('api_key')}"}
    wire = CHAT_COMPLETIONS
    samples = (chat_reasoning("reasoning_content"), chat_history("{url}/v1/chat/completions"))
    operation_requests = chat_operation_requests("{url}/v1")


@pytest.mark.tests_more
class TestOpenAICompatibleResponses(ProviderTests):
    provider = "openai-compatible"
    variant = "responses"
    settings = {"api_url": "{url}/v1", "api_key": canary("api_key"), "api": "responses"}
    credentials = {"authorization": f"Bearer {canary('api_key')}"}
    wire = RESPONSES
    samples = (responses_history("{url}/v1/responses", metadata=None),)
    operation_requests = chat_operation_requests("{url}/v1")
