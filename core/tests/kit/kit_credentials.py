"""Providers with credentials of several kinds: some pass the kit, the others each have a bug that the kit must find."""

from __future__ import annotations

import hashlib
import hmac
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import anyio
import pytest
from kit_toy import WIRE, ToyResponses, Translator
from trunkline.authoring.auth import HeaderAuth, NoAuth, key_auth
from trunkline.authoring.extension import Extension, ExtensionSettings
from trunkline.authoring.json import loads
from trunkline.authoring.provider import Auth, Provider, SendOptions, ServiceContext, hookimpl
from trunkline.authoring.wire import WireRequest
from trunkline.errors import ConnectionFailed
from trunkline.secrets import Secret
from trunkline.settings import Converted, KeySource, Settings, setting, settings
from trunkline.testing import ProviderTests, canary

Context = ServiceContext[Any]


def provider(kind: type[Settings], auth: Callable[[Context], Auth], *, yields: bool = True) -> Provider:
    """`yields` is whether the credentials are left out if the setting `headers` contains `Authorization`."""

    def auth_unless_given(context: Context) -> Auth:
        return NoAuth() if yields and "authorization" in context.settings.headers else auth(context)

    return Provider(
        name=kind.provider,
        settings=kind,
        auth=auth_unless_given,
        translator=Translator,
        response_parser=lambda context: ToyResponses(),
    )


# A key


@settings
class KeySettings(Settings):
    provider = "kit-key"

    url: str = setting("URL", "Where it is.")
    api_key: Converted[Secret, KeySource] = setting("API Key", "Its key.", from_function=True)


@settings
class TwoKeySettings(KeySettings):
    provider = "kit-two-keys"

    project_key: Converted[Secret | None, str] = setting("Project key", "The key of a project.", default=None)


class SecondKey(NoAuth):
    """Sends both keys."""

    def __init__(self, context: Context) -> None:
        self._project_key = context.settings.project_key
        self._first = key_auth(context.settings.api_key, "x-key", headers={})

    async def acquire(self, *, refresh: bool = False) -> Any:
        return await self._first.acquire(refresh=refresh)

    def sign(self, wire_request: WireRequest, credentials: Any) -> WireRequest:
        signed = self._first.sign(wire_request, credentials)
        return signed.with_headers({"x-project": self._project_key.reveal()} if self._project_key else {})


def changed(header: str, change: Callable[[str], str]) -> Callable[[Context], Auth]:
    """Return an `Auth` that changes the key before it sends it."""

    class Changed(HeaderAuth):
        def sign(self, wire_request: WireRequest, credentials: Any) -> WireRequest:
            signed = super().sign(wire_request, credentials)
            return signed.with_headers({header: change(signed.headers[header])})

    return lambda context: Changed(header, context.settings.api_key)


class TwoHeaders(HeaderAuth):
    def sign(self, wire_request: WireRequest, credentials: Any) -> WireRequest:
        signed = super().sign(wire_request, credentials)
        return signed.with_headers({"x-trace": signed.headers["x-key"]})


class InTheURL(HeaderAuth):
    def sign(self, wire_request: WireRequest, credentials: Any) -> WireRequest:
        url = f"{wire_request.url}?key={super().sign(wire_request, credentials).headers['x-key']}"
        return WireRequest(url=url, headers=wire_request.headers, body=wire_request.body)


class ReadsTheKeyOnce(HeaderAuth):
    async def acquire(self, *, refresh: bool = False) -> Any:
        return await super().acquire()


class Blocks(HeaderAuth):
    async def acquire(self, *, refresh: bool = False) -> Any:
        socket.getaddrinfo("localhost", 80)
        return await super().acquire(refresh=refresh)


def with_key(auth: Callable[..., Auth], header: str = "x-key") -> Callable[[Context], Auth]:
    return lambda context: auth(header, context.settings.api_key)


class _Key(ProviderTests):
    settings = {"url": "{url}", "api_key": canary("api_key")}
    credentials = {"x-key": canary("api_key")}
    wire = WIRE


class TestKey(_Key):
    provider = provider(KeySettings, with_key(HeaderAuth))


class TestTwoWaysToAuthenticate(_Key):
    provider = provider(KeySettings, with_key(HeaderAuth), yields=False)


