"""Tokens of Entra ID: `CachedToken` of the core keeps them; this module asks the token provider for them."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from functools import partial
from time import time as wall_clock
from typing import Any

import anyio.to_thread
from trunkline.authoring.auth import CachedToken, Token
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import AuthenticationError

from trunkline_azure_openai.credentials import AZURE_IDENTITY, TokenCredential, TokenSettings
from trunkline_azure_openai.tokens import token_from
from trunkline_azure_openai.urls import PUBLIC

MARGIN = 300.0
"""Seconds before its expiry at which a token is renewed; at most half of its life."""

TIMEOUT = 300.0
"""The longest time for one token, in seconds. For some credentials, a person has to log in with a browser."""

_JWT = re.compile(r"eyJ[\w-]{8,}(\.[\w-]*)*")


class TokenAuth(CachedToken):
    """An `Auth` that gets tokens from the setting `token_provider` and sends them as bearer tokens.

    A sync token provider runs in a worker thread, because it may block on the network. `acquire` raises
    `AuthenticationError` if the token provider fails.

    The times of a token are converted to the monotonic clock when it arrives, so a wall clock that is set afterwards
    changes nothing. Linux stops the monotonic clock while the machine sleeps. A token that has expired meanwhile is
    refused with 401 and then renewed once.
    """

    def __init__(self, context: ServiceContext[Any]) -> None:
        settings: TokenSettings = context.settings
        super().__init__(self._token_of_provider, margin=MARGIN, timeout=TIMEOUT)
        self._name = context.name
        self._provider = context.provider
        self._source = settings.token_provider
        self._scope = settings.token_scope
        self._authority = settings.token_authority
        self._own: Any = None

    def __repr__(self) -> str:
        return f"<TokenAuth of {self._name!r}>"

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the default credential, if this object created it."""
        own, self._own = self._own, None
        if own is not None:
            await anyio.to_thread.run_sync(own.close, abandon_on_cancel=True)

    async def _token_of_provider(self) -> Token:
        try:
            return token_from(await self._ask(), wall_clock())
        except Exception as error:  # the token provider is the application's code, which may raise anything
            failed = AuthenticationError(f"the token provider failed: {_describe(error)}", provider=self._provider)
            if not _JWT.search(str(error)):
                failed.__cause__ = error
        raise failed

    async def _ask(self) -> object:
        source = self._source
        if source == AZURE_IDENTITY and self._own is None:
            self._own = await anyio.to_thread.run_sync(_default_credential, self._authority, abandon_on_cancel=True)
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


def _is_async(ask: Callable[[], object]) -> bool:
    return inspect.iscoroutinefunction(ask) or inspect.iscoroutinefunction(getattr(ask, "__call__", None))  # noqa: B004


def _default_credential(authority: str) -> TokenCredential:
    # Called in a worker thread, because the import alone blocks for long.
    from azure.identity import DefaultAzureCredential

    # azure-identity reads this variable itself. Its own default is the public cloud.
    options = (
        {} if authority == PUBLIC.authority or os.environ.get("AZURE_AUTHORITY_HOST") else {"authority": authority}
    )
    credential: TokenCredential = DefaultAzureCredential(**options)
    return credential


def _describe(error: Exception) -> str:
    text = _JWT.sub("***", " ".join(str(error).split()))[:500]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
