"""The limits of tokens: estimates, what is left out, limits that the provider reports, and counts by the provider."""

from __future__ import annotations

import importlib.util
import sys
import types
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import jsonschema  # type: ignore[import-untyped]
import pytest
import trunkline
from hypothesis import given, strategies as st
from trunkline import (
    Audio,
    ChatRequest,
    Citation,
    ContextTooLong,
    Document,
    Image,
    Message,
    ModelInfo,
    Opaque,
    Reasoning,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    TotalTimeout,
    UnsupportedRequest,
    assistant,
    system,
    tool_result,
    user,
)
from trunkline._calls import model_limits
from trunkline._calls.deadline import CallDeadline
from trunkline._calls.model_limits import KnownLimits
from trunkline._calls.request_limits import RequestLimits
from trunkline._json import dumps, loads
from trunkline.authoring.provider import Operation, Operations, ServiceContext, Translation
from trunkline.authoring.token_estimates import TOKENS_FOR_TOOLS, estimate_fixed_tokens, estimate_tokens
from trunkline.authoring.wire import WireRequest
from trunkline.settings import Settings, json_schema
from trunkline.testing import Exchange, serve

CALL = ToolCall(id="c1", name="weather", arguments={"city": "Łódź"})
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
LONG = "word " * 200  # 250 tokens, and 275 with the margin


