"""Fetch tokens, cache them, and renew them shortly before they expire, once for all waiting calls."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Self

import anyio
from trunkline import ConnectionFailed, ProtocolViolation, RemoteError, ServiceContext, Settings
from trunkline.authoring.provider import SendOptions
from trunkline.authoring.wire import WireRequest, WireResponse

from trunkline_acme.tokens import ClientCredentials, Token

TIMEOUT = 10.0
"""The time limit for one token request, in seconds."""

SIZE_LIMIT = 64 * 1024
"""The largest response to accept from the token endpoint, in bytes."""


class TokenAuth:
    """An `Auth` that sends Acme's tokens as bearer tokens.

    A token is renewed before it expires: one call does so while the others keep using the old token. If there is no
    usable token, all calls wait for one token request and share its result or its error.
    """

    def __init__(
        self,
        grant: ClientCredentials,
        context: ServiceContext[Settings],
        *,
        now: Callable[[], float] = time.monotonic,
        timeout: float = TIMEOUT,
    ) -> None:
        self._grant = grant
        self._context = context
        self._now = now
        self._timeout = timeout
        self._lock = anyio.Lock()
        self._requests = 0
        self._token: Token | None = None
        self._failure: RemoteError | None = None
        self._secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<TokenAuth of {self._context.name!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets that the core removes from errors: the client's secret, the current token and the one before it."""
        return (*self._grant.secrets, *self._secrets)

    async def acquire(self, *, refresh: bool = False) -> str:
        """Return a usable token. Raises `RemoteError` if the token endpoint returns none."""
        if not refresh and (token := self._usable(renewing=self._lock.locked())):
            return token
        seen = self._requests
        async with self._lock:
            if seen == self._requests:  # otherwise another call requested one while this call waited for the lock
                await self._fetch()
            if self._failure is None and self._token is not None:
                return self._token.value
            if not refresh and (token := self._usable(renewing=True)):
                return token  # the renewal failed, but the old token is still valid; the next call tries again
            assert self._failure is not None
            # Each call gets its own copy: raising a shared exception would add to its traceback every time.
            raise copy.copy(self._failure)

    def sign(self, wire_request: WireRequest, credentials: str) -> WireRequest:
        """Return the request with the token in its header."""
        return wire_request.with_headers({"authorization": f"Bearer {credentials}"})

    def _usable(self, *, renewing: bool) -> str | None:
        token = self._token
        if token is None:
            return None
        return token.value if self._now() < (token.expires_at if renewing else token.renew_at) else None

    async def _fetch(self) -> None:
        try:
            response = await self._send(self._grant.request())
            token = self._grant.token(response, now=self._now(), provider=self._context.provider)
        except RemoteError as error:
            self._failure = error.with_traceback(None)
        else:
            self._token, self._failure = token, None
            self._secrets = (token.value, *self._secrets[:1])
        self._requests += 1  # not reached if the request was cancelled; the next call in the queue then sends it

    async def _send(self, wire_request: WireRequest) -> WireResponse:
        # The service's own transport follows no redirects, keeps no cookies, logs no secrets and raises the core's
        # errors, so a token endpoint that cannot be reached is retried like the provider itself.
        transport = self._context.transport
        assert transport is not None
        options = SendOptions(connect=self._context.settings.connect_timeout, headers=self._timeout)
        body = b""
        with anyio.move_on_after(self._timeout):
            async with transport.send(wire_request, options) as response:
                async for chunk in response:
                    body += chunk
                    if len(body) > SIZE_LIMIT:
                        message = f"the token endpoint's response is larger than {SIZE_LIMIT} bytes"
                        raise ProtocolViolation(message)
                return WireResponse(status=response.status, headers=response.headers, body=body)
        raise ConnectionFailed(f"the token endpoint did not respond within {self._timeout:g} s")
