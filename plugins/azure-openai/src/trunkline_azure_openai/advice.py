"""What to do about errors of Azure OpenAI, and of all resources. Pure."""

from __future__ import annotations

from trunkline.authoring.advice import Advice, find_advice
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import (
    AuthenticationError,
    ConnectionFailed,
    NotFound,
    QuotaExhausted,
    RateLimited,
    TrunklineError,
)

from trunkline_azure_openai.settings import AzureOpenAISettings

KEY = Advice(
    "copy KEY 1 or KEY 2 of the resource in api_url again, from its page Keys and Endpoint in the portal",
    problem="key",
    kind=AuthenticationError,
)
_ENTRA_ID = "set token_provider instead of api_key: the resource accepts only Entra ID"
RESOURCE = (
    Advice(_ENTRA_ID, problem="key", codes=("AuthenticationTypeDisabled",)),
    Advice(_ENTRA_ID, problem="key", message="key.based authentication is disabled"),
    Advice(
        "allow the network of this machine in the networking settings of the resource, or use its private endpoint",
        problem="permission",
        message="public access is disabled|virtual network|firewall rules|traffic is not from an approved",
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
        "check the name of the resource in api_url: it is the first part of the host",
        problem="dns",
        kind=ConnectionFailed,
        message="name of the host cannot be resolved",
    ),
)
"""Advice about a resource, whatever API it serves."""

_TABLE = (
    Advice(
        "set api_version to one that Azure supports, such as 2024-10-21, or remove it",
        problem="settings",
        message="api.version.* (not supported|unsupported|invalid|not valid|missing)|(unsupported|invalid) api.version",
    ),
    Advice(
        "set default_model to the name of a deployment of this resource, not of a model; a new deployment works after "
        "some minutes",
        problem="deployment",
        codes=("DeploymentNotFound", "unknown_model"),
    ),
    Advice(
        "set default_model to the name of a deployment of this resource, not of a model",
        problem="deployment",
        kind=NotFound,
        message="deployment|model",
    ),
    Advice(
        "check that api_url is the endpoint of the resource as the portal shows it, and api_version",
        problem="url",
        kind=NotFound,
        message=r"^(?!.*\b(with id|batch)\b)",  # those are about a stored response or a batch
    ),
    Advice(
        "deploy a model that supports this operation, and set default_model to the name of the deployment",
        problem="deployment",
        codes=("OperationNotSupported",),
    ),
)


def advice(context: ServiceContext[AzureOpenAISettings], error: TrunklineError) -> Advice | None:
    """Return what to do about an error, or `None`."""
    return find_advice(error, (*_TABLE, *RESOURCE, *(() if context.settings.api_key is None else (KEY,))))
