"""Authentication with an API key, and without one."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from trunkline._setting_types import convert_to, credential
from trunkline.authoring.wire import WireRequest
from trunkline.errors import ConfigurationError
from trunkline.secrets import Headers, HeaderValues, Secret

if TYPE_CHECKING:
    from trunkline.authoring.provider import Auth


KEPT_SECRETS = 16
"""How many credentials an `Auth` keeps to remove them from errors. A call that began with old ones may still go on."""


class NoAuth:
    """An `Auth` for providers without authentication."""

    async def __aenter__(self) -> NoAuth:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    @property
    def secrets(self) -> tuple[str, ...]:
        """No secrets."""
        return ()

    async def acquire(self, *, refresh: bool = False) -> None:
        """Do nothing: there are no credentials."""

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        """Return the request unchanged."""
        return wire_request


class HeaderAuth(NoAuth):
    """An `Auth` that sends a key in a header, after `prefix` (for example `Bearer `).

    If the key is a `Secret` that can be read anew, it is read after a 401, and before the first request if its value is
    not known yet. That happens in a worker thread, since a file or a function may block.
    """

    def __init__(self, header: str, value: str | Secret, *, prefix: str = "") -> None:
        self._header = header
        self._prefix = prefix
        self._key = value if isinstance(value, Secret) else Secret(value)
        self._sent = deque([self._key], maxlen=KEPT_SECRETS)

    def __repr__(self) -> str:
        return f"HeaderAuth({self._header!r})"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The last keys, and the whole value of the header with each."""
        keys = {key.reveal() for key in self._sent if key}
        return (*keys, *(self._prefix + key for key in keys))

    async def acquire(self, *, refresh: bool = False) -> Secret:  # type: ignore[override]
        """Return the key."""
        if self._key.read is not None and (refresh or not self._key):
            from anyio import to_thread

            read = await to_thread.run_sync(_read_anew, self._key, abandon_on_cancel=True)
            if read != self._key:
                self._key = read
                self._sent.append(read)
        return self._key

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        """Return the request with the header."""
        key = credentials if isinstance(credentials, Secret) else self._key
        return wire_request.with_headers(Headers({self._header: self._prefix + key.reveal()}))


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
    if key is None or any(name.lower() in (header, "authorization") for name in headers):
        return NoAuth()
    return HeaderAuth(header, key, prefix=prefix)
