"""The part of JSON Schema that the API accepts for strict tools and structured output."""

from __future__ import annotations

import attrs
from trunkline.authoring.json import JSONObject, JSONValue
from trunkline.authoring.response_formats import EnforceableSchema, SchemaSubset, enforceable
from trunkline.authoring.schemas import with_subschemas

# platform.claude.com, build-with-claude/structured-outputs, and anthropic 2.12 (`transform_schema`), November 2026: no
# bounds on numbers, lengths and sizes, `minItems` only as 0 or 1, no recursion, and closed objects.
SUBSET = SchemaSubset(
    accepted=frozenset(
        {
            *("type", "title", "description", "default", "enum", "const", "$ref", "$defs", "definitions"),
            *("anyOf", "allOf", "properties", "required", "additionalProperties", "items", "minItems"),
            *("format", "pattern"),
        }
    ),
    removed=frozenset({"discriminator", "$schema", "$id", "$comment"}),
    formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}),
    least_items=frozenset({0, 1}),
    patterns="plain",
    recursion=False,
    untyped=False,
)
"""What the API enforces in the schema of a strict tool or of an answer."""


@attrs.define
class StrictSchemas:
    """Makes the strict schemas of one request, within the API's limits on all of them together.

    "Explicit limits" in platform.claude.com, build-with-claude/structured-outputs, November 2026. Beyond them, the API
    refuses the whole request: "Schemas contains too many optional parameters (25), which would make grammar compilation
    inefficient […] (limit: 24)". Whether a schema within them compiles, only the API knows.
    """

    tools: int = 20
    optional: int = 24
    unions: int = 16

    def enforceable(self, schema: JSONObject, *, tool: bool) -> EnforceableSchema:
        """Return the schema in `SUBSET`, with an obstacle if it cannot be enforced beside those before it."""
        enforced = enforceable(schema, SUBSET)
        if enforced.obstacle is not None:
            return enforced
        optional, unions = _counts(enforced.schema)
        for left, needed, words in (
            (self.tools, int(tool), "20 strict tools"),
            (self.optional, optional, "24 optional properties in all strict schemas together"),
            (self.unions, unions, "16 unions (such as a type or null) in all strict schemas together"),
        ):
            if needed > left:
                return attrs.evolve(enforced, obstacle=f"a request can have at most {words}")
        self.tools -= tool
        self.optional -= optional
        self.unions -= unions
        return enforced


def _counts(schema: JSONObject) -> tuple[int, int]:
    """Return how many optional properties and how many unions a schema has."""
    properties, required = schema.get("properties"), schema.get("required")
    needed = required if isinstance(required, (list, tuple)) else ()
    optional = sum(name not in needed for name in properties) if isinstance(properties, dict) else 0
    unions = int("anyOf" in schema or isinstance(schema.get("type"), (list, tuple)))

    def inner(value: JSONValue) -> JSONValue:
        nonlocal optional, unions
        if isinstance(value, dict):
            more = _counts(value)
            optional, unions = optional + more[0], unions + more[1]
        return value

    with_subschemas(schema, inner)
    return optional, unions
