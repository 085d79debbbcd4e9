"""Claude in Azure's Foundry: Azure's errors, and what to do about them. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.advice import Advice, find_advice
from trunkline.authoring.json import JSONValue
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import (
    AuthenticationError,
    ConnectionFailed,
    NotFound,
    QuotaExhausted,
    RateLimited,
    RemoteError,
    TrunklineError,
)
from trunkline.secrets import Headers, HeaderValues
from trunkline_anthropic.errors import error_from_body
from trunkline_anthropic.parse import MessagesParser

from trunkline_azure_openai.anthropic_settings import AzureAnthropicSettings
from trunkline_azure_openai.errors import without_role


class AzureMessagesParser(MessagesParser):
    """Parses the responses of one service."""

    @staticmethod
    def read_error(
        body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
    ) -> RemoteError:
        """Return the error that a body or an event describes. It never raises.

        Azure answers itself if it refuses the credentials, in the form of its errors for OpenAI's APIs.
        """
        return without_role(error_from_body(body, provider=provider, status=status, headers=headers))


_KEY = Advice(
    "copy KEY 1 or KEY 2 of the resource again, from its page Keys and Endpoint in the portal",
    problem="key",
    kind=AuthenticationError,
)
_TABLE = (
    Advice(
        "set default_model to the name of a deployment of Claude in this resource; a new deployment works after some "
        "minutes",
        problem="deployment",
        codes=("DeploymentNotFound", "unknown_model"),
    ),
    Advice(
        "set default_model to the name of a deployment of Claude in this resource",
        problem="deployment",
        kind=NotFound,
        message="deployment|model",
    ),
    Advice(
        "check that the resource is one of Azure AI Foundry, with a deployment of Claude, and check api_url",
        problem="url",
        kind=NotFound,
    ),
    Advice(
        "set token_provider instead of api_key: the resource accepts only Entra ID",
        problem="key",
        message="key.based authentication is disabled",
    ),
    Advice(
        "sign in to the tenant of the resource, and check the setting scope",
        problem="key",
        message="token (audience|tenant)|audience is incorrect|tenant .*does not match",
    ),
    Advice(
        "raise the quota of the deployment in the portal, or deploy the model in another region",
        problem="quota",
        kind=QuotaExhausted,
    ),
    Advice(
        "try again later, or raise the limit of tokens per minute of the deployment in the portal",
        problem="rate-limit",
        kind=RateLimited,
    ),
    Advice(
        "check the name of the resource: it is the first part of the host",
        problem="dns",
        kind=ConnectionFailed,
        message="name of the host cannot be resolved",
    ),
)


def advice(context: ServiceContext[Any], error: TrunklineError) -> Advice | None:
    """Return what to do about an error, or `None`."""
    settings: AzureAnthropicSettings = context.settings
    return find_advice(error, _TABLE if settings.api_key is None else (*_TABLE, _KEY))
