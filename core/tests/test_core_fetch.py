"""Guarded fetching, on both backends and real sockets."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address
from typing import Any

import anyio
import pytest
from trunkline import ChatRequest, Document, FetchFailed, Image, tool_result, user
from trunkline._calls.fetch import FetchLimits, fetch, fetch_parts
from trunkline._http.dialling import is_public
from trunkline.testing import Exchange, serve

PNG = b"\x89PNG\r\n\x1a\n0000"
TYPE = {"content-type": "image/png; charset=binary"}


HOSTS = (
    *("127.0.0.1", "127.1", "0", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.0.0.1."),
    *("localhost", "LOCALHOST", "localhost.", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]"),
    *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1%25lo]", "①②⑦.⓪.⓪.①", "ｌｏｃａｌｈｏｓｔ", "127。0。0。1"),
    *("public.example@127.0.0.1", "public.example\\@127.0.0.1", "127.0.0.1\\.public.example", "%31%32%37.0.0.1"),
)
"""This machine, in the forms in which filters miss it."""


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
        for host in HOSTS:
            with pytest.raises(FetchFailed, match=r"not public|resolved|not a valid URL|with a host"):
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
        monkeypatch.setattr("trunkline._http.dialling.anyio.getaddrinfo", rebinding)
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
    ("answer", "message"),
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
async def test_unexpected_response_is_refused(answer: dict[str, Any], message: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(**answer)

    async with serve(handler) as server:
        with pytest.raises(FetchFailed, match=message):
            await fetch(server.url, ["image/"], limits=FetchLimits(size=100), allowed=anywhere)


@pytest.mark.anyio
async def test_server_that_never_responds_times_out() -> None:
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
        ("2001:4860:4860::8888", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("172.31.255.255", False),
        ("192.168.1.1", False),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("169.254.170.2", False),
        ("100.64.0.1", False),
        ("100.127.255.255", False),
        ("100.100.100.200", False),
        ("0.0.0.0", False),
        ("0.1.2.3", False),
        ("192.0.0.8", False),
        ("192.0.0.192", False),
        ("192.0.2.1", False),
        ("192.88.99.1", False),
        ("198.18.0.1", False),
        ("198.51.100.1", False),
        ("203.0.113.1", False),
        ("224.0.0.1", False),
        ("239.255.255.250", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::127.0.0.1", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("100::1", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("::ffff:169.254.169.254", False),
        ("::ffff:0:7f00:1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("64:ff9b:1::1", False),
        ("2002:7f00:1::", False),
        ("2002:808:808::", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("2606:4700::5efe:7f00:1", False),
        ("2606:4700::200:5efe:7f00:1", False),
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


@pytest.mark.anyio
async def test_a_name_whose_answer_changes_between_redirects_is_checked_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    async def rebinding(host: Any, port: Any, **options: Any) -> Any:
        asked.append(host)
        return [(2, 1, 6, "", ("127.0.0.1" if len(asked) == 1 else "127.0.0.2", port))]

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(status=302, headers={"location": "/again"})

    async with serve(handler) as server:
        monkeypatch.setattr("trunkline._http.dialling.anyio.getaddrinfo", rebinding)
        one = ip_address("127.0.0.1")
        with pytest.raises(FetchFailed, match=r"127\.0\.0\.2, which is not public"):
            await fetch(f"http://rebind.example:{server.port}/", allowed=lambda address: address == one)
    assert (len(asked), server.accepted) == (2, 1)


@pytest.mark.anyio
async def test_a_name_with_one_address_that_is_not_public_is_not_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(host: Any, port: Any, **options: Any) -> Any:
        return [(2, 1, 6, "", ("8.8.8.8", port)), (2, 1, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr("trunkline._http.dialling.anyio.getaddrinfo", both)
    with pytest.raises(FetchFailed, match=r"127\.0\.0\.1, which is not public"):
        await fetch("http://both.example/")


@pytest.mark.anyio
async def test_a_name_without_an_address_is_not_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(host: Any, port: Any, **options: Any) -> Any:
        return []

    monkeypatch.setattr("trunkline._http.dialling.anyio.getaddrinfo", nothing)
    with pytest.raises(FetchFailed, match=r"empty\.example cannot be resolved \(it has no address\)"):
        await fetch("http://empty.example/")


@pytest.mark.anyio
async def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(picture) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, server.url)
        with pytest.raises(FetchFailed, match="not public"):
            await fetch("http://127.0.0.1:9/a.png")
        assert server.accepted == 0


@pytest.mark.anyio
@pytest.mark.parametrize("to", ["http://u:p@127.0.0.1/", "ftp://127.0.0.1/", "//127.0.0.2:9/", "http://[::1]:9/"])
async def test_a_redirect_keeps_to_the_rules_of_the_first_url(to: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(status=301, headers={"location": to})

    one = ip_address("127.0.0.1")
    async with serve(handler) as server:
        with pytest.raises(FetchFailed):
            await fetch(server.url, allowed=lambda address: address == one)
        assert len(server.requests) == 1


BROKEN_URLS = [
    "http://[",
    "http://[::1/x.png",
    "//[",
    "http://[x]/",
    "http://a\u2100b/x.png",
    "http://a:99999999/",
    "http://a:b/",
]


@pytest.mark.anyio
@pytest.mark.parametrize("to", [url for url in BROKEN_URLS if url.isascii()])
async def test_redirect_to_a_url_that_is_not_valid_is_refused(to: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(status=302, headers={"location": to})

    async with serve(handler) as server:
        with pytest.raises(FetchFailed):
            await fetch(server.url, allowed=anywhere)
        assert len(server.requests) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("url", BROKEN_URLS)
async def test_media_url_that_is_not_valid_is_refused(url: str) -> None:
    with pytest.raises(FetchFailed):
        await fetch(url, allowed=anywhere)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/my image.png", "/a\tb", "/a\r\nb", "/\x00"])
async def test_space_in_a_media_url_is_a_fault_of_the_url(path: str) -> None:
    with pytest.raises(FetchFailed, match="must be percent-encoded") as caught:
        await fetch(f"http://127.0.0.1:9{path}", allowed=anywhere)
    assert str(caught.value).isprintable()


@pytest.mark.anyio
async def test_line_breaks_in_a_media_url_inject_no_header() -> None:
    async with serve(picture) as server:
        with contextlib.suppress(FetchFailed):
            await fetch(f"{server.url}/a\r\nx-own: 1\r\n b", allowed=anywhere)
    assert all("x-own" not in request.headers for request in server.requests)


@pytest.mark.anyio
async def test_nothing_is_fetched_unless_it_is_allowed(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'{"text": "seen"}')

    request = ChatRequest(messages=[user("see", Image(url="http://127.0.0.1:9/a.png"))])
    async with serve(handler) as server:
        for allowed in (False, True):
            async with toy(server.url, provider={"bytes_only_media": (Image,)}, fetch_urls=allowed) as service:
                if allowed:
                    with pytest.raises(FetchFailed, match="not public"):
                        await service.chat(request)
                else:
                    assert (await service.chat(request)).text == "seen"
