"""Google's credentials, as google-auth implements them: load them, and fetch access tokens.

These functions block, so `auth` calls them in a worker thread. google-auth sends its requests through
`ServiceRequest`, which uses the transport of the service, with its proxy and its certificates.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import anyio.from_thread
import attrs
import google.auth
import google.auth.credentials
import google.auth.exceptions
import google.auth.transport
import google.auth.transport.requests
import requests
from anyio.lowlevel import EventLoopToken
from trunkline.authoring.auth import fetch_response
from trunkline.authoring.http_errors import status_error
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ConfigurationError, TrunklineError
from trunkline.secrets import Headers

from trunkline_vertex.settings import GoogleCloudSettings, credentials_info

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
"""The scope of access tokens: that of Vertex AI, and of all services of Google Cloud."""

REQUEST_TIMEOUT = 30.0
"""The longest time for one request of google-auth that sets no limit itself, in seconds."""

_SECRET_FIELDS = frozenset({"assertion", "subject_token", "actor_token", "refresh_token", "client_secret"})
_METADATA_HOSTS = frozenset({"metadata.google.internal", "metadata"})
_METADATA_VARIABLES = ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP")
_TELEMETRY = "x-goog-api-client"

# google-auth has types for few of its functions.
_google: Any = google.auth


@attrs.frozen(kw_only=True)
class Loaded:
    """Credentials, and the project that they name, or `None`."""

    credentials: Any = attrs.field(repr=False)
    project: str | None = None

    @property
    def quota_project(self) -> str | None:
        """The project whose quota requests use, if the credentials name one."""
        return getattr(self.credentials, "quota_project_id", None)


class ServiceRequest(google.auth.transport.Request):
    """Sends the requests of google-auth through the transport of the service.

    The servers that a cloud has for its own machines, such as Google's metadata server, are called directly: no proxy
    reaches them. A status that is worth a retry is raised as an error of Trunkline, so that the service retries the
    call, and google-auth does not block a thread while it waits.

    `sent` is called with each secret that a request contains, since the response may quote it. `is_refused` is whether
    the last response had an error status.
    """

    def __init__(
        self, context: ServiceContext[GoogleCloudSettings], token: EventLoopToken, sent: Callable[[str], None]
    ) -> None:
        self._context = context
        self._token = token
        self._sent = sent
        self.is_refused = False
        # google-auth adds the certificates of the metadata server to this attribute.
        self.session = requests.Session()
        self.session.trust_env = False

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Send a request and return its response. Raises `google.auth.exceptions.TransportError`."""
        if kwargs.get("cert") is not None:
            raise ConfigurationError(
                "certificates of a client, as this file of workload identity federation asks for, are not supported; "
                "use another source of credentials"
            )
        content = body.encode() if isinstance(body, str) else body or b""
        own = {name.lower(): str(value) for name, value in (headers or {}).items() if name.lower() != _TELEMETRY}
        for secret in _secrets(content, own):
            self._sent(secret)
        if _is_metadata_server(url):
            direct: Any = google.auth.transport.requests.Request(self.session)
            return direct(url, method, body, headers, REQUEST_TIMEOUT if timeout is None else timeout, **kwargs)
        wire_request = WireRequest(method=method, url=url, headers=own, body=content)
        fetch = partial(
            fetch_response, self._context, wire_request, timeout=REQUEST_TIMEOUT if timeout is None else timeout
        )
        try:
            response = anyio.from_thread.run(fetch, token=self._token)
        except TrunklineError as error:
            raise _google.exceptions.TransportError(str(error)) from error
        if response.status in google.auth.transport.DEFAULT_RETRYABLE_STATUS_CODES:
            what = f"the server for access tokens {urlsplit(url).hostname} failed with status {response.status}"
            raise status_error(what, provider=self._context.provider, status=response.status, headers=response.headers)
        self.is_refused = response.status >= 400
        return _Response(response)


@attrs.frozen
class _Response:
    """A response as google-auth reads it."""

    _response: WireResponse

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Headers:
        return self._response.headers

    @property
    def data(self) -> bytes:
        return self._response.body


