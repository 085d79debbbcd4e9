"""The JSON Schema (draft 2020-12) of a service's settings, as a form needs it.

A keyword such as `minimum` or `pattern` applies only to values of its own type. So one flat schema can accept a number,
the same number as text, and blank text, and its first type is the one to draw.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import attrs

from trunkline._json import JSONObject, JSONValue
from trunkline._setting_info import Alternative, SettingInfo
from trunkline._setting_types import BOOLEAN_WORDS, NO_KEY, REFERENCE_KINDS, is_mapping, takes_reference, without_none
from trunkline.secrets import Headers, Secret

Schema: TypeAlias = dict[str, Any]

_AROUND = r"\s\u00ad\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"
"""What `trimmed` removes around a value, as the content of a class of characters: white space, and what nobody sees."""

BLANK = f"[{_AROUND}]*"
"""The pattern of what surrounds a value and is ignored. A text of nothing else is not set."""

NOT_BLANK = f"[^{_AROUND}]"
"""The pattern of a text that is not blank."""

NOT_SET: tuple[JSONObject, ...] = (
    {"const": "", "title": "Not set"},
    {"title": "Blank", "$ref": "#/$defs/blank", "minLength": 1},
)
"""The entries of a list of choices for a setting that is not set: the one to draw, then other blank texts and null."""

PATH = r"^[^\u0000]+$"
"""The pattern of the path of a file."""


def any_case(word: str) -> str:
    """Return a pattern for a word in upper or lower case. JSON Schema has no flag for it."""
    return "".join(f"[{letter.upper()}{letter}]" if letter.isalpha() else letter.replace(".", "[.]") for letter in word)


# A quote is `\u0022` in these patterns, since JavaScript refuses the escape of a quote.
_HTTP = f"{any_case('http')}[Ss]?"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
# Operating systems read a name such as `127.1` as an address.
_NAME_END = rf"(?!(?:0[Xx][0-9A-Fa-f]*|[0-9]+)(?![A-Za-z0-9_-])){_LABEL}"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}(?![A-Za-z0-9_-])"
_QUOTES = r"'\u0022`\u00b4\u2018\u2019\u201a\u201c-\u201e\u00ab\u00bb\u2039\u203a\u300c\u300d"
_END = rf"(?:[/?#>,;){_QUOTES}{_AROUND}]|$)"
# What was pasted after a scheme, such as `https://https://host` and `https://htps/host.x`.
_SECOND_SCHEME = (
    rf"(?:{_HTTP}\.?:?{_END}|{_LABEL}\.?//"
    r"|(?:[HPSThpst]{3,7}|[Ww][Ss]{1,2})\.?:?/(?:localhost|[^/?#\s]*[.:]))"
)
_HOST = rf"(?!{_SECOND_SCHEME})(?:{_IPV4}|(?:{_LABEL}\.)*{_NAME_END})"
_GROUP = "[0-9A-Fa-f]{1,4}"
# `::` stands for at least one group. The last two groups may be an IPv4 address.
_SHORTENED = "|".join(rf"(?:{_GROUP}:){{1,{before}}}(?::{_GROUP}){{1,{7 - before}}}" for before in range(1, 7))
_IPV6 = (
    rf"\[(?:(?:{_GROUP}:){{7}}{_GROUP}|{_SHORTENED}|(?:{_GROUP}:){{1,7}}:|:(?:(?::{_GROUP}){{1,7}}|:)"
    rf"|(?:{_GROUP}:){{6}}{_IPV4}|(?:{_GROUP}(?::{_GROUP}){{0,2}})?::(?:{_GROUP}:){{0,2}}{_IPV4})\]"
)
_PORT = "0*(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})"
_LOGIN = r"(?:[A-Za-z0-9._~!$&'()*+,;=:%-]*@)?"
# No segment of a path is `.` or `..`, which some libraries remove. Full stops at the end do not belong to the path.
_DOTS = rf"(?:(?:\.|%2[Ee]){{1,2}}|(?:\.|%2[Ee])?%2[Ee][.!]*){_END}"
_REST = rf"(?![^?#\s]*/{_DOTS})(?:[/?#][!-~]*)?"
_WITH_DOT = rf"(?:{_IPV4}|(?:{_LABEL}\.)+{_NAME_END})\.?"
_BARE = rf"(?:{_WITH_DOT}|localhost|(?!{_HTTP}:){_HOST}:{_PORT}|{_IPV6}(?::{_PORT})?)(?!//)"
URL = (
    rf"^{BLANK}[<({_QUOTES}]*(?:{_HTTP}://{_LOGIN}(?:{_HOST}\.?|{_IPV6})(?::(?:{_PORT}|(?!//)))?"
    rf"|http\+unix://%2[Ff][A-Za-z0-9._~%-]+|(?:{_HTTP}:/?|//)?{_LOGIN}{_BARE}){_REST}[)]*[>,;{_QUOTES}]*{BLANK}$"
)
"""The pattern of a URL, with two slashes or fewer after its scheme, or without one, perhaps in quotes or parentheses.

