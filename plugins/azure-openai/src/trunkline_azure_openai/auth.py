"""Tokens of Entra ID: acquire one, use it until shortly before it expires, and renew it once for all waiting calls.

The life of a token, where `refresh_on` is some minutes before `expires_on`:

    until refresh_on            every call uses it
    until expires_on            one call renews it; the others still use it
    after expires_on            all calls wait for the one that renews it
    refused with 401            all calls that were refused wait for one renewal

A lock allows one renewal at a time. A call that waited for the lock compares `_renewals` with the value from before: if
another call has renewed the token meanwhile, it takes that result, a failure included, instead of asking again. So a
token provider that is down is asked once for all waiting calls, not once for each of them in turn.
"""

from __future__ import annotations

import inspect
import logging
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import attrs
from trunkline.authoring.auth import KEPT_SECRETS
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireRequest
from trunkline.errors import AuthenticationError, TrunklineError
from trunkline.secrets import scrub

from trunkline_azure_openai.settings import AZURE_IDENTITY, AzureOpenAISettings, TokenCredential
from trunkline_azure_openai.tokens import Token, token_from

RETRY_EARLY = 30.0
"""Seconds until the next attempt after a failed renewal, while the old token is still valid."""

_log = logging.getLogger("trunkline.azure_openai")
_JWT = re.compile(r"eyJ[\w-]{8,}(\.[\w-]*)*")


class TokenAuth:
    """An `Auth` that gets tokens from the setting `token_provider` and sends them as bearer tokens.

    A sync token provider runs in a worker thread, because it may block on the network.

    Renewing the token, with any number of calls at once:

    - Before `refresh_on`, `acquire` returns the token without the lock.
    - Between `refresh_on` and `expires_on`, the first call takes the lock and renews the token. Calls that find the
      lock taken use the old token, which is still valid. If the renewal fails, the old token stays, and the next
      attempt is made after `RETRY_EARLY` seconds.
    - If the token has expired, there is none yet, or a request was refused (`refresh=True`), every call waits for the
      lock. `_renewals` counts the renewals that have ended. A call that finds another number than before it waited does
      not ask again: it takes the new token, or raises the failure.

    The times of a token are converted to the monotonic clock when it arrives, so a wall clock that is set afterwards
    changes nothing. Linux stops the monotonic clock while the machine sleeps. A token that has expired meanwhile is
    refused with 401 and then renewed once.

    A call that is cancelled while it renews the token releases the lock without counting, so the next call in line
    renews it instead.
    """

    def __init__(
        self,
        context: ServiceContext[AzureOpenAISettings],
        *,
        now: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = context.name
        self._provider = context.provider
        self._source = context.settings.token_provider
        self._scope = context.settings.scope
        self._known = context.settings.secrets()
        self._now = now
        self._wall_clock = wall_clock
        self._lock = anyio.Lock()
        self._token: Token | None = None
        self._renewals = 0
        self._failure: Exception | None = None
        self._secrets: tuple[str, ...] = ()
        self._own: Any = None

    def __repr__(self) -> str:
        return f"<TokenAuth of {self._name!r}>"

    async def __aenter__(self) -> TokenAuth:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the default credential, if this object created it."""
        own, self._own = self._own, None
        if own is not None:
            await anyio.to_thread.run_sync(own.close, abandon_on_cancel=True)

    async def acquire(self, *, refresh: bool = False) -> Token:
        """Return a valid token. Raises `AuthenticationError` if the token provider fails."""
        token, now = self._token, self._now()
        if token is not None and not refresh:
            renewing = self._lock.locked()
            if now < token.refresh_on or (now < token.expires_on and renewing):
                return token
        renewals = self._renewals
        async with self._lock:
            if renewals == self._renewals:
                await self._renew(refresh=refresh)
                self._renewals += 1
            if self._failure is not None:
                raise self._error(self._failure)
            assert self._token is not None
            return self._token

    def sign(self, wire_request: WireRequest, credentials: Token) -> WireRequest:
        """The request with the token."""
        return wire_request.with_headers({"authorization": f"Bearer {credentials.value}"})

    @property
    def secrets(self) -> tuple[str, ...]:
        """The last tokens, to be removed from errors."""
        return self._secrets

    async def _renew(self, *, refresh: bool) -> None:
        self._failure = None
        try:
            self._token = token_from(await self._ask(), self._wall_clock()).on_clock(self._now() - self._wall_clock())
            self._secrets = (self._token.value, *self._secrets[: KEPT_SECRETS - 1])
        except Exception as error:  # the token provider is the application's code, which may raise anything
            token, now = self._token, self._now()
            if refresh or token is None or now >= token.expires_on:
                self._failure = error
                return
            left = token.expires_on - now
            _log.warning(
                "service %r: renewing the token failed (%s); the old token is valid for %d s",
                self._name,
                scrub(_describe(error), (*self._known, *self._secrets)),
                left,
            )
            self._token = attrs.evolve(token, refresh_on=min(now + RETRY_EARLY, token.expires_on))

    async def _ask(self) -> object:
        source = self._source
        if source == AZURE_IDENTITY and self._own is None:
            self._own = await anyio.to_thread.run_sync(_default_credential, abandon_on_cancel=True)
        if source == AZURE_IDENTITY:
            source = self._own
        ask: Callable[[], object]
        if isinstance(source, TokenCredential):
            ask = partial(source.get_token, self._scope)
        else:
            assert callable(source)
            ask = source
        if _is_async(ask):
            value = ask()
        else:
            # In a list, because trio does not allow a thread to return an awaitable.
            [value] = await anyio.to_thread.run_sync(lambda: [ask()], abandon_on_cancel=True)
        return await value if inspect.isawaitable(value) else value

    def _error(self, cause: Exception) -> TrunklineError:
        # Each waiting call gets its own error. If they shared one, each `raise` would lengthen its traceback.
        error = AuthenticationError(f"the token provider failed: {_describe(cause)}", provider=self._provider)
        if not _JWT.search(str(cause)):
            error.__cause__ = cause
        return error


def _is_async(ask: Callable[[], object]) -> bool:
    return inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(getattr(ask, "__call__", None))  # noqa: B004


def _default_credential() -> TokenCredential:
    # Called in a worker thread, because the import alone blocks for long.
    from azure.identity import DefaultAzureCredential

    credential: TokenCredential = DefaultAzureCredential()
    return credential


def _describe(error: Exception) -> str:
    text = _JWT.sub("***", " ".join(str(error).split()))[:500]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
