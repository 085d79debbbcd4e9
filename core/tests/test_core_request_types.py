"""The types of messages and requests: what each field accepts, and that any other value is an `InvalidRequest`.

The error names the class and the field. It is raised where the value is made, so the traceback shows the mistake.
"""

from __future__ import annotations

import copy
import enum
import json
import pickle
import sys
from collections import OrderedDict, UserDict
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

import attrs
import pytest
from trunkline import (
    Audio,
    ChatRequest,
    Citation,
    Document,
    EmbedRequest,
    Image,
    ImageRequest,
    InvalidRequest,
    Message,
    ModerationRequest,
    Opaque,
    Reasoning,
    ReasoningOptions,
    RerankRequest,
    ResponseFormat,
    SpeechRequest,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    TranscriptionRequest,
    tool_result,
    user,
)
from trunkline._field_types import FieldTypes
from trunkline.authoring.json import encode_request
from trunkline.storage import from_json, to_json


class Word(str):
    """A string of another library."""


class Size(enum.IntEnum):
    LARGE = 2**62


class Name(enum.StrEnum):
    """A member of an enumeration is a string too."""

    F = "f"


class Double(float):
    """As `numpy.float64`, which is a `float`."""


class Single:
    """As `numpy.float32`, which is no `float`, and which JSON does not have."""

    def __float__(self) -> float:
        return 1.0


class Kind(NamedTuple):
    """The values that fields of one type accept, and those that they refuse."""

    right: tuple[Any, ...]
    wrong: tuple[Any, ...]


def optional(kind: Kind) -> Kind:
    return Kind((*kind.right, None), tuple(value for value in kind.wrong if value is not None))


OTHERS: tuple[Any, ...] = (b"x", object(), {1}, 1j, lambda: None)
TEXT = Kind(
    ("", "x", "ä\x00\ud800", Word("x"), Name.F), (None, 5, 0, False, 1.5, [], ["x"], {}, bytearray(b"x"), *OTHERS)
)
FLAG = Kind((True, False), (None, 0, 1, "", "yes", [], {}, *OTHERS))
OFFSET = Kind((0, 7, 10**400, True), ("7", 7.0, Decimal(7), [], {}, 10**5000, *OTHERS))
COUNT = Kind((0, -1, 7, -(2**63), 2**64 - 1, True, Size.LARGE), (*OFFSET.wrong, 2**64, -(2**63) - 1, 10**400))
NUMBER = Kind(
    (0.5, 1, -1e300, Double(0.5)),
    ("0.5", Decimal("0.5"), Single(), [], {}, float("inf"), float("nan"), -float("inf"), 10**400, *OTHERS),
)


def nested(levels: int, cls: type = dict) -> Any:
    value: Any = cls()
    for _ in range(levels - 1):
        value = {"a": value} if cls is dict else [value]
    return value


ENDLESS: dict[str, Any] = {"b": 1}
ENDLESS["a"] = [ENDLESS, ENDLESS]

NOT_JSON: tuple[Any, ...] = (
    *(float("nan"), float("inf"), 10**5000, b"x", {1}, object(), Single(), Decimal(1), {1: "x"}, {None: 1}),
    *(nested(128), nested(128, list), nested(5000), nested(5000, list), ENDLESS, UserDict(a=[{"b": {1}}])),
)
"""Values that no JSON contains, or that no decoder reads."""
PROVIDER_OBJECT = Kind(
    ({}, {"a": 1}, MappingProxyType({"a": 1}), OrderedDict(a=1), UserDict({"a": 1}), {"a": float("nan")}),
    (None, [], [("a", 1)], "", "{}", 0, *OTHERS),
)
OBJECT = Kind(
    (*PROVIDER_OBJECT.right[:-1], {"a": [10**400, "\ud800", (None, True), range(2)]}, nested(128)),
    (*PROVIDER_OBJECT.wrong, {1: 2}, ENDLESS, *[{"a": value} for value in NOT_JSON]),
)
TEXTS = Kind(
    ({}, {"a": "b"}, {"": Word("\ud800")}, MappingProxyType({"a": "b"})),
    (*PROVIDER_OBJECT.wrong, {"a": 1}, {"a": None}, {1: "a"}, {"a": b"x"}, {"a": {}}),
)
METADATA = Kind(
    (
        *({}, {"openai": {"a": 1}}, {"openai": {}}, {"openai": {"a": float("nan")}}),
        MappingProxyType({"openai": MappingProxyType({"a": 1})}),
    ),
    (None, [], "", "x", 0, {"openai": None}, {"openai": []}, {"openai": "x"}, {"a": {}, "openai": 5}, *OTHERS),
)
OPTIONS = Kind(
    METADATA.right[:3], (*METADATA.wrong, {1: {}}, ENDLESS, *[{"openai": {"a": value}} for value in NOT_JSON])
)
DATA = Kind((b"x", bytearray(b"x"), memoryview(b"x")), ("x", 5, [], {}, object()))
URL = Kind(("https://x", Word("https://x")), (5, b"https://x", [], {}, object()))

