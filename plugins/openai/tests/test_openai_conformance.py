"""The conformance kit, over the plugin's providers and wires."""

from __future__ import annotations

from trunkline.testing import ProviderTests, canary
from trunkline_openai.testing import CHAT_COMPLETIONS, RESPONSES


class TestOpenAI(ProviderTests):
    provider = "openai"
    settings = {"api_url": "{url}/v1", "api_key": canary("api_key")}
    wire = CHAT_COMPLETIONS


class TestOpenAIResponses(ProviderTests):
    provider = "openai"
    variant = "responses"
    settings = {"api_url": "{url}/v1", "api_key": canary("api_key"), "api": "responses"}
    wire = RESPONSES


class TestOpenAICompatible(ProviderTests):
    provider = "openai-compatible"
    settings = {"api_url": "{url}/v1", "api_key": canary("api_key")}
    wire = CHAT_COMPLETIONS
