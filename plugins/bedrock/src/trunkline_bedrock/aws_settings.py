"""The settings of a provider whose requests are signed with AWS credentials, and which credentials they configure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import ClassVar

from trunkline.secrets import Secret
from trunkline.settings import Alternative, Converted, Settings, setting, settings

from trunkline_bedrock.aws_config import MISSING_REGION, REGION_VARIABLES, aws_values, read_aws_files
from trunkline_bedrock.credentials import BearerToken, Chain, Keys, secrets_of
from trunkline_bedrock.urls import without_fips

CREDENTIALS = "credentials"
"""The group of the credential settings, which are taken from one source together."""

# A host label, since the region becomes part of a host name.
_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def aws_alternatives(api_key: Alternative) -> tuple[Alternative, ...]:
    """Return the ways to authenticate: with AWS's credentials, or with a key that `api_key` describes."""
    return (
        Alternative(
            title="IAM access key",
            description="The access key of an IAM user, or a temporary one with its session token.",
            settings=("aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
            required=("aws_access_key_id", "aws_secret_access_key"),
        ),
        api_key,
        Alternative(
            title="AWS profile",
            description="A profile in the AWS configuration files of the machine.",
            settings=("aws_profile",),
            required=("aws_profile",),
        ),
        Alternative(
            title="Default credentials",
            description="The credentials that the AWS SDKs find on the machine, such as the role of an EC2 instance.",
        ),
    )


def _convert_region(value: object) -> str:
    if isinstance(value, str) and _REGION.fullmatch(value.strip()):
        return value.strip()
    raise ValueError(f"the name of an AWS region, such as us-east-1, not {value!r}")


def _show_id(value: object) -> str:
    # The id is not secret, but it is half of a key pair and it identifies the account.
    return "None" if value is None else "'***'"


@settings
class AWSSettings(Settings):
    """The region, and the credentials that sign requests.

    A subclass may add the setting `api_key` for a bearer token and return what it contains from `key_credentials`; the
    setting belongs into `source_group=CREDENTIALS`, so that the credentials are taken from one source together.
    """

    bearer_variable: ClassVar[str | None] = None
    """AWS's variable for a bearer token, which the default chain of credentials reads after an IAM key pair."""

    aws_region: str | None = setting(
        "AWS Region",
        "The region to call, such as `us-east-1`. By default, it is that of the AWS profile; without any, the service "
        "cannot open.",
        default=None,
        environment=REGION_VARIABLES,
        convert=_convert_region,
        schema={"type": "string", "pattern": f"^{_REGION.pattern}$"},
        group="Connection",
        examples=("us-east-1", "us-west-2", "eu-central-1"),
        form_required=True,  # as in the AWS console; the profile may have none
    )
    aws_access_key_id: str | None = setting(
        "AWS Access Key ID",
        "The id of an IAM access key.",
        default=None,
        source_group=CREDENTIALS,
        group="Authentication",
        requires=("aws_secret_access_key",),
        schema={"type": "string", "pattern": "^[!-+.0-9;-~-]+$"},
        show=_show_id,
    )
    aws_secret_access_key: Converted[Secret | None, str] = setting(
        "AWS Secret Access Key",
        "The secret of the IAM access key.",
        default=None,
        source_group=CREDENTIALS,
        group="Authentication",
        requires=("aws_access_key_id",),
    )
    aws_session_token: Converted[Secret | None, str] = setting(
        "AWS Session Token",
        "The session token, if the access key is temporary.",
        default=None,
        source_group=CREDENTIALS,
        group="Authentication",
        requires=("aws_access_key_id", "aws_secret_access_key"),
    )
    aws_profile: str | None = setting(
        "AWS Profile",
        "A profile in AWS's configuration files, to use instead of the `AWS_…` credentials in the environment.",
        default=None,
        source_group=CREDENTIALS,
        group="Authentication",
    )

    @classmethod
    def machine_values(
        cls, given: Mapping[str, object], environ: Mapping[str, str]
    ) -> Mapping[str, tuple[object, str]]:
        """Return the settings in AWS's variables and in the profile of AWS's files. Raises `ConfigurationError`."""
        return aws_values(given, environ, read_aws_files(environ), provider=cls.provider)

    @property
    def region(self) -> str:
        """The region that is called, and for which requests are signed."""
        return without_fips(self.aws_region or "")[0]

    @property
    def uses_fips(self) -> bool:
        """Whether FIPS endpoints are called, which AWS's old names of regions, such as `fips-us-east-1`, ask for."""
        return without_fips(self.aws_region or "")[1]

    @property
    def uses_dualstack(self) -> bool:
        """Whether endpoints with IPv4 and IPv6 addresses are called."""
        return False

    def key_credentials(self) -> Keys | BearerToken | None:
        """Return the credentials in the setting `api_key`, if the class has it and it is set."""
        return None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a missing region, and an access key id that cannot be sent."""
        yield from self.separate_problems(self._missing_region, self._key_id_problems)

    def _missing_region(self) -> Iterator[tuple[str, str]]:
        if self.aws_region is None:
            yield "aws_region", MISSING_REGION

    def _key_id_problems(self) -> Iterator[tuple[str, str]]:
        key = self.aws_access_key_id
        if key is not None and not (key.isascii() and key.isprintable() and not set(key) & set(" /,:")):
            yield (
                "aws_access_key_id",
                "is not an access key id: letters and digits, such as AKIA followed by 16 of them",
            )

    def secrets(self) -> tuple[str, ...]:
        """Return the secret values, including those inside a combined `api_key`."""
        own = Settings.secrets(self)
        return (*own, *(secret for secret in secrets_of(configured_credentials(self)) if secret not in own))


def configured_credentials(settings: AWSSettings) -> Keys | BearerToken | Chain:
    """Return the credentials of the settings: the IAM key pair, else `api_key`, else the chain (with `aws_profile`).

    All of them come from one source, so that no pair is mixed, and `problems` has checked them.
    """
    if settings.aws_access_key_id is not None and settings.aws_secret_access_key is not None:
        return Keys(
            access_key_id=settings.aws_access_key_id,
            secret_access_key=settings.aws_secret_access_key,
            session_token=settings.aws_session_token,
        )
    return settings.key_credentials() or Chain(profile=settings.aws_profile)
