"""A wrong clock of this machine (fault class 81): the request is signed again with AWS's time, once."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import trunkline
from trunkline import AuthenticationError
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio
ANSWER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
}


def opened(url: str, **settings: Any) -> trunkline.Service:
    return trunkline.open_service(
        "bedrock",
        api_url=url,
        aws_region="us-east-1",
        aws_access_key_id="AKIAX",
        aws_secret_access_key="canary-secret-key-0123456789",
        default_model="m",
        max_retries=0,
        **settings,
    )


@pytest.mark.parametrize("wrong_by", [-3600, 3600])
@pytest.mark.parametrize("corrected", [True, False])
async def test_request_is_signed_with_the_time_of_aws_if_the_clock_is_wrong(wrong_by: int, corrected: bool) -> None:
    sent: list[float] = []

    async def handle(exchange: Exchange) -> None:
        now = datetime.now(UTC) - timedelta(seconds=wrong_by)
        date = exchange.request.headers["x-amz-date"]
        signed = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        sent.append(abs((signed - now).total_seconds()))
        if corrected and sent[-1] < 300:
            await exchange.respond(json.dumps(ANSWER).encode())
            return
        headers: dict[str, Any] = {
            "x-amzn-errortype": "InvalidSignatureException",
            "date": format_datetime(now, usegmt=True),
            "content-type": "application/json",
        }
        what = "not yet current" if wrong_by > 0 else "expired"
        body = json.dumps({"message": f"Signature {what}: {date}"}).encode()
        await exchange.respond(body, status=403, headers=headers)

    async with serve(handle) as server:
        async with opened(server.url) as service:
            if not corrected:
                with pytest.raises(AuthenticationError, match="clock"):
                    await service.chat("x")
                assert len(sent) == 2
                return
            assert (await service.chat("x")).text == "Hello"
            assert (await service.chat("x")).text == "Hello"
    assert len(sent) == 3
    assert sent[0] > 3000
    assert max(sent[1:]) < 300


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Thu, 31 Dec 2099 23:59:59 GMT",
        "Mon, 01 Jan 0001 00:00:00 GMT",
    ],
)
@pytest.mark.parametrize("http_library", ["httpx2", "aiohttp"])
async def test_wrong_date_of_one_refusal_does_not_break_the_service(
    date: str, http_library: str, anyio_backend_name: str
) -> None:
    """The next call is signed with the right time, if need be after another refusal, whose `Date` is right."""
    if http_library == "aiohttp" and anyio_backend_name == "trio":
        pytest.skip("aiohttp needs asyncio")
    refused = 0

    async def handle(exchange: Exchange) -> None:
        nonlocal refused
        now = datetime.now(UTC)
        signed = datetime.strptime(exchange.request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if refused and abs(signed - now) < timedelta(minutes=5):
            await exchange.respond(json.dumps(ANSWER).encode())
            return
        headers = {
            "x-amzn-errortype": "InvalidSignatureException",
            "date": format_datetime(now, usegmt=True) if refused else date,
            "content-type": "application/json",
        }
        refused += 1
        await exchange.respond(b'{"message": "Signature expired"}', status=403, headers=headers)

    async with serve(handle) as server:
        async with opened(server.url, http_library=http_library) as service:
            with contextlib.suppress(AuthenticationError):
                await service.chat("x")
            assert (await service.chat("x")).text == "Hello"
            assert (await service.chat("x")).text == "Hello"
    assert refused <= 2
