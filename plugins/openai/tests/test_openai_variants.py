"""What a variant of the dialect may replace."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from trunkline._plugins.registry import Steps, open_steps
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.urls import endpoint_url, path_segment
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import Overloaded, RemoteError
from trunkline.events import ReasoningEnd
from trunkline.fold import fold
from trunkline.messages import Citation, Part, Reasoning, Text, ToolCall, assistant, tool_result, user
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import TokenLogprob
from trunkline.secrets import Headers, HeaderValues, Secret
from trunkline.settings import Converted, KeySource, Settings, setting, settings, url_setting
from trunkline_openai import ChatParts, OpenAICompatibleSettings, Profile, chat_completions
from trunkline_openai.history import AnsweredCall, History
from trunkline_openai.parse import ChatParser, ChatResponseParser
from trunkline_openai.testing import chat_history, chat_reasoning
from trunkline_openai.translate import ChatTranslator


class AcmeHistory(History):
    def part(self, part: Part, role: str, only_text: bool) -> dict[str, Any] | None:
        if isinstance(part, Citation):
            return {"type": "source", "url": part.url}
        return super().part(part, role, only_text)

    def tool_results(self, answered: list[AnsweredCall], wire: list[dict[str, Any]]) -> None:
        wire += [{"role": "tool", "name": call.call.name, "count": len(call.result.parts)} for call in answered]


class AcmeTranslator(ChatTranslator):
    history: ClassVar[type[History]] = AcmeHistory


class AcmeParser(ChatParser):
    """Text and reasoning in the order in which they came."""

    def text(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        if text:
            self.end_reasoning()
        super().text(text, logprobs)

    def reasoning(self, text: str) -> None:
        self.end_text()
        super().reasoning(text)

    def reasoning_end(self, index: int) -> ReasoningEnd:
        return ReasoningEnd(index=index, provider=self.provider, signature="sealed")

    def content_part(self, item: Any) -> None:
        if isinstance(item, dict) and item.get("type") == "source":
            self.add(Citation(url=item["url"]))
        else:
            super().content_part(item)

    @staticmethod
    def error(
        body: object, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
    ) -> RemoteError:
        return Overloaded("acme is full", provider=provider, status=status)


def steps() -> Steps:
    acme = chat_completions(
        name="acme",
        settings=OpenAICompatibleSettings,
        profile=Profile(name="acme", reasoning_replay="thinking", reasoning_fields=("reasoning",)),
        load=lambda: ChatParts(translator=AcmeTranslator, parser=AcmeParser),
    )
    settings = OpenAICompatibleSettings(api_url="https://x/v1")
    return open_steps(acme, ServiceContext(name="s", provider="acme", settings=settings))


def test_a_history_of_its_own() -> None:
    thought = Reasoning(text="hm", provider="acme", signature="s")
    call = ToolCall(id="call_1", name="f")
    request = ChatRequest(
        messages=[user("q"), assistant("a", thought, Citation(url="u"), call), tool_result(call, "r")], model="m"
    )
    messages = json.loads(steps().translator.translate(request, stream=False).wire_request.body)["messages"]
    assert messages[1]["content"] == [
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "signature": "s"},
        {"type": "source", "url": "u"},
    ]
    assert messages[2] == {"role": "tool", "name": "f", "count": 1}


def test_a_parser_of_its_own_keeps_the_order() -> None:
    def delta(logprob: float | None = None, **fields: Any) -> bytes:
        logprobs = {"content": [{"token": "t", "logprob": logprob}]} if logprob is not None else None
        choice = {"index": 0, "delta": fields, "logprobs": logprobs, "finish_reason": None}
        return b"data: %s\n\n" % json.dumps({"choices": [choice]}).encode()

    stream = [
        delta(-3.0, content=""),
        delta(reasoning="x"),
        delta(-2.0, content="a"),
        delta(reasoning="y"),
        delta(-1.0, content="b"),
        delta(content=[{"type": "source", "url": "u"}, {"type": "text", "text": "c"}]),
        b"data: [DONE]\n\n",
    ]
    decoder = StreamDecoder(*steps().parser.stream())
    response = fold([event for data in stream for event in decoder.feed(data)], "acme")
    assert response.parts == (
        Reasoning(text="x", provider="acme", signature="sealed"),
        Text(text="a"),
        Reasoning(text="y", provider="acme", signature="sealed"),
        Text(text="bc"),
        Citation(url="u"),
    )
    assert [token.logprob for token in response.logprobs] == [-3.0, -2.0, -1.0]


def test_errors_of_its_own() -> None:
    answer = WireResponse(status=400, body=b"{}")
    assert isinstance(steps().parser.error(answer), Overloaded)


def test_calls_without_ids_get_ids_that_differ() -> None:
    calls = [ToolCall(id="", name="f") for _ in range(12)]
    request = ChatRequest(messages=[user("q"), assistant(*calls)], model="m")
    messages = json.loads(steps().translator.translate(request, stream=False).wire_request.body)["messages"]
    ids = [call["id"] for call in messages[1]["tool_calls"]]
    assert len(set(ids)) == 12
    assert {len(found) for found in ids} == {32}


@settings
class InitechSettings(Settings):
    provider: ClassVar[str] = "initech"

    api_key: Converted[Secret, KeySource] = setting("API Key", "The key.", from_function=True)
    account: str = setting("Account", "The id of the account.")
    workspace: str = setting("Workspace", "The workspace.", default="main")
    api_url: str = url_setting("API URL", "The root.", default="https://initech.example/v1")


def initech_url(settings: InitechSettings, path: str, model: str | None) -> str:
    return endpoint_url(settings.api_url, f"/accounts/{path_segment(settings.account, 'the account')}{path}")


initech = chat_completions(
    name="initech",
    settings=InitechSettings,
    profile=lambda settings: Profile(name=settings.workspace),
    url=initech_url,
    headers=lambda settings: {"X-Initech-Workspace": settings.workspace},
)


def initech_requests(**changes: Any) -> list[WireRequest]:
    made = InitechSettings(api_key="k", account="a/b", **changes)
    context = ServiceContext(name="s", provider="initech", settings=made)
    steps = open_steps(initech, context)
    operations = steps.operations
    assert operations.list_models is not None
    assert operations.embed is not None
    return [
        steps.translator.translate(ChatRequest(messages="Hi", model="m"), stream=True).wire_request,
        operations.list_models.translation(context, None).wire_request,
        operations.embed.translation(context, EmbedRequest(inputs=["Hi"], model="m")).wire_request,
    ]


def test_headers_of_a_variant_are_in_each_request() -> None:
    for request in initech_requests():
        assert request.headers["x-initech-workspace"] == "main"


def test_the_setting_headers_replaces_those_of_a_variant() -> None:
    for request in initech_requests(headers={"X-INITECH-Workspace": "mine"}):
        assert request.headers["x-initech-workspace"] == "mine"


def test_the_url_of_a_variant_has_a_setting_in_it() -> None:
    root = "https://initech.example/v1/accounts/a%2Fb"
    found = [request.url for request in initech_requests()]
    assert found == [f"{root}/chat/completions", f"{root}/models", f"{root}/embeddings"]


def test_chat_reasoning_fits_a_profile_with_this_field() -> None:
    sample = chat_reasoning("thoughts")
    context = ServiceContext(name="s", provider="initech", settings=OpenAICompatibleSettings(api_url="https://x/v1"))
    for fields, text in (("thoughts", "Let me see."), ("reasoning", "")):
        profile = Profile(name="x", reasoning_fields=fields)
        parser = ChatResponseParser(context, profile=profile, parser=ChatParser)
        decoder = StreamDecoder(*parser.stream())
        streamed = fold([*decoder.feed(b"".join(sample.frames)), *decoder.finish()])
        assert sample.body is not None
        whole = parser.body(WireResponse(status=200, body=sample.body))
        for response in (streamed, whole):
            assert "".join(part.text for part in response.parts if isinstance(part, Reasoning)) == text


def test_chat_history_asks_for_headers() -> None:
    wanted = chat_history("{url}/v1", headers={"x-initech-workspace": "main"}, top_k=3).request_wire
    assert wanted is not None
    assert wanted.headers["x-initech-workspace"] == "main"
    assert wanted.headers["content-type"] == "application/json"
    assert b"x-initech" not in wanted.body
