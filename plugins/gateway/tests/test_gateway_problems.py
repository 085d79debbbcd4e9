"""What clients learn of errors."""

from __future__ import annotations

import asyncio
import inspect
import json

import pytest
from trunkline import FinishReason, errors
from trunkline.response import ChatResponse
from trunkline_gateway.budgets import BudgetExceeded
from trunkline_gateway.limits import LimiterUnavailable, LimitExceeded
from trunkline_gateway.problems import GatewayError, Problem, invalid, problem_of
from trunkline_gateway.wires import chat

REMOTE = {
    errors.AuthenticationError: (502, "upstream", False),
    errors.PermissionDenied: (502, "upstream", False),
    errors.NotFound: (404, "not_found", False),
    errors.BadRequest: (400, "invalid_request", False),
    errors.ContextTooLong: (400, "context_too_long", False),
    errors.ContentFiltered: (400, "content_filtered", False),
    errors.RateLimited: (429, "rate_limited", True),
    errors.QuotaExhausted: (502, "upstream", False),
    errors.ServerError: (502, "upstream", True),
    errors.Overloaded: (503, "overloaded", True),
    errors.ConnectionFailed: (502, "upstream", True),
    errors.RequestTimeout: (504, "timeout", True),
    errors.ConnectTimeout: (504, "timeout", True),
    errors.FirstChunkTimeout: (504, "timeout", True),
    errors.ChunkTimeout: (504, "timeout", True),
    errors.TotalTimeout: (504, "timeout", False),
    errors.LimitTimeout: (429, "rate_limited", True),
    errors.StreamInterrupted: (502, "upstream", True),
    errors.ProtocolViolation: (502, "upstream", False),
    errors.UnexpectedRedirect: (502, "upstream", False),
    errors.RemoteError: (502, "upstream", False),
}
CALL = {
    errors.InvalidRequest: (400, "invalid_request", False),
    errors.FetchFailed: (400, "invalid_request", False),
    errors.UnsupportedOperation: (400, "invalid_request", False),
    errors.UnsupportedRequest: (400, "invalid_request", False),
    errors.ServiceClosed: (503, "overloaded", True),
    errors.StreamClosed: (503, "overloaded", False),
    errors.CallError: (400, "invalid_request", False),
}
OTHER = {
    errors.ConfigurationError: (500, "internal", False),
    errors.ProviderNotFound: (500, "internal", False),
    errors.PluginError: (500, "internal", False),
    errors.TrunklineError: (500, "internal", True),
}


@pytest.mark.parametrize(("kind", "expected"), [*REMOTE.items(), *CALL.items(), *OTHER.items()])
def test_each_error_of_the_core_has_its_problem(
    kind: type[errors.TrunklineError], expected: tuple[int, str, bool]
) -> None:
    problem = problem_of(kind("words"))
    assert (problem.status, problem.kind, problem.retryable) == expected


def test_no_error_of_the_core_is_forgotten() -> None:
    raised = {
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.TrunklineError)
    }
    assert raised - {errors.InvalidAnswer} == {*REMOTE, *CALL, *OTHER}
    response = ChatResponse(parts=(), finish_reason=FinishReason.STOP)
    assert problem_of(errors.InvalidAnswer("words", reason="empty", response=response)).status == 502


@pytest.mark.parametrize("kind", [*REMOTE, *CALL, *OTHER])
def test_no_address_and_no_advice_reaches_the_client(kind: type[errors.TrunklineError]) -> None:
    address = "https://llm.internal:8443/v1?key=sk-123"
    message = f"the server at {address} (10.1.2.3:80, HTTP://x) refused"
    error = kind(message, service="secret-name")
    error.advice = "ask Bob"
    if isinstance(error, errors.RemoteError):
        error.endpoint = f"POST {address}"
    problem = problem_of(error)
    shown = json.dumps([problem.message, problem.code, problem.param])
    for private in ("internal", "sk-123", "10.1.2.3", "://", "secret-name", "Bob"):
        assert private not in shown


def test_a_refused_request_has_the_words_of_the_provider() -> None:
    body = {"error": {"message": "temperature must be at most 2", "param": "temperature"}}
    error = errors.BadRequest("temperature must be at most 2", status=422, code="bad_value", body=body)
    assert problem_of(error) == Problem(
        kind="invalid_request",
        status=400,
        message="temperature must be at most 2",
        code="bad_value",
        param="temperature",
    )
    assert problem_of(errors.BadRequest("too much", status=413)).status == 413


def test_waiting_times_come_through() -> None:
    assert problem_of(errors.RateLimited("slow down", retry_after=3.5)).retry_after == 3.5
    assert problem_of(errors.Overloaded("busy", retry_after=2)).retry_after == 2
    limited = problem_of(LimitExceeded("tokens_per_minute", 12.2, requests=None, tokens=None))
    assert (limited.status, limited.retry_after, limited.retryable) == (429, 12.2, True)
    assert "tokens per minute" in limited.message
    used_up = problem_of(BudgetExceeded("over", resets_after=60))
    assert (used_up.status, used_up.code, used_up.retry_after, used_up.retryable) == (
        429,
        "insufficient_quota",
        60,
        False,
    )
    assert problem_of(LimiterUnavailable("redis://secret@host is down")) == Problem(
        kind="overloaded",
        status=503,
        message="The limits of this key cannot be counted at the moment. Try again later.",
        retryable=True,
    )


def test_unexpected_exceptions_have_no_details() -> None:
    for error in (
        KeyError("secret"),
        RecursionError("secret"),
        MemoryError(),
        ExceptionGroup("secret", [OSError("x")]),
    ):
        problem = problem_of(error)
        assert (problem.status, problem.kind) == (500, "internal")
        assert "secret" not in problem.message
    assert problem_of(asyncio.CancelledError()).status == 503


def test_an_error_of_the_gateway_is_its_problem_also_in_a_group() -> None:
    error = invalid("no", param="n")
    assert problem_of(error) is error.problem
    assert problem_of(BaseExceptionGroup("group", [ExceptionGroup("inner", [error])])) is error.problem
    assert isinstance(error, GatewayError)


def test_the_openai_body_of_an_error() -> None:
    assert chat.write_error(invalid("no", param="n", code="c").problem, "id") == {
        "error": {"message": "no", "type": "invalid_request_error", "param": "n", "code": "c"}
    }
