"""The settings of `anthropic`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from trunkline.authoring.json import JSONObject
from trunkline.authoring.model_facts import ModelFactsSetting, model_facts_setting
from trunkline.authoring.user_id import SendUserId, send_user_id_setting
from trunkline.secrets import Secret
from trunkline.settings import Converted, KeySource, Settings, any_case, setting, settings, url_setting

from trunkline_anthropic.model_facts import AnthropicFacts
from trunkline_anthropic.urls import base_url


@settings
class AnthropicSettings(Settings):
    """How to reach Anthropic's API, or a server that speaks it."""

    provider: ClassVar[str] = "anthropic"
    display_name: ClassVar[str] = "Anthropic"
    model_examples: ClassVar[tuple[str, ...]] = ("claude-sonnet-4-5",)

    schema_rules: ClassVar[tuple[JSONObject, ...]] = (
        {"properties": {"headers": {"propertyNames": {"not": {"pattern": f"^{any_case('anthropic-beta')}$"}}}}},
    )

    api_key: Converted[Secret, KeySource] = setting(
        "API Key",
        "The API key of your workspace.",
        environment=("ANTHROPIC_API_KEY",),
        from_function=True,
        group="Authentication",
    )
    api_url: str = url_setting(
        "API URL",
        "The root URL of the API, with or without `/v1`.",
        default="https://api.anthropic.com",
        environment=("ANTHROPIC_BASE_URL",),
        base_url=base_url,
        advanced=True,
    )
    api_version: Literal["2026-10-21", "2023-06-01"] = setting(
        "API Version",
        "The version of the API, sent as `anthropic-version`. The newer version refuses `temperature`, `top_p` and "
        "`top_k`.",
        default="2026-10-21",
        group="Requests",
        advanced=True,
        choices={
            "2026-10-21": "The newer version, which refuses `temperature`, `top_p` and `top_k`.",
            "2023-06-01": "The older version.",
        },
    )
    send_user_id: SendUserId = send_user_id_setting("metadata.user_id")
    betas: Converted[tuple[str, ...], Sequence[str]] = setting(
        "Betas",
        "The beta features to enable, sent as `anthropic-beta`.",
        default=(),
        group="Requests",
        advanced=True,
        schema={
            "type": ["array", "string"],
            "items": {"type": "string", "pattern": r"^[ -~]*$"},
            "pattern": r"^(?!\[)[ -~]*$",
        },
        examples=(["context-1m-2025-08-07"],),
    )

    model_facts: ModelFactsSetting = model_facts_setting(AnthropicFacts)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report values that cannot be sent as HTTP headers."""
        yield from self.separate_problems(self._beta_problems, self._header_problems)

    def _beta_problems(self) -> Iterator[tuple[str, str]]:
        if not all(beta.isascii() and beta.isprintable() for beta in self.betas):
            yield "betas", "must be printable ASCII, since it is sent as an HTTP header"

    def _header_problems(self) -> Iterator[tuple[str, str]]:
        if any(name.lower() == "anthropic-beta" for name in self.headers):
            yield "headers", "cannot contain anthropic-beta, since a request adds its own features to it; use betas"
