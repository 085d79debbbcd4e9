"""Batches against servers that play the providers' APIs: submit, store, ask again in another process, read, cancel."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
import trunkline.batch
from batch_servers import (
    AnthropicBatches,
    AzureBatches,
    BatchServer,
    BedrockBatches,
    GeminiBatches,
    MistralBatches,
    OpenAIBatches,
    s3_error,
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
        with pytest.raises(InvalidRequest, match="a batch needs at least"):
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


OPENAI_RESPONSE = {
    "id": "chatcmpl-1",
    "model": "gpt-4.1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
}


def result_line(request_id: object, body: object = None, status: object = 200) -> str:
    response = {"status_code": status, "request_id": "r", "body": OPENAI_RESPONSE if body is None else body}
    return json.dumps({"id": "x", "custom_id": request_id, "response": response, "error": None})


def with_results(*lines: str, end: str = "\n") -> Door:
    """OpenAI's batches, whose file with the results has these lines."""

    class Server(OpenAIBatches):
        def _run(self) -> None:
            self.files["file-out"] = end.join(lines).encode()

    return attrs.evolve(DOORS["openai"], server=Server)


async def results_of(door: Door, *, by_id: bool = False, **changes: Any) -> BatchResults:
    async with opened(door, **changes) as (service, server):
        batch = await service.submit_batch({"a": "one", "b": "two", "c": "three"})
        server.status = "completed"
        return await service.batch_results(batch.id if by_id else batch)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"custom_id": "b", "resp', "is not JSON"),
        ("[1]", "is a JSON list"),
        (result_line(None), "has no id"),
        ("[" * 200 + "]" * 200, "nested deeper"),
        ('{"custom_id": ' + "[" * 200, "nested deeper"),
    ],
)
async def test_a_result_that_cannot_be_read_does_not_hide_the_others(line: str, why: str) -> None:
    door = with_results(result_line("a"), line, result_line("c"))
    found = dict(await results_of(door))
    assert [key for key, result in found.items() if isinstance(result, ChatResponse)] == ["a", "c"]
    assert isinstance(found["b"], ProtocolViolation)
    assert why in str(found["b"])

    # The requests are not known, so neither is whose result the line is.
    seen: list[str] = []
    with pytest.raises(ProtocolViolation, match=why):
        for request_id, _ in await results_of(door, by_id=True):
            seen.append(request_id)
    assert seen == ["a", "c"]


async def test_an_unreadable_result_is_not_ascribed_to_several_requests() -> None:
    results = iter(await results_of(with_results(result_line("a"), "{")))
    found = dict(next(results) for _ in range(3))
    assert "without a result" in str(found["b"])
    assert "without a result" in str(found["c"])
    with pytest.raises(ProtocolViolation, match="is not JSON"):
        next(results)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\n \n"])
async def test_lines_may_end_in_any_way(end: str) -> None:
    found = dict(await results_of(with_results(result_line("a"), result_line("b"), result_line("c"), "", end=end)))
    assert all(isinstance(result, ChatResponse) for result in found.values())


async def test_ids_that_were_not_submitted_are_passed_on_and_missing_ones_are_errors() -> None:
    found = dict(await results_of(with_results(result_line("z"), result_line("a"), result_line("a"))))
    assert list(found) == ["z", "a", "b", "c"]
    assert isinstance(found["z"], ChatResponse)
    assert isinstance(found["b"], ProtocolViolation)


async def test_the_limit_on_json_objects_applies_to_each_result(monkeypatch: pytest.MonkeyPatch) -> None:
    # 50,000 results of OpenAI have a million objects and arrays together.
    monkeypatch.setattr("trunkline.authoring.structure.MAX_CONTAINERS", 12)
    many = {**OPENAI_RESPONSE, "tools": [{}] * 12}
    found = dict(await results_of(with_results(result_line("a"), result_line("b"), result_line("c", many))))
    assert isinstance(found["a"], ChatResponse)
    assert isinstance(found["b"], ChatResponse)
    assert "more than 12 objects and arrays" in str(found["c"])


async def test_a_response_whose_body_is_a_text_is_read_as_its_bytes() -> None:
    error = json.dumps({"error": {"message": "no such model", "type": "invalid_request_error"}})
    found = dict(await results_of(with_results(result_line("a", error, 400), result_line("b", "<html>", 502))))
    assert isinstance(found["a"], RemoteError)
    assert found["a"].message == "no such model"
    assert isinstance(found["b"], RemoteError)
    assert found["b"].status == 502


