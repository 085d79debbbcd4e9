"""The conformance kit, over Claude in Azure's Foundry."""

from __future__ import annotations

import pytest
from trunkline.authoring.wire import WireRequest
from trunkline.testing import ProviderTests, canary
from trunkline_anthropic.testing import HEADERS, MESSAGES, NO_LIMIT, SIGNED, counted_request, messages_history


@pytest.mark.tests_more
class TestAzureAnthropic(ProviderTests):
    provider = "azure-anthropic"
    settings = {"api_url": "{url}/anthropic", "api_key": canary("api_key"), "model_facts": SIGNED}
    credentials = {"x-api-key": canary("api_key"), "api-key": canary("api_key")}
    wire = MESSAGES
    families = (("claude-sonnet-4-5", "claude-opus-4-8"),)
    samples = (messages_history("{url}/anthropic/v1/messages", headers=HEADERS),)
    operation_requests: dict[str, WireRequest] = {
        "count_tokens": counted_request("{url}/anthropic/v1/messages/count_tokens", headers=HEADERS)
    }
    skips = NO_LIMIT
