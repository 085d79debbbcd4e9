"""Run Trunkline's conformance kit on `openai-compatible` with Acme's authentication."""

from __future__ import annotations

from trunkline.testing import ProviderTests, canary
from trunkline_openai.testing import CHAT_COMPLETIONS, chat_history, chat_operation_requests

TOKEN = canary("token")


class TestAcme(ProviderTests):
    provider = "openai-compatible"
    variant = "acme"
    settings = {
        "api_url": "{url}/v1",
        "extensions": [
            {
                "name": "acme",
                "token_url": "{url}/token",
                "client_id": "reports",
                "client_secret": canary("client_secret"),
            }
        ],
    }
    routes = {"/token": {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 600}}
    credentials = {"authorization": f"Bearer {TOKEN}"}
    wire = CHAT_COMPLETIONS
    samples = (chat_history("{url}/v1/chat/completions"),)
    operation_requests = chat_operation_requests("{url}/v1")
    skips = {"test_fault_01_name_not_found": "the token URL would be an http URL of another host, which is refused"}
