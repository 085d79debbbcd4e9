"""The kit's tests of requests catch bugs: a small translator passes each of them, and fails with a bug in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any
from urllib.parse import quote

import anyio
import attrs
import pytest
from kit_toy import TEXT, TOY, USED, WIRE, ToySettings, event
from trunkline.authoring.auth import HeaderAuth
from trunkline.authoring.json import dumps, loads, with_options
from trunkline.authoring.provider import Operation, Operations, ServiceContext, Translation
from trunkline.authoring.urls import path_segment
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.messages import Citation, Image, Part, Reasoning, Text, ToolCall, ToolResult
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import ChatResponse, EmbedResponse, FinishReason
from trunkline.settings import setting, settings
from trunkline.testing import EMBED_DIMENSIONS, EMBED_TEXTS, TOOL_HISTORY, ProviderTests, Sample, Step, canary
from trunkline.testing.faults.lifecycle import LifecycleFaults
from trunkline.testing.request_contents import RequestContentTests

COPIED = (
    "parallel_tool_calls",
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "top_logprobs",
)
"""Fields that the API of these tests has under the same names."""

Edit = Callable[[dict[str, Any], ChatRequest], None]


def block(part: Part, warnings: Warnings) -> dict[str, Any] | None:
    made: dict[str, Any]
    match part:
        case Text():
            made = {"text": part.text}
        case Image(detail=None):
            made = {"image": part.base64 if part.data is not None else part.url, "type": part.media_type}
        case ToolCall():
            made = {"call": part.id, "tool": part.name, "arguments": part.arguments}
        case ToolResult():
            media = [item for one in part.parts if (item := block(one, warnings)) is not None and "text" not in item]
            made = {"result": part.tool_call_id, "text": part.text, "media": media, "failed": part.is_error}
        case _:
            warnings.add("left_out", type(part).__name__, "left out", lossy=not isinstance(part, Reasoning))
            return None
    return with_options(made, part.provider_options, "kit-toy")


def body_of(request: ChatRequest, warnings: Warnings) -> dict[str, Any]:
    supported = {*COPIED, "tools", "tool_choice", "stop", "metadata", "response_format", "reasoning", "logprobs"}
    warnings.unsupported(request, supported=supported)
    messages = []
    for message in request.messages:
        made: dict[str, Any] = {"role": message.role}
        made["parts"] = [item for part in message.parts if (item := block(part, warnings)) is not None]
        if message.name is not None:
            made["name"] = message.name
        messages.append(with_options(made, message.provider_options, "kit-toy"))
    body: dict[str, Any] = {"model": request.model, "messages": messages}
    for name in COPIED:
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.logprobs:
        body["logprobs"] = True
    elif request.logprobs is False:
        body["logprobs"] = False
    if request.stop:
        body["stop"] = list(request.stop)
    if request.metadata:
        body["metadata"] = dict(request.metadata)
    if request.tools:
        body["tools"] = [
            with_options(
                {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
                | ({} if tool.strict is None else {"strict": tool.strict}),
                tool.provider_options,
                "kit-toy",
            )
            for tool in request.tools
        ]
    if request.tool_choice is not None:
        body["tool_choice"] = request.tool_choice.name or request.tool_choice.mode
    if request.reasoning is not None:
        body["effort"] = request.reasoning.effort
    if request.response_format is not None:
        body["format"] = {"type": request.response_format.type}
        if request.response_format.schema is not None:
            body["format"]["schema"] = request.response_format.schema
    return with_options(body, request.provider_options, "kit-toy", joined=("metadata",))


class Sound:
    """A translator without a bug."""

    def __init__(self, context: ServiceContext[ToySettings]) -> None:
        self.url = context.settings.url + "/chat?account=7"

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        warnings = Warnings()
        body = {**body_of(request, warnings), "stream": stream}
        self.edit(body, request)
        wire_request = WireRequest(url=self.url, headers={"x-version": "1"}, body=dumps(body))
        return Translation(wire_request=wire_request, warnings=warnings.all())

    def edit(self, body: dict[str, Any], request: ChatRequest) -> None:
        """Plant a bug in the body."""


def edited(edit: Edit) -> type[Sound]:
    """Return the translator with a bug in its bodies."""
    return type("Edited", (Sound,), {"edit": lambda self, body, request: edit(body, request)})


def blocks(body: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    return (part for message in body["messages"] for part in message["parts"] if key in part)


def swap(body: dict[str, Any], key: str) -> None:
    """Exchange the values of the first and the second block."""
    found = list(blocks(body, key))
    if len(found) > 1:
        found[0][key], found[1][key] = found[1][key], found[0][key]


def rename(old: str, new: str) -> Edit:
    def edit(body: dict[str, Any], request: ChatRequest) -> None:
        if old in body:
            body[new] = body.pop(old)

    return edit


class Leaking(Sound):
    """Keeps the fields of earlier requests."""

    def __init__(self, context: ServiceContext[ToySettings]) -> None:
        super().__init__(context)
        self.kept: dict[str, Any] = {}

    def edit(self, body: dict[str, Any], request: ChatRequest) -> None:
        self.kept |= {name: value for name, value in body.items() if name in COPIED}
        body |= self.kept


class KeepingModel(Sound):
    """Sends the model of the first request in all requests."""

    model: str | None = None

    def edit(self, body: dict[str, Any], request: ChatRequest) -> None:
        self.model = body["model"] = self.model or request.model


class Sharing(Sound):
    """Keeps the fields of earlier requests for all services."""

    kept: dict[str, Any] = {}  # the bug

    def edit(self, body: dict[str, Any], request: ChatRequest) -> None:
        if request.top_k is not None:
            self.kept["top_k"] = request.top_k
        body |= self.kept


class Popping(Sound):
    """Takes the options out of the request of the application."""

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        made = super().translate(request, stream=stream)
        if isinstance(request.provider_options, dict):
            request.provider_options.pop("kit-toy", None)
        return made


class Whole(Sound):
    """Never asks for a stream."""

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        return super().translate(request, stream=False)


class WholeWithoutFlag(Sound):
    """Sends the flag of a stream under another name if the response is not streamed."""

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        made = super().translate(request, stream=stream)
        body = made.wire_request.body.replace(b'"stream":false', b'"streamed":false')
        return attrs.evolve(made, wire_request=attrs.evolve(made.wire_request, body=body))


class FirstOnly(Sound):
    """Sends only the last message if the response is streamed."""

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        messages = request.messages[-1:] if stream else request.messages
        return super().translate(attrs.evolve(request, messages=messages), stream=stream)


class AccountTwice(Sound):
    """Sends the account also as the project."""

    def __init__(self, context: ServiceContext[ToySettings]) -> None:
        super().__init__(context)
        self.account = context.settings.account

    def edit(self, body: dict[str, Any], request: ChatRequest) -> None:
        if self.account is not None:
            body["account"] = body["project"] = self.account


class Losing(HeaderAuth):
    """Loses a part of the request when it signs it."""

    lost = ""

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        signed = super().sign(wire_request, credentials)
        match self.lost:
            case "query":
                return attrs.evolve(signed, url=signed.url.partition("?")[0])
            case "header":
                return attrs.evolve(signed, headers={"authorization": signed.headers["authorization"]})
            case "body":
                return attrs.evolve(signed, body=signed.body.replace(b'"seed"', b'"sead"'))
        return signed


def first_message_twice(body: dict[str, Any], request: ChatRequest) -> None:
    body["messages"].insert(0, body["messages"][0])


def history_reversed(body: dict[str, Any], request: ChatRequest) -> None:
    body["messages"].reverse()


def last_text_lost(body: dict[str, Any], request: ChatRequest) -> None:
    for message in body["messages"]:
        message["parts"] = message["parts"][:1]


def result_under_another_id(body: dict[str, Any], request: ChatRequest) -> None:
    swap(body, "result")


def results_under_the_first_id(body: dict[str, Any], request: ChatRequest) -> None:
    for part in blocks(body, "result"):
        part["result"] = next(blocks(body, "call"))["call"]


def images_exchanged(body: dict[str, Any], request: ChatRequest) -> None:
    swap(body, "image")


def images_of_one_type(body: dict[str, Any], request: ChatRequest) -> None:
    for part in blocks(body, "image"):
        part["type"] = "image/jpeg"


def jpegs_as_pngs(body: dict[str, Any], request: ChatRequest) -> None:
    for part in blocks(body, "image"):
        part["type"] = "image/png"


def metadata_replaced_by_options(body: dict[str, Any], request: ChatRequest) -> None:
    body |= request.provider_options.get("kit-toy", {})


def default_temperature(body: dict[str, Any], request: ChatRequest) -> None:
    body.setdefault("temperature", 1.0)


def default_limit(body: dict[str, Any], request: ChatRequest) -> None:
    body.setdefault("max_output_tokens", 1024)


def images_last(body: dict[str, Any], request: ChatRequest) -> None:
    for message in body["messages"]:
        message["parts"].sort(key=lambda part: "image" in part)


def media_of_results_lost(body: dict[str, Any], request: ChatRequest) -> None:
    for part in blocks(body, "result"):
        del part["media"]


def texts_of_results_joined(body: dict[str, Any], request: ChatRequest) -> None:
    for part in blocks(body, "result"):
        part["text"] = part["text"].replace("\n", "")


def null_in_a_message(body: dict[str, Any], request: ChatRequest) -> None:
    for message in body["messages"]:
        message.setdefault("name", None)


def choice_lost(body: dict[str, Any], request: ChatRequest) -> None:
    if body.get("tool_choice") == "required":
        body["tool_choice"] = "auto"


def parallel_ignored(body: dict[str, Any], request: ChatRequest) -> None:
    if "parallel_tool_calls" in body:
        body["parallel_tool_calls"] = True


def descriptions_exchanged(body: dict[str, Any], request: ChatRequest) -> None:
    tools = body.get("tools", [])
    if len(tools) > 1:
        tools[0]["description"], tools[1]["description"] = tools[1]["description"], tools[0]["description"]


def description_lost(body: dict[str, Any], request: ChatRequest) -> None:
    for tool in body.get("tools", []):
        del tool["description"]


def schema_lost(body: dict[str, Any], request: ChatRequest) -> None:
    body.get("format", {}).pop("schema", None)


def failure_lost(body: dict[str, Any], request: ChatRequest) -> None:
    for part in blocks(body, "result"):
        part["failed"] = False


def name_lost(body: dict[str, Any], request: ChatRequest) -> None:
    for message in body["messages"]:
        message.pop("name", None)


def options_twice(body: dict[str, Any], request: ChatRequest) -> None:
    for message in body["messages"]:
        if "x_kit" in message:
            message["more"] = message["x_kit"]


def model_fixed(body: dict[str, Any], request: ChatRequest) -> None:
    body["model"] = "m"


def rounded(body: dict[str, Any], request: ChatRequest) -> None:
    if "temperature" in body:
        body["temperature"] = round(body["temperature"], 1)


def stop_twice(body: dict[str, Any], request: ChatRequest) -> None:
    if "stop" in body:
        body["stop_sequences"] = body["stop"]


def arguments_as_text(body: dict[str, Any], request: ChatRequest) -> None:
    for part in blocks(body, "call"):
        part["arguments"] = {name: str(value) for name, value in part["arguments"].items()}


def beyond_ascii_lost(body: dict[str, Any], request: ChatRequest) -> None:
    for part in blocks(body, "text"):
        part["text"] = part["text"].encode("ascii", "ignore").decode()


def user_sent(body: dict[str, Any], request: ChatRequest) -> None:
    if request.user_id is not None:
        body["user"] = request.user_id


def cached_text_twice(body: dict[str, Any], request: ChatRequest) -> None:
    if request.cache is not None:
        body["cached"] = request.messages[0].text


BUGS: dict[str, tuple[str, type[Sound] | Edit | str]] = {
    "a message twice": ("test_each_text_of_a_conversation_is_sent_once", first_message_twice),
    "history reversed": ("test_each_text_of_a_conversation_is_sent_once", history_reversed),
    "only the first part": ("test_each_text_of_a_conversation_is_sent_once", last_text_lost),
    "beyond ASCII lost": ("test_each_text_of_a_conversation_is_sent_once", beyond_ascii_lost),
    "arguments as text": ("test_arguments_of_calls_are_unchanged", arguments_as_text),
    "cached text twice": ("test_caching_changes_no_content", cached_text_twice),
    "user sent": ("test_user_id_is_not_sent_unless_a_setting_says_so", user_sent),
    "texts in another order": ("test_embedded_texts_are_sent_once", "order"),
    "one text twice": ("test_embedded_texts_are_sent_once", "twice"),
    "tokens of one message": ("test_tokens_are_counted_of_the_whole_conversation", "messages"),
    "ids exchanged": ("test_results_are_sent_under_the_ids_of_their_calls", result_under_another_id),
    "one id for all": ("test_results_are_sent_under_the_ids_of_their_calls", results_under_the_first_id),
    "rounded": ("test_each_option_is_sent_once", rounded),
    "stop twice": ("test_each_option_is_sent_once", stop_twice),
    "top_k lost": ("test_each_option_is_sent_once", lambda body, request: body.pop("top_k", None)),
    "one name for two": ("test_each_option_has_a_place_of_its_own", rename("frequency_penalty", "presence_penalty")),
    "required is auto": ("test_each_choice_is_sent", choice_lost),
    "parallel calls always": ("test_each_choice_is_sent", parallel_ignored),
    "descriptions exchanged": ("test_each_tool_is_sent_once", descriptions_exchanged),
    "description lost": ("test_each_tool_is_sent_once", description_lost),
    "schema lost": ("test_schema_of_the_response_is_sent_once", schema_lost),
    "model fixed": ("test_model_is_sent_once", model_fixed),
    "images exchanged": ("test_media_are_sent_once", images_exchanged),
    "images of one type": ("test_media_are_sent_once", images_of_one_type),
    "jpegs as pngs": ("test_media_are_sent_once", jpegs_as_pngs),
    "default temperature": ("test_options_that_are_not_set_are_not_sent", default_temperature),
    "provider_options replace an object": (
        "test_provider_options_extend_objects_of_the_body",
        metadata_replaced_by_options,
    ),
    "default limit": ("test_output_limit_that_is_not_set_is_not_sent", default_limit),
    "account in two headers": ("test_texts_of_settings_are_sent_at_most_once", AccountTwice),
    "images last": ("test_media_are_sent_once", images_last),
    "media of results lost": ("test_media_of_tool_results_are_sent_once", media_of_results_lost),
    "texts of results joined": ("test_texts_of_a_tool_result_are_kept_apart", texts_of_results_joined),
    "failure lost": ("test_details_are_sent_once", failure_lost),
    "name lost": ("test_details_are_sent_once", name_lost),
    "options twice": ("test_details_are_sent_once", options_twice),
    "null": ("test_no_null_is_sent", null_in_a_message),
    "never a stream": ("test_streaming_is_requested", Whole),
    "history lost in streams": ("test_streaming_is_requested", FirstOnly),
    "leak of a service": ("test_nothing_of_a_request_is_in_the_next", Leaking),
    "model of the first request": ("test_nothing_of_a_request_is_in_the_next", KeepingModel),
    "leak between services": ("test_nothing_of_a_request_is_in_the_next", Sharing),
    "options taken out": ("test_translating_leaves_the_request_unchanged", Popping),
    "query lost": ("test_everything_translated_arrives", "query"),
    "header lost": ("test_everything_translated_arrives", "header"),
    "body changed": ("test_everything_translated_arrives", "body"),
    "wrong name": ("test_requests_are_as_the_api_documents_them", rename("seed", "random_seed")),
    "wrong query": ("test_requests_are_as_the_api_documents_them", "query"),
    "wrong header": ("test_requests_are_as_the_api_documents_them", "header"),
    "no flag without a stream": ("test_requests_are_as_the_api_documents_them", WholeWithoutFlag),
    "models of another path": ("test_requests_of_operations_are_as_the_api_documents_them", "models-path"),
    "models by POST": ("test_requests_of_operations_are_as_the_api_documents_them", "models-method"),
    "embeddings at another path": ("test_requests_of_operations_are_as_the_api_documents_them", "embed-path"),
    "dimensions under another name": ("test_requests_of_operations_are_as_the_api_documents_them", "dimensions"),
    "tokens without tools": ("test_requests_of_operations_are_as_the_api_documents_them", "tools"),
}
"""Bugs, each with the test of the kit that must fail."""

BODY = body_of(attrs.evolve(TOOL_HISTORY, model="m"), Warnings())
EMBEDDED = {"texts": EMBED_TEXTS, "dimensions": EMBED_DIMENSIONS}
OPERATION_REQUESTS = {
    "list_models": WireRequest(method="GET", url="{url}/models"),
    "embed": WireRequest(url="{url}/embed", body=dumps(EMBEDDED)),
    "count_tokens": WireRequest(url="{url}/count", body=dumps(BODY)),
}
HISTORY = attrs.evolve(
    WIRE.samples[0],
    name="history",
    request=TOOL_HISTORY,
    request_wire=WireRequest(
        url="{url}/chat?account=7", headers={"x-version": "1"}, body=dumps({**BODY, "stream": True})
    ),
    unstreamed_wire=WireRequest(
        url="{url}/chat?account=7", headers={"x-version": "1"}, body=dumps({**BODY, "stream": False})
    ),
)


def steps(body: Any) -> Iterator[Step]:
    return (Step("call", part["call"], part["arguments"]) for part in blocks(body, "call"))


def case_of(bug: type[Sound] | Edit | str | None) -> ProviderTests:
    """Return the kit's tests of the provider with a bug."""
    lost = bug if isinstance(bug, str) else ""
    translator = bug if isinstance(bug, type) else edited(bug) if callable(bug) else Sound

    def auth(context: ServiceContext[ToySettings]) -> Losing:
        made = Losing("authorization", context.settings.api_key.reveal(), prefix="Bearer ")
        made.lost = lost
        return made

    def embed(context: ServiceContext[ToySettings], request: EmbedRequest) -> WireRequest:
        texts = {"order": request.inputs[::-1], "twice": request.inputs[:1] * 3}.get(lost, request.inputs)
        path = "/embeddings" if lost == "embed-path" else "/embed"
        name = "size" if lost == "dimensions" else "dimensions"
        body = {"texts": texts} | ({} if request.dimensions is None else {name: request.dimensions})
        return WireRequest(url=context.settings.url + path, body=dumps(body))

    def vectors(context: ServiceContext[ToySettings], wire_response: WireResponse) -> EmbedResponse:
        return EmbedResponse(embeddings=tuple(tuple(vector) for vector in loads(wire_response.body)))

    def count(context: ServiceContext[ToySettings], request: ChatRequest) -> WireRequest:
        messages = request.messages[-1:] if lost == "messages" else request.messages
        tools = () if lost == "tools" else request.tools
        body = body_of(attrs.evolve(request, messages=messages, tools=tools), Warnings())
        return WireRequest(url=context.settings.url + "/count", body=dumps(body))

    def models(context: ServiceContext[ToySettings], cursor: str | None) -> WireRequest:
        path = "/v1/models" if lost == "models-path" else "/models"
        return WireRequest(method="POST" if lost == "models-method" else "GET", url=context.settings.url + path)

    operations = Operations(
        list_models=Operation(build=models, parse=lambda context, wire_response: ((), None)),
        embed=Operation(build=embed, parse=vectors),
        count_tokens=Operation(build=count, parse=lambda context, wire_response: 1),
    )
    attributes = {
        "provider": attrs.evolve(TOY, auth=auth, translator=translator, operations=lambda context: operations),
        "settings": {"url": "{url}", "api_key": canary("api_key")},
        "wire": attrs.evolve(
            WIRE,
            steps=steps,
            embeddings=lambda vectors, indexes: dumps(vectors),
            merged_options=frozenset({"metadata"}),
        ),
        "samples": (HISTORY,),
        "operation_requests": OPERATION_REQUESTS,
    }
    case: ProviderTests = type("TestBug", (ProviderTests,), attributes)()
    return case


