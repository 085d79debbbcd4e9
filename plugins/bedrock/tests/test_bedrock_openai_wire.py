"""OpenAI's and Anthropic's APIs at Bedrock: requests beside those of the official clients, signatures, errors.

No recording and no SDK confirms: FIPS, dual-stack and Chinese hosts of OpenAI's APIs, Chat Completions of GPT models,
Messages at bedrock-mantle, which optional fields Chat Completions accepts, and the errors for wrong signatures there.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import attrs
import botocore.auth
import httpx2
import pytest
import trunkline
from anthropic import AnthropicBedrockMantle
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from openai import OpenAI
from openai.providers import bedrock as sdk_bedrock
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ContextTooLong,
    NotFound,
    Overloaded,
    PermissionDenied,
    RateLimited,
    RemoteError,
    ServerError,
    TrunklineError,
    UnsupportedOperation,
)
from trunkline.fold import fold
from trunkline.messages import Message, Reasoning, Text, ToolCall, assistant, tool_result, user
from trunkline.request import ChatRequest, EmbedRequest, ResponseFormat, Tool
from trunkline.testing import Exchange, serve
from trunkline_bedrock import BedrockSettings, bedrock

GPT, OSS, CLAUDE = "openai.gpt-5.5", "openai.gpt-oss-120b", "anthropic.claude-opus-4-8"
WEATHER = Tool(
    name="weather",
    description="Tells the weather.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CHAT_ANSWER = {"choices": [{"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": "Hi"}}]}
RESPONSES_ANSWER = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hi", "annotations": []}],
        }
    ],
}
MESSAGES_ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
ANSWERS = {"/chat/completions": CHAT_ANSWER, "/responses": RESPONSES_ANSWER, "/messages": MESSAGES_ANSWER}


def context(**settings: Any) -> ServiceContext[BedrockSettings]:
    made = BedrockSettings(**{"aws_region": "us-east-1", **settings})
    return ServiceContext(name="b", provider="bedrock", settings=made)


def translated(request: ChatRequest, *, stream: bool = False, **settings: Any) -> WireRequest:
    return bedrock.translator(context(**settings)).translate(request, stream=stream).wire_request


REQUEST = ChatRequest(
    messages=[
        Message(role="system", parts="Be brief."),
        user("Oslo?"),
        assistant("I look.", ToolCall(id="call_0", name="weather", arguments={"city": "Oslo"})),
        tool_result("call_0", "Sun"),
    ],
    tools=[WEATHER],
    tool_choice="auto",
    max_output_tokens=100,
    response_format=ResponseFormat(
        type="json_schema", schema={"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    ),
)


def sdk(seen: list[httpx2.Request], **options: Any) -> OpenAI:
    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(400, json={"error": {"message": "no"}})

    transport = httpx2.MockTransport(handler)
    provider = sdk_bedrock(region="us-east-1", **options)
    return OpenAI(provider=provider, http_client=httpx2.Client(transport=transport), max_retries=0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("endpoint", ["mantle", "runtime"])
def test_openais_client_sends_our_body_to_the_same_url(api: Any, endpoint: Any, stream: bool) -> None:
    request = attrs.evolve(REQUEST, model=GPT)
    ours = translated(request, stream=stream, api=api, endpoint=endpoint)
    seen: list[httpx2.Request] = []
    client = sdk(seen, endpoint=endpoint, access_key_id="AKIAX", secret_access_key="s")
    create: Any = client.chat.completions.create if api == "chat" else client.responses.create
    with pytest.raises(Exception, match="no"):
        create(**json.loads(ours.body))
    assert str(seen[0].url) == ours.url
    assert json.loads(seen[0].content) == json.loads(ours.body)
    assert seen[0].headers["content-type"] == ours.headers["content-type"]


def test_anthropics_client_for_mantle_sends_our_body_to_the_same_url_with_the_same_version() -> None:
    ours = translated(ChatRequest(messages="x", model=CLAUDE, max_output_tokens=5), api="messages")
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(400, json={"error": {"message": "no"}})

    client = AnthropicBedrockMantle(
        aws_region="us-east-1",
        api_key="k",
        http_client=httpx2.Client(transport=httpx2.MockTransport(handler)),
        max_retries=0,
    )
    with pytest.raises(Exception, match="no"):
        client.messages.create(**json.loads(ours.body))
    assert str(seen[0].url) == ours.url
    assert json.loads(seen[0].content) == json.loads(ours.body)
    names = ("content-type", "anthropic-version")
    assert {name: seen[0].headers[name] for name in names} == {name: ours.headers[name] for name in names}


# Signatures, checked as AWS checks them


def signed_for(request: Any, secret: str = "canary-secret", token: str | None = None) -> tuple[str, str, str]:
    """Return the key, the region and the service of a request's signature, which must be the right one."""
    headers: Mapping[str, str] = request.headers
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([^,]+), Signature=.+",
        headers["authorization"],
    )
    assert found is not None
    key, region, service, names = found.groups()
    covered = {name: headers[name] for name in names.split(";") if name not in ("x-amz-date", "x-amz-security-token")}
    url = f"http://{headers['host']}{request.target}"
    again: Any = AWSRequest(method=request.method, url=url, data=request.body, headers=covered)
    signer: Any = botocore.auth.SigV4Auth(Credentials(key, secret, token), service, region)
    again.context["timestamp"] = headers["x-amz-date"]
    signer._modify_request_before_signing(again)
    wanted = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert headers["authorization"].endswith(f"Signature={wanted}")
    return key, region, service


