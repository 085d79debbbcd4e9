"""The conformance kit, over the Messages API."""

from __future__ import annotations

from trunkline.testing import ProviderTests, canary
from trunkline_anthropic.testing import (
    HEADERS,
    LISTED_MODELS,
    MESSAGES,
    MODEL_PAGES,
    NO_LIMIT,
    SIGNED,
    messages_history,
    messages_operation_requests,
)


class TestAnthropic(ProviderTests):
    provider = "anthropic"
    settings = {"api_url": "{url}", "api_key": canary("api_key"), "model_facts": SIGNED}
    credentials = {"x-api-key": canary("api_key")}
    wire = MESSAGES
    families = (("claude-sonnet-4-5", "claude-opus-4-8"), ("deepseek-chat",), ("kimi-k2",))
    samples = (messages_history("{url}/v1/messages", headers=HEADERS),)
    model_pages = MODEL_PAGES
    listed_models = LISTED_MODELS
    operation_requests = messages_operation_requests("{url}", headers=HEADERS)
    skips = NO_LIMIT
