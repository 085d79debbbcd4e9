"""The extension: where Acme's settings come from, and the hook that puts its tokens on a service's requests."""

from __future__ import annotations

import os

import attrs
from trunkline import ConfigurationError, Secret, ServiceContext, Settings, hookimpl
from trunkline.authoring.provider import Auth
from trunkline.authoring.urls import is_loopback, split_url


def _secret(value: str | Secret | None) -> Secret | None:
    return Secret(value) if isinstance(value, str) else value


@attrs.frozen(kw_only=True)
class Acme:
    """Acme's authentication. What is not given comes from the environment, when a service opens.

    | argument | environment | |
    |---|---|---|
    | `token_url` | `ACME_TOKEN_URL` | where tokens are issued |
    | `client_id` | `ACME_CLIENT_ID` | the application's id |
    | `client_secret` | `ACME_CLIENT_SECRET` | its secret |
    | `scope` | `ACME_SCOPE` | what the token may be used for; optional |
    """

    token_url: str | None = None
    client_id: str | None = None
    client_secret: Secret | None = attrs.field(default=None, converter=_secret)
    scope: str | None = None

    # `tryfirst`: the provider's own implementation of the hook, which is registered first, is then never asked.
    @hookimpl(tryfirst=True)
    def trunkline_auth(self, context: ServiceContext[Settings]) -> Auth:
        """Implements the hook. Raises `ConfigurationError` for what is missing; nothing is sent yet."""
        # Imported when a service opens: naming the extension in a file costs nothing.
        from trunkline_acme.auth import TokenAuth
        from trunkline_acme.tokens import ClientCredentials

        secret = self.client_secret.reveal() if self.client_secret else None
        grant = ClientCredentials(
            token_url=_url(_needed("token_url", self.token_url, context), context),
            client_id=_needed("client_id", self.client_id, context),
            client_secret=Secret(_needed("client_secret", secret, context)),
            scope=self.scope or os.environ.get("ACME_SCOPE"),
        )
        return TokenAuth(grant, context)


extension = Acme()
"""What the entry point `acme` names: all of it from the environment."""


def _needed(name: str, given: str | None, context: ServiceContext[Settings]) -> str:
    variable = f"ACME_{name.upper()}"
    value = given or os.environ.get(variable)
    if not value:
        told = f"service {context.name!r}: the extension 'acme' needs {name}: pass Acme({name}=…), or set {variable}"
        raise ConfigurationError(told, service=context.name, setting=name)
    return value


def _url(pasted: str, context: ServiceContext[Settings]) -> str:
    """The URL of the token endpoint; the client's secret must not go over plain HTTP to another machine."""
    try:
        url, _ = split_url(pasted)
    except ValueError as error:
        problem = f"takes {error}"
    else:
        if url.scheme == "https" or is_loopback(url.hostname or ""):
            return url.geturl()
        problem = f"takes an https URL: the client's secret would go to {url.hostname} in plain text"
    told = f"service {context.name!r}: token_url of the extension 'acme' {problem}"
    raise ConfigurationError(told, service=context.name, setting="token_url")
