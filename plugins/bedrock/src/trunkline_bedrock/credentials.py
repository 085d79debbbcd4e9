"""The credentials of a service, as values, and the clock that they sign with. Pure, except for this machine's clock."""

from __future__ import annotations

from time import time
from typing import TypeAlias, Union

import attrs
from trunkline.authoring.http_errors import server_time
from trunkline.authoring.wire import WireResponse
from trunkline.errors import RemoteError, TrunklineError
from trunkline.secrets import Secret

from trunkline_bedrock.errors import is_skewed


@attrs.frozen(kw_only=True)
class Keys:
    """An IAM key pair, with a session token if it is temporary. Requests are signed with it (Signature Version 4)."""

    access_key_id: str = attrs.field(repr=False)
    secret_access_key: Secret
    session_token: Secret | None = None
    clock_offset: float = 0.0
    """AWS's clock minus this machine's, in seconds; see `ServerClock`."""


LARGEST_OFFSET = 100 * 365 * 86400.0
"""The largest difference between the two clocks, in seconds: more than that of a clock that starts in 1970.

Python cannot represent the time of a signature after the year 9999.
"""


class ServerClock:
    """How far AWS's clock is ahead of this machine's, in seconds, shared by the event loops of a service.

    AWS refuses a signature whose time is more than five minutes from its own. The parser then takes the time from the
    header `Date` of that response, as AWS's SDKs do. The credentials change with it, so the core sends the request
    again, once.

    A wrong time, which something between AWS and this machine may send, is corrected in the same way: AWS refuses the
    next signature, with the right time.
    """

    def __init__(self) -> None:
        self.offset = 0.0

    def learn(self, server_time: float, now: float) -> None:
        """Note the time by AWS's clock at the time `now`. Both are in seconds since the epoch.

        A time more than `LARGEST_OFFSET` away is ignored.
        """
        if abs(server_time - now) <= LARGEST_OFFSET:
            self.offset = server_time - now

    def correct(self, error: TrunklineError, wire_response: WireResponse) -> None:
        """Learn AWS's time from a response, if AWS refused the time of its request's signature."""
        if isinstance(error, RemoteError) and is_skewed(error):
            now = time()
            self.learn(server_time(wire_response.headers, now=lambda: now), now)

    def apply(self, credentials: Credentials) -> Credentials:
        """Return the credentials that sign with AWS's time."""
        if not self.offset or not isinstance(credentials, Keys):
            return credentials
        return attrs.evolve(credentials, clock_offset=self.offset)


@attrs.frozen(kw_only=True)
class BearerToken:
    """A Bedrock API key, sent as `Authorization: Bearer`."""

    token: Secret


@attrs.frozen(kw_only=True)
class Chain:
    """No credentials in the settings: those of AWS's default chain, or of the profile `profile`."""

    profile: str | None = None


Credentials: TypeAlias = Union[Keys, BearerToken]
"""What authenticates a request."""


def read_api_key(api_key: Secret) -> Credentials:
    """Read an API key: a bearer token, or `access_key_id:secret_access_key[:session_token]`.

    The colons tell them apart, since a bearer token cannot contain one (RFC 6750, section 2.1). Raises `ValueError`,
    with what is accepted, for anything else.
    """
    parts = api_key.reveal().split(":")
    if len(parts) == 1:
        return BearerToken(token=api_key)
    if len(parts) > 3 or not all(parts):
        raise ValueError(
            "a Bedrock API key, or access_key_id:secret_access_key, or access_key_id:secret_access_key:session_token, "
            "without empty parts"
        )
    return Keys(
        access_key_id=parts[0],
        secret_access_key=Secret(parts[1]),
        session_token=Secret(parts[2]) if len(parts) == 3 else None,
    )


def secrets_of(credentials: Keys | BearerToken | Chain) -> tuple[str, ...]:
    """Return the secret values in credentials, and the access key id, so that the core removes them from errors."""
    if isinstance(credentials, Keys):
        token = credentials.session_token
        pair = (credentials.access_key_id, credentials.secret_access_key.reveal())
        return (*pair, *([token.reveal()] if token is not None else []))
    return (credentials.token.reveal(),) if isinstance(credentials, BearerToken) else ()
