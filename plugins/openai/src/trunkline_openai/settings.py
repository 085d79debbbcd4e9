"""The settings of `openai` and `openai-compatible`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import ClassVar, Literal, TypeAlias

from trunkline.secrets import Secret
from trunkline.settings import Settings, setting, settings
from trunkline.wire import redact_url

from trunkline_openai.profile import Profile, profile_from
from trunkline_openai.urls import base_url

SendUserId: TypeAlias = Literal[False, True, "hashed"]
"""Whether a request's user id is sent: not at all, as it is, or as a keyed hash."""

HASH_CONTEXT = "trunkline.user_id"
"""The key of the hash where a service has no API key."""

_SWITCH: dict[str, SendUserId] = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
    "hashed": "hashed",
}


def convert_send_user_id(value: object) -> SendUserId:
    """`false`, `true` or `hashed`, from a truth value or text. Raises `ValueError`."""
    found = _SWITCH.get(value.strip().lower()) if isinstance(value, str) else value
    if isinstance(found, bool):
        return found
    if found == "hashed":
        return "hashed"
    raise ValueError(f"false, true or 'hashed', not {value!r}")


def convert_url(value: object) -> str:
    """A URL as it was pasted, without the spaces around it. Raises `ValueError` for what is no URL."""
    if not isinstance(value, str):
        raise ValueError(f"a URL, not {type(value).__name__}")
    base_url(value)
    return value.strip()


def show_url(value: object) -> str:
    """The `repr` of a URL setting: without user information and query, which may hold a secret."""
    return repr(redact_url(value) if isinstance(value, str) else value)


def send_user_id_setting(field: str) -> SendUserId:
    """The setting `send_user_id`; `field` names where the id goes."""
    chosen: SendUserId = setting(
        "Send user id",
        f"Send a request's user id to the provider, in the field `{field}`: `false`, `true`, or `hashed` for a keyed "
        "hash (HMAC-SHA256 with the API key, in hexadecimal) in its place.",
        default=False,
        convert=convert_send_user_id,
        schema={"enum": [False, True, "hashed"]},
    )
    return chosen


def user_identifier(user_id: str | None, send: SendUserId, api_key: Secret | None) -> str | None:
    """What is sent for a request's user id, under the setting `send_user_id`; `None` for nothing.

    The hash of one id is the same for as long as the key is. Without a key it is made with `HASH_CONTEXT`, which
    everyone knows: who guesses an id can then confirm it.
    """
    if user_id is None or send is False:
        return None
    if send is True:
        return user_id
    key = api_key.reveal() if api_key is not None else HASH_CONTEXT
    return hmac.new(key.encode(), user_id.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


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

    api_key: Secret = setting("API key", "The key of the account or project.", environment=("OPENAI_API_KEY",))
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
    api_key: Secret | None = setting("API key", "The server's key, where it asks for one.", default=None)
    organization_id: str | None = setting(
        "Organization id", "Sent as `OpenAI-Organization`, for the servers that know it.", default=None
    )
    send_user_id: SendUserId = send_user_id_setting("user")
    profile: Profile = setting(
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
