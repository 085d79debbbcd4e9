"""The conformance tests of the contents of requests: each value arrives once, in its place, and nothing else does."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, pairwise
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
import pytest

from trunkline._json import JSONObject, JSONValue
from trunkline._plugins.registry import open_steps
from trunkline.authoring.provider import Translation
from trunkline.authoring.wire import WireRequest
from trunkline.errors import CallError, ConfigurationError, RemoteError
from trunkline.messages import (
    Audio,
    CacheLifetime,
    Document,
    Image,
    Message,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    system,
    user,
)
from trunkline.request import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolChoice
from trunkline.testing.case import ProviderCase
from trunkline.testing.server import Exchange, ReceivedRequest
from trunkline.testing.wire_values import Leaf, Path, beside, decoded_body, is_before, leaves, places
from trunkline.testing.wireformat import EMBED_DIMENSIONS, EMBED_TEXTS, TOOL_HISTORY, WEATHER

MARK = "mark-5e7fc0de"
"""A text that is in no request by chance."""

OPTIONS: Mapping[str, JSONValue] = {
    "max_output_tokens": 4321,
    "temperature": 0.125,
    "top_p": 0.375,
    "top_k": 37,
    "seed": 8765,
    "frequency_penalty": 0.625,
    "presence_penalty": 0.875,
    "stop": f"{MARK}-stop",
    "top_logprobs": 3,
    "metadata": f"{MARK}-metadata",
}
"""Fields of a request, each with a value that is sent as it is."""

CHOICES: Mapping[str, Sequence[dict[str, Any]]] = {
    "tool_choice": [
        {"tool_choice": "none"},
        {"tool_choice": "auto"},
        {"tool_choice": "required"},
        {"tool_choice": ToolChoice.tool("weather")},
    ],
    "parallel_tool_calls": [{"parallel_tool_calls": flag, "tool_choice": "auto"} for flag in (True, False)],
    "logprobs": [{"logprobs": True}, {"logprobs": False}],
    "response_format": [
        {"response_format": ResponseFormat(type="text")},
        {"response_format": ResponseFormat(type="json")},
        {"response_format": ResponseFormat(schema={"type": "object", "properties": {"city": {"type": "string"}}})},
    ],
    "reasoning": [{"reasoning": ReasoningOptions(effort="none")}, {"reasoning": ReasoningOptions(effort="high")}],
}
"""Fields whose values providers spell differently. Different values must give different requests."""

_ODD = 'ü\n"quoted" \\ 🌍 End'
"""Characters that careless code loses: beyond ASCII, a line break, a quote, a backslash, capitals."""

_IDS = ("abcdefgh1", "abcdefgh2")
"""Tool call ids that every known API accepts."""


def _option(name: str) -> dict[str, Any]:
    value = OPTIONS[name]
    return {name: (value,) if name == "stop" else {"Kit": value} if name == "metadata" else value}


_ARGUMENTS: JSONObject = {"days": 3, "deep": {"list": [True, 0.5, _ODD]}}


def _text(kind: str) -> str:
    """Return the text of the conversation below that has this mark. In a call, it is one of the arguments."""
    return f"{MARK}-{kind}" if kind.startswith("call") else f"{MARK}-{kind} {_ODD}"


def _calls(names: Sequence[str]) -> list[ToolCall]:
    return [
        ToolCall(id=call_id, name=name, arguments={"city": f"{MARK}-call-{at}", **_ARGUMENTS})
        for at, (call_id, name) in enumerate(zip(_IDS, names, strict=True))
    ]


def _results(names: Sequence[str]) -> list[ToolResult]:
    return [
        ToolResult(tool_call_id=call_id, name=name, parts=_text(f"result-{at}"))
        for at, (call_id, name) in enumerate(zip(_IDS, names, strict=True))
    ]


def _tools(*names: str) -> list[Tool]:
    return [attrs.evolve(WEATHER, name=name) for name in dict.fromkeys(names)]


ORDERS: Sequence[Sequence[str]] = (
    ("user-1", "text-1", "text-2", "result-0", "result-1", "answer", "user-2", "user-3"),
    ("user-1", "call-0", "call-1", "result-0"),
)
"""The marks of the conversation below, in order. The texts and the calls of one message may change places."""


def _conversation() -> list[Message]:
    names = ("weather", "climate")
    texts = [Text(text=_text(f"text-{at}")) for at in (1, 2)]
    return [
        system(_text("system")),
        user(_text("user-1")),
        Message(role="assistant", parts=[*texts, *_calls(names)]),
        *(Message(role="tool", parts=[result]) for result in _results(names)),
        assistant(_text("answer")),
        user(_text("user-2"), _text("user-3")),
    ]


def _everything(provider: str) -> ChatRequest:
    """Return a request with every field that a translator can be given at once."""
    fields: dict[str, Any] = {}
    for name in OPTIONS:
        fields |= _option(name)
    picture = Image(data=b"\x89PNG\r\n\x1a\n" + MARK.encode(), media_type="image/png")
    return ChatRequest(
        messages=[*_conversation(), user("Look.", picture)],
        tools=_tools("weather", "climate"),
        tool_choice="auto",
        parallel_tool_calls=True,
        reasoning=ReasoningOptions(effort="high"),
        user_id=f"{MARK}-user",
        provider_options={provider: {"x_kit": {"mark": MARK, "list": [MARK]}}},
        **fields,
    )


def _media(kind: type[Any], media_type: str, head: bytes) -> tuple[list[Any], list[str]]:
    data = [head + f"{MARK}-{at}".encode() for at in (0, 1)]
    parts = [kind(data=one, media_type=media_type) for one in data]
    return parts, [part.base64.rstrip("=") for part in parts]


_URLS = [f"https://pictures.example/{MARK}-{at}.png" for at in (0, 1)]

MEDIA: Mapping[str, tuple[Sequence[Any], Sequence[str]]] = {
    "images": _media(Image, "image/png", b"\x89PNG\r\n\x1a\n"),
    "images-of-another-type": _media(Image, "image/jpeg", b"\xff\xd8\xff\xe0"),
    "images-by-url": ([Image(url=url, media_type="image/png") for url in _URLS], _URLS),
    "documents": _media(Document, "application/pdf", b"%PDF-1.7 "),
    "audio": _media(Audio, "audio/wav", b"RIFF"),
}
"""Two parts of each kind of media, with what is searched for in the request."""


DETAILS: Mapping[str, Mapping[str, Any]] = {
    "message.name": {"name": MARK},
    "message.options": {},
    "system.options": {},
    "answer.options": {},
    "text.options": {},
    "image.options": {},
    "call.options": {},
    "result.options": {},
    "tool.options": {},
    "image.detail": {"detail": "low"},
    "document.name": {"name": MARK},
    "result.is_error": {"is_error": True},
    "tool.strict": {"strict": True},
}
"""Fields of messages, parts and tools. `options` stands for `provider_options`."""


def _detailed(kind: str, **fields: Any) -> ChatRequest:
    """Return a request in which the part of this kind has these fields."""

    def of(name: str) -> dict[str, Any]:
        return fields if kind == name else {}

    call = ToolCall(id=_IDS[0], name="weather", arguments={"city": "Oslo"}, **of("call"))
    media: list[Image | Document] = []
    if kind == "image":
        media = [Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png", **fields)]
    elif kind == "document":
        media = [Document(data=b"%PDF-1.7\n%%EOF\n", media_type="application/pdf", **fields)]
    return ChatRequest(
        messages=[
            Message(role="system", parts="Be brief.", **of("system")),
            Message(role="user", parts=[Text(text="Hi", **of("text")), *media], **of("message")),
            Message(role="assistant", parts=[Text(text="Let me look."), call], **of("answer")),
            Message(role="tool", parts=[ToolResult(tool_call_id=_IDS[0], name="weather", parts="Sun", **of("result"))]),
            user("And?"),
        ],
        tools=[attrs.evolve(WEATHER, **of("tool"))],
    )


def _shown(method: str, url: str, body: bytes) -> str:
    return f"{method} {url}\n{json.dumps(decoded_body(body), indent=4)}"


def _assert_documented(received: ReceivedRequest, wanted: WireRequest, what: str) -> None:
    """Assert that the request is the expected one. It may have further headers."""
    assert received.method == wanted.method, what
    assert received.target == wanted.url.replace("{url}", ""), what
    for name, value in wanted.headers.items():
        assert received.headers.get(name) == str(value), f"{what}: the header {name}"
    assert decoded_body(received.body) == decoded_body(wanted.body), what


class RequestContentTests(ProviderCase):
    """The conformance tests of the contents of requests."""

    def _translation(self, request: ChatRequest, model: str = "m", *, stream: bool = True) -> Translation:
        translator = self.open_steps().translator
        translation: Translation = translator.translate(attrs.evolve(request, model=model), stream=stream)
        return translation

    def _assert_sent_once(self, request: ChatRequest, marks: Iterable[str], asked: str = "m") -> list[Leaf]:
        """Assert that each mark is sent once, or not at all if a lossy warning says so; return the request's values."""
        try:
            translation = self._translation(request, asked)
        except CallError:
            return []
        found = leaves(translation.wire_request)
        may_lack = any(warning.lossy for warning in translation.warnings)
        for mark in marks:
            times = len(places(found, mark))
            assert times == 1 or (times == 0 and may_lack), f"{mark.removeprefix(MARK + '-')} is sent {times} times"
        return found

    def _assert_in_order(self, found: Sequence[Leaf], marks: Iterable[str]) -> None:
        sent = [(mark, place) for mark in marks for place in places(found, mark)]
        for (mark, place), (later, after) in pairwise(sent):
            assert is_before(place, after), f"{later} is sent before {mark}"

    def test_each_text_of_a_conversation_is_sent_once(self, asked: str) -> None:
        """Each text, tool call and tool result of a conversation is sent once, in the order of the conversation."""
        request = ChatRequest(messages=_conversation(), tools=_tools("weather", "climate"))
        texts = dict.fromkeys(map(_text, ("system", *chain.from_iterable(ORDERS))))
        found = self._assert_sent_once(request, texts, asked)
        for order in ORDERS:
            self._assert_in_order(found, map(_text, order))

    def test_arguments_of_calls_are_unchanged(self, asked: str) -> None:
        """The arguments of each tool call are sent as they are, if `steps` of the wire format tells what they are."""
        if self.wire.steps is None:
            pytest.skip(
                "not tested: the ids, arguments and results of tool calls in requests, here and in the tests of "
                "faults 61 to 67. They need 'steps' in the WireFormat, a function that returns them"
            )
        request = ChatRequest(messages=_conversation(), tools=_tools("weather", "climate"))
        sent = [
            json.loads(step.arguments) if isinstance(step.arguments, str) else step.arguments
            for step in self.wire.steps(json.loads(self._translation(request, asked).wire_request.body))
            if step.kind == "call"
        ]
        assert sent in ([], [call.arguments for message in request.messages for call in message.tool_calls])

    @pytest.mark.parametrize("reverse", [False, True], ids=["in-order", "reversed"])
    @pytest.mark.parametrize("names", [("weather", "climate"), ("weather", "weather")], ids=["two-tools", "one-tool"])
    def test_results_are_sent_under_the_ids_of_their_calls(
        self, names: Sequence[str], reverse: bool, asked: str
    ) -> None:
        """Each tool result is sent with the id of its own call, or with its name if the API has no ids."""
        results = _results(names)[::-1] if reverse else _results(names)
        messages = [user("Hi"), Message(role="assistant", parts=_calls(names)), Message(role="tool", parts=results)]
        found = leaves(self._translation(ChatRequest(messages=messages, tools=_tools(*names)), asked).wire_request)
        marks = [f"{MARK}-{kind}-{at}" for kind in ("call", "result") for at in (0, 1)]
        if not places(found, marks[0]):
            return  # sent to a model without tools
        around = [beside(found, mark, [other for other in marks if other != mark]) for mark in marks]
        own = [{text for text in around[at] - around[1 - at] if MARK not in text} for at in (0, 1)]
        if not own[0]:  # nothing but the order says which call a result belongs to
            self._assert_in_order(found, marks[2:])
            return
        for at in (0, 1):
            assert own[at] & around[2 + at], f"the result of call {at} is sent without the id of its call"
            assert not own[1 - at] & around[2 + at], f"the result of call {at} has the id of another call"

    @pytest.mark.parametrize("name", OPTIONS)
    def test_each_option_is_sent_once(self, name: str) -> None:
        """The value of a field is sent once and unchanged, gives a lossy warning, or is refused."""
        self._option_places(name)

    def _option_places(self, name: str) -> list[Path]:
        """Return the places of an option's value that a request without the option does not have."""
        value = OPTIONS[name]
        before = places(leaves(self._translation(ChatRequest(messages="Hi")).wire_request), value)
        try:
            translation = self._translation(ChatRequest(messages="Hi", **_option(name)))
        except CallError:
            return []
        found = [place for place in places(leaves(translation.wire_request), value) if place not in before]
        may_lack = any(warning.lossy for warning in translation.warnings)
        assert len(found) == 1 or (not found and may_lack), f"{value!r} is sent {len(found)} times"
        return found

    @pytest.mark.parametrize("name", [name for name in OPTIONS if name != "max_output_tokens"])
    def test_options_that_are_not_set_are_not_sent(self, name: str) -> None:
        """A field that the request does not set is not sent with a default of the translator."""
        self._assert_has_no_default(name)

    def test_output_limit_that_is_not_set_is_not_sent(self) -> None:
        """Without `max_output_tokens`, the request has no limit. Skip this test if the API requires one."""
        self._assert_has_no_default("max_output_tokens")

    def _assert_has_no_default(self, name: str) -> None:
        unset = {leaf.path: leaf.value for leaf in leaves(self._translation(ChatRequest(messages="Hi")).wire_request)}
        for place in self._option_places(name):
            assert place not in unset, f"{name} is not set, but sent as {unset[place]!r}"

    def test_texts_of_settings_are_sent_at_most_once(self) -> None:
        """The text of a setting, such as the id of an account, is not sent in the place of another setting too."""
        for info in self.own_settings():
            if info.secret or info.name in self.settings or info.base_url is not None or info.default is not None:
                continue
            try:
                context = attrs.evolve(self.context(), settings=self.made_settings(**{info.name: MARK}))
                translator = open_steps(self.plugin(), context, self.extensions()).translator
            except ConfigurationError:
                continue  # it is no text, or not any text
            made = translator.translate(ChatRequest(messages="Hi", model="m"), stream=True)
            times = len(places(leaves(made.wire_request), MARK))
            assert times <= 1, f"the setting {info.name!r} is sent {times} times"

    def test_provider_options_extend_objects_of_the_body(self) -> None:
        """`provider_options` add to the objects of the body that `merged_options` names, and keep their other keys."""
        provider = self.plugin().name
        request = attrs.evolve(_everything(provider), provider_options={})
        body: Any = decoded_body(self._translation(request).wire_request.body)
        for field in self.wire.merged_options:
            assert isinstance(body.get(field), dict), f"the body has no object {field!r}"
            options = {provider: {field: {"x_kit": MARK}}}
            with_option: Any = decoded_body(
                self._translation(attrs.evolve(request, provider_options=options)).wire_request.body
            )
            wanted = {**body[field], "x_kit": MARK}
            assert with_option.get(field) == wanted, f"provider_options replace the object {field!r} of the body"

    def test_each_option_has_a_place_of_its_own(self) -> None:
        """No two fields of a request are sent under the same name."""
        taken: dict[Path, str] = {}
        for name in OPTIONS:
            for place in self._option_places(name):
                assert place not in taken, f"{name} is sent in the place of {taken[place]}"
                taken[place] = name

    @pytest.mark.parametrize("name", CHOICES)
    def test_each_choice_is_sent(self, name: str) -> None:
        """Different values of a field give different requests, or lossy warnings."""
        seen: list[tuple[dict[str, Any], Translation]] = []
        for choice in CHOICES[name]:
            tools = _tools("weather", "climate") if name in ("tool_choice", "parallel_tool_calls") else ()
            try:
                made = self._translation(ChatRequest(messages="Hi", tools=tools, **choice))
            except CallError:
                continue
            if any(warning.lossy for warning in made.warnings):
                continue
            for other, translation in seen:
                assert made.wire_request != translation.wire_request, f"{choice} and {other} give the same request"
            seen.append((choice, made))

    def test_each_tool_is_sent_once(self, asked: str) -> None:
        """The name, the description and the parameters of each tool are sent once, and the tools are in order."""
        tools = [
            Tool(
                name=f"{MARK}-name-{at}",
                description=f"{MARK}-description-{at}",
                parameters={
                    "type": "object",
                    "properties": {
                        "city": {"type": "string", "description": f"{MARK}-parameter-{at}"},
                        "days": {"type": "array", "items": {"type": "string", "enum": [f"{MARK}-item-{at}"]}},
                    },
                    "required": ["city", "days"],
                },
            )
            for at in (0, 1)
        ]
        marks = [f"{MARK}-{kind}-{at}" for at in (0, 1) for kind in ("name", "description", "parameter", "item")]
        found = self._assert_sent_once(ChatRequest(messages="Hi", tools=tools), marks, asked)
        for kind in ("name", "description", "parameter"):
            self._assert_in_order(found, [f"{MARK}-{kind}-{at}" for at in (0, 1)])

    def test_schema_of_the_response_is_sent_once(self) -> None:
        """The schema of the response format is sent once, gives a lossy warning, or is refused."""
        schema: JSONObject = {
            "type": "object",
            "properties": {"city": {"type": "string", "description": f"{MARK}-schema"}},
            "required": ["city"],
            "additionalProperties": False,
        }
        request = ChatRequest(messages="Hi", response_format=ResponseFormat(schema=schema))
        self._assert_sent_once(request, [f"{MARK}-schema"])

    def test_model_is_sent_once(self) -> None:
        """The name of the model is sent once, in the URL or in the body."""
        for model in (f"{MARK}-model", f"{MARK}-model:1 a?b=c#d"):
            self._assert_sent_once(ChatRequest(messages="Hi"), [model], model)

    @pytest.mark.parametrize("lifetime", ["auto", "5m", "1h"])
    def test_caching_changes_no_content(self, lifetime: CacheLifetime) -> None:
        """The `cache` of a request and of its parts gives no lossy warning, and each text is still sent once."""
        marks = [f"{MARK}-text-{at}" for at in range(4)]
        first, second, third = (Text(text=mark, cache=lifetime) for mark in marks[:3])
        request = ChatRequest(
            messages=[system(first), user(second), assistant("Yes."), user(third, marks[3])],
            cache=lifetime,
            cache_key="kit",
        )
        lossy = [warning for warning in self._translation(request).warnings if warning.lossy]
        assert not lossy, f"caching does not change the answer, but these warnings are lossy: {lossy}"
        self._assert_sent_once(request, marks)

    def test_user_id_is_not_sent_unless_a_setting_says_so(self) -> None:
        """The id of the end user is sent only if the setting `send_user_id` says so."""
        if "send_user_id" not in self.settings:
            found = leaves(self._translation(ChatRequest(messages="Hi", user_id=f"{MARK}-user")).wire_request)
            assert not places(found, f"{MARK}-user"), "the id of the end user is sent"

    @pytest.mark.parametrize("kind", MEDIA)
    def test_media_are_sent_once(self, kind: str) -> None:
        """The data or URL of each media part is sent once and with its own type, between the texts around it."""
        parts, marks = MEDIA[kind]
        texts = [f"{MARK}-text-{at}" for at in range(3)]
        request = ChatRequest(messages=[user(texts[0], parts[0], texts[1], parts[1], texts[2])])
        in_order = [texts[0], marks[0], texts[1], marks[1], texts[2]]
        found = self._assert_sent_once(request, in_order)
        self._assert_in_order(found, in_order)
        texts_sent = [leaf.value for leaf in found if isinstance(leaf.value, str)]
        for part in parts:
            family = part.media_type.partition("/")[0]
            named = {name for text in texts_sent for name in re.findall(rf"\b{family}/\w+", text)}
            assert family == "application" or named <= {part.media_type}, f"{part.media_type} is sent as {named}"

    @pytest.mark.parametrize("kind", MEDIA)
    def test_media_of_tool_results_are_sent_once(self, kind: str) -> None:
        """The data or URL of each media part of a tool result is sent once, in the result or in a message after it."""
        parts, marks = MEDIA[kind]
        result = ToolResult(tool_call_id=_IDS[0], name="weather", parts=[Text(text=f"{MARK}-result"), *parts])
        call = ToolCall(id=_IDS[0], name="weather", arguments={"city": "Oslo"})
        messages = [user("Hi"), Message(role="assistant", parts=[call]), Message(role="tool", parts=[result])]
        found = self._assert_sent_once(ChatRequest(messages=messages, tools=[WEATHER]), [f"{MARK}-result", *marks])
        self._assert_in_order(found, marks)

    def test_texts_of_a_tool_result_are_kept_apart(self) -> None:
        """Each text of a tool result is sent once, and not joined to the next one: `1` and `2` do not become `12`."""
        texts = [f"{MARK}-text-{at}" for at in range(2)]
        result = ToolResult(tool_call_id=_IDS[0], name="weather", parts=[Text(text=text) for text in texts])
        call = ToolCall(id=_IDS[0], name="weather", arguments={"city": "Oslo"})
        messages = [user("Hi"), Message(role="assistant", parts=[call]), Message(role="tool", parts=[result])]
        found = self._assert_sent_once(ChatRequest(messages=messages, tools=[WEATHER]), texts)
        self._assert_in_order(found, texts)
        assert not places(found, "".join(texts)), "two texts of a tool result are joined without a line break"

    @pytest.mark.parametrize("name", DETAILS)
    def test_details_are_sent_once(self, name: str) -> None:
        """A field of a message, part or tool is sent once, gives a lossy warning, or is refused."""
        kind = name.partition(".")[0]
        fields = DETAILS[name] or {"provider_options": {self.plugin().name: {"x_kit": MARK}}}
        without = _detailed(kind)
        try:
            translation = self._translation(_detailed(kind, **fields))
        except CallError:
            return
        if translation.wire_request == self._translation(without).wire_request:
            assert any(warning.lossy for warning in translation.warnings), (
                "not sent, and no lossy warning says so. The translator must warn, also of media that the API cannot "
                "read: see 'When is a warning lossy?' in docs/reference/contracts.md"
            )
        elif MARK in str(fields):
            times = len(places(leaves(translation.wire_request), MARK))
            assert times == 1, f"sent {times} times"

    def test_no_null_is_sent(self, asked: str) -> None:
        """No request contains null, at any depth: servers refuse fields that are null."""
        for request in (ChatRequest(messages="Hi"), _everything(self.plugin().name)):
            for stream in (True, False):
                found = leaves(self._translation(request, asked, stream=stream).wire_request)
                nulls = [".".join(map(str, leaf.path)) for leaf in found if leaf.value is None]
                assert not nulls, f"null is sent as {', '.join(nulls)}"

    def test_streaming_is_requested(self) -> None:
        """A request with `stream=True` differs from one with `stream=False`, but contains the same conversation."""
        request = ChatRequest(messages=_conversation(), tools=_tools("weather", "climate"))
        streamed, whole = (self._translation(request, stream=stream).wire_request for stream in (True, False))
        assert streamed != whole, "nothing in the request says whether the response is streamed"
        texts = [
            [leaf.value for leaf in leaves(wire_request) if MARK in str(leaf.value)]
            for wire_request in (streamed, whole)
        ]
        assert texts[0] == texts[1], "stream=True changes the conversation"

    def test_nothing_of_a_request_is_in_the_next(self) -> None:
        """A request is translated in the same way before and after another one, also with new steps."""
        plain = ChatRequest(messages="Hi", model="m")
        steps = [self.open_steps() for _ in range(2)]
        before = [made.translator.translate(plain, stream=True) for made in steps]
        rich = attrs.evolve(_everything(self.plugin().name), model="m-2")
        alone = self.open_steps().translator.translate(rich, stream=True)
        first = steps[0].translator.translate(rich, stream=True)
        after = [made.translator.translate(plain, stream=True) for made in (*steps, self.open_steps())]
        assert all(translation == before[0] for translation in (*before, *after)), "a request depends on another one"
        assert first == alone, "a request depends on the one before"
        assert steps[0].translator.translate(rich, stream=True) == alone, "the second translation is different"

    def test_translating_leaves_the_request_unchanged(self) -> None:
        """The translator changes nothing in the request: the application sends it again, and to other providers."""
        request = attrs.evolve(_everything(self.plugin().name), model="m")
        kept = copy.deepcopy(request)
        self._translation(request)
        assert request == kept, "the translator changes the request"

    async def test_everything_translated_arrives(self) -> None:
        """The method, path, query, headers and body that the translator made arrive; signing only adds to them."""
        request = attrs.evolve(_everything(self.plugin().name), model="m")
        for stream in (True, False):
            received, translated = await self._received(request, stream=stream)
            assert received.method == translated.method
            assert received.body == translated.body, "the body arrives changed"
            sent, wanted = urlsplit(received.target), urlsplit(translated.url)
            assert sent.path == wanted.path, "the path arrives changed"
            lost = set(parse_qsl(wanted.query)) - set(parse_qsl(sent.query))
            assert not lost, f"these parameters of the URL do not arrive: {lost}"
            for name, value in translated.headers.items():
                assert received.headers.get(name) == str(value), f"the header {name} arrives changed or not at all"

    async def _received(self, request: ChatRequest, *, stream: bool = True) -> tuple[ReceivedRequest, WireRequest]:
        """Send a request to the kit's server. Return what arrives, and what the translator makes of the request."""
        script = self.responds("stream" if stream else "chat")
        async with self.serve(script) as server, self.service(server.url) as service:
            if stream:
                await self.read(service, request)
            else:
                await service.chat(request)
            context = attrs.evolve(self.context(), settings=self.made_settings(server.url))
            translator = open_steps(self.plugin(), context, self.extensions()).translator
            return server.requests[-1], translator.translate(request, stream=stream).wire_request

    @pytest.mark.parametrize("field", ["request_wire", "unstreamed_wire"])
    async def test_requests_are_as_the_api_documents_them(self, field: str) -> None:
        """The URL, headers and body of the samples' requests arrive as `request_wire` and `unstreamed_wire` say."""
        stream = field == "request_wire"
        samples = [sample for sample in self.all_samples() if getattr(sample, field) is not None]
        if not any(message.role == "tool" for sample in samples for message in sample.request.messages):
            translated = self._translation(TOOL_HISTORY, stream=stream).wire_request
            pytest.fail(
                f"no sample has {field!r} and a request with tool results. Add a sample with request=TOOL_HISTORY, and "
                f"the request that the documentation of the API asks for {'with' if stream else 'without'} streaming. "
                f"It is now {_shown(translated.method, translated.url, translated.body)}",
                pytrace=False,
            )
        for sample in samples:
            request = attrs.evolve(sample.request, model=sample.request.model or "m")
            received, _ = await self._received(request, stream=stream)
            _assert_documented(received, getattr(sample, field), sample.name)

    @pytest.mark.parametrize("operation", ["list_models", "embed", "count_tokens", "model_info"])
    async def test_requests_of_operations_are_as_the_api_documents_them(self, operation: str) -> None:
        """The URL, headers and body of the requests other than chat arrive as `operation_requests` says."""
        wanted = self.operation_requests.get(operation)
        operations = self.open_steps().operations
        if getattr(operations, operation) is None:
            assert wanted is None, f"'operation_requests' has {operation!r}, which the provider does not have"
            return
        async with self.serve(self.fails(404)) as server, self.service(server.url) as service:
            with suppress(RemoteError):  # the 404: only the request matters
                match operation:
                    case "list_models":
                        await service.list_models()
                    case "embed":
                        await service.embed(EMBED_TEXTS, model=self.embedding_model, dimensions=EMBED_DIMENSIONS)
                    case "count_tokens":
                        await service.count_tokens(TOOL_HISTORY, model=self.models[0])
                    case "model_info" if operations.model_info is not None:
                        await service.run(operations.model_info, self.models[0])
            received = server.requests[-1]
        if wanted is None:
            pytest.fail(
                f"'operation_requests' of the test class has no {operation!r}: add the request that the documentation "
                f"of the API asks for. It is now {_shown(received.method, received.target, received.body)}",
                pytrace=False,
            )
        _assert_documented(received, wanted, operation)

    def test_tokens_are_counted_of_the_whole_conversation(self) -> None:
        """The request that counts tokens contains each text of the conversation once."""
        operation = self.open_steps().operations.count_tokens
        if operation is None:
            return
        request = ChatRequest(messages=_conversation(), tools=_tools("weather", "climate"), model=self.models[0])
        found = leaves(operation.translation(self.context(), request).wire_request)
        for text in dict.fromkeys(map(_text, ("system", *chain.from_iterable(ORDERS)))):
            assert len(places(found, text)) == 1, f"{text!r} is sent {len(places(found, text))} times"

    async def test_embedded_texts_are_sent_once(self) -> None:
        """Each text of an embedding request is sent once, in order."""
        if not self.facts().embeds or self.wire.embeddings is None:
            return
        texts = [f"{MARK}-text-{at}" for at in range(3)]
        body = self.wire.embeddings([[1.0, 0.5]] * 3, [0, 1, 2])

        async def script(exchange: Exchange) -> None:
            await exchange.respond(body)

        async with self.serve(script) as server, self.service(server.url) as service:
            await service.embed(texts, model=self.embedding_model)
        [sent] = server.requests
        found = leaves(WireRequest(url=sent.target, body=sent.body))
        for text in texts:
            assert len(places(found, text)) == 1
        self._assert_in_order(found, texts)