def run(case: ProviderTests, name: str) -> None:
    """Run a test of the kit with all its parameters."""
    method = getattr(case, name)
    choices: list[list[dict[str, Any]]] = [
        [{mark.args[0]: value} for value in mark.args[1]]
        for mark in getattr(method, "pytestmark", ())
        if mark.name == "parametrize"
    ]
    if "asked" in inspect.signature(method).parameters:
        choices.append([{"asked": "m"}])
    for chosen in product(*choices):
        arguments = {key: value for part in chosen for key, value in part.items()}
        if inspect.iscoroutinefunction(method):
            anyio.run(lambda: method(**arguments))  # noqa: B023  # it is called at once
        else:
            method(**arguments)


TESTS = sorted(name for name in vars(RequestContentTests) if name.startswith("test_"))


@pytest.mark.parametrize("name", TESTS)
def test_a_translator_without_a_bug_passes(name: str) -> None:
    run(case_of(None), name)


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_in_requests_is_caught(bug: str) -> None:
    name, planted = BUGS[bug]
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(case_of(planted), name)


def test_each_test_of_requests_catches_a_bug() -> None:
    assert {name for name, _ in BUGS.values()} == set(TESTS)


def test_log_probabilities_without_a_sample_are_found() -> None:
    with pytest.raises(AssertionError, match="no sample has 'logprobs'"):
        run(case_of(None), "test_samples_have_log_probabilities")


