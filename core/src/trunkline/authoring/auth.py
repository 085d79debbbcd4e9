"""Authentication with an API key or with tokens that expire, and without any."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, overload

import attrs

from trunkline._setting_types import convert_to, credential
from trunkline.authoring.provider import SendOptions, ServiceContext
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import CallError, ConfigurationError, ConnectionFailed, ProtocolViolation
from trunkline.secrets import Headers, HeaderValues, Secret, header_secrets, without_traceback

if TYPE_CHECKING:
    from trunkline.authoring.provider import Auth, Transport
    from trunkline.settings import Settings


KEPT_SECRETS = 16
"""How many credentials an `Auth` keeps to remove them from errors. A call that began with old ones may still go on."""

RETRY_EARLY = 30.0
"""Seconds until the next attempt after an early renewal that failed, or after a refresh that gave the same token."""

_log = logging.getLogger("trunkline.auth")


def _secret(value: str | Secret) -> Secret:
    return value if isinstance(value, Secret) else Secret(value)


def _seconds(value: float | str | None) -> float | None:
    """Return a number of seconds as a service for tokens sent it: some send text. NaN becomes 0."""
    try:
        seconds = None if value is None else float(value)
    except OverflowError:  # an integer that is too large
        return math.inf
    except (TypeError, ValueError):
        raise ProtocolViolation("the life of a token is not a number of seconds") from None
    return 0.0 if seconds is not None and math.isnan(seconds) else seconds


class NoAuth:
    """An `Auth` for providers without authentication."""

    async def __aenter__(self) -> NoAuth:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    @property
    def secrets(self) -> tuple[str | Secret, ...]:
        """No secrets."""
        return ()

    async def acquire(self, *, refresh: bool = False) -> object:
        """Return `None`: there are no credentials."""
        return None

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        """Return the request unchanged."""
        return wire_request


class HeaderAuth(NoAuth):
    """An `Auth` that sends a key in a header, or several values in several headers.

    `HeaderAuth("authorization", key, prefix="Bearer ")` sends one header, and `HeaderAuth({"x-key": key, "x-account":
    account})` sends two. `prefix` is put before the value; of several headers, before that of `authorization`.

    The headers are always sent, and replace headers of the same names in the user's setting `headers`. `key_auth`
    leaves out the key if these authenticate already.

    If a value is a `Secret` that can be read anew, it is read after a 401, and before the first request if its value is
    not known yet. That happens in a worker thread, since a file or a function may block. Raises `ConfigurationError` if
    the value that was read cannot be sent in a header.
    """

    @overload
    def __init__(self, header: str, value: str | Secret, *, prefix: str = "") -> None: ...

    @overload
    def __init__(self, header: Mapping[str, str | Secret], *, prefix: str = "") -> None: ...

    def __init__(
        self, header: str | Mapping[str, str | Secret], value: str | Secret | None = None, *, prefix: str = ""
    ) -> None:
        if isinstance(header, str):
            if value is None:
                raise TypeError("HeaderAuth needs the value of the header")
            # The one header has the key, also if its name does not say so, and a key may look like a word.
            values: Mapping[str, str | Secret] = {header: _secret(value)}
            self._prefixes = {header: prefix}
        else:
            values = header
            self._prefixes = {name: prefix for name in values if name.lower() == "authorization"}
            if prefix and not self._prefixes:
                raise TypeError("the prefix is for the header authorization, which is not among the headers")
        public = {name: value for name, value in values.items() if isinstance(value, str)}
        self._public = tuple(header_secrets(public))
        self._values = {name: _secret(value) for name, value in values.items()}
        self._kept = deque(
            ((name, value) for name, value in self._values.items() if name not in public),
            maxlen=KEPT_SECRETS * len(values),
        )

    def __repr__(self) -> str:
        return f"HeaderAuth({', '.join(map(repr, self._values))})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The last keys, and the whole value of a header with each. Text that is no `Secret` is only listed if it does
        not consist of words.
        """
        kept = dict.fromkeys((self._prefixes.get(name, ""), key.reveal()) for name, key in self._kept if key)
        keys = dict.fromkeys(key for _, key in kept)
        return tuple(dict.fromkeys((*keys, *(prefix + key for prefix, key in kept), *self._public)))

    async def acquire(self, *, refresh: bool = False) -> Headers:
        """Return the headers."""
        for name, key in self._values.items():
            if key.read is not None and (refresh or not key):
                from anyio import to_thread

                read = await to_thread.run_sync(_read_anew, key, abandon_on_cancel=True)
                if read != key:
                    self._values[name] = read
                    self._kept.append((name, read))
        return self._headers()

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        """Return the request with the headers."""
        return wire_request.with_headers(credentials if isinstance(credentials, Headers) else self._headers())

    def _headers(self) -> Headers:
        return Headers({name: self._prefixes.get(name, "") + key.reveal() for name, key in self._values.items()})


