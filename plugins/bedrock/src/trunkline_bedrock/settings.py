"""The settings of `bedrock`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from trunkline.authoring.urls import redact_url
from trunkline.secrets import Secret
from trunkline.settings import Converted, Settings, setting, settings

from trunkline_bedrock.credentials import chosen, problems, secrets_of
from trunkline_bedrock.urls import base_url

CREDENTIALS = "credentials"
"""The group of the credential settings: they are taken from one source together."""

# A host label, since the region becomes part of a host's name.
_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def _convert_region(value: object) -> str:
    if isinstance(value, str) and _REGION.fullmatch(value.strip()):
        return value.strip()
    raise ValueError(f"the name of an AWS region, such as us-east-1, not {value!r}")


def _convert_url(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a URL, not {type(value).__name__}")
    base_url(value)
    return value.strip()


def _show_id(value: object) -> str:
    # No secret by itself, but half of one, and it names the account.
    return "None" if value is None else "'***'"


def _show_url(value: object) -> str:
    return repr(redact_url(value) if isinstance(value, str) else value)


@settings
class BedrockSettings(Settings):
    """How AWS Bedrock is reached, and with which credentials.

    The credential settings are taken from one source together (argument, file, `TRUNKLINE_*` variables). Within it both
    IAM fields come first, then `api_key`, then `aws_profile`. Without any of them AWS's default chain is asked; the
    `AWS_*` credential variables are read by that chain alone.
    """

    provider: ClassVar[str] = "bedrock"

    aws_region: str = setting(
        "AWS Region",
        "The region to call, such as `us-east-1`.",
        environment=("AWS_REGION", "AWS_DEFAULT_REGION"),
        convert=_convert_region,
        schema={"type": "string", "pattern": f"^{_REGION.pattern}$"},
    )
    api_url: str | None = setting(
        "Custom Endpoint URL",
        "Where Bedrock's runtime is, in place of the region's public endpoint: a VPC endpoint, a FIPS endpoint, or a "
        "proxy, with or without a path.",
        default=None,
        environment=("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_ENDPOINT_URL"),
        convert=_convert_url,
        show=_show_url,
        schema={"type": "string", "format": "uri"},
    )
    aws_access_key_id: str | None = setting(
        "AWS Access Key ID", "The id of an IAM access key.", default=None, group=CREDENTIALS, show=_show_id
    )
    aws_secret_access_key: Converted[Secret | None, str] = setting(
        "AWS Secret Access Key", "The secret of that access key.", default=None, group=CREDENTIALS
    )
    aws_session_token: Converted[Secret | None, str] = setting(
        "AWS Session Token",
        "The session token, where the access key is a temporary one.",
        default=None,
        group=CREDENTIALS,
    )
    aws_profile: str | None = setting(
        "AWS Profile",
        "A profile of AWS's configuration files, in place of the environment's credentials.",
        default=None,
        group=CREDENTIALS,
    )
    api_key: Converted[Secret | None, str] = setting(
        "API key",
        "A Bedrock API key (bearer token), or `access_key_id:secret_access_key`, or "
        "`access_key_id:secret_access_key:session_token`.",
        default=None,
        group=CREDENTIALS,
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong between the credential settings."""
        yield from problems(self)

    def secrets(self) -> tuple[str, ...]:
        """The secret values, those inside a combined `api_key` as well."""
        own = Settings.secrets(self)
        return (*own, *(secret for secret in secrets_of(chosen(self)) if secret not in own))
