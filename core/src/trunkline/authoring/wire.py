"""Plain HTTP values: what goes on the wire and what comes back. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from trunkline._urls import redact_url
from trunkline.secrets import Headers


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