@attrs.frozen
class Token:
    """A token that a `CachedToken` fetched. `repr` does not show the value.

    `expires_in` is the rest of its life, in seconds. `None` means that this is not known: the token is used until a
    request is refused with 401. With 0 or less, only the calls that wait for this token use it. `renew_in` are the
    seconds until it should be renewed, if the service for tokens names a time before the `margin` of the `CachedToken`;
    less than 30 counts as 30. Both may be text with a number. Raises `ProtocolViolation` for any
    other value.
    """

    value: Secret = attrs.field(converter=_secret)
    expires_in: float | None = attrs.field(converter=_seconds)
    renew_in: float | None = attrs.field(default=None, converter=_seconds)


class CachedToken(NoAuth):
    """An `Auth` that sends a token which expires. All calls of the service share the token.

    Make it with `token_auth`, so that the `headers` of the settings may authenticate instead. `fetch` gets a new token,
    for example in exchange for a client's id and secret. Send its request with `fetch_response`. Each event loop that
    uses the service has a `CachedToken` of its own, and `fetch` runs in it.

    The life of a token:

    - Until `margin` seconds before it expires (or until half its life, if it lives shorter than twice that), every call
      uses it.
    - Then one call fetches the next one, and the others still use the old one. If that fails, the old one is used
      until it expires, and the next attempt follows after at least 30 s. A warning is logged.
    - If there is no token that can be used, all calls wait for one exchange, and share its token or its error.
    - After a 401, the calls whose token was refused wait for one exchange. If it gives the same token again, the
      service for tokens is not asked again for 30 s.

    `timeout` is the longest time for one exchange, in seconds. After it, `fetch` is cancelled, and the calls that wait
    raise `ConnectionFailed`. A `fetch` that blocks in a thread must be one that can be abandoned
    (`anyio.to_thread.run_sync(…, abandon_on_cancel=True)`). If the call that fetches is cancelled, the next one that
    waits fetches instead.

    The token is sent in `header`, after `prefix`. `secrets` are further secrets to remove from errors, such as a
    client's secret that is not in the settings.
    """

    # The lock allows one exchange at a time. `_exchanges` counts those that have ended. A call that waited for the lock
    # and finds another number than before takes the result of that exchange, a failure included, instead of asking
    # again. A cancelled exchange is not counted, so the next call in the queue makes it. There is no task in the
    # background, since no task group may stay open in an `Auth`.

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Token]],
        *,
        margin: float = 60.0,
        timeout: float = 30.0,
        header: str = "authorization",
        prefix: str = "Bearer ",
        secrets: Iterable[str | Secret] = (),
    ) -> None:
        from anyio import Lock

        self._fetch = fetch
        self._margin = margin
        self._timeout = timeout
        self._header = header
        self._prefix = prefix
        self._own_secrets = tuple(map(_secret, secrets))
        self._lock = Lock(fast_acquire=True)
        self._exchanges = 0
        self._failure: Exception | None = None
        self._token: Secret | None = None
        self._kept: deque[Secret] = deque(maxlen=KEPT_SECRETS)
        # Times of the monotonic clock: a wall clock that is set changes nothing.
        self._renew_at = self._expires_at = self._refresh_at = -math.inf

    def __repr__(self) -> str:
        return f"CachedToken({self._header!r})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The last tokens, the whole value of the header with each, and the `secrets` that were given."""
        tokens = [token.reveal() for token in self._kept]
        own = (secret.reveal() for secret in self._own_secrets)
        return (*tokens, *(self._prefix + token for token in tokens), *own)

    async def acquire(self, *, refresh: bool = False) -> Secret:
        """Return a token. Raises what `fetch` raises, and `ConnectionFailed` if it takes longer than `timeout`."""
        now = monotonic()
        refresh = refresh and now >= self._refresh_at
        if self._token is not None and not refresh and now < self._expires_at:
            if now < self._renew_at:
                return self._token
            # This call renews the token. The others use the old one meanwhile.
            self._renew_at = self._expires_at
        exchanges = self._exchanges
        async with self._lock:
            mine = exchanges == self._exchanges
            if mine:
                await self._exchange(refresh=refresh)
            failure = self._failure
            if failure is not None and (refresh or self._token is None or monotonic() >= self._expires_at):
                # Those that waited share the exception of the exchange, which must not collect their tracebacks.
                raise failure if mine else without_traceback(failure)
            if failure is not None and mine:
                # Without the message, which may contain secrets that are not known here.
                left = self._expires_at - monotonic()
                rest = f"for another {int(left)} s" if left < math.inf else "until it is refused"
                _log.warning("renewing a token failed (%s); the old one is valid %s", type(failure).__name__, rest)
            assert self._token is not None
            return self._token

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        """Return the request with the token."""
        assert isinstance(credentials, Secret)
        return wire_request.with_headers(Headers({self._header: self._prefix + credentials.reveal()}))

    async def _exchange(self, *, refresh: bool) -> None:
        try:
            fetched = await self._fetch_in_time()
            value, life, early = _sendable(fetched.value), fetched.expires_in, fetched.renew_in
        except BaseException as error:  # `fetch` is the plugin's code, which may raise anything
            # A service for tokens that hangs must not hold up one call after the other while the old token is valid.
            self._renew_at = monotonic() + RETRY_EARLY
            if not isinstance(error, Exception):
                raise
            self._failure = error
        else:
            now = monotonic()
            life = math.inf if life is None else life
            self._failure = None
            self._expires_at = now + life
            # A time that is over must not make each call renew the token.
            early = math.inf if early is None else max(early, RETRY_EARLY)
            self._renew_at = now + min(life - min(self._margin, life / 2), early)
            if value != self._token:
                self._kept.append(value)
            elif refresh:
                self._refresh_at = now + RETRY_EARLY
            self._token = value
        self._exchanges += 1

    async def _fetch_in_time(self) -> Token:
        from anyio import move_on_after

        with move_on_after(self._timeout):
            return await self._fetch()
        raise ConnectionFailed(f"fetching a token did not end within {self._timeout:g} s")


