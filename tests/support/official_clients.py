"""The providers' official clients as oracles of requests.

Each client is called with the fields of a request's body, and what it would send is compared with that request. A
client writes the method, the path and the names of fields itself, and most check what they are given. Types that let
unknown fields pass are made strict (`strict_types`), or compared with what they keep.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs
import pydantic
from strict_servers import bedrock, cohere as cohere_rules, mistral as mistral_rules, refusal
from strict_types import strict_adapter
from trunkline.authoring.wire import WireRequest

ROOT = "http://127.0.0.1:9"
"""Where the clients send their requests. A transport catches them, so nothing listens there."""

Body = dict[str, Any]


@attrs.frozen
class Sent:
    """A request that a client sends. Headers have lower-case names."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


def _catch(library: Any, sent: list[Sent]) -> Any:
    """Return a transport of httpx, or of its fork httpx2, that notes requests and refuses them."""

    def handle(request: Any) -> Any:
        sent.append(Sent(request.method, str(request.url), dict(request.headers), request.read()))
        return library.Response(400, json={"error": {"message": "caught", "code": 400, "status": "CAUGHT"}})

    return library.MockTransport(handle)


def _openai(sent: list[Sent], path: str) -> Any:
    import httpx2
    from openai import OpenAI

    root = ROOT + path.partition("/chat/completions")[0].partition("/responses")[0].partition("/embeddings")[0]
    client = httpx2.Client(transport=_catch(httpx2, sent))
    return OpenAI(base_url=root, api_key="k", max_retries=0, http_client=client)


def openai_chat(path: str, body: Body, sent: list[Sent]) -> None:
    """Chat Completions."""
    from openai.types.chat import completion_create_params as params

    kind = params.CompletionCreateParamsStreaming if body.get("stream") else params.CompletionCreateParamsNonStreaming
    strict_adapter(kind).validate_python(body)
    _openai(sent, path).chat.completions.create(**body)


def openai_responses(path: str, body: Body, sent: list[Sent]) -> None:
    """The Responses API."""
    from openai.types.responses import response_create_params as params

    kind = params.ResponseCreateParamsStreaming if body.get("stream") else params.ResponseCreateParamsNonStreaming
    strict_adapter(kind).validate_python(body)
    _openai(sent, path).responses.create(**body)


def anthropic(path: str, body: Body, sent: list[Sent]) -> None:
    """The Messages API."""
    import httpx2
    from anthropic import Anthropic
    from anthropic.types.message_create_params import MessageCreateParams

    strict_adapter(MessageCreateParams).validate_python(body)
    client = httpx2.Client(transport=_catch(httpx2, sent))
    Anthropic(base_url=ROOT, api_key="k", max_retries=0, http_client=client).messages.create(**body)


def cohere(path: str, body: Body, sent: list[Sent]) -> None:
    """Cohere's chat."""
    import httpx
    from cohere import ClientV2
    from cohere.types import ChatMessages, Document, ResponseFormatV2, Thinking, ToolV2

    _assert_accepted(cohere_rules.sdk_types(body))
    kinds = {
        "messages": ChatMessages,
        "tools": list[ToolV2],
        "documents": list[str | Document],
        "response_format": ResponseFormatV2,
        "thinking": Thinking,
    }
    for name in kinds.keys() & body.keys():
        _assert_known(kinds[name], body[name], name)
    # The client takes any text. Source: cohere, V2ChatRequestToolChoice.
    assert body.get("tool_choice", "NONE") in ("NONE", "REQUIRED")
    fields = {name: value for name, value in body.items() if name != "stream"}
    client = ClientV2(
        api_key="k", base_url=ROOT, max_retries=0, httpx_client=httpx.Client(transport=_catch(httpx, sent))
    )
    if body.get("stream"):
        list(client.chat_stream(**fields))
    else:
        client.chat(**fields)


def mistral(path: str, body: Body, sent: list[Sent]) -> None:
    """Mistral's chat."""
    import httpx2
    from mistralai.client import Mistral

    _assert_accepted(mistral_rules.sdk_types(body))
    client = Mistral(api_key="k", server_url=ROOT, client=httpx2.Client(transport=_catch(httpx2, sent)))
    (client.chat.stream if body.get("stream") else client.chat.complete)(**body)


