"""The official SDKs as oracles: the same URL, credentials, headers and body for the same request."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import google.oauth2.credentials
import httpx2
import openai
import pytest
from google import genai
from google.genai import types
from openai.providers import vertex as openai_vertex
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireRequest
from trunkline.messages import Image, system
from trunkline.operations import ImageRequest
from trunkline.request import ChatRequest, EmbedRequest, Tool
from trunkline.secrets import Secret
from trunkline_vertex import VertexSettings, vertex

CLAUDE = "claude-sonnet-4-6@20260101"


def context(**settings: Any) -> ServiceContext[VertexSettings]:
    given = {"project": "p", "access_token": "t", **settings}
    made = VertexSettings(**{name: value for name, value in given.items() if value is not None})
    return ServiceContext(name="s", provider="vertex", settings=made)


def signed(where: ServiceContext[VertexSettings], wire: WireRequest) -> WireRequest:
    """Return the request with the credentials that `acquire` would return."""
    return vertex.auth(where).sign(wire, Secret("t"))


def chat(where: ServiceContext[VertexSettings], request: ChatRequest, *, stream: bool = False) -> WireRequest:
    return signed(where, vertex.translator(where).translate(request, stream=stream).wire_request)


def sent_by(call: Callable[[httpx2.Client], object]) -> httpx2.Request:
    """Return the request that an SDK sends."""
    caught: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        caught.append(request)
        return httpx2.Response(400, json={"error": {"message": "caught"}})

    with httpx2.Client(transport=httpx2.MockTransport(handle)) as client:
        with pytest.raises(Exception, match="caught"):
            call(client)
    [request] = caught
    return request


def assert_same(ours: WireRequest, theirs: httpx2.Request) -> None:
    assert (ours.method, ours.url) == (theirs.method, str(theirs.url))
    names = ("authorization", "x-goog-api-key", "x-goog-user-project", "anthropic-version", "anthropic-beta")
    for name in names:
        assert ours.headers.get(name) == theirs.headers.get(name), name
    body = theirs.read()
    assert (json.loads(ours.body) if ours.body else None) == (json.loads(body) if body else None)


def client(http: httpx2.Client, *, quota: str | None = None, api_url: str | None = None, **settings: Any) -> Any:
    if "api_key" not in settings:
        make: Any = google.oauth2.credentials.Credentials
        settings["credentials"] = make("t", quota_project_id=quota)
    options = types.HttpOptions(httpx_client=http, base_url=api_url)
    return genai.Client(vertexai=True, http_options=options, **settings).models


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"):
        monkeypatch.delenv(name, raising=False)


# Gemini


@pytest.mark.parametrize("location", ["global", "us", "eu", "us-east5"])
def test_chat_goes_to_the_host_of_the_location_as_in_googles_sdk(location: str) -> None:
    request = ChatRequest(messages="Hi", model="gemini-2.5-flash", temperature=0.5, metadata={"team": "blue"})
    ours = chat(context(location=location), request)
    config = {"temperature": 0.5, "labels": {"team": "blue"}}
    theirs = sent_by(
        lambda http: client(http, project="p", location=location).generate_content(
            model="gemini-2.5-flash", contents="Hi", config=config
        )
    )
    assert_same(ours, theirs)


def test_stream_is_requested_as_in_googles_sdk() -> None:
    ours = chat(context(), ChatRequest(messages="Hi", model="gemini-2.5-flash"), stream=True)
    theirs = sent_by(
        lambda http: list(
            client(http, project="p", location="global").generate_content_stream(
                model="gemini-2.5-flash", contents="Hi"
            )
        )
    )
    assert_same(ours, theirs)


def test_express_mode_is_as_in_googles_sdk() -> None:
    where = context(project=None, access_token=None, api_key="k")
    translated = vertex.translator(where).translate(ChatRequest(messages="Hi", model="gemini-2.5-flash"), stream=False)
    ours = vertex.auth(where).sign(translated.wire_request, None)
    theirs = sent_by(lambda http: client(http, api_key="k").generate_content(model="gemini-2.5-flash", contents="Hi"))
    assert_same(ours, theirs)


def test_quota_project_is_sent_as_in_googles_sdk() -> None:
    ours = chat(context(quota_project="q"), ChatRequest(messages="Hi", model="gemini-2.5-flash"))
    theirs = sent_by(
        lambda http: client(http, quota="q", project="p", location="global").generate_content(
            model="gemini-2.5-flash", contents="Hi"
        )
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize("url", ["https://psc.p.googleapis.com", "https://proxy.example/google"])
def test_custom_url_replaces_the_host_as_in_googles_sdk(url: str) -> None:
    ours = chat(context(api_url=url, location="us-east5"), ChatRequest(messages="Hi", model="gemini-2.5-flash"))
    theirs = sent_by(
        lambda http: client(http, project="p", location="us-east5", api_url=url).generate_content(
            model="gemini-2.5-flash", contents="Hi"
        )
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize(
    ("pasted", "root"),
    [
        ("https://proxy.example/google/v1beta1/", "https://proxy.example/google"),
        (
            "https://proxy.example/v1/projects/p/locations/l/publishers/google/models/m:streamGenerateContent?alt=sse",
            "https://proxy.example",
        ),
        (
            "https://proxy.example/v1/publishers/google/models/m:streamGenerateContent?tenant=1&alt=sse",
            "https://proxy.example?tenant=1",
        ),
    ],
)
def test_pasted_url_of_a_stream_does_not_make_streams_of_other_calls(pasted: str, root: str) -> None:
    assert context(api_url=pasted).settings.root == root


@pytest.mark.parametrize(
    "model",
    [
        "google/gemini-2.5-flash",
        "meta/llama-4",
        "publishers/google/models/gemini-2.5-flash",
        "models/123",
        "projects/other/locations/eu/endpoints/5",
    ],
)
def test_names_of_models_mean_the_same_resources_as_in_googles_sdk(model: str) -> None:
    ours = chat(context(), ChatRequest(messages="Hi", model=model))
    theirs = sent_by(
        lambda http: client(http, project="p", location="global").generate_content(model=model, contents="Hi")
    )
    assert_same(ours, theirs)


def test_endpoint_of_the_project_needs_no_project_in_its_name() -> None:
    # google-genai 3.6.1 reads `endpoints/5` as a model of a publisher `endpoints`, which nobody has.
    ours = chat(context(), ChatRequest(messages="Hi", model="endpoints/5"))
    expected = "https://aiplatform.googleapis.com/v1beta1/projects/p/locations/global/endpoints/5:generateContent"
    assert ours.url == expected


def test_tokens_are_counted_as_in_googles_sdk() -> None:
    tool = Tool(name="f", description="d", parameters={"type": "object", "properties": {}})
    request = ChatRequest(
        messages=[system("Be brief."), *ChatRequest(messages="Hi").messages], model="gemini-2.5-flash", tools=[tool]
    )
    where = context()
    count = vertex.operations(where).count_tokens
    assert count is not None
    ours = signed(where, count.translation(where, request).wire_request)
    declaration = {"name": "f", "description": "d", "parametersJsonSchema": {"type": "object", "properties": {}}}
    theirs = sent_by(
        lambda http: client(http, project="p", location="global").count_tokens(
            model="gemini-2.5-flash",
            contents="Hi",
            config={
                "system_instruction": types.Content(parts=[types.Part(text="Be brief.")]),
                "tools": [types.Tool(function_declarations=[types.FunctionDeclaration(**declaration)])],
            },
        )
    )
    body = json.loads(theirs.read())
    body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] = body["tools"][0]["functionDeclarations"][
        0
    ].pop("parameters_json_schema", {"type": "object", "properties": {}})
    assert json.loads(ours.body) == body
    assert ours.url == str(theirs.url)


@pytest.mark.parametrize("texts", [("a",), ("a", "b")])
@pytest.mark.parametrize("model", ["text-embedding-005", "gemini-embedding-001"])
def test_texts_are_embedded_as_in_googles_sdk(model: str, texts: tuple[str, ...]) -> None:
    where = context()
    embed = vertex.operations(where).embed
    assert embed is not None
    request = EmbedRequest(
        inputs=texts, model=model, dimensions=5, provider_options={"vertex": {"taskType": "RETRIEVAL_QUERY"}}
    )
    ours = signed(where, embed.translation(where, request).wire_request)
    theirs = sent_by(
        lambda http: client(http, project="p", location="global").embed_content(
            model=model,
            contents=list(texts),
            config={"output_dimensionality": 5, "task_type": "RETRIEVAL_QUERY"},
        )
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize("model", ["text-embedding-005", "gemini-embedding-001"])
def test_queries_are_embedded_as_in_googles_sdk(model: str) -> None:
    where = context()
    embed = vertex.operations(where).embed
    assert embed is not None
    ours = signed(
        where, embed.translation(where, EmbedRequest(inputs="a", model=model, input_type="query")).wire_request
    )
    theirs = sent_by(
        lambda http: client(http, project="p", location="global").embed_content(
            model=model, contents="a", config={"task_type": "RETRIEVAL_QUERY"}
        )
    )
    assert_same(ours, theirs)


def test_images_are_embedded_as_in_googles_sdk() -> None:
    where = context()
    embed = vertex.operations(where).embed
    assert embed is not None
    request = EmbedRequest(inputs=Image(url="gs://b/a.png", media_type="image/png"), model="gemini-embedding-2")
    ours = signed(where, embed.translation(where, request).wire_request)
    part = types.Part.from_uri(file_uri="gs://b/a.png", mime_type="image/png")
    theirs = sent_by(
        lambda http: client(http, project="p", location="global").embed_content(
            model="gemini-embedding-2", contents=[part]
        )
    )
    assert ours.url == str(theirs.url)
    # The SDK writes the names in a file's part with underscores, which Google accepts too.
    body = theirs.read().replace(b"file_uri", b"fileUri").replace(b"mime_type", b"mimeType")
    assert json.loads(ours.body) == json.loads(body)


def test_images_are_generated_as_in_googles_sdk() -> None:
    where = context()
    images = vertex.operations(where).generate_images
    assert images is not None
    request = ImageRequest(prompt="a cat", model="gemini-2.5-flash-image", aspect_ratio="16:9")
    ours = signed(where, images.translation(where, request).wire_request)
    theirs = sent_by(
        lambda http: client(http, project="p", location="global").generate_content(
            model="gemini-2.5-flash-image",
            contents="a cat",
            config={"response_modalities": ["IMAGE"], "image_config": {"aspect_ratio": "16:9"}},
        )
    )
    assert_same(ours, theirs)


def test_models_are_listed_as_in_googles_sdk() -> None:
    where = context()
    models = vertex.operations(where).list_models
    assert models is not None
    ours = signed(where, models.translation(where, None).wire_request)
    theirs = sent_by(lambda http: client(http, project="p", location="global").list(config={"page_size": 100}))
    assert_same(ours, theirs)


# Claude


@pytest.mark.parametrize("location", ["global", "us", "eu", "us-east5"])
@pytest.mark.parametrize("stream", [False, True])
def test_claude_is_called_as_in_anthropics_sdk(stream: bool, location: str) -> None:
    request = ChatRequest(messages="Hi", model=CLAUDE, max_output_tokens=9)
    ours = chat(context(location=location, betas=["a"]), request, stream=stream)
    fields: dict[str, Any] = {"stream": True} if stream else {}
    theirs = sent_by(
        lambda http: anthropic.AnthropicVertex(
            region=location, project_id="p", access_token="t", max_retries=0, http_client=http
        ).beta.messages.create(
            model=CLAUDE, max_tokens=9, messages=[{"role": "user", "content": "Hi"}], betas=["a"], **fields
        )
    )
    assert_same(ours, theirs)


@pytest.mark.parametrize("model", [CLAUDE, f"publishers/anthropic/models/{CLAUDE}", f"anthropic/{CLAUDE}"])
def test_tokens_for_claude_are_counted_as_in_anthropics_sdk(model: str) -> None:
    where = context()
    count = vertex.operations(where).count_tokens
    assert count is not None
    ours = signed(where, count.translation(where, ChatRequest(messages="Hi", model=model)).wire_request)
    theirs = sent_by(
        lambda http: anthropic.AnthropicVertex(
            region="global", project_id="p", access_token="t", max_retries=0, http_client=http
        ).messages.count_tokens(model=CLAUDE, messages=[{"role": "user", "content": "Hi"}])
    )
    assert_same(ours, theirs)


def test_older_version_for_claude_accepts_sampling_parameters() -> None:
    request = ChatRequest(messages="Hi", model="claude-haiku-4-5@20251001", temperature=0.5)
    body = json.loads(chat(context(anthropic_version="vertex-2023-10-16"), request).body)
    assert (body["anthropic_version"], body["temperature"]) == ("vertex-2023-10-16", 0.5)


# OpenAI. No recording confirms the answers; the URL and the credentials are those of the SDK.


@pytest.mark.parametrize("location", ["global", "us-east5"])
@pytest.mark.parametrize("model", ["gpt-6", "openai/gpt-6", "publishers/openai/models/gpt-6"])
def test_openais_models_are_called_as_in_openais_sdk(model: str, location: str) -> None:
    ours = chat(context(location=location), ChatRequest(messages="Hi", model=model))
    theirs = sent_by(
        lambda http: openai.OpenAI(
            provider=openai_vertex(project="p", location=location, token_provider=lambda: "t"),
            max_retries=0,
            http_client=http,
        ).responses.create(model="gpt-6", input="Hi")
    )
    assert (ours.method, ours.url) == (theirs.method, str(theirs.url))
    assert ours.headers["authorization"] == theirs.headers["authorization"]
    assert json.loads(ours.body)["model"] == json.loads(theirs.read())["model"]


@pytest.mark.parametrize(("location", "host"), [("us", "aiplatform.us.rep"), ("eu", "aiplatform.eu.rep")])
def test_multi_region_has_one_host_for_all_publishers(location: str, host: str) -> None:
    # openai 3.57 uses `us-aiplatform.googleapis.com`, unlike Google's and Anthropic's SDKs.
    ours = chat(context(location=location), ChatRequest(messages="Hi", model="gpt-6"))
    assert ours.url.startswith(f"https://{host}.googleapis.com/v1/projects/p/locations/{location}/publishers/openai/")
