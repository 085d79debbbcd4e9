"""The conformance kit, over the plugin's providers and wires."""

from __future__ import annotations

from trunkline.testing.conformance import ProviderTests
from trunkline.testing.wireformat import canary
from trunkline_openai.testing import CHAT_COMPLETIONS


class TestOpenAI(ProviderTests):
    provider = "openai"
    settings = {"api_url": "{url}/v1", "api_key": canary("api_key")}
    wire = CHAT_COMPLETIONS
