"""Where the URLs of services may lead: the protection against server-side request forgery (SSRF).

An administrator who may add services in the console can make the gateway send requests to any URL. Some addresses give
the machine's own credentials to whoever asks from it, so these are always refused: those of cloud metadata services,
however they are written, and names that lead to them. Private networks are refused unless `allowed_networks` has them.
Loopback and the public internet are allowed.

URLs are checked when a service is saved, tested and opened. Every string in its settings that is a URL counts, also
those in the JSON of a secret. Names are resolved for the check.

A name may resolve to another address later (DNS rebinding), and a URL may come from a server. `NetworkGuard` therefore
checks the host of each request again before it is sent. What was found about a name is kept for `VERDICT_SECONDS`. The
core then resolves the name once more to connect, so a name server that changes its answer in between can still pass;
firewall rules of the machine close that gap. The requests for tokens that a provider's credentials make are checked
only by their URL in the settings. With a proxy, it is the proxy that connects, by its own rules; the name is checked
here nevertheless.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
import unicodedata
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from types import TracebackType
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

import anyio
from trunkline import ConfigurationError, Secret, ServiceContext, Settings, hookimpl
from trunkline.authoring.provider import ByteStream, SendOptions, Transport
from trunkline.authoring.wire import WireRequest
from trunkline.secrets import Headers
from trunkline.settings import BaseSettings, raise_config_errors, setting_error, setting_infos

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Verdict: TypeAlias = Literal["public", "loopback", "private", "metadata", "unusable"]

RESOLVE_SECONDS = 5.0
"""The longest time to resolve a name, in seconds."""

VERDICT_SECONDS = 10.0
"""How long it is remembered whether a name is refused, in seconds."""

_MAX_VERDICTS = 1000

_METADATA = tuple(
    map(
        ip_network,
        (
            "169.254.0.0/16",  # link-local: AWS, Google Cloud, Azure, Oracle, DigitalOcean, and AWS's containers
            "fe80::/10",  # the same for IPv6
            "fd00:ec2::/32",  # AWS
            "fd20:ce::/32",  # Google Cloud
            "100.100.100.200/32",  # Alibaba Cloud
            "168.63.129.16/32",  # Azure's platform
            "192.0.0.192/32",  # Oracle Cloud
        ),
    )
)
_METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}
)
_LOOPBACK = tuple(map(ip_network, ("127.0.0.0/8", "::1/128")))
_PRIVATE = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10"))
)
_KINDS: tuple[tuple[Verdict, Sequence[Network]], ...] = (
    ("metadata", _METADATA),
    ("loopback", _LOOPBACK),
    ("private", _PRIVATE),
)
# Networks that `is_global` of some Python versions wrongly reports as public (RFC 6890 and the IANA registries).
_NOT_PUBLIC = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "2001::/23", "3fff::/20")))
_NAT64 = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48")))
_COMPATIBLE = ip_network("::/96")
_6TO4 = ip_network("2002::/16")
_TEREDO = ip_network("2001::/32")
_ISATAP = 0x5EFE

_SCHEMES = frozenset({"http", "https", "ws", "wss", "socks", "socks4", "socks4a", "socks5", "socks5h", "http+unix"})
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)


def verdict(address: Address) -> Verdict:
    """Return what kind of address this is. An IPv4 address inside an IPv6 address decides."""
    inner, is_tunnel = _inner(address) if isinstance(address, IPv6Address) else (None, False)
    if inner is not None:
        found = verdict(inner)
        return found if found == "metadata" or not is_tunnel else "unusable"
    for kind, networks in _KINDS:
        if _is_in(address, networks):
            return kind
    if address.is_multicast or address.is_reserved or address.is_unspecified or _is_in(address, _NOT_PUBLIC):
        return "unusable"
    return "public" if address.is_global else "unusable"


def _inner(address: IPv6Address) -> tuple[IPv4Address | None, bool]:
    """Return the IPv4 address that an IPv6 address leads to, and whether it does so through a tunnel."""
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped, False
    if _is_in(address, _NAT64):
        return low, False
    if address in _COMPATIBLE and int(address) > 1:
        return low, True
    if address in _6TO4:
        return IPv4Address((int(address) >> 80) & 0xFFFFFFFF), True
    if address in _TEREDO:
        return IPv4Address(int(low) ^ 0xFFFFFFFF), True
    if (int(address) >> 32) & 0xFDFFFFFF == _ISATAP:
        return low, True
    return None, False


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def literal_address(host: str) -> Address | None:
    """Return the address that a host is, in any form that operating systems read as one, or `None` for a name.

    IPv4 addresses may be written as one number, with fewer parts, in octal or in hexadecimal: `0xa9fea9fe` and
    `169.254.43518` are 169.254.169.254.
    """
    text = plain_host(host).partition("%")[0]
    try:
        return ip_address(text)
    except (AddressValueError, ValueError):
        pass
    try:
        return IPv4Address(socket.inet_aton(text)) if not re.search(r"\s", text) else None
    except (OSError, UnicodeError, ValueError):
        return None


def plain_host(host: str) -> str:
    """Return a host in lower case, without brackets, percent-encoding, and the full stop at its end.

    Digits and full stops of other scripts become those of ASCII, as resolvers and libraries have it.
    """
    text = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".").lower()
    return text.removeprefix("[").removesuffix("]").rstrip(".")


def _is_metadata_name(host: str) -> bool:
    return host in _METADATA_NAMES or any(host.endswith(f".{name}") for name in _METADATA_NAMES if "." in name)


class Networks:
    """The rules for the addresses of services.

    `allowed` are networks such as `10.0.0.0/8`, or `private` for all private networks. Raises `ConfigurationError` for
    one that is neither.
    """

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._allowed: list[Network] = []
        for text in allowed:
            if text.strip().lower() == "private":
                self._allowed += _PRIVATE
                continue
            try:
                self._allowed.append(ip_network(text.strip(), strict=False))
            except ValueError:
                raise ConfigurationError(
                    f"the gateway's setting allowed_networks has {text!r}: write networks such as 10.0.0.0/8, or "
                    "private for all private",
                    setting="allowed_networks",
                ) from None

    def problem(self, address: Address) -> str | None:
        """Return why an address is refused, as the rest of the sentence "… leads to …", or `None`."""
        found = verdict(address)
        if found == "metadata":
            return f"{address}, where clouds keep the credentials of this machine; this is always refused"
        if found in ("public", "loopback") or any(
            one in network for one in (address, _mapped(address)) if one is not None for network in self._allowed
        ):
            return None
        if found == "private":
            return f"the private address {address}; to allow it, add its network to the setting allowed_networks"
        return f"{address}, which is not an address of a server on the internet"

    async def host_problem(self, host: str) -> str | None:
        """Return why a host is refused, or `None`. A name is resolved; one that cannot be resolved is not refused."""
        plain = plain_host(host)
        address = literal_address(plain)
        if address is not None:
            return self.problem(address)
        if _is_metadata_name(plain):
            return f"{plain}, where clouds keep the credentials of this machine; this is always refused"
        for found in await _resolved(plain):
            problem = self.problem(found)
            if problem is not None:
                return problem
        return None

    async def url_problem(self, url: str) -> str | None:
        """Return why a URL is refused, or `None`. A URL that no request can be sent to is not refused."""
        try:
            parts = urlsplit(url.strip())
            host = parts.hostname
        except ValueError:
            return None
        if parts.scheme and parts.scheme not in _SCHEMES:
            return None
        if parts.scheme == "http+unix":
            return "a socket of this machine, which only a service in a file may use"
        return None if not host else await self.host_problem(host)

    async def check(self, settings: BaseSettings, *, service: str) -> None:
        """Check all URLs in the settings of a service, whose name is for errors, and of its extensions.

        Raises one `ConfigurationError` that lists every setting whose URL is refused.
        """
        errors: list[ConfigurationError] = []
        for name, url in _urls(settings):
            problem = await self.url_problem(url)
            if problem is not None:
                errors.append(setting_error(name, f"leads to {problem}", service=service))
        raise_config_errors(list({(error.setting, str(error)): error for error in errors}.values()))


class NetworkGuard:
    """An extension that checks the host of each request over HTTP before it is sent."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    @hookimpl(wrapper=True)
    def trunkline_transport(
        self, context: ServiceContext[Settings]
    ) -> Generator[None, Transport | None, Transport | None]:
        """Wrap the transport in use."""
        transport = yield
        return None if transport is None else _GuardedTransport(transport, self._networks)


