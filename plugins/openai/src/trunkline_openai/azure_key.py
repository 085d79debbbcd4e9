"""The key of a resource of Azure, for `openai-compatible`."""

from __future__ import annotations

from trunkline.authoring.auth import HeaderAuth
from trunkline.authoring.wire import WireRequest
from trunkline.secrets import Secret


class AzureKey(HeaderAuth):
    """An `Auth` that sends a key as `api-key`, and a token of Entra ID, which is a JSON Web Token, as a bearer token.

    On Azure's dated API, a bearer token always means Entra ID.
    """

    def __init__(self, key: Secret) -> None:
        super().__init__("authorization", key, prefix="Bearer ")

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        """Return the request with the key or the token."""
        signed = super().sign(wire_request, credentials)
        key = signed.headers["authorization"].removeprefix("Bearer ")
        return signed if key.startswith("eyJ") else wire_request.with_headers({"api-key": key})