`split_url` accepts more: what people paste in other forms.
"""

DEFINITIONS: JSONObject = {
    "blank": {"type": ["string", "null"], "pattern": f"^{BLANK}$"},
    "set": {"not": {"$ref": "#/$defs/blank"}},
    # Without a type, so that it accepts any text.
    "reference": {
        "properties": {name: {"type": "string", "pattern": NOT_BLANK} for name in REFERENCE_KINDS},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    },
    "url": {"$ref": "#/$defs/reference", "pattern": rf"^{BLANK}$|{URL}"},
}
"""What the schemas refer to as `#/$defs/…`: blank, set, a reference such as `{ env = "NAME" }`, and a URL."""

URL_TEXT: Schema = {"type": "string", "$ref": "#/$defs/url"}
"""The schema of a URL."""

_PROXY_SCHEME = rf"(?:{_HTTP}|{any_case('socks')}(?:5[Hh]?)?)"
PROXY = (
    rf"^(?:{_PROXY_SCHEME}://|(?!{_HTTP}:)){_LOGIN}(?!{_PROXY_SCHEME}\.?/?$)"
    rf"(?:{_HOST}\.?|{_IPV6})(?::(?!0+/?$){_PORT})?/?$"
)
"""The pattern of a proxy's URL."""


def property_schema(info: SettingInfo, *, required: bool) -> Schema:
    """Return the schema of one setting. It accepts blank text and null unless the setting is required."""
    schema: Schema = {"title": info.label, "description": info.description}
    schema |= _value_schema(info) if info.schema is None else info.schema
    if takes_reference(without_none(info.type)) and "string" in _types(schema):
        # Where a text is accepted, so is a reference to one.
        schema = {**schema, "type": [*_types(schema), "object"], "$ref": schema.get("$ref", "#/$defs/reference")}
    if without_none(info.type) is Secret and info.in_header:
        schema = {"not": {"type": "string", "pattern": f"^{BLANK}(?:{NO_KEY}){BLANK}$"}, **schema}
    if (info.choices is not None or "enum" in schema) and "oneOf" not in schema:
        schema = _with_choices(info, schema)
    schema = _trimmed(schema) if required else _optional(schema)
    if not required and isinstance(info.default, (str, int, float, bool)):
        schema["default"] = info.default
    if info.examples:
        schema["examples"] = list(info.examples)
    if info.secret:
        schema |= {"format": "password", "writeOnly": True}
    if info.group:
        schema["x-group"] = info.group
    if info.advanced:
        schema["x-advanced"] = True
    return schema


def _value_schema(info: SettingInfo) -> Schema:
    """Return the schema of a setting's values, by its type."""
    kind = without_none(info.type)
    optional = type(None) in get_args(info.type)
    if kind is Secret and info.in_header:
        return {"type": "string", "pattern": "^[!-~]+$"}
    if kind in (str, Secret):
        return {"type": "string"}
    if kind is bool:
        return {"type": ["boolean", "string"], "pattern": f"^(?:{'|'.join(map(any_case, BOOLEAN_WORDS))})$"}
    if kind in (int, float):
        return _number(info, whole=kind is int, none=optional)
    if get_origin(kind) is Literal:
        return {"enum": list(get_args(kind))}
    if kind is Headers:
        # Those that the HTTP library sets, and `Expect`, are refused.
        reserved = "|".join(map(any_case, ("content-length", "transfer-encoding", "trailer", "upgrade", "expect")))
        return {
            "type": ["object"],
            "propertyNames": {"pattern": rf"^(?!(?:{reserved})$)[!#$%&'*+.^_`|~0-9A-Za-z-]+$"},
            "additionalProperties": {
                "type": ["string", "object", "null"],
                "$ref": "#/$defs/reference",
                "pattern": rf"^{BLANK}(?:[!-~](?:[\t -~]*[!-~])?)?{BLANK}$",
            },
        }
    if is_mapping(kind):
        return {"type": ["object"], "additionalProperties": {"type": "string"}}
    if get_origin(kind) is tuple:
        # Text is a list of texts between commas.
        return {"type": ["array", "string"], "items": {"type": "string"}, "pattern": r"^(?!\[)"}
    return {}