async def answer(exchange: Exchange) -> None:
    found = next((value for end, value in ANSWERS.items() if exchange.request.target.endswith(end)), None)
    if found is None:
        found = {"data": [{"id": "m1", "object": "model"}], "object": "list"}
    await exchange.respond(json.dumps(found).encode())


KEYS = {"aws_access_key_id": "AKIAX", "aws_secret_access_key": "canary-secret"}
CONFIG = """
[profile mine]
region = eu-west-1
aws_access_key_id = AKIAX
aws_secret_access_key = canary-secret
"""


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["pair", "token", "profile", "environment", "key", "key_pair", "bearer_variable"])
@pytest.mark.parametrize(
    ("settings", "model", "target", "service"),
    [
        ({}, GPT, "/openai/v1/responses", "bedrock-mantle"),
        ({"api": "chat"}, OSS, "/v1/chat/completions", "bedrock-mantle"),
        ({"api": "responses", "endpoint": "runtime"}, "us.openai.gpt-6-sol", "/openai/v1/responses", "bedrock"),
        ({"api": "messages"}, CLAUDE, "/anthropic/v1/messages", "bedrock-mantle"),
    ],
)
async def test_every_endpoint_accepts_every_way_to_authenticate(
    environment: pytest.MonkeyPatch, tmp_path: Any, settings: Any, model: str, target: str, service: str, way: str
) -> None:
    token = None
    given: dict[str, Any] = {}
    if way in ("pair", "token"):
        given = dict(KEYS)
        if way == "token":
            token = given["aws_session_token"] = "canary-token"
    elif way == "key_pair":
        given = {"api_key": "AKIAX:canary-secret"}
    elif way == "key":
        given = {"api_key": "canary-bearer"}
    elif way == "bearer_variable":
        environment.setenv("AWS_BEARER_TOKEN_BEDROCK", "canary-bearer")
    elif way == "environment":
        environment.setenv("AWS_ACCESS_KEY_ID", "AKIAX")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    else:
        (tmp_path / "config").write_text(CONFIG)
        environment.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        given = {"aws_profile": "mine"}
    options = {"aws_region": "eu-west-1", "default_model": model, **settings, **given}
    async with serve(answer) as server, trunkline.open_service("bedrock", api_url=server.url, **options) as opened:
        assert (await opened.chat("x")).text == "Hi"
        request = server.requests[0]
    assert request.target == target
    if "bearer" in way or way == "key":
        assert request.headers["authorization"] == "Bearer canary-bearer"
        assert "x-amz-content-sha256" not in request.headers
    else:
        assert signed_for(request, token=token) == ("AKIAX", "eu-west-1", service)
        assert "x-amz-content-sha256" in request.headers["authorization"]
        assert request.headers.get("x-amz-security-token") == token


