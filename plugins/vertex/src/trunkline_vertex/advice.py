"""What to do about errors of Vertex AI and of Google's credentials. Pure."""

from __future__ import annotations

from trunkline.authoring.advice import Advice, find_advice, unknown_model
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import AuthenticationError, NotFound, PermissionDenied, RateLimited, TrunklineError

from trunkline_vertex.settings import GoogleCloudSettings

_MODELS = "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions"
_CREDENTIALS = (
    Advice(
        "run `gcloud auth application-default login`, or set credentials_file to the JSON file of a service account",
        problem="key",
        kind=AuthenticationError,
        message="no credentials of Google Cloud can be used",
    ),
    Advice(
        "log in again with `gcloud auth application-default login`, or make a new key for the service account: these "
        "credentials have expired or were revoked",
        problem="key",
        kind=AuthenticationError,
        message="invalid_grant|expired or revoked|reauth",
    ),
    Advice(
        "make a new key for the service account, and set credentials_file to it: the account or the key was deleted",
        problem="key",
        kind=AuthenticationError,
        message="invalid_client|unauthorized_client|account not found",
    ),
    Advice(
        "check the audience and the credential source in the file of workload identity federation",
        problem="key",
        kind=AuthenticationError,
        message="invalid_target|subject token|identity pool|invalid_request",
    ),
    Advice(
        "use access tokens with the scope https://www.googleapis.com/auth/cloud-platform: this one has not that scope",
        problem="permission",
        message="insufficient authentication scopes|ACCESS_TOKEN_SCOPE_INSUFFICIENT",
    ),
    Advice(
        "set project and credentials instead of api_key: this operation does not accept API keys",
        problem="key",
        message="API keys are not supported",
    ),
    Advice(
        "make a new key at https://console.cloud.google.com/apis/credentials",
        problem="key",
        message="API key not valid|API key expired",
    ),
    Advice(
        "enable billing for the project in the Google Cloud console",
        problem="quota",
        message="billing",
    ),
    Advice(
        "give the account the role serviceusage.serviceUsageConsumer on the quota project, or set quota_project",
        problem="permission",
        kind=PermissionDenied,
        message="serviceusage|USER_PROJECT_DENIED",
    ),
)
"""Advice about the credentials of Google Cloud."""

_VERTEX = (
    Advice(
        "enable the Vertex AI API for the project (`gcloud services enable aiplatform.googleapis.com`), and wait some "
        "minutes",
        problem="permission",
        kind=PermissionDenied,
        message="has not been used in project|is disabled|SERVICE_DISABLED",
    ),
    Advice(
        "give the account the role aiplatform.user (Vertex AI User) on the project",
        problem="permission",
        kind=PermissionDenied,
    ),
    Advice(
        f"set default_model to a model that location has, or set location to global: {_MODELS} lists them",
        problem="model",
        kind=NotFound,
        message="model",
    ),
    Advice(
        "try again later, set location to global, or buy provisioned throughput: the capacity is shared",
        problem="rate-limit",
        kind=RateLimited,
        message="resource.*exhausted",
    ),
    unknown_model(_MODELS),
)

_ANTHROPIC = (
    Advice(
        "check project, location and workspace_id: the workspace belongs to one project, and the location is usually "
        "global",
        problem="url",
        kind=NotFound,
        message="project|location|workspace|not found on this server",
    ),
    Advice(
        "give the account access to the workspace in the Google Cloud console, and check the subscription there",
        problem="permission",
        kind=PermissionDenied,
    ),
    unknown_model("https://docs.claude.com/en/docs/about-claude/models"),
)


def advice(context: ServiceContext[GoogleCloudSettings], error: TrunklineError) -> Advice | None:
    """Return what to do about an error of Vertex AI, or `None`."""
    return find_advice(error, (*_CREDENTIALS, *_VERTEX))


def anthropic_advice(context: ServiceContext[GoogleCloudSettings], error: TrunklineError) -> Advice | None:
    """Return what to do about an error of Claude on Google Cloud, or `None`."""
    return find_advice(error, (*_CREDENTIALS, *_ANTHROPIC))
