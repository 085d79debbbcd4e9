"""The conformance kit, over the plugin's providers and wires."""

from __future__ import annotations

from trunkline.testing import ProviderTests, canary
from trunkline_openai.testing import CHAT_COMPLETIONS, RESPONSES, THOUGHT

HI = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


class TestOpenAI(ProviderTests):
    provider = "openai"
    settings = {"api_url": "{url}/v1", "api_key": canary("api_key")}
    wire = CHAT_COMPLETIONS
    request_body = {**HI, "stream_options": {"include_usage": True, "include_obfuscation": False}}


class TestOpenAIResponses(ProviderTests):
    provider = "openai"
    variant = "responses"
    settings = {"api_url": "{url}/v1", "api_key": canary("api_key"), "api": "responses"}
    wire = RESPONSES


class TestOpenAICompatible(ProviderTests):
    provider = "openai-compatible"
    settings = {"api_url": "{url}/v1", "api_key": canary("api_key")}
    wire = CHAT_COMPLETIONS
    request_body = {**HI, "stream_options": {"include_usage": True}}
    samples = (THOUGHT,)