@pytest.mark.anyio
async def test_a_redirect_is_not_followed_with_the_credentials() -> None:
    async def elsewhere(exchange: Exchange) -> None:
        await exchange.respond(b"{}")

    async with serve(elsewhere) as other:

        async def handler(exchange: Exchange) -> None:
            await exchange.respond(b"", status=307, headers={"location": f"{other.url}/v1/chat/completions"})

        async with serve(handler) as server:
            options = {"aws_region": "us-east-1", "default_model": GPT, "max_retries": 0, **KEYS}
            async with trunkline.open_service("bedrock", api_url=server.url, **options) as opened:
                with pytest.raises(TrunklineError):
                    await opened.chat("x")
        assert not other.requests


# Operations


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("settings", "target"),
    [
        ({"api": "chat"}, "/v1/models"),
        ({"api": "responses", "endpoint": "runtime"}, "/openai/v1/models"),
        ({"endpoint": "mantle"}, "/v1/models"),
    ],
)
async def test_the_models_of_a_chosen_endpoint_are_listed(settings: Any, target: str) -> None:
    async with serve(answer) as server:
        options = {"aws_region": "us-east-1", **KEYS, **settings}
        async with trunkline.open_service("bedrock", api_url=server.url, **options) as opened:
            assert [model.id for model in await opened.list_models()] == ["m1"]
        assert server.requests[0].target == target


@pytest.mark.anyio
async def test_embeddings_are_made_by_the_runtime_whatever_the_api_is() -> None:
    async def handler(exchange: Exchange) -> None:
        assert exchange.request.target == "/model/amazon.titan-embed-text-v2%3A0/invoke"
        await exchange.respond(b'{"embedding": [0.5], "inputTextTokenCount": 1}')

    async with serve(handler) as server:
        options = {"aws_region": "us-east-1", **KEYS, "api": "chat"}
        async with trunkline.open_service("bedrock", api_url=server.url, **options) as opened:
            response = await opened.embed(EmbedRequest(inputs="x", model="amazon.titan-embed-text-v2:0"))
            assert list(response.embeddings[0]) == [0.5]
            with pytest.raises(UnsupportedOperation, match="count_tokens"):
                await opened.count_tokens(ChatRequest(messages="x", model=OSS))


# Histories


@pytest.mark.parametrize(("api", "model"), [("chat", OSS), ("responses", GPT)])
def test_call_ids_that_restart_in_each_answer_are_made_unique_with_their_results(api: str, model: str) -> None:
    messages = [
        user("x"),
        assistant(ToolCall(id="call_0", name="first", arguments={})),
        tool_result("call_0", "first result"),
        assistant(ToolCall(id="call_0", name="second", arguments={})),
        tool_result("call_0", "second result"),
    ]
    body = json.loads(translated(ChatRequest(messages=messages, model=model), api=api).body)
    if api == "chat":
        sent = body["messages"]
        calls = [(call["id"], call["function"]["name"]) for item in sent for call in item.get("tool_calls", ())]
        results = [(item["tool_call_id"], item["content"]) for item in sent if item["role"] == "tool"]
    else:
        sent = body["input"]
        calls = [(item["call_id"], item["name"]) for item in sent if item.get("type") == "function_call"]
        results = [(item["call_id"], item["output"]) for item in sent if item.get("type") == "function_call_output"]
    assert [name for _, name in calls] == ["first", "second"]
    assert [text for _, text in results] == ["first result", "second result"]
    assert [call for call, _ in calls] == [call for call, _ in results]
    assert len({call for call, _ in calls}) == 2


