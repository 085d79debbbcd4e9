"""The client credentials grant (RFC 6749, section 4.4): build the request and parse the response. Does no I/O."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote_plus, urlencode

import attrs
from trunkline import AuthenticationError, ProtocolViolation, RemoteError, Secret
from trunkline.authoring.auth import Token
from trunkline.authoring.http_errors import error_body, status_error
from trunkline.authoring.json import as_object, as_string, decode_object
from trunkline.authoring.wire import WireRequest, WireResponse


@attrs.frozen(kw_only=True)
class ClientCredentials:
    """The credentials that a token is requested with."""

    token_url: str
    client_id: str
    client_secret: Secret
    scope: str | None = None

    @property
    def secrets(self) -> tuple[str, str]:
        """The client's secret, and the encoded form of it that is sent."""
        return self.client_secret.reveal(), self._basic()

    def request(self) -> WireRequest:
        """Build the request for a token."""
        fields = {"grant_type": "client_credentials", **({"scope": self.scope} if self.scope else {})}
        headers = {
            "accept": "application/json",
            "authorization": f"Basic {self._basic()}",
            "content-type": "application/x-www-form-urlencoded",
        }
        return WireRequest(url=self.token_url, headers=headers, body=urlencode(fields).encode())

    def token(self, response: WireResponse, *, provider: str) -> Token:
        """Return the token in a response. Raises `RemoteError` if there is none."""
        if response.status != 200:
            raise _refusal(response, provider)
        data = decode_object(response.body, "the token endpoint's response", provider=provider)
        value, token_type = as_string(data.get("access_token")), as_string(data.get("token_type"))
        if value is None or token_type is None or token_type.lower() != "bearer":
            raise ProtocolViolation("the token endpoint returned no bearer token", provider=provider)
        lifetime = data.get("expires_in")
        if not isinstance(lifetime, (int, float)) or isinstance(lifetime, bool) or lifetime <= 0:
            lifetime = None  # not stated, so the token is used until it is refused
        return Token(value, expires_in=lifetime)

    def _basic(self) -> str:
        # RFC 6749, section 2.3.1: URL-encode both before joining them.
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret.reveal())}"
        return b64encode(pair.encode()).decode()


def _refusal(response: WireResponse, provider: str) -> RemoteError:
    """Return the error of a response: `{"error": …, "error_description": …}` (RFC 6749, section 5.2)."""
    body = error_body(response)
    fields = as_object(body)
    description = as_string(fields.get("error_description"))
    # Endpoints refuse a client with 400 or 401. A 400 here is about the credentials, not about the caller's request.
    refused = response.status in (400, 401, 403)
    return status_error(
        "the token endpoint returned no token" + (f": {description}" if description else ""),
        provider=provider,
        status=response.status,
        headers=response.headers,
        kind=AuthenticationError if refused else None,
        code=as_string(fields.get("error")),
        body=body,
    )