PICTURE, RECORDING = Image(file_id="f"), Audio(file_id="f")
INPUTS = Kind(
    ("x", PICTURE, ["x"], ("x", Word("y"), PICTURE), [["x", PICTURE], (PICTURE,)]),
    ([], (), None, 5, [None], ["x", 5], [[]], [["x", 5]], [[["x"]]], RECORDING, [RECORDING], [{"x": 1}], object()),
)
POSITIVE = Kind((1, 7, None), (0, -1, *COUNT.wrong))

TEXT_OR_NONE, FLAG_OR_NONE = optional(TEXT), optional(FLAG)
BOTH_OPTIONS = {"family": TEXT_OR_NONE, "provider_options": OPTIONS, "provider_metadata": METADATA}
MEDIA = {
    "data": DATA,
    "url": URL,
    "file_id": Kind(("f",), (5, b"f", [], {}, object())),
    "media_type": TEXT_OR_NONE,
    **BOTH_OPTIONS,
}

PARTS: tuple[Any, ...] = (None, 5, b"x", object(), {"type": "text", "text": "x"})

CACHE = Kind((None, "auto", "5m", "1h", Word("1h")), ("", "2h", 5, True, [], {}, object()))

FIELDS: dict[type, tuple[dict[str, Any], dict[str, Kind]]] = {
    Text: ({"text": "x"}, {"text": TEXT, "refusal": FLAG, "cache": CACHE, **BOTH_OPTIONS}),
    Image: ({}, {**MEDIA, "detail": TEXT_OR_NONE, "cache": CACHE}),
    Document: ({}, {**MEDIA, "name": TEXT_OR_NONE, "cache": CACHE}),
    Audio: ({}, {**MEDIA, "transcript": TEXT_OR_NONE}),
    Reasoning: (
        {},
        {
            "text": TEXT,
            "provider": TEXT_OR_NONE,
            "signature": TEXT_OR_NONE,
            "encrypted": TEXT_OR_NONE,
            "redacted": FLAG,
            **BOTH_OPTIONS,
        },
    ),
    ToolCall: (
        {"id": "c1", "name": "f"},
        {"id": TEXT, "name": TEXT, "arguments": OBJECT, "invalid_arguments": TEXT_OR_NONE, **BOTH_OPTIONS},
    ),
    ToolResult: (
        {"tool_call_id": "c1"},
        {
            "tool_call_id": TEXT,
            "name": TEXT_OR_NONE,
            "parts": Kind(
                ("x", [], (Text(text="x"),), [Image(url="https://x")], iter(())),
                (None, 5, object(), ["x"], [None], [ToolCall(id="c1", name="f")], [Reasoning()]),
            ),
            "is_error": FLAG,
            "cache": CACHE,
            "provider_options": OPTIONS,
        },
    ),
    Citation: (
        {},
        {
            "url": TEXT_OR_NONE,
            "title": TEXT_OR_NONE,
            "cited_text": TEXT_OR_NONE,
            "start": optional(OFFSET),
            "end": optional(OFFSET),
            "provider_metadata": METADATA,
        },
    ),
    Opaque: (
        {"provider": "p", "kind": "k", "data": {}},
        {"provider": TEXT, "kind": TEXT, "data": PROVIDER_OBJECT, "family": TEXT_OR_NONE, "awaits_answer": FLAG},
    ),
    Message: (
        {"role": "user", "parts": "x"},
        {
            "role": Kind(
                ("system", "user", "assistant", "tool", Word("user")),
                (None, "", "king", 5, [], {}, object(), 10**5000, nested(5000), "x" * 5000),
            ),
            "parts": Kind(("x", [], ["x", Text(text="x")], (), Text(text="x"), iter(["x"])), (*PARTS, [None], [["x"]])),
            "name": TEXT_OR_NONE,
            "provider_options": OPTIONS,
        },
    ),
    Tool: (
        {"name": "f"},
        {
            "name": TEXT,
            "description": TEXT_OR_NONE,
            "parameters": OBJECT,
            "strict": FLAG_OR_NONE,
            "cache": CACHE,
            "provider_options": OPTIONS,
        },
    ),
    ToolChoice: (
        {"mode": "tool", "name": "f"},
        {
            "mode": Kind(("tool",), (None, "auto", "x", 5, [], {}, object(), 10**5000, nested(5000))),
            "name": Kind(("f",), (None, 5, [], b"f")),
        },
    ),
    ResponseFormat: (
        {"schema": {}},
        {
            "type": Kind(("json_schema",), (None, "text", "xml", 5, [], {}, object(), 10**5000, nested(5000))),
            "schema": Kind(OBJECT.right, OBJECT.wrong),
            "name": TEXT,
            "description": TEXT_OR_NONE,
            "strict": FLAG_OR_NONE,
        },
    ),
    ReasoningOptions: (
        {},
        {
            "effort": Kind((None, "low", Word("max")), ("", "much", 5, [], {}, object())),
            "max_tokens": optional(COUNT),
            "summary": Kind((None, "auto"), ("", "long", 5, True, [], {}, object())),
        },
    ),
    ChatRequest: (
        {"messages": "x"},
        {
            "messages": Kind(
                ("x", user("x"), [user("x")], (user("x"),), iter([user("x")])),
                ([], (), ["x"], [None], [user("x"), 5], *PARTS),
            ),
            "model": TEXT_OR_NONE,
            "tools": Kind(
                ([], (), [Tool(name="f")], iter([Tool(name="f")])), (None, 5, "f", ["f"], [{"name": "f"}], object())
            ),
            "tool_choice": Kind((None, "auto", "none", ToolChoice(mode="auto")), (5, True, [], {}, "f", object())),
            "parallel_tool_calls": FLAG_OR_NONE,
            "response_format": Kind((None, ResponseFormat(type="json")), ("json", {"type": "json"}, True, 5, object())),
            "reasoning": Kind((None, ReasoningOptions(effort="low")), ("low", {"effort": "low"}, True, 5, object())),
            "max_output_tokens": optional(COUNT),
            "temperature": optional(NUMBER),
            "top_p": optional(NUMBER),
            "top_k": optional(COUNT),
            "stop": Kind(((), [], "x", ["x"], (Word("x"),), iter(["x"])), (None, 5, [5], ["x", None], object())),
            "seed": optional(COUNT),
            "frequency_penalty": optional(NUMBER),
            "presence_penalty": optional(NUMBER),
            "background": FLAG_OR_NONE,
            "logprobs": FLAG_OR_NONE,
            "top_logprobs": optional(COUNT),
            "cache": CACHE,
            "cache_key": TEXT_OR_NONE,
            "user_id": TEXT_OR_NONE,
            "metadata": TEXTS,
            "provider_options": OPTIONS,
        },
    ),
    EmbedRequest: (
        {"inputs": "x"},
        {
            "inputs": INPUTS,
            "input_type": Kind(("document", "query", None), ("", "search_query", 5, [], object())),
            "model": TEXT_OR_NONE,
            "dimensions": optional(COUNT),
            "user_id": TEXT_OR_NONE,
            "provider_options": OPTIONS,
        },
    ),
    RerankRequest: (
        {"query": "x", "documents": ["x"]},
        {
            "query": TEXT,
            "documents": Kind(("x", ["x"], iter(["x", Word("y")])), ([], None, 5, [None], [PICTURE], object())),
            "model": TEXT_OR_NONE,
            "top_n": POSITIVE,
            "provider_options": OPTIONS,
        },
    ),
    TranscriptionRequest: (
        {"audio": RECORDING},
        {
            "audio": Kind((RECORDING,), (None, PICTURE, "x", b"x", object())),
            "model": TEXT_OR_NONE,
            "language": TEXT_OR_NONE,
            "prompt": TEXT_OR_NONE,
            "timestamps": Kind(("word", "segment", ["word", "segment"], ()), ("", "words", ["x"], [None], None, 5)),
            "diarize": FLAG_OR_NONE,
            "temperature": optional(NUMBER),
            "provider_options": OPTIONS,
        },
    ),
    SpeechRequest: (
        {"text": "x"},
        {
            "text": Kind(TEXT.right[1:], ("", *TEXT.wrong)),
            "model": TEXT_OR_NONE,
            "voice": TEXT_OR_NONE,
            "format": TEXT_OR_NONE,
            "speed": optional(NUMBER),
            "instructions": TEXT_OR_NONE,
            "provider_options": OPTIONS,
        },
    ),
    ImageRequest: (
        {"prompt": "x", "images": [PICTURE]},
        {
            "prompt": TEXT,
            "model": TEXT_OR_NONE,
            "images": Kind((PICTURE, [PICTURE], iter([PICTURE])), (None, "x", 5, ["x"], [RECORDING], object())),
            "mask": Kind((PICTURE, None), (RECORDING, "x", [PICTURE], object())),
            "count": POSITIVE,
            "size": TEXT_OR_NONE,
            "aspect_ratio": TEXT_OR_NONE,
            "quality": TEXT_OR_NONE,
            "format": TEXT_OR_NONE,
            "seed": optional(COUNT),
            "user_id": TEXT_OR_NONE,
            "provider_options": OPTIONS,
        },
    ),
    ModerationRequest: (
        {"inputs": "x"},
        {"inputs": INPUTS, "model": TEXT_OR_NONE, "provider_options": OPTIONS},
    ),
}

