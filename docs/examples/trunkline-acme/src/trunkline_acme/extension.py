"""The extension: read Acme's settings, and implement the hook that authenticates a service's requests."""

from __future__ import annotations

import os

import attrs
from trunkline import ConfigurationError, Secret, ServiceContext, Settings, hookimpl
from trunkline.authoring.provider import Auth
from trunkline.authoring.urls import is_loopback, split_url

TIMEOUT = 10.0
"""The time limit for one token request, in seconds."""


def _secret(value: str | Secret | None) -> Secret | None:
    return Secret(value) if isinstance(value, str) else value


@attrs.frozen(kw_only=True)
class Acme:
    """Acme's authentication. An argument that is not given is read from the environment when a service opens.

    | argument | environment | |
    |---|---|---|
    | `token_url` | `ACME_TOKEN_URL` | URL of the token endpoint |
    | `client_id` | `ACME_CLIENT_ID` | the application's id |
    | `client_secret` | `ACME_CLIENT_SECRET` | the application's secret |
    | `scope` | `ACME_SCOPE` | the scope of the token; optional |
    """

    token_url: str | None = None
    client_id: str | None = None
    client_secret: Secret | None = attrs.field(default=None, converter=_secret)
    scope: str | None = None

    # `tryfirst` runs this before the provider's own implementation of the hook, which is then never called.
    @hookimpl(tryfirst=True)
    def trunkline_auth(self, context: ServiceContext[Settings]) -> Auth:
        """Implement the hook. Raises `ConfigurationError` if a setting is missing. Sends nothing."""
        # Imported when a service opens, so that an installed extension costs nothing until it is used.
        from trunkline.authoring.auth import CachedToken, Token, fetch_response

        from trunkline_acme.tokens import ClientCredentials

        secret = self.client_secret.reveal() if self.client_secret else None
        grant = ClientCredentials(
            token_url=_url(_required("token_url", self.token_url, context), context),
            client_id=_required("client_id", self.client_id, context),
            client_secret=Secret(_required("client_secret", secret, context)),
            scope=self.scope or os.environ.get("ACME_SCOPE"),
        )

        async def fetch() -> Token:
            response = await fetch_response(context, grant.request())
            return grant.token(response, provider=context.provider)

        return CachedToken(fetch, timeout=TIMEOUT, secrets=grant.secrets)


extension = Acme()
"""The object of the entry point `acme`, configured by environment variables."""


def _required(name: str, given: str | None, context: ServiceContext[Settings]) -> str:
    variable = f"ACME_{name.upper()}"
    value = given or os.environ.get(variable)
    if not value:
        message = f"service {context.name!r}: the extension 'acme' needs {name}: pass Acme({name}=…), or set {variable}"
        raise ConfigurationError(message, service=context.name, setting=name)
    return value


def _url(pasted: str, context: ServiceContext[Settings]) -> str:
    """Check the URL of the token endpoint: the client's secret must not cross the network unencrypted."""
    try:
        url, _ = split_url(pasted)
    except ValueError as error:
        problem = f"must be {error}"
    else:
        if url.scheme == "https" or is_loopback(url.hostname or ""):
            return url.geturl()
        problem = f"must be an https URL: the client's secret would go to {url.hostname} in plain text"
    message = f"service {context.name!r}: token_url of the extension 'acme' {problem}"
    raise ConfigurationError(message, service=context.name, setting="token_url")
