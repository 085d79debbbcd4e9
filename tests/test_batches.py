"""Batches against servers that play the providers' APIs: submit, store, ask again in another process, read, cancel."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
from batch_servers import (
    AnthropicBatches,
    AzureBatches,
    BatchServer,
    BedrockBatches,
    GeminiBatches,
    MistralBatches,
    OpenAIBatches,
)
from trunkline import (
    Batch,
    BatchResults,
    Call,
    CallError,
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    ConnectionFailed,
    ContextTooLong,
    InvalidRequest,
    Middleware,
    NotFound,
    ProtocolViolation,
    ProviderService,
    RemoteError,
    ServiceContext,
    Tool,
    UnsupportedOperation,
    UnsupportedRequest,
    fallback,
    hookimpl,
    limit,
    open_service,
)
from trunkline.authoring.batches import BatchItem, BatchLimits, BatchRequests
from trunkline.authoring.wire import WireRequest
from trunkline.errors import TrunklineError
from trunkline.storage import from_json, to_json
from trunkline.testing import serve

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@attrs.frozen(kw_only=True)
class Door:
    """A provider, its server and its settings."""

    provider: str
    server: type[BatchServer]
    settings: dict[str, Any]
    urls: Mapping[str, str] = {"api_url": ""}
    """The settings that are URLs, and their paths on the server."""
    ignored: dict[str, Any]
    """A field of a request that the provider does not have."""

    def at(self, root: str) -> dict[str, Any]:
        """The settings that are URLs, for the URL of a server."""
        return {name: root + path for name, path in self.urls.items()}


DOORS = {
    "anthropic": Door(
        provider="anthropic",
        server=AnthropicBatches,
        settings={"api_key": "k", "default_model": "claude-haiku-4-5"},
        ignored={"seed": 1},
    ),
    "anthropic-aws": Door(
        provider="anthropic-aws",
        server=AnthropicBatches,
        settings={
            "api_key": "k",
            "aws_region": "us-east-1",
            "workspace_id": "wrkspc_1",
            "default_model": "claude-haiku-4-5",
        },
        ignored={"seed": 1},
    ),
    "openai": Door(
        provider="openai",
        server=OpenAIBatches,
        settings={"api_key": "k", "default_model": "gpt-4.1"},
        ignored={"top_k": 1},
    ),
    "openai-responses": Door(
        provider="openai",
        server=OpenAIBatches,
        settings={"api_key": "k", "default_model": "gpt-4.1", "api": "responses"},
        ignored={"top_k": 1},
    ),
    "azure-openai": Door(
        provider="azure-openai",
        server=AzureBatches,
        settings={"api_key": "k", "default_model": "gpt-4.1"},
        urls={"api_url": "/openai/v1"},
        ignored={"top_k": 1},
    ),
    "bedrock": Door(
        provider="bedrock",
        server=BedrockBatches,
        settings={
            "aws_region": "us-east-1",
            "aws_access_key_id": BedrockBatches.KEYS[0],
            "aws_secret_access_key": BedrockBatches.KEYS[1],
            "batch_s3_uri": "s3://my-bucket/batches/",
            "batch_role_arn": "arn:aws:iam::123456789012:role/batches",
            "default_model": "us.anthropic.claude-sonnet-4-6",
        },
        urls={"api_url": "", "s3_url": "/s3"},
        ignored={"seed": 1},
    ),
    "mistral": Door(
        provider="mistral",
        server=MistralBatches,
        settings={"api_key": "k", "default_model": "mistral-small-latest"},
        ignored={"user_id": "u"},
    ),
    "gemini": Door(
        provider="gemini",
        server=GeminiBatches,
        settings={"api_key": "k", "default_model": "gemini-2.5-flash"},
        ignored={"user_id": "u"},
    ),
}


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


@asynccontextmanager
async def opened(door: Door, **changes: Any) -> AsyncIterator[tuple[ProviderService, BatchServer]]:
    server = door.server()
    async with serve(server) as running:
        server.url = running.url
        settings = {**door.settings, **door.at(running.url), **changes}
        async with open_service(door.provider, **settings) as service:
            yield service, server


async def test_results_are_read_later_from_a_stored_batch(door: Door) -> None:
    async with opened(door) as (service, server):
        requests = {"first": "one", "second": "fail", "third": "three"}
        batch = await service.submit_batch(requests)
        assert not batch.ended
        assert batch.status == "running"
        stored = json.dumps(to_json(batch))
        server.status = "completed"

        # Another process knows the stored text only.
        async with open_service(door.provider, **door.settings, **door.at(server.url)) as later:
            again = await later.get_batch(from_json(Batch, json.loads(stored)))
            assert again.status == "completed"
            assert [request.id for request in again.requests] == list(requests)
            results = dict(await later.batch_results(again))
    assert set(results) == set(requests)
    first, second, third = (results[key] for key in requests)
    assert isinstance(first, ChatResponse)
    assert isinstance(third, ChatResponse)
    assert (first.text, third.text) == ("ONE", "THREE")
    assert first.usage is not None
    assert first.usage.input_tokens == 20
    assert (first.provider, first.service) == (door.provider, door.provider)
    assert isinstance(second, ContextTooLong)
    assert second.provider == door.provider


async def test_a_response_has_the_warnings_of_its_request(door: Door) -> None:
    async with opened(door) as (service, server):
        batch = await service.submit_batch({"a": "one", "b": "two"}, **door.ignored)
        server.status = "completed"
        results = dict(await service.batch_results(batch))
    for request in batch.requests:
        response = results[request.id]
        assert isinstance(response, ChatResponse)
        assert request.warnings
        assert set(request.warnings) <= set(response.warnings)


async def test_a_batch_that_runs_has_no_results(door: Door) -> None:
    async with opened(door) as (service, _):
        batch = await service.submit_batch({"a": "one", "b": "two"})
        with pytest.raises(CallError, match="has no results yet"):
            await service.batch_results(batch)


@pytest.mark.parametrize("status", ["cancelled", "expired"])
async def test_a_request_that_did_not_run_has_an_error(door: Door, status: str) -> None:
    async with opened(door) as (service, server):
        batch = await service.submit_batch({"a": "one", "b": "skip"})
        if status == "cancelled":
            assert (await service.cancel_batch(batch)).status in ("cancelling", "cancelled")
        server.status = status
        results = await service.batch_results(batch)
    assert results.batch.status == status
    found = dict(results)
    assert isinstance(found["a"], ChatResponse)
    error = found["b"]
    assert isinstance(error, RemoteError)
    assert error.code == f"batch_{status}"
    assert error.retryable


async def test_an_id_alone_finds_the_batch(door: Door) -> None:
    async with opened(door) as (service, server):
        batch = await service.submit_batch({"a": "one", "b": "fail"})
        server.status = "completed"
        found = await service.get_batch(batch.id)
        assert found == attrs.evolve(await service.get_batch(batch), requests=())
        results = dict(await service.batch_results(batch.id))
        assert isinstance(results["a"], ChatResponse)
        assert isinstance(results["b"], TrunklineError)


async def test_a_submission_whose_answer_is_lost_is_not_sent_again(door: Door) -> None:
    async with opened(door) as (service, server):
        if door.provider == "bedrock":  # which recognises it by its token
            server.fails = 1
            await service.submit_batch({"a": "one", "b": "two"})
            assert len(server.submitted) == 1
            return
        server.fails = 1
        with pytest.raises(ConnectionFailed):
            await service.submit_batch({"a": "one", "b": "two"})
        assert len(server.submitted) == 1


async def test_a_refused_submission_is_sent_again(door: Door) -> None:
    async with opened(door) as (service, server):
        server.limited = 1
        await service.submit_batch({"a": "one", "b": "two"})
        assert len(server.submitted) == 1


async def test_nothing_is_submitted_if_a_request_cannot_be_sent(door: Door) -> None:
    async with opened(door, strict=True) as (service, server):
        with pytest.raises(UnsupportedRequest, match="request 'b' of the batch"):
            await service.submit_batch({"a": "one", "b": ChatRequest(messages="two", **door.ignored)})
        assert not server.submitted


async def test_an_id_that_the_provider_does_not_accept_is_refused(door: Door) -> None:
    async with opened(door) as (service, server):
        with pytest.raises(InvalidRequest, match="does not accept the request id"):
            await service.submit_batch({"a": "one", "b" * 2000: "two"})
        with pytest.raises(InvalidRequest, match="at least"):
            await service.submit_batch({})
        assert not server.submitted


async def test_batches_are_listed(door: Door) -> None:
    async with opened(door) as (service, _):
        batch = await service.submit_batch({"a": "one", "b": "two"})
        assert [listed.id for listed in await service.list_batches()] == [batch.id]


async def test_an_unknown_batch_is_not_found(door: Door) -> None:
    async with opened(door) as (service, _):
        with pytest.raises(NotFound):
            await service.get_batch("nothing")


async def test_a_batch_of_another_provider_is_refused(door: Door) -> None:
    async with opened(door) as (service, _):
        with pytest.raises(InvalidRequest, match="was submitted to the provider 'acme'"):
            await service.get_batch(Batch(id="b1", status="running", provider="acme"))


async def test_results_can_be_read_twice(door: Door) -> None:
    async with opened(door) as (service, server):
        batch = await service.submit_batch({"a": "one", "b": "two"})
        server.status = "completed"
        results = await service.batch_results(batch)
        assert isinstance(results, BatchResults)
        assert [request_id for request_id, _ in results] == [request_id for request_id, _ in results]


async def test_a_composed_service_passes_batches_on_only_if_it_has_one_member() -> None:
    door = DOORS["anthropic"]
    async with opened(door) as (service, _):
        batch = await limit(service, concurrency=1).submit_batch({"a": "one"})
        assert batch.service == "anthropic"
        composed = fallback(service, open_service("ollama", default_model="m"))
        with pytest.raises(UnsupportedOperation, match="a batch belongs to one provider"):
            await composed.submit_batch({"a": "one"})


async def test_a_provider_without_batches_says_so() -> None:
    async with open_service("ollama", default_model="m") as service:
        with pytest.raises(UnsupportedOperation, match="has no submit_batch"):
            await service.submit_batch({"a": "one"})


async def test_a_large_batch_for_gemini_is_uploaded_as_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_gemini.batches.INLINE_LIMIT", 10)
    async with opened(DOORS["gemini"]) as (service, server):
        batch = await service.submit_batch({"a": "one", "b": "fail", "c": "skip"})
        assert len(server.files["files/in"].splitlines()) == 3
        server.status = "cancelled"
        results = dict(await service.batch_results(batch))
    assert isinstance(results["a"], ChatResponse)
    assert results["a"].text == "ONE"
    assert isinstance(results["b"], ContextTooLong)
    assert getattr(results["c"], "code", None) == "batch_cancelled"


async def test_an_upload_to_another_server_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_gemini.batches.INLINE_LIMIT", 10)
    async with opened(DOORS["gemini"]) as (service, server):
        server.url = "http://127.0.0.1:9"
        with pytest.raises(ProtocolViolation, match="another server"):
            await service.submit_batch({"a": "one"})


@pytest.mark.parametrize("name", ["openai", "mistral", "gemini"])
async def test_a_batch_for_several_models_is_refused(name: str) -> None:
    async with opened(DOORS[name]) as (service, server):
        with pytest.raises(InvalidRequest, match="one model per batch"):
            await service.submit_batch({"a": "one", "b": ChatRequest(messages="two", model="other")})
        assert not server.submitted


def test_a_batch_that_is_too_large_is_refused() -> None:
    limits = BatchLimits(requests=2, bytes=100, least_requests=2)
    small = BatchItem(id="a", model="m", wire_request=WireRequest(url="http://host/", body=b"x" * 50))
    limits.check([small, small])
    with pytest.raises(InvalidRequest, match="at most 100 bytes, and this one has 150"):
        limits.check([small, small, small])
    limits.check_ids(["a", "b"])
    with pytest.raises(InvalidRequest, match="at most 2 requests"):
        limits.check_ids(["a", "b", "c"])
    with pytest.raises(InvalidRequest, match="at least 2 requests"):
        limits.check_ids(["a"])


async def test_a_line_that_cannot_be_read_raises_when_it_is_reached() -> None:
    class Broken(OpenAIBatches):
        def _run(self) -> None:
            super()._run()
            self.files["file-out"] += b"\n<html>"

    async with opened(attrs.evolve(DOORS["openai"], server=Broken)) as (service, server):
        batch = await service.submit_batch({"a": "one"})
        server.status = "completed"
        results = await service.batch_results(batch)
        found = iter(results)
        assert next(found)[0] == "a"
        with pytest.raises(ProtocolViolation, match="a line of the batch's results is"):
            next(found)


async def test_a_middleware_sees_and_changes_the_requests() -> None:
    class Shorter(Middleware):
        async def run(self, call: Call, operation: str, value: Any, proceed: Any) -> Any:
            if isinstance(value, BatchRequests):
                assert operation == "submit_batch"
                value = attrs.evolve(value, requests={"a": value.requests["a"]})
            return await proceed(value)

    class Extension:
        @hookimpl
        def trunkline_middleware(self, context: ServiceContext[Any]) -> Middleware:
            return Shorter()

    async with opened(DOORS["anthropic"], extensions=[Extension()]) as (service, server):
        batch = await service.submit_batch({"a": "one", "b": "two"})
        assert [request.id for request in batch.requests] == ["a"]
        assert len(server.submitted[0]["requests"]) == 1


async def test_a_batch_that_failed_has_an_error_for_each_request() -> None:
    class Refused(OpenAIBatches):
        def _batch(self, total: int = 0) -> dict[str, Any]:
            errors = {"object": "list", "data": [{"code": "x", "message": "line 1 is no JSON", "line": 1}]}
            return {**super()._batch(total), "status": "failed", "errors": errors, "output_file_id": None}

    async with opened(attrs.evolve(DOORS["openai"], server=Refused)) as (service, _):
        batch = await service.submit_batch({"a": "one"})
        assert (batch.status, batch.message) == ("failed", "line 1 is no JSON")
        ((_, error),) = await service.batch_results(batch)
    assert isinstance(error, RemoteError)
    assert error.code == "batch_failed"
    assert "line 1 is no JSON" in str(error)


async def test_an_api_key_of_bedrock_is_not_sent_to_s3() -> None:
    settings = {**DOORS["bedrock"].settings, "api_key": "bedrock-api-key-0123456789"}
    for name in ("aws_access_key_id", "aws_secret_access_key"):
        del settings[name]
    async with opened(attrs.evolve(DOORS["bedrock"], settings=settings)) as (service, server):
        with pytest.raises(ConfigurationError, match="IAM credentials, not a Bedrock API key"):
            await service.submit_batch({"a": "one"})
        assert not server.submitted
        assert not server.files


async def test_a_batch_for_bedrock_needs_a_place_a_role_and_no_tools() -> None:
    door = DOORS["bedrock"]
    for name in ("batch_s3_uri", "batch_role_arn"):
        async with opened(door, **{name: None}) as (service, server):
            with pytest.raises(ConfigurationError, match=name):
                await service.submit_batch({"a": "one"})
            assert not server.files
    async with opened(door) as (service, server):
        with pytest.raises(InvalidRequest, match="request 'a' of the batch: Bedrock's batches accept no tools"):
            await service.submit_batch({"a": "one"}, tools=[Tool(name="add", parameters={"type": "object"})])
        assert not server.files
