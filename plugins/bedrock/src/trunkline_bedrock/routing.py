"""Which API and which host serve a request. Pure.

Bedrock serves models with four APIs: Converse, OpenAI's Chat Completions and Responses, and Anthropic's Messages. They
are at two kinds of hosts: `bedrock-runtime` has Converse, and OpenAI's APIs at `/openai/v1`;
`bedrock-mantle` has OpenAI's APIs at `/v1` or `/openai/v1`, as the model requires, and Messages at `/anthropic/v1`.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from trunkline.authoring.urls import endpoint_url
from trunkline.errors import UnsupportedOperation

from trunkline_bedrock.model_facts import API, api_of, facts_of, is_profile, mantle_api_of
from trunkline_bedrock.settings import BedrockSettings
from trunkline_bedrock.urls import MANTLE, Endpoint, Place, endpoint_of_host, mantle_endpoint, public_endpoint

# The paths of OpenAI's and Anthropic's APIs, as opposed to those of AWS's own.
_OPENAI_OR_ANTHROPIC = re.compile(r"/v1/(?:chat/completions|responses|models|messages)(?:/|$)")


def api_for(settings: BedrockSettings, model: str) -> API:
    """Return the API that a model is called with: that of the settings, else by the model and the endpoint."""
    if settings.api != "auto":
        return settings.api
    choose = mantle_api_of if settings.only_mantle else api_of
    return choose(model, settings.model_facts)


def endpoint_for(settings: BedrockSettings, model: str | None) -> Endpoint:
    """Return the endpoint for a request of OpenAI's APIs.

    Without a setting or a URL of AWS's that says it, it is Mantle, as for OpenAI's own client, except for the ids of
    inference profiles, which only `bedrock-runtime` knows.
    """
    if settings.endpoint != "auto":
        return settings.endpoint
    place = settings.openai_place
    if place is not None:
        return place.endpoint or "mantle"
    return "runtime" if model is not None and is_profile(model) else "mantle"


def openai_address(settings: BedrockSettings, path: str, model: str | None) -> str:
    """Return the URL of an endpoint of OpenAI's APIs, such as `/responses`.

    Mantle lists its models at `/v1/models`, as in AWS's documentation (userguide/bedrock-mantle.html).
    """
    endpoint, place = endpoint_for(settings, model), settings.openai_place
    base = place.openai if place is not None else None
    if base is None and endpoint == "runtime":
        base = "/openai/v1"
    elif base is None:
        base = facts_of(model, settings.model_facts).mantle_path if model is not None else "/v1"
    return endpoint_url(_root(settings, endpoint, place, base), f"{base}{path}")


def messages_root(settings: BedrockSettings) -> str:
    """Return the URL that the paths of Anthropic's API are appended to."""
    place = settings.openai_place
    return place.messages if place is not None else f"{_root(settings, 'mantle', None, None)}/anthropic"


def _root(settings: BedrockSettings, endpoint: Endpoint, place: Place | None, base: str | None) -> str:
    if place is not None:
        # The root of another server may end with the path of OpenAI's API.
        return place.root.removesuffix(base) if base is not None else place.root
    if endpoint == "runtime":
        return public_endpoint(
            "bedrock-runtime", settings.region, fips=settings.uses_fips, dual_stack=settings.use_dualstack_endpoint
        )
    if settings.uses_fips:
        instead = (
            "set api to converse"
            if settings.api == "messages"
            else "set endpoint to runtime and use the id of an inference profile"
        )
        raise UnsupportedOperation(f"{MANTLE} has no FIPS endpoint: {instead}, or turn use_fips_endpoint off")
    return mantle_endpoint(settings.region)


def signing_service(settings: BedrockSettings, url: str) -> tuple[str, bool]:
    """Return AWS's name in signatures for the service at a URL, and whether the hash of the body is sent and signed."""
    split = urlsplit(url)
    openai = _OPENAI_OR_ANTHROPIC.search(split.path) is not None
    endpoint = endpoint_of_host(split.hostname or "")[0]
    if endpoint is None and openai:
        endpoint = endpoint_for(settings, None)
    return MANTLE if endpoint == "mantle" else "bedrock", openai