async def test_a_result_of_an_unknown_type_is_an_error_of_its_request() -> None:
    class Newer(AnthropicBatches):
        def _line(self, request: dict[str, Any]) -> dict[str, Any]:
            line = super()._line(request)
            return {**line, "result": {"type": "postponed"}} if line["custom_id"] == "b" else line

    found = dict(await results_of(attrs.evolve(DOORS["anthropic"], server=Newer), by_id=True))
    assert isinstance(found["a"], ChatResponse)
    assert isinstance(found["c"], ChatResponse)
    assert "unknown type 'postponed'" in str(found["b"])


async def test_a_batch_of_another_api_is_refused() -> None:
    async with opened(DOORS["openai"]) as (service, server):
        batch = await service.submit_batch({"a": "one"})
        server.status = "completed"
        async with open_service("openai", api_key="k", api="responses", api_url=f"{server.url}/v1") as other:
            with pytest.raises(InvalidRequest, match="are for /v1/chat/completions, and this service reads"):
                await other.batch_results(batch)

    class Embeddings(MistralBatches):
        def _job(self, total: int = 0) -> dict[str, Any]:
            return {**super()._job(total), "endpoint": "/v1/embeddings"}

    with pytest.raises(InvalidRequest, match="are for /v1/embeddings"):
        await results_of(attrs.evolve(DOORS["mistral"], server=Embeddings))

    class Invoking(BedrockBatches):
        def _job(self) -> dict[str, Any]:
            return {**super()._job(), "modelInvocationType": "InvokeModel"}

    with pytest.raises(InvalidRequest, match="are for InvokeModel"):
        await results_of(attrs.evolve(DOORS["bedrock"], server=Invoking))


async def test_wrong_arguments_are_named() -> None:
    wrong: Any
    async with opened(DOORS["openai"]) as (service, server):
        for wrong in ([("a", "one")], "a", None):
            with pytest.raises(InvalidRequest, match="must be a mapping from ids to requests"):
                await service.submit_batch(wrong)
        for wrong in ("x", {"metadata": "x"}):
            with pytest.raises(InvalidRequest, match="batch_options must be a mapping"):
                await service.submit_batch({"a": "one"}, batch_options=wrong)
        for wrong in (None, 3, b"batch_1"):
            for call in (service.get_batch, service.batch_results, service.cancel_batch):
                with pytest.raises(InvalidRequest, match="must be a Batch or the id of one"):
                    await call(wrong)
        for wrong in (0, -1, True, 1.5, "3", None):
            with pytest.raises(InvalidRequest, match="limit must be a whole number of at least 1"):
                await service.list_batches(limit=wrong)
        assert not server.submitted


@pytest.mark.parametrize(
    ("code", "status", "kind", "advice"),
    [
        ("AccessDenied", 403, "PermissionDenied", "allow s3:PutObject"),
        ("NoSuchBucket", 404, "NotFound", "a bucket that exists"),
        ("ExpiredToken", 400, "AuthenticationError", "get new credentials"),
        ("AuthorizationHeaderMalformed", 400, "BadRequest", "a bucket of the region us-east-1"),
        ("PermanentRedirect", 301, "UnexpectedRedirect", "a bucket of the region us-east-1"),
        ("SlowDown", 503, "Overloaded", ""),
    ],
)
async def test_an_error_of_s3_is_told_with_its_name_and_with_advice(
    code: str, status: int, kind: str, advice: str
) -> None:
    class Refusing(BedrockBatches):
        def answer(self, method: str, path: str, *rest: Any) -> tuple[int, Mapping[str, str], bytes]:
            if path.startswith("/s3/"):
                return status, {"content-type": "application/xml"}, s3_error(code)
            return super().answer(method, path, *rest)

    async with opened(attrs.evolve(DOORS["bedrock"], server=Refusing), max_retries=0) as (service, _):
        with pytest.raises(RemoteError) as raised:
            await service.submit_batch({"a": "one"})
    error = raised.value
    assert type(error).__name__ == kind
    assert advice in (error.advice or "")
    assert "StringToSign" not in f"{error} {error.body}"
    if status != 301:  # its body is not read
        assert error.code == code
        assert "Why & how." in error.message


async def test_results_that_are_gone_from_s3_are_not_found() -> None:
    async with opened(DOORS["bedrock"]) as (service, server):
        batch = await service.submit_batch({"a": "one"})
        server.status = "completed"
        batch = await service.get_batch(batch)
        server.files.clear()
        with pytest.raises(NotFound, match="the job wrote none, or they were moved"):
            await service.batch_results(batch)


