"""The settings of `anthropic`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

from trunkline.authoring.json import JSONObject
from trunkline.authoring.model_facts import ModelFactsSetting, model_facts_setting
from trunkline.authoring.urls import has_host
from trunkline.authoring.user_id import SendUserId, send_user_id_setting
from trunkline.secrets import Secret
from trunkline.settings import Converted, KeySource, Settings, any_case, setting, settings, url_setting

from trunkline_anthropic.endpoint import NEWER, MessagesEndpoint, at_root
from trunkline_anthropic.model_facts import AnthropicFacts, facts_of
from trunkline_anthropic.urls import base_url

ApiVersion: TypeAlias = Literal["2026-10-21", "2023-06-01"]
"""The versions of the API."""

BetasSetting: TypeAlias = Converted[tuple[str, ...], Sequence[str]]

_WORKSPACE = re.compile(r"[A-Za-z0-9_-]+")

NO_BETA_HEADER: JSONObject = {
    "properties": {"headers": {"propertyNames": {"not": {"pattern": f"^{any_case('anthropic-beta')}$"}}}}
}
"""The rule of `beta_problems` about the setting `headers`, for the JSON Schema of a settings class."""


def api_version_setting() -> ApiVersion:
    """Declare the setting `api_version`."""
    declared: ApiVersion = setting(
        "API Version",
        "The version of the API, sent as `anthropic-version`. The newer version refuses `temperature`, `top_p` and "
        "`top_k`.",
        default=NEWER,
        group="Requests",
        advanced=True,
        choices={
            "2026-10-21": "The newer version, which refuses `temperature`, `top_p` and `top_k`.",
            "2023-06-01": "The older version.",
        },
    )
    return declared


def betas_setting() -> Any:
    """Declare the setting `betas`, whose type is `BetasSetting`. `beta_problems` checks it."""
    return setting(
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


def _convert_workspace(value: object) -> str:
    if isinstance(value, str) and _WORKSPACE.fullmatch(value.strip()):
        return value.strip()
    raise ValueError(f"the id of a workspace, which begins with wrkspc_, not {value!r}")


def workspace_setting(remark: str, *, variable: str) -> Any:
    """Declare the required setting `workspace_id`, a `str`, for a cloud that serves the workspaces of Anthropic.

    `remark` ends the description. `variable` is the environment variable that Anthropic's SDK reads.
    """
    return setting(
        "Workspace ID",
        f"The id of the workspace, which begins with `wrkspc_`. {remark}",
        environment=(variable,),
        convert=_convert_workspace,
        schema={"type": "string", "pattern": f"^{_WORKSPACE.pattern}$"},
        group="Connection",
        examples=("wrkspc_01AbCdEf23GhIj",),
    )


def beta_problems(betas: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Report beta features that cannot be sent as an HTTP header."""
    if not all(beta.isascii() and beta.isprintable() for beta in betas):
        yield "betas", "must be printable ASCII, since it is sent as an HTTP header"


def beta_header_problems(headers: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Report the header `anthropic-beta` among the names of the setting `headers`."""
    if any(name.lower() == "anthropic-beta" for name in headers):
        yield "headers", "cannot contain anthropic-beta, since a request adds its own features to it; use betas"


@settings
class AnthropicSettings(Settings):
    """How to reach Anthropic's API, or a server that speaks it."""

    provider: ClassVar[str] = "anthropic"
    display_name: ClassVar[str] = "Anthropic"
    model_examples: ClassVar[tuple[str, ...]] = ("claude-sonnet-4-5",)

    schema_rules: ClassVar[tuple[JSONObject, ...]] = (NO_BETA_HEADER,)

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
    api_version: ApiVersion = api_version_setting()
    send_user_id: SendUserId = send_user_id_setting("metadata.user_id")
    betas: BetasSetting = betas_setting()

    model_facts: ModelFactsSetting = model_facts_setting(AnthropicFacts)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report values that cannot be sent as HTTP headers."""
        yield from self.separate_problems(lambda: beta_problems(self.betas), lambda: beta_header_problems(self.headers))


def anthropic_endpoint(settings: AnthropicSettings) -> MessagesEndpoint:
    """Return the endpoint of Anthropic's own API, or of a server that speaks it."""
    root = base_url(settings.api_url)[0]
    return MessagesEndpoint(
        url=at_root(root),
        version=settings.api_version,
        version_setting="api_version",
        betas=settings.betas,
        facts=lambda model: facts_of(model, settings.model_facts),
        send_user_id=settings.send_user_id,
        user_id_key=settings.api_key,
        # Servers that imitate the API do not have the field.
        automatic_caching=has_host(root, "anthropic.com"),
        has_batches=True,
    )
