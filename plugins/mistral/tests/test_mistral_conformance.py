"""The conformance kit, over Mistral's form of the Chat Completions dialect."""

from __future__ import annotations

from trunkline.testing import ProviderTests, canary
from trunkline_openai.testing import CHAT_COMPLETIONS


class TestMistral(ProviderTests):
    provider = "mistral"
    settings = {"api_url": "{url}/v1", "api_key": canary("api_key")}
    wire = CHAT_COMPLETIONS
