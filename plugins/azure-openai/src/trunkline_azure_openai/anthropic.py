"""Claude in Azure's Foundry: Azure's errors, and what to do about them. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.advice import Advice, find_advice
from trunkline.authoring.json import JSONValue
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import (
    NotFound,
    RemoteError,
    TrunklineError,
)
from trunkline.secrets import Headers, HeaderValues
from trunkline_anthropic.errors import error_from_body
from trunkline_anthropic.parse import MessagesParser

from trunkline_azure_openai.advice import KEY, RESOURCE
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
)


def advice(context: ServiceContext[Any], error: TrunklineError) -> Advice | None:
    """Return what to do about an error, or `None`."""
    settings: AzureAnthropicSettings = context.settings
    return find_advice(error, (*_TABLE, *RESOURCE, *(() if settings.api_key is None else (KEY,))))
