"""What went wrong with a call, in the words that each wire format then puts into its own shape."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

Kind: TypeAlias = Literal[
    "invalid_request",
    "context_too_long",
    "content_filtered",
    "authentication",
    "permission",
    "not_found",
    "too_large",
    "rate_limited",
    "quota",
    "upstream",
    "overloaded",
    "timeout",
    "internal",
]


@attrs.frozen(kw_only=True)
class Problem:
    """Why a call failed. It is what a client sees, so it has no secret and no address of a provider's server."""

    kind: Kind
    status: int
    message: str
    code: str | None = None
    """A code that programs compare, such as `model_not_found` or the provider's own."""
    param: str | None = None
    """The field of the request that is wrong."""
    retry_after: float | None = None
    """The seconds after which to try again."""
    retryable: bool = False
    """Whether the same request may succeed later. Otherwise SDKs get `x-should-retry: false`."""


class GatewayError(Exception):
    """The gateway refuses a call, or cannot make it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> GatewayError:
    """Make the error for a request that is wrong, to be raised by a reader of requests."""
    return GatewayError(Problem(kind="invalid_request", status=400, message=message, param=param, code=code))
