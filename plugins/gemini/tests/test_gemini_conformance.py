"""The conformance kit, over generateContent."""

from __future__ import annotations

import attrs
from trunkline.authoring.json import dumps
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest
from trunkline.response import ModelInfo
from trunkline.testing import EMBED_DIMENSIONS, EMBED_TEXTS, TOOL_HISTORY, ProviderTests, canary
from trunkline_gemini.testing import GENERATE_CONTENT, HISTORY_BODY, JSON_TYPE

HISTORY = attrs.evolve(
    GENERATE_CONTENT.samples[0],
    name="after a history of tools",
    request=TOOL_HISTORY,
    request_wire=WireRequest(
        url="{url}/v1beta/models/m:streamGenerateContent?alt=sse", headers=JSON_TYPE, body=dumps(HISTORY_BODY)
    ),
    unstreamed_wire=WireRequest(
        url="{url}/v1beta/models/m:generateContent", headers=JSON_TYPE, body=dumps(HISTORY_BODY)
    ),
)

TUNED = attrs.evolve(
    GENERATE_CONTENT.samples[0],
    name="of a tuned model",
    request=ChatRequest(messages="Hi", model="tunedModels/mine"),
    request_wire=WireRequest(
        url="{url}/v1beta/tunedModels/mine:streamGenerateContent?alt=sse",
        headers=JSON_TYPE,
        body=dumps({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}),
    ),
)


class TestGemini(ProviderTests):
    provider = "gemini"
    settings = {"api_url": "{url}", "api_key": canary("api_key")}
    credentials = {"x-goog-api-key": canary("api_key")}
    wire = GENERATE_CONTENT
    families = (("gemini-3-flash", "gemini-3.5-flash"), ("gemini-4-pro",), ("gemini-2.5-flash",), ("gemma-3-27b-it",))
    samples = (HISTORY, TUNED)
    model_pages = (
        dumps(
            {
                "models": [
                    {
                        "name": "models/m1",
                        "displayName": "Model 1",
                        "inputTokenLimit": 1048576,
                        "outputTokenLimit": 65536,
                        "supportedGenerationMethods": ["generateContent", "countTokens", "createCachedContent"],
                        "thinking": True,
                    }
                ],
                "nextPageToken": "next",
            }
        ),
        dumps({"models": [{"name": "models/m2"}]}),
    )
    listed_models = (
        ModelInfo(
            id="m1",
            name="Model 1",
            context_window=1048576,
            output_token_limit=65536,
            capabilities=frozenset({"chat", "reasoning"}),
        ),
        ModelInfo(id="m2"),
    )
    operation_requests = {
        "model_info": WireRequest(method="GET", url="{url}/v1beta/models/m"),
        "list_models": WireRequest(method="GET", url="{url}/v1beta/models?pageSize=1000"),
        "embed": WireRequest(
            url="{url}/v1beta/models/m:batchEmbedContents",
            headers=JSON_TYPE,
            body=dumps(
                {
                    "requests": [
                        {
                            "model": "models/m",
                            "content": {"parts": [{"text": text}]},
                            "outputDimensionality": EMBED_DIMENSIONS,
                        }
                        for text in EMBED_TEXTS
                    ]
                }
            ),
        ),
        "count_tokens": WireRequest(
            url="{url}/v1beta/models/m:countTokens",
            headers=JSON_TYPE,
            body=dumps({"generateContentRequest": {"model": "models/m", **HISTORY_BODY}}),
        ),
    }
