"""The whole way of a call, over loopback sockets, on asyncio and trio."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trunkline
from trunkline.errors import (
    InvalidRequest,
    PermissionDenied,
    ProtocolViolation,
    UnsupportedOperation,
    UnsupportedRequest,
)
from trunkline.messages import Image, user
from trunkline.request import EmbedRequest
from trunkline.response import Usage
from trunkline.testing import Exchange, serve

Encode = Callable[..., bytes]
STREAM = {"content-type": "application/vnd.amazon.eventstream"}
ANSWER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
}


def opened(url: str, **settings: Any) -> trunkline.Service:
    options = {"aws_region": "us-east-1", "api_key": "canary-bearer", "default_model": "amazon.nova-lite-v1:0"}
    return trunkline.open_service("bedrock", **{**options, "api_url": url, **settings})


@pytest.fixture
def parts(event: Encode) -> list[bytes]:
    return [
        event("messageStart", {"role": "assistant"}),
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hel"}}),
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "lo"}}),
        event("contentBlockStop", {"contentBlockIndex": 0}),
        event("messageStop", {"stopReason": "end_turn"}),
        event("metadata", {"usage": ANSWER["usage"], "metrics": {"latencyMs": 1}}),
    ]


@pytest.mark.anyio
async def test_a_chat_and_a_stream_ask_with_the_bearer_token(parts: list[bytes]) -> None:
    async def handler(exchange: Exchange) -> None:
        assert exchange.request.headers["authorization"] == "Bearer canary-bearer"
        if exchange.request.target.endswith("converse"):
            await exchange.respond(json.dumps(ANSWER).encode())
            return
        await exchange.start(headers=STREAM)
        for part in parts:
            await exchange.chunk(part)
        await exchange.end()

    async with serve(handler) as server, opened(server.url + "/proxy") as service:
        await service.chat("x")
        async with service.stream("x") as stream:
            async for _ in stream:
                pass
        assert [request.target for request in server.requests] == [
            "/proxy/model/amazon.nova-lite-v1%3A0/converse",
            "/proxy/model/amazon.nova-lite-v1%3A0/converse-stream",
        ]


@pytest.mark.anyio
async def test_headers_of_the_settings_win_and_are_signed() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(json.dumps(ANSWER).encode())

    keys = {"api_key": None, "aws_access_key_id": "AKIAX", "aws_secret_access_key": "s"}
    async with (
        serve(handler) as server,
        opened(server.url, **keys, headers={"Accept": "own", "X-Amz-Own": "1"}) as service,
    ):
        await service.chat("x")
        headers = server.requests[0].headers
    assert headers["accept"] == "own"
    assert "x-amz-own" in headers["authorization"]


@pytest.mark.anyio
async def test_an_error_is_typed_by_its_header_and_shows_no_bearer_token() -> None:
    async def handler(exchange: Exchange) -> None:
        headers = {"x-amzn-errortype": "AccessDeniedException:http://x/", "x-amzn-requestid": "r-1"}
        await exchange.respond(b'{"Message":"no canary-bearer"}', status=403, headers=headers)

    async with serve(handler) as server, opened(server.url, max_retries=0) as service:
        with pytest.raises(PermissionDenied) as caught:
            await service.chat("x")
        assert caught.value.request_id == "r-1"
        assert "canary" not in f"{caught.value} {caught.value.body}"


@pytest.mark.anyio
async def test_a_strict_service_refuses_what_it_would_warn_of() -> None:
    async with opened("http://127.0.0.1:9", strict=True) as service:
        with pytest.raises(UnsupportedRequest, match="seed"):
            await service.chat(trunkline.ChatRequest(messages="x", seed=1))


@pytest.mark.anyio
async def test_media_by_url_is_fetched_only_where_allowed_and_s3_passed_on() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(json.dumps(ANSWER).encode())

    async with serve(handler) as server:
        async with opened(server.url) as service:
            response = await service.chat([user("x", Image(url="https://example.com/a.png"))])
            assert [warning.kind for warning in response.warnings] == ["unsupported"]
        async with opened(server.url, fetch_urls=True) as service:
            await service.chat([user("x", Image(url="s3://bucket/a.png"))])
            with pytest.raises(trunkline.FetchFailed):
                await service.chat([user("x", Image(url=f"{server.url}/a.png"))])
        assert b"s3://bucket/a.png" in server.requests[-1].body


@pytest.mark.anyio
async def test_models_are_listed_page_by_page() -> None:
    models = {"modelSummaries": [{"modelId": "m", "modelName": "M"}, {"modelId": 1}]}
    first = {
        "inferenceProfileSummaries": [{"inferenceProfileId": "us.m", "inferenceProfileName": "US M"}],
        "nextToken": "a/b=",
    }
    last = {"inferenceProfileSummaries": [{"inferenceProfileId": "eu.m"}]}

    async def handler(exchange: Exchange) -> None:
        target = exchange.request.target
        page = models if target == "/foundation-models" else last if "nextToken" in target else first
        await exchange.respond(json.dumps(page).encode())

    async with serve(handler) as server, opened(server.url) as service:
        found = await service.list_models()
        assert [(model.id, model.name) for model in found] == [("m", "M"), ("us.m", "US M"), ("eu.m", None)]
        assert [request.target for request in server.requests] == [
            "/foundation-models",
            "/inference-profiles?maxResults=1000",
            "/inference-profiles?maxResults=1000&nextToken=a%2Fb%3D",
        ]
        assert all("content-type" not in request.headers for request in server.requests)


@pytest.mark.anyio
async def test_the_endpoint_of_a_vpc_lists_no_models() -> None:
    async with opened("https://vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com") as service:
        with pytest.raises(UnsupportedOperation, match="control plane"):
            await service.list_models()


@pytest.mark.anyio
async def test_tokens_are_counted() -> None:
    async def handler(exchange: Exchange) -> None:
        assert exchange.request.target == "/model/amazon.nova-lite-v1%3A0/count-tokens"
        await exchange.respond(b'{"inputTokens": 7}' if b"good" in exchange.request.body else b'{"inputTokens": "7"}')

    async with serve(handler) as server, opened(server.url) as service:
        assert await service.count_tokens("good") == 7
        with pytest.raises(ProtocolViolation):
            await service.count_tokens("bad")


@pytest.mark.parametrize(
    ("model", "request_options", "sent", "answer", "vectors", "usage"),
    [
        (
            "cohere.embed-v4:0",
            {"inputs": ["a", "b"], "dimensions": 256},
            {
                "texts": ["a", "b"],
                "input_type": "search_document",
                "embedding_types": ["float"],
                "output_dimension": 256,
            },
            {"embeddings": {"float": [[1, 2], [3, 4]]}},
            ((1.0, 2.0), (3.0, 4.0)),
            5,
        ),
        (
            "cohere.embed-english-v3",
            {"inputs": "a", "provider_options": {"bedrock": {"input_type": "search_query"}}},
            {"texts": ["a"], "input_type": "search_query", "embedding_types": ["float"]},
            {"embeddings": [[1.5]]},
            ((1.5,),),
            5,
        ),
        (
            "amazon.titan-embed-text-v2:0",
            {"inputs": "a", "dimensions": 512},
            {"inputText": "a", "dimensions": 512},
            {"embedding": [0.5], "inputTextTokenCount": 3},
            ((0.5,),),
            3,
        ),
    ],
)
@pytest.mark.anyio
async def test_embeddings(
    model: str, request_options: dict[str, Any], sent: Any, answer: Any, vectors: Any, usage: int
) -> None:
    async def handler(exchange: Exchange) -> None:
        headers = {"content-type": "application/json", "x-amzn-bedrock-input-token-count": "5"}
        await exchange.respond(json.dumps(answer).encode(), headers=headers)

    async with serve(handler) as server, opened(server.url) as service:
        response = await service.embed(EmbedRequest(model=model, **request_options))
        assert response.embeddings == vectors
        assert response.usage == Usage(input_tokens=usage, total_tokens=usage)
        assert json.loads(server.requests[0].body) == sent
        assert server.requests[0].target.endswith("/invoke")


@pytest.mark.parametrize(
    ("model", "kind"),
    [("amazon.titan-embed-text-v2:0", InvalidRequest), ("anthropic.claude-v2", UnsupportedOperation)],
)
@pytest.mark.anyio
async def test_embeddings_that_cannot_be_asked_for(model: str, kind: type[Exception]) -> None:
    async with opened("http://127.0.0.1:9") as service:
        with pytest.raises(kind):
            await service.embed(EmbedRequest(inputs=["a", "b"], model=model))


@pytest.mark.anyio
async def test_embeddings_that_are_none_are_a_violation() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'{"embeddings": [["a"]]}')

    async with serve(handler) as server, opened(server.url) as service:
        with pytest.raises(ProtocolViolation):
            await service.embed(EmbedRequest(inputs="a", model="cohere.embed-v4:0"))


def test_importing_the_provider_imports_neither_botocore_nor_the_parser() -> None:
    code = (
        "import sys, trunkline_bedrock; "
        "print([name for name in sys.modules if name.partition('.')[0] in ('botocore', 'aiobotocore', 'aiohttp') "
        "or name in ('trunkline_bedrock.translate', 'trunkline_bedrock.parse')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_bearer_token_needs_no_aiobotocore() -> None:
    code = """
import sys, anyio, trunkline
from trunkline.errors import ConnectionFailed
async def main():
    settings = dict(aws_region="us-east-1", api_key="b", api_url="http://127.0.0.1:9", default_model="m", max_retries=0)
    async with trunkline.open_service("bedrock", **settings) as service:
        try:
            await service.chat("x")
        except ConnectionFailed:
            print([name for name in ("aiobotocore", "botocore.auth") if name in sys.modules])
anyio.run(main)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
