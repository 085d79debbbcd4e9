"""Tokens of Entra ID: acquired, kept until shortly before they expire, and acquired anew, once for all who wait."""

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
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireRequest
from trunkline.errors import AuthenticationError, TrunklineError

from trunkline_azure_openai.settings import AZURE_IDENTITY, AzureOpenAISettings, TokenCredential
from trunkline_azure_openai.tokens import Token, token_from

RETRY_EARLY = 30.0
"""After a failed renewal, how many seconds a token that is still good is used before the next attempt."""

_log = logging.getLogger("trunkline.azure_openai")
_JWT = re.compile(r"eyJ[\w-]{8,}(\.[\w-]*)*")


class TokenAuth:
    """An `Auth` that sends tokens as bearer tokens.

    A sync provider runs in a worker thread, since it may wait on the network. While one call renews a token before its
    time, the others go on with the one they have; where it has expired, all wait for the one renewal.
    """

    def __init__(self, context: ServiceContext[AzureOpenAISettings], *, now: Callable[[], float] = time.time) -> None:
        self._name = context.name
        self._provider = context.provider
        self._source = context.settings.token_provider
        self._scope = context.settings.scope
        self._now = now
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
        """Close the default credential, where one was made here."""
        own, self._own = self._own, None
        if own is not None:
            await anyio.to_thread.run_sync(own.close)

    async def acquire(self, *, refresh: bool = False) -> Token:
        """A token that is good for now. Raises `AuthenticationError` where the token provider gives none."""
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
        """The token in use and the one before it, to be scrubbed from errors."""
        return self._secrets

    async def _renew(self, *, refresh: bool) -> None:
        self._failure = None
        try:
            self._token = token_from(await self._ask(), self._now())
            self._secrets = (self._token.value, *self._secrets[:1])
        except Exception as error:  # a token provider is the application's: it may raise anything
            token, now = self._token, self._now()
            if refresh or token is None or now >= token.expires_on:
                self._failure = error
                return
            left = token.expires_on - now
            _log.warning("service %r: no new token (%s); the old one is good for %d s", self._name, _say(error), left)
            self._token = attrs.evolve(token, refresh_on=min(now + RETRY_EARLY, token.expires_on))

    async def _ask(self) -> object:
        source = self._source
        if source == AZURE_IDENTITY and self._own is None:
            self._own = await anyio.to_thread.run_sync(_default_credential)
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
            # Wrapped, since trio refuses a thread that gives an awaitable.
            [value] = await anyio.to_thread.run_sync(lambda: [ask()], abandon_on_cancel=True)
        return await value if inspect.isawaitable(value) else value

    def _error(self, cause: Exception) -> TrunklineError:
        # Each of those who waited gets an error of its own: one shared by many would grow its traceback.
        error = AuthenticationError(f"the token provider gave no token: {_say(cause)}", provider=self._provider)
        if not _JWT.search(str(cause)):
            error.__cause__ = cause
        return error


def _is_async(ask: Callable[[], object]) -> bool:
    return inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(getattr(ask, "__call__", None))  # noqa: B004


def _default_credential() -> TokenCredential:
    # Imported in the worker thread as well: it takes long.
    from azure.identity import DefaultAzureCredential

    credential: TokenCredential = DefaultAzureCredential()
    return credential


def _say(error: Exception) -> str:
    text = _JWT.sub("***", " ".join(str(error).split()))[:500]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
