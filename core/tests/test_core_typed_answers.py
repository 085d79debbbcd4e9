"""Typed answers: the schema of a type, the value read from a response, asking again, and partial answers."""

from __future__ import annotations

import builtins
import contextlib
import copy
import dataclasses
import datetime
import enum
import json
import pickle
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

import attrs
import jsonschema
import msgspec
import pydantic
import pytest
from trunkline import (
    CallWarning,
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    FinishReason,
    InvalidAnswer,
    InvalidRequest,
    RemoteError,
    ResponseFormat,
    Text,
    TextDelta,
    ToolCall,
    TypedResponse,
    TypedStream,
    Usage,
    fallback,
)
from trunkline._annotations import has_pydantic
from trunkline.answers import AnswerType, answer_type_of, partial_json, without_nulls
from trunkline.storage import from_json, to_json
from trunkline.testing import Exchange, serve

Toy = Callable[..., Any]


@attrs.define
class Place:
    """A place on a map."""

    city: str
    inhabitants: int = 0
    tags: list[str] = attrs.Factory(list)
    nickname: str | None = None


@dataclasses.dataclass
class Area:
    size: float
    inside: list[Area] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Spot:
    x: int


class Line(typing.TypedDict, total=False):
    start: typing.Required[int]
    end: int


class Road(msgspec.Struct, tag=True):
    length: Annotated[int, msgspec.Meta(ge=1, description="In metres.")]


class River(msgspec.Struct, tag=True):
    name: str


class Hill(pydantic.BaseModel):
    """A hill."""

    height: int = pydantic.Field(gt=0)
    seen: datetime.date | None = None


@pydantic.dataclasses.dataclass
class Checked:
    number: Annotated[int, pydantic.Field(gt=3)]


@dataclasses.dataclass
class HoldsChecked:
    inner: list[Checked]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@attrs.define
class Guarded:
    number: int = attrs.field(validator=attrs.validators.gt(3))


@attrs.define
class Raises:
    number: int

    def __attrs_post_init__(self) -> None:
        raise RuntimeError("secret-in-a-validator")


def answered(text: str, **fields: Any) -> ChatResponse:
    return ChatResponse(parts=(Text(text=text),), finish_reason=fields.pop("reason", FinishReason.STOP), **fields)


def read(type_: object, value: object) -> object:
    return answer_type_of(type_).read(answered(json.dumps(value))).answer


CASES: list[tuple[object, Any, Any]] = [
    (Place, {"city": "Oslo"}, Place("Oslo")),
    (Place, {"city": "Oslo", "inhabitants": None, "tags": None, "nickname": None}, Place("Oslo")),
    (Area, {"size": 1, "inside": [{"size": 2.5, "inside": None}]}, Area(1, [Area(2.5)])),
    (Line, {"start": 1, "end": None}, {"start": 1}),
    (list[Place], {"answer": [{"city": "Oslo", "tags": None}]}, [Place("Oslo")]),
    (Road | River, {"answer": {"type": "River", "name": "Rhine"}}, River("Rhine")),
    (Area | Spot, {"answer": {"size": 2}}, Area(2)),
    (Hill, {"height": 3, "seen": "2026-11-27"}, Hill(height=3, seen=datetime.date(2026, 11, 27))),
    (list[Hill], {"answer": [{"height": 3}]}, [Hill(height=3)]),
    (Hill | Area, {"answer": {"height": 3}}, Hill(height=3)),
    (HoldsChecked, {"inner": [{"number": 4}]}, HoldsChecked([Checked(4)])),
    (int, {"answer": 3}, 3),
    (Colour, {"answer": "red"}, Colour.RED),
    (Literal["a", "b"], {"answer": "b"}, "b"),
    (dict[str, int], {"answer": {"a": 1}}, {"a": 1}),
    (dict[int, str], {"answer": {"1": "a"}}, {1: "a"}),
    (tuple[int, str], {"answer": [1, "a"]}, (1, "a")),
    (int | None, {"answer": None}, None),
]


