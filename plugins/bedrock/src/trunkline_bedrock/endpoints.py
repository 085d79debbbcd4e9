"""Which region and which URLs the settings of a service mean. Pure."""

from __future__ import annotations

from trunkline.errors import UnsupportedOperation

from trunkline_bedrock.auth import Scope
from trunkline_bedrock.settings import BedrockSettings
from trunkline_bedrock.urls import (
    MANTLE,
    base_url,
    control_sibling,
    control_url,
    public_endpoint,
    signing_service,
)


def runtime_base(settings: BedrockSettings) -> str:
    """Return the root URL of the runtime's operations."""
    if settings.api_url is not None:
        return base_url(settings.api_url)[0]
    return _public("bedrock-runtime", settings)


def control_base(settings: BedrockSettings) -> str:
    """Return the root URL of the control plane, which lists models.

    Raises `UnsupportedOperation` if it is not known.
    """
    if settings.control_url is not None:
        return control_url(settings.control_url)[0]
    if settings.api_url is None:
        return _public("bedrock", settings)
    base = base_url(settings.api_url)[0]
    control = control_sibling(base)
    if control is None:
        raise UnsupportedOperation(
            f"Bedrock's control plane lists models, and {base} does not serve it: set control_url to the VPC endpoint "
            f"of 'bedrock', or to the region's public endpoint"
        )
    return control


def signing_scope(url: str) -> Scope:
    """Return how a request to a URL is signed: as botocore does, and as OpenAI's client for Bedrock does."""
    service = signing_service(url)
    return Scope(service, content_hash=service == MANTLE or "/openai/v1/" in url)


def _public(service: str, settings: BedrockSettings) -> str:
    return public_endpoint(
        service, settings.region, fips=settings.uses_fips, dual_stack=settings.use_dualstack_endpoint
    )
