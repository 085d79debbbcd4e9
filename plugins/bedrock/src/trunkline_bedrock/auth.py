"""How requests are authenticated: configured keys, a bearer token, or AWS's default chain.

aiobotocore implements the chain; this module decides when to ask it. Anything that blocks (imports, reading AWS's data
files) runs in a worker thread. A call that is cancelled, closed or out of time does not wait for that thread: what the
thread does is only an import or a value that it returns, which nobody then uses.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
import attrs
from trunkline.authoring.auth import KEPT_SECRETS, NoAuth
from trunkline.authoring.provider import Auth, ServiceContext
from trunkline.authoring.wire import WireRequest
from trunkline.errors import ConfigurationError, TrunklineError
from trunkline.secrets import Secret, scrub

from trunkline_bedrock.aws_config import profile_name
from trunkline_bedrock.aws_settings import AWSSettings, configured_credentials
from trunkline_bedrock.chain import (
    chain_error,
    check_environment,
    keys_of,
    leave_refreshing_to_us,
    make_session,
    no_credentials,
    quiet_log,
    sent_tokens,
)
from trunkline_bedrock.credentials import BearerToken, Chain, Credentials, Keys, ServerClock, secrets_of

ADVISORY, MANDATORY = 15 * 60.0, 10 * 60.0
"""How long before credentials expire, in seconds, one call refreshes them, and every call waits for the refresh.

These are botocore's own values. Credentials of a short life are used for most of it; see `_Lease`.
"""

UNKNOWN_LIFE = 5 * 60.0
"""How long credentials are used that were already expired when they arrived, in seconds.