class TestNeverSent(_Key):
    provider = provider(KeySettings, lambda context: NoAuth())


class TestFirstHalfSent(_Key):
    provider = provider(KeySettings, changed("x-key", lambda key: key[:8]))
    credentials = {}


class TestSecondHalfSent(_Key):
    provider = provider(KeySettings, changed("x-key", lambda key: key[8:]))
    credentials = {}


class TestLowerCase(_Key):
    provider = provider(KeySettings, changed("x-key", str.lower))


class TestUndeclared(_Key):
    provider = provider(KeySettings, with_key(HeaderAuth))
    credentials = {}


class TestWrongHeader(_Key):
    provider = provider(KeySettings, with_key(HeaderAuth, "authorization"))


class TestWrongPrefix(_Key):
    provider = provider(KeySettings, changed("x-key", lambda key: f"Token {key}"))


class TestTwoHeaders(_Key):
    provider = provider(KeySettings, with_key(TwoHeaders))


class TestInTheURL(_Key):
    provider = provider(KeySettings, with_key(InTheURL))
    credentials = {}


class TestKeyReadOnce(_Key):
    provider = provider(KeySettings, with_key(ReadsTheKeyOnce))


class TestBlocks(_Key):
    provider = provider(KeySettings, with_key(Blocks))


class TestTwoKeys(_Key):
    provider = provider(TwoKeySettings, SecondKey)
    settings = {**_Key.settings, "project_key": canary("project_key")}
    credentials = {**_Key.credentials, "x-project": canary("project_key")}


class TestSecondKeyIgnored(TestTwoKeys):
    provider = provider(TwoKeySettings, with_key(HeaderAuth))
    credentials = _Key.credentials


class TestUnsetKeyIgnored(_Key):
    """The second key is not in the settings of the class."""

    provider = provider(TwoKeySettings, with_key(HeaderAuth))


@settings
class TableSettings(KeySettings):
    provider = "kit-table"

    accounts: Mapping[str, str] = setting("Accounts", "The token of each account.")


class AccountTokens(HeaderAuth):
    def __init__(self, header: str, context: Context) -> None:
        super().__init__({header: context.settings.api_key, "x-account": context.settings.accounts["one"]})


class TestTable(_Key):
    provider = provider(TableSettings, lambda context: AccountTokens("x-key", context))
    settings = {**_Key.settings, "accounts": {"one": canary("account")}}
    credentials = {**_Key.credentials, "x-account": canary("account")}


class TestTableIgnored(TestTable):
    provider = provider(TableSettings, with_key(HeaderAuth))
    credentials = _Key.credentials


# A signature


@settings
class SignatureSettings(Settings):
    provider = "kit-signature"

    url: str = setting("URL", "Where it is.")
    signing_key: Converted[Secret, str] = setting("Signing key", "Its key.")