def gemini(path: str, body: Body, sent: list[Sent]) -> None:
    """Gemini's generateContent. The client takes most of the body in one object, `GenerateContentConfig`."""
    import httpx2
    from google.genai import Client, types

    resource, _, method = path.rpartition(":")
    _, version, *model = resource.split("/")
    fields = {name: value for name, value in body.items() if name not in ("contents", "generationConfig")}
    config = types.GenerateContentConfig.model_validate_json(json.dumps(fields | body.get("generationConfig", {})))
    contents = [types.Content.model_validate_json(json.dumps(content)) for content in body["contents"]]
    options = types.HttpOptions(
        base_url=ROOT, api_version=version, httpx_client=httpx2.Client(transport=_catch(httpx2, sent))
    )
    models = Client(api_key="k", http_options=options).models
    name = unquote("/".join(model))
    if method == "streamGenerateContent":
        list(models.generate_content_stream(model=name, contents=contents, config=config))
    else:
        models.generate_content(model=name, contents=contents, config=config)


def ollama(path: str, body: Body, sent: list[Sent]) -> None:
    """Ollama's chat."""
    import httpx
    from ollama import Client, Options

    # These have no parameter in the client. Source: ollama, api/types.go, ChatRequest and Message.
    fields = {name: value for name, value in body.items() if name not in ("truncate", "shift")}
    Options.model_validate(body.get("options", {}))
    unknown = body.get("options", {}).keys() - Options.model_fields
    assert not unknown, f"options: unknown fields {sorted(unknown)}"
    list(Client(host=ROOT, transport=_catch(httpx, sent)).chat(**fields))


def converse(path: str, body: Body, sent: list[Sent]) -> None:
    """Bedrock's Converse, also where it counts tokens."""
    from botocore.awsrequest import AWSResponse
    from botocore.session import Session

    _, _, model, operation = path.split("/")
    counted = operation == "count-tokens"
    conversation = body["input"]["converse"] if counted else body
    _assert_accepted(bedrock.service_model(conversation))
    client = Session().create_client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=ROOT, aws_access_key_id="k", aws_secret_access_key="k"
    )

    def catch(request: Any, **_: Any) -> Any:
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        sent.append(Sent(request.method, request.url, headers, request.body))
        return AWSResponse(request.url, 400, {}, None)

    client.meta.events.register("before-send.bedrock-runtime", catch)
    form = bedrock.botocore_form(conversation)
    if counted:
        client.count_tokens(modelId=unquote(model), input={"converse": form})
        return
    method = {"converse": client.converse, "converse-stream": client.converse_stream}[operation]
    method(modelId=unquote(model), **form)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def openai_embed(path: str, body: Body, sent: list[Sent]) -> None:
    """OpenAI's embeddings."""
    from openai.types.embedding_create_params import EmbeddingCreateParams

    strict_adapter(EmbeddingCreateParams).validate_python(body)
    _openai(sent, path).embeddings.create(**body)


def openai_count(path: str, body: Body, sent: list[Sent]) -> None:
    """Tokens of a request of the Responses API."""
    from openai.types.responses.input_token_count_params import InputTokenCountParams

    strict_adapter(InputTokenCountParams).validate_python(body)
    _openai(sent, path).responses.input_tokens.count(**body)


def anthropic_count(path: str, body: Body, sent: list[Sent]) -> None:
    """Tokens of a request of the Messages API."""
    import httpx2
    from anthropic import Anthropic
    from anthropic.types.message_count_tokens_params import MessageCountTokensParams

    strict_adapter(MessageCountTokensParams).validate_python(body)
    client = httpx2.Client(transport=_catch(httpx2, sent))
    Anthropic(base_url=ROOT, api_key="k", max_retries=0, http_client=client).messages.count_tokens(**body)


def cohere_embed(path: str, body: Body, sent: list[Sent]) -> None:
    """Cohere's embeddings."""
    import httpx
    from cohere import ClientV2

    client = httpx.Client(transport=_catch(httpx, sent))
    ClientV2(api_key="k", base_url=ROOT, max_retries=0, httpx_client=client).embed(**body)


