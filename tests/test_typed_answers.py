"""Typed answers with every provider: what is sent for a type, and that an answer to it is read as the same value.

The schema that each provider gets is held against the functions of the official SDKs that make schemas strict.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import enum
import importlib.util
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, get_args

import anthropic
import attrs
import jsonschema
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from mistralai.extra.utils._pydantic_helper import rec_strict_json_schema
from openai.lib._pydantic import _ensure_strict_json_schema, to_strict_json_schema
from recorded_provider import JSON_OBJECT
from recordings import PROVIDERS, SCOPES, chats, response_of
from trunkline import ChatRequest, ChatResponse, FinishReason, Text
from trunkline._config.sources import make_settings
from trunkline._plugins.registry import load_provider, open_steps
from trunkline.answers import AnswerType, answer_type_of
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.response_formats import accepts_null, resolved

_spec = importlib.util.spec_from_file_location("portability", Path(__file__).parents[1] / "docs" / "portability.py")
assert _spec is not None
assert _spec.loader is not None
portability = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(portability)

SERVICES = tuple(portability.SERVICES)
ENFORCES_ALL = ("openai (chat)", "openai (responses)", "openai-compatible", "azure-openai")
Value = tuple[Any, st.SearchStrategy[Any]]


@cache
def translator(service: str) -> tuple[Any, str | None]:
    """Return the translator of a service, and its model."""
    name, arguments = portability.SERVICES[service]
    provider = load_provider(name)
    made = make_settings(name, provider, arguments=arguments, environ={})
    pure = attrs.evolve(provider, transport=lambda context: None)
    return open_steps(pure, ServiceContext(name=name, provider=name, settings=made)).translator, made.default_model


def translated(service: str, asked: AnswerType[Any]) -> Translation:
    """Return the request that a service sends for a type."""
    made, model = translator(service)
    translation: Translation = made.translate(asked.request(ChatRequest(messages="Where?", model=model)), stream=True)
    return translation


def sent(service: str, asked: AnswerType[Any]) -> tuple[Any, bool, list[str]]:
    """Return the schema that a service sends for a type, whether it is enforced, and the kinds of the warnings."""
    translation = translated(service, asked)
    body = json.loads(translation.wire_request.body)
    kinds = [warning.kind for warning in translation.warnings if warning.subject == "response_format"]
    if "emulated" in kinds:
        return asked.format.schema, False, kinds
    if "response_format" in body:
        form = body["response_format"]
        schema = form["json_schema"]
        return (schema["schema"], schema["strict"], kinds) if "schema" in schema else (schema, True, kinds)
    if "text" in body:
        return body["text"]["format"]["schema"], body["text"]["format"]["strict"], kinds
    if "output_config" in body:
        return body["output_config"]["format"]["schema"], True, kinds
    if "outputConfig" in body:
        text = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]
        return json.loads(text), True, kinds
    if "format" in body:
        return body["format"], True, kinds
    return body["generationConfig"]["responseJsonSchema"], True, kinds


def with_nulls(value: Any, schema: Any, root: Any) -> Any:
    """Return a value with `null` for each property that the schema requires, and without those that may not be it."""
    schema = resolved(schema, root) if isinstance(schema, dict) else {}
    for one in schema.get("anyOf", ()):
        made = with_nulls(value, one, root)
        if jsonschema.Draft202012Validator({**one, "$defs": root.get("$defs", {})}).is_valid(made):
            return made
    if isinstance(value, list):
        places = schema.get("prefixItems", ())
        rest = schema.get("items", {})
        return [
            with_nulls(item, places[index] if index < len(places) else rest, root) for index, item in enumerate(value)
        ]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    rest = schema.get("additionalProperties")
    needed = schema.get("required", ())
    made = {
        name: with_nulls(item, properties.get(name, rest), root)
        for name, item in value.items()
        if item is not None or name in needed or name not in properties or accepts_null(properties[name], root)
    }
    missing = [name for name in needed if name not in made and accepts_null(properties[name], root)]
    return {**made, **dict.fromkeys(missing)}


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
PLAIN: list[Value] = [
    (str, TEXTS),
    (int, st.integers(-(2**53), 2**53)),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
    (Literal[1, 2], st.sampled_from([1, 2])),
    (Colour, st.sampled_from(Colour)),
    (datetime.date, st.dates()),
    (Annotated[int, msgspec.Meta(ge=1, le=9)], st.integers(1, 9)),
    (Annotated[str, msgspec.Meta(min_length=1, description="Some words.")], TEXTS.filter(bool)),
]
NAMES = ["alpha", "beta", "gamma", "type", "title", "default"]


def optional(value: Value) -> Value:
    return value[0] | None, st.none() | value[1]


def listed(value: Value) -> Value:
    return list[value[0]], st.lists(value[1], max_size=3)  # type: ignore[index]


def mapped(value: Value) -> Value:
    return dict[str, value[0]], st.dictionaries(TEXTS, value[1], max_size=2)  # type: ignore[index]


def paired(values: tuple[Value, Value]) -> Value:
    (one, ones), (two, twos) = values
    return tuple[one, two], st.tuples(ones, twos)  # type: ignore[valid-type]


def classed(fields: list[tuple[Value, bool]], kind: str) -> Value:
    """A class with these fields; those with a mark may be left out."""
    named = dict(zip(NAMES, fields, strict=False))
    if kind == "typed dict":
        # A `null` may also stand for a key that is left out, so the two cannot be told apart.
        named = {name: (value, may and type(None) not in get_args(value[0])) for name, (value, may) in named.items()}
    values = {name: value[1] for name, (value, _) in named.items()}
    if kind == "typed dict":
        hints = {name: NotRequired[value[0]] if may else value[0] for name, (value, may) in named.items()}
        made: Any = TypedDict("Made", hints)  # type: ignore[operator]
        optional_values = {name: values.pop(name) for name, (_, may) in named.items() if may}
        return made, st.fixed_dictionaries(values, optional=optional_values)
    defaults = {name for name, (_, may) in named.items() if may}
    hints = {name: value[0] | None if name in defaults else value[0] for name, (value, _) in named.items()}
    order = sorted(hints, key=lambda name: name in defaults)
    if kind == "dataclass":
        made = dataclasses.make_dataclass(
            "Made",
            [
                (name, hints[name], dataclasses.field(default=None)) if name in defaults else (name, hints[name])
                for name in order
            ],
        )
    else:
        made = attrs.make_class(
            "Made",
            {
                name: attrs.field(type=hints[name], default=None if name in defaults else attrs.NOTHING)
                for name in order
            },
        )
    return made, st.builds(made, **{name: st.none() | one if name in defaults else one for name, one in values.items()})


@st.composite
def types(draw: Callable[[Any], Any], depth: int = 3) -> Value:
    """Draw a type, and a strategy for its values."""
    kinds = ["plain"] if depth == 0 else ["plain", "class", "class", "class", "list", "map", "pair", "optional"]
    kind = draw(st.sampled_from(kinds))
    inner = types(depth - 1)
    if kind == "plain":
        return draw(st.sampled_from(PLAIN))  # type: ignore[no-any-return]
    if kind == "list":
        return listed(draw(inner))
    if kind == "map":
        return mapped(draw(inner))
    if kind == "pair":
        return paired(draw(st.tuples(inner, inner)))
    if kind == "optional":
        return optional(draw(inner))
    fields = draw(st.lists(st.tuples(inner, st.booleans()), min_size=1, max_size=4))
    return classed(fields, draw(st.sampled_from(["dataclass", "attrs", "typed dict"])))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_answer_under_the_schema_that_was_sent_is_the_same_value(data: st.DataObject) -> None:
    type_, values = data.draw(types())
    try:
        asked = answer_type_of(type_)
    except Exception:
        assume(False)
        raise
    value = data.draw(values)
    plain = json.loads(msgspec.json.encode(value))
    if isinstance(plain, dict) and not isinstance(value, dict):
        # As a model may leave out what has a default.
        plain = {name: item for name, item in plain.items() if item is not None or data.draw(st.booleans())}
        needed = asked.format.schema["required"] if asked.format.schema else ()
        assume(all(name in plain for name in needed))  # type: ignore[union-attr]
    whole = {"answer": plain} if asked.wrapped else plain
    for service in SERVICES:
        schema, enforced, kinds = sent(service, asked)
        answer = with_nulls(whole, schema, schema) if enforced else whole
        jsonschema.Draft202012Validator(schema).validate(answer)
        response = ChatResponse(parts=(Text(text=json.dumps(answer)),), finish_reason=FinishReason.STOP)
        assert asked.read(response).answer == value, service
        assert enforced or set(kinds) & {"changed", "emulated"}, service


@attrs.define
class Deep:
    name: str
    size: int = 0
    parts: list[Deep] = attrs.Factory(list)


@attrs.define
class Counted:
    counts: dict[str, int]


@attrs.define
class Pair:
    both: tuple[int, str]


@attrs.define
class Given:
    name: str
    size: int = 5
    colour: Colour | None = None


def enforced_by(type_: object) -> set[str]:
    return {service for service in SERVICES if sent(service, answer_type_of(type_))[1]}


GRAMMARS = {"mistral", "llamacpp", "ollama", "gemini", "vertex"}


@pytest.mark.parametrize(
    ("type_", "services"),
    [
        (Given, set(SERVICES)),
        (Deep, set(SERVICES) - {"anthropic", "bedrock"}),
        (Counted, GRAMMARS),
        (Pair, GRAMMARS),
        (Any, GRAMMARS | {"bedrock"}),
        (list[Given], set(SERVICES)),
    ],
)
def test_what_cannot_be_enforced_is_sent_otherwise(type_: object, services: set[str]) -> None:
    found = enforced_by(type_)
    assert found - {"cohere"} == services - {"cohere"}


@pytest.mark.parametrize("service", ENFORCES_ALL)
def test_optional_fields_are_required_and_may_be_null(service: str) -> None:
    schema, enforced, kinds = sent(service, answer_type_of(Given))
    assert enforced
    assert schema["required"] == ["name", "size", "colour"]
    assert schema["properties"]["size"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert schema["additionalProperties"] is False
    assert kinds == ["changed"]


@pytest.mark.parametrize("service", SERVICES)
def test_model_reads_the_schema_in_the_prompt_if_it_is_not_enforced(service: str) -> None:
    asked = answer_type_of(Counted)
    body = translated(service, asked).wire_request.body.decode()
    if "emulated" in sent(service, asked)[2]:
        assert '\\"counts\\"' in body
        assert "Answer with one JSON value" in body


# The official SDKs


class Inner(pydantic.BaseModel):
    """Something inside."""

    number: int
    words: list[str]


class Full(pydantic.BaseModel):
    """All that is required."""

    name: str = pydantic.Field(description="Its name.")
    first: Inner
    others: list[Inner]
    either: int | str | None
    which: Literal["a", "b"]
    colour: Colour
    day: datetime.date


class Optionals(pydantic.BaseModel):
    name: str = "x"
    inner: Inner | None = None
    short: str = pydantic.Field(default="a", max_length=5)
    small: int = pydantic.Field(default=1, ge=0, le=9)
    many: list[Inner] = pydantic.Field(default=[], max_length=3)


def without_titles(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: without_titles(item) for key, item in schema.items() if key != "title" or isinstance(item, dict)}
    return list(map(without_titles, schema)) if isinstance(schema, list) else schema


@pytest.mark.parametrize("service", ENFORCES_ALL)
def test_schema_is_the_one_that_the_openai_sdk_sends(service: str) -> None:
    theirs = without_titles(to_strict_json_schema(Full))
    assert theirs.pop("description") == "All that is required."
    assert sent(service, answer_type_of(Full))[0] == theirs


TYPES = (Full, Optionals, Given, Deep, list[Full], Full | Inner, Colour, Given | None)


@pytest.mark.parametrize("type_", TYPES, ids=str)
@pytest.mark.parametrize("service", ENFORCES_ALL)
def test_openai_sdk_finds_nothing_to_change(service: str, type_: object) -> None:
    schema, enforced, _ = sent(service, answer_type_of(type_))
    assert enforced
    assert _ensure_strict_json_schema(copy.deepcopy(schema), path=(), root=copy.deepcopy(schema)) == schema


@pytest.mark.parametrize("type_", [type_ for type_ in TYPES if type_ is not Deep], ids=str)
def test_anthropic_sdk_finds_nothing_to_change(type_: object) -> None:
    schema, enforced, _ = sent("anthropic", answer_type_of(type_))
    assert enforced

    def without_types(value: Any) -> Any:
        """The SDK leaves out the type beside constants."""
        if isinstance(value, dict):
            constant = "enum" in value or "const" in value
            return {key: without_types(item) for key, item in value.items() if key != "type" or not constant}
        return list(map(without_types, value)) if isinstance(value, list) else value

    # The SDK appends what it refuses to descriptions, so a default makes a difference.
    plain = without_types(schema)
    if type_ in (Full, list[Full], Colour):
        assert without_types(anthropic.transform_schema(copy.deepcopy(schema))) == plain
    accepted = anthropic.transform_schema(copy.deepcopy(schema))
    refused = [word for word in ("minimum:", "maxItems:", "maxLength:", "{") if word in json.dumps(accepted)[1:]]
    assert "{minimum" not in json.dumps(accepted)
    assert refused


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_mistral_sdk_finds_nothing_to_change(type_: object) -> None:
    schema, enforced, _ = sent("mistral", answer_type_of(type_))
    assert enforced
    assert rec_strict_json_schema(copy.deepcopy(schema)) == schema


# Recordings


@pytest.mark.parametrize("file", PROVIDERS)
def test_recorded_answers_to_schemas_are_read(file: str) -> None:
    read = 0
    for exchange in chats(file):
        if "json-schema" in exchange.tags and exchange.is_success and exchange.scope in SCOPES:
            response = response_of(exchange)
            if response.text and not response.tool_calls:
                assert isinstance(JSON_OBJECT.read(response).answer, dict), exchange.id
                read += 1
    assert read or file in ("groq", "deepseek", "other")