@pytest.mark.parametrize(("type_", "value", "expected"), CASES, ids=[str(case[0]) for case in CASES])
def test_answer_is_a_value_of_the_type(type_: object, value: Any, expected: object) -> None:
    found = read(type_, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("type_", {str(case[0]): case[0] for case in CASES}.values(), ids=str)
def test_schemas_are_objects_without_titles_that_describe_their_answers(type_: object) -> None:
    asked = answer_type_of(type_)
    schema = asked.format.schema
    assert schema is not None
    assert schema["type"] == "object"
    assert not schema.keys() & {"title", "$ref", "anyOf", "oneOf"}
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    for other, value, _ in CASES:
        if other is type_:
            validator.validate(without_nulls(value, schema))


def test_format_has_the_name_and_the_words_of_the_class() -> None:
    form = answer_type_of(Place).format
    assert (form.name, form.description, form.strict) == ("Place", "A place on a map.", True)
    assert answer_type_of(list[Place]).format.name == "list_Place"
    assert answer_type_of(Area).format.description is None


def test_schema_of_a_type_is_made_once() -> None:
    assert answer_type_of(Place) is answer_type_of(Place)
    with_list: Any = Annotated[int, msgspec.Meta(extra={"a": []})]
    assert answer_type_of(with_list).name


def test_definitions_stay_only_if_they_are_used() -> None:
    assert "$defs" not in typing.cast(Any, answer_type_of(Place).format.schema)
    assert typing.cast(Any, answer_type_of(Area).format.schema)["$defs"].keys() == {"Area"}


UNFIT: list[tuple[object, Any, str, str]] = [
    (Place, {"city": "Oslo", "inhabitants": "many"}, "$.inhabitants", "Expected `int`, got `str`"),
    (list[Place], {"answer": [{"city": "Oslo"}, {"city": 5}]}, "$.answer[1].city", "Expected `str`, got `int`"),
    (list[Place], [{"city": "Oslo"}], "$", "expected an object with the property 'answer'"),
    (Hill, {"height": 0}, "$.height", "greater than 0"),
    (Hill, {"height": "5"}, "$.height", "valid integer"),
    (Hill | Area, {"answer": {"height": 0}}, "$.answer.Hill.height", "greater than 0"),
    (HoldsChecked, {"inner": [{"number": 3}]}, "$.inner[0].number", "greater than 3"),
    (Guarded, {"number": 1}, "$", "must be > 3"),
    (Raises, {"number": 1}, "$", "RuntimeError in the class"),
    (int, {"answer": 1.5}, "$.answer", "Expected `int`, got `float`"),
    (Road, {"type": "Road", "length": 0}, "$.length", ">= 1"),
]


@pytest.mark.parametrize(("type_", "value", "path", "words"), UNFIT, ids=[str(case[0]) for case in UNFIT])
def test_error_says_where_the_answer_does_not_fit(type_: object, value: Any, path: str, words: str) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        read(type_, value)
    error = caught.value
    assert (error.reason, error.retryable) == ("does_not_fit", False)
    assert error.path == path
    assert f"(at {path})" in str(error)
    assert words in str(error)
    assert error.response.text == json.dumps(value)
    assert isinstance(error, RemoteError)
    assert pickle.loads(pickle.dumps(error)).reason == error.reason
    assert copy.copy(error).response == error.response


def test_errors_do_not_quote_what_may_be_a_key() -> None:
    key = "sk-proj-" + "a1B2" * 10
    with pytest.raises(InvalidAnswer) as caught:
        read(Guarded, {"number": 1, key: 1, "other": key})
    with pytest.raises(InvalidAnswer) as other:
        read(dict[str, int], {"answer": {key: "x"}})
    with pytest.raises(InvalidAnswer) as third:
        answer_type_of(Raises).read(answered('{"number": 1}'))
    for error in (caught.value, other.value, third.value):
        assert key not in f"{error!s} {error!r} {error.path}"
        assert "secret-in-a-validator" not in str(error)
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None


CALL = ToolCall(id="1", name="look", arguments={})


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (answered('{"city": "Os', reason=FinishReason.LENGTH), "cut_off"),
        (answered("", reason=FinishReason.LENGTH), "cut_off"),
        (ChatResponse(parts=(Text(text="No.", refusal=True),), finish_reason=FinishReason.STOP), "refused"),
        (answered("", reason=FinishReason.CONTENT_FILTER), "refused"),
        (answered('{"ci', reason=FinishReason.CONTENT_FILTER), "refused"),
        (ChatResponse(parts=(CALL,), finish_reason=FinishReason.TOOL_CALLS), "tool_calls"),
        (answered(" "), "empty"),
        (answered("Oslo"), "not_json"),
        (answered('{"city": NaN}'), "not_json"),
        (answered("[" * 100_000), "not_json"),
        (answered('{"city": "Oslo"} and {more}'), "not_json"),
    ],
)
def test_reason_says_why_there_is_no_answer(response: ChatResponse, reason: str) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        answer_type_of(Place).read(response)
    assert caught.value.reason == reason
    assert caught.value.response == response


