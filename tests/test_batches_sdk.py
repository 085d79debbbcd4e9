"""Batches beside the providers' official clients: the same requests, and the same reading of recorded answers.

No recording has a failed, cancelled or expired request of a batch, and no client reads the lines of OpenAI's, Mistral's
and Gemini's result files: `test_batches.py` shows how they are read, by the providers' documentation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
import httpx2
import pytest
from batch_servers import file_of, lines_of
from official_clients import ROOT, Sent, _catch
from recordings import Exchange, recorded
from trunkline import Batch, ChatRequest
from trunkline._plugins.registry import load_provider
from trunkline.authoring.batches import BatchItem, BatchSubmission
from trunkline.authoring.provider import BatchOperations, ServiceContext
from trunkline.authoring.wire import WireRequest, WireResponse


@attrs.frozen
class Ours:
    """Our batches of one provider, without a service."""

    context: ServiceContext[Any]
    operations: BatchOperations
    items: tuple[BatchItem, ...]

    def submission(self, previous: object = None) -> BatchSubmission:
        return BatchSubmission(items=self.items, token="t", previous=previous)

    def submit(self, step: int = 0, previous: object = None) -> WireRequest:
        value = self.submission(previous)
        return self.operations.submit(self.context, value)[step].translation(self.context, value).wire_request

    def results(self, batch: Batch) -> list[WireRequest]:
        found = self.operations.results(self.context, batch)
        return [operation.translation(self.context, batch).wire_request for operation in found]

    def sent(self, name: str, value: object) -> WireRequest:
        return getattr(self.operations, name).translation(self.context, value).wire_request

    def read(self, name: str, body: bytes) -> Any:
        return getattr(self.operations, name).result(self.context, WireResponse(status=200, body=body))

    def read_results(self, batch: Batch, body: bytes) -> dict[str, Any]:
        operation = self.operations.results(self.context, batch)[0]
        return dict(operation.result(self.context, WireResponse(status=200, body=body)))


REQUESTS = {
    "a": ChatRequest(messages="What is the capital of France?", max_output_tokens=100),
    "b": ChatRequest(messages="What is 3 + 3?", max_output_tokens=100, temperature=0.5),
}


def ours(name: str, model: str, **settings: object) -> Ours:
    provider = load_provider(name)
    values = {"api_key": "k", "api_url": ROOT, "default_model": model, **settings}
    made = provider.settings(**values)
    context = ServiceContext(name=name, provider=name, settings=made)
    batches = provider.operations(context).batches
    assert batches is not None
    translator = provider.translator(context)
    items = tuple(
        BatchItem(
            id=key,
            model=model,
            wire_request=translator.translate(attrs.evolve(request, model=model), stream=False).wire_request,
        )
        for key, request in REQUESTS.items()
    )
    return Ours(context, batches, items)


def assert_same(own: WireRequest, sent: Sent, *, query: bool = True) -> None:
    """Compare method, URL and JSON body."""
    mine, theirs = urlsplit(own.url), urlsplit(sent.url)
    assert (own.method, mine.path) == (sent.method, theirs.path)
    if query:
        assert dict(parse_qsl(mine.query)) == dict(parse_qsl(theirs.query))
    assert json.loads(own.body or b"null") == json.loads(sent.body or b"null")


def caught(call: Callable[[], object], sent: list[Sent]) -> Sent:
    """The request of a call, which the transport refuses."""
    with pytest.raises(Exception, match=r"caught|400"):
        call()
    return sent.pop()


MARK = {"trunkline": "trunkline-t"}
BATCH = Batch(id="b1", status="running")


def test_anthropic_requests_are_those_of_the_client() -> None:
    from anthropic import Anthropic

    sent: list[Sent] = []
    client = Anthropic(
        base_url=ROOT, api_key="k", max_retries=0, http_client=httpx2.Client(transport=_catch(httpx2, sent))
    )
    batches: Any = client.messages.batches
    own = ours("anthropic", "claude-haiku-4-5")
    requests = [{"custom_id": item.id, "params": json.loads(item.wire_request.body)} for item in own.items]
    created = caught(lambda: batches.create(requests=requests), sent)
    assert_same(own.submit(), created)
    assert own.submit().headers["content-type"] == created.headers["content-type"]
    assert_same(own.sent("get", BATCH), caught(lambda: batches.retrieve("b1"), sent))
    cancelled = caught(lambda: batches.cancel("b1"), sent)
    assert_same(own.sent("cancel", BATCH), cancelled)
    assert_same(own.sent("list", None), caught(lambda: batches.list(limit=100), sent))
    assert_same(own.sent("list", "b0"), caught(lambda: batches.list(limit=100, after_id="b0"), sent))


def test_the_beta_features_of_all_requests_are_sent_once() -> None:
    own = ours("anthropic", "claude-haiku-4-5", betas=["one"])
    request = REQUESTS["a"]
    wire = own.items[0].wire_request.with_headers({"anthropic-beta": "one,two"})
    items = (own.items[0], attrs.evolve(own.items[1], wire_request=wire))
    assert request is REQUESTS["a"]
    assert attrs.evolve(own, items=items).submit().headers["anthropic-beta"] == "one,two"


def form(request: WireRequest | Sent) -> tuple[str, str, list[dict[str, Any]]]:
    """The method, the path and the lines of the file of an upload."""
    content = file_of(request.body, request.headers["content-type"])
    return request.method, urlsplit(request.url).path, lines_of(content)


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_openai_requests_are_those_of_the_client(api: str) -> None:
    from openai import OpenAI

    sent: list[Sent] = []
    client = OpenAI(
        base_url=f"{ROOT}/v1", api_key="k", max_retries=0, http_client=httpx2.Client(transport=_catch(httpx2, sent))
    )
    batches: Any = client.batches
    own = ours("openai", "gpt-4.1", api=api)
    endpoint = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}[api]
    lines = [
        {"custom_id": item.id, "method": "POST", "url": endpoint, "body": json.loads(item.wire_request.body)}
        for item in own.items
    ]
    file = ("batch.jsonl", "\n".join(map(json.dumps, lines)).encode(), "application/jsonl")
    uploaded = caught(lambda: client.files.create(file=file, purpose="batch"), sent)
    assert form(own.submit()) == form(uploaded)
    assert uploaded.headers["content-type"].partition(";")[0] == "multipart/form-data"
    fields: dict[str, Any] = {"completion_window": "24h", "endpoint": endpoint, "input_file_id": "file-1"}
    fields["metadata"] = MARK
    assert_same(own.submit(1, "file-1"), caught(lambda: batches.create(**fields), sent))
    assert_same(own.sent("get", BATCH), caught(lambda: batches.retrieve("b1"), sent))
    assert_same(own.sent("cancel", BATCH), caught(lambda: batches.cancel("b1"), sent))
    assert_same(own.sent("list", "b0"), caught(lambda: batches.list(limit=100, after="b0"), sent))
    ended = Batch(id="b1", status="completed", raw={"output_file_id": "f1", "error_file_id": "f2"})
    for name, request in zip(("f1", "f2"), own.results(ended), strict=True):
        assert_same(request, caught(lambda name=name: client.files.content(name), sent))


def test_azure_requests_on_the_classic_surface_are_those_of_the_client() -> None:
    from openai import AzureOpenAI

    sent: list[Sent] = []
    version = "2025-04-01-preview"
    http_client = httpx2.Client(transport=_catch(httpx2, sent))
    client = AzureOpenAI(azure_endpoint=ROOT, api_version=version, api_key="k", max_retries=0, http_client=http_client)
    batches: Any = client.batches
    own = ours("azure-openai", "gpt-4.1", api_version=version)
    uploaded = caught(lambda: client.files.create(file=("batch.jsonl", b"{}"), purpose="batch"), sent)
    assert own.submit().url == uploaded.url
    fields: dict[str, Any] = {"completion_window": "24h", "endpoint": "/chat/completions", "input_file_id": "file-1"}
    fields["metadata"] = MARK
    assert_same(own.submit(1, "file-1"), caught(lambda: batches.create(**fields), sent))
    assert_same(own.sent("get", BATCH), caught(lambda: batches.retrieve("b1"), sent))
    assert_same(own.sent("cancel", BATCH), caught(lambda: batches.cancel("b1"), sent))
    assert_same(own.sent("list", "b0"), caught(lambda: batches.list(limit=100, after="b0"), sent))
    ended = Batch(id="b1", status="completed", raw={"output_file_id": "f1"})
    assert_same(own.results(ended)[0], caught(lambda: client.files.content("f1"), sent))


def test_mistral_requests_are_those_of_the_client() -> None:
    from mistralai.client import Mistral

    sent: list[Sent] = []
    client: Any = Mistral(api_key="k", server_url=ROOT, client=httpx2.Client(transport=_catch(httpx2, sent)))
    own = ours("mistral", "mistral-small-latest")
    lines = [{"custom_id": item.id, "body": json.loads(item.wire_request.body)} for item in own.items]
    file = {"file_name": "batch.jsonl", "content": "\n".join(map(json.dumps, lines)).encode()}
    uploaded = caught(lambda: client.files.upload(file=file, purpose="batch"), sent)
    assert urlsplit(own.submit().url).path == urlsplit(uploaded.url).path
    assert lines_of(file_of(own.submit().body, own.submit().headers["content-type"])) == lines
    for field in (b'name="purpose"', b'name="file"; filename="batch.jsonl"', b"batch"):
        assert field in uploaded.body
        assert field in own.submit().body
    fields = {
        "endpoint": "/v1/chat/completions",
        "input_files": ["file-1"],
        "model": "mistral-small-latest",
        "metadata": MARK,
    }
    created = caught(lambda: client.batch.jobs.create(**fields), sent)
    mine = own.submit(1, "file-1")
    assert urlsplit(mine.url).path == urlsplit(created.url).path
    assert {"timeout_hours": 24, **json.loads(mine.body)} == json.loads(created.body)  # the client sends the default
    # The client asks for results in the answer if `inline` is set; we read the files.
    assert_same(own.sent("get", BATCH), caught(lambda: client.batch.jobs.get(job_id="b1"), sent), query=False)
    assert_same(own.sent("cancel", BATCH), caught(lambda: client.batch.jobs.cancel(job_id="b1"), sent))
    listed = caught(lambda: client.batch.jobs.list(), sent)
    theirs = {name: value for name, value in parse_qsl(urlsplit(listed.url).query) if name != "created_by_me"}
    assert dict(parse_qsl(urlsplit(own.sent("list", None).url).query)) == theirs
    ended = Batch(id="b1", status="completed", raw={"output_file": "f1", "error_file": None})
    (content,) = own.results(ended)
    assert_same(content, caught(lambda: client.files.download(file_id="f1"), sent))


def test_gemini_requests_are_those_of_the_client() -> None:
    from google.genai import Client, types

    sent: list[Sent] = []
    options = types.HttpOptions(
        base_url=ROOT, api_version="v1beta", httpx_client=httpx2.Client(transport=_catch(httpx2, sent))
    )
    batches: Any = Client(api_key="k", http_options=options).batches
    own = ours("gemini", "gemini-2.5-flash")
    inlined = [
        {
            "contents": body["contents"],
            "config": body["generationConfig"],
            "metadata": {"key": item.id},
        }
        for item in own.items
        for body in (json.loads(item.wire_request.body),)
    ]
    config = {"display_name": "trunkline-t"}
    model = "gemini-2.5-flash"
    created = caught(lambda: batches.create(model=model, src=inlined, config=config), sent)
    assert_same(own.submit(), created)
    assert own.submit().headers["content-type"] == created.headers["content-type"]
    assert_same(own.sent("get", BATCH), caught(lambda: batches.get(name="batches/b1"), sent))
    assert_same(
        own.sent("get", Batch(id="batches/b1", status="running")), Sent("GET", f"{ROOT}/v1beta/batches/b1", {}, b"")
    )
    cancelled = caught(lambda: batches.cancel(name="batches/b1"), sent)
    assert urlsplit(own.sent("cancel", BATCH).url).path == urlsplit(cancelled.url).path
    listed = caught(lambda: list(batches.list(config={"page_size": 100})), sent)
    assert_same(own.sent("list", None), listed)


def test_gemini_files_are_uploaded_as_by_the_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    from google.genai import Client, types

    monkeypatch.setattr("trunkline_gemini.batches.INLINE_LIMIT", 1)
    sent: list[Sent] = []
    options = types.HttpOptions(
        base_url=ROOT, api_version="v1beta", httpx_client=httpx2.Client(transport=_catch(httpx2, sent))
    )
    client: Any = Client(api_key="k", http_options=options)
    own = ours("gemini", "gemini-2.5-flash")
    mine = own.submit()
    file = tmp_path / "batch.jsonl"
    file.write_bytes(own.submit(1, f"{ROOT}/upload?upload_id=1").body)
    upload = {"mime_type": "application/jsonl", "display_name": "trunkline-t"}
    started = caught(lambda: client.files.upload(file=str(file), config=upload), sent)
    assert (mine.method, urlsplit(mine.url).path) == (started.method, urlsplit(started.url).path)
    for name in ("protocol", "command", "header-content-length", "header-content-type"):
        assert mine.headers[f"x-goog-upload-{name}"] == started.headers[f"x-goog-upload-{name}"]
    assert lines_of(file.read_bytes()) == [
        {"key": item.id, "request": json.loads(item.wire_request.body)} for item in own.items
    ]
    config = {"display_name": "trunkline-t"}
    created = caught(lambda: client.batches.create(model="gemini-2.5-flash", src="files/1", config=config), sent)
    assert_same(own.submit(2, "files/1"), created)
    ended = Batch(id="b1", status="completed", raw={"response": {"responsesFile": "files/out"}})
    (content,) = own.results(ended)
    downloaded = caught(lambda: client.files.download(file="files/out"), sent)
    # The client downloads at another path; the documentation has ours.
    assert urlsplit(content.url).path == "/download/v1beta/files/out:download"
    assert urlsplit(downloaded.url).path == "/v1beta/files/out:download"
    assert urlsplit(content.url).query == urlsplit(downloaded.url).query


def exchanges(provider: str, pattern: str) -> list[Exchange]:
    found = [each for each in recorded(provider) if re.search(pattern, urlsplit(each.url).path) and each.status == 200]
    assert found, "no recorded batches"
    return found


def seconds(time: Any) -> int:
    return int(time.timestamp())


def test_recorded_message_batches_are_read_as_by_the_client() -> None:
    from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse

    own = ours("anthropic", "claude-haiku-4-5")
    words = {"in_progress": "running", "canceling": "cancelling"}
    for exchange in exchanges("anthropic", r"/messages/batches"):
        if exchange.url.endswith("/results"):
            results = own.read_results(BATCH, exchange.body)
            lines = exchange.body.splitlines()
            assert len(results) == len(lines)
            for line in lines:
                read: Any = MessageBatchIndividualResponse.model_validate_json(line)
                message = json.loads(results[read.custom_id].body)
                assert message["content"][0]["text"] == read.result.message.content[0].text
            continue
        theirs = MessageBatch.model_validate_json(exchange.body)
        batch = own.read("get", exchange.body)
        assert (batch.id, batch.status) == (theirs.id, words[theirs.processing_status])
        assert (batch.created, batch.expires) == (seconds(theirs.created_at), seconds(theirs.expires_at))
        assert batch.counts.total == theirs.request_counts.processing


def test_recorded_openai_batches_are_read_as_by_the_client() -> None:
    from openai.types import Batch as TheirBatch

    own = ours("openai", "gpt-4.1")
    for exchange in exchanges("openai", r"/v1/batches"):
        theirs = TheirBatch.model_validate_json(exchange.body)
        batch = own.read("get", exchange.body)
        assert (batch.id, batch.raw_status, batch.status) == (theirs.id, theirs.status, "running")
        assert (batch.created, batch.expires) == (theirs.created_at, theirs.expires_at)
    (file,) = (each for each in exchanges("openai", r"/files/.*/content") if b"custom_id" in each.body)
    ended = Batch(id="b1", status="completed", raw={"output_file_id": "f1"})
    assert set(own.read_results(ended, file.body)) == {json.loads(line)["custom_id"] for line in lines_of_text(file)}


def lines_of_text(exchange: Exchange) -> list[str]:
    return [line for line in exchange.body.decode().splitlines() if line.strip()]


def test_recorded_mistral_jobs_are_read_as_by_the_client() -> None:
    from mistralai.client.models import BatchJob

    own = ours("mistral", "mistral-small-latest")
    words = {"RUNNING": "running", "SUCCESS": "completed"}
    for exchange in exchanges("mistral", r"/batch/jobs"):
        theirs = BatchJob.model_validate_json(exchange.body)
        batch = own.read("get", exchange.body)
        assert (batch.id, batch.status) == (theirs.id, words[str(theirs.status)])
        assert batch.created == theirs.created_at
        assert (batch.counts.total, batch.counts.succeeded) == (theirs.total_requests, theirs.succeeded_requests)
        if theirs.outputs:
            # The lines of the file have the form of the outputs.
            body = "\n".join(map(json.dumps, theirs.outputs)).encode()
            assert set(own.read_results(batch, body)) == {"0", "1"}


def test_recorded_gemini_batches_are_read_as_by_the_client() -> None:
    from google.genai import batches

    own = ours("gemini", "gemini-2.5-flash")
    for exchange in exchanges("gemini", r"batchGenerateContent|/batches/"):
        theirs = batches._BatchJob_from_mldev(json.loads(exchange.body))
        batch = own.read("get", exchange.body)
        assert batch.id == theirs["name"]
        assert theirs["state"] in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING")
        assert batch.status == "running"
        assert batch.counts.total == 2
        assert batch.created == 1787150052


@pytest.mark.parametrize(
    ("name", "model", "words"),
    [
        ("openai", "gpt-4.1", "openai"),
        ("mistral", "mistral-small-latest", "mistral"),
        ("gemini", "gemini-2.5-flash", "gemini"),
    ],
)
def test_every_state_that_the_client_knows_has_a_status(name: str, model: str, words: str) -> None:
    from typing import get_args

    if name == "openai":
        from openai.types import Batch as TheirBatch
        from trunkline_openai.batches import STATUSES as known

        states = set(get_args(TheirBatch.model_fields["status"].annotation))
    elif name == "mistral":
        from mistralai.client.models import batchjobstatus
        from trunkline_mistral.batches import STATUSES as known

        states = {
            word for part in get_args(batchjobstatus.BatchJobStatus) for word in get_args(part) if isinstance(word, str)
        }
    else:
        from google.genai import types
        from trunkline_gemini.batches import STATUSES as known

        # Those of other kinds of jobs have no batch.
        others = {"UNSPECIFIED", "QUEUED", "PAUSED", "UPDATING"}
        states = {state.value.removeprefix("JOB_STATE_") for state in types.JobState} - others
    assert states == set(known)


def botocore_client(service: str, sent: list[Sent], **options: Any) -> Any:
    """A client of botocore whose requests are caught."""
    from botocore.session import Session

    client = Session().create_client(service, aws_access_key_id="k", aws_secret_access_key="k", **options)

    def catch(request: Any, **_: Any) -> Any:
        body = request.body.read() if hasattr(request.body, "read") else request.body
        sent.append(Sent(request.method, request.url, {}, body or b""))
        raise ValueError("caught")

    client.meta.events.register(f"before-send.{service}", catch)
    return client


BEDROCK = {
    "aws_region": "us-west-2",
    "batch_s3_uri": "s3://my-bucket/batches",
    "batch_role_arn": "arn:aws:iam::123456789012:role/batches",
    "api_url": None,
    "api_key": None,
    "aws_access_key_id": "k",
    "aws_secret_access_key": "k",
}
ARN = "arn:aws:bedrock:us-west-2:123456789012:model-invocation-job/abcdefghijkl"


def test_bedrock_requests_are_those_of_botocore() -> None:
    sent: list[Sent] = []
    client = botocore_client("bedrock", sent, region_name="us-west-2")
    own = ours("bedrock", "us.anthropic.claude-sonnet-4-6", **BEDROCK)
    place = "s3://my-bucket/batches/t"
    fields = {
        "jobName": "trunkline-t",
        "clientRequestToken": "t",
        "roleArn": BEDROCK["batch_role_arn"],
        "modelId": "us.anthropic.claude-sonnet-4-6",
        "modelInvocationType": "Converse",
        "inputDataConfig": {"s3InputDataConfig": {"s3InputFormat": "JSONL", "s3Uri": f"{place}/requests.jsonl"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"{place}/results/"}},
    }
    created = caught(lambda: client.create_model_invocation_job(**fields), sent)
    assert_same(own.submit(1), created)
    assert own.submit(1).url == created.url
    batch = Batch(id=ARN, status="running")
    read = caught(lambda: client.get_model_invocation_job(jobIdentifier=ARN), sent)
    assert (own.sent("get", batch).method, own.sent("get", batch).url) == (read.method, read.url)
    stopped = caught(lambda: client.stop_model_invocation_job(jobIdentifier=ARN), sent)
    assert (own.sent("cancel", batch).method, own.sent("cancel", batch).url) == (stopped.method, stopped.url)
    query = {"maxResults": 100, "sortBy": "CreationTime", "sortOrder": "Descending", "nextToken": "n"}
    assert_same(own.sent("list", "n"), caught(lambda: client.list_model_invocation_jobs(**query), sent))


@pytest.mark.parametrize(
    ("region", "fips", "dual_stack", "bucket"),
    [
        ("us-west-2", False, False, "my-bucket"),
        ("us-west-2", False, False, "my.bucket"),
        ("us-west-2", True, False, "my-bucket"),
        ("us-west-2", True, True, "my-bucket"),
        ("eu-central-1", False, True, "my-bucket"),
        ("cn-north-1", False, False, "my-bucket"),
        ("us-gov-west-1", False, False, "my-bucket"),
    ],
)
def test_objects_in_s3_have_the_urls_of_botocore(region: str, fips: bool, dual_stack: bool, bucket: str) -> None:
    from botocore.config import Config
    from trunkline_bedrock import BedrockSettings
    from trunkline_bedrock.endpoints import object_url, signing_scope

    sent: list[Sent] = []
    config = Config(use_fips_endpoint=fips, use_dualstack_endpoint=dual_stack, retries={"total_max_attempts": 1})
    client = botocore_client("s3", sent, region_name=region, config=config)
    theirs = caught(lambda: client.get_object(Bucket=bucket, Key="batches/t-1/requests.jsonl.out"), sent)
    settings = BedrockSettings(aws_region=region, use_fips_endpoint=fips, use_dualstack_endpoint=dual_stack)
    url = object_url(settings, f"s3://{bucket}/batches/t-1/requests.jsonl.out")
    assert url == theirs.url
    assert signing_scope(settings, url).service == "s3"
    assert signing_scope(settings, f"https://bedrock.{region}.amazonaws.com/x").service == "bedrock"


def test_every_state_of_bedrocks_jobs_has_a_status() -> None:
    from botocore.session import Session
    from trunkline_bedrock.batches import STATUSES

    shape = Session().get_service_model("bedrock").shape_for("ModelInvocationJobStatus")
    assert set(shape.enum) == set(STATUSES)
