"""What to do about errors of Anthropic's API. Pure."""

from __future__ import annotations

from trunkline.authoring.advice import Advice, find_advice, unknown_model
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.urls import has_host
from trunkline.errors import AuthenticationError, PermissionDenied, QuotaExhausted, TrunklineError

from trunkline_anthropic.settings import AnthropicSettings

_TABLE = (
    Advice(
        "make a new key at https://platform.claude.com/settings/keys, and copy it whole: it begins with sk-ant-",
        problem="key",
        kind=AuthenticationError,
    ),
    Advice(
        "buy credit at https://platform.claude.com/settings/billing, or wait until the limit of the month ends",
        problem="quota",
        kind=QuotaExhausted,
    ),
    Advice(
        "accept what the console asks for, or ask the support: the organization is on hold",
        problem="permission",
        kind=PermissionDenied,
        codes=("organization_on_hold",),
    ),
    Advice(
        "check at https://platform.claude.com/settings/workspaces that the workspace of this key may use the model",
        problem="permission",
        kind=PermissionDenied,
    ),
    unknown_model("https://docs.claude.com/en/docs/about-claude/models"),
)


def advice(context: ServiceContext[AnthropicSettings], error: TrunklineError) -> Advice | None:
    """Return what to do about an error, or `None`.

    Nothing is known about another server, such as a gateway, which has its own keys and limits.
    """
    return find_advice(error, _TABLE) if has_host(context.settings.api_url, "anthropic.com") else None
