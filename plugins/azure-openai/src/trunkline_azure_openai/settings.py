"""The settings of `azure-openai`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

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
    any_case,
    is_set,
    setting,
    settings,
    url_setting,
)
from trunkline_openai.model_facts import ModelFacts

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
from trunkline_azure_openai.urls import (
    CLASSIC_VERSION,
    DATE_PATTERN,
    PORTALS,
    PUBLIC,
    VERSION_PATTERN,
    Surface,
    cloud_of,
    convert_version,
    is_dated,
    surface_of,
)

# Around a pasted URL may be quotes, parentheses, and characters that nobody sees.
_START = "^[^A-Za-z0-9/]*(?:[A-Za-z]+:/{0,2}|//)?(?:[^/?#]*@)?"
_END = r"(?:[&#]|[)]*['\u0022`>,;\s\u0080-\uffff]*$)"
_SEGMENT_END = r"(?:[/?#'\u0022`>,;)\s\u0080-\uffff]|$)"
_QUERY = rf"(?:/[^?#]*)?[?](?:.*&)?{any_case('api-version')}="
_V1 = "/[Vv]1"
_WITH_DATE = rf"/(?:{any_case('deployments')}|{any_case('models')})"
_PORTAL = "|".join(map(any_case, PORTALS))
WRONG_PORTALS = rf"{_START}(?:{_PORTAL})[.]?(?::|{_SEGMENT_END})"
"""The pattern of URLs of the portal."""

_WRONG_URLS = "|".join(
    (
        WRONG_PORTALS,
        rf"[?].*%|[?&]{any_case('api-version')}=(?!{VERSION_PATTERN}{_END})",
        rf"{_V1}{_QUERY}{DATE_PATTERN}{_END}",
        rf"{_WITH_DATE}{_QUERY}(?!{DATE_PATTERN}{_END})",
    )
)
"""The pattern of URLs of the portal, and of those with a version that is no version of the API that they are of."""


def _texts(**patterns: str) -> JSONObject:
    """Return the schema of a table in which each of these settings has a text that matches a pattern."""
    properties = {name: {"type": "string", "pattern": pattern} for name, pattern in patterns.items()}
    return {"required": list(patterns), "properties": properties}


def _root_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    surface = surface_of(pasted)
    return surface.root, surface.notes


@settings
class AzureOpenAISettings(Settings):
    """Settings for a resource of Azure OpenAI or Azure AI Foundry."""

    provider: ClassVar[str] = "azure-openai"
    display_name: ClassVar[str] = "Azure OpenAI"
    alternatives: ClassVar[tuple[Alternative, ...]] = ALTERNATIVES
    schema_rules: ClassVar[tuple[JSONObject, ...]] = (
        {"not": is_set("api_key", "token_provider")},
        {"not": _texts(api_url=_V1 + _SEGMENT_END, api_version=rf"^\s*{DATE_PATTERN}\s*$")},
        {"not": _texts(api_url=_WITH_DATE + _SEGMENT_END, api_version=rf"^(?!\s*{DATE_PATTERN}\s*$).*\S")},
        {"not": _texts(api_url=f"/{any_case('models')}{_SEGMENT_END}", api="^responses$")},
        no_headers("api-key", "authorization"),
    )
    model_elsewhere: ClassVar[JSONObject | None] = _texts(api_url=r"""/openai/deployments/[^/?#'">\s]""")
    model_examples: ClassVar[tuple[str, ...]] = ("my-gpt-5",)

    api_url: str = url_setting(
        "API URL",
        "The endpoint of the resource, or the target URI of a deployment, as the portal shows it.",
        environment=("AZURE_OPENAI_ENDPOINT",),
        base_url=_root_url,
        schema={"not": {"type": "string", "pattern": _WRONG_URLS}},
        examples=("https://my-resource.openai.azure.com",),
    )
    api_key: Converted[Secret | None, KeySource] = key_setting("AZURE_OPENAI_API_KEY")
    token_provider: TokenProvider | None = token_provider_setting()
    scope: str | None = scope_setting(
        f"that of the resource's cloud: `{PUBLIC.scope}`, or that of `azure.us` or `azure.cn`"
    )
    api_version: str | None = setting(
        "API Version",
        f"The `api-version` to send. The classic surface requires one; the default is {CLASSIC_VERSION}. If this is a "
        "date, a resource's root means the classic surface.",
        default=None,
        convert=convert_version,
        schema={"type": "string", "pattern": f"^{VERSION_PATTERN}$"},
        group="Connection",
        advanced=True,
        examples=(CLASSIC_VERSION, "2025-04-01-preview"),
    )
    api: Literal["chat", "responses"] = setting(
        "API",
        "The API to use: `chat` (Chat Completions) or `responses` (Responses).",
        default="chat",
        group="Requests",
        choices={"chat": "The Chat Completions API.", "responses": "The Responses API."},
    )
    send_user_id: SendUserId = send_user_id_setting("user")
    model_facts: ModelFactsSetting = model_facts_setting(ModelFacts)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        deployment = self.surface.deployment
        if self.default_model is None and deployment:
            object.__setattr__(self, "default_model", deployment)

    @property
    def surface(self) -> Surface:
        """The surface that these settings use."""
        return surface_of(self.api_url, self.api_version)

    @property
    def token_scope(self) -> str:
        """The scope of tokens: the setting `scope`, or that of the resource's cloud."""
        return self.scope or cloud_of(self.surface.root).scope

    @property
    def token_authority(self) -> str:
        """The host of Entra ID that issues tokens: that of the resource's cloud."""
        return cloud_of(self.surface.root).authority

    def notes(self) -> Iterator[tuple[str, str]]:
        """What is worth a warning about the URL, given `api_version` and the other settings."""
        surface = self.surface
        yield from (("api_url", note) for note in surface.notes)
        if surface.endpoint == "/responses" and self.api == "chat":
            yield "api_url", "it is an endpoint of the Responses API, but api is 'chat'; set api = 'responses'"
        if surface.deployment and self.default_model != surface.deployment:
            note = f"its deployment {surface.deployment!r} is not used, because default_model is {self.default_model!r}"
            yield "api_url", note
        plain = plain_http_note(surface.root)
        if plain is not None:
            yield "api_url", plain

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that are missing or contradict each other."""
        yield from self.separate_problems(
            lambda: credential_problems(self.api_key, self.token_provider, variable="AZURE_OPENAI_API_KEY"),
            lambda: header_problems(self.headers, "api-key", "authorization"),
            lambda: package_problems(self.token_provider),
            self._version_problems,
            self._api_problems,
        )

    def _version_problems(self) -> Iterator[tuple[str, str]]:
        surface = self.surface
        if surface.kind == "v1" and surface.version is not None and is_dated(surface.version):
            yield (
                "api_version",
                f"is {surface.version!r}, but the URL belongs to the v1 surface, which has no dated versions; remove "
                "the version, or set 'api_url' to the resource's root for the classic surface",
            )
        if surface.kind != "v1" and surface.version is not None and not is_dated(surface.version):
            yield "api_version", f"is {surface.version!r}, but the URL requires a date, such as {CLASSIC_VERSION}"

    def _api_problems(self) -> Iterator[tuple[str, str]]:
        if self.surface.kind == "inference" and self.api == "responses":
            yield "api", "is 'responses', which /models does not have; set 'api_url' to the resource's root"


def endpoint_url(settings: Settings, path: str, model: str | None) -> str:
    """The URL of an endpoint of the service."""
    assert isinstance(settings, AzureOpenAISettings)
    return settings.surface.url(path, model)
