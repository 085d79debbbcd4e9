"""The conformance kit, over the Claude Platform on AWS."""

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

WORKSPACE = {**HEADERS, "anthropic-workspace-id": "wrkspc_1"}


@pytest.mark.tests_more
class TestAnthropicAWS(ProviderTests):
    provider = "anthropic-aws"
    settings = {
        "api_url": "{url}",
        "aws_region": "us-east-1",
        "workspace_id": "wrkspc_1",
        "aws_access_key_id": "AKIDEXAMPLE",
        "aws_secret_access_key": canary("aws_secret_access_key"),
        "aws_session_token": canary("aws_session_token"),
        "model_facts": SIGNED,
    }
    credentials = {"x-amz-security-token": canary("aws_session_token")}
    wire = MESSAGES
    families = (("claude-sonnet-4-5", "claude-opus-4-8"),)
    samples = (messages_history("{url}/v1/messages", headers=WORKSPACE),)
    model_pages = MODEL_PAGES
    listed_models = LISTED_MODELS
    operation_requests = messages_operation_requests("{url}", headers=WORKSPACE)
    skips = NO_LIMIT