@pytest.mark.parametrize("uri", ["s3://my.bucket", "s3://my-bucket/", "s3://my-bucket/it's_(all)!/*.x/"])
async def test_a_batch_is_stored_under_any_key_that_bedrock_accepts(uri: str) -> None:
    # The server verifies the signatures with botocore's signer for S3.
    async with opened(DOORS["bedrock"], batch_s3_uri=uri) as (service, server):
        batch = await service.submit_batch({"a": "one"})
        (stored,) = server.files
        assert stored.startswith(uri)
        server.status = "completed"
        found = dict(await service.batch_results(batch))
    assert isinstance(found["a"], ChatResponse)


async def test_options_of_a_job_keep_the_place_of_its_results() -> None:
    key = {"s3OutputDataConfig": {"s3EncryptionKeyId": "alias/batches"}}
    options = {"bedrock": {"outputDataConfig": key, "timeoutDurationInHours": 48}}
    async with opened(DOORS["bedrock"]) as (service, server):
        await service.submit_batch({"a": "one"}, batch_options=options)
        job = server.submitted[0]
    place = job["outputDataConfig"]["s3OutputDataConfig"]
    assert place["s3EncryptionKeyId"] == "alias/batches"
    assert place["s3Uri"].startswith("s3://my-bucket/batches/")
    assert job["timeoutDurationInHours"] == 48


@pytest.mark.parametrize(
    ("uri", "kind", "why"),
    [
        ("s3://my-bucket/in put/x.jsonl", ProtocolViolation, "no S3 URI of a batch"),
        ("s3://my-bucket/folder/", InvalidRequest, "are a folder"),
    ],
)
async def test_a_job_of_another_program_at_a_strange_place_is_refused(
    uri: str, kind: type[TrunklineError], why: str
) -> None:
    class Elsewhere(BedrockBatches):
        def _job(self) -> dict[str, Any]:
            return {**super()._job(), "inputDataConfig": {"s3InputDataConfig": {"s3Uri": uri}}}

    async with opened(attrs.evolve(DOORS["bedrock"], server=Elsewhere)) as (service, server):
        await service.submit_batch({"a": "one"})
        server.status = "completed"
        (listed,) = await service.list_batches()
        with pytest.raises(kind, match=why):
            await service.batch_results(listed)


async def test_a_place_in_s3_is_checked_at_once() -> None:
    with pytest.raises(ConfigurationError, match="batch_s3_uri"):  # in time, for any length
        open_service("bedrock", batch_s3_uri=f"s3://my-bucket/{'a' * 500} b")


@pytest.mark.parametrize("hook", ["trunkline_translator", "trunkline_response_parser"])
async def test_an_extension_that_overrides_a_step_is_used_or_named(door: Door, hook: str) -> None:
    class Wrapped:
        used = False

        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            Wrapped.used = True
            return getattr(self._inner, name)

    def wrap(self: object, context: ServiceContext[Any]) -> Any:
        return Wrapped((yield))

    extension = type("Wrapping", (), {hook: hookimpl(wrapper=True)(wrap)})()
    async with opened(door, extensions=[extension]) as (service, server):
        if door.provider == "bedrock":  # whose batches are in Converse's form, whatever API the service uses for chat
            with pytest.raises(UnsupportedOperation, match="Wrapping overrides the"):
                await service.batch_results(await service.submit_batch({"a": "one"}))
            assert not server.submitted or hook == "trunkline_response_parser"
            return
        batch = await service.submit_batch({"a": "one"})
        server.status = "completed"
        if hook == "trunkline_response_parser":
            Wrapped.used = False
        results = await service.batch_results(batch)
        assert len(dict(results)) == 1
        assert Wrapped.used


@pytest.mark.parametrize("lost", [0, 1])
async def test_a_map_submits_once_and_collects_whether_or_not_the_acceptance_was_heard(
    door: Door, lost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"FIRST_POLL": 0.001, "LONGEST_POLL": 0.01, "CLOCK_DIFFERENCE": 10**9}.items():
        monkeypatch.setattr(f"trunkline.batch.provider_batches.{name}", value)
    async with opened(door) as (service, server):
        submit = server.submit

        def accept(batch: dict[str, Any], answer: object) -> tuple[int, Mapping[str, str], bytes]:
            response = submit(batch, answer)
            server.status = "completed"
            return response

        monkeypatch.setattr(server, "submit", accept)
        server.fails = lost
        summary = await trunkline.batch.map(
            service,
            [{"text": text} for text in ("one", "fail", "three")],
            "{text}",
            tmp_path / "out.jsonl",
            provider_batches=True,
            cost=lambda response: Decimal("0.5"),
        )
    assert (summary.done, summary.failed, summary.cost) == (2, 1, Decimal(1))
    assert (summary.input_tokens, summary.output_tokens) == (40, 10)
    assert len(server.submitted) == 1