@pytest.mark.parametrize(("api", "model"), [("chat", OSS), ("responses", GPT), ("messages", CLAUDE)])
def test_what_converse_made_does_not_reach_another_api(api: str, model: str) -> None:
    family = {"chat": "gpt-oss", "responses": "gpt", "messages": "nova"}[api]
    kept = {"bedrock": {"canary": 1}}
    earlier = Message(
        role="assistant",
        parts=[
            Reasoning(text="canary", provider="bedrock", family=family, signature="canary"),
            Text(text="Hello", family=family, provider_metadata=kept),
            trunkline.Opaque(provider="bedrock", kind="guardContent", data={"canary": 1}, family=family),
        ],
    )
    request = ChatRequest(messages=[user("x"), earlier, user("y")], model=model, max_output_tokens=5)
    sent = translated(request, api=api).body
    assert b"Hello" in sent
    assert b"canary" not in sent


@pytest.mark.parametrize("earlier", ["anthropic", "anthropic-aws", "azure-anthropic", "vertex", "bedrock"])
@pytest.mark.parametrize("api", ["converse", "messages"])
def test_claude_accepts_its_thinking_from_every_other_place(api: str, earlier: str) -> None:
    thought = Reasoning(text="Look.", provider=earlier, family="claude", signature="canary")
    called = Message(role="assistant", parts=[thought, ToolCall(id="toolu_1", name="weather", arguments={})])
    request = ChatRequest(
        messages=[user("x"), called, tool_result("toolu_1", "Sun")], model=CLAUDE, tools=[WEATHER], max_output_tokens=9
    )
    assert b"canary" in translated(request, api=api).body


@pytest.mark.parametrize(("api", "model"), [("chat", OSS), ("responses", GPT), ("messages", CLAUDE)])
def test_blocks_of_converse_among_the_options_do_not_reach_another_api(api: str, model: str) -> None:
    point = {"bedrock": {"cachePoint": {"type": "default"}}}
    guarded = Text(text="Read this.", provider_options={"bedrock": {"guardContent": {"qualifiers": ["query"]}}})
    result = trunkline.ToolResult(tool_call_id="c", parts=[Text(text="Sun", provider_options=point)])
    request = ChatRequest(
        messages=[
            Message(role="system", parts="Be brief.", provider_options=point),
            user(guarded),
            assistant(ToolCall(id="c", name="weather", arguments={}, provider_options=point)),
            Message(role="tool", parts=[result]),
        ],
        tools=[
            attrs.evolve(WEATHER, provider_options={**point, "other": {"x": 1}}),
            Tool(name="grounding", provider_options={"bedrock": {"systemTool": {"name": "nova_grounding"}}}),
        ],
        tool_choice="grounding",
        model=model,
        max_output_tokens=20,
    )
    translation = bedrock.translator(context(api=api)).translate(request, stream=False)
    sent = translation.wire_request.body
    assert not any(word in sent for word in (b"cachePoint", b"guardContent", b"systemTool", b"grounding"))
    assert all(word in sent for word in (b"Be brief.", b"Read this.", b"Sun", b"weather"))
    if api == "messages":
        count = bedrock.operations(context(api=api)).count_tokens
        assert count is not None
        counted = count.build(context(api=api), request)
        assert isinstance(counted, Translation)
        assert b"cachePoint" not in counted.wire_request.body
    told = {(warning.subject, warning.lossy) for warning in translation.warnings if warning.kind == "left_out"}
    assert told >= {("cachePoint", False), ("guardContent", True), ("tools", True)}


