"""Sends the headers of the trace, such as `traceparent`, with each request."""

from __future__ import annotations

from opentelemetry.propagate import inject
from trunkline import Secret
from trunkline.authoring.provider import Auth
from trunkline.authoring.wire import WireRequest


class PropagatingAuth:
    """An `Auth` that adds the headers of the trace to what another one has signed.

    They are added after signing, and are not part of a signature: a proxy on the way may change them.
    """

    def __init__(self, auth: Auth) -> None:
        self._auth = auth

    @property
    def secrets(self) -> tuple[str | Secret, ...]:
        """None of its own."""
        return ()

    async def __aenter__(self) -> object:
        return await self._auth.__aenter__()

    async def __aexit__(self, *exc_info: object) -> bool | None:
        return await self._auth.__aexit__(*exc_info)

    async def acquire(self, *, refresh: bool = False) -> object:
        """Return the credentials of the other `Auth`."""
        return await self._auth.acquire(refresh=refresh)

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        """Return the signed request with the headers of the current span."""
        headers: dict[str, str] = {}
        inject(headers)
        # Baggage is what an application tells its own services, such as the id of a user. A provider is not one.
        headers = {name: value for name, value in headers.items() if name.lower() != "baggage"}
        return self._auth.sign(wire_request, credentials).with_headers(headers)