BY_FIELD = [
    pytest.param(cls, name, id=f"{cls.__name__}.{name}") for cls, (_, fields) in FIELDS.items() for name in fields
]


def made(cls: type, name: str, value: Any) -> Any:
    """An object of the class with one field set. Media needs a source."""
    needed = FIELDS[cls][0]
    if cls in (Image, Document, Audio) and name not in ("data", "url", "file_id"):
        needed = {"file_id": "f"}
    return cls(**{**needed, name: value})


def test_every_field_is_listed_here() -> None:
    from trunkline.messages import Part

    assert set(Part.__args__) <= FIELDS.keys()  # type: ignore[attr-defined]
    for cls, (_, fields) in FIELDS.items():
        assert set(fields) == {field.name for field in attrs.fields(cls)}, cls


@pytest.mark.parametrize(("cls", "name"), BY_FIELD)
def test_wrong_value_is_an_error_that_names_the_field(cls: type, name: str) -> None:
    for value in FIELDS[cls][1][name].wrong:
        with pytest.raises(InvalidRequest) as caught:
            made(cls, name, value)
            pytest.fail(f"{cls.__name__} accepts another {name}: {type(value).__name__}")
        assert len(str(caught.value)) < 300
        if name not in CONTRADICTIONS or (name == "schema" and isinstance(value, dict)):
            assert f"{cls.__name__}.{name}" in str(caught.value)


