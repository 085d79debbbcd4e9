"""Which proxy a request goes through: that of the settings, or those of the environment with `NO_PROXY`.

The environment is read as curl and Go read it (golang.org/x/net/http/httpproxy); `test_core_proxies.py` has a table.
Where the two differ:

- A variable in lower case takes precedence, as in curl, unless it is blank. `HTTP_PROXY` in capitals is used as well,
  as in Go, but not where `REQUEST_METHOD` is set: there, a client of a CGI program may have set it.
- Proxies of the environment are not used for `localhost` and its subdomains, as in Go. They are used for addresses
  such as 127.0.0.1 that `NO_PROXY` does not list, as in curl.
- `.example.com` in `NO_PROXY` matches the domain itself as well, as in curl. `*.example.com`, which only Go has,
  matches its subdomains only.
- Entries may have ports, as in Go, and may be separated by spaces and line breaks, as in older versions of curl.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import attrs

from trunkline._setting_types import is_blank
from trunkline._urls import ascii_host, proxy_url, redact_url, url_secrets
from trunkline.errors import ConfigurationError


@attrs.frozen(kw_only=True)
class Proxy:
    """A proxy, and where it is configured."""

    url: str = attrs.field(repr=redact_url)
    origin: str
    """The setting or the environment variable, in words."""
    setting: str | None
    """The name of the setting, if it is one."""

    def __str__(self) -> str:
        return f"the proxy {redact_url(self.url)} ({self.origin})"

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS5."""
        return self.url.startswith("socks")

    @property
    def login(self) -> tuple[str, str] | None:
        """The user name and the password in the URL."""
        parts = urlsplit(self.url)
        return None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))


class Proxies:
    """The proxy for each address. The environment is read once, when the object is created."""

    def __init__(self, configured: str | None) -> None:
        self._configured = None if configured is None else _proxy(configured, "setting 'proxy'", "proxy")
        self._environment = {} if configured is not None else _environment()
        direct, _ = self._environment.get("no", ("", ""))
        self._direct = [_NoProxyEntry.read(entry) for entry in re.split(r"[,\s]+", direct) if entry]

    def find(self, scheme: str, host: str, port: int) -> Proxy | None:
        """Return the proxy for requests to an address, or `None`. Raises `ConfigurationError` for one that is unusable.

        A wrong variable of the environment is an error only if a request would go through that proxy.
        """
        if self._configured is not None:
            return self._configured
        kind = self._kind(scheme)
        if kind is None or _is_localhost(host) or self._is_direct(host, port):
            return None
        return _proxy(*self._environment[kind], None)

    def bypasses(self, scheme: str, host: str, port: int) -> bool:
        """Return whether the environment has a proxy for an address, but `NO_PROXY` excludes the address from it."""
        return self._kind(scheme) is not None and self._is_direct(host, port)

    def _kind(self, scheme: str) -> str | None:
        return next((kind for kind in (scheme, "all") if kind in self._environment), None)

    def _is_direct(self, host: str, port: int) -> bool:
        return any(entry.matches(_plain(host), port) for entry in self._direct)


def _is_localhost(host: str) -> bool:
    name = _plain(host)
    return name == "localhost" or name.endswith(".localhost")


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _proxy(text: str, origin: str, setting: str | None) -> Proxy:
    try:
        url = proxy_url(text)
    except ValueError as error:
        raise ConfigurationError(f"{origin} must be {error}", setting=setting) from None
    if url.startswith("socks") and find_spec("socksio") is None:
        raise ConfigurationError(
            f"{origin}: a SOCKS proxy needs a package: pip install 'trunkline[socks]'", setting=setting
        )
    return Proxy(url=url, origin=origin, setting=setting)


@attrs.frozen
class _NoProxyEntry:
    """An entry of `NO_PROXY`: a host with its subdomains, an address or a network, all with an optional port."""

    host: str
    port: int | None
    only_subdomains: bool

    @classmethod
    def read(cls, entry: str) -> _NoProxyEntry:
        entry = entry.partition("://")[2] or entry
        bracketed = re.fullmatch(r"\[(.*)\](/\d+)?(?::(\d+))?", entry)
        if bracketed:
            host, port = bracketed[1] + (bracketed[2] or ""), bracketed[3]
        elif entry.count(":") == 1:
            host, _, port = entry.partition(":")
        else:  # without a colon, or an IPv6 address
            host, port = entry, None
        if port and not re.fullmatch("[0-9]{1,5}", port):
            host, port = "", None  # no address has such a port, so the entry matches nothing
        name = host.lower().removeprefix("*.").strip(".")
        if "*" in name and host != "*":
            name = ""  # such as `*.*`: no host has such a name
        return cls(ascii_host(name) or name, int(port) if port else None, host.startswith("*."))

    def matches(self, host: str, port: int) -> bool:
        if self.port is not None and port != self.port:
            return False
        try:
            address = ip_address(host)
        except ValueError:
            if self.host == "*" or (host == self.host and not self.only_subdomains):
                return True
            return bool(self.host) and host.endswith(f".{self.host}")
        if self.host == "*":
            return True
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        try:
            return (mapped or address) in ip_network(self.host, strict=False)
        except ValueError:
            return False


def _environment() -> dict[str, tuple[str, str]]:
    """Return the proxies by scheme, and the list of `NO_PROXY` as `no`, each with its origin in words.

    A blank variable is one that is not set: the one in capitals is used then.
    """
    variables = dict(os.environ)  # on Windows, all names are in capitals
    if "REQUEST_METHOD" in variables:
        variables.pop("HTTP_PROXY", None)
    found = {
        kind: (variables[name], f"environment variable {name}")
        for kind in ("http", "https", "all", "no")
        for name in (f"{kind}_proxy".upper(), f"{kind}_proxy")  # the second one wins
        if not is_blank(variables.get(name, ""))
    }
    return found or {kind: (url, "the system's settings") for kind, url in getproxies().items() if not is_blank(url)}


def environment_secrets() -> tuple[str, ...]:
    """Return the secrets in the URLs of the environment's proxies."""
    return tuple(secret for url, _ in _environment().values() for secret in url_secrets(url))


def environment_proxies() -> bool:
    """Whether the environment sets a proxy for any address."""
    return not _environment().keys().isdisjoint(("http", "https", "all"))
