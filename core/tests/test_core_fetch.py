"""Guarded fetching, on both backends and real sockets."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import anyio
import pytest
from trunkline import ChatRequest, Document, FetchFailed, Image, tool_result, user
from trunkline.fetch import FetchLimits, fetch, fetch_parts, is_public
from trunkline.testing import Exchange, serve

PNG = b"\x89PNG\r\n\x1a\n0000"
TYPE = {"content-type": "image/png; charset=binary"}


def anywhere(address: object) -> bool:
    return True


async def picture(exchange: Exchange) -> None:
    await exchange.respond(PNG, headers=TYPE)


@pytest.mark.anyio
async def test_a_picture_is_fetched_without_credentials() -> None:
    async with serve(picture) as server:
        assert await fetch(server.url + "/a.png", ["image/"], allowed=anywhere) == (PNG, "image/png")
    assert not {"authorization", "cookie"} & set(server.requests[0].headers)


@pytest.mark.anyio
async def test_an_address_that_is_not_public_is_never_dialled() -> None:
    async with serve(picture) as server:
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"):
            with pytest.raises(FetchFailed, match=r"not public|resolved"):
                await fetch(f"http://{host}:{server.port}/a.png")
        assert server.accepted == 0


@pytest.mark.anyio
async def test_a_name_that_changes_its_address_is_dialled_at_the_one_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    async def rebinding(host: Any, port: Any, **options: Any) -> Any:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(2, 1, 6, "", (address, port))]

    async with serve(picture) as server:
        monkeypatch.setattr("trunkline.fetch.anyio.getaddrinfo", rebinding)
        one = ip_address("127.0.0.1")
        await fetch(f"http://rebind.example:{server.port}/a.png", allowed=lambda address: address == one)
    assert asked[0] == "rebind.example"
    assert server.accepted == 1


@pytest.mark.anyio
async def test_a_redirect_is_checked_like_the_first_address() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(status=302, headers={"location": f"http://127.0.0.2:{server.port}/latest/meta-data"})

    async with serve(handler) as server:
        one = ip_address("127.0.0.1")
        with pytest.raises(FetchFailed, match=r"127\.0\.0\.2, which is not public"):
            await fetch(server.url, allowed=lambda address: address == one)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"body": b"x", "status": 404}, "status 404"),
        ({"body": b"<html>", "headers": {"content-type": "text/html"}}, "text/html"),
        ({"body": b"x", "headers": {}}, "unknown type"),
        ({"body": b"x" * 101, "headers": TYPE}, "larger than 100 bytes"),
        ({"body": b"x", "headers": {**TYPE, "content-encoding": "gzip"}}, "compressed"),
        ({"status": 302, "headers": {"location": "/again"}}, "redirects more than 3 times"),
        ({"status": 302, "headers": {"location": "file:///etc/passwd"}}, "http or https"),
    ],
)
async def test_what_is_not_as_it_should_be_is_refused(answer: dict[str, Any], told: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(**answer)

    async with serve(handler) as server:
        with pytest.raises(FetchFailed, match=told):
            await fetch(server.url, ["image/"], limits=FetchLimits(size=100), allowed=anywhere)


@pytest.mark.anyio
async def test_a_server_that_never_answers_is_given_up() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.hung_up()

    async with serve(handler) as server:
        with anyio.fail_after(30), pytest.raises(FetchFailed, match=r"longer than 0\.1 s"):
            await fetch(server.url, limits=FetchLimits(seconds=0.1), allowed=anywhere)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url", ["ftp://x.example/a", "file:///etc/passwd", "http://", "nothing", "http://u:p@x.example/"]
)
async def test_only_plain_web_urls_are_fetched(url: str) -> None:
    with pytest.raises(FetchFailed):
        await fetch(url)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00:ec2::254", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


@pytest.mark.anyio
async def test_each_url_of_the_kinds_asked_for_is_fetched_once() -> None:
    async with serve(picture) as server:
        image, document = Image(url=server.url + "/a"), Document(url=server.url + "/b")
        request = ChatRequest(messages=[user("see", image, document), tool_result("c", [image])])
        fetched = await fetch_parts(request, (Image,), allowed=anywhere)
    got = Image(data=PNG, media_type="image/png")
    assert fetched.messages == (user("see", got, document), tool_result("c", [got]))
    assert len(server.requests) == 1
