"""URLs as people paste them. Pure; what a provider takes off or adds is its own."""

from __future__ import annotations

import functools
import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit, urlunsplit

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_HOST = re.compile(r"^(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?)$")


def split_url(pasted: str) -> tuple[SplitResult, list[str]]:
    """A pasted URL with a scheme, and with neither a fragment nor slashes that mean nothing; and notes for a user.

    Spaces, quotes and slashes at the end go. A missing scheme is `https`, or `http` for this machine and for names and
    addresses of a private network with a port. A path and a query string stay. Raises `ValueError` for what is no URL.
    """
    text = pasted.strip().strip("'\"<>").strip()
    if not text or any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("a URL such as https://host, without spaces inside")
    if not _SCHEME.match(text):
        text = f"{_scheme_for(text)}://{text.removeprefix('//')}"
    url = _split(text)
    path = re.sub(r"/{2,}", "/", url.path).rstrip("/")
    notes = ["the fragment after '#' was taken off"] if url.fragment else []
    return url._replace(scheme=url.scheme.lower(), path=path, fragment=""), notes


@functools.lru_cache(maxsize=64)
def endpoint_url(base: str, path: str, query: str = "") -> str:
    """The URL of an endpoint (`/chat/completions`, say) under a base; the base's query string stays, before `query`."""
    url = urlsplit(base)
    query = "&".join(part for part in (url.query, query) if part)
    return urlunsplit(url._replace(path=url.path.rstrip("/") + path, query=query))


def endpoint_note(endpoint: str) -> str:
    """The note for an endpoint's path that was pasted with the rest."""
    return f"the endpoint's path {endpoint} was taken off: the setting is the root that all endpoints share"


def plain_http_note(base: str) -> str | None:
    """The warning for a key that would go over plain HTTP to another machine, or `None`."""
    url = urlsplit(base)
    if url.scheme != "http" or is_loopback(url.hostname or ""):
        return None
    return f"the API key goes to {url.hostname} over plain HTTP, where others can read it; use https"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or address."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _split(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError("a URL with a valid host and port") from None
    if url.scheme.lower() not in ("http", "https"):
        raise ValueError(f"a URL that begins with http:// or https://, not {url.scheme}://")
    bare = f"[{host}]" if host and ":" in host else host
    if not bare or ".." in bare or not _HOST.match(_ascii(bare)):
        raise ValueError("a URL with a host, such as https://host")
    return url


def _ascii(host: str) -> str:
    try:
        return host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        return ""


def _scheme_for(text: str) -> str:
    authority = re.split(r"[/?#]", text.removeprefix("//"), maxsplit=1)[0].rpartition("@")[2]
    host, colon, port = authority.rpartition(":")
    has_port = bool(colon) and port.isdigit()
    name = (host if has_port else authority).strip("[]").lower()
    if is_loopback(name):
        return "http"
    return "http" if has_port and _is_private(name) else "https"


def _is_private(host: str) -> bool:
    if "." not in host and ":" not in host:
        return True
    if host.endswith((".local", ".internal", ".lan", ".home.arpa")):
        return True
    try:
        return ip_address(host).is_private
    except ValueError:
        return False
