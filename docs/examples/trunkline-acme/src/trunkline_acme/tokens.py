"""The client credentials grant (RFC 6749, section 4.4): its request, and what the answer means. Pure: no I/O, no clock."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote_plus, urlencode

import attrs
from trunkline import AuthenticationError, ProtocolViolation, RemoteError, Secret
from trunkline.authoring.http_errors import error_body, kind_of, status_error
from trunkline.authoring.json import decode_object
from trunkline.authoring.wire import WireRequest, WireResponse

LIFETIME = 300.0
"""How long a token is taken to live, in seconds, where the answer does not say."""

MARGIN = 60.0
"""How many seconds before its end a token is renewed; at most a quarter of its life."""


@attrs.frozen
class Token:
    """An access token, and the times at which it is to be renewed and at which it ends."""

    value: str = attrs.field(repr=False)
    renew_at: float
    ends_at: float


@attrs.frozen(kw_only=True)
class ClientCredentials:
    """What a token is asked for with."""

    token_url: str
    client_id: str
    client_secret: Secret
    scope: str | None = None

    @property
    def secrets(self) -> tuple[str, str]:
        """The client's secret, and what goes over the wire in its place."""
        return self.client_secret.reveal(), self._basic()

    def request(self) -> WireRequest:
        """The request for a token."""
        fields = {"grant_type": "client_credentials", **({"scope": self.scope} if self.scope else {})}
        headers = {
            "accept": "application/json",
            "authorization": f"Basic {self._basic()}",
            "content-type": "application/x-www-form-urlencoded",
        }
        return WireRequest(url=self.token_url, headers=headers, body=urlencode(fields).encode())

    def token(self, answer: WireResponse, *, now: float, provider: str) -> Token:
        """The token that the answer brings. Raises `RemoteError`."""
        if answer.status != 200:
            raise _refusal(answer, provider)
        data = decode_object(answer.body, "the answer of the token endpoint", provider=provider)
        value, kind = data.get("access_token"), data.get("token_type")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise ProtocolViolation("the token endpoint gave no bearer token", provider=provider)
        if not isinstance(value, str) or not value or not (value.isascii() and value.isprintable()):
            raise ProtocolViolation("the token endpoint gave a token that no header can hold", provider=provider)
        told = data.get("expires_in")
        life = told if isinstance(told, (int, float)) and not isinstance(told, bool) and told > 0 else LIFETIME
        return Token(value, renew_at=now + life - min(MARGIN, life / 4), ends_at=now + life)

    def _basic(self) -> str:
        # Both are encoded before they are joined: RFC 6749, section 2.3.1.
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret.reveal())}"
        return b64encode(pair.encode()).decode()


def _refusal(answer: WireResponse, provider: str) -> RemoteError:
    """The error in an answer: `{"error": …, "error_description": …}` (RFC 6749, section 5.2)."""
    body = error_body(answer)
    fields = body if isinstance(body, dict) else {}
    code, description = fields.get("error"), fields.get("error_description")
    told = f": {description}" if isinstance(description, str) else ""
    # A client that is not accepted is refused with 400 or 401; what else can be wrong there is not the caller's request.
    refused = answer.status in (400, 401, 403)
    return status_error(
        f"the token endpoint gave no token{told}",
        provider=provider,
        status=answer.status,
        headers=answer.headers,
        kind=AuthenticationError if refused else kind_of(answer.status),
        code=code if isinstance(code, str) else None,
        body=body,
    )