def test_options_that_bedrock_does_not_have_are_told() -> None:
    request = ChatRequest(messages="x", model=OSS, user_id="u", top_k=3)
    for api, model in (("chat", OSS), ("responses", GPT), ("messages", CLAUDE)):
        asked = attrs.evolve(request, model=model, max_output_tokens=5)
        warnings = bedrock.translator(context(api=api)).translate(asked, stream=False).warnings
        assert {"user_id", "top_k"} <= {warning.subject for warning in warnings}
        assert not any("api_version" in warning.message for warning in warnings)  # `bedrock` has no such setting


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_gpt_oss_samples_as_with_converse(api: str) -> None:
    """AWS documents `temperature`, `top_p` and `stop` for it (userguide/model-parameters-openai.html)."""
    body = json.loads(translated(ChatRequest(messages="x", model=OSS, temperature=0.5, top_p=0.9), api=api).body)
    assert (body["temperature"], body["top_p"]) == (0.5, 0.9)


# Answers


@pytest.mark.parametrize(
    "pieces",
    [
        ["<reasoning>We need</reasoning>", "<reasoning> to greet.</reasoning>", "Hello, ", "you"],
        ["<reasoning>We need to greet.</reasoning>Hello, you"],
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_between_tags_is_no_text(pieces: list[str], stream: bool) -> None:
    parser = bedrock.response_parser(context(api="chat"))
    if stream:
        deltas = [*({"delta": {"content": piece}, "finish_reason": None} for piece in pieces)]
        deltas.append({"delta": {}, "finish_reason": "stop"})
        body = b"".join(
            b"data: " + json.dumps({"choices": [{"index": 0, **item}]}).encode() + b"\n\n" for item in deltas
        )
        decoder = StreamDecoder(*parser.stream())
        response = fold([*decoder.feed(body + b"data: [DONE]\n\n"), *decoder.finish()], "bedrock")
    else:
        content = pieces[0] if len(pieces) == 1 else "<reasoning>We need to greet.</reasoning>Hello, you"
        answer = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": content}}]}
        response = parser.body(WireResponse(status=200, headers={}, body=json.dumps(answer).encode()))
    reasoning = "".join(part.text for part in response.message.parts if isinstance(part, Reasoning))
    assert (reasoning, response.text) == ("We need to greet.", "Hello, you")


# Errors


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, {"error": {"message": "model `m` isn't supported on this route"}}, "set the fact mantle_path"),
        (400, {"error": {"message": "The model 'm' does not support the '/v1/responses' API"}}, "set api to another"),
        (401, {"error": {"code": "access_denied", "message": "m is not enabled for this account"}}, "its model card"),
        (404, {"error": {"code": "model_not_found", "message": "The model `m` does not exist"}}, "trunkline models"),
        (404, {"Output": {"__type": "x#UnknownOperationException"}}, "openai_url: its path"),
    ],
)
def test_an_error_about_the_wrong_endpoint_says_what_to_do(status: int, body: Any, words: str) -> None:
    service = context(api="responses")
    error = bedrock.response_parser(service).error(
        WireResponse(status=status, headers={}, body=json.dumps(body).encode())
    )
    found = bedrock.advice(service, error)
    assert found is not None
    assert words in found.text


