"""An `Auth` with tokens that passes `AuthTests`, unless a subclass of its test plants a bug in it."""

from __future__ import annotations

import math
from base64 import b64encode
from typing import ClassVar

import anyio
import attrs
import pytest
from kit_toy import TOY, ToySettings
from trunkline.authoring import auth as core_auth
from trunkline.authoring.auth import CachedToken, NoAuth, Token, fetch_response
from trunkline.authoring.http_errors import status_error
from trunkline.authoring.json import as_number, as_object, as_string, decode_object
from trunkline.authoring.provider import Auth, SendOptions, ServiceContext
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import RemoteError
from trunkline.secrets import Headers
from trunkline.testing import AuthTests, canary

BUG = ""


def exchange_of(context: ServiceContext[ToySettings]) -> WireRequest:
    login = b64encode(f"reports:{context.settings.api_key.reveal()}".encode()).decode()
    return WireRequest(url=f"{context.settings.url}/token", headers={"authorization": f"Basic {login}"})


def token_in(response: WireResponse) -> Token:
    if response.status != 200 and BUG != "status_ignored":
        message = response.body.decode()
        raise status_error(message, provider="toy", status=response.status, headers=response.headers)
    data = as_object(decode_object(response.body, "the token", provider="toy"))
    if BUG == "fragile":
        return Token(data["access_token"], data["expires_in"])
    return Token(as_string(data.get("access_token")) or "", as_number(data.get("expires_in")))


class OwnAuth(NoAuth):
    """An `Auth` as somebody writes it without `CachedToken`."""

    def __init__(self, context: ServiceContext[ToySettings]) -> None:
        self._context = context
        self._lock = anyio.Lock()
        self._token: str | None = None
        self._tokens: list[str] = []
        self._failure: RemoteError | None = None
        self._expires_at = -math.inf
        self._done: anyio.Event | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(self._tokens[-1:] if BUG == "forgets_old_tokens" else self._tokens)

    def __repr__(self) -> str:
        return f"<OwnAuth {self._token if BUG == 'token_in_repr' else ''}>"

    async def acquire(self, *, refresh: bool = False) -> str:
        if BUG == "failure_is_kept" and self._failure is not None:
            raise self._failure
        if BUG == "not_shared":
            return await self._fetch()
        if BUG == "hangs_after_cancellation":
            return await self._fetch_with_event(refresh)
        if not refresh and self._token and (BUG == "never_renewed" or core_auth.monotonic() < self._expires_at - 60):
            return self._token
        async with self._lock:
            if not refresh and self._token and core_auth.monotonic() < self._expires_at - 60:
                return self._token
            return await self._fetch()

    async def _fetch_with_event(self, refresh: bool) -> str:
        if self._token is not None and not refresh:
            return self._token
        if self._done is not None:
            await self._done.wait()
            assert self._token is not None
            return self._token
        self._done = anyio.Event()
        token = await self._fetch()
        self._done.set()
        self._done = None
        return token

    async def _fetch(self) -> str:
        transport = self._context.transport
        assert transport is not None
        body = b""
        try:
            async with transport.send(exchange_of(self._context), SendOptions()) as response:
                async for chunk in response:
                    body += chunk
                token = token_in(WireResponse(status=response.status, headers=response.headers, body=body))
        except RemoteError as error:
            self._failure = error
            raise
        self._token = token.value.reveal()
        self._tokens.append(self._token)
        self._expires_at = core_auth.monotonic() + (token.expires_in or 0)
        return self._token

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        if BUG == "token_not_sent":
            return wire_request
        return wire_request.with_headers(Headers({"authorization": f"Bearer {credentials}"}))


def make_auth(context: ServiceContext[ToySettings]) -> Auth:
    if BUG:
        return OwnAuth(context)

    async def fetch() -> Token:
        return token_in(await fetch_response(context, exchange_of(context)))

    return CachedToken(fetch)


class TestToken(AuthTests):
    """The tests; a subclass names a bug."""

    provider = attrs.evolve(TOY, auth=make_auth)
    settings = {"url": "{url}", "api_key": canary("api_key")}
    bug: ClassVar[str] = ""

    @pytest.fixture(autouse=True)
    def _plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(globals(), "BUG", self.bug)
