"""The Claude Platform on AWS: Anthropic's own API behind AWS's authentication.

AWS answers itself if it refuses the credentials, with errors in its own form; all other answers are Anthropic's.
"""

from __future__ import annotations

from typing import Any

from trunkline.authoring.advice import Advice, find_advice, unknown_model
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    AuthenticationError,
    ConnectionFailed,
    PermissionDenied,
    QuotaExhausted,
    RemoteError,
    TrunklineError,
)
from trunkline.settings import Settings
from trunkline_anthropic.errors import error_from_body as anthropic_error
from trunkline_anthropic.parse import MessagesParser

from trunkline_bedrock.advice import CLOCK, KEY_PAIR
from trunkline_bedrock.anthropic_aws_settings import SERVICE, AnthropicAWSSettings
from trunkline_bedrock.auth import Scope
from trunkline_bedrock.aws_settings import configured_credentials
from trunkline_bedrock.credentials import BearerToken, ServerClock
from trunkline_bedrock.errors import is_skewed, or_aws
from trunkline_bedrock.regions import did_you_mean_region


def signing_scope(url: str) -> Scope:
    """Return how a request is signed, whatever its URL: a proxy passes it on to the same service."""
    return Scope(SERVICE)


class AnthropicAWSParser(MessagesParser):
    """Parses the responses of the Claude Platform on AWS. Errors are Anthropic's or AWS's.

    No recording shows an error of AWS there. AWS's services name the error in a header, or in the field `__type`.
    """

    read_error = staticmethod(or_aws(anthropic_error))

    def __init__(self, context: ServiceContext[Settings]) -> None:
        super().__init__(context)
        self._clock = context.keep(ServerClock, ServerClock)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """Return the error that a response with an error status describes."""
        error = super().error(wire_response)
        self._clock.correct(error, wire_response)
        return error


_KEY = Advice(
    "make a new API key on the page of the Claude Platform in the AWS console; it belongs to one workspace",
    problem="key",
    kind=AuthenticationError,
)


def advice(context: ServiceContext[Any], error: TrunklineError) -> Advice | None:
    """Return what to do about an error, or `None`."""
    settings: AnthropicAWSSettings = context.settings
    region = settings.region
    if isinstance(error, RemoteError) and isinstance(error, AuthenticationError) and is_skewed(error):
        return CLOCK
    if settings.api_url is None and isinstance(error, ConnectionFailed) and error.problem == "dns":
        return Advice(
            f"check aws_region: the Claude Platform may not exist in {region}{did_you_mean_region(region)}",
            problem="region",
        )
    if isinstance(error, AuthenticationError) and isinstance(configured_credentials(settings), BearerToken):
        return _KEY
    return find_advice(error, _table(region))


def _table(region: str) -> tuple[Advice, ...]:
    return (
        Advice(
            f"set aws_region to the region of the workspace: requests are signed for {region}",
            problem="region",
            kind=AuthenticationError,
            message="credential should be scoped to",
        ),
        *KEY_PAIR,
        Advice(
            "check that the access key exists and is active, and that aws_session_token is set if it begins with ASIA",
            problem="key",
            kind=AuthenticationError,
        ),
        Advice(
            f"check workspace_id and that the workspace is in {region}, and allow {SERVICE}:CreateInference, "
            f"{SERVICE}:CountTokens, {SERVICE}:GetModel and {SERVICE}:ListModels on it in an IAM policy",
            problem="permission",
            kind=PermissionDenied,
        ),
        Advice(
            "check the subscription to the Claude Platform in the AWS Marketplace, and the spend limits in the Claude "
            "Console",
            problem="quota",
            kind=QuotaExhausted,
        ),
        unknown_model("https://docs.claude.com/en/docs/about-claude/models"),
    )
