"""Plain HTTP values: what goes on the wire and what comes back. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


def redact_url(url: str) -> str:
    """The URL without user information, query and fragment, any of which may hold a secret."""
    scheme, separator, rest = url.partition("://")
    rest = rest.split("?", 1)[0].split("#", 1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@attrs.frozen(kw_only=True)
class WireRequest:
    """An HTTP request before I/O. Header names are in lower case. Its `repr` shows no header values and no body."""

    method: str = "POST"
    url: str = attrs.field(repr=redact_url)
    headers: Mapping[str, str] = attrs.field(converter=_lower, factory=dict, repr=lambda value: str(sorted(value)))
    body: bytes = attrs.field(default=b"", repr=lambda value: f"<{len(value)} bytes>")

    def with_headers(self, headers: Mapping[str, str]) -> WireRequest:
        """The same request with `headers` added; one that is there already is replaced."""
        return attrs.evolve(self, headers={**self.headers, **_lower(headers)})


@attrs.frozen(kw_only=True)
class WireResponse:
    """A whole HTTP response after I/O. Header names are in lower case; the body is decompressed."""

    status: int
    headers: Mapping[str, str] = attrs.field(converter=_lower, factory=dict, repr=lambda value: str(sorted(value)))
    body: bytes = attrs.field(default=b"", repr=lambda value: f"<{len(value)} bytes>")
