"""Which region and which URLs the settings of a service mean. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from trunkline.authoring.urls import path_segments
from trunkline.errors import UnsupportedOperation

from trunkline_bedrock.auth import Scope
from trunkline_bedrock.routing import signing_service
from trunkline_bedrock.settings import BedrockSettings
from trunkline_bedrock.urls import base_url, control_sibling, control_url, place_of, public_endpoint, split_s3_uri


def runtime_base(settings: BedrockSettings) -> str:
    """Return the root URL of the runtime's operations. Raises `UnsupportedOperation` if `api_url` is one of Mantle."""
    if settings.api_url is not None:
        place = place_of(base_url(settings.api_url)[0])
        if place.endpoint == "mantle":
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
    if place.endpoint == "mantle" and not (urlsplit(base).hostname or "").startswith("vpce-"):
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
    if is_s3(settings, url):
        return Scope("s3", content_hash=True)
    return Scope(*signing_service(settings, url))


def object_url(settings: BedrockSettings, uri: str) -> str:
    """Return the URL of an object in S3, in the region of the settings or under the setting `s3_url`.

    A bucket with a dot in its name is in the path, since the certificate of S3 does not cover its host.
    """
    bucket, key = split_s3_uri(uri)
    path = path_segments(key, "the key in S3")
    if settings.s3_url is not None:
        return f"{control_url(settings.s3_url)[0]}/{bucket}/{path}"
    endpoint = _s3_endpoint(settings)
    if "." in bucket:
        return f"{endpoint}/{bucket}/{path}"
    return f"https://{bucket}.{endpoint.removeprefix('https://')}/{path}"


def is_s3(settings: BedrockSettings, url: str) -> bool:
    """Return whether a request to this URL goes to S3."""
    if settings.s3_url is not None:
        return url.startswith(f"{control_url(settings.s3_url)[0]}/")
    host = urlsplit(_s3_endpoint(settings)).netloc
    return f".{urlsplit(url).netloc}".endswith(f".{host}")


def _s3_endpoint(settings: BedrockSettings) -> str:
    name = f"s3{'-fips' if settings.uses_fips else ''}{'.dualstack' if settings.use_dualstack_endpoint else ''}"
    return public_endpoint(name, settings.region)


def _public(service: str, settings: BedrockSettings) -> str:
    return public_endpoint(
        service, settings.region, fips=settings.uses_fips, dual_stack=settings.use_dualstack_endpoint
    )
