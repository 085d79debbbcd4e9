"""URLs as people paste them, and URLs without what is secret in them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

_AUTHORITY = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:)?//")
_SECRET_PARAMETER = re.compile(r"key|token|secret|pass|auth|sig|code|cred", re.IGNORECASE)
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_HOST = re.compile(r"^(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?)$")


def redact_url(url: str) -> str:
    """The URL without user information, query and fragment, any of which may hold a secret."""
    url = url.split("?", 1)[0].split("#", 1)[0]
    start = _start(url)
    return url[:start] + url[start + len(_user(url[start:])) :].removeprefix("@")


def _start(url: str) -> int:
    found = _AUTHORITY.match(url)
    return found.end() if found else 0


def _user(rest: str) -> str:
    authority = rest.partition("/")[0]
    if "@" not in authority and "@" in rest and re.search(r":(?!\d*$)", authority.rpartition("]")[2]):
        authority = rest  # no port: a password with a slash in it that nobody has encoded
    return authority.rpartition("@")[0]


def url_secrets(url: str) -> Iterator[str]:
    """What is secret in a URL: the user and the password, and the query's values whose names say that they are."""
    rest = url[_start(url) :]
    user = _user(re.split(r"[?#]", rest, maxsplit=1)[0])
    if user:
        yield unquote(user)  # as it stands, encoded, in `Authorization: Basic`
        name, _, password = user.partition(":")
        yield from (text for part in (password, name) for text in (part, unquote(part)) if part)
    for pair in rest.partition("#")[0].partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        if value and _SECRET_PARAMETER.search(unquote_plus(name)):
            yield from (value, unquote_plus(value))


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


def plain_http_note(base: str) -> str | None:
    """The warning for a key that would go over plain HTTP to another machine, or `None`."""
    url = urlsplit(base)
    if url.scheme != "http" or is_loopback(url.hostname or ""):
        return None
    return f"the API key goes to {url.hostname} over plain HTTP, where others can read it; use https"