@pytest.mark.parametrize(
    "parts",
    [
        ['```json\n{"city": "Oslo"}\n```'],
        ['Here it is:\n\n```\n{"city": "Oslo"}\n```\nAnything else?'],
        ['```json\n{"city": "Oslo"}\n'],
        ["Let me search.", '{"city": "Oslo"}'],
        ['The place is {"city": "Oslo"}. Anything else?'],
        ['\ufeff{"city": "Oslo"}'],
    ],
)
def test_code_fences_and_earlier_words_do_not_matter(parts: list[str]) -> None:
    response = ChatResponse(parts=tuple(Text(text=text) for text in parts), finish_reason=FinishReason.STOP)
    assert answer_type_of(Place).read(response).answer == Place("Oslo")


def test_complete_answer_at_the_output_limit_is_an_answer() -> None:
    response = answered('{"city": "Oslo"}\n\n', reason=FinishReason.LENGTH)
    assert answer_type_of(Place).read(response).answer == Place("Oslo")


def test_typed_response_is_the_response_with_its_answer() -> None:
    reversed_, lost = (
        CallWarning(kind="changed", subject="response_format", message="m", lossy=lossy) for lossy in (False, True)
    )
    response = answered('{"city": "Oslo"}', id="7", usage=Usage(output_tokens=3), warnings=(reversed_, lost))
    typed = answer_type_of(Place).read(response)
    assert isinstance(typed, TypedResponse)
    assert isinstance(typed, ChatResponse)
    assert (typed.id, typed.usage, typed.message) == ("7", Usage(output_tokens=3), response.message)
    assert typed.warnings == (lost,)


def test_stored_typed_response_is_a_response_without_its_answer() -> None:
    response = answered('{"answer": "2026-11-27"}', raw=b"{}", usage=Usage(output_tokens=3))
    stored = json.loads(json.dumps(to_json(answer_type_of(datetime.date).read(response))))
    assert stored == to_json(response)
    assert from_json(ChatResponse, stored) == attrs.evolve(response, raw=None)


def test_restrictions_of_pydantic_in_a_dataclass_are_sent_and_checked() -> None:
    @dataclasses.dataclass
    class Order:
        seats: Annotated[int, pydantic.Field(ge=1)]

    asked = answer_type_of(Order)
    schema = cast("dict[str, dict[str, dict[str, object]]]", asked.format.schema)
    assert schema["properties"]["seats"]["minimum"] == 1


class Guest(pydantic.BaseModel):
    name: str


def dataclass_of(*fields: Any) -> Any:
    """A dataclass of fields with these annotations. Those that are text are evaluated in this module."""
    made = dataclasses.make_dataclass("Made", [(f"field{number}", each) for number, each in enumerate(fields)])
    made.__module__ = __name__
    return made


def test_a_class_of_pydantic_is_found_after_an_annotation_that_is_freed() -> None:
    """The text of annotations is evaluated anew, so `Guest | None` may get the id that `int | None` had."""
    for count in range(1, 10):
        rooms = [dataclass_of(*["int | None"] * 3) for _ in range(count)]
        assert has_pydantic(dataclass_of(*rooms, dataclass_of("Guest | None")))


def test_a_value_in_place_of_a_type_is_refused() -> None:
    @dataclasses.dataclass
    class Order:
        seats: int

    with pytest.raises(InvalidRequest, match="no JSON Schema can be made of answer_type"):
        answer_type_of(Order(seats=1))


@pytest.mark.parametrize("type_", [Place | Area, 5, "Nowhere", Place | int | list[Hill], set[Place | Hill]])
def test_type_without_a_schema_is_refused_by_name(type_: object) -> None:
    with pytest.raises(InvalidRequest, match="answer_type") as caught:
        answer_type_of(type_)
    assert "pydantic" in str(caught.value)


