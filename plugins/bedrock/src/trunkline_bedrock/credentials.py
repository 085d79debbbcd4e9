"""The credentials of a service as values, and which of them its settings choose. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias, Union

import attrs
from trunkline.secrets import Secret

if TYPE_CHECKING:
    from trunkline_bedrock.settings import BedrockSettings


@attrs.frozen(kw_only=True)
class Keys:
    """An IAM key pair, with the session token of a temporary one. Requests are signed with it (Signature Version 4)."""

    access_key_id: str = attrs.field(repr=False)
    secret_access_key: Secret
    session_token: Secret | None = None


@attrs.frozen(kw_only=True)
class BearerToken:
    """A Bedrock API key, sent as `Authorization: Bearer`."""

    token: Secret


@attrs.frozen(kw_only=True)
class Chain:
    """No credentials of its own: AWS's default chain, or what the profile `profile` says."""

    profile: str | None = None


Credentials: TypeAlias = Union[Keys, BearerToken]
"""What a request is authenticated with."""


def chosen(settings: BedrockSettings) -> Keys | BearerToken | Chain:
    """The credentials of the settings: both IAM fields, else `api_key`, else the chain (with `aws_profile`).

    The settings come from one source together, so nothing is mixed here. They have been checked by `problems`.
    """
    if settings.aws_access_key_id is not None and settings.aws_secret_access_key is not None:
        return Keys(
            access_key_id=settings.aws_access_key_id,
            secret_access_key=settings.aws_secret_access_key,
            session_token=settings.aws_session_token,
        )
    if settings.api_key is not None:
        return read_api_key(settings.api_key)
    return Chain(profile=settings.aws_profile)


def read_api_key(api_key: Secret) -> Credentials:
    """An API key: a bearer token, or `access_key_id:secret_access_key[:session_token]`, which has colons.

    A bearer token has none (RFC 6750, section 2.1). Raises `ValueError` with what is accepted.
    """
    parts = api_key.reveal().split(":")
    if len(parts) == 1:
        return BearerToken(token=api_key)
    if len(parts) > 3 or not all(parts):
        raise ValueError(
            "a Bedrock API key, or access_key_id:secret_access_key, or access_key_id:secret_access_key:session_token, "
            "with no part empty"
        )
    return Keys(
        access_key_id=parts[0],
        secret_access_key=Secret(parts[1]),
        session_token=Secret(parts[2]) if len(parts) == 3 else None,
    )


def problems(settings: BedrockSettings) -> Iterator[tuple[str, str]]:
    """What is wrong with the credential settings, each as the setting's name and a sentence."""
    key, secret = settings.aws_access_key_id, settings.aws_secret_access_key
    if key is not None and secret is None:
        yield "aws_secret_access_key", "is missing: aws_access_key_id is set, and the two belong together"
    if secret is not None and key is None:
        yield "aws_access_key_id", "is missing: aws_secret_access_key is set, and the two belong together"
    if settings.aws_session_token is not None and key is None and secret is None:
        yield "aws_access_key_id", "is missing: aws_session_token is of use only with the IAM pair it belongs to"
    if key is not None and not (key.isascii() and key.isprintable() and not set(key) & set(" /,:")):
        yield "aws_access_key_id", "is not an access key id: letters and digits, such as AKIA followed by 16 of them"
    if settings.api_key is not None:
        if not settings.api_key.reveal().isascii() or " " in settings.api_key.reveal():
            yield "api_key", "takes printable ASCII without spaces, since it is sent as an HTTP header"
            return
        try:
            read_api_key(settings.api_key)
        except ValueError as error:
            yield "api_key", f"takes {error}"


def secrets_of(credentials: Keys | BearerToken | Chain) -> tuple[str, ...]:
    """The secret values in credentials, and the id of an access key, to be scrubbed from errors."""
    if isinstance(credentials, Keys):
        token = credentials.session_token
        pair = (credentials.access_key_id, credentials.secret_access_key.reveal())
        return (*pair, *([token.reveal()] if token is not None else []))
    return (credentials.token.reveal(),) if isinstance(credentials, BearerToken) else ()
