"""Which addresses the URLs of services may lead to."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, strategies as st
from trunkline import ConfigurationError, Settings, open_service, open_services
from trunkline.authoring.provider import SendOptions
from trunkline.authoring.wire import WireRequest
from trunkline.testing import Exchange, serve
from trunkline_gateway.networks import NetworkGuard, Networks, _GuardedTransport, literal_address, verdict
from trunkline_gateway.pricing import is_free

METADATA = IPv4Address("169.254.169.254")


def spellings(address: IPv4Address) -> list[str]:
    number = int(address)
    a, b, c, d = address.packed
    return [
        str(address),
        f"{address}.",
        str(number),
        hex(number),
        hex(number).upper().replace("0X", "0x"),
        f"0{number:o}",
        f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"{a}.0x{b:x}.{c}.0{d:o}",
        f"{a}.{b}.{(c << 8) + d}",
        f"{a}.{(b << 16) + (c << 8) + d}",
        "".join(chr(0xFF10 + int(digit)) if digit.isdigit() else "。" for digit in str(address)),
        str(address).replace(".", "%2e"),
        f"[::ffff:{address}]",
        f"[::FFFF:{number >> 16:x}:{number & 0xFFFF:x}]",
        f"[64:ff9b::{address}]",
        f"[64:ff9b:1::{address}]",
    ]


@pytest.mark.parametrize("host", spellings(METADATA))
@pytest.mark.anyio
async def test_the_metadata_address_is_refused_however_it_is_written(host: str) -> None:
    networks = Networks(["0.0.0.0/0", "::/0", "private"])
    assert await networks.url_problem(f"http://{host}/v1")
    assert await networks.url_problem(f"https://user:password@{host}:8443/latest?a=b#c")


@given(st.ip_addresses(v=4, network="169.254.0.0/16"))
def test_all_link_local_addresses_are_refused_however_they_are_written(address: Any) -> None:
    for host in spellings(address):
        found = literal_address(host)
        assert found is not None, host
        assert verdict(found) == "metadata", host


@given(st.ip_addresses(v=4))
def test_each_spelling_of_an_address_has_the_same_verdict(address: Any) -> None:
    expected = verdict(address)
    for host in spellings(address):
        found = literal_address(host)
        assert found is not None, host
        assert verdict(found) == expected, host


@given(st.ip_addresses(v=4))
def test_only_loopback_and_the_public_internet_are_open_by_default(address: Any) -> None:
    problem = Networks().problem(address)
    if address.is_loopback:
        assert problem is None
    elif problem is None:
        assert address.is_global
        assert not address.is_multicast
    assert problem is not None or Networks(["private"]).problem(address) is None


@given(st.ip_addresses(v=6))
def test_only_loopback_and_the_public_internet_are_open_in_ipv6(address: Any) -> None:
    if Networks().problem(address) is None:
        assert address == IPv6Address("::1") or address.is_global or literal_of_ipv4(address)


def literal_of_ipv4(address: IPv6Address) -> bool:
    return any(address in ip_network(text) for text in ("::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"))


@given(st.ip_addresses(v=4))
def test_a_tunnel_leads_nowhere(address: Any) -> None:
    number = int(address)
    tunnels = [
        (0x2002 << 112) | (number << 80) | 1,  # 6to4
        (0x20010000 << 96) | (number ^ 0xFFFFFFFF),  # Teredo
        (0x2A00 << 112) | (0x5EFE << 32) | number,  # ISATAP
    ]
    for tunnel in tunnels:
        assert Networks(["private"]).problem(IPv6Address(tunnel)) is not None


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.0.3", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("172.32.0.1", "public"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("192.0.0.192", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("fe80::1", "metadata"),
        ("fd12:3456::1", "private"),
        ("0.0.0.0", "unusable"),
        ("::", "unusable"),
        ("255.255.255.255", "unusable"),
        ("224.0.0.1", "unusable"),
        ("ff02::1", "unusable"),
        ("198.18.0.1", "unusable"),
        ("192.0.2.1", "unusable"),
        ("2001:db8::1", "unusable"),
        ("8.8.8.8", "public"),
        ("2606:4700::1111", "public"),
        ("64:ff9b::8.8.8.8", "public"),
        ("64:ff9b::10.0.0.1", "private"),
        ("2002:a9fe:a9fe::1", "metadata"),
        ("2002:808:808::1", "unusable"),
        ("::169.254.169.254", "metadata"),
    ],
)
def test_kinds_of_addresses(address: str, kind: str) -> None:
    assert verdict(ip_address(address)) == kind


def test_private_networks_can_be_allowed_one_by_one_or_together() -> None:
    address = IPv4Address("10.1.2.3")
    assert "allowed_networks" in str(Networks().problem(address))
    assert Networks(["10.1.0.0/16"]).problem(address) is None
    assert Networks(["10.1.0.0/16"]).problem(IPv6Address("::ffff:10.1.2.3")) is None
    assert Networks(["10.2.0.0/16"]).problem(address) is not None
    assert Networks([" Private "]).problem(address) is None
    assert Networks(["private", "169.254.0.0/16"]).problem(METADATA) is not None
    with pytest.raises(ConfigurationError, match="allowed_networks"):
        Networks(["10.0.0.0/33"])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "host",
    [
        "metadata.google.internal",
        "METADATA.google.INTERNAL.",
        "a.metadata.google.internal",
        "metadata",
        "metadata.goog",
        "instance-data.ec2.internal",
    ],
)
async def test_names_of_metadata_services_are_refused_without_asking(host: str) -> None:
    assert await Networks(["private"]).url_problem(f"http://{host}/computeMetadata/v1/")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("addresses", "refused"),
    [
        (["93.184.215.14"], False),
        (["93.184.215.14", "10.0.0.1"], True),
        (["169.254.169.254"], True),
        (["fe80::1%eth0"], True),
        (["::ffff:169.254.169.254"], True),
        ([], False),
    ],
)
async def test_a_name_is_refused_if_it_leads_to_a_refused_address(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str], refused: bool
) -> None:
    def resolve(host: str, port: object, **options: object) -> list[Any]:
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(0, 0, 0, "", (address, 0)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert (await Networks().url_problem("https://llm.example.com/v1") is not None) is refused


@pytest.mark.anyio
async def test_localhost_is_allowed_and_local_sockets_are_not() -> None:
    assert await Networks().url_problem("http://localhost:8080/v1") is None
    assert await Networks().url_problem("http+unix://%2Frun%2Fdocker.sock/v1") is not None


def opened(**settings: object) -> Settings:
    return open_service("openai-compatible", default_model="m", **settings).settings


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"api_url": "http://169.254.169.254/v1"}, "api_url"),
        ({"api_url": "169.254.169.254:80"}, "api_url"),
        ({"api_url": "http://127.0.0.1/v1", "proxy": "socks5://169.254.169.254:1080"}, "proxy"),
        ({"api_url": "http://127.0.0.1/v1", "proxy": "10.0.0.1:3128"}, "proxy"),
        ({"api_url": "http://127.0.0.1/v1"}, None),
    ],
)
async def test_each_url_in_the_settings_is_checked(settings: dict[str, object], wrong: str | None) -> None:
    if wrong is None:
        await Networks().check(opened(**settings), service="main")
        return
    with pytest.raises(ConfigurationError) as caught:
        await Networks().check(opened(**settings), service="main")
    assert caught.value.setting == wrong


@pytest.mark.anyio
async def test_a_url_in_the_json_of_a_secret_is_checked() -> None:
    text = '{"type": "service_account", "token_uri": "http://169.254.169.254/token", "project_id": "p"}'
    settings = opened(api_url="http://127.0.0.1/v1", headers={"X-Account": text})
    with pytest.raises(ConfigurationError) as caught:
        await Networks().check(settings, service="main")
    assert caught.value.setting == "headers"
    assert "token_uri" not in str(caught.value)


@pytest.mark.anyio
async def test_a_name_that_is_rebound_to_metadata_is_refused_before_the_next_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trunkline_gateway.networks.VERDICT_SECONDS", -1.0)
    real, target = socket.getaddrinfo, ["127.0.0.1"]

    def resolve(host: str, port: Any, *arguments: Any, **options: Any) -> Any:
        return real(target[0] if host == "llm.example.com" else host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    async def answer(exchange: Exchange) -> None:
        await exchange.respond(b'{"object": "list", "data": [{"id": "m", "object": "model"}]}')

    async with serve(answer) as server:
        url = server.url.replace("127.0.0.1", "llm.example.com")
        table = {"provider": "openai-compatible", "api_url": url, "extensions": [NetworkGuard(Networks())]}
        async with open_services({"services": {"main": table}}, environ={}) as services:
            assert [model.id for model in await services["main"].list_models()] == ["m"]
            target[0] = "169.254.169.254"
            with pytest.raises(ConfigurationError, match="was not sent") as caught:
                await services["main"].list_models()
            assert caught.value.problem == "url"
            assert is_free(caught.value)
            assert len(server.requests) == 1
            target[0] = "127.0.0.1"
            assert await services["main"].list_models()


@pytest.mark.anyio
async def test_what_was_found_about_a_name_is_remembered_for_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolve(host: str, port: object, **options: object) -> list[Any]:
        asked.append(host)
        return [(0, 0, 0, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    class Sent(AsyncExitStack):
        pass

    class Inner:
        async def __aenter__(self) -> object:
            return self

        async def __aexit__(self, *exc_info: object) -> None:
            return None

        def send(self, wire_request: WireRequest, options: SendOptions) -> Any:
            return Sent()

    transport = _GuardedTransport(Inner(), Networks())
    for _ in range(3):
        async with transport.send(WireRequest(url="https://llm.example.com/v1"), SendOptions()):
            pass
    assert asked == ["llm.example.com"]