def test_class_that_msgspec_cannot_make_is_refused() -> None:
    @attrs.define
    class Doubled:
        number: int
        double: int = attrs.field(default=attrs.Factory(lambda self: self.number * 2, takes_self=True))

    with pytest.raises(InvalidRequest, match="takes_self"):
        answer_type_of(Doubled)


@pytest.mark.parametrize("type_", [{"type": "object", "properties": {}}, {}, len, lambda: 1])
def test_schema_or_function_in_place_of_a_type_is_refused(type_: object) -> None:
    with pytest.raises(InvalidRequest, match="answer_type"):
        answer_type_of(type_)


def test_constants_of_several_types_are_a_union() -> None:
    schema = typing.cast(Any, answer_type_of(Literal["a", 1, None, "b"]).format.schema)
    assert schema["properties"]["answer"] == {
        "anyOf": [{"type": "null"}, {"type": "integer", "enum": [1]}, {"type": "string", "enum": ["a", "b"]}]
    }


def test_annotation_that_does_not_exist_is_named() -> None:
    @dataclasses.dataclass
    class Lost:
        other: Nowhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(InvalidRequest, match="Nowhere"):
        answer_type_of(Lost)


def _without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    real = builtins.__import__

    def imported(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in names:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", imported)


def test_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclasses.dataclass
    class New:
        number: int

    @dataclasses.dataclass
    class Other:
        number: int

    _without(monkeypatch, "msgspec")
    with pytest.raises(ConfigurationError, match=r"msgspec.*trunkline\[answers\]"):
        answer_type_of(New)
    monkeypatch.undo()
    _without(monkeypatch, "pydantic")
    with pytest.raises(InvalidRequest, match="answer_type"):
        answer_type_of(New | Other)


SCHEMA: Any = {
    "type": "object",
    "properties": {
        "kept": {"type": ["string", "null"]},
        "left_out": {"type": "string"},
        "needed": {"type": "integer"},
        "list": {"type": "array", "items": {"$ref": "#/$defs/In"}},
        "pair": {"type": "array", "prefixItems": [{"$ref": "#/$defs/In"}], "items": {"type": "integer"}},
        "union": {
            "anyOf": [
                {"type": "array", "items": {"$ref": "#/$defs/In"}},
                {"type": "object", "properties": {"t": {"enum": ["a"]}, "x": {"type": ["null", "string"]}}},
                {"type": "object", "properties": {"t": {"const": "b"}, "x": {"type": "string"}}},
                {"type": "null"},
            ]
        },
        "map": {"type": "object", "additionalProperties": {"$ref": "#/$defs/In"}},
        "any": {},
    },
    "required": ["needed"],
    "$defs": {"In": {"type": "object", "properties": {"x": {"type": "integer"}}}},
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"kept": None, "left_out": None, "needed": None}, {"kept": None, "needed": None}),
        ({"list": [{"x": None}, {"x": 1}], "unknown": None}, {"list": [{}, {"x": 1}], "unknown": None}),
        ({"pair": [{"x": None}, None]}, {"pair": [{}, None]}),
        ({"union": [{"x": None}]}, {"union": [{}]}),
        ({"union": {"t": "a", "x": None}}, {"union": {"t": "a", "x": None}}),
        ({"union": {"t": "b", "x": None}}, {"union": {"t": "b"}}),
        ({"union": {"t": "c", "x": None}, "any": {"x": None}}, {"union": {"t": "c", "x": None}, "any": {"x": None}}),
        ({"map": {"k": {"x": None}, "l": None}, "any": None}, {"map": {"k": {}, "l": None}, "any": None}),
        ([None], [None]),
        (None, None),
    ],
)
def test_null_of_an_optional_property_means_that_it_was_left_out(value: Any, expected: Any) -> None:
    assert without_nulls(value, SCHEMA) == expected


# Through a service


def body(text: str) -> bytes:
    return json.dumps({"text": text}).encode()


