"""The settings of `openai` and `openai-compatible`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from trunkline.authoring.json import JSONObject
from trunkline.authoring.model_facts import ModelFactsSetting, model_facts_setting
from trunkline.authoring.user_id import SendUserId, send_user_id_setting
from trunkline.secrets import Secret
from trunkline.settings import Converted, KeySource, Settings, setting, settings, url_setting

from trunkline_openai.model_facts import ModelFacts
from trunkline_openai.profile import DESCRIPTIONS, TABLE, Profile, profile_for_url, profile_from
from trunkline_openai.urls import base_url


def _show_profile(value: object) -> str:
    return repr(getattr(value, "name", value))


_HEADER: JSONObject = {"type": "string", "pattern": "^[ -~]+$"}
"""A text that can be sent in an HTTP header."""


def _profile(value: object) -> Profile | None:
    return None if value is None else profile_from(value)


def _header_problems(**values: str | None) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if value is not None and not (value.isascii() and value.isprintable()):
            yield name, "must be printable ASCII, because it is sent as an HTTP header"


@settings
class OpenAISettings(Settings):
    """Settings for OpenAI's own API."""

    provider: ClassVar[str] = "openai"
    display_name: ClassVar[str] = "OpenAI"
    model_examples: ClassVar[tuple[str, ...]] = ("gpt-5.2",)

    api_key: Converted[Secret, KeySource] = setting(
        "API Key",
        "The API key of the account or project.",
        environment=("OPENAI_API_KEY",),
        from_function=True,
        group="Authentication",
    )
    organization_id: str | None = setting(
        "Organization ID",
        "The organization to bill, if the key belongs to several.",
        default=None,
        schema=_HEADER,
        environment=("OPENAI_ORG_ID",),
        group="Authentication",
    )
    project_id: str | None = setting(
        "Project ID",
        "The project to bill.",
        default=None,
        schema=_HEADER,
        environment=("OPENAI_PROJECT_ID",),
        group="Authentication",
        advanced=True,
    )
    send_user_id: SendUserId = send_user_id_setting("safety_identifier")
    api: Literal["chat", "responses"] = setting(
        "API",
        "The API to use: `chat` (Chat Completions) or `responses` (Responses).",
        default="chat",
        group="Requests",
        choices={"chat": "The Chat Completions API.", "responses": "The Responses API."},
    )
    api_url: str = url_setting(
        "API URL",
        "The root URL of the API, with or without `/v1`.",
        default="https://api.openai.com/v1",
        environment=("OPENAI_BASE_URL",),
        base_url=base_url,
        advanced=True,
    )
    model_facts: ModelFactsSetting = model_facts_setting(ModelFacts)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Values that cannot be sent."""
        yield from _header_problems(organization_id=self.organization_id, project_id=self.project_id)


@settings
class OpenAICompatibleSettings(Settings):
    """Settings for a server that is compatible with OpenAI's Chat Completions API or its Responses API."""

    provider: ClassVar[str] = "openai-compatible"
    display_name: ClassVar[str] = "OpenAI Compatible"

    api_url: str = url_setting(
        "API URL",
        "The root URL of the server's API, as its documentation gives it. `/v1` is added to a URL without a path.",
        base_url=base_url,
        examples=("http://localhost:11434/v1", "https://api.groq.com/openai/v1"),
    )
    api_key: Converted[Secret | None, KeySource] = setting(
        "API Key", "The API key, if the server requires one.", default=None, from_function=True, group="Authentication"
    )
    organization_id: str | None = setting(
        "Organization ID",
        "Sent as the header `OpenAI-Organization`, for servers that support it.",
        default=None,
        schema=_HEADER,
        group="Authentication",
    )
    send_user_id: SendUserId = send_user_id_setting("user")
    api: Literal["chat", "responses"] = setting(
        "API",
        "The API to use: `chat` (Chat Completions) or `responses` (Responses), which fewer servers have.",
        default="chat",
        group="Requests",
        choices={"chat": "The Chat Completions API.", "responses": "The Responses API."},
    )
    profile: Converted[Profile | None, str | Mapping[str, object] | None] = setting(
        "Profile",
        "How the server differs from OpenAI: a built-in profile's name, or a table with a `base` and the differences. "
        "The default is the profile of the host in `api_url` if it is known, else `generic`.",
        default=None,
        convert=_profile,
        show=_show_profile,
        schema={
            "oneOf": [
                *({"const": name, "title": name, "description": text} for name, text in DESCRIPTIONS.items()),
                TABLE,
            ]
        },
        group="Connection",
    )
    model_facts: ModelFactsSetting = model_facts_setting(ModelFacts)

    @property
    def server(self) -> Profile:
        """The profile in use: the setting `profile`, or the profile of the host."""
        return self.profile if self.profile is not None else profile_for_url(base_url(self.api_url)[0])

    def problems(self) -> Iterator[tuple[str, str]]:
        """Values that cannot be sent."""
        yield from _header_problems(organization_id=self.organization_id)
