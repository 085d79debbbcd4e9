"""Which region and which URLs the settings of a service mean. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from trunkline.errors import UnsupportedOperation

from trunkline_bedrock.auth import Scope
from trunkline_bedrock.doors import signing_service
from trunkline_bedrock.settings import BedrockSettings
from trunkline_bedrock.urls import base_url, control_sibling, control_url, place_of, public_endpoint


def runtime_base(settings: BedrockSettings) -> str:
    """Return the root URL of the runtime's operations. Raises `UnsupportedOperation` if `api_url` is one of Mantle."""
    if settings.api_url is not None:
        place = place_of(base_url(settings.api_url)[0])
        if place.door == "mantle":
            raise UnsupportedOperation(
                f"{place.root} serves OpenAI's and Anthropic's APIs only: move this URL from api_url to openai_url"
            )
        return place.root
    return _public("bedrock-runtime", settings)


def control_base(settings: BedrockSettings) -> str:
    """Return the root URL of the control plane, which lists models.

    Raises `UnsupportedOperation` if it is not known.
    """
    if settings.control_url is not None:
        return control_url(settings.control_url)[0]
    if settings.api_url is None:
        return _public("bedrock", settings)
    place = place_of(base_url(settings.api_url)[0])
    base = place.root
    if place.door == "mantle" and not (urlsplit(base).hostname or "").startswith("vpce-"):
        return _public("bedrock", settings)
    control = control_sibling(base)
    if control is None:
        raise UnsupportedOperation(
            f"Bedrock's control plane lists models, and {base} does not serve it: set control_url to the VPC endpoint "
            f"of 'bedrock', or to the region's public endpoint"
        )
    return control


def signing_scope(settings: BedrockSettings, url: str) -> Scope:
    """Return how a request to a URL is signed: as botocore does, and as OpenAI's client for Bedrock does."""
    return Scope(*signing_service(settings, url))


def _public(service: str, settings: BedrockSettings) -> str:
    return public_endpoint(
        service, settings.region, fips=settings.uses_fips, dual_stack=settings.use_dualstack_endpoint
    )
