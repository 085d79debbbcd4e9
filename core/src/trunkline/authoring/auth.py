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
"""How many credentials an `Auth` remembers, to remove them from errors. Calls with old ones may still be running."""

RETRY_EARLY = 30.0
"""Seconds until the next attempt after an early renewal that failed, or after a refresh that gave the same token."""

_log = logging.getLogger("trunkline.auth")


def _secret(value: str | Secret) -> Secret:
    return value if isinstance(value, Secret) else Secret(value)


def _seconds(value: float | str | None) -> float | None:
    """Convert a number of seconds that a token service sent, which may be a string. NaN becomes 0."""
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
    account})` sends two. `prefix` is put before the value. If there are several headers, it is put before the value of
    `authorization` only.

    The headers are always sent, and replace headers of the same names in the user's setting `headers`. Use `key_auth`
    to leave out the key if the user's headers authenticate already.

    A `Secret` that comes from a file or a function is read again after a 401, and before the first request if its value
    is not known yet. It is read in a worker thread, since this may block. `acquire` raises `ConfigurationError` if the
    new value cannot be sent in a header.
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
            # The value of a single header is always a key, even if it looks like a word.
            values: Mapping[str, str | Secret] = {header: _secret(value)}
            self._prefixes = {header: prefix}
        else:
            values = header
            self._prefixes = {name: prefix for name in values if name.lower() == "authorization"}
            if prefix and not self._prefixes:
                raise TypeError("the prefix is for the header authorization, which is not among the headers")
        for name, given in values.items():
            if not isinstance(given, (str, Secret)):
                raise TypeError(
                    f"the value of the header {name!r} must be a str or a Secret, not {type(given).__name__}"
                )
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
        """The last keys, and the whole header value with each of them.

        If there are several headers, a value that is a `str` is listed only if it or its header's name looks secret.
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

    `expires_in` is the number of seconds until the token expires. `None` means that this is not known: the token is
    used until a request is refused with 401. If it is 0 or less, only the calls that wait for this token use it.
    `renew_in` is the number of seconds until the token should be renewed, if the token service names an earlier time
    than the `margin` of the `CachedToken`; less than 30 counts as 30. Both may be strings that contain a number. Raises
    `ProtocolViolation` for any other value.
    """

    value: Secret = attrs.field(converter=_secret)
    expires_in: float | None = attrs.field(converter=_seconds)
    renew_in: float | None = attrs.field(default=None, converter=_seconds)


class CachedToken(NoAuth):
    """An `Auth` that sends a token which expires. All calls of the service share the token.

    Create it with `token_auth`, so that a user's setting `headers` may authenticate instead. `fetch` gets a new token,
    for example in exchange for a client's id and secret. Send the request for it with `fetch_response`. Each event loop
    that uses the service has its own `CachedToken`, and `fetch` runs in that event loop.

    The life of a token:

    - Every call uses the token until `margin` seconds before it expires, or until half its life if it lives for less
      than twice the margin.
    - Then one call fetches the next token, and the others still use the old one. If this fails, a warning is logged,
      the old token is used until it expires, and the next attempt follows after at least 30 s.
    - If there is no valid token, all calls wait for one exchange, and share its token or its error.
    - After a 401, the calls whose token was refused wait for one exchange. If it returns the same token again, a 401
      leads to no further exchange for 30 s.

    `timeout` is the time limit for one exchange, in seconds. After it, `fetch` is cancelled, and the waiting calls
    raise `ConnectionFailed`. If `fetch` blocks in a thread, use a thread that can be abandoned
    (`anyio.to_thread.run_sync(…, abandon_on_cancel=True)`). If the call that fetches is cancelled, the next waiting
    call fetches instead.

    The token is sent in `header`, after `prefix`. `secrets` are further secrets to remove from errors, such as a
    client's secret that is not in the settings.
    """

    # The lock allows one exchange at a time. `_exchanges` counts the exchanges that have ended. If the count has
    # changed while a call waited for the lock, the call takes the result of that exchange, even a failure, instead of
    # making another. A cancelled exchange is not counted, so the next call in the queue makes one. There is no
    # background task, since no task group may stay open in an `Auth`.

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
        # Times of the monotonic clock, so that a change of the system time has no effect.
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
                # The waiting calls share this exception, so it must not collect their tracebacks.
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
            # If the token service hangs, it must not delay one call after another while the old token is still valid.
            self._renew_at = monotonic() + RETRY_EARLY
            if not isinstance(error, Exception):
                raise
            self._failure = error
        else:
            now = monotonic()
            life = math.inf if life is None else life
            self._failure = None
            self._expires_at = now + life
            # If this time has passed already, not every call may renew the token.
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

    `through` is the context that the hook got, or its `transport`. The request uses the service's connections, proxy
    and certificates; with the context, it also uses the setting `connect_timeout`. Redirects are not followed. If the
    server has closed an idle connection, the request is sent again on a new one.

    `timeout` is the time limit for the whole exchange, in seconds, and `limit` is the largest body to accept, in bytes.
    Raises `ConnectionFailed` or `ConnectTimeout` if the server cannot be reached, `ConnectionFailed` if the response
    does not arrive in time, `StreamInterrupted` if it is cut off, `ProtocolViolation` if it is too large, and
    `CallError` if the context does not belong to an open service.
    """
    from anyio import move_on_after

    if isinstance(through, ServiceContext):
        transport, connect = through.transport, through.settings.connect_timeout
    else:
        transport, connect = through, None
    if transport is None:
        raise CallError("the context has no transport, since it does not belong to an open service")
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
    """Return an `Auth` that sends an API key in `header` (in lower case), after `prefix`.

    It adds nothing if there is no key, or if the setting `headers` contains that header or `Authorization`: a gateway
    may need other credentials, and APIs refuse requests that authenticate twice.
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
    """Return a `CachedToken` with these arguments, which sends the tokens of `fetch`.

    If the setting `headers` contains `header` (in lower case) or `Authorization`, it returns a `NoAuth` instead, which
    fetches no token and adds nothing.
    """
    if _authenticate(headers, header):
        return NoAuth()
    return CachedToken(fetch, margin=margin, timeout=timeout, header=header, prefix=prefix, secrets=secrets)


def _authenticate(headers: HeaderValues, header: str) -> bool:
    return any(name.lower() in (header, "authorization") for name in headers)
