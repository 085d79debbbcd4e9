"""How requests are authenticated: configured keys, a bearer token, or AWS's default chain.

The chain is aiobotocore's. It is resolved on the first call and again before its credentials expire, by one caller for
all that wait; callers that need not wait go on with what they have. What blocks (imports, reading AWS's data files)
runs in a worker thread.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import attrs
from trunkline.authoring.auth import NoAuth
from trunkline.authoring.provider import Auth, ServiceContext
from trunkline.authoring.wire import WireRequest
from trunkline.errors import ConfigurationError, TrunklineError
from trunkline.secrets import Secret

from trunkline_bedrock.chain import (
    asking,
    check_environment,
    failure,
    keys_from,
    make_session,
    none_found,
    relax,
    tokens_of,
)
from trunkline_bedrock.credentials import BearerToken, Chain, Credentials, Keys, chosen, secrets_of

if TYPE_CHECKING:
    from trunkline_bedrock.settings import BedrockSettings

BEARER_VARIABLE = "AWS_BEARER_TOKEN_BEDROCK"
"""AWS's variable for a Bedrock API key."""

ADVISORY, MANDATORY = 15 * 60.0, 10 * 60.0
"""Seconds before their end at which credentials are replaced by the next call, and at which every call waits for that.

They are AWS's own (botocore); credentials with a short life are kept for most of it.
"""

COALESCE = 10.0
"""Seconds after a refresh in which another is not made: those that ask for it failed with what was there before."""

_log = logging.getLogger("trunkline.bedrock")


def bedrock_auth(context: ServiceContext[BedrockSettings]) -> Auth:
    """The `Auth` of a service. None where `headers` brings an `Authorization` of its own, as for a gateway."""
    settings = context.settings
    if any(name.lower() == "authorization" for name in settings.headers):
        return NoAuth()
    found = chosen(settings)
    if isinstance(found, Chain):
        return ChainAuth(settings, provider=context.provider, service=context.name, profile=found.profile)
    return StaticAuth(found, settings.aws_region)


class StaticAuth(NoAuth):
    """Credentials that the settings hold."""

    def __init__(self, credentials: Credentials, region: str) -> None:
        self._credentials = credentials
        self._region = region

    async def acquire(self, *, refresh: bool = False) -> Credentials:  # type: ignore[override]
        """The credentials. There are no others, so a refresh changes nothing."""
        await _warm(self._credentials)
        return self._credentials

    def sign(self, wire_request: WireRequest, credentials: Credentials) -> WireRequest:  # type: ignore[override]
        """The request with the credentials on it."""
        return signed(wire_request, credentials, self._region)


def signed(wire_request: WireRequest, credentials: Credentials, region: str) -> WireRequest:
    """The request with a signature, or with a bearer token."""
    if isinstance(credentials, BearerToken):
        return wire_request.with_headers({"authorization": f"Bearer {credentials.token.reveal()}"})
    from trunkline_bedrock.sign import sign

    return sign(wire_request, credentials, region)


_warmed = False


async def _warm(credentials: Credentials) -> None:
    global _warmed
    if isinstance(credentials, Keys) and not _warmed:
        await anyio.to_thread.run_sync(_import_signer)
        _warmed = True


def _import_signer() -> None:
    import trunkline_bedrock.sign  # noqa: F401


@attrs.frozen(kw_only=True)
class _Lease:
    """Credentials with when they were had and when they expire, as Unix times."""

    credentials: Credentials
    obtained: float
    expires: float | None

    def left(self, now: float, longest: float, share: float) -> bool:
        """Whether so little time is left that they should be replaced."""
        if self.expires is None:
            return False
        return self.expires - now < min(longest, share * (self.expires - self.obtained))

    def soon(self, now: float) -> bool:
        """Whether someone should replace them."""
        return self.left(now, ADVISORY, 0.25)

    def urgent(self, now: float) -> bool:
        """Whether no request should be made with them any more."""
        return self.left(now, MANDATORY, 0.1)


class ChainAuth(StaticAuth):
    """AWS's default chain.

    In the environment an IAM pair comes before `AWS_BEARER_TOKEN_BEDROCK`, as it does in the settings; then follow the
    profile (its keys, an assumed role, web identity, SSO, `credential_process`), the container's and the instance's
    role. With a configured `profile` the environment's credentials are not looked at.
    """

    def __init__(
        self,
        settings: BedrockSettings,
        *,
        provider: str,
        service: str,
        profile: str | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._region = settings.aws_region
        self._provider = provider
        self._service = service
        self._profile = profile
        self._clock = clock
        self._resolving = anyio.Lock()
        self._lease: _Lease | None = None
        self._refreshed = self._failed = -float("inf")
        self._shown: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secret values that the chain gave, and those it was asked with, for the core to take out of errors."""
        acquired = secrets_of(self._lease.credentials) if self._lease is not None else ()
        return (*acquired, *self._shown)

    async def acquire(self, *, refresh: bool = False) -> Credentials:  # type: ignore[override]
        """The credentials for the next request, replaced before they expire.

        Raises `ConfigurationError` where there are none, or half a pair, and a `RemoteError` where a service that
        should give them fails.
        """
        lease = self._lease
        if lease is not None and not refresh:
            now = self._clock()
            # One caller refreshes; the others go on with what they have for as long as it is good.
            if not lease.soon(now) or (self._resolving.locked() and not lease.urgent(now)):
                return lease.credentials
        async with self._resolving:
            return await self._replaced(lease, refresh)

    async def _replaced(self, known: _Lease | None, force: bool) -> Credentials:
        lease, now = self._lease, self._clock()
        if lease is not None and not lease.urgent(now):
            if lease is not known:
                return lease.credentials  # replaced while this caller waited
            # A call that failed with what another call has replaced since asks for nothing new.
            if now - (self._refreshed if force else self._failed) < COALESCE:
                return lease.credentials
        try:
            credentials, expires = await self._resolve()
        except TrunklineError as error:
            if lease is None or force or lease.urgent(now):
                raise
            self._failed = now
            _log.warning("service %r: the AWS credentials were not refreshed ahead of time: %s", self._service, error)
            return lease.credentials
        if lease is not None:
            self._refreshed = now
        self._lease = _Lease(credentials=credentials, obtained=now, expires=expires)
        return credentials

    async def _resolve(self) -> tuple[Credentials, float | None]:
        if self._profile is None:
            check_environment(os.environ, self._service)
            token = self._ambient_token()
            if token is not None:
                return BearerToken(token=token), None
        try:
            with asking():
                session = await anyio.to_thread.run_sync(partial(make_session, self._settings, self._profile))
                source = await session.get_credentials()
                if source is None:
                    raise none_found(self._service)
                relax(source)
                found = keys_from(source, await source.get_frozen_credentials())
        except TrunklineError:
            raise
        except Exception as error:
            self._shown = await anyio.to_thread.run_sync(tokens_of, dict(os.environ))
            raise failure(error, provider=self._provider, service=self._service) from None
        await _warm(found[0])
        return found

    def _ambient_token(self) -> Secret | None:
        token = os.environ.get(BEARER_VARIABLE, "").strip()
        if not token or os.environ.get("AWS_ACCESS_KEY_ID"):
            return None
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigurationError(
                f"service {self._service!r}: the variable {BEARER_VARIABLE} holds no token: it takes printable ASCII "
                f"without spaces",
                service=self._service,
            )
        return Secret(token)