class _GuardedTransport:
    def __init__(self, transport: Transport, networks: Networks) -> None:
        self._transport = transport
        self._networks = networks
        self._verdicts: dict[str, tuple[float, str | None]] = {}

    async def __aenter__(self) -> object:
        return await self._transport.__aenter__()

    async def __aexit__(self, *exc_info: object) -> bool | None:
        return await self._transport.__aexit__(*exc_info)

    def send(self, wire_request: WireRequest, options: SendOptions) -> AbstractAsyncContextManager[ByteStream]:
        return _GuardedSend(self, wire_request.url, self._transport.send(wire_request, options))

    async def problem(self, url: str) -> str | None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme not in _SCHEMES:  # nothing connects to it, as with a model in this process
            return None
        now = time.monotonic()
        known = self._verdicts.get(host)
        if known is None or now - known[0] > VERDICT_SECONDS:
            if len(self._verdicts) >= _MAX_VERDICTS:
                self._verdicts.clear()
            known = self._verdicts[host] = now, await self._networks.url_problem(url)
        return known[1]


class _GuardedSend(AbstractAsyncContextManager[ByteStream]):
    """The sending of one request, once its URL is allowed."""

    __slots__ = ("_inner", "_transport", "_url")

    def __init__(self, transport: _GuardedTransport, url: str, inner: AbstractAsyncContextManager[ByteStream]) -> None:
        self._transport = transport
        self._url = url
        self._inner = inner

    async def __aenter__(self) -> ByteStream:
        problem = await self._transport.problem(self._url)
        if problem is not None:
            raise ConfigurationError(f"the request was not sent: its URL leads to {problem}", problem="url")
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, traceback)