async def fetch_response(
    through: Transport | ServiceContext[Settings],
    wire_request: WireRequest,
    *,
    timeout: float = 30.0,
    limit: int = 64 * 1024,
) -> WireResponse:
    """Send a request of an `Auth`, such as one for a token, and return the whole response, whatever its status is.

    `through` is the context that the hook got, or its `transport`: the request uses the service's connections, proxy
    and certificates, and with the context also its `connect_timeout`. Redirects are not followed. If a connection that
    was kept open turns out closed, the request is sent once more.

    `timeout` is the time limit for all of it, in seconds, and `limit` the largest body, in bytes. Raises
    `ConnectionFailed` or `ConnectTimeout` if the server cannot be reached, `ConnectionFailed` if the response takes
    longer, `StreamInterrupted` if it breaks off, `ProtocolViolation` if it is too large, and `CallError` if the context
    is not that of an open service.
    """
    from anyio import move_on_after

    if isinstance(through, ServiceContext):
        transport, connect = through.transport, through.settings.connect_timeout
    else:
        transport, connect = through, None
    if transport is None:
        raise CallError("the context has no transport, since it is not that of an open service")
    body = bytearray()
    with move_on_after(timeout):
        async with transport.send(wire_request, SendOptions(connect=connect, resend=True)) as response:
            async for chunk in response:
                body += chunk
                if len(body) > limit:
                    message = f"the response to the request for credentials is larger than {limit} bytes"
                    raise ProtocolViolation(message, status=response.status)
            return WireResponse(status=response.status, headers=response.headers, body=bytes(body))
    raise ConnectionFailed(f"the response to the request for credentials did not arrive within {timeout:g} s")


def _sendable(value: Secret) -> Secret:
    try:
        if not value:
            raise ValueError("a string that is not empty")
        return credential(value)
    except ValueError as error:
        problem = str(error)
    raise ProtocolViolation(f"the token that was fetched must be {problem}")


def _read_anew(key: Secret) -> Secret:
    assert key.read is not None
    try:
        read = convert_to(Secret, Secret(key.read(), read=key.read))
        assert isinstance(read, Secret)
        if not read:
            raise ValueError("a string that is not empty")
        return credential(read)
    except ValueError as error:
        problem = str(error)
    raise ConfigurationError(f"the key that was read must be {problem}")


def key_auth(key: Secret | None, header: str, *, headers: HeaderValues, prefix: str = "") -> Auth:
    """Return the `Auth` that sends an API key in `header` (in lower case), after `prefix`.

    It adds nothing if there is no key, or if the settings' own `headers` contain that header or `Authorization`: a
    gateway may have its own way to authenticate, and APIs refuse requests that authenticate twice.
    """
    return NoAuth() if key is None or _authenticate(headers, header) else HeaderAuth(header, key, prefix=prefix)


def token_auth(
    fetch: Callable[[], Awaitable[Token]],
    *,
    headers: HeaderValues,
    margin: float = 60.0,
    timeout: float = 30.0,
    header: str = "authorization",
    prefix: str = "Bearer ",
    secrets: Iterable[str | Secret] = (),
) -> Auth:
    """Return the `CachedToken` with these arguments, which sends the tokens of `fetch`.

    It fetches no token and adds nothing if the settings' own `headers` contain `header` (in lower case) or
    `Authorization`, as `key_auth` does.
    """
    if _authenticate(headers, header):
        return NoAuth()
    return CachedToken(fetch, margin=margin, timeout=timeout, header=header, prefix=prefix, secrets=secrets)


def _authenticate(headers: HeaderValues, header: str) -> bool:
    return any(name.lower() in (header, "authorization") for name in headers)
