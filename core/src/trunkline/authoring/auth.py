"""Authentication with an API key, and without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trunkline.authoring.wire import WireRequest
from trunkline.secrets import Headers, HeaderValues, Secret

if TYPE_CHECKING:
    from trunkline.authoring.provider import Auth


class NoAuth:
    """An `Auth` for providers without authentication."""

    async def __aenter__(self) -> NoAuth:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    @property
    def secrets(self) -> tuple[str, ...]:
        """No secrets."""
        return ()

    async def acquire(self, *, refresh: bool = False) -> None:
        """Do nothing: there are no credentials."""

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        """Return the request unchanged."""
        return wire_request


class HeaderAuth(NoAuth):
    """An `Auth` that sends a key in a header, after `prefix` (for example `Bearer `)."""

    def __init__(self, header: str, value: str, *, prefix: str = "") -> None:
        self._headers = Headers({header: prefix + value})
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"HeaderAuth({next(iter(self._headers))!r})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The key, and the whole value of the header."""
        [(_, value)] = self._headers.items()
        return (value.removeprefix(self._prefix), value)

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        """Return the request with the header."""
        return wire_request.with_headers(self._headers)


def key_auth(key: Secret | None, header: str, *, headers: HeaderValues, prefix: str = "") -> Auth:
    """Return the `Auth` that sends an API key in `header` (in lower case), after `prefix`.

    It adds nothing if there is no key, or if the settings' own `headers` contain that header or `Authorization`: a
    gateway may have its own way to authenticate, and APIs refuse requests that authenticate twice.
    """
    if key is None or any(name.lower() in (header, "authorization") for name in headers):
        return NoAuth()
    return HeaderAuth(header, key.reveal(), prefix=prefix)