def test_a_provider_needs_the_request_that_its_api_documents() -> None:
    case: Any = case_of(None)
    for samples in ((), (attrs.evolve(HISTORY, request_wire=None),), (attrs.evolve(HISTORY, unstreamed_wire=None),)):
        type(case).samples = samples
        with pytest.raises(pytest.fail.Exception, match="TOOL_HISTORY"):
            run(case, "test_requests_are_as_the_api_documents_them")


@pytest.mark.parametrize("operation", OPERATION_REQUESTS)
def test_a_provider_needs_the_request_of_each_of_its_operations(operation: str) -> None:
    case: Any = case_of(None)
    type(case).operation_requests = {name: wanted for name, wanted in OPERATION_REQUESTS.items() if name != operation}
    with pytest.raises(pytest.fail.Exception, match=f"no '{operation}': .* It is now (GET|POST) /"):
        run(case, "test_requests_of_operations_are_as_the_api_documents_them")


def test_request_of_an_operation_that_the_provider_does_not_have_is_refused() -> None:
    case: Any = case_of(None)
    type(case).provider = attrs.evolve(case.provider, operations=lambda context: Operations())
    with pytest.raises(AssertionError, match="'list_models', which the provider does not have"):
        run(case, "test_requests_of_operations_are_as_the_api_documents_them")


