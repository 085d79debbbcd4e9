"""What a server or a plugin may put into the fields and the text of an error (fault classes 78 and 80)."""

from __future__ import annotations

import math
from typing import Any

import pytest
from trunkline.authoring.framing import JSONLinesFramer
from trunkline.authoring.http_errors import LONGEST_WAIT
from trunkline.authoring.wire import WireResponse
from trunkline.errors import RateLimited, TrunklineError
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(stack: str) -> str:
    return stack.partition("-")[0]


@pytest.fixture
def http_library(stack: str) -> str:
    return "httpx2" if stack == "asyncio-httpx2" else "auto"


async def _call(service: Any, method: str) -> None:
    if method == "stream":
        async with service.stream("x"):
            pass
    elif method == "list_models":
        await service.list_models()
    else:
        await getattr(service, method)("x")


@pytest.mark.parametrize("method", ["chat", "stream", "embed", "list_models"])
@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        pytest.param(10**400, LONGEST_WAIT, id="huge"),
        (math.inf, LONGEST_WAIT),
        (1e300, LONGEST_WAIT),
        ("1e300", LONGEST_WAIT),
        (math.nan, None),
        (-1, None),
        (b"soon", None),
    ],
)
async def test_wait_of_any_error_is_bounded(toy: Any, wait: Any, expected: float | None, method: str) -> None:
    """An error of a plugin may have a wait that nobody checked. It is raised at once, even if no setting limits it."""

    class Parser:
        body = feed = finish = NotImplemented

        def stream(self) -> Any:
            return JSONLinesFramer(), self

        def error(self, wire_response: WireResponse) -> TrunklineError:
            return RateLimited("slow down", status=429, retry_after=wait, retryable=expected is not None)

    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"{}", status=429)

    provider = {"response_parser": lambda context: Parser()}
    limits = {"retry_after_limit": None, "total_timeout": None}
    async with serve(refuse) as server:
        async with toy(server.url, provider=provider, **limits) as service:
            with pytest.raises(RateLimited) as caught:
                await _call(service, method)
        assert len(server.requests) == 1
    assert caught.value.retry_after == expected
    assert len(str(caught.value)) < 300
