"""Signing in by OpenID Connect: the authorization code flow with PKCE, by authlib. Needs the extra `oidc`."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from collections.abc import Mapping

import anyio
import attrs
import httpx2
from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from trunkline_gateway.console.security import folded
from trunkline_gateway.settings import GatewaySettings, is_secure_url

STATE_COOKIE = "trunkline_oidc"
"""The cookie that binds the answer of the provider to the browser that asked."""

STATE_LIFETIME = 600
"""The seconds that a sign-in at the provider may take."""

_REMEMBER = 3600.0
"""The seconds for which the provider's metadata and keys are remembered."""

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
"""Signatures with the provider's public keys. `none` and shared secrets are refused."""

_LEEWAY = 60
_TIMEOUT = 15.0


class OIDCError(Exception):
    """Signing in failed. The text is for the person who tries."""


@attrs.frozen(kw_only=True)
class _Metadata:
    authorization_endpoint: str
    token_endpoint: str
    keys: KeySet = attrs.field(repr=False)
    read_at: float


class OpenIDConnect:
    """The OpenID Connect provider of the settings."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._issuer = settings.oidc_issuer or ""
        self._client_id = settings.oidc_client_id or ""
        self._secret = settings.oidc_client_secret
        self._admins = {folded(address) for address in settings.oidc_admins}
        self._metadata: _Metadata | None = None

    async def begin(self, callback: str, next_path: str) -> tuple[str, str]:
        """Return the URL to send the browser to, and the value of `STATE_COOKIE`. Raises `OIDCError`."""
        metadata = await self._read_metadata()
        nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        async with self._client(callback) as client:  # pyright: ignore[reportGeneralTypeIssues]
            url, state = client.create_authorization_url(
                metadata.authorization_endpoint, state=secrets.token_urlsafe(32), nonce=nonce, code_verifier=verifier
            )
        kept = {"state": state, "nonce": nonce, "verifier": verifier, "next": next_path}
        return str(url), base64.urlsafe_b64encode(json.dumps(kept).encode()).decode()

    async def finish(self, answer: Mapping[str, str], kept: str, callback: str) -> tuple[str, str]:
        """Return the e-mail address of the administrator, and the path to go to. Raises `OIDCError`."""
        expected = _read_kept(kept)
        if not expected.get("state") or not hmac.compare_digest(
            answer.get("state", "").encode(), expected["state"].encode()
        ):
            raise OIDCError("The sign-in was started elsewhere or took too long. Try again.")
        if answer.get("iss", self._issuer) != self._issuer:
            raise OIDCError("The answer came from another identity provider.")
        if "error" in answer:
            raise OIDCError("The identity provider did not sign you in. Try again, or ask its administrator.")
        metadata = await self._read_metadata()
        token = await self._fetch_token(metadata, answer.get("code", ""), expected["verifier"], callback)
        claims = await self._read_claims(metadata, token, expected["nonce"])
        email = claims.get("email")
        verified = claims.get("email_verified")
        if not isinstance(email, str) or not (verified is True or verified == "true"):
            raise OIDCError("The identity provider reports no verified e-mail address for this account.")
        if folded(email) not in self._admins:
            raise OIDCError("This account is not an administrator of the gateway.")
        return folded(email), expected.get("next", "/")

    def _client(self, callback: str) -> AsyncOAuth2Client:
        return AsyncOAuth2Client(
            client_id=self._client_id,
            client_secret=self._secret.reveal() if self._secret is not None else None,
            token_endpoint_auth_method="client_secret_basic" if self._secret is not None else "none",
            scope="openid email",
            redirect_uri=callback,
            code_challenge_method="S256",
            timeout=_TIMEOUT,
            follow_redirects=False,
        )

    async def _get(self, url: str) -> Mapping[str, object]:
        try:
            async with httpx2.AsyncClient(timeout=_TIMEOUT, follow_redirects=False) as client:
                response = await client.get(url)
                response.raise_for_status()
                found = response.json()
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError) as error:
            raise OIDCError("The identity provider cannot be reached. Try again later.") from error
        if not isinstance(found, dict):
            raise OIDCError("The identity provider sent something other than its metadata.")
        return found

    async def _read_metadata(self, *, again: bool = False) -> _Metadata:
        known = self._metadata
        if known is not None and not again and time.monotonic() - known.read_at < _REMEMBER:
            return known
        found = await self._get(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != self._issuer:
            raise OIDCError("The identity provider names itself differently from the gateway's setting oidc_issuer.")
        urls = [found.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
        authorization, token, keys = (url if isinstance(url, str) and is_secure_url(url) else None for url in urls)
        if authorization is None or token is None or keys is None:
            raise OIDCError("The identity provider's metadata lacks an endpoint.")
        self._metadata = _Metadata(
            authorization_endpoint=authorization,
            token_endpoint=token,
            keys=_key_set(await self._get(keys)),
            read_at=time.monotonic(),
        )
        return self._metadata

    async def _fetch_token(self, metadata: _Metadata, code: str, verifier: str, callback: str) -> str:
        if not code:
            raise OIDCError("The identity provider sent no code. Try again.")
        try:
            with anyio.fail_after(_TIMEOUT):
                async with self._client(callback) as client:  # pyright: ignore[reportGeneralTypeIssues]
                    found = await client.fetch_token(
                        metadata.token_endpoint, grant_type="authorization_code", code=code, code_verifier=verifier
                    )
        except Exception as error:  # authlib expects fields of the right types
            raise OIDCError("The identity provider did not accept the sign-in. Try again.") from error
        token = found.get("id_token")
        if not isinstance(token, str):
            raise OIDCError("The identity provider sent no ID token.")
        return token

    async def _read_claims(self, metadata: _Metadata, token: str, nonce: str) -> Mapping[str, object]:
        """Check the ID token: its signature, issuer, audience, times and nonce."""
        rules = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            try:
                decoded = jwt.decode(token, metadata.keys, algorithms=_ALGORITHMS)
            except JoseError:  # the provider may have new keys
                decoded = jwt.decode(token, (await self._read_metadata(again=True)).keys, algorithms=_ALGORITHMS)
            rules.validate(decoded.claims)
        except OIDCError:
            raise
        except Exception as error:  # joserfc expects claims and keys of the right types
            raise OIDCError("The identity provider's answer is not valid. Try again.") from error
        claims: Mapping[str, object] = decoded.claims
        audience = claims.get("aud")
        has_others = isinstance(audience, list) and len(audience) > 1
        if (has_others or "azp" in claims) and claims.get("azp") != self._client_id:
            raise OIDCError("The identity provider's answer is for another application.")
        return claims


def _key_set(found: Mapping[str, object]) -> KeySet:
    try:
        return KeySet.import_key_set(found)  # type: ignore[arg-type]  # the provider's JSON
    except Exception as error:  # joserfc expects fields of the right types
        raise OIDCError("The identity provider's keys cannot be read.") from error


def _read_kept(kept: str) -> dict[str, str]:
    wanted = ("state", "nonce", "verifier", "next")
    try:
        found = json.loads(base64.urlsafe_b64decode(kept.encode()))
        values = {name: str(found[name]) for name in wanted}
        "".join(values.values()).encode()
    except (ValueError, TypeError, LookupError, RecursionError):
        return {}
    return values