CONTRADICTIONS = (
    "parts",
    "messages",
    "role",
    "mode",
    "name",
    "type",
    "schema",
    "tools",
    "tool_choice",
    "stop",
    "inputs",
    "documents",
    "timestamps",
    "images",
    "effort",
    "summary",
)
"""Fields whose errors have words of their own."""


@pytest.mark.parametrize(("cls", "name"), BY_FIELD)
def test_right_value_is_accepted(cls: type, name: str) -> None:
    for value in FIELDS[cls][1][name].right:
        made(cls, name, value)


@pytest.mark.parametrize("data", [b"%PDF-1", bytearray(b"%PDF-1"), memoryview(b"%PDF-1")])
def test_media_data_becomes_bytes(data: Any) -> None:
    document = Document(data=data)
    assert type(document.data) is bytes
    assert document == Document(data=b"%PDF-1", media_type="application/pdf")
    assert from_json(Message, to_json(user(document))) == user(document)


def test_subclass_of_a_part_is_a_part() -> None:
    @attrs.frozen(kw_only=True)
    class Note(Text):
        author: str = "me"

    @attrs.frozen(kw_only=True)
    class Call(ToolCall):
        pass

    note = Note(text="x")
    assert user(note).parts == (note,)
    assert user(note).text == "x"
    assert ToolResult(tool_call_id="c1", parts=[note, Text(text=""), Text(text="y")]).text == "x\ny"
    assert tool_result(Call(id="c1", name="f"), note).role == "tool"
    assert Message(role="assistant", parts=Call(id="c1", name="f")).tool_calls[0].name == "f"
    with pytest.raises(InvalidRequest, match=r"Note\.text must be a string, not int"):
        Note(text=5)  # type: ignore[arg-type]


def test_place_of_a_wrong_item_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[1\]"):
        ChatRequest(messages=[user("x"), "y"])  # type: ignore[list-item]
    with pytest.raises(InvalidRequest, match=r"stop\[1\] must be a string, not int"):
        ChatRequest(messages="x", stop=["a", 5])  # type: ignore[list-item]
    with pytest.raises(
        InvalidRequest,
        match=r"inputs\[1\] must be a string, a trunkline.Image, or a list of them that belong together, not NoneType",
    ):
        EmbedRequest(inputs=["a", None])  # type: ignore[list-item]
    with pytest.raises(InvalidRequest, match=r"Text\.provider_options\['openai'\] must be a mapping, not list"):
        Text(text="x", provider_options={"openai": []})  # type: ignore[dict-item]


