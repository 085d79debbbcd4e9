"""The conformance kit, over the wire of a model in the process; its transport has tests of its own."""

from __future__ import annotations

from trunkline.testing import ProviderTests
from trunkline_openai.testing import CHAT_COMPLETIONS, chat_history, chat_operation_requests


class TestLlamaCpp(ProviderTests):
    provider = "llamacpp"
    wire = CHAT_COMPLETIONS
    samples = (chat_history("/v1/chat/completions", top_k=37),)
    operation_requests = chat_operation_requests("/v1")