@pytest.fixture(autouse=True)
def no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """No table of models is installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "genai_prices" else find(name))


# Estimates


def test_every_kind_of_part_has_an_estimate() -> None:
    parts: list[Any] = [Text(text="ø" * 8), Image(data=PNG), Document(data=PNG), Audio(url="https://x.example"), CALL]
    parts += [Reasoning(text="abc"), Citation(), Opaque(provider="a", kind="b", data={})]
    sizes = [estimate_tokens(user(part)) for part in parts]
    assert sizes[0] == 8
    assert min(sizes) > 0


def test_text_document_counts_as_text_and_a_block_of_the_provider_by_its_size() -> None:
    for media_type in ("text/plain", "application/json", None):
        text = Document(data=b"word " * 2000, media_type=media_type, name="a.md")
        assert estimate_tokens(user(text)) == 4 + 2500
    assert estimate_tokens(user(Document(data=b"\xff" * 8000, media_type="text/csv"))) == 4 + 2000
    for data in (b"%PDF-1.7 " + b"word " * 2000, b"\xff" + b"word " * 2000, b"\0" + b"word " * 2000):
        assert estimate_tokens(user(Document(data=data))) == 4 + 1000
    block = Opaque(provider="a", kind="b", data={"text": "x" * 4000})
    assert estimate_tokens(assistant(block)) > 1000


def test_tools_and_schemas_are_counted() -> None:
    schema: Any = {"type": "object", "properties": {"city": {"type": "string", "description": "d" * 4000}}}
    plain = ChatRequest(messages="Hi")
    assert estimate_fixed_tokens(plain) == 0
    tool = ChatRequest(messages="Hi", tools=[Tool(name="weather", description="t" * 400, parameters=schema)])
    assert estimate_fixed_tokens(tool) > TOKENS_FOR_TOOLS + 1100
    hosted = ChatRequest(messages="Hi", tools=[Tool(name="s", provider_options={"a": {"filter": "x" * 4000}})])
    assert estimate_fixed_tokens(hosted) > TOKENS_FOR_TOOLS + 1000
    answer = ChatRequest(messages="Hi", response_format=ResponseFormat(schema=schema, description="d" * 400))
    assert estimate_fixed_tokens(answer) > 1100


# What is left out


def limited(limit: int | None, *messages: Message, **fields: Any) -> tuple[ChatRequest, Any]:
    """Apply limits that need no request."""
    settings = Settings(input_token_limit=limit, output_token_limit=fields.pop("output", None))
    limits = RequestLimits(settings=settings, provider="toy", operations=Operations(), known=KnownLimits())

    async def apply() -> tuple[ChatRequest, Any]:
        return await limits.apply(ChatRequest(messages=messages, **fields), None)  # type: ignore[arg-type]

    return anyio.run(apply)


def test_the_oldest_turns_go_first_and_a_warning_counts_them() -> None:
    request, [warning] = limited(
        330, system("s"), user(LONG), assistant(LONG), user("b"), assistant("c"), user("newest")
    )
    assert [message.text for message in request.messages] == ["s", "b", "c", "newest"]
    assert "1 oldest of 3 turns" in warning.message


def test_turns_are_left_out_for_large_tools() -> None:
    history = [user(LONG), assistant("a"), user("newest")]
    assert limited(900, *history)[1] == ()
    request, [warning] = limited(900, *history, tools=[Tool(name="t", description="word " * 100)])
    assert request.messages == (user("newest"),)
    assert warning.kind == "truncated"


def test_a_tool_call_never_loses_its_result() -> None:
    history = [user(LONG), assistant(CALL), tool_result(CALL, LONG), assistant("so"), user("newest")]
    request, [_] = limited(50, *history)
    assert request.messages == (user("newest"),)


def test_the_newest_turn_stays_with_a_lossy_warning_if_it_is_too_long() -> None:
    request, [warning] = limited(10, system(LONG), user("a"), assistant(CALL), tool_result(CALL, LONG))
    assert len(request.messages) == 4
    assert (warning.subject, warning.lossy) == ("input_token_limit", True)
    assert "more than the limit of 10" in warning.message


def test_turns_that_were_left_out_in_vain_are_told_too() -> None:
    _, warnings = limited(50, user("a"), assistant("b"), user(LONG))
    assert [warning.kind for warning in warnings] == ["truncated", "other"]


def test_a_margin_is_kept() -> None:
    assert limited(280, user(LONG))[1] == ()
    assert len(limited(275, user(LONG))[1]) == 1  # 254 tokens, and a tenth


def test_what_fits_is_left_alone() -> None:
    request, warnings = limited(10_000, user("a"), assistant("b"), user("c"))
    assert (len(request.messages), warnings) == (3, ())


def test_message_that_occurs_in_several_turns_is_left_out_of_the_oldest_only() -> None:
    again, answer = user(LONG), assistant("a")
    request, [warning] = limited(500, again, answer, again, answer, again)
    assert request.messages == (again,)
    assert "2 oldest of 3 turns" in warning.message


def test_the_output_limit_is_set_where_the_request_has_none() -> None:
    assert limited(None, user("a"), output=50)[0].max_output_tokens == 50
    assert limited(None, user("a"), output=50, max_output_tokens=5)[0].max_output_tokens == 5


@given(st.integers(1, 400), st.lists(st.sampled_from(["user", "assistant", "call"]), min_size=1, max_size=12))
def test_truncation_keeps_system_newest_turn_and_pairs(limit: int, kinds: list[str]) -> None:
    history = [system("s")]
    for number, kind in enumerate(kinds):
        call = ToolCall(id=f"c{number}", name="t")
        history += {
            "user": [user(LONG[:50])],
            "assistant": [assistant(LONG[:50])],
            "call": [assistant(call), tool_result(call, "r")],
        }[kind]
    history.append(user("newest"))
    request, _ = limited(limit, *history)
    assert request.messages[0].role == "system"
    assert request.messages[-1].text == "newest"
    calls = {call.id for message in request.messages for call in message.tool_calls}
    results = {
        part.tool_call_id for message in request.messages for part in message.parts if hasattr(part, "tool_call_id")
    }
    assert calls == results


# Services


class Provider:
    """A server of the toy, its models and its count of tokens."""

    def __init__(self, *models: ModelInfo, counts: dict[int, int] | None = None, fails: int = 0) -> None:
        self.models = {model.id: model for model in models}
        self.counts = counts or {}
        """The count for each number of messages."""
        self.status = fails
        self.asked: list[str] = []
        self.chats: list[Any] = []
        self.answers = anyio.Event()
        self.answers.set()
        self.has_info = False
        self.can_count = True

    async def handle(self, exchange: Exchange) -> None:
        target = exchange.request.target
        if target == "/chat":
            self.chats.append(loads(exchange.request.body))
            if self.chats[-1]["stream"]:
                await exchange.respond(b'{"open":1,"text":"hi"}\n{"done":true}\n')
            else:
                await exchange.respond(b'{"text":"hi"}')
            return
        self.asked.append(target)
        await self.answers.wait()
        if self.status:
            await exchange.respond(b"no", status=self.status)
        elif target == "/count":
            await exchange.respond(dumps(self.counts[loads(exchange.request.body)]))
        else:
            await exchange.respond(b"{}")

    def operations(self, context: ServiceContext[Any]) -> Operations:
        def get(path: str) -> WireRequest:
            return WireRequest(method="GET", url=f"{context.settings.url}{path}")

        def count(context: Any, request: ChatRequest) -> Translation:
            body = dumps(len(request.messages))
            return Translation(wire_request=WireRequest(url=f"{context.settings.url}/count", body=body))

        info: Any = Operation(
            build=lambda context, model: get(f"/models/{model}"),
            parse=lambda context, response: next(iter(self.models.values())),
        )
        return Operations(
            list_models=Operation(
                build=lambda context, cursor: get(f"/models?{cursor}"),
                parse=lambda context, response: (tuple(self.models.values()), None),
            ),
            model_info=info if self.has_info else None,
            count_tokens=Operation(build=count, parse=lambda context, response: loads(response.body))
            if self.can_count
            else None,
        )

    @asynccontextmanager
    async def service(self, toy: Any, **settings: Any) -> Any:
        async with serve(self.handle) as server:
            async with toy(server.url, {"operations": self.operations}, **settings) as service:
                yield service


WINDOW = ModelInfo(id="toy-1", context_window=1000, output_token_limit=300)
OTHER = ModelInfo(id="toy-2", context_window=5)
OLD_TURN = (user("word " * 600), assistant("a"))  # 755 tokens


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_strict_service_raises_context_too_long_without_sending(toy: Any, method: str) -> None:
    provider = Provider()
    async with provider.service(toy, input_token_limit=100, strict=True) as service:
        with pytest.raises(ContextTooLong, match="more than the limit of 100") as caught:
            if method == "chat":
                await service.chat(LONG)
            else:
                async with service.stream(LONG):
                    pass
        assert (caught.value.provider, caught.value.service, caught.value.model) == ("toy", "toy", "toy-1")
        assert caught.value.retryable is False
        with pytest.raises(UnsupportedRequest, match="1 oldest of 2 turns"):
            await service.chat([*OLD_TURN, user("b")])
    assert provider.chats == []


@pytest.mark.anyio
async def test_limits_that_are_auto_are_those_the_provider_tells(toy: Any) -> None:
    provider = Provider(OTHER, WINDOW)
    async with provider.service(toy, input_token_limit="auto", output_token_limit="auto") as service:
        response = await service.chat([*OLD_TURN, user("b")])
        assert [warning.kind for warning in response.warnings] == ["truncated"]
        assert "within 700 tokens" in response.warnings[0].message  # 1000, without 300 for the response
        assert provider.chats == [{"model": "toy-1", "text": ["b"], "stream": False, "max": 300}]
        assert not (await service.chat([*OLD_TURN, user("b")], max_output_tokens=100)).warnings
        async with service.stream("c") as stream:
            async for _ in stream:
                pass
        assert provider.asked == ["/models?None"]
        await service.chat("d", model="toy-2")
        assert provider.asked == ["/models?None"] * 2
        assert provider.chats[-1]["max"] is None


class Extension:
    @trunkline.hookimpl
    def trunkline_middleware(self, context: ServiceContext[Any]) -> trunkline.EventMiddleware:
        return trunkline.EventMiddleware()


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["chat", "stream", "count_tokens"])
async def test_limits_are_looked_up_once_behind_middlewares(toy: Any, method: str) -> None:
    provider = Provider(WINDOW, counts={1: 1})
    limits: dict[str, Any] = {"input_token_limit": "auto", "output_token_limit": "auto"}
    async with provider.service(toy, **limits, extensions=[Extension()]) as service:
        for _ in range(2):
            if method == "stream":
                async with service.stream([*OLD_TURN, user("b")]) as stream:
                    async for _ in stream:
                        pass
            else:
                await getattr(service, method)([*OLD_TURN, user("b")])
    if method == "count_tokens":
        assert provider.asked == ["/models?None", "/count", "/count"]  # each of one message, or there is no count
    else:
        assert provider.asked == ["/models?None"]
        assert [(chat["text"], chat["max"]) for chat in provider.chats] == [(["b"], 300)] * 2


@pytest.mark.anyio
async def test_provider_that_tells_about_one_model_is_asked_about_it(toy: Any) -> None:
    provider = Provider(WINDOW)
    provider.has_info = True
    async with provider.service(toy, output_token_limit="auto") as service:
        await service.chat("a", model="alias")
    assert (provider.asked, provider.chats[0]["max"]) == (["/models/alias"], 300)


@pytest.mark.anyio
async def test_server_with_one_model_serves_it_under_any_name(toy: Any) -> None:
    provider = Provider(WINDOW)
    async with provider.service(toy, output_token_limit="auto", default_model="local") as service:
        await service.chat("a")
    assert provider.chats[0]["max"] == 300


@pytest.mark.anyio
async def test_response_gets_at_most_half_of_the_context_window(toy: Any) -> None:
    provider = Provider(ModelInfo(id="toy-1", context_window=2000, output_token_limit=2000))
    async with provider.service(toy, input_token_limit="auto", output_token_limit="auto") as service:
        assert not (await service.chat([*OLD_TURN, user("b")])).warnings
    assert provider.chats[0]["max"] == 1000


@pytest.mark.anyio
@pytest.mark.parametrize("fails", [0, 401, 404, 500])
async def test_limits_that_nobody_tells_are_a_warning_and_not_asked_for_again(toy: Any, fails: int) -> None:
    provider = Provider(ModelInfo(id="toy-1"), fails=fails)
    settings: dict[str, Any] = {"input_token_limit": "auto", "output_token_limit": "auto", "strict": True}
    async with provider.service(toy, **settings, max_retries=0) as service:
        for _ in range(2):
            response = await service.chat([*OLD_TURN, user("b")])
            assert [(warning.subject, warning.lossy) for warning in response.warnings] == [
                ("output_token_limit", False),
                ("input_token_limit", False),
            ]
            assert "not known" in response.warnings[0].message
    assert len(provider.chats) == 2
    assert len(provider.asked) == 1


@pytest.mark.anyio
async def test_failed_lookup_is_repeated_after_a_while(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_limits, "FORGET_AFTER", 0)
    provider = Provider(WINDOW, fails=404)
    async with provider.service(toy, output_token_limit="auto") as service:
        await service.chat("a")
        provider.status = 0
        await service.chat("a")
    assert [chat["max"] for chat in provider.chats] == [None, 300]


@pytest.mark.anyio
async def test_calls_that_wait_for_a_lookup_share_it_and_outlive_a_cancelled_one(toy: Any) -> None:
    provider = Provider(WINDOW)
    provider.answers = anyio.Event()
    async with provider.service(toy, output_token_limit="auto") as service, anyio.create_task_group() as tasks:
        first = anyio.CancelScope()

        async def cancelled() -> None:
            with first:
                await service.chat("cancelled")

        tasks.start_soon(cancelled)
        while not provider.asked:
            await anyio.lowlevel.checkpoint()
        for text in "abc":
            tasks.start_soon(service.chat, text)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        provider.answers.set()
    assert sorted(chat["text"] for chat in provider.chats) == [["a"], ["b"], ["c"]]
    assert [chat["max"] for chat in provider.chats] == [300] * 3
    assert len(provider.asked) == 2


@pytest.mark.anyio
async def test_lookup_that_takes_too_long_is_given_up(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_limits, "ASK_LIMIT", 0)
    provider = Provider(WINDOW)
    async with provider.service(toy, output_token_limit="auto") as service:
        [warning] = (await service.chat("a")).warnings
    assert "did not answer within" in warning.message


@pytest.mark.anyio
async def test_deadline_still_holds_after_a_lookup_that_was_refused(toy: Any) -> None:
    async def handle(exchange: Exchange) -> None:
        if exchange.request.target != "/chat":
            await exchange.respond(b"no", status=404)
        else:
            await anyio.sleep_forever()

    provider = Provider(WINDOW)
    provider.handle = handle  # type: ignore[method-assign]
    async with provider.service(toy, output_token_limit="auto", total_timeout=0.2) as service:
        with pytest.raises(TotalTimeout, match="total_timeout"):
            await service.chat("a")


def test_event_loops_share_what_is_known(toy: Any) -> None:
    provider = Provider(WINDOW)
    service = toy("http://127.0.0.1:1", {"operations": provider.operations}, output_token_limit="auto")
    known = service._state.kept.get(KnownLimits, KnownLimits)
    known.add("toy-1", model_limits.ModelLimits(output_tokens=7))

    async def prepared() -> int | None:
        pipeline = await service._open(service._part(), service._options)
        request, _ = await pipeline.limits.apply(ChatRequest(messages="a", model="toy-1"), None)
        return cast("int | None", request.max_output_tokens)

    assert [anyio.run(prepared, backend=backend) for backend in ("asyncio", "trio")] == [7, 7]


@pytest.mark.anyio
@pytest.mark.parametrize(("has_info", "text"), [(True, "not a ModelInfo"), (False, "AttributeError")])
async def test_operation_that_returns_something_else_does_not_fail_the_call(
    toy: Any, has_info: bool, text: str
) -> None:
    provider = Provider()
    provider.has_info = has_info
    provider.models = {"m": "no ModelInfo"}  # type: ignore[dict-item]
    async with provider.service(toy, output_token_limit="auto") as service:
        [warning] = (await service.chat("a")).warnings
    assert text in warning.message


# The table


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """A table that knows `toy-1` of no provider in particular, and what it was asked for."""
    asked: list[tuple[str, str | None]] = []

    class Snapshot:
        def find_provider_model(self, model: str, _: None, provider: str | None, url: None) -> Any:
            asked.append((model, provider))
            if provider is not None or model != "toy-1":
                raise LookupError("no such model")
            return None, types.SimpleNamespace(context_window=1000)

    module: Any = types.ModuleType("genai_prices.data_snapshot")
    module.get_snapshot = Snapshot
    monkeypatch.setitem(sys.modules, "genai_prices", types.ModuleType("genai_prices"))
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    return asked


@pytest.mark.anyio
@pytest.mark.parametrize("fails", [0, 404])
async def test_window_that_the_provider_does_not_tell_is_taken_from_the_table(
    toy: Any, table: list[tuple[str, str | None]], fails: int
) -> None:
    provider = Provider(ModelInfo(id="toy-1"), ModelInfo(id="toy-2"), fails=fails)
    async with provider.service(toy, input_token_limit="auto") as service:
        for _ in range(2):
            [warning] = (await service.chat([*OLD_TURN, user(LONG)])).warnings
            assert "within 1000 tokens" in warning.message
        [warning] = (await service.chat("a", model="toy-2")).warnings
        assert "not known" in warning.message
    assert table == [("toy-1", "toy"), ("toy-1", None), ("toy-2", "toy"), ("toy-2", None)]


def test_the_table_that_is_published_has_windows() -> None:
    pytest.importorskip("genai_prices")
    window = model_limits._window_from_table("gpt-4o", "openai")
    assert window is not None
    assert window > 100_000
    assert model_limits._window_from_table("gpt-4o", "openai-compatible") == window
    assert model_limits._window_from_table("no-such-model", "openai") is None


# Counts by the provider


COUNTED: dict[str, Any] = {"input_token_limit": 1000, "input_token_count": "provider"}
HISTORY = [*OLD_TURN, *OLD_TURN, *OLD_TURN, user("newest")]


@pytest.mark.anyio
async def test_provider_counts_only_near_the_limit(toy: Any) -> None:
    provider = Provider(counts={1: 900})
    async with provider.service(toy, **COUNTED) as service:
        assert not (await service.chat("word " * 400)).warnings
        assert provider.asked == []
        assert not (await service.chat("word " * 900)).warnings  # by the estimate, it is too long
        assert provider.asked == ["/count"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("counts", "sent", "asked"),
    [
        ({3: 300, 7: 990}, 7, 2),  # the estimate is too high
        ({3: 990, 5: 1500}, 3, 1),
        ({3: 1100, 1: 10}, 1, 2),
        ({3: 300, 7: 1200, 5: 900}, 5, 3),
        ({3: 300, 7: 1200, 5: 1010}, 3, 3),
    ],
)
async def test_turns_are_left_out_by_the_providers_count(
    toy: Any, counts: dict[int, int], sent: int, asked: int
) -> None:
    provider = Provider(counts=counts)
    async with provider.service(toy, **COUNTED) as service:
        response = await service.chat(HISTORY)
    assert len(provider.chats[0]["text"]) == sent
    assert len(provider.asked) == asked
    assert [warning.kind for warning in response.warnings] == ([] if sent == 7 else ["truncated"])
    assert all("as the provider counts" in warning.message for warning in response.warnings)


@pytest.mark.anyio
async def test_request_that_exceeds_the_limit_by_the_providers_count(toy: Any) -> None:
    provider = Provider(counts={1: 1001})
    async with provider.service(toy, **COUNTED) as service:
        [warning] = (await service.chat("word " * 800)).warnings
        assert "1,001 tokens as the provider counts" in warning.message
    async with provider.service(toy, **COUNTED, strict=True) as service:
        with pytest.raises(ContextTooLong, match="1,001"):
            await service.chat("word " * 800)
    assert len(provider.chats) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("reason", ["cannot count", "asking failed", "did not answer", "not a int"])
async def test_estimate_stays_with_a_note_where_the_provider_does_not_count(
    toy: Any, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    provider = Provider(counts={3: "many"} if reason == "not a int" else {})  # type: ignore[dict-item]
    provider.can_count = reason != "cannot count"
    provider.status = 500 if reason == "asking failed" else 0
    if reason == "did not answer":
        monkeypatch.setattr(model_limits, "ASK_LIMIT", 0)
    async with provider.service(toy, **COUNTED, max_retries=0) as service:
        note, left_out = (await service.chat(HISTORY)).warnings
    assert (note.subject, note.lossy) == ("input_token_count", False)
    assert reason in note.message
    assert "our estimate" in left_out.message


@pytest.mark.anyio
@pytest.mark.parametrize("tokens", [0, 20])
async def test_count_that_is_too_low_for_the_text_is_not_believed(toy: Any, tokens: int) -> None:
    provider = Provider(counts={3: tokens, 7: tokens})
    async with provider.service(toy, **COUNTED) as service:
        note, left_out = (await service.chat(HISTORY)).warnings
    assert f"{tokens} tokens are too few" in note.message
    assert "our estimate" in left_out.message


@pytest.mark.anyio
async def test_count_of_zero_is_not_believed_without_text(toy: Any) -> None:
    provider = Provider(counts={1: 0})
    async with provider.service(toy, **COUNTED) as service:
        note, _ = (await service.chat([user(Image(data=PNG), Image(data=PNG))])).warnings
    assert "0 tokens are too few" in note.message


# Questions that the provider does not answer


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["chat", "stream"])
@pytest.mark.parametrize("question", ["models", "count"])
async def test_question_that_hangs_takes_a_part_of_the_deadline_once(toy: Any, question: str, method: str) -> None:
    provider = Provider(WINDOW, counts={3: 300, 7: 900})
    provider.answers = anyio.Event()
    settings: dict[str, Any] = COUNTED if question == "count" else {"input_token_limit": "auto"}
    async with provider.service(toy, **settings, total_timeout=2) as service:
        for _ in range(2):
            if method == "chat":
                response = await service.chat(HISTORY)
            else:
                async with service.stream(HISTORY) as stream:
                    response = await stream.finish()
            assert any("the provider did not answer" in warning.message for warning in response.warnings)
        provider.answers.set()
    assert len(provider.asked) == 1
    assert len(provider.chats) == 2


@pytest.mark.anyio
@pytest.mark.parametrize(("waited", "silence"), [(0.0, 0), (0.5, 10), (15.0, 300), (40.0, 300)])
async def test_provider_is_left_alone_in_proportion_to_the_time_that_it_had(
    monkeypatch: pytest.MonkeyPatch, waited: float, silence: float
) -> None:
    clock = types.SimpleNamespace(now=100.0)
    monkeypatch.setattr(model_limits, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    known = KnownLimits()

    async def hang() -> None:
        clock.now += waited
        await anyio.sleep_forever()

    deadline = CallDeadline(0.0)
    with deadline, pytest.raises(TimeoutError, match="did not answer within"):
        await known.answer("q", deadline, hang)
    assert known.silent_until("q") == clock.now + silence


@pytest.mark.anyio
@pytest.mark.parametrize("fails", [0, 404])
async def test_limits_of_the_table_do_not_end_the_lookups_of_others(
    toy: Any, table: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    monkeypatch.setattr(model_limits, "FORGET_AFTER", 0)
    monkeypatch.setattr(model_limits, "ASK_LIMIT", 15 if fails else 0)
    provider = Provider(WINDOW, fails=fails)
    async with provider.service(toy, output_token_limit="auto") as service:
        await service.chat("a")
        provider.status = 0
        monkeypatch.setattr(model_limits, "ASK_LIMIT", 15)
        await service.chat("a")
    assert [chat["max"] for chat in provider.chats] == [None, 300]


@pytest.mark.anyio
@pytest.mark.parametrize("question", ["models", "count"])
async def test_question_whose_calls_are_cancelled_is_given_up(
    toy: Any, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    monkeypatch.setattr(model_limits, "SILENCE", 1e6)  # the calls wait for some milliseconds
    provider = Provider(WINDOW, counts={3: 300, 7: 900})
    provider.answers = anyio.Event()
    settings: dict[str, Any] = COUNTED if question == "count" else {"input_token_limit": "auto"}
    async with provider.service(toy, **settings) as service:
        for number in (1, 2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(service.chat, HISTORY)
                while len(provider.asked) < number:
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        response = await service.chat(HISTORY)
        provider.answers.set()
    assert "the provider did not answer" in response.warnings[0].message
    assert len(provider.asked) == 2


# Settings


@pytest.mark.parametrize("name", ["input_token_limit", "output_token_limit"])
def test_limit_is_a_number_or_auto(name: str) -> None:
    for given_value, limit in ((5, 5), ("5", 5), ("auto", "auto"), (" Auto ", "auto"), ("none", None), (None, None)):
        assert getattr(Settings(**{name: given_value}), name) == limit  # type: ignore[arg-type]
    schema: Any = json_schema(Settings)
    validator = jsonschema.Draft202012Validator({**schema["properties"][name], "$defs": schema["$defs"]})
    accepted = [value for value in (5, "auto", 0, -1, "car", 1.5, True) if validator.is_valid(value)]
    assert accepted == [5, "auto"]