def _mapped(address: Address) -> IPv4Address | None:
    """Return the IPv4 address of which an IPv6 address is only another form."""
    inner, is_tunnel = _inner(address) if isinstance(address, IPv6Address) else (None, False)
    return None if is_tunnel else inner


async def _resolved(host: str) -> list[Address]:
    with anyio.move_on_after(RESOLVE_SECONDS):
        try:
            found = await anyio.to_thread.run_sync(_look_up, host, abandon_on_cancel=True)
        except (OSError, UnicodeError):
            return []
        return [ip_address(text.partition("%")[0]) for text in found]
    return []


def _look_up(host: str) -> list[str]:
    entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def _urls(settings: BaseSettings) -> Iterator[tuple[str, str]]:
    """Yield each URL in settings, with the name of the setting."""
    for info in setting_infos(type(settings)):
        value: object = getattr(settings, info.name)
        if isinstance(value, str) and info.base_url is not None:
            yield info.name, info.base_url(value)[0]
        for text in _texts(value):
            if _URL.match(text) and _scheme(text) in _SCHEMES:
                yield info.name, text
        for extension in value if isinstance(value, tuple) else ():
            if isinstance(extension, BaseSettings):
                yield from ((info.name, url) for _, url in _urls(extension))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, (str, Secret)):
        text = (value.reveal() if isinstance(value, Secret) else value).strip()
        yield text
        if text.startswith(("{", "[")):  # such as the key file of a service account
            with contextlib.suppress(ValueError, RecursionError):
                yield from _texts(json.loads(text))
    elif isinstance(value, (Mapping, Headers)):
        for item in dict(value).values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _scheme(url: str) -> str:
    scheme, colon, _ = url.partition(":")
    return scheme.lower() if colon and "/" not in scheme else "https"