def mistral_embed(path: str, body: Body, sent: list[Sent]) -> None:
    """Mistral's embeddings."""
    import httpx2
    from mistralai.client import Mistral

    client = httpx2.Client(transport=_catch(httpx2, sent))
    # The client has another name for `input`.
    fields = {"inputs" if name == "input" else name: value for name, value in body.items()}
    Mistral(api_key="k", server_url=ROOT, client=client).embeddings.create(**fields)


def gemini_embed(path: str, body: Body, sent: list[Sent]) -> None:
    """Gemini's embeddings. The API takes one request per text; the client takes the model and the options once."""
    import httpx2
    from google.genai import Client, types

    first = {name: value for name, value in body["requests"][0].items() if name not in ("model", "content")}
    options = types.HttpOptions(
        base_url=ROOT, api_version=path.split("/")[1], httpx_client=httpx2.Client(transport=_catch(httpx2, sent))
    )
    Client(api_key="k", http_options=options).models.embed_content(
        model=body["requests"][0]["model"],
        contents=[types.Content.model_validate(one["content"]) for one in body["requests"]],
        config=types.EmbedContentConfig.model_validate(first),
    )


def ollama_embed(path: str, body: Body, sent: list[Sent]) -> None:
    """Ollama's embeddings."""
    import httpx
    from ollama import Client

    Client(host=ROOT, transport=_catch(httpx, sent)).embed(**body)


def _assert_accepted(refusals: Iterator[refusal.Refusal]) -> None:
    found = [str(one) for one in refusals]
    assert not found, found


def _assert_known(kind: Any, value: Any, where: str) -> None:
    """Fail if a model of the client does not know a field. The models of Cohere let unknown ones pass."""
    unknown = list(_unknown(pydantic.TypeAdapter(kind).validate_python(value, strict=True), where))
    assert not unknown, f"unknown fields: {unknown}"


def _unknown(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, pydantic.BaseModel):
        yield from (f"{where}.{name}" for name in value.model_extra or {})
        for name, inner in value:
            yield from _unknown(inner, f"{where}.{name}")
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _unknown(inner, f"{where}.{at}")


_DEFAULTS: Mapping[Callable[..., None], frozenset[str]] = {
    cohere: frozenset({"stream=false"}),
    gemini: frozenset({"generationConfig={}"}),
    mistral: frozenset({"stream=false", "prefix=false", "index=0"}),
    ollama: frozenset({"tools=[]", 'content=""'}),
}
"""Fields that a client adds with a value that means the same as no field, or leaves out then."""

_NOT_SENT: Mapping[Callable[..., None], frozenset[str]] = {
    ollama: frozenset({"truncate", "shift", "tool_call_id", "id"})
}
"""Fields that a client cannot send. Source for Ollama: api/types.go, `ChatRequest`, `Message` and `ToolCall`."""


def _plain(client: Callable[..., None], value: Any) -> Any:
    """Remove differences that mean nothing from a body: default values, and Google's two spellings of each name."""
    if isinstance(value, list):
        return [_plain(client, inner) for inner in value]
    if not isinstance(value, dict):
        return value
    defaults, not_sent = _DEFAULTS.get(client, frozenset()), _NOT_SENT.get(client, frozenset())
    return {
        re.sub("_([a-z])", lambda found: found[1].upper(), name) if client is gemini else name: _plain(client, inner)
        for name, inner in value.items()
        if f"{name}={json.dumps(inner)}" not in defaults and name not in not_sent
    }


def check(request: WireRequest, client: Callable[[str, Body, list[Sent]], None]) -> None:
    """Fail unless the official client accepts the body of a request, and would send the same request.

    The method, path, query, body, content type and API version are compared. Credentials and headers about the
    client are not.
    """
    body: Body = json.loads(request.body)
    wanted = urlsplit(request.url.replace("{url}", ROOT))
    sent: list[Sent] = []
    try:
        client(wanted.path, body, sent)
    except Exception:
        # The transport refuses what it catches, so the client fails after it has sent the request.
        if not sent:
            raise
    [found] = sent
    assert found.method == request.method
    url = urlsplit(found.url)
    assert url.path == wanted.path
    assert parse_qsl(url.query) == parse_qsl(wanted.query)
    assert _plain(client, json.loads(found.body)) == _plain(client, body)
    assert found.headers["content-type"].partition(";")[0] == request.headers["content-type"]
    assert found.headers.get("anthropic-version") == request.headers.get("anthropic-version")