def _number(info: SettingInfo, *, whole: bool, none: bool) -> Schema:
    schema: Schema = {"type": ["integer" if whole else "number", "string"]}
    least, most = info.minimum, info.maximum
    digits = _digits(0 if least is None else int(least), None if most is None else int(most))
    if whole:
        text = rf"\+?0*{digits}" if least is not None else r"[+-]?0*[0-9]{1,18}"
        schema["maximum"] = 10**18 - 1
    elif least is None:
        text = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
    elif least == 0:
        text = r"\+?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
    else:
        text = rf"\+?0*{digits}(?:\.[0-9]*)?"
    if least is not None:
        schema["minimum"] = least
    if most is not None:
        schema["maximum"] = most
        if not whole:
            text = rf"(?!\+?0*{most:g}\.0*[1-9]){text}"
    if none:
        text = f"{text}|{any_case('none')}"
        if least == 0:  # 0 does not turn a limit off
            schema["exclusiveMinimum"] = schema.pop("minimum")
            text = rf"(?!\+?[0.]*{BLANK}$)(?:{text})"
    schema["pattern"] = f"^(?:{text})$"
    return schema


def _digits(least: int, most: int | None) -> str:
    """Return the pattern of the whole numbers from `least` to `most`, of at most 18 digits, without zeros in front."""
    if least == 0:
        above = "(?:0|[1-9][0-9]{0,17})"
    else:
        text = str(least)
        same = [
            f"{text[:at]}[{int(digit) + 1}-9][0-9]{{{len(text) - at - 1}}}"
            for at, digit in enumerate(text)
            if digit != "9"
        ]
        above = f"(?:{'|'.join([text, *same, f'[1-9][0-9]{{{len(text)},17}}'])})"
    if most is None:
        return above
    text = str(most)
    below = [
        f"{text[:at]}[{0 if at else 1}-{int(digit) - 1}][0-9]{{{len(text) - at - 1}}}"
        for at, digit in enumerate(text)
        if int(digit) > (0 if at else 1)
    ]
    return f"(?={above}(?![0-9]))(?:{'|'.join([text, *below, f'[0-9]{{1,{len(text) - 1}}}'])})"


def _with_choices(info: SettingInfo, schema: Schema) -> Schema:
    """Return the schema with its enumeration, or any values, as a list of choices."""
    described = info.choices or {}
    values: Sequence[object] = schema.pop("enum", tuple(described))
    choices = [
        {"const": value, "title": text, "description": described.get(text, "")}
        for value in values
        for text in [value if isinstance(value, str) else str(value).lower()]
    ]
    found: list[Schema] = [{name: text for name, text in choice.items() if text != ""} for choice in choices]
    if takes_reference(without_none(info.type)):
        found.append({"title": "Kept elsewhere", "type": "object", "$ref": "#/$defs/reference"})
    return {**schema, "oneOf": found}


def _types(schema: Schema) -> list[str]:
    kind = schema.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


def _trimmed(schema: Schema, *, blank: bool = False) -> Schema:
    """Return the schema with a pattern that ignores what surrounds a text. With `blank`, it also accepts blank text."""
    pattern = schema.get("pattern")
    if pattern is None:
        return {**schema, "pattern": NOT_BLANK} if "string" in _types(schema) else schema
    if pattern.startswith("^") and pattern.endswith("$") and not pattern.startswith(f"^{BLANK}"):
        pattern = f"^{BLANK}(?:{pattern[1:-1]}){BLANK}$"
    elif pattern.startswith("^(?!"):
        pattern = f"^(?!{BLANK}{pattern[4:]}"
    return {**schema, "pattern": f"^{BLANK}$|{pattern}" if blank else pattern}


