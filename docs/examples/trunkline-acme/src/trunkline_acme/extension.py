"""The extension: its settings, and the hook that authenticates a service's requests."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from trunkline import Secret, ServiceContext, Settings, hookimpl
from trunkline.authoring.extension import Extension, ExtensionSettings
from trunkline.authoring.provider import Auth
from trunkline.authoring.urls import is_loopback
from trunkline.settings import Converted, setting, settings, url_setting

TIMEOUT = 10.0
"""The time limit for one token request, in seconds."""


@settings
class AcmeSettings(ExtensionSettings):
    """The settings of the extension `acme`."""

    extension = "acme"

    token_url: str = url_setting("Token URL", "URL of the token endpoint.", environment=("ACME_TOKEN_URL",))
    client_id: str = setting("Client ID", "The application's id.", environment=("ACME_CLIENT_ID",))
    client_secret: Converted[Secret, str] = setting(
        "Client secret", "The application's secret.", environment=("ACME_CLIENT_SECRET",), in_header=False
    )
    scope: str | None = setting("Scope", "The scope of the token.", default=None, environment=("ACME_SCOPE",))

    def problems(self) -> Iterator[tuple[str, str]]:
        """The client's secret must not cross the network unencrypted."""
        url = urlsplit(self.token_url)
        if url.scheme != "https" and not is_loopback(url.hostname or ""):
            yield "token_url", f"must be an https URL: the client's secret would go to {url.hostname} in plain text"


class Acme:
    """Authenticates services with Acme's tokens."""

    def __init__(self, acme: AcmeSettings) -> None:
        self._acme = acme

    # `tryfirst` runs this before the provider's own implementation of the hook, which is then never called.
    @hookimpl(tryfirst=True)
    def trunkline_auth(self, context: ServiceContext[Settings]) -> Auth:
        """Implement the hook. Sends nothing."""
        # Imported when a service opens, so that an installed extension costs nothing until it is used.
        from trunkline.authoring.auth import Token, fetch_response, token_auth

        from trunkline_acme.tokens import ClientCredentials

        grant = ClientCredentials(
            token_url=self._acme.token_url,
            client_id=self._acme.client_id,
            client_secret=self._acme.client_secret,
            scope=self._acme.scope,
        )

        async def fetch() -> Token:
            response = await fetch_response(context, grant.request())
            return grant.token(response, provider=context.provider)

        return token_auth(fetch, headers=context.settings.headers, timeout=TIMEOUT, secrets=grant.secrets)


acme = Extension(name="acme", settings=AcmeSettings, make=Acme)
"""The object of the entry point `acme`."""