@pytest.mark.parametrize("settings", [{"api": "messages"}, {"endpoint": "mantle"}])
def test_the_id_of_an_inference_profile_at_mantle_is_named_as_the_problem(settings: Any) -> None:
    """No recording shows what `bedrock-mantle` answers to such an id; AWS's model cards name none for it."""
    service = context(default_model=f"us.{CLAUDE}", **settings)
    body = b'{"type": "error", "error": {"type": "not_found_error", "message": "model not found"}}'
    error = bedrock.response_parser(service).error(WireResponse(status=404, headers={}, body=body))
    found = bedrock.advice(service, error)
    assert found is not None
    assert "the model's own id" in found.text


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "code"),
    [
        # The first three are quoted in issues of gateways (June to August 2026): litellm#29463, TanStack/ai#925.
        (
            400,
            {},
            {
                "error": {
                    "code": "validation_error",
                    "message": "The model 'm' does not support the '/v1/responses' API",
                }
            },
            BadRequest,
            "validation_error",
        ),
        (400, {}, {"error": {"message": "model `m` isn't supported on this route"}}, BadRequest, None),
        (
            401,
            {},
            {"error": {"code": "access_denied", "message": "m is not enabled for this account"}},
            PermissionDenied,
            "access_denied",
        ),
        (
            403,
            {"x-amzn-errortype": "AccessDeniedException:http://x/"},
            {"Message": "User is not authorized to perform: bedrock-mantle:CreateInference"},
            PermissionDenied,
            "AccessDeniedException",
        ),
        (403, {}, {"message": "The security token included in the request is invalid"}, AuthenticationError, None),
        (429, {}, {"__type": "ThrottlingException", "message": "slow"}, RateLimited, "ThrottlingException"),
        (429, {}, {"error": {"code": "rate_limit_exceeded", "message": "slow"}}, RateLimited, "rate_limit_exceeded"),
        (
            400,
            {},
            {"error": {"code": "context_length_exceeded", "message": "too long", "type": "invalid_request_error"}},
            ContextTooLong,
            "context_length_exceeded",
        ),
        (500, {}, {"error": {"message": "broken", "type": "server_error"}}, ServerError, "server_error"),
        (503, {}, "<html>", ServerError, None),
        # AWS's answer to a path that the host does not have.
        (
            404,
            {},
            {"Output": {"__type": "com.amazon.coral.service#UnknownOperationException"}, "Version": "1.0"},
            NotFound,
            "UnknownOperationException",
        ),
    ],
)
@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
def test_errors_in_openais_and_in_awss_form_are_told_apart(
    api: str, status: int, headers: dict[str, str], body: Any, kind: type[RemoteError], code: str | None
) -> None:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    wire_response = WireResponse(status=status, headers={"x-request-id": "r-1", **headers}, body=raw)
    error = bedrock.response_parser(context(api=api)).error(wire_response)
    assert isinstance(error, kind), error
    assert (error.status, error.request_id) == (status, "r-1")
    if api != "messages":
        assert error.code == code


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"__type": "ThrottlingException", "message": "slow"}, RateLimited),
        ({"error": {"__type": "x#ServiceUnavailableException", "message": "later"}}, Overloaded),
        ({"error": {"code": 424, "type": "ModelTimeoutException", "message": "late"}}, RemoteError),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, Overloaded),
        ({"error": {"code": "rate_limit_exceeded", "message": "slow"}}, RateLimited),
    ],
)
@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
@pytest.mark.parametrize("whole", [False, True])
def test_errors_inside_of_an_answer_are_told_apart_too(
    api: str, body: Any, kind: type[RemoteError], whole: bool
) -> None:
    """No recording shows an error of AWS inside of a stream of these APIs."""
    parser = bedrock.response_parser(context(api=api))
    raw = json.dumps(body).encode()
    decoder = StreamDecoder(*parser.stream())
    with pytest.raises(kind) as caught:
        if whole and "error" in body:
            parser.body(WireResponse(status=200, headers={}, body=raw))
        decoder.feed(b"event: error\ndata: " + raw + b"\n\n")
        decoder.finish()
    assert type(caught.value) is kind


@pytest.mark.anyio
@pytest.mark.parametrize("body", [{"message": "Signature expired: x"}, {"error": {"message": "Signature expired: x"}}])
async def test_a_refused_time_of_a_signature_is_corrected_and_the_request_sent_again(body: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.request.headers["x-amz-date"].startswith("2031"):
            await answer(exchange)
            return
        headers = {"date": "Wed, 01 Jan 2031 00:00:00 GMT"}
        await exchange.respond(json.dumps(body).encode(), status=403, headers=headers)

    async with serve(handler) as server:
        options = {"aws_region": "us-east-1", "default_model": GPT, **KEYS}
        async with trunkline.open_service("bedrock", api_url=server.url, **options) as opened:
            assert (await opened.chat("x")).text == "Hi"
        assert len(server.requests) == 2