def _optional(schema: Schema) -> Schema:
    """Return the schema of an optional setting, which may also be blank."""
    if "oneOf" in schema:
        return {**schema, "oneOf": [*schema["oneOf"], *NOT_SET]}
    if "type" not in schema:
        if "anyOf" in schema:
            return {**schema, "anyOf": [*schema["anyOf"], {"$ref": "#/$defs/blank"}]}
        return schema
    kinds = _types(schema)
    if "string" not in kinds:
        schema = {**schema, "pattern": f"^{BLANK}$"}
    elif "pattern" in schema:
        schema = _trimmed(schema, blank=True)
    return {**schema, "type": list(dict.fromkeys([*kinds, "string", "null"]))}


def is_set(*names: str) -> JSONObject:
    """Return the schema of a table in which each of these settings is set: it is there and not blank."""
    return {"required": list(names), "properties": {name: {"$ref": "#/$defs/set"} for name in names}}


def requirements(infos: Sequence[SettingInfo]) -> list[JSONObject]:
    """Return a schema of the table for each setting that requires others."""
    found: list[JSONObject] = []
    for info in infos:
        if info.requires:
            others = list(info.requires)
            # Only if the setting is not blank, which `dependentRequired` alone does not ask.
            then = {"dependentRequired": {info.name: others}, "properties": is_set(*others)["properties"]}
            found.append({"if": is_set(info.name), "then": then})
    return found


def model_rules(elsewhere: JSONObject | None) -> list[JSONObject]:
    """Return a schema of the table of a service whose model may be in another setting than `default_model`."""
    return [] if elsewhere is None else [{"anyOf": [is_set("default_model"), elsewhere]}]


def choice(alternatives: Sequence[Alternative]) -> list[JSONObject]:
    """Return a schema of the table for each of the ways to set up a service, of which every table meets one.

    The first way that is set is the one that is used, so each excludes those before it.
    """
    found: list[JSONObject] = []
    before: list[JSONObject] = []
    for way in alternatives:
        needed = is_set(*way.required)
        branch: Schema = {"title": way.title, "description": way.description, "required": list(way.required)}
        branch["properties"] = {**dict.fromkeys(way.settings, True), **_properties(needed)}
        if before:
            branch["not"] = {"anyOf": list(before)}
        before.append(needed)
        found.append(branch)
    return found


def _properties(schema: JSONObject) -> Mapping[str, JSONValue]:
    properties = schema["properties"]
    assert isinstance(properties, Mapping)
    return properties


def fields_schema(
    cls: type[attrs.AttrsInstance],
    *,
    leave_out: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
    nothing: Sequence[object] = (None,),
) -> JSONObject:
    """Return the schema of a table with the fields of an attrs class, of which none is required.

    `more` holds the schemas of further names in the table. A list may be given as its only text, and `None` as any of
    the values in `nothing`. Metadata of a field, under `schema`, is added to its schema.
    """
    hints = get_type_hints(cls)
    return {
        "type": "object",
        "properties": {
            field.name: {**_field(hints[field.name], nothing), **field.metadata.get("schema", {})}
            for field in attrs.fields(cls)
            if field.name not in leave_out
        }
        | dict(more or {}),
        "additionalProperties": False,
    }


def _field(kind: object, nothing: Sequence[object] = (None,)) -> Schema:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_field(without_none(kind)), {"enum": list(nothing)}]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (tuple, frozenset):
        item = _field(arguments[0])
        if origin is tuple and arguments[-1] is not Ellipsis:
            return {"type": "array", "items": item, "minItems": len(arguments), "maxItems": len(arguments)}
        several: Schema = {"type": "array", "items": item}
        return {"anyOf": [several, item]} if _takes_text(arguments[0]) else several
    names: Mapping[object, str] = {str: "string", bool: "boolean", int: "integer"}
    return {"type": names[kind]} if kind in names else {}


def _takes_text(kind: object) -> bool:
    return kind is str or (get_origin(kind) is Literal and all(isinstance(value, str) for value in get_args(kind)))
