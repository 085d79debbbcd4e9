"""The conformance kit, over the Claude models on Google Cloud that Anthropic manages.

The kit over the credentials of Google, which `vertex` shares, is in test_vertex_conformance.py.
"""

from __future__ import annotations

import pytest
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


@pytest.mark.tests_more
class TestAnthropicGoogleCloud(ProviderTests):
    provider = "anthropic-google-cloud"
    settings = {
        "api_url": "{url}",
        "project": "p",
        "workspace_id": "wrkspc_1",
        "access_token": canary("access_token"),
        "model_facts": SIGNED,
    }
    credentials = {"authorization": f"Bearer {canary('access_token')}"}
    wire = MESSAGES
    families = (("claude-sonnet-4-5", "claude-opus-4-8"),)
    samples = (messages_history("{url}/v1/messages", headers=HEADERS),)
    model_pages = MODEL_PAGES
    listed_models = LISTED_MODELS
    operation_requests = messages_operation_requests("{url}", headers=HEADERS)
    skips = NO_LIMIT
