"""The part of JSON Schema that the API accepts for strict tools and structured output."""

from __future__ import annotations

from trunkline.authoring.response_formats import SchemaSubset

# platform.claude.com, build-with-claude/structured-outputs, and anthropic 2.12 (`transform_schema`), November 2026: no
# bounds on numbers, lengths and sizes, `minItems` only as 0 or 1, no recursion, and closed objects.
SUBSET = SchemaSubset(
    moved=frozenset(
        {
            *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
            *("minLength", "maxLength", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
            *("patternProperties", "propertyNames"),
        }
    ),
    formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}),
    least_items=frozenset({0, 1}),
    patterns="plain",
    recursion=False,
    untyped=False,
)
"""What the API enforces in the schema of a strict tool or of an answer."""
