"""The settings of `anthropic-aws`, the Claude Platform on AWS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import urlsplit

from trunkline.authoring.json import JSONObject
from trunkline.authoring.model_facts import ModelFactsSetting, model_facts_setting
from trunkline.authoring.user_id import SendUserId, send_user_id_setting
from trunkline.secrets import Secret
from trunkline.settings import Alternative, Converted, setting, settings, url_setting
from trunkline_anthropic import AnthropicFacts, MessagesEndpoint, at_root, facts_of
from trunkline_anthropic.settings import (
    NO_BETA_HEADER,
    ApiVersion,
    BetasSetting,
    api_version_setting,
    beta_header_problems,
    beta_problems,
    betas_setting,
    workspace_setting,
)
from trunkline_anthropic.urls import base_url

from trunkline_bedrock.aws_settings import CREDENTIALS, AWSSettings, aws_alternatives
from trunkline_bedrock.credentials import BearerToken

SERVICE = "aws-external-anthropic"
"""AWS's name of the service in signatures, in IAM policies and in its hosts.

Source: docs.aws.amazon.com/claude-platform, authentication and IAM policies (2026-11), and the anthropic SDK 2.14,
lib/aws.
"""

_HOST = re.compile(rf"{SERVICE}\.([a-z0-9-]+)\.api\.aws")

WORKSPACE_HEADER = "anthropic-workspace-id"


@settings
class AnthropicAWSSettings(AWSSettings):
    """How to reach the Claude Platform on AWS, and the credentials to use.

    The credential settings are taken from one source together (argument, file, environment variables). Within that
    source the IAM key pair comes first, then `api_key`, then `aws_profile`. Without any of them, AWS's default chain
    provides the credentials; only that chain reads the `AWS_*` credential variables.
    """

    provider: ClassVar[str] = "anthropic-aws"
    display_name: ClassVar[str] = "Claude Platform on AWS"
    model_examples: ClassVar[tuple[str, ...]] = ("claude-sonnet-4-6",)
    ambient_credentials: ClassVar[str] = "signatures with the credentials of AWS's configuration"
    alternatives: ClassVar[tuple[Alternative, ...]] = aws_alternatives(
        Alternative(
            title="API key",
            description="A key of the workspace, from the page of the Claude Platform in the AWS console.",
            settings=("api_key",),
            required=("api_key",),
        )
    )
    schema_rules: ClassVar[tuple[JSONObject, ...]] = (NO_BETA_HEADER,)

    workspace_id: str = workspace_setting("It belongs to one region.", variable="ANTHROPIC_AWS_WORKSPACE_ID")
    api_url: str | None = url_setting(
        "API URL",
        "The root URL of the API, instead of the region's public endpoint, with or without `/v1`.",
        default=None,
        environment=("ANTHROPIC_AWS_BASE_URL",),
        base_url=base_url,
        advanced=True,
    )
    api_key: Converted[Secret | None, str] = setting(
        "API Key",
        "An API key of the workspace, to use instead of signatures.",
        default=None,
        environment=("ANTHROPIC_AWS_API_KEY",),
        source_group=CREDENTIALS,
        group="Authentication",
    )
    api_version: ApiVersion = api_version_setting()
    send_user_id: SendUserId = send_user_id_setting("metadata.user_id")
    betas: BetasSetting = betas_setting()
    model_facts: ModelFactsSetting = model_facts_setting(AnthropicFacts)

    @property
    def root(self) -> str:
        """The root URL of the API."""
        return base_url(self.api_url)[0] if self.api_url is not None else f"https://{SERVICE}.{self.region}.api.aws"

    def key_credentials(self) -> BearerToken | None:
        """Return the credentials in `api_key`."""
        return BearerToken(token=self.api_key) if self.api_key is not None else None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a missing region, and values that cannot be sent as HTTP headers."""
        yield from AWSSettings.problems(self)
        yield from self.separate_problems(
            lambda: beta_problems(self.betas), self._header_problems, self._region_problems
        )

    def _region_problems(self) -> Iterator[tuple[str, str]]:
        if self.uses_fips:
            yield "aws_region", "asks for a FIPS endpoint, which the Claude Platform does not have"
        host = _HOST.fullmatch(urlsplit(self.root).hostname or "")
        if host is not None and host[1] != self.region:
            yield "api_url", f"is a host of the region {host[1]}, but aws_region is {self.region}"

    def _header_problems(self) -> Iterator[tuple[str, str]]:
        yield from beta_header_problems(self.headers)
        if any(name.lower() == WORKSPACE_HEADER for name in self.headers):
            yield "headers", f"cannot contain {WORKSPACE_HEADER}; use workspace_id"


def anthropic_aws_endpoint(settings: AnthropicAWSSettings) -> MessagesEndpoint:
    """Return the endpoint of a workspace. It has the whole of Anthropic's own API."""
    return MessagesEndpoint(
        url=at_root(settings.root),
        version=settings.api_version,
        version_setting="api_version",
        betas=settings.betas,
        headers={WORKSPACE_HEADER: settings.workspace_id},
        facts=lambda model: facts_of(model, settings.model_facts),
        send_user_id=settings.send_user_id,
        user_id_key=settings.api_key,
        automatic_caching=True,
        has_batches=True,
    )
