"""Send a `ResponseFormat` to a provider: its schema in the subset that the provider enforces, or a prompt. Pure.

Each provider that enforces schemas accepts another part of JSON Schema. A plugin describes its provider's part in a
`SchemaSubset`, and `enforceable` changes a schema accordingly. `trunkline.answers` reverses the changes when it reads
the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import attrs

from trunkline._base_errors import InvalidRequest
from trunkline._json import JSONObject, JSONValue, json_text
from trunkline.authoring.schemas import current_schema, object_schema, with_subschemas, without_keywords
from trunkline.authoring.warnings import Warnings
from trunkline.messages import Message, Text, system
from trunkline.request import ResponseFormat

_NULL: JSONObject = {"type": "null"}
_UNIONS = ("anyOf", "oneOf")
_RESTRICTING = frozenset(
    {
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "format", "pattern", "not"),
        *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains"),
        *("patternProperties", "propertyNames", "minProperties", "maxProperties", "additionalProperties"),
        *("unevaluatedProperties", "unevaluatedItems", "dependentRequired", "dependentSchemas", "if", "then", "else"),
        *("prefixItems", "items", "additionalItems", "allOf", "oneOf", "dependencies"),
    }
)
"""The keywords that restrict a value. All others, such as `examples`, only describe it."""
_TYPED = ("type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const")
_LOOKAROUND = re.compile(r"\(\?(?:=|!|<=|<!|P=)|\\[0-9]")
# The whole pattern must be anchored, and a grammar cannot express `\d`, `\w`, look-around and similar syntax.
_IN_GRAMMAR = re.compile(r"\^(?:[^\\(]|\\[^a-zA-Z0-9]|\((?!\?))*\$")


@attrs.frozen(kw_only=True)
class SchemaSubset:
    """The part of JSON Schema that a provider enforces.

    Keywords:

    - `moved`: keywords that the provider refuses. Each moves into the description of its schema, where the model reads
      it.
    - `accepted`: the only keywords that the provider accepts; all others move into the description. `None` is any.
    - `removed`: keywords that the provider refuses and that do not restrict the answer, such as `default`.
    - `formats`: the values of `format` that it accepts; others move into the description. `None` is any.
    - `least_items`: the values of `minItems` that it accepts; others move into the description. `None` is any.
    - `patterns`: the regular expressions that it accepts: `any`, those without look-around and references to groups
      (`plain`), or those that llama.cpp can turn into a `grammar`; others move into the description.

    Form:

    - `closed`: every object must have `additionalProperties: false`.
    - `all_required`: every property must be required. An optional one is sent as a required one that may be `null`.
    - `some_required`: every object must have a required property.
    - `bare_references`: nothing may stand beside `$ref`; it moves into an `anyOf`.

    What the provider cannot enforce at all:

    - `maps`: objects with any names (`dict[str, int]`)
    - `tuples`: arrays with `prefixItems`
    - `recursion`: schemas that refer to themselves
    - `unions`: unions of types. Without them, an optional property that may be `null` may not be `null` any more.
    - `intersections`: schemas with `allOf`
    - `untyped`: schemas without a type (`typing.Any`)

    `oneOf` becomes `anyOf`.
    """

    moved: frozenset[str] = frozenset()
    accepted: frozenset[str] | None = None
    removed: frozenset[str] = frozenset({"discriminator"})
    formats: frozenset[str] | None = None
    least_items: frozenset[int] | None = None
    patterns: Literal["any", "plain", "grammar"] = "any"
    closed: bool = True
    all_required: bool = False
    some_required: bool = False
    bare_references: bool = False
    maps: bool = False
    tuples: bool = False
    recursion: bool = True
    unions: bool = True
    intersections: bool = True
    untyped: bool = True

    def refuses(self, keyword: str, value: JSONValue) -> bool:
        """Return whether a keyword has to move into the description."""
        if self.accepted is not None and keyword not in self.accepted:
            return True
        if keyword == "format" and self.formats is not None:
            return value not in self.formats
        if keyword == "minItems" and self.least_items is not None:
            return value not in self.least_items
        if keyword == "pattern" and isinstance(value, str) and keyword not in self.moved:
            if self.patterns == "grammar":
                return _IN_GRAMMAR.fullmatch(value) is None
            return self.patterns == "plain" and _LOOKAROUND.search(value) is not None
        return keyword in self.moved


@attrs.frozen(kw_only=True)
class EnforceableSchema:
    """A schema in a provider's subset.

    `moved` names the keywords that moved into descriptions, `nullable` the optional properties that became required and
    may be `null`. `obstacle` says in words why the provider cannot enforce the schema, or is `None`; `schema` is then
    not in the subset.
    """

    schema: JSONObject
    moved: tuple[str, ...] = ()
    nullable: tuple[str, ...] = ()
    obstacle: str | None = None


def enforceable(schema: JSONObject, subset: SchemaSubset) -> EnforceableSchema:
    """Return the schema in a provider's subset. Its root is that of `answer_schema`.

    Raises `InvalidRequest` for a schema that is nested too deeply.
    """
    try:
        given = answer_schema(schema)
        change = _Change(given, subset)
        closed = change.close(given)
        result, moved = without_keywords(closed, subset.refuses)
        obstacle = change.obstacle or _recursion(result, subset)
    except RecursionError:
        raise InvalidRequest("the schema is nested too deeply") from None
    return EnforceableSchema(
        schema=result,
        moved=tuple(dict.fromkeys((*moved, *change.narrowed))),
        nullable=tuple(change.nullable),
        obstacle=obstacle,
    )


_MAP = "it has an object with any names (additionalProperties)"


def answer_schema(schema: JSONObject) -> JSONObject:
    """Return the schema of an answer with `type: object` and no union or reference at its root, if it is an object."""
    composed = any(keyword in schema for keyword in (*_UNIONS, "allOf", "$ref"))
    # With `properties`, an object with any names would become one without any.
    return object_schema(schema) if composed or "properties" in schema else current_schema(schema)


class _Change:
    def __init__(self, root: JSONObject, subset: SchemaSubset) -> None:
        self._root = root
        self._subset = subset
        self.nullable: dict[str, None] = {}
        self.narrowed: dict[str, None] = {}
        self.obstacle: str | None = None

    def close(self, schema: JSONObject) -> JSONObject:
        subset = self._subset
        if not subset.untyped:
            schema = with_constant_types(schema)
        changed: dict[str, JSONValue] = {
            ("anyOf" if keyword == "oneOf" and "anyOf" not in schema else keyword): value
            for keyword, value in schema.items()
            if keyword not in subset.removed
        }
        if is_object(schema):
            self._close_object(schema, changed)
        if "prefixItems" in schema and not subset.tuples:
            self.obstacle = self.obstacle or "it has a tuple (prefixItems)"
        if "prefixItems" in schema and changed.get("items") == {}:
            # Without it, the schema means the same; with it, llama.cpp would ignore `prefixItems`.
            del changed["items"]
        if not subset.unions and any(name in schema for name in _UNIONS):
            self.obstacle = self.obstacle or "it has a union"
        if not subset.intersections and "allOf" in schema:
            self.obstacle = self.obstacle or "it has an intersection (allOf)"
        if not subset.untyped and not any(name in schema for name in _TYPED):
            self.obstacle = self.obstacle or "a part of it has no type"
        if subset.bare_references and "$ref" in changed and len(changed) > 1 and "anyOf" not in changed:
            changed["anyOf"] = [{"$ref": changed.pop("$ref")}]
        return with_subschemas(changed, self._inner)

    def _inner(self, value: JSONValue) -> JSONValue:
        if isinstance(value, dict):
            return self.close(value)
        if value is True and not self._subset.untyped:
            self.obstacle = self.obstacle or "a part of it has no type"
        return value

    def _close_object(self, schema: JSONObject, changed: dict[str, JSONValue]) -> None:
        subset, properties = self._subset, schema.get("properties")
        others = schema.get("additionalProperties", None if isinstance(properties, dict) else True)
        if others not in (None, False) and not isinstance(properties, dict):
            if not subset.maps:
                self.obstacle = self.obstacle or _MAP
            return
        if others not in (None, False):
            self.narrowed["additionalProperties"] = None
        if subset.closed or others is not None:
            changed["additionalProperties"] = False
        if not isinstance(properties, dict):
            return
        given = schema.get("required")
        required = [name for name in given if isinstance(name, str)] if isinstance(given, (list, tuple)) else []
        if subset.some_required and not any(name in properties for name in required):
            self.obstacle = self.obstacle or "it has an object without a required property"
        if not subset.unions:
            changed["properties"] = {
                name: one if name in required else _not_null(one) for name, one in properties.items()
            }
        if subset.all_required:
            changed["required"] = list(properties)
            changed["properties"] = {
                name: one if name in required else self._nullable(name, one) for name, one in properties.items()
            }

    def _nullable(self, name: str, schema: JSONValue) -> JSONValue:
        if not isinstance(schema, dict) or accepts_null(schema, self._root):
            return schema
        self.nullable[name] = None
        for keyword in _UNIONS:
            union = schema.get(keyword)
            if isinstance(union, (list, tuple)):
                return {**schema, keyword: [*union, _NULL]}
        outside = {keyword: schema[keyword] for keyword in ("description", "title") if keyword in schema}
        inside = {keyword: value for keyword, value in schema.items() if keyword not in outside}
        return {**outside, "anyOf": [inside, _NULL]}


_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def with_constant_types(schema: JSONObject) -> JSONObject:
    """Return a schema whose constants have a type, as OpenAI demands: "schema must have a 'type' key".

    Constants of several types become a union. Schemas inside this one stay as they are.
    """
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if not isinstance(values, (list, tuple)) or any(keyword in schema for keyword in ("type", "$ref", *_UNIONS)):
        return schema
    kinds: dict[str | None, list[JSONValue]] = {}
    for value in values:
        kinds.setdefault(_JSON_TYPES.get(type(value)), []).append(value)
    if None in kinds or not kinds:
        return schema
    if len(kinds) == 1:
        return {"type": next(iter(kinds)), **schema}
    outside = {keyword: value for keyword, value in schema.items() if keyword not in ("enum", "const")}
    union = [_NULL if kind == "null" else {"type": kind, "enum": one} for kind, one in kinds.items()]
    return {**outside, "anyOf": union}


def is_object(schema: JSONObject) -> bool:
    """Return whether a schema describes an object, among other types or alone."""
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, (list, tuple)) and "object" in kind) or "properties" in schema


def _not_null(schema: JSONValue) -> JSONValue:
    """Return the schema of an optional property without `null`, if it is a union of one type and `null`."""
    union = schema.get("anyOf") if isinstance(schema, dict) else None
    if not isinstance(schema, dict) or not isinstance(union, (list, tuple)):
        return schema
    others = [one for one in union if one != _NULL]
    if len(others) != 1 or not isinstance(others[0], dict):
        return schema
    return {**{keyword: value for keyword, value in schema.items() if keyword != "anyOf"}, **others[0]}


def resolved(schema: JSONObject, root: JSONObject) -> JSONObject:
    """Return the definition that a schema refers to within its document, or the schema itself."""
    for _ in range(_LINKS):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return schema
        found: JSONValue = root
        for step in reference[2:].split("/") if len(reference) > 1 else ():
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            return schema
        schema = found
    return schema


_LINKS = 32
"""How many references are followed, so that references in a circle end."""


def accepts_null(schema: JSONObject, root: JSONObject) -> bool:
    """Return whether `null` fits a schema, as far as its type, its values and its unions say so."""
    waiting, seen = [schema], set[int]()
    while waiting:
        one = resolved(waiting.pop(), root)
        if id(one) in seen:  # unions may refer to each other, in a circle or many times
            continue
        seen.add(id(one))
        kind = one.get("type")
        if kind is not None and kind != "null" and not (isinstance(kind, (list, tuple)) and "null" in kind):
            continue
        values = one.get("enum")
        unions = [union for keyword in _UNIONS if isinstance(union := one.get(keyword), (list, tuple))]
        if unions:
            if any(alternative is True for alternative in unions[0]):
                return True
            waiting += (alternative for alternative in unions[0] if isinstance(alternative, dict))
        elif None in values if isinstance(values, (list, tuple)) else one.get("const") is None:
            return True
    return False


def _recursion(schema: JSONObject, subset: SchemaSubset) -> str | None:
    if subset.recursion:
        return None
    definitions = schema.get("$defs", schema.get("definitions"))
    if not isinstance(definitions, dict):
        return None
    links = {name: _references(one) for name, one in definitions.items()}
    for name in links:
        reached, waiting = set[str](), [name]
        while waiting:
            new = links.get(waiting.pop(), set()) - reached
            reached |= new
            waiting += new
        if name in reached:
            return f"its definition {name!r} refers to itself"
    return None


def _references(schema: JSONValue) -> set[str]:
    """Return the names of the definitions that a schema refers to."""
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        own = {reference.rpartition("/")[2]} if isinstance(reference, str) else set[str]()
        return own.union(*map(_references, schema.values()))
    return set[str]().union(*map(_references, schema)) if isinstance(schema, (list, tuple)) else set()


def add_schema_warnings(enforced: EnforceableSchema, subject: str, warnings: Warnings) -> None:
    """Add the warnings about a schema that is sent in a provider's subset."""
    if enforced.moved:
        why = f"strict schemas cannot have {', '.join(enforced.moved)}; moved to descriptions where possible"
        warnings.add("changed", subject, why, lossy=not _RESTRICTING.isdisjoint(enforced.moved))
    if enforced.nullable:
        names = ", ".join(enforced.nullable)
        why = f"the provider requires every property; these are optional and may be null in the answer: {names}"
        warnings.add("changed", subject, why, lossy=False)


def json_instructions(form: ResponseFormat) -> str:
    """Return the words that ask a model for JSON, with the schema if there is one."""
    text = "Answer with one JSON value and nothing else: no words before or after it, no code fence."
    if form.schema is None:
        return text
    about = f" {form.description}" if form.description else ""
    return f"{text} It follows this JSON Schema: {json_text(current_schema(form.schema))}{about}"


def with_json_instructions(messages: Sequence[Message], form: ResponseFormat) -> tuple[Message, ...]:
    """Return the conversation with `json_instructions` at the end of its first system message, or in a new one."""
    text = json_instructions(form)
    first = messages[0]
    if first.role != "system":
        return (system(text), *messages)
    return (attrs.evolve(first, parts=(*first.parts, Text(text=f"\n\n{text}"))), *messages[1:])


def add_prompt_warning(why: str, warnings: Warnings) -> None:
    """Add the warning that the prompt asks for JSON, because of `why` the provider is not asked to enforce it."""
    warnings.add("emulated", "response_format", f"{why}; the system prompt asks for JSON instead", lossy=True)
