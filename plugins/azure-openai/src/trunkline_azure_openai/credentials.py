"""The settings about credentials, which the providers of this distribution share: a key, or Entra ID. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from trunkline.authoring.json import JSONObject
from trunkline.settings import Alternative, any_case, setting

AZURE_IDENTITY: Literal["azure-identity"] = "azure-identity"
"""The value of `token_provider` that stands for the default credential of the package azure-identity."""


@runtime_checkable
class TokenCredential(Protocol):
    """A credential of azure-identity, sync or async."""

    def get_token(self, *scopes: str) -> Any:
        """Return a token for the scopes: an object with `token` and `expires_on`, or an awaitable of one."""
        ...


TokenProvider: TypeAlias = Callable[[], object] | TokenCredential | Literal["azure-identity"]
"""Where tokens come from.

- A sync or async function that returns a token: a string, or an object with `token` and `expires_on` (in seconds since
  the epoch).
- A credential of azure-identity.
- `"azure-identity"`, for its default credential.
"""


class TokenSettings(Protocol):
    """What `TokenAuth` reads of the settings."""

    @property
    def token_provider(self) -> TokenProvider | None:
        """Where tokens come from."""
        ...

    @property
    def token_scope(self) -> str:
        """The scope of tokens, for credentials of azure-identity."""
        ...

    @property
    def token_authority(self) -> str:
        """The host of Entra ID that issues them."""
        ...


ALTERNATIVES = (
    Alternative(
        title="API key",
        description="One of the two keys of the resource.",
        settings=("api_key",),
        required=("api_key",),
    ),
    Alternative(
        title="Entra ID",
        description="Tokens of Microsoft Entra ID, for a managed identity or a signed-in user.",
        settings=("token_provider", "scope"),
        required=("token_provider",),
    ),
)
"""The ways to authenticate."""


def key_setting(variable: str) -> Any:
    """Declare the setting `api_key`, whose type is `Converted[Secret | None, KeySource]`."""
    return setting(
        "API Key",
        "One of the resource's two keys. Either this or `token_provider` is required.",
        default=None,
        environment=(variable,),
        source_group="credential",
        group="Authentication",
        from_function=True,
    )


def _convert_token_provider(value: object) -> TokenProvider:
    if isinstance(value, str):
        if value.strip().lower() == AZURE_IDENTITY:
            return AZURE_IDENTITY
        # Someone may have pasted a token, so the error does not show the text.
        raise ValueError(f"{AZURE_IDENTITY!r}, a function that returns a token, or a credential, not other text")
    if isinstance(value, type) or not (isinstance(value, TokenCredential) or callable(value)):
        raise ValueError(f"{AZURE_IDENTITY!r}, a function that returns a token, or a credential, not {value!r}")
    return value


def _show_token_provider(value: object) -> str:
    return repr(value) if value is None or isinstance(value, str) else f"<{type(value).__qualname__}>"


def token_provider_setting() -> Any:
    """Declare the setting `token_provider`, whose type is `TokenProvider | None`."""
    return setting(
        "Token Provider",
        "Use Entra ID instead of a key: `azure-identity` for the default credential of that package (needs the extra "
        "`azure-identity`); in code also a sync or async function that returns a token, or a credential.",
        default=None,
        source_group="credential",
        group="Authentication",
        convert=_convert_token_provider,
        show=_show_token_provider,
        schema={"enum": [AZURE_IDENTITY]},
        choices={AZURE_IDENTITY: "The default credential of the package azure-identity."},
    )


def scope_setting(default: str) -> Any:
    """Declare the setting `scope`, whose type is `str | None`. `default` describes which scope is the default."""
    return setting(
        "Scope",
        f"The scope to request from credentials of azure-identity. The default is {default}.",
        default=None,
        group="Authentication",
        advanced=True,
    )


def credential_problems(api_key: object, token_provider: object, *, variable: str) -> Iterator[tuple[str, str]]:
    """Report neither or both of the two credentials. `variable` is the environment variable of the key."""
    if api_key is None and token_provider is None:
        yield "api_key", f"is required, or 'token_provider' for Entra ID; the key can be set as {variable}"
    if api_key is not None and token_provider is not None:
        yield "token_provider", "and 'api_key' are both set; set only one, because only one of the two can be sent"


def no_headers(*names: str) -> JSONObject:
    """Return the rule of `header_problems` about the setting `headers`, for the JSON Schema of a settings class."""
    pattern = f"^(?:{'|'.join(map(any_case, names))})$"
    return {"properties": {"headers": {"propertyNames": {"not": {"pattern": pattern}}}}}


def header_problems(headers: Iterable[str], *credentials: str) -> Iterator[tuple[str, str]]:
    """Report headers that are credentials among the names of the setting `headers`."""
    for name in headers:
        if name.lower() in credentials:
            yield "headers", f"contains {name!r}; set the key as 'api_key', or the token as 'token_provider'"


def package_problems(token_provider: object) -> Iterator[tuple[str, str]]:
    """Report that azure-identity is needed and not installed."""
    if token_provider == AZURE_IDENTITY and not has_azure_identity():
        yield "token_provider", "needs azure-identity: pip install 'trunkline-azure-openai[azure-identity]'"


def has_azure_identity() -> bool:
    """Return whether azure-identity is installed."""
    from importlib.util import find_spec

    try:
        return find_spec("azure.identity") is not None
    except ModuleNotFoundError:
        return False
