"""The `Auth` of a service: the secrets that it acquires, and the headers of the trace that it sends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from weakref import ref

from opentelemetry.propagate import inject
from trunkline import Secret, ServiceContext, Settings
from trunkline.authoring.provider import Auth
from trunkline.authoring.wire import WireRequest


class _Auths:
    """The `Auth` of each event loop in which a service is used, as long as it exists."""

    def __init__(self) -> None:
        self._kept: list[Callable[[], Auth | None]] = []

    def add(self, auth: Auth) -> None:
        try:
            kept: Callable[[], Auth | None] = ref(auth)
        except TypeError:  # a class whose slots have no place for weak references
            kept = lambda: auth  # noqa: E731
        self._kept = [*(one for one in self._kept if one() is not None), kept]

    def __iter__(self) -> Iterator[Auth]:
        return (auth for kept in self._kept if (auth := kept()) is not None)


def keep_auth(context: ServiceContext[Settings], auth: Auth) -> None:
    """Remember an `Auth` of a service, whose secrets must not be in the content of a span."""
    context.keep(_Auths, _Auths).add(auth)


def service_secrets(context: ServiceContext[Settings]) -> Iterator[str]:
    """Yield the secrets of the settings of a service, and those that it has acquired, such as tokens."""
    yield from context.settings.secrets()
    for auth in context.keep(_Auths, _Auths):
        for secret in auth.secrets:
            yield secret.reveal() if isinstance(secret, Secret) else secret


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