class Answers:
    """A server that gives the answers in turn."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.seen: list[Any] = []

    async def __call__(self, exchange: Exchange) -> None:
        request = json.loads(exchange.request.body)
        text = self.texts[len(self.seen)]
        self.seen.append(request["text"])
        if not request["stream"]:
            await exchange.respond(body(text))
            return
        await exchange.start(headers={"content-type": "application/x-ndjson"})
        await exchange.chunk(b'{"open": true}\n')
        for start in range(0, len(text), 5):
            await exchange.chunk(json.dumps({"text": text[start : start + 5]}).encode() + b"\n")
        await exchange.chunk(b'{"done": true}\n')
        await exchange.end()


OSLO = '{"city": "Oslo", "inhabitants": 700000}'


@pytest.mark.anyio
@pytest.mark.each_stack
async def test_chat_gives_the_answer(toy: Toy) -> None:
    server = Answers(OSLO)
    async with serve(server) as served, toy(served.url) as service:
        response = await service.chat("Where?", answer_type=Place)
    assert response.answer == Place("Oslo", 700_000)
    assert (response.service, response.text) == ("toy", OSLO)


@pytest.mark.anyio
@pytest.mark.each_stack
async def test_model_is_asked_again_and_told_what_was_wrong(toy: Toy) -> None:
    server = Answers("Oslo, I think", '{"city": 5}', OSLO)
    async with serve(server) as served, toy(served.url) as service:
        response = await service.chat("Where?", answer_type=Place, answer_retries=2)
    assert response.answer == Place("Oslo", 700_000)
    assert response.usage == Usage(output_tokens=3)
    assert [len(seen) for seen in server.seen] == [1, 3, 5]
    assert "not JSON" in server.seen[1][2]
    assert server.seen[2][3:4] == ['{"city": 5}']
    assert "Expected `str`, got `int` (at $.city)" in server.seen[2][4]


@pytest.mark.anyio
async def test_last_error_has_the_last_response_and_the_usage_of_all(toy: Toy, anyio_backend: str) -> None:
    server = Answers("", "Oslo")
    async with serve(server) as served, toy(served.url) as service:
        with pytest.raises(InvalidAnswer) as caught:
            await service.chat("Where?", answer_type=Place, answer_retries=1)
    assert (caught.value.response.text, caught.value.response.usage) == ("Oslo", Usage(output_tokens=2))
    assert (caught.value.service, caught.value.provider) == ("toy", "toy")
    assert "Where?" not in str(caught.value)
    assert len(server.seen[1]) == 2  # an empty answer is not repeated


@pytest.mark.anyio
async def test_without_retries_the_model_is_asked_once(toy: Toy, anyio_backend: str) -> None:
    server = Answers("Oslo", OSLO)
    async with serve(server) as served, toy(served.url) as service:
        with pytest.raises(InvalidAnswer):
            await service.chat("Where?", answer_type=Place)
    assert len(server.seen) == 1


@pytest.mark.anyio
async def test_composed_services_give_answers(toy: Toy, anyio_backend: str) -> None:
    server = Answers("Oslo", OSLO, OSLO)
    async with serve(server) as served:
        async with fallback(toy("http://127.0.0.1:9", name="a", max_retries=0), toy(served.url, name="b")) as main:
            response = await main.chat("Where?", answer_type=Place, answer_retries=1)
            assert (response.answer.city, response.service) == ("Oslo", "b")
            async with main.stream("Where?", answer_type=Place) as stream:
                assert (await stream.finish()).answer == Place("Oslo", 700_000)


@pytest.mark.anyio
@pytest.mark.each_stack
async def test_stream_has_the_answer_as_far_as_it_has_arrived(toy: Toy) -> None:
    async with serve(Answers('```json\n{"answer": [{"city": "Oslo"}, {"city": "Rome"}]}\n```')) as served:
        async with toy(served.url) as service:
            seen: list[Any] = []
            async with service.stream("Where?", answer_type=list[Place]) as stream:
                assert isinstance(stream, TypedStream)
                assert stream.answer is None
                async for event in stream:
                    if type(event) is TextDelta and stream.answer not in seen:
                        seen.append(stream.answer)
                assert stream.answer == [{"city": "Oslo"}, {"city": "Rome"}]
                assert stream.response.answer == [Place("Oslo"), Place("Rome")]
                assert stream.response is stream.response
    assert seen[-1] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert [{"city": ""}] in seen  # a text that is not whole


def test_braces_in_the_words_before_a_code_fence_are_no_answer() -> None:
    text = bytearray(b'The place {here} is:\n```json\n{"city": "a ```"}\n```\nSee {there}.')
    seen: list[Any] = [None]
    for length in range(1, len(text) + 1):
        with contextlib.suppress(ValueError):
            value = partial_json(text[:length])
            if value != seen[-1]:
                seen.append(value)
    assert seen[:3] == [None, {}, {"city": ""}]
    assert seen[-1] == {"city": "a ```"}


@pytest.mark.anyio
async def test_text_of_a_typed_stream_can_be_read_and_its_error_comes_at_the_end(toy: Toy, anyio_backend: str) -> None:
    async with serve(Answers('{"city": 5}', '{"city": 5}')) as served, toy(served.url) as service:
        async with service.stream("Where?", answer_type=Place) as stream:
            assert "".join([text async for text in stream.text]) == '{"city": 5}'
            assert stream.answer == {"city": 5}
            with pytest.raises(InvalidAnswer) as caught:
                _ = stream.response
            assert stream.partial.text == '{"city": 5}'
        async with service.stream("Where?", answer_type=Place) as stream:
            with pytest.raises(InvalidAnswer):
                await stream.finish()
    assert caught.value.path == "$.city"


@pytest.mark.anyio
async def test_partial_answer_without_jiter_names_the_extra(
    toy: Toy, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(Answers(OSLO)) as served, toy(served.url) as service:
        async with service.stream("Where?", answer_type=Place) as stream:
            await stream.finish()
            _without(monkeypatch, "jiter")
            with pytest.raises(ConfigurationError, match=r"jiter.*trunkline\[answers\]"):
                _ = stream.answer


@pytest.mark.anyio
async def test_wrong_calls_are_refused_before_anything_is_sent(toy: Toy, anyio_backend: str) -> None:
    server = Answers()
    format_ = ResponseFormat(type="json")
    async with serve(server) as served, toy(served.url) as service:
        for call in (
            {"answer_type": Place, "response_format": format_},
            {"answer_type": Place, "answer_retries": -1},
            {"answer_type": Place, "answer_retries": True},
            {"answer_retries": 1},
            {"answer_type": Place | Area},
        ):
            with pytest.raises(InvalidRequest) as caught:
                await service.chat("Where?", **call)
            assert caught.value.service == "toy"
        with pytest.raises(InvalidRequest):
            service.stream(ChatRequest(messages="Where?", response_format=format_), answer_type=Place)
        wrong: Any = {"answer_typ": Place}
        with pytest.raises(TypeError, match="did you mean 'answer_type'"):
            await service.chat("Where?", **wrong)
        again: Any = {"answer_type": Place, "answer_retries": 1}
        with pytest.raises(TypeError, match="stream has no keyword 'answer_retries'"):
            service.stream("Where?", **again)
    assert server.seen == []


def test_stream_reads_its_text_once_however_often_it_is_asked() -> None:
    asked: AnswerType[object] = answer_type_of(Place)
    stream = TypedStream(typing.cast(Any, None), asked)
    stream._text += b'{"city": "Os'
    stream._read = 0
    first = stream.answer
    assert first == {"city": "Os"}
    assert stream.answer is first


@pytest.mark.parametrize(
    "definitions",
    [
        {"u0": {"anyOf": [{"$ref": "#/$defs/u0"}, {"$ref": "#/$defs/u1"}]}, "u1": {"oneOf": [{"$ref": "#/$defs/u0"}]}},
        {f"u{n}": {"anyOf": [{"$ref": f"#/$defs/u{n + 1}"}] * 2} for n in range(60)} | {"u60": {"type": "string"}},
    ],
    ids=["in a circle", "many times"],
)
def test_unions_that_refer_to_each_other_are_read_once(definitions: dict[str, Any]) -> None:
    union = {"$ref": "#/$defs/u0"}
    schema = {"type": "object", "properties": {"a": union, "b": union}, "$defs": definitions}
    assert without_nulls({"a": {"c": None}, "b": None}, schema) == {"a": {"c": None}}


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_partial_answer_has_no_number_that_json_lacks(number: str) -> None:
    with pytest.raises(ValueError, match=r"expected value|invalid number|too large"):
        partial_json(bytearray(f'{{"a": {number}, "b'.encode()))
