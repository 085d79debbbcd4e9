"""Plain HTTP values: what goes on the wire and what comes back. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, unquote_plus

import attrs

from trunkline.secrets import Headers

_AUTHORITY = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:)?//")
_SECRET_PARAMETER = re.compile(r"key|token|secret|pass|auth|sig|code|cred", re.IGNORECASE)


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


class LowerHeaders(Headers):
    """Headers whose names are in lower case already, by the word of who makes them."""

    __slots__ = ()


def _lower(headers: Mapping[str, str]) -> LowerHeaders:
    if type(headers) is LowerHeaders:
        return headers
    return LowerHeaders({name.lower(): value for name, value in headers.items()})


@attrs.frozen(kw_only=True)
class WireRequest:
    """An HTTP request before I/O. Header names are in lower case. Its `repr` shows no header values and no body."""

    method: str = "POST"
    url: str = attrs.field(repr=redact_url)
    headers: Mapping[str, str] = attrs.field(converter=_lower, factory=Headers, repr=lambda value: str(sorted(value)))
    body: bytes = attrs.field(default=b"", repr=lambda value: f"<{len(value)} bytes>")

    def with_headers(self, headers: Mapping[str, str]) -> WireRequest:
        """The same request with `headers` added; one that is there already is replaced."""
        if not headers:
            return self
        told = LowerHeaders({**self.headers, **_lower(headers)})
        return WireRequest(method=self.method, url=self.url, headers=told, body=self.body)


@attrs.frozen(kw_only=True)
class WireResponse:
    """A whole HTTP response after I/O. Header names are in lower case; the body is decompressed."""

    status: int
    headers: Mapping[str, str] = attrs.field(converter=_lower, factory=Headers, repr=lambda value: str(sorted(value)))
    body: bytes = attrs.field(default=b"", repr=lambda value: f"<{len(value)} bytes>")