class Signature(NoAuth):
    """Signs with the time and a random number."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def key(self) -> bytes:
        key: str = self._context.settings.signing_key.reveal()
        return key.encode()

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        nonce = f"{time.time()} {uuid.uuid4()}"
        signature = hmac.new(self.key(), nonce.encode() + wire_request.body, hashlib.sha256).hexdigest()
        return wire_request.with_headers({"x-nonce": nonce, "x-signature": signature})


class ConstantKey(Signature):
    def key(self) -> bytes:
        return b"a key of the tests"


class TestSignature(ProviderTests):
    provider = provider(SignatureSettings, Signature)
    settings = {"url": "{url}", "signing_key": canary("signing_key")}
    wire = WIRE


class TestConstantKey(TestSignature):
    provider = provider(SignatureSettings, ConstantKey)


# A token


@settings
class TokenSettings(Settings):
    provider = "kit-token"

    url: str = setting("URL", "Where it is.")
    client_secret: Converted[Secret, str] = setting("Client secret", "The secret of the client.", in_header=False)


class Tokens(NoAuth):
    """Exchanges a secret for a token, once for all calls that wait."""

    options: ClassVar[SendOptions] = SendOptions(connect=10.0)

    def __init__(self, context: Context, its_settings: Any = None) -> None:
        self._context = context
        self._settings = its_settings or context.settings
        self._lock = anyio.Lock()
        self._token = ""
        self._exchanges = 0
        self._known: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        return self._known

    def body(self) -> bytes:
        secret: str = self._settings.client_secret.reveal()
        return secret.encode()

    async def acquire(self, *, refresh: bool = False) -> Any:
        seen = self._exchanges
        async with self._lock:
            if not self._token or (refresh and seen == self._exchanges):
                self._token = await self.limited()
                self._known = (*self._known, self._token)
                self._exchanges += 1
        return self._token

    async def limited(self) -> str:
        with anyio.move_on_after(20):
            return await self.exchange()
        raise ConnectionFailed("no token within 20 s")

    async def exchange(self) -> str:
        assert self._context.transport is not None
        wire_request = WireRequest(url=self._settings.url + "/token", body=self.body())
        async with self._context.transport.send(wire_request, self.options) as response:
            token: str = loads(b"".join([chunk async for chunk in response]))["token"]
            return token

    def sign(self, wire_request: WireRequest, credentials: Any) -> WireRequest:
        return wire_request.with_headers({"authorization": f"Bearer {credentials}"})


class SecretNotSent(Tokens):
    def body(self) -> bytes:
        return b"a secret of the tests"


class IgnoresRefresh(Tokens):
    async def acquire(self, *, refresh: bool = False) -> Any:
        return await super().acquire()


class KeepsTheFirst(Tokens):
    """Asks for a new token, and sends the first one."""

    async def acquire(self, *, refresh: bool = False) -> Any:
        await super().acquire(refresh=refresh)
        return [self._known[0]]  # never equal to credentials that another call got

    def sign(self, wire_request: WireRequest, credentials: Any) -> WireRequest:
        return super().sign(wire_request, self._known[0])


class NoLimit(Tokens):
    async def limited(self) -> str:
        return await self.exchange()


class NoLimitForTheBody(Tokens):
    options: ClassVar[SendOptions] = SendOptions(connect=10.0, headers=20.0)

    async def limited(self) -> str:
        return await self.exchange()


class StaysLocked(Tokens):
    async def acquire(self, *, refresh: bool = False) -> Any:
        if self._token and not refresh:
            return self._token
        await self._lock.acquire()
        self._token = await self.limited()  # a cancelled exchange leaves the lock locked
        self._lock.release()
        return self._token


class TestTokens(ProviderTests):
    provider = provider(TokenSettings, Tokens)
    settings = {"url": "{url}", "client_secret": canary("client_secret")}
    routes = {"POST /token": {"token": canary("token")}}
    credentials = {"authorization": f"Bearer {canary('token')}"}
    wire = WIRE


class TestHeadersIgnored(TestTokens):
    provider = provider(TokenSettings, Tokens, yields=False)


class TestOtherRoute(TestTokens):
    routes = {"POST /tokens": {"token": canary("token")}}


class TestNoRoute(TestTokens):
    routes = {}


class TestSecretNotSent(TestTokens):
    provider = provider(TokenSettings, SecretNotSent)


class TestIgnoresRefresh(TestTokens):
    provider = provider(TokenSettings, IgnoresRefresh)


class TestKeepsTheFirst(TestTokens):
    provider = provider(TokenSettings, KeepsTheFirst)


class TestNoLimit(TestTokens):
    provider = provider(TokenSettings, NoLimit)

    @pytest.fixture(autouse=True)
    def _wait_briefly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("trunkline.testing.credentials.LIMIT", 0.5)


class TestNoLimitForTheBody(TestNoLimit):
    provider = provider(TokenSettings, NoLimitForTheBody)


class TestStaysLocked(TestNoLimit):
    provider = provider(TokenSettings, StaysLocked)


# An extension with settings


@settings
class CorpSettings(ExtensionSettings):
    extension = "kit-corp"

    url: str = setting("URL", "Where tokens come from.")
    client_secret: Converted[Secret, str] = setting("Client secret", "The secret of the client.")


@settings
class GatewaySettings(Settings):
    provider = "kit-gateway"

    url: str = setting("URL", "Where it is.")
    api_key: Converted[Secret | None, str] = setting("API Key", "Not needed behind a gateway.", default=None)


class Corp:
    auth: ClassVar[type[Tokens]] = Tokens

    def __init__(self, its_settings: CorpSettings) -> None:
        self._settings = its_settings

    @hookimpl(tryfirst=True)
    def trunkline_auth(self, context: Context) -> Auth:
        return self.auth(context, self._settings)


CORP = Extension(name="kit-corp", settings=CorpSettings, make=Corp)
"""The test installs an entry point for it."""


class TestCorp(TestTokens):
    provider = provider(GatewaySettings, lambda context: key_auth(context.settings.api_key, "x-key", headers={}))
    settings = {
        "url": "{url}",
        "extensions": [{"name": "kit-corp", "url": "{url}", "client_secret": canary("client_secret")}],
    }


class TestCorpSecretNotSent(TestCorp):
    @pytest.fixture(autouse=True)
    def _plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Corp, "auth", SecretNotSent)


GOOD = ("Key", "TwoKeys", "Table", "Signature", "Tokens", "Corp")

NOT_SENT = "is secret, but a call sends the same after it has changed"

BUGS: dict[str, tuple[str, str]] = {
    "NeverSent": ("test_each_secret_setting_is_sent", f"the setting 'api_key' {NOT_SENT}"),
    "FirstHalfSent": ("test_each_secret_setting_is_sent", f"the setting 'api_key' {NOT_SENT}"),
    "SecondHalfSent": ("test_each_secret_setting_is_sent", f"the setting 'api_key' {NOT_SENT}"),
    "LowerCase": ("test_each_secret_setting_is_sent", f"the setting 'api_key' {NOT_SENT}"),
    "SecondKeyIgnored": ("test_each_secret_setting_is_sent", f"the setting 'project_key' {NOT_SENT}"),
    "UnsetKeyIgnored": ("test_each_secret_setting_is_sent", f"the setting 'project_key' {NOT_SENT}"),
    "TableIgnored": ("test_each_secret_setting_is_sent", f"the setting 'accounts' {NOT_SENT}"),
    "ConstantKey": ("test_each_secret_setting_is_sent", f"the setting 'signing_key' {NOT_SENT}"),
    "SecretNotSent": ("test_each_secret_setting_is_sent", f"the setting 'client_secret' {NOT_SENT}"),
    "CorpSecretNotSent": ("test_each_secret_setting_is_sent", f"the setting 'extensions' {NOT_SENT}"),
    "Undeclared": ("test_credentials_are_in_their_headers", "a secret is sent in x-key, which 'credentials' lacks"),
    "OtherRoute": ("test_refused_credentials_are_renewed", "request for POST /token, which is not in 'routes'"),
    "NoRoute": ("test_each_request_is_signed", "request for POST /token, which is not in 'routes' (empty)"),
    "WrongHeader": ("test_credentials_are_in_their_headers", "the header 'x-key' in 'credentials' is not sent"),
    "WrongPrefix": ("test_credentials_are_in_their_headers", "the header 'x-key' does not have the value"),
    "TwoHeaders": ("test_credentials_are_in_their_headers", "a secret is sent in x-trace"),
    "InTheURL": ("test_each_request_is_signed", "the URL contains a secret"),
    "HeadersIgnored": (
        "test_authorization_in_headers_replaces_the_key",
        "the header Authorization of the setting 'headers' is replaced",
    ),
    "TwoWaysToAuthenticate": (
        "test_authorization_in_headers_replaces_the_key",
        "the header 'x-key' is sent although the setting 'headers' contains Authorization",
    ),
    "Blocks": ("test_each_request_is_signed", "getaddrinfo was called in the thread of the event loop"),
    "KeyReadOnce": ("test_refused_credentials_are_renewed", "after a 401, the credentials stay the same"),
    "IgnoresRefresh": ("test_refused_credentials_are_renewed", "after a 401, the credentials stay the same"),
    "KeepsTheFirst": ("test_refused_credentials_are_renewed", "after a 401, the credentials stay the same"),
    "NoLimit": ("test_hung_token_exchange_ends", "a token exchange that hangs must end after 120 s at most"),
    "NoLimitForTheBody": ("test_hung_token_exchange_ends", "a token exchange that hangs must end after 120 s at most"),
    "StaysLocked": ("test_cancelled_token_exchange_is_repeated", "after a token exchange that hung, the next call"),
}
"""The test that finds each bug, and a part of its message."""
