"""What to do about errors of OpenAI and of compatible servers. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.advice import Advice, find_advice
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.urls import has_host
from trunkline.errors import (
    AuthenticationError,
    NotFound,
    PermissionDenied,
    QuotaExhausted,
    TrunklineError,
    UnsupportedOperation,
)

from trunkline_openai.settings import OpenAISettings

_OPENAI = (
    Advice(
        "set organization_id and project_id to those of the key, or remove them",
        problem="key",
        codes=("mismatched_organization", "mismatched_project", "invalid_organization", "invalid_project"),
    ),
    Advice(
        "set organization_id to that of the key, or remove it",
        problem="key",
        message="OpenAI-(Organization|Project) header|no such organization",
    ),
    Advice(
        "make a new key at https://platform.openai.com/api-keys, and copy it whole: it begins with sk-",
        problem="key",
        kind=AuthenticationError,
    ),
    Advice(
        "buy credit at https://platform.openai.com/settings/organization/billing; a ChatGPT subscription does not "
        "include the API",
        problem="quota",
        kind=QuotaExhausted,
    ),
    Advice(
        "use a server in a country that OpenAI supports, or a proxy in one",
        problem="region",
        codes=("unsupported_country_region_territory",),
    ),
    Advice(
        "allow it in the permissions of the key at https://platform.openai.com/api-keys",
        problem="permission",
        message="missing scopes|insufficient permissions",
    ),
    Advice(
        "verify the organization at https://platform.openai.com/settings/organization/general, and wait some minutes",
        problem="permission",
        message="must be verified",
    ),
    Advice(
        "check at https://platform.openai.com/settings that the project of the key may use the model",
        problem="permission",
        kind=PermissionDenied,
    ),
    Advice(
        "set default_model to a model for chat, or api to responses if it is a model of the Responses API",
        problem="model",
        message="not a chat model|only supported in v1/responses",
    ),
    Advice(
        "set default_model to a model of https://platform.openai.com/docs/models that the project of the key may use",
        problem="model",
        kind=NotFound,
        message="model",
    ),
)

_COMPATIBLE = (
    Advice(
        "set api_url to the URL in the server's documentation: it often ends with /v1",
        problem="url",
        kind=NotFound,
        # If the API itself answers, about a model, a stored response ("Response with id 'x' not found") or a batch, the
        # URL is right.
        message=r"^(?!.*\b(models?|endpoints?|deployment|with id|batch)\b)",
    ),
)

_BACKGROUND = r"has no (get_response|cancel_response|resume_stream)$"
_USE_RESPONSES = Advice(
    "set api to responses: only the Responses API has background responses",
    kind=UnsupportedOperation,
    message=_BACKGROUND,
)
_USE_PROFILE = Advice(
    "add background to the list responses of the profile if the server has background responses",
    kind=UnsupportedOperation,
    message=_BACKGROUND,
)


def _on_operations(settings: object) -> tuple[Advice, ...]:
    if getattr(settings, "api", None) == "chat":
        return (_USE_RESPONSES,)
    return (_USE_PROFILE,) if hasattr(settings, "profile") else ()


def openai_advice(context: ServiceContext[OpenAISettings], error: TrunklineError) -> Advice | None:
    """Return what to do about an error of OpenAI, or of another server at `api_url`. `None` if that is not known."""
    table = _OPENAI if has_host(context.settings.api_url, "openai.com") else _COMPATIBLE
    return find_advice(error, (*table, *_on_operations(context.settings)))


def compatible_advice(context: ServiceContext[Any], error: TrunklineError) -> Advice | None:
    """Return what to do about an error of a compatible server, or `None` if that is not known."""
    return find_advice(error, (*_COMPATIBLE, *_on_operations(context.settings)))
