"""Reads the fields of requests of OpenAI's APIs, with errors in OpenAI's words. A place is named `messages[0].role`."""

from __future__ import annotations

from collections.abc import Iterable

from trunkline_gateway.problems import GatewayError, invalid
from trunkline_gateway.wires.fields import FieldReader, shown, type_name


def wrong_type(at: str, expected: str, value: object) -> GatewayError:
    """Make the error for a value of another type than expected."""
    return invalid(
        f"Invalid type for '{at}': expected {expected}, but got {type_name(value)} instead.",
        param=at,
        code="invalid_type",
    )


def out_of_range(at: str, expected: str, code: str) -> GatewayError:
    """Make the error for a number that is too small or too large."""
    return invalid(f"'{at}' must be {expected}.", param=at, code=code)


def missing(at: str) -> GatewayError:
    """Make the error for a field that is required."""
    return invalid(f"Missing required parameter: '{at}'.", param=at, code="missing_required_parameter")


def unsupported_value(at: str, value: str, supported: Iterable[str]) -> GatewayError:
    """Make the error for a value that is none of those that the gateway supports."""
    names = ", ".join(f"'{one}'" for one in supported)
    return invalid(
        f"Invalid value for '{at}': {shown(value)}. Supported values are: {names}.", param=at, code="invalid_value"
    )


READER = FieldReader(
    wrong_type=wrong_type, missing=missing, out_of_range=out_of_range, place="{}[{}]", drops_nulls=True
)