def test_mappings_and_sequences_of_any_class_are_encoded() -> None:
    call = ToolCall(
        id="c1", name=Name.F, arguments=MappingProxyType({"a": UserDict({"b": range(2)}), "c": Double(0.5)})
    )
    assert call.arguments_json == '{"a":{"b":[0,1]},"c":0.5}'
    assert tool_result("c1", MappingProxyType({"\ud800": (1, Name.F)})) == tool_result("c1", '{"\\ud800":[1,"f"]}')


def test_value_that_json_does_not_have_is_an_invalid_request() -> None:
    endless: Any = UserDict()
    endless["a"] = endless
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    odd: Any
    for odd in (b"x", bytearray(b"x"), Single(), {1}, float("nan"), endless, deep):
        for result in (odd, {"a": odd}, [odd]):
            with pytest.raises(InvalidRequest, match="a tool result"):
                tool_result("c1", result)
        call = ToolCall(id="c1", name="f", arguments={})
        call.arguments["a"] = odd  # type: ignore[index]
        with pytest.raises(InvalidRequest, match="arguments cannot be encoded as JSON"):
            _ = call.arguments_json
        with pytest.raises(InvalidRequest, match="the request contains a value that is not valid in JSON: body"):
            encode_request({"messages": [{"content": odd}]})


def test_error_names_the_place_of_a_value_that_json_does_not_have() -> None:
    with pytest.raises(
        InvalidRequest, match=r"^Tool\.parameters\['properties'\]\[1\] is nan, which JSON does not have$"
    ):
        Tool(name="f", parameters={"properties": [1, float("nan")]})
    with pytest.raises(
        InvalidRequest, match=r"^ToolCall\.arguments\['a'\] is of the type bytes, which JSON does not have$"
    ):
        ToolCall(id="c1", name="f", arguments={"a": b"x"})  # type: ignore[dict-item]
    with pytest.raises(InvalidRequest, match=r"^ChatRequest\.metadata\['a'\] must be a string, not int$"):
        ChatRequest(messages="x", metadata={"a": 1})  # type: ignore[dict-item]
    with pytest.raises(InvalidRequest, match=r"^ChatRequest\.temperature must be an integer of at most 64 bits$"):
        ChatRequest(messages="x", temperature=10**400)
    with pytest.raises(InvalidRequest, match=r"^ChatRequest\.top_p must be finite, not nan$"):
        ChatRequest(messages="x", top_p=float("nan"))
    with pytest.raises(InvalidRequest, match=r"body\['a'\]\[0\]\['b'\] has a key that is not a string, but tuple$"):
        encode_request({"a": [{"b": {(1,): 2}}]})
    with pytest.raises(InvalidRequest, match=r"ToolCall.arguments\['b'\].* is nested deeper than 128 levels$"):
        ToolCall(id="c1", name="f", arguments={"a": 1, "b": ENDLESS})


def test_value_that_is_accepted_can_be_shown_stored_and_sent() -> None:
    deep = nested(128)
    request = ChatRequest(
        messages=[user("x"), Message(role="assistant", parts=ToolCall(id="c1", name="f", arguments=deep))],
        tools=[Tool(name="f", parameters=deep)],
        response_format=ResponseFormat(schema=deep),
        provider_options={"openai": nested(127)},
    )
    repr(request)
    assert from_json(ChatRequest, json.loads(json.dumps(to_json(request)))) == request
    assert pickle.loads(pickle.dumps(request)) == request
    assert copy.deepcopy(request) == request


def test_tables_of_the_checks_are_complete() -> None:
    for cls in ENUMERATIONS:
        tables = [value for value in vars(sys.modules[cls.__module__]).values() if isinstance(value, FieldTypes)]
        own = [vars(cls)["_types"]] if "_types" in vars(cls) else tables
        unchecked = {field.name for field in attrs.fields(cls) if field.converter is None} - ENUMERATIONS[cls]
        assert unchecked in [table.names for table in own], cls


ENUMERATIONS: dict[type, set[str]] = {
    cls: {Message: {"role"}, ResponseFormat: {"type"}, EmbedRequest: {"input_type"}}.get(cls, set())
    | ({"cache"} & FIELDS[cls][1].keys())
    for cls in FIELDS
    if cls is not ToolChoice
}
"""Fields that accept a few strings only, which the class checks itself, as it does all fields of a `ToolChoice`."""


@pytest.mark.parametrize("call", [None, {"id": "c1"}, b"c1", ["c1"]])
def test_call_that_a_result_belongs_to_must_be_a_call_or_an_id(call: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"call must be a trunkline\.ToolCall or the id of one"):
        tool_result(call, "done")
