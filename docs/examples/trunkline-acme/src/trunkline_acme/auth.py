"""Tokens: fetched, kept until shortly before their end, and fetched anew, once for all calls that wait."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Self

import anyio
from trunkline import ConnectionFailed, ProtocolViolation, RemoteError, ServiceContext, Settings
from trunkline.authoring.provider import Timeouts
from trunkline.authoring.wire import WireRequest, WireResponse

from trunkline_acme.tokens import ClientCredentials, Token

LONGEST = 10.0
"""Seconds that one exchange may take."""

LARGEST = 64 * 1024
"""Bytes that the answer of the token endpoint may have."""


class TokenAuth:
    """An `Auth` that sends Acme's tokens as bearer tokens.

    Renewing begins before a token ends: one call does it, while others go on with the token that is there. Where there
    is none, all wait for the one exchange, and share its failure.
    """

    def __init__(
        self,
        grant: ClientCredentials,
        context: ServiceContext[Settings],
        *,
        now: Callable[[], float] = time.monotonic,
        longest: float = LONGEST,
    ) -> None:
        self._grant = grant
        self._context = context
        self._now = now
        self._longest = longest
        self._lock = anyio.Lock()
        self._exchanges = 0
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
        """What the core takes out of errors: the client's secret, the token in use and the one before it."""
        return (*self._grant.secrets, *self._secrets)

    async def acquire(self, *, refresh: bool = False) -> str:
        """A token that is good for now. Raises `RemoteError` where the token endpoint gives none."""
        if not refresh and (token := self._usable(renewing=self._lock.locked())):
            return token
        seen = self._exchanges
        async with self._lock:
            if seen == self._exchanges:  # else another call has done it while this one waited
                await self._exchange()
            if self._failure is None and self._token is not None:
                return self._token.value
            if not refresh and (token := self._usable(renewing=True)):
                return token  # renewing it failed, but it lives: the next call tries again
            assert self._failure is not None
            # An error of each call's own: one that is shared by many would grow its traceback.
            raise copy.copy(self._failure)

    def sign(self, wire_request: WireRequest, credentials: str) -> WireRequest:
        """The request with the token."""
        return wire_request.with_headers({"authorization": f"Bearer {credentials}"})

    def _usable(self, *, renewing: bool) -> str | None:
        token = self._token
        if token is None:
            return None
        return token.value if self._now() < (token.ends_at if renewing else token.renew_at) else None

    async def _exchange(self) -> None:
        try:
            answer = await self._ask(self._grant.request())
            token = self._grant.token(answer, now=self._now(), provider=self._context.provider)
        except RemoteError as error:
            self._failure = error.with_traceback(None)
        else:
            self._token, self._failure = token, None
            self._secrets = (token.value, *self._secrets[:1])
        self._exchanges += 1  # not where the exchange was cancelled: the next in the queue then does it

    async def _ask(self, wire_request: WireRequest) -> WireResponse:
        # The service's transport follows no redirect, keeps no cookie, logs no secret, and raises the core's errors, so
        # that an endpoint that cannot be reached is asked again like the provider itself.
        transport = self._context.transport
        assert transport is not None
        timeouts = Timeouts(connect=self._context.settings.connect_timeout, headers=self._longest)
        body = b""
        with anyio.move_on_after(self._longest):
            async with transport.send(wire_request, timeouts) as answer:
                async for chunk in answer:
                    body += chunk
                    if len(body) > LARGEST:
                        raise ProtocolViolation("the answer of the token endpoint is no token: it is too large")
                return WireResponse(status=answer.status, headers=answer.headers, body=body)
        raise ConnectionFailed(f"the token endpoint gave no answer within {self._longest:g} s")