@settings
class TeamSettings(ToySettings):
    team: str = setting("Team", "Who pays.", default="a")


def team_urls(encode: Callable[[str], str]) -> ProviderTests:
    """Return the test class of a provider with a team in its URLs."""

    class Teams(Sound):
        def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
            made = super().translate(request, stream=stream)
            url = f"{self.settings.url}/teams/{encode(self.settings.team)}/chat"
            return attrs.evolve(made, wire_request=attrs.evolve(made.wire_request, url=url))

        def __init__(self, context: ServiceContext[Any]) -> None:
            super().__init__(context)
            self.settings = context.settings

    case = case_of(Teams)
    type(case).provider = attrs.evolve(TOY, settings=TeamSettings, translator=Teams)
    return case


@pytest.mark.parametrize("encode", [str, quote, lambda text: quote(text, safe="")])
def test_text_of_a_setting_that_changes_the_endpoint_is_caught(encode: Callable[[str], str]) -> None:
    with pytest.raises(AssertionError, match=r"with the setting 'team' = .*: use `path_segment`"):
        run(team_urls(encode), "test_text_settings_stay_one_path_segment")


def test_text_of_a_setting_that_stays_one_path_segment_passes() -> None:
    run(team_urls(path_segment), "test_text_settings_stay_one_path_segment")


