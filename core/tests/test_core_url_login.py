"""A user name and a password in a URL are sent in the same way by every transport."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import httpx2
import pytest
from trunkline._urls import split_login
from trunkline.authoring.auth import HeaderAuth, NoAuth
from trunkline.errors import TrunklineError
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

PASSWORD = "pa:ss/w@rd-0123456789"
LOGIN = "Basic " + base64.b64encode(f"us\u00e9r:{PASSWORD}".encode()).decode()
KEY = "key-0123456789"
AUTHS: dict[str, tuple[Any, str, str]] = {
    "no key": (NoAuth(), LOGIN, ""),
    "a key in Authorization": (
        HeaderAuth("authorization", "key-0123456789", prefix="Bearer "),
        "Bearer key-0123456789",
        "",
    ),
    "a key in another header": (HeaderAuth("x-key", KEY), LOGIN, KEY),
}


@pytest.fixture
def anyio_backend(stack: str) -> str:
    return stack.partition("-")[0]


@pytest.fixture
def http_library(stack: str) -> str:
    return stack.partition("-")[2]


@pytest.mark.parametrize("auth", AUTHS)
@pytest.mark.parametrize("client", [None, httpx2.AsyncClient, httpx.AsyncClient], ids=["own", "httpx2", "httpx"])
async def test_login_in_a_url_is_sent_unless_a_key_is(stack: str, toy: Any, client: Any, auth: str) -> None:
    made, authorization, key = AUTHS[auth]
    sent: list[tuple[str, str, str]] = []

    async def refuse(exchange: Exchange) -> None:
        headers = exchange.request.headers
        sent.append((headers.get("authorization", ""), headers.get("x-key", ""), headers.get("host", "")))
        await exchange.respond(f"no: {headers.get('authorization')} {PASSWORD}".encode(), status=400)

    async with serve(refuse) as server:
        url = server.url.replace("//", "//us%C3%A9r:pa%3Ass%2Fw%40rd-0123456789@")
        passed = None if client is None else client()
        library = {} if client is None else {"http_library": "auto"}
        async with toy(url, {"auth": lambda context: made}, client=passed, max_retries=0, **library) as service:
            for stream in (False, True):
                with pytest.raises(TrunklineError) as caught:
                    if stream:
                        async with service.stream("hi") as opened:
                            async for _ in opened:
                                pass
                    else:
                        await service.chat("hi")
                assert PASSWORD not in str(caught.value) + repr(vars(caught.value))
                assert LOGIN.partition(" ")[2] not in repr(vars(caught.value))
        if passed is not None:
            await passed.aclose()
        host = server.url.partition("//")[2]
    assert sent == [(authorization, key, host)] * 2


@pytest.mark.parametrize(
    ("url", "plain", "login"),
    [
        ("https://host/a?b=c@d", "https://host/a?b=c@d", None),
        ("https://user@host/a", "https://host/a", "user:"),
        ("https://user:@host:8080/a", "https://host:8080/a", "user:"),
        ("https://a%40b:c%3Ad@host/", "https://host/", "a@b:c:d"),
        ("https://host/@a:b", "https://host/@a:b", None),
        ("https://u:p@[::1]:80/a?x=@", "https://[::1]:80/a?x=@", "u:p"),
        ("http+unix://%2Frun%2Fa@b.sock/v1", "http+unix://%2Frun%2Fa@b.sock/v1", None),
    ],
)
def test_a_login_is_taken_out_of_a_url(url: str, plain: str, login: str | None) -> None:
    expected = None if login is None else "Basic " + base64.b64encode(login.encode()).decode()
    assert split_login(url) == (plain, expected)
