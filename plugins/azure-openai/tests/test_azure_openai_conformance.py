"""The conformance kit, over the surfaces of Azure."""

from __future__ import annotations

from trunkline.testing import ProviderTests, canary
from trunkline_openai.testing import CHAT_COMPLETIONS, RESPONSES


class TestAzureOpenAI(ProviderTests):
    provider = "azure-openai"
    settings = {"api_url": "{url}/openai/v1", "api_key": canary("api_key")}
    wire = CHAT_COMPLETIONS


class TestAzureOpenAIResponses(ProviderTests):
    provider = "azure-openai"
    variant = "responses"
    settings = {"api_url": "{url}/openai/v1", "api_key": canary("api_key"), "api": "responses"}
    wire = RESPONSES