This machine's clock is probably wrong.
"""

COALESCE = 10.0
"""Seconds after a refresh in which no other is made: a call that asks for one failed with the old credentials."""

_log = logging.getLogger("trunkline.bedrock")


@attrs.frozen
class Scope:
    """How a request is signed.

    `service` is AWS's name for the service in signatures. `content_hash` adds the header `X-Amz-Content-SHA256`.
    """

    service: str
    content_hash: bool = False


ScopeFor: TypeAlias = Callable[[str], Scope]
"""Returns how a request to a URL is signed."""


def aws_auth(context: ServiceContext[Any], scope_of: ScopeFor) -> Auth:
    """Return the `Auth` of a service whose settings are a subclass of `AWSSettings`.

    It does nothing if the setting `headers` contains an `Authorization`, as for a gateway. `scope_of` returns how a
    request to a URL is signed.
    """
    settings: AWSSettings = context.settings
    if any(name.lower() == "authorization" for name in settings.headers):
        return NoAuth()
    credentials = configured_credentials(settings)
    server_clock = context.keep(ServerClock, ServerClock)
    if isinstance(credentials, Chain):
        return ChainAuth(
            settings,
            provider=context.provider,
            service=context.name,
            profile=credentials.profile,
            scope_of=scope_of,
            server_clock=server_clock,
        )
    return StaticAuth(credentials, settings.region, scope_of, server_clock)


class StaticAuth(NoAuth):
    """Credentials from the settings."""

    def __init__(
        self, credentials: Credentials, region: str, scope_of: ScopeFor, server_clock: ServerClock | None = None
    ) -> None:
        self._server_clock = server_clock or ServerClock()
        self._credentials = credentials
        self._region = region
        self._scope_of = scope_of

    async def acquire(self, *, refresh: bool = False) -> Credentials:
        """Return the credentials. A refresh changes nothing, since there are no others."""
        await _import_signer(self._credentials)
        return self._server_clock.apply(self._credentials)

    def sign(self, wire_request: WireRequest, credentials: Credentials) -> WireRequest:  # type: ignore[override]
        """Return the request with a signature, or with the bearer token."""
        if isinstance(credentials, BearerToken):
            if self._scope_of(wire_request.url).service == "s3":
                raise ConfigurationError("S3, which stores batches, accepts IAM credentials, not a Bedrock API key")
            return wire_request.with_headers({"authorization": f"Bearer {credentials.token.reveal()}"})
        from trunkline_bedrock.sign import sign

        scope = self._scope_of(wire_request.url)
        return sign(wire_request, credentials, self._region, scope.service, content_hash=scope.content_hash)


_signer_imported = False


async def _import_signer(credentials: Credentials) -> None:
    """Import the signer, and botocore with it, in a worker thread, so that `sign` does not block the event loop."""
    global _signer_imported
    if isinstance(credentials, Keys) and not _signer_imported:
        await anyio.to_thread.run_sync(_import_sign, abandon_on_cancel=True)
        _signer_imported = True


def _import_sign() -> None:
    import trunkline_bedrock.sign  # noqa: F401


@attrs.frozen(kw_only=True)
class _Lease:
    """Credentials, when they were obtained and when they expire, by the monotonic clock.

    AWS names a wall-clock time, which is converted when the credentials arrive: a wall clock that is set afterwards
    changes nothing. Linux stops the monotonic clock while the machine sleeps. Credentials that have expired meanwhile
    are refused and then refreshed once.

    For short lives the two limits shrink to a quarter and a tenth of the life; otherwise credentials that live for ten
    minutes would be refreshed on every call.
    """

    credentials: Credentials
    obtained: float
    expires: float | None

    def _ends_within(self, now: float, seconds: float, share: float) -> bool:
        if self.expires is None:
            return False
        return self.expires - now < min(seconds, share * (self.expires - self.obtained))

    def is_due(self, now: float) -> bool:
        """Whether one call should refresh the credentials."""
        return self._ends_within(now, ADVISORY, 0.25)

    def is_overdue(self, now: float) -> bool:
        """Whether no call should use the credentials any more."""
        return self._ends_within(now, MANDATORY, 0.1)


class ChainAuth(StaticAuth):
    """AWS's default chain.

    In the environment an IAM key pair comes before the variable with a bearer token, as it does in the settings. Then
    follow the profile (its keys, an assumed role, web identity, SSO, `credential_process`) and the role of the
    container or the instance. With the setting `aws_profile`, the credentials in the environment are ignored.

    Refreshing, with any number of calls at once:

    - Nothing to do: `acquire` returns without waiting and without the lock.
    - The credentials are due: the first call takes the lock and refreshes; calls that find the lock taken use the old
      credentials, which are still valid. If that refresh fails, the old ones stay, and the next attempt is made after
      `COALESCE` seconds.
    - They are overdue, there are none yet, or a request was refused (`refresh=True`): every call waits for the lock.
      The first one refreshes; each later one finds, once it has the lock, a lease other than the one it came with, and
      takes that. A call that was refused after somebody else's refresh had finished came with the new lease, so it is
      the time since the last refresh that keeps it from asking again.

    A call that is cancelled while it refreshes releases the lock, and the next in line refreshes instead.
    """

    def __init__(
        self,
        settings: AWSSettings,
        *,
        provider: str,
        service: str,
        profile: str | None,
        scope_of: ScopeFor,
        clock: Callable[[], float] = time.monotonic,
        server_clock: ServerClock | None = None,
    ) -> None:
        self._server_clock = server_clock or ServerClock()
        self._settings = settings
        self._region = settings.region
        self._scope_of = scope_of
        self._provider = provider
        self._service = service
        self._profile = profile
        self._clock = clock
        self._refreshing = anyio.Lock()
        self._lease: _Lease | None = None
        self._previous: deque[Credentials] = deque(maxlen=KEPT_SECRETS)
        self._refreshed_at = self._failed_at = -float("inf")
        self._sent_tokens: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets that the chain returned, and those that it sent, for the core to remove from errors."""
        # Calls in progress may still use credentials from before the last refreshes.
        leased = [*self._previous, *([self._lease.credentials] if self._lease is not None else [])]
        acquired = (secret for credentials in leased for secret in secrets_of(credentials))
        return (*dict.fromkeys(acquired), *self._sent_tokens)

    async def acquire(self, *, refresh: bool = False) -> Credentials:
        """Return the credentials for the next request, refreshed before they expire.

        Raises `ConfigurationError` if there are none, or half a key pair, and `RemoteError` if a service that provides
        them fails.
        """
        lease = self._lease
        if lease is not None and not refresh:
            now = self._clock()
            if not lease.is_due(now) or (self._refreshing.locked() and not lease.is_overdue(now)):
                return self._server_clock.apply(lease.credentials)
        async with self._refreshing:
            return self._server_clock.apply(await self._refresh(lease, refresh))

    async def _refresh(self, known: _Lease | None, refused: bool) -> Credentials:
        """Refresh, unless another call did so while this one waited. `known` is the lease that the call came with."""
        lease, now = self._lease, self._clock()
        if lease is not None and not lease.is_overdue(now):
            if lease is not known:
                return lease.credentials
            if now - (self._refreshed_at if refused else self._failed_at) < COALESCE:
                return lease.credentials
        try:
            credentials, expires = await self._resolve()
        except TrunklineError as error:
            if lease is None or refused or lease.is_overdue(now):
                raise
            self._failed_at = now
            _log.warning(
                "service %r: refreshing the AWS credentials early failed: %s",
                self._service,
                scrub(str(error), self.secrets),
            )
            return lease.credentials
        if lease is not None:
            self._refreshed_at = now
            self._previous.append(lease.credentials)
        life = None if expires is None else expires - time.time()
        if life is not None and life <= 0:
            life = UNKNOWN_LIFE
        self._lease = _Lease(credentials=credentials, obtained=now, expires=None if life is None else now + life)
        return credentials

    async def _resolve(self) -> tuple[Credentials, float | None]:
        if self._profile is None:
            check_environment(os.environ, self._service)
            token = self._token_from_environment()
            if token is not None:
                return BearerToken(token=token), None
        session = None
        try:
            with quiet_log():
                make = partial(make_session, self._settings, self._profile)
                session = await anyio.to_thread.run_sync(make, abandon_on_cancel=True)
                source = await session.get_credentials()
                if source is None:
                    raise no_credentials(self._service, self._settings.bearer_variable)
                leave_refreshing_to_us(source)
                keys, expires = keys_of(source, await source.get_frozen_credentials())
        except TrunklineError:
            raise
        except Exception as error:
            self._sent_tokens = await anyio.to_thread.run_sync(sent_tokens, dict(os.environ), abandon_on_cancel=True)
            profile = profile_name({"aws_profile": self._profile}, os.environ)[0]
            explain = partial(
                chain_error, error, provider=self._provider, service=self._service, profile=profile, session=session
            )
            raise await anyio.to_thread.run_sync(explain, abandon_on_cancel=True) from None
        await _import_signer(keys)
        return keys, expires

    def _token_from_environment(self) -> Secret | None:
        variable = self._settings.bearer_variable
        token = os.environ.get(variable, "").strip() if variable is not None else ""
        if not token or os.environ.get("AWS_ACCESS_KEY_ID", "").strip():
            return None
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigurationError(
                f"service {self._service!r}: the variable {variable} is not a token: it must be printable ASCII "
                f"without spaces",
                service=self._service,
            )
        return Secret(token)
