"""The part of JSON Schema that Bedrock accepts for strict tools and structured output."""

from __future__ import annotations

from trunkline.authoring.response_formats import SchemaSubset

# pydantic-ai 2.68.0, `providers/bedrock.py`, verified by its authors with live requests from May to October 2026. AWS's
# page on structured outputs lists fewer keywords, and recursion. It also lists the string lengths, which Bedrock
# accepts.
SUBSET = SchemaSubset(
    moved=frozenset(
        {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "maxItems", "contains"}
    ),
    least_items=frozenset({0, 1}),
    patterns="plain",
    recursion=False,
)
"""What Bedrock enforces in the schema of a strict tool or of an answer."""
