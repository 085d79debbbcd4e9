"""Change a JSON Schema so that Gemini accepts it in `parametersJsonSchema` and `responseJsonSchema`. Pure.

The rules are from the description of `responseJsonSchema` in the reference of Gemini's API, November 2026. Next to a
`$ref`, only keywords that begin with `$` are allowed. `$defs` is supported. `definitions` is not supported, so a
reference to a definition there has no target (agent-infra/sandbox#83). `const` is not supported, but `enum` is, for
strings and numbers.
"""

from __future__ import annotations

from collections.abc import Collection

from trunkline.authoring.json import JSONObject, JSONValue
from trunkline.authoring.schemas import with_subschemas, without_keywords
from trunkline.authoring.warnings import Warnings

_SILENT = ("$schema",)
"""Keywords that do not matter to a model. They are removed without a warning."""

_OLD_REFERENCE, _REFERENCE = "#/definitions/", "#/$defs/"


def gemini_schema(schema: JSONObject, refused: Collection[str], subject: str, warnings: Warnings) -> JSONObject:
    """Return the schema in a form that Gemini accepts. A refused keyword is moved to the description of its schema.

    `subject` is the subject of the warning. A schema that needs no change is returned unchanged.
    """
    kept, moved = without_keywords(_changed(schema), lambda keyword, value: keyword in refused)
    if moved:
        names = ", ".join(moved)
        why = f"Gemini does not support {names} in schemas; moved to the description"
        warnings.add("changed", subject, why, lossy=False)
    return kept


def _changed(schema: JSONObject) -> JSONObject:
    result: dict[str, JSONValue] = {}
    inner = with_subschemas(schema, lambda one: _changed(one) if isinstance(one, dict) else one)
    for keyword, value in inner.items():
        if keyword in _SILENT:
            continue
        if keyword == "const" and "enum" not in schema and type(value) in (str, int, float):
            result["enum"] = [value]
            if "type" not in schema:
                result["type"] = "string" if isinstance(value, str) else "number"
        elif keyword == "definitions" and isinstance(value, dict) and "$defs" not in schema:
            result["$defs"] = value
        elif keyword == "$ref" and isinstance(value, str) and value.startswith(_OLD_REFERENCE):
            result[keyword] = _REFERENCE + value.removeprefix(_OLD_REFERENCE)
        elif keyword == "allOf" and isinstance(value, (list, tuple)) and len(value) == 1 and "anyOf" not in schema:
            result["anyOf"] = value
        else:
            result[keyword] = value
    reference = result.get("$ref")
    if reference is not None and any(not name.startswith("$") for name in result) and "anyOf" not in result:
        del result["$ref"]
        result["anyOf"] = [{"$ref": reference}]
    return schema if result == schema else result