def test_usage_that_a_stream_reported_before_it_broke_off_is_kept() -> None:
    early = attrs.evolve(WIRE.samples[0], frames=(USED, *TEXT, event("end", reason="stop")))
    case: Any = case_of(None)
    type(case).wire = attrs.evolve(WIRE, samples=(early, *WIRE.samples[1:]))
    assert issubclass(type(case), LifecycleFaults)
    run(case, "test_fault_37_usage_on_abort")


@pytest.mark.parametrize(
    ("declared", "parts"),
    [
        ({"refusal": "no"}, [Text(text="Yes, no")]),
        ({"refusal": ""}, [Text(text="Yes, "), Text(text="no", refusal=True)]),
        ({"cited": ("no",)}, [Text(text="Yes, no")]),
        ({"cited": ("no",)}, [Text(text="Yes, no"), Citation(start=0, end=2)]),
        ({"parts": (Reasoning, Text)}, [Text(text="Yes, no"), Reasoning(text="")]),
    ],
    ids=["refusal lost", "refusal invented", "citation lost", "citation in another place", "parts in another order"],
)
def test_content_that_a_sample_declares_is_compared(declared: dict[str, Any], parts: list[Any]) -> None:
    case: Any = case_of(None)
    sample = Sample(name="declared", frames=(), text="Yes, no", **declared)
    response = ChatResponse(provider="kit-toy", parts=parts, finish_reason=FinishReason.STOP)
    with pytest.raises(AssertionError, match=next(iter(declared))):
        case.check(sample, response)
