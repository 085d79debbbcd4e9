"""The settings of `openai` and `openai-compatible`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from trunkline.authoring.urls import redact_url
from trunkline.authoring.user_id import SendUserId, send_user_id_setting
from trunkline.secrets import Secret
from trunkline.settings import Converted, Settings, setting, settings

from trunkline_openai.profile import Profile, profile_from
from trunkline_openai.urls import base_url


def convert_url(value: object) -> str:
    """A URL as it was pasted, without the spaces around it. Raises `ValueError` for what is no URL."""
    if not isinstance(value, str):
        raise ValueError(f"a URL, not {type(value).__name__}")
    base_url(value)
    return value.strip()


def show_url(value: object) -> str:
    """The `repr` of a URL setting: without user information and query, which may hold a secret."""
    return repr(redact_url(value) if isinstance(value, str) else value)


def _show_profile(value: object) -> str:
    return repr(getattr(value, "name", value))


def _header_problems(**values: str | None) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if value is not None and not (value.isascii() and value.isprintable()):
            yield name, "takes printable ASCII, since it is sent as an HTTP header"


@settings
class OpenAISettings(Settings):
    """How OpenAI's own API is reached."""

    provider: ClassVar[str] = "openai"

    api_key: Converted[Secret, str] = setting(
        "API key", "The key of the account or project.", environment=("OPENAI_API_KEY",)
    )
    organization_id: str | None = setting(
        "Organization id",
        "The organization that is billed, where the key belongs to several.",
        default=None,
        environment=("OPENAI_ORG_ID",),
    )
    project_id: str | None = setting(
        "Project id", "The project that is billed.", default=None, environment=("OPENAI_PROJECT_ID",)
    )
    send_user_id: SendUserId = send_user_id_setting("safety_identifier")
    api: Literal["chat", "responses"] = setting(
        "API", "The API to speak: `chat` (Chat Completions) or `responses` (Responses).", default="chat"
    )
    api_url: str = setting(
        "API URL",
        "The root of the API, with or without `/v1`.",
        default="https://api.openai.com/v1",
        environment=("OPENAI_BASE_URL",),
        convert=convert_url,
        show=show_url,
        schema={"type": "string", "format": "uri"},
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """What cannot be sent."""
        yield from _header_problems(organization_id=self.organization_id, project_id=self.project_id)


@settings
class OpenAICompatibleSettings(Settings):
    """How a server is reached that speaks OpenAI's Chat Completions dialect."""

    provider: ClassVar[str] = "openai-compatible"

    api_url: str = setting(
        "API URL",
        "The root of the server's API, as its own documentation gives it; `/v1` is added where there is no path.",
        convert=convert_url,
        show=show_url,
        schema={"type": "string", "format": "uri"},
    )
    api_key: Converted[Secret | None, str] = setting(
        "API key", "The server's key, where it asks for one.", default=None
    )
    organization_id: str | None = setting(
        "Organization id", "Sent as `OpenAI-Organization`, for the servers that know it.", default=None
    )
    send_user_id: SendUserId = send_user_id_setting("user")
    profile: Converted[Profile, str | Mapping[str, object]] = setting(
        "Profile",
        "The server's quirks: the name of a built-in profile, or a table with a `base` and what differs from it.",
        default="generic",
        convert=profile_from,
        show=_show_profile,
        schema={"anyOf": [{"type": "string"}, {"type": "object"}]},
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """What cannot be sent."""
        yield from _header_problems(organization_id=self.organization_id)