def load(settings: GoogleCloudSettings, request: ServiceRequest) -> Loaded:
    """Load the credentials of the settings: those of a file, or Application Default Credentials.

    Raises `ConfigurationError` for a file that cannot be used, and the errors of google-auth.
    """
    if settings.credentials_json is not None:
        return _from_info(credentials_info(settings.credentials_json.reveal()), settings, request)
    if settings.credentials_file is not None:
        return _from_info(_read_file(settings.credentials_file), settings, request)
    credentials, project = _google.default(scopes=SCOPES, request=request)
    return Loaded(credentials=credentials, project=project)


def refresh(loaded: Loaded, request: ServiceRequest) -> tuple[str, float | None]:
    """Fetch an access token. Returns it, and the number of seconds until it expires, or `None` if that is not known."""
    credentials = loaded.credentials
    credentials.refresh(request)
    if credentials.expiry is None:
        return credentials.token, None
    # google-auth keeps the time without its zone, in UTC.
    return credentials.token, (credentials.expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()


def _from_info(info: Mapping[str, Any], settings: GoogleCloudSettings, request: ServiceRequest) -> Loaded:
    # google-auth's function for every type is deprecated, because of files that someone else may have written. A
    # setting is the user's own file, and `credentials_info` has checked that its type is one of these.
    try:
        credentials = _make(info)
    except Exception as error:  # google-auth does not check the types of the fields
        problem = f"the credentials of the type {info['type']} cannot be used: {type(error).__name__}: {error}"
    else:
        project = info.get("project_id") or None
        if not isinstance(project, str | None):
            raise ConfigurationError(
                f"the project_id of the credentials must be a string, not {type(project).__name__}"
            )
        find = getattr(credentials, "get_project_id", None)
        if project is None and settings.project is None and find is not None:
            project = find(request)
        return Loaded(credentials=credentials, project=project)
    raise ConfigurationError(problem)


def _make(info: Mapping[str, Any]) -> Any:
    from google.auth import aws, external_account_authorized_user, identity_pool, impersonated_credentials, pluggable
    from google.oauth2 import credentials, service_account

    loaders: dict[str, Any] = {
        "service_account": service_account.Credentials.from_service_account_info,
        "authorized_user": credentials.Credentials.from_authorized_user_info,
        "external_account_authorized_user": external_account_authorized_user.Credentials.from_info,
        "impersonated_service_account": (impersonated_credentials.Credentials.from_impersonated_service_account_info),
        "external_account": identity_pool.Credentials.from_info,
    }
    load_info = loaders[info["type"]]
    if info["type"] == "external_account":
        source = info.get("credential_source")
        if info.get("subject_token_type") == "urn:ietf:params:aws:token-type:aws4_request":
            load_info = aws.Credentials.from_info
        elif isinstance(source, dict) and "executable" in source:
            load_info = pluggable.Credentials.from_info
    return load_info(info, scopes=SCOPES) if "authorized_user" not in info["type"] else load_info(info)


def _read_file(path: str) -> Mapping[str, Any]:
    try:
        return credentials_info(Path(path).read_bytes())
    except OSError as error:
        problem = f"the file of the setting 'credentials_file' cannot be read: {error.strerror}: {path}"
    except ValueError as error:
        problem = f"the file of the setting 'credentials_file' must be {error}: {path}"
    raise ConfigurationError(problem, setting="credentials_file")


def _secrets(content: bytes, headers: Mapping[str, str]) -> list[str]:
    form = parse_qsl(content.decode("utf-8", "replace")) if b"=" in content[:200] else []
    found = [value for name, value in form if name in _SECRET_FIELDS]
    return found + [value for name, value in headers.items() if name == "authorization" or "token" in name]


def _is_metadata_server(url: str) -> bool:
    address = urlsplit(url)
    host = address.hostname or ""
    own = {os.environ.get(name, "").rpartition("://")[2] for name in _METADATA_VARIABLES}
    if host in _METADATA_HOSTS or address.netloc in own:
        return True
    try:
        return ip_address(host).is_link_local
    except ValueError:
        return False
