"""The official SDKs call a gateway that runs as a process, with a real model behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from gateway_process import GatewayProcess, gateway_process
from mistralai.client import Mistral

SERVICES = """
[services.local]
provider = "llamacpp"

[services.wrong]
provider = "openai-compatible"
api_url = "http://127.0.0.1:9/v1"
default_model = "nothing"
max_retries = 0
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    pytest.importorskip("xllamacpp")
    with gateway_process(tmp_path_factory.mktemp("gateway"), services=SERVICES) as process:
        yield process


@pytest.fixture(scope="module")
def key(gateway: GatewayProcess) -> str:
    return gateway.create_key("sdks")


@pytest.fixture
def client(gateway: GatewayProcess, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        yield client


@pytest.fixture
def claude(gateway: GatewayProcess, key: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key=key, max_retries=0) as client:
        yield client


QUESTION: Any = [{"role": "user", "content": "Name the colour of the sky."}]


def test_the_openai_sdk_gets_a_chat_completion_with_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="local", messages=QUESTION, max_tokens=12)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_the_openai_sdk_streams_a_chat_completion(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model="local", messages=QUESTION, max_tokens=12, stream=True, stream_options=options
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] in ("stop", "length")
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_the_openai_sdk_gets_a_response_and_streams_one(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="local", input="Name a colour.", max_output_tokens=16)
    assert answer.output_text
    events = list(client.responses.create(model="local", input="Name a colour.", max_output_tokens=16, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.output_text == text != ""


def test_the_anthropic_sdk_gets_a_message_and_streams_one(claude: anthropic.Anthropic) -> None:
    answer = claude.messages.create(model="local", max_tokens=12, messages=QUESTION)
    assert answer.content[0].type == "text"
    assert answer.content[0].text
    with claude.messages.stream(model="local", max_tokens=12, messages=QUESTION) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.content[0].type == "text"
    assert final.content[0].text == text != ""
    assert final.usage.output_tokens > 0


def test_the_anthropic_sdk_counts_tokens(claude: anthropic.Anthropic) -> None:
    assert claude.messages.count_tokens(model="local", messages=QUESTION).input_tokens > 0


def test_structured_output_reaches_the_model(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"colour": {"type": "string", "maxLength": 12}}, "required": ["colour"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = client.chat.completions.create(model="local", messages=QUESTION, max_tokens=60, response_format=form)
    assert answer.choices[0].message.content is not None
    assert set(json.loads(answer.choices[0].message.content)) == {"colour"}


def test_the_models_are_listed_for_both_sdks(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    assert any(model.id.startswith("local/") for model in client.models.list())
    assert any(model.id.startswith("local/") for model in claude.models.list())


def test_a_key_that_is_wrong_is_the_error_that_each_sdk_has_for_it(gateway: GatewayProcess) -> None:
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="tlk_wrong").models.list()
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=gateway.url, api_key="tlk_wrong").messages.create(
            model="local", max_tokens=5, messages=QUESTION
        )


def test_a_model_that_is_not_there_is_not_found(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    with pytest.raises(openai.NotFoundError) as found:
        client.chat.completions.create(model="other/model", messages=QUESTION)
    assert found.value.code == "model_not_found"
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="other/model", max_tokens=5, messages=QUESTION)


def test_a_service_that_cannot_be_reached_is_an_error_of_the_server(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as found:
        client.chat.completions.create(model="wrong", messages=QUESTION)
    assert "127.0.0.1:9" not in str(found.value)


def test_a_client_that_hangs_up_ends_the_call(gateway: GatewayProcess, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="local", messages=QUESTION, max_tokens=2000, stream=True)
    next(iter(stream))
    stream.close()
    # The embedded model answers one call after another: this one waits until the first has ended.
    answer = client.chat.completions.create(model="local", messages=QUESTION, max_tokens=2, timeout=30)
    assert answer.choices


def test_the_mistral_sdk_gets_a_completion_and_streams_one(gateway: GatewayProcess, key: str) -> None:
    with Mistral(api_key=key, server_url=gateway.url) as client:
        answer = client.chat.complete(model="local", messages=QUESTION, max_tokens=8)
        assert answer.choices[0].message is not None
        assert answer.choices[0].message.content
        with client.chat.stream(model="local", messages=QUESTION, max_tokens=8) as events:
            assert "".join(str(event.data.choices[0].delta.content or "") for event in events if event.data.choices)
