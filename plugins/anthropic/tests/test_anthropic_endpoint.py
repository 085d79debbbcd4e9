"""Other places that serve the Messages API: what differs is sent as the official SDK sends it there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from anthropic import Anthropic, AnthropicBedrock, AnthropicVertex
from anthropic_sdk import assert_same, sent_by
from trunkline.authoring.auth import NoAuth
from trunkline.authoring.provider import Provider, ServiceContext
from trunkline.authoring.urls import path_segment
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.messages import Message, Reasoning, assistant, user
from trunkline.request import ChatRequest
from trunkline.settings import Settings
from trunkline_anthropic import MessagesEndpoint, MessagesParts, at_root, messages_api
from trunkline_anthropic.parse import MessagesParser

MODEL = "claude-sonnet-4-6@20260101"
VERTEX = "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/anthropic/models"


def vertex_url(path: str, model: str, stream: bool) -> str:
    if path == "/v1/messages/count_tokens":
        return f"{VERTEX}/count-tokens:rawPredict"
    return f"{VERTEX}/{path_segment(model)}:{'streamRawPredict' if stream else 'rawPredict'}"


def bedrock_url(path: str, model: str, stream: bool) -> str:
    suffix = "invoke-with-response-stream" if stream else "invoke"
    return f"https://bedrock-runtime.us-east-1.amazonaws.com/model/{path_segment(model)}/{suffix}"


AT_VERTEX = MessagesEndpoint(
    url=vertex_url, version_in="body", model_in_body=False, betas=("a",), headers={"x-further": "1"}, has_models=False
)
AT_BEDROCK = MessagesEndpoint(
    url=bedrock_url,
    version_in="body",
    betas_in="body",
    betas=("a",),
    model_in_body=False,
    stream_in_body=False,
    counts_tokens=False,
    has_models=False,
)


def provider(endpoint: MessagesEndpoint, load: Callable[[], MessagesParts] = MessagesParts) -> Provider:
    return messages_api(
        name="place",
        settings=Settings,
        endpoint=lambda settings: endpoint,
        auth=lambda context: NoAuth(),
        load=load,
    )


CONTEXT = ServiceContext(name="test", provider="place", settings=Settings())


def chat(endpoint: MessagesEndpoint, *, stream: bool) -> tuple[WireRequest, dict[str, Any]]:
    request = ChatRequest(messages="Hi", model=MODEL, max_output_tokens=9, provider_options={"place": {"betas": ["b"]}})
    wire = provider(endpoint).translator(CONTEXT).translate(request, stream=stream).wire_request
    fields: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 9,
        "betas": ["a", "b"],
        "stream": stream,
    }
    return wire, fields


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_at_google_cloud_is_what_the_sdk_sends(stream: bool) -> None:
    wire, fields = chat(AT_VERTEX, stream=stream)
    if not stream:
        del fields["stream"]
    theirs = sent_by(
        lambda http: AnthropicVertex(
            region="global", project_id="p", access_token="t", max_retries=0, http_client=http
        ).beta.messages.create(**fields)
    )
    # The SDK adds `?beta=true` to its own paths only.
    assert_same(wire, theirs)
    assert wire.headers["x-further"] == "1"


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_at_bedrock_is_what_the_sdk_sends(stream: bool) -> None:
    wire, fields = chat(AT_BEDROCK, stream=stream)
    theirs = sent_by(
        lambda http: AnthropicBedrock(
            aws_region="us-east-1", api_key="k", max_retries=0, http_client=http
        ).beta.messages.create(**fields)
    )
    # The SDK sends the betas in the header as well, where Bedrock does not read them.
    del theirs.headers["anthropic-beta"]
    assert_same(wire, theirs)


def test_counting_at_google_cloud_is_what_the_sdk_sends() -> None:
    count = provider(AT_VERTEX).operations(CONTEXT).count_tokens
    assert count is not None
    ours = count.translation(CONTEXT, ChatRequest(messages="Hi", model=MODEL)).wire_request
    theirs = sent_by(
        lambda http: AnthropicVertex(
            region="global", project_id="p", access_token="t", max_retries=0, http_client=http
        ).beta.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "Hi"}], betas=["a"])
    )
    # The SDK sends a beta of its own when it counts tokens with betas.
    theirs.headers["anthropic-beta"] = theirs.headers["anthropic-beta"].removesuffix(",token-counting-2024-11-01")
    assert_same(ours, theirs)


def test_a_place_has_only_the_operations_that_it_names() -> None:
    everything = provider(MessagesEndpoint(url=at_root("https://host"))).operations(CONTEXT)
    assert None not in (everything.count_tokens, everything.list_models, everything.model_info)
    nothing = provider(AT_BEDROCK).operations(CONTEXT)
    assert (nothing.count_tokens, nothing.list_models, nothing.model_info) == (None, None, None)


def test_the_version_may_depend_on_the_model() -> None:
    endpoint = MessagesEndpoint(
        url=vertex_url,
        version=lambda model: "2026-10-21" if "sonnet-5" in model else "vertex-2023-10-16",
        version_in="body",
    )
    translator = provider(endpoint).translator(CONTEXT)
    older = translator.translate(
        ChatRequest(messages="Hi", model="claude-sonnet-4-6", temperature=0.5), stream=False
    ).wire_request
    newer = translator.translate(
        ChatRequest(messages="Hi", model="claude-sonnet-5", temperature=0.5), stream=False
    ).wire_request
    # The older version accepts sampling parameters under each of its names.
    assert json.loads(older.body)["anthropic_version"] == "vertex-2023-10-16"
    assert json.loads(older.body)["temperature"] == 0.5
    assert json.loads(newer.body)["anthropic_version"] == "2026-10-21"
    assert "temperature" not in json.loads(newer.body)


@pytest.mark.parametrize("issuer", ["anthropic", "bedrock", "vertex", "azure-anthropic"])
def test_signed_thinking_moves_between_the_places_of_claude(issuer: str) -> None:
    thought = Reasoning(text="hm", provider=issuer, family="claude", signature="SIGNED")
    history: tuple[Message, ...] = (user("Hi"), assistant(thought, "Hello."), user("Go on"))
    request = ChatRequest(messages=history, model="claude-sonnet-4-6")
    wire = provider(AT_VERTEX).translator(CONTEXT).translate(request, stream=False).wire_request
    assert json.loads(wire.body)["messages"][1]["content"][0]["signature"] == "SIGNED"


def test_a_provider_replaces_the_parts_it_names() -> None:
    class Louder(MessagesParser):
        def body(self, wire_response: WireResponse) -> Any:
            return super().body(WireResponse(status=200, body=wire_response.body.upper()))

    parser = provider(AT_VERTEX, lambda: MessagesParts(parser=Louder)).response_parser(CONTEXT)
    assert isinstance(parser, Louder)


def test_the_sdk_sends_the_version_that_is_our_default() -> None:
    theirs = sent_by(
        lambda http: Anthropic(api_key="k", max_retries=0, http_client=http).messages.create(
            model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_tokens=9
        )
    )
    ours = MessagesEndpoint(url=at_root("https://api.anthropic.com")).request_headers(model=MODEL)
    assert ours["anthropic-version"] == theirs.headers["anthropic-version"]
