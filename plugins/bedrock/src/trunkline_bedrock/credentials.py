"""The credentials of a service, as values. Pure."""

from __future__ import annotations

from typing import TypeAlias, Union

import attrs
from trunkline.secrets import Secret


@attrs.frozen(kw_only=True)
class Keys:
    """An IAM key pair, with a session token if it is temporary. Requests are signed with it (Signature Version 4)."""

    access_key_id: str = attrs.field(repr=False)
    secret_access_key: Secret
    session_token: Secret | None = None


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
