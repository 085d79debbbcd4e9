"""Fault classes 61 to 69: the history of a conversation with another model, or an invalid history.

A translator that uses `trunkline.authoring.replay` passes these tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import pytest

from trunkline._json import JSONObject
from trunkline.authoring.provider import Translation
from trunkline.authoring.wire import WireResponse
from trunkline.messages import (
    Citation,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    system,
    user,
)
from trunkline.request import ChatRequest, ReasoningOptions, Tool
from trunkline.response import ChatResponse
from trunkline.testing.case import ProviderCase
from trunkline.testing.wireformat import Sample

SIGNED = "c2lnbmVkLWVsc2V3aGVyZQ=="
"""A signature that only its issuer can verify."""

ANOTHER = "another-provider"
ANOTHER_FAMILY = "family-of-tomorrow"

_PICTURE = b"\x89PNG\r\n\x1a\n"


def _call(name: str, call_id: str, **fields: Any) -> ToolCall:
    return ToolCall(id=call_id, name=name, **{"arguments": {"city": f"city of {name}"}, **fields})


def _result(name: str, call_id: str, text: str = "", **fields: Any) -> Message:
    return Message(
        role="tool", parts=[ToolResult(tool_call_id=call_id, name=name, parts=text or f"result of {name}", **fields)]
    )


def _answer(*parts: Part) -> Message:
    return Message(role="assistant", parts=parts)


def _foreign(provider: str, family: str | None) -> list[Message]:
    """A conversation with a model of another provider or family, with signatures wherever a part can have one."""
    fields: JSONObject = {"signature": SIGNED, "thoughtSignature": SIGNED, "extra_content": {"signature": SIGNED}}
    signed = {provider: fields}
    return [
        user("What is the weather in Oslo and in Rome?"),
        _answer(
            Reasoning(text="Two cities.", provider=provider, family=family, signature=SIGNED),
            Reasoning(provider=provider, family=family, encrypted=SIGNED, redacted=True),
            Opaque(provider=provider, family=family, kind="hosted_call", data={"type": "hosted_call", "id": SIGNED}),
            Text(text="I will look.", family=family, provider_metadata=signed),
            _call("look_in_oslo", "call-1", family=family, provider_metadata=signed),
            _call("look_in_rome", "call-2", family=family, provider_metadata=signed),
        ),
        _result("look_in_oslo", "call-1"),
        _result("look_in_rome", "call-2", is_error=True),
        _answer(
            Image(data=_PICTURE, media_type="image/png", family=family, provider_metadata=signed),
            Text(text="Sun in Oslo."),
            Citation(url="https://weather.example", title="Weather", provider_metadata=signed),
        ),
        user("Thanks."),
    ]


def _calls(*calls: ToolCall) -> list[Message]:
    return [user("What is the weather?"), _answer(Text(text="I will look."), *calls)]


_LATER = [user("And tomorrow?")]
_OSLO, _ROME = _call("look_in_oslo", "call-1"), _call("look_in_rome", "call-2")
_BOTH = (_result("look_in_oslo", "call-1"), _result("look_in_rome", "call-2"))

RESULTS: Mapping[str, Sequence[Message]] = {
    "no result": [*_calls(_OSLO, _ROME), *_LATER],
    "no result of the last call": [*_calls(_OSLO, _ROME), _BOTH[0], *_LATER],
    "no result of the first call": [*_calls(_OSLO, _ROME), _BOTH[1], *_LATER],
    "no result at the end": [*_calls(_OSLO, _ROME), _BOTH[0]],
    "calls at the end": _calls(_OSLO, _ROME),
    "a result without a call": [*_calls(_OSLO), _BOTH[0], _BOTH[1], *_LATER],
    "a result whose call was left out": [user("Hi"), _BOTH[0], *_LATER],
    "results before their calls": [_BOTH[0], *_calls(_ROME), _BOTH[1], *_LATER],
    "two results of one call": [*_calls(_OSLO), _BOTH[0], _result("look_in_oslo", "call-1", "Rain."), *_LATER],
    "results in another order": [*_calls(_OSLO, _ROME), _BOTH[1], _BOTH[0], *_LATER],
    "results after a message": [*_calls(_OSLO, _ROME), user("Well?"), *_BOTH, *_LATER],
    "results after an answer": [*_calls(_OSLO, _ROME), _BOTH[0], assistant("Sun."), _BOTH[1], *_LATER],
    "results without a name": [
        *_calls(_OSLO),
        Message(role="tool", parts=[ToolResult(tool_call_id="call-1", parts="Sun.")]),
        *_LATER,
    ],
    "an empty result": [*_calls(_OSLO), Message(role="tool", parts=[ToolResult(tool_call_id="call-1")]), *_LATER],
    "a system message before a result": [*_calls(_OSLO), system("Be brief."), _BOTH[0], *_LATER],
}
"""Conversations whose calls and results do not match."""


def _with_ids(*ids: str) -> list[Message]:
    """Return one turn for each id. Each turn calls a different tool."""
    messages: list[Message] = []
    for number, call_id in enumerate(ids):
        name = f"look_{number}"
        messages += [user("Look."), _answer(_call(name, call_id)), _result(name, call_id), assistant("Done.")]
    return [*messages, *_LATER]


IDS: Mapping[str, Sequence[Message]] = {
    "ids that restart in each turn": _with_ids("call_0", "call_0", "call_0"),
    "one id twice in a message": [
        *_calls(_call("look_in_oslo", "call_0"), _call("look_in_rome", "call_0")),
        _result("look_in_oslo", "call_0"),
        _result("look_in_rome", "call_0"),
        *_LATER,
    ],
    "long ids": _with_ids("call_" + "x" * 300, "call_" + "x" * 300 + "y"),
    "ids with other characters": _with_ids("call|1:fc/é", "functions.look:0", "call 3", "☃"),
    "short ids": _with_ids("1", "2"),
    "empty ids": _with_ids("", ""),
}
"""Conversations with tool call ids that repeat, or that are from another provider."""

ARGUMENTS: Mapping[str, Sequence[Message]] = {
    text: [*_calls(_call("look_in_oslo", "call-1", arguments={}, invalid_arguments=text)), _BOTH[0], *_LATER]
    for text in ('{"city": "Os', "Oslo", "[1]", "null", '"Oslo"', "", "{}{}")
}
"""Conversations in which a model called a tool with arguments that are not a JSON object."""

TEXTS: Mapping[str, Sequence[Message]] = {
    "an empty text": [user("Hi"), _answer(Text(text="")), user("And?")],
    "a blank text": [user("Hi"), _answer(Text(text=" \n")), user("And?")],
    "a blank user message": [user(" \n"), assistant("Hello."), user("And?")],
    "a blank text before a call": [
        user("Hi"),
        _answer(Text(text="\n\n"), _call("look_in_oslo", "call-1")),
        _BOTH[0],
        *_LATER,
    ],
    "a turn with only reasoning": [
        user("Hi"),
        _answer(Reasoning(text="Hm.", provider=ANOTHER)),
        user("And?"),
    ],
    "a turn without parts": [user("Hi"), _answer(), user("And?")],
    "white space at the end": [user("Hi"), assistant("Hello. \n")],
    "an answer at the start": [assistant("Hello."), user("And?")],
    "two answers": [user("Hi"), assistant("Hello."), assistant("Well?"), user("And?")],
    "two user messages": [user("Hi"), user("Are you there?")],
    "a system message in the middle": [user("Hi"), assistant("Hello."), system("Be brief."), user("And?")],
    "a system message at the end": [user("Hi"), assistant("Hello."), user("And?"), system("Be brief.")],
    "an answer at the end": [user("Hi"), assistant("Hello.")],
    "a name that is not accepted": [*_calls(_call("maps/look up é", "call-1")), _result("x", "call-1"), *_LATER],
}
"""Conversations with texts and roles that some providers refuse."""

_NUMBER: JSONObject = {"type": "integer"}
SCHEMAS: Mapping[str, JSONObject] = {
    "empty": {},
    "no type": {"properties": {"number": _NUMBER}},
    "a union": {
        "anyOf": [
            {"type": "object", "properties": {"number": _NUMBER}, "required": ["number"]},
            {"type": "object", "properties": {"word": {"type": "string"}}},
        ]
    },
    "a reference": {
        "$ref": "#/$defs/Args",
        "$defs": {"Args": {"type": "object", "properties": {"number": _NUMBER}}},
    },
    "nullable": {"type": ["object", "null"], "properties": {"number": _NUMBER}},
}
"""Tool schemas whose root is not simply an object."""

_DESCRIPTION = "Where to look."
"""The description at the root of these schemas, by which the root is found in a request."""


class HistoryFaults(ProviderCase):
    """The tests of classes 61 to 69."""

    def _request(
        self, messages: Sequence[Message], model: str, called: Sequence[Message] = (), **fields: Any
    ) -> Translation:
        """Translate a request, with the tools that its messages and the messages `called` call."""
        names = dict.fromkeys(call.name for message in (*messages, *called) for call in message.tool_calls)
        empty: JSONObject = {"type": "object", "properties": {}}
        tools = [Tool(name=name, parameters=empty) for name in names if name.isidentifier()]
        request = ChatRequest(messages=messages, model=model, tools=tools, **fields)
        translation: Translation = self.open_steps().translator.translate(request, stream=True)
        return translation

    def _sent(self, name: str, messages: Sequence[Message], model: str) -> list[Any]:
        """Translate a conversation, with and without reasoning; check the bodies and warnings; return the bodies."""
        bodies = []
        for reasoning in (None, ReasoningOptions(effort="high")):
            translation = self._request(messages, model, reasoning=reasoning)
            # A provider may have no tools, no reasoning and no images. The test ignores warnings about these.
            plain = self._request([user("Hi")], model, reasoning=reasoning, called=messages).warnings
            warned = set(translation.warnings) - set(plain)
            lossy = [str(one) for one in warned if one.lossy and one.subject.lower() != "image"]
            assert not lossy, f"{name}: a strict service refuses this conversation: {lossy}"
            body = json.loads(translation.wire_request.body)
            assert SIGNED not in json.dumps(body), f"{name}: a signature of another issuer is sent"
            self._check_steps(name, messages, body)
            bodies.append(body)
        return bodies

    def _check_steps(self, name: str, messages: Sequence[Message], body: Any) -> None:
        """Assert that all calls are sent, each with a unique id, an object as arguments, and one result after it."""
        if self.wire.steps is None:
            return
        used: set[str] = set()
        waiting: list[str] = []
        for step in self.wire.steps(body):
            if step.kind == "result":
                assert step.id in waiting, f"{name}: the result {step.id!r} has no call before it, or repeats"
                waiting.remove(step.id)
            elif step.kind == "call":
                assert step.id not in used, f"{name}: the id {step.id!r} occurs twice"
                assert step.id, f"{name}: a call has no id"
                pattern = self.wire.call_id_pattern
                accepted = pattern is None or re.fullmatch(pattern, step.id) is not None
                assert accepted, f"{name}: the id {step.id!r} does not have the form {pattern!r}"
                arguments = json.loads(step.arguments) if isinstance(step.arguments, str) else step.arguments
                assert isinstance(arguments, dict), (
                    f"{name}: arguments that are not an object are sent: {step.arguments!r}"
                )
                used.add(step.id)
                waiting.append(step.id)
            else:
                assert not waiting, f"{name}: a message comes before the results of {', '.join(waiting)}"
        assert not waiting, f"{name}: the calls {', '.join(waiting)} have no result"
        made = sum(len(message.tool_calls) for message in messages)
        assert len(used) in (made, 0), f"{name}: all calls must be sent, or none to a model without tools"

    def test_fault_61_foreign_signatures(self, asked: str) -> None:
        """Content signed by another provider or model family is not sent; the rest of its conversation is sent."""
        family = self._request([user("Hi")], asked).family
        issuers: list[tuple[str, str | None]] = [(ANOTHER, None), (ANOTHER, ANOTHER_FAMILY), (ANOTHER, family)]
        if family is not None:
            issuers.append((self.plugin().name, ANOTHER_FAMILY))
        for provider, made_by in issuers:
            for body in self._sent(f"a conversation with {provider}", _foreign(provider, made_by), asked):
                text = json.dumps(body)
                for kept in ("I will look.", "result of look_in_rome", "Sun in Oslo.", "Thanks."):
                    assert kept in text, f"{kept!r} is not sent"

    def test_fault_61_families(self) -> None:
        """Models have the same `Translation.family` if they accept each other's reasoning, as `families` declares."""
        if not self.families:
            pytest.skip(
                "not tested: which models accept each other's reasoning. Set 'families' if the translator sets "
                "Translation.family"
            )
        named = [
            (model, self._request([user("Hi")], model).family, group) for group in self.families for model in group
        ]
        for model, family, group in named:
            for other, another, others in named:
                assert (family == another) == (group is others), (
                    f"the family of {model!r} is {family!r}, and that of {other!r} is {another!r}"
                )

    def test_fault_62_tools_without_reasoning(self, asked: str) -> None:
        """A model that reasons can continue after tool calls without reasoning."""
        for message in (_answer(_OSLO), _answer(Text(text="I will look."), _OSLO)):
            for body in self._sent("a call without reasoning", [user("Hi"), message, _BOTH[0]], asked):
                assert "result of look_in_oslo" in json.dumps(body)

    def test_fault_63_signatures(self, sample: Sample) -> None:
        """The next request contains what the provider needs of its last response, for example a signature."""
        whole: list[ChatResponse] = []
        if sample.body is not None:
            whole.append(self.parser().body(WireResponse(status=200, body=sample.body)))
        for response in (self.folded(self.decode(sample.frames)), *whole):
            calls = [part for part in response.parts if isinstance(part, ToolCall)]
            results = [Message(role="tool", parts=[ToolResult(tool_call_id=call.id, parts="Sun")]) for call in calls]
            follow_up = sample.request.with_messages(response.message, *results, user("And?"))
            translator = self.open_steps().translator
            sent = translator.translate(
                attrs.evolve(follow_up, model=self.models[0]), stream=True
            ).wire_request.body.decode()
            for text in sample.replays:
                assert text in sent, f"{text!r} is in the response but not in the next request"

    @pytest.mark.parametrize("name", RESULTS)
    def test_fault_64_results(self, name: str, asked: str) -> None:
        """Each call is sent with one result, even if the conversation has no result or several. No result is lost."""
        called: set[str] = set()
        results: list[str] = []
        for message in RESULTS[name]:
            called.update(call.id for call in message.tool_calls)
            given = [part for part in message.parts if isinstance(part, ToolResult)]
            results += [result.text for result in given if result.tool_call_id in called]
        for body in self._sent(name, RESULTS[name], asked):
            for result in results:
                assert result in json.dumps(body), f"{name}: the result {result!r} is not sent"

    @pytest.mark.parametrize("name", IDS)
    def test_fault_65_ids(self, name: str, asked: str) -> None:
        """Ids of calls that repeat, or that the provider does not accept, are replaced in calls and results."""
        self._sent(name, IDS[name], asked)

    @pytest.mark.parametrize("name", ARGUMENTS)
    def test_fault_66_arguments(self, name: str, asked: str) -> None:
        """A call with arguments that are not a JSON object is sent with an object."""
        self._sent(name, ARGUMENTS[name], asked)

    @pytest.mark.parametrize("name", TEXTS)
    def test_fault_67_texts(self, name: str, asked: str) -> None:
        """Blank texts and roles in any order are sent in a form that the provider accepts."""
        for body in self._sent(name, TEXTS[name], asked):
            if self.wire.refuses_blank_text:
                blank = [text for key, text in _texts(body) if key in ("text", "content") and not text.strip()]
                assert not blank, f"{name}: a blank text is sent"

    @pytest.mark.parametrize("name", SCHEMAS)
    def test_fault_69_schemas(self, name: str, asked: str) -> None:
        """The schema of a tool is sent with an object at its root."""
        tool = Tool(name="look", description="Looks.", parameters={**SCHEMAS[name], "description": _DESCRIPTION})
        request = ChatRequest(messages="Hi", model=asked, tools=[tool])
        body = json.loads(self.open_steps().translator.translate(request, stream=True).wire_request.body)
        roots = [value for value in _objects(body) if str(value.get("description")).startswith(_DESCRIPTION)]
        declared = any(value.get("name") == tool.name for value in _objects(body))
        assert roots or not declared, f"{name}: the description of the arguments is not sent"
        for schema in roots:
            assert str(schema.get("type")).lower() == "object", f"{name}: the root is not an object: {schema}"
            assert not schema.keys() & {"anyOf", "oneOf", "allOf", "$ref"}, f"{name}: a union or reference: {schema}"


def _texts(value: Any, key: str = "") -> Iterable[tuple[str, str]]:
    """Yield each text of a JSON value with the name of its field."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)


def _objects(value: Any) -> Iterable[JSONObject]:
    """Yield each object of a JSON value."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)
