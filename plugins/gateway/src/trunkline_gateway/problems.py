"""What went wrong with a call, in the words that each wire format then puts into its own shape."""

from __future__ import annotations

import asyncio
import re
from typing import Literal, TypeAlias

import attrs
from trunkline import errors
from trunkline.authoring.json import as_object, as_string
from trunkline_prices import BudgetExceeded as ServiceBudgetExceeded, UnknownPrice

from trunkline_gateway.budgets import BudgetExceeded
from trunkline_gateway.limits import LimiterUnavailable, LimitExceeded

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


def problem_of(error: BaseException) -> Problem:
    """Return what a client learns of an error that ended its call.

    What the client did wrong is described in the provider's words, without addresses. What is wrong between the gateway
    and the provider (its key, its quota, its server) is the administrator's to mend, so the client learns that it is
    not its fault (502), and no details. An unexpected exception is a 500 without details.
    """
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return problem_of(error.exceptions[0])
    if isinstance(error, GatewayError):
        return error.problem
    if isinstance(error, errors.RemoteError):
        return _remote(error)
    if isinstance(error, errors.CallError):
        return _call(error)
    if isinstance(error, LimitExceeded):
        name = error.limit.replace("_", " ")
        message = f"The limit of {name} of this key is used up. Try again in {_seconds(error.retry_after)}."
        return _rate_limited(message, error.retry_after)
    if isinstance(error, BudgetExceeded):
        resets = error.resets_after
        message = "The budget of this key has less left than this call may need." + (
            "" if resets is None else f" It resets in {_seconds(resets)}."
        )
        return Problem(kind="quota", status=429, message=message, code="insufficient_quota", retry_after=resets)
    if isinstance(error, LimiterUnavailable):
        message = "The limits of this key cannot be counted at the moment. Try again later."
        return Problem(kind="overloaded", status=503, message=message, retryable=True)
    if isinstance(error, asyncio.CancelledError):
        return Problem(kind="overloaded", status=503, message="The call was ended.", code="cancelled")
    if isinstance(error, errors.ConfigurationError):
        message = "The service is not configured correctly. Its administrator finds the reason in the gateway's log."
        return Problem(kind="internal", status=500, message=message, code="service_misconfigured")
    return Problem(kind="internal", status=500, message="The gateway failed to handle the request.", retryable=True)


def _call(error: errors.CallError) -> Problem:
    if isinstance(error, errors.ServiceClosed):
        message = "The service was closed during the call. Try again."
        return Problem(kind="overloaded", status=503, message=message, code="service_closed", retryable=True)
    if isinstance(error, errors.StreamClosed):
        return Problem(kind="overloaded", status=503, message="The call was ended.", code="cancelled")
    if isinstance(error, ServiceBudgetExceeded):
        return Problem(
            kind="quota", status=429, message="The budget of this service is used up.", code="insufficient_quota"
        )
    if isinstance(error, UnknownPrice):
        message = "The service has a budget, and the price of this model is not known."
        return Problem(kind="invalid_request", status=400, message=message, code="unknown_price", param="model")
    if isinstance(error, errors.FetchFailed):
        # Its text may say which address a host name has inside the gateway's network.
        message = "An image, document or audio of the request could not be fetched from its URL."
        return Problem(kind="invalid_request", status=400, message=message, code="fetch_failed")
    unsupported = isinstance(error, (errors.UnsupportedOperation, errors.UnsupportedRequest))
    return Problem(
        kind="invalid_request",
        status=400,
        message=_shown(str(error.args[0]) if error.args else "") or "The request is invalid.",
        code="unsupported" if unsupported else None,
    )


def _remote(error: errors.RemoteError) -> Problem:
    if isinstance(error, errors.BadRequest):
        return _refused(error)
    if isinstance(error, errors.RateLimited):
        return _rate_limited("The provider limits the rate of requests. Try again later.", error.retry_after)
    if isinstance(error, errors.LimitTimeout):
        return _rate_limited("The limit of this service is used up. Try again later.", error.retry_after)
    if isinstance(error, errors.NotFound):
        message = "The provider does not have the model."
        return Problem(kind="not_found", status=404, message=message, code="model_not_found", param="model")
    if isinstance(error, errors.RequestTimeout):
        message = "The provider did not answer in time."
        return Problem(kind="timeout", status=504, message=message, code="timeout", retryable=error.retryable)
    if isinstance(error, errors.QuotaExhausted):
        message = "The account of this service at its provider has no quota or credit left."
        return Problem(kind="upstream", status=502, message=message, code="provider_quota_exhausted")
    if isinstance(error, (errors.AuthenticationError, errors.PermissionDenied)):
        message = "The provider refused the credentials of this service."
        return Problem(kind="upstream", status=502, message=message, code="provider_refused_credentials")
    if isinstance(error, errors.Overloaded):
        message = "The provider has no capacity at the moment. Try again later."
        return Problem(
            kind="overloaded", status=503, message=message, retry_after=error.retry_after, retryable=error.retryable
        )
    return Problem(
        kind="upstream",
        status=502,
        message=next((message for kind, message in _UPSTREAM if isinstance(error, kind)), "The provider failed."),
        retry_after=error.retry_after,
        retryable=error.retryable,
    )


_UPSTREAM: tuple[tuple[type[errors.RemoteError], str], ...] = (
    (errors.ServerError, "The provider failed to handle the request."),
    (errors.ConnectionFailed, "No connection to the provider could be made, or it was lost."),
    (errors.StreamInterrupted, "The provider's response broke off."),
    (errors.ProtocolViolation, "The provider sent a response that cannot be read."),
    (errors.UnexpectedRedirect, "The provider answered with a redirect, which is not followed."),
)


def _refused(error: errors.BadRequest) -> Problem:
    kind: Kind
    kind, status, code = "invalid_request", 400, error.code
    if isinstance(error, errors.ContextTooLong):
        kind, code = "context_too_long", "context_length_exceeded"
    elif isinstance(error, errors.ContentFiltered):
        kind, code = "content_filtered", "content_filter"
    elif error.status == 413:
        kind, status = "too_large", 413
    body = as_object(error.body)
    param = as_string(as_object(body.get("error")).get("param"))
    message = _shown(error.message) or "The provider refused the request."
    return Problem(kind=kind, status=status, message=message, code=code, param=param or None)


def _rate_limited(message: str, retry_after: float | None) -> Problem:
    return Problem(
        kind="rate_limited",
        status=429,
        message=message,
        code="rate_limit_exceeded",
        retry_after=retry_after,
        retryable=True,
    )


def _seconds(seconds: float) -> str:
    return f"{max(1, round(seconds))} s"


# A provider's text may hold the address of a private server.
_ADDRESS = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s'\"<>)\]}]+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b")


def _shown(text: str) -> str:
    return _ADDRESS.sub("(address)", text[:_LONGEST])


_LONGEST = 2000
"""How many characters of a provider's message a client sees."""
