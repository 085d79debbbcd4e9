"""Access tokens of Google: `CachedToken` of the core keeps them; this module asks google-auth or a function."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import attrs
from anyio.lowlevel import current_token
from trunkline.authoring.auth import KEPT_SECRETS, CachedToken, NoAuth, Token, key_auth
from trunkline.authoring.json import as_object, as_string
from trunkline.authoring.provider import Auth, ServiceContext
from trunkline.authoring.urls import path_segment
from trunkline.authoring.wire import WireRequest
from trunkline.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    ProtocolViolation,
    TrunklineError,
)
from trunkline.secrets import Headers, Secret

from trunkline_vertex.settings import AUTHENTICATING, PROJECT_VARIABLE, GoogleCloudSettings
from trunkline_vertex.urls import UNKNOWN_PROJECT

if TYPE_CHECKING:
    from trunkline_vertex.credentials import Loaded, ServiceRequest

MARGIN = 225.0
"""Seconds before its expiry at which a token is renewed, as in google-auth (`REFRESH_THRESHOLD`)."""

TIMEOUT = 60.0
"""The longest time for one token, in seconds. Workload identity federation needs up to three requests."""

QUOTA_HEADER = "x-goog-user-project"

_JWT = re.compile(r"eyJ[\w-]{8,}(\.[\w-]*)*")


def google_auth(context: ServiceContext[Any], *, api_key: Secret | None = None) -> Auth:
    """Return the `Auth` of a service with `GoogleCloudSettings`: an API key, if it is given, or access tokens.

    It adds nothing if the setting `headers` authenticates.
    """
    if any(name.lower() in AUTHENTICATING for name in context.settings.headers):
        return NoAuth()
    if api_key is not None:
        return key_auth(api_key, "x-goog-api-key", headers=context.settings.headers)
    return GoogleAuth(context)


class GoogleAuth(CachedToken):
    """An `Auth` that sends access tokens of Google as bearer tokens.

    google-auth's own code fetches them, in a worker thread, and all calls share one exchange. `acquire` raises
    `AuthenticationError` if the credentials are missing or refused, and `ConfigurationError` if nothing names a
    project.

    `sign` puts the project of the credentials in the place of `UNKNOWN_PROJECT` in a URL.
    """

    def __init__(self, context: ServiceContext[GoogleCloudSettings]) -> None:
        super().__init__(self._fetch_token, margin=MARGIN, timeout=TIMEOUT)
        self._context = context
        self._loaded: Loaded | None = None
        self._sent: deque[Secret] = deque(maxlen=KEPT_SECRETS)
        self._is_refused = False

    def __repr__(self) -> str:
        return f"<GoogleAuth of {self._context.name!r}>"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The last tokens, and the last secrets that were sent in exchange for them."""
        return (*super().secrets, *(secret.reveal() for secret in tuple(self._sent)))  # the thread may add to it

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        """Return the request with the token, the project and the quota project."""
        signed = super().sign(wire_request, credentials)
        settings, loaded = self._context.settings, self._loaded
        quota = settings.quota_project or (loaded.quota_project if loaded is not None else None)
        if quota is not None:
            signed = signed.with_headers(Headers({QUOTA_HEADER: quota}))
        if settings.project is None and loaded is not None and loaded.project is not None:
            project = path_segment(loaded.project, "the project").replace("%3A", ":")
            signed = attrs.evolve(signed, url=signed.url.replace(f"/{UNKNOWN_PROJECT}/", f"/{project}/", 1))
        return signed

    async def _fetch_token(self) -> Token:
        given = self._context.settings.access_token
        if given is not None:
            return await self._given_token(given)
        failed: TrunklineError
        try:
            loaded, value, expires_in = await anyio.to_thread.run_sync(
                partial(self._exchange_in_thread, current_token(), self._loaded), abandon_on_cancel=True
            )
            if not isinstance(value, str):
                raise ProtocolViolation("the response with the access token has none", provider=self._context.provider)
        except TrunklineError:
            self._loaded = None  # the file may have been replaced
            raise
        except Exception as error:  # google-auth raises many types, also for responses that it cannot read
            self._loaded = None
            failed = self._error(error)
        else:
            if self._context.settings.project is None and loaded.project is None:
                raise ConfigurationError(
                    f"setting 'project' is required, because the credentials name no project; it can be set as "
                    f"{PROJECT_VARIABLE}",
                    setting="project",
                )
            self._loaded = loaded
            return Token(value, expires_in)
        raise failed

    def _exchange_in_thread(self, loop: Any, loaded: Loaded | None) -> tuple[Loaded, str, float | None]:
        # Imported here, because google-auth takes a third of a second to import.
        from trunkline_vertex.credentials import ServiceRequest, load, refresh

        request: ServiceRequest = ServiceRequest(self._context, loop, lambda secret: self._sent.append(Secret(secret)))
        with request.session:
            if loaded is None:
                loaded = load(self._context.settings, request)
            try:
                return (loaded, *refresh(loaded, request))
            finally:
                self._is_refused = request.is_refused

    async def _given_token(self, given: Secret) -> Token:
        if given.read is None:
            return Token(given, None)
        try:
            value = await anyio.to_thread.run_sync(given.read, abandon_on_cancel=True)
            if not isinstance(value, str):
                raise TypeError(f"expected a string, not {type(value).__name__}")
            return Token(value.strip(), None)
        except TrunklineError:
            raise
        except Exception as error:  # the function is the application's code, which may raise anything
            text = f"the function of the setting 'access_token' failed: {_describe(error, ())}"
            failed = AuthenticationError(text, provider=self._context.provider)
        raise failed

    def _error(self, error: Exception) -> TrunklineError:
        from google.auth import exceptions

        provider = self._context.provider
        said = _describe(error, self.secrets)
        if isinstance(error, exceptions.MalformedError):
            return ConfigurationError(f"the credentials of Google Cloud cannot be used: {said}")
        if isinstance(error, exceptions.DefaultCredentialsError):
            return AuthenticationError(f"no credentials of Google Cloud can be used: {said}", provider=provider)
        if isinstance(error.__cause__, TrunklineError):
            return error.__cause__
        if isinstance(error, exceptions.TransportError):
            return ConnectionFailed(f"fetching an access token failed: {said}", provider=provider)
        if not isinstance(error, exceptions.GoogleAuthError) and not self._is_refused:
            # google-auth does not check what a server or a program answers, such as a proxy's page to log in.
            return ProtocolViolation(f"the response with the access token cannot be read: {said}", provider=provider)
        details = error.args[-1] if error.args else None
        code = as_string(as_object(details).get("error")) or None
        return AuthenticationError(f"Google issued no access token: {said}", provider=provider, code=code)


def _describe(error: Exception, secrets: Iterable[str]) -> str:
    text = str(error.args[0] if error.args else error)
    # Before the text is cut, which may leave the half of a secret.
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _JWT.sub("***", " ".join(text.split()))[:500]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
