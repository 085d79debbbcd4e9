"""The settings of `anthropic`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from trunkline.authoring.urls import redact_url
from trunkline.authoring.user_id import SendUserId, send_user_id_setting
from trunkline.secrets import Secret
from trunkline.settings import Settings, setting, settings

from trunkline_anthropic.urls import base_url


def _convert_url(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a URL, not {type(value).__name__}")
    base_url(value)
    return value.strip()


def _show_url(value: object) -> str:
    return repr(redact_url(value) if isinstance(value, str) else value)


@settings
class AnthropicSettings(Settings):
    """How Anthropic's API, or a server that speaks it, is reached."""

    provider: ClassVar[str] = "anthropic"

    api_key: Secret = setting("API key", "The key of the workspace.", environment=("ANTHROPIC_API_KEY",))
    api_url: str = setting(
        "API URL",
        "The root of the API, with or without `/v1`.",
        default="https://api.anthropic.com",
        environment=("ANTHROPIC_BASE_URL",),
        convert=_convert_url,
        show=_show_url,
        schema={"type": "string", "format": "uri"},
    )
    api_version: Literal["2026-10-21", "2023-06-01"] = setting(
        "API version",
        "The version of the API, sent as `anthropic-version`. The newer takes no `temperature`, `top_p` or `top_k`.",
        default="2026-10-21",
    )
    send_user_id: SendUserId = send_user_id_setting("metadata.user_id")
    betas: tuple[str, ...] = setting("Betas", "The beta features to switch on, sent as `anthropic-beta`.", default=())

    def problems(self) -> Iterator[tuple[str, str]]:
        """What cannot be sent."""
        if not self.api_key.reveal().isascii():
            yield "api_key", "takes ASCII, since it is sent as an HTTP header"
        if not all(beta.isascii() and beta.isprintable() for beta in self.betas):
            yield "betas", "takes printable ASCII, since it is sent as an HTTP header"
        if any(name.lower() == "anthropic-beta" for name in self.headers):
            yield "headers", "cannot have anthropic-beta, which the beta features of a request are joined to; use betas"
