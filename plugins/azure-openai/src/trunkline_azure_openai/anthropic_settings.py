"""The settings of `azure-anthropic`, Claude in Azure's Foundry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

from trunkline.authoring.json import JSONObject
from trunkline.authoring.model_facts import ModelFactsSetting, model_facts_setting
from trunkline.authoring.urls import plain_http_note
from trunkline.authoring.user_id import SendUserId, send_user_id_setting
from trunkline.secrets import Secret
from trunkline.settings import (
    Alternative,
    Converted,
    KeySource,
    Settings,
    is_set,
    settings,
    url_setting,
)
from trunkline_anthropic import AnthropicFacts, MessagesEndpoint, at_root, facts_of
from trunkline_anthropic.settings import (
    NO_BETA_HEADER,
    ApiVersion,
    BetasSetting,
    api_version_setting,
    beta_header_problems,
    beta_problems,
    betas_setting,
)
from trunkline_anthropic.urls import base_url

from trunkline_azure_openai.credentials import (
    ALTERNATIVES,
    TokenProvider,
    credential_problems,
    header_problems,
    key_setting,
    no_headers,
    package_problems,
    scope_setting,
    token_provider_setting,
)
from trunkline_azure_openai.settings import WRONG_PORTALS
from trunkline_azure_openai.urls import PORTALS, cloud_of

SCOPE = "https://ai.azure.com/.default"
"""The default scope of tokens.

Source: the anthropic SDK 2.14, lib/foundry.md. No source names the scopes of Azure Government and of Azure in China.
"""

_PATH = "/anthropic"
"""Where a resource serves the Messages API."""

_HOSTS = tuple(
    f".{service}.azure.{cloud}"
    for service in ("services.ai", "openai", "cognitiveservices")
    for cloud in ("com", "us", "cn")
)
"""The ends of the hosts of resources."""

_CREDENTIAL_HEADERS = ("x-api-key", "api-key", "authorization")


def foundry_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """Return the URL that `/v1/messages` is appended to, and notes on changes that a user should know about.

    The path of a resource becomes `/anthropic`, whatever API the URL is of. The URL of any other server, such as a
    gateway, keeps its path. Raises `ValueError` for text that is not a URL, and for a URL of the
    portal.
    """
    root, notes = base_url(pasted)
    url = urlsplit(root)
    host = (url.hostname or "").rstrip(".")
    if host in PORTALS:
        raise ValueError(
            "the endpoint of the resource, such as https://RESOURCE.services.ai.azure.com/anthropic, not the address "
            "of the portal"
        )
    if not host.endswith(_HOSTS) or (url.path == _PATH and not url.query):
        return root, notes
    if url.path not in ("", _PATH) or url.query:
        notes = (*notes, f"the resource serves Claude at {_PATH}, so the path and the query of the URL are not used")
    return urlunsplit(url._replace(path=_PATH, query="")), notes


@settings
class AzureAnthropicSettings(Settings):
    """Settings for the Claude models of a resource of Azure AI Foundry."""

    provider: ClassVar[str] = "azure-anthropic"
    display_name: ClassVar[str] = "Claude in Azure Foundry"
    model_examples: ClassVar[tuple[str, ...]] = ("claude-sonnet-4-6",)
    alternatives: ClassVar[tuple[Alternative, ...]] = ALTERNATIVES
    schema_rules: ClassVar[tuple[JSONObject, ...]] = (
        {"not": is_set("api_key", "token_provider")},
        NO_BETA_HEADER,
        no_headers(*_CREDENTIAL_HEADERS),
    )

    api_url: str = url_setting(
        "API URL",
        "The endpoint of the resource, as the portal shows it, or the URL of a gateway, with or without `/v1`.",
        environment=("ANTHROPIC_FOUNDRY_BASE_URL",),
        base_url=foundry_url,
        schema={"not": {"type": "string", "pattern": WRONG_PORTALS}},
        examples=("https://my-resource.services.ai.azure.com",),
    )
    api_key: Converted[Secret | None, KeySource] = key_setting("ANTHROPIC_FOUNDRY_API_KEY")
    token_provider: TokenProvider | None = token_provider_setting()
    scope: str | None = scope_setting(f"`{SCOPE}`")
    api_version: ApiVersion = api_version_setting()
    send_user_id: SendUserId = send_user_id_setting("metadata.user_id")
    betas: BetasSetting = betas_setting()
    model_facts: ModelFactsSetting = model_facts_setting(AnthropicFacts)

    @property
    def root(self) -> str:
        """The URL that `/v1/messages` is appended to."""
        return foundry_url(self.api_url)[0]

    @property
    def token_scope(self) -> str:
        """The scope of tokens."""
        return self.scope or SCOPE

    @property
    def token_authority(self) -> str:
        """The host of Entra ID that issues tokens: that of the resource's cloud."""
        return cloud_of(self.root).authority

    def notes(self) -> Iterator[tuple[str, str]]:
        """What is worth a warning about the URL."""
        yield from Settings.notes(self)
        plain = plain_http_note(self.root) if self.api_key is None else None
        if plain is not None:
            yield "api_url", plain

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that are missing or contradict each other."""
        yield from self.separate_problems(
            lambda: credential_problems(self.api_key, self.token_provider, variable="ANTHROPIC_FOUNDRY_API_KEY"),
            lambda: header_problems(self.headers, *_CREDENTIAL_HEADERS),
            lambda: beta_header_problems(self.headers),
            lambda: package_problems(self.token_provider),
            lambda: beta_problems(self.betas),
        )


def azure_anthropic_endpoint(settings: AzureAnthropicSettings) -> MessagesEndpoint:
    """Return the endpoint of a resource. It has neither batches nor models (the anthropic SDK 2.14, lib/foundry.py)."""
    return MessagesEndpoint(
        url=at_root(settings.root),
        version=settings.api_version,
        version_setting="api_version",
        betas=settings.betas,
        facts=lambda model: facts_of(model, settings.model_facts),
        send_user_id=settings.send_user_id,
        user_id_key=settings.api_key,
        # platform.claude.com, build-with-claude/prompt-caching; 2026-11
        automatic_caching=True,
        has_models=False,
        has_batches=False,
    )
