"""The settings of `anthropic-google-cloud`, the Claude models on Google Cloud that Anthropic manages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from trunkline.authoring.json import JSONObject
from trunkline.authoring.model_facts import ModelFactsSetting, model_facts_setting
from trunkline.authoring.urls import path_segment, plain_http_note
from trunkline.authoring.user_id import SendUserId, send_user_id_setting
from trunkline.settings import Alternative, is_set, settings, url_setting
from trunkline_anthropic import AnthropicFacts, MessagesEndpoint, at_root, facts_of
from trunkline_anthropic.settings import (
    NO_BETA_HEADER,
    ApiVersion,
    BetasSetting,
    api_version_setting,
    beta_header_problems,
    beta_problems,
    betas_setting,
    workspace_setting,
)
from trunkline_anthropic.urls import base_url

from trunkline_vertex.settings import (
    CREDENTIAL_SETTINGS,
    CREDENTIALS,
    DEFAULT_CREDENTIALS,
    PROJECT_VARIABLE,
    GoogleCloudSettings,
    location_setting,
    one_of,
    project_setting,
)

ORIGIN = "https://claude.googleapis.com"
"""The host of Google's gateway. Source of it and of the path: the anthropic SDK 2.14, lib/google_cloud/_client.py."""

_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "project": ("ANTHROPIC_GOOGLE_CLOUD_PROJECT", PROJECT_VARIABLE),
    "location": ("ANTHROPIC_GOOGLE_CLOUD_LOCATION",),
}
"""The variables that the SDK reads. It does not read `GOOGLE_CLOUD_LOCATION`, since the gateway is global."""


@settings
class AnthropicGoogleCloudSettings(GoogleCloudSettings):
    """How to reach the Claude models on Google Cloud that Anthropic manages, and the credentials to use.

    The location is `global` unless it is set here or in `ANTHROPIC_GOOGLE_CLOUD_LOCATION`.
    """

    provider: ClassVar[str] = "anthropic-google-cloud"
    display_name: ClassVar[str] = "Claude on Google Cloud"
    model_examples: ClassVar[tuple[str, ...]] = ("claude-sonnet-4-6",)
    ambient_credentials: ClassVar[str] = "access tokens of Google's Application Default Credentials"
    alternatives: ClassVar[tuple[Alternative, ...]] = (*CREDENTIALS, DEFAULT_CREDENTIALS)
    schema_rules: ClassVar[tuple[JSONObject, ...]] = (
        NO_BETA_HEADER,
        *one_of(*CREDENTIAL_SETTINGS),
        {"anyOf": [{"not": is_set("access_token")}, is_set("project")]},
    )

    project: str | None = project_setting(f"`ANTHROPIC_GOOGLE_CLOUD_PROJECT` or `{PROJECT_VARIABLE}`")
    location: str | None = location_setting("`ANTHROPIC_GOOGLE_CLOUD_LOCATION`")
    workspace_id: str = workspace_setting("It belongs to one project.", variable="ANTHROPIC_GOOGLE_CLOUD_WORKSPACE_ID")
    api_url: str | None = url_setting(
        "API URL",
        "The root URL of the API, with or without `/v1`, such as that of a proxy. It replaces the URL made of the "
        "project, the location and the workspace.",
        default=None,
        environment=("ANTHROPIC_GOOGLE_CLOUD_BASE_URL",),
        base_url=base_url,
        advanced=True,
    )
    api_version: ApiVersion = api_version_setting()
    send_user_id: SendUserId = send_user_id_setting("metadata.user_id")
    betas: BetasSetting = betas_setting()
    model_facts: ModelFactsSetting = model_facts_setting(AnthropicFacts)

    @classmethod
    def machine_values(
        cls, given: Mapping[str, object], environ: Mapping[str, str]
    ) -> Mapping[str, tuple[object, str]]:
        """Return the project and the location of the variables that Anthropic's SDK reads."""
        found: dict[str, tuple[object, str]] = {}
        for name, variables in _VARIABLES.items():
            variable = next((one for one in variables if environ.get(one, "").strip()), None)
            if variable is not None:
                found[name] = (environ[variable], f"the environment variable {variable}")
        return found

    @property
    def root(self) -> str:
        """The root URL of the API, which `/v1/messages` is appended to."""
        if self.api_url is not None:
            return base_url(self.api_url)[0]
        workspace = path_segment(self.workspace_id, "the workspace")
        return f"{ORIGIN}/v1/{self.parent}/workspaces/{workspace}/invoke"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report what the base class does, and betas that cannot be sent."""
        yield from GoogleCloudSettings.problems(self)
        yield from self.separate_problems(lambda: beta_problems(self.betas), lambda: beta_header_problems(self.headers))

    def notes(self) -> Iterator[tuple[str, str]]:
        """Report what the base class does, and plain HTTP for an access token."""
        yield from GoogleCloudSettings.notes(self)
        if self.api_url is not None and self.access_token is None and self.credentials_json is None:
            note = plain_http_note(base_url(self.api_url)[0])
            if note is not None:
                yield "api_url", note


def anthropic_google_cloud_endpoint(settings: AnthropicGoogleCloudSettings) -> MessagesEndpoint:
    """Return the endpoint of a workspace. Google's gateway passes on the whole of Anthropic's own API."""
    return MessagesEndpoint(
        url=at_root(settings.root),
        version=settings.api_version,
        version_setting="api_version",
        betas=settings.betas,
        facts=lambda model: facts_of(model, settings.model_facts),
        send_user_id=settings.send_user_id,
        automatic_caching=True,
        has_batches=True,
    )
