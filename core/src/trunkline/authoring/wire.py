"""HTTP requests and responses as plain values."""

from __future__ import annotations

import attrs

from trunkline._urls import redact_url
from trunkline.secrets import Headers, HeaderValues


class LowerHeaders(Headers):
    """Headers whose names are in lower case already; the creator promises that, and nothing checks it."""

    __slots__ = ()


def _lower(headers: HeaderValues) -> LowerHeaders:
    if type(headers) is LowerHeaders:
        return headers
    return LowerHeaders({name.lower(): value for name, value in headers.items()})


@attrs.frozen(kw_only=True)
class WireRequest:
    """An HTTP request. Names of headers are converted to lower case. `repr` shows no header values and no body."""

    method: str = "POST"
    url: str = attrs.field(repr=redact_url)
    headers: Headers = attrs.field(converter=_lower, factory=Headers, repr=lambda value: str(sorted(value)))
    body: bytes = attrs.field(default=b"", repr=lambda value: f"<{len(value)} bytes>")

    def with_headers(self, headers: HeaderValues) -> WireRequest:
        """Return a copy of the request with `headers` added. Headers with the same names are replaced."""
        if not headers:
            return self
        combined = LowerHeaders({**self.headers, **_lower(headers)})
        return WireRequest(method=self.method, url=self.url, headers=combined, body=self.body)


@attrs.frozen(kw_only=True)
class WireResponse:
    """A complete HTTP response. Names of headers are converted to lower case; the body is decompressed."""

    status: int
    headers: Headers = attrs.field(converter=_lower, factory=Headers, repr=lambda value: str(sorted(value)))
    body: bytes = attrs.field(default=b"", repr=lambda value: f"<{len(value)} bytes>")
