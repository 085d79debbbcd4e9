"""Signing in by OpenID Connect, with a provider that runs on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from trunkline_gateway import Gateway, GatewaySettings

pytestmark = pytest.mark.anyio

ADMIN = "ada@example.com"


class Provider(ThreadingHTTPServer):
    """An OpenID Connect provider: `claims` and `key` are what its next ID token has."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.public = self.key = RSAKey.generate_key(2048, {"kid": "1"})
        self.claims: dict[str, object] = {}
        self.algorithm = "RS256"
        self.answers: dict[str, bytes] = {}
        """What it sends instead, by the path."""
        self.challenge = ""
        self.token_requests: list[dict[str, list[str]]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        url = self.server.url
        if self.path == "/keys":
            self._send({"keys": [self.server.public.as_dict(private=False)]})
        else:
            endpoints = {"authorization_endpoint": f"{url}/authorize", "token_endpoint": f"{url}/token"}
            self._send({"issuer": url, "jwks_uri": f"{url}/keys", **endpoints})

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        self.server.token_requests.append(form)
        verifier = form.get("code_verifier", [""])[0]
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        if challenge != self.server.challenge:
            self._send({"error": "invalid_grant"}, 400)
            return
        header = {"alg": self.server.algorithm, "kid": "1"}
        token = jwt.encode(header, self.server.claims, self.server.key, algorithms=[self.server.algorithm])
        self._send({"access_token": "x", "token_type": "Bearer", "id_token": token})

    def _send(self, value: object, status: int = 200) -> None:
        body = self.server.answers.get(self.path) or json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *args: object) -> None:
        """Write nothing."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
async def visitor(tmp_path: Path, provider: Provider) -> AsyncIterator[httpx.AsyncClient]:
    settings = GatewaySettings(
        data_dir=tmp_path,
        oidc_issuer=provider.url,
        oidc_client_id="gateway",
        oidc_client_secret="a-secret",
        oidc_admins=("Ada@example.com", "sam@example.com"),
    )
    async with (
        Gateway(settings) as gateway,
        httpx.AsyncClient(transport=httpx.ASGITransport(gateway.app), base_url="http://gateway.test") as client,
    ):
        assert gateway.new_admin_key is None
        yield client


async def begin(client: httpx.AsyncClient, provider: Provider) -> dict[str, str]:
    response = await client.get("/console/oidc/start", params={"next": "/keys"})
    assert response.status_code == 303
    asked = {name: values[0] for name, values in parse_qs(urlsplit(response.headers["location"]).query).items()}
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == "http://gateway.test/console/oidc/callback"
    provider.challenge = asked["code_challenge"]
    now = int(time.time())
    provider.claims = {
        "iss": provider.url,
        "aud": "gateway",
        "sub": "1",
        "iat": now,
        "exp": now + 300,
        "nonce": asked["nonce"],
        "email": ADMIN,
        "email_verified": True,
    }
    return asked


async def finish(client: httpx.AsyncClient, state: str, **query: str) -> httpx.Response:
    return await client.get("/console/oidc/callback", params={"code": "c", "state": state, **query})


async def test_an_administrator_signs_in(visitor: httpx.AsyncClient, provider: Provider) -> None:
    asked = await begin(visitor, provider)
    response = await finish(visitor, asked["state"])
    assert response.status_code == 303, response.text
    assert response.headers["location"] == "/console/keys"
    page = await visitor.get("/console/keys")
    assert ADMIN in page.text
    [form] = provider.token_requests
    assert form["redirect_uri"] == [asked["redirect_uri"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"email": "eve@example.com"},
        {"email_verified": False},
        {"email_verified": None},
        {"email": None},
        {"iss": "https://other.example"},
        {"aud": "another"},
        {"aud": ["gateway", "another"]},
        {"exp": 1},
        {"nonce": "another"},
        {"nonce": None},
        {"azp": "another"},
        {"email": "ſam@example.com"},
        {"exp": "soon"},
        {"email_verified": 1},
    ],
    ids=str,
)
async def test_wrong_claims_are_refused(
    visitor: httpx.AsyncClient, provider: Provider, changes: dict[str, object]
) -> None:
    asked = await begin(visitor, provider)
    provider.claims = {name: value for name, value in {**provider.claims, **changes}.items() if value is not None}
    assert (await finish(visitor, asked["state"])).status_code == 403
    assert (await visitor.get("/console/keys")).status_code == 303


async def test_a_token_of_another_key_or_without_a_signature_is_refused(
    visitor: httpx.AsyncClient, provider: Provider
) -> None:
    asked = await begin(visitor, provider)
    provider.key = RSAKey.generate_key(2048, {"kid": "1"})
    assert (await finish(visitor, asked["state"])).status_code == 403


async def test_new_keys_of_the_provider_are_read(visitor: httpx.AsyncClient, provider: Provider) -> None:
    asked = await begin(visitor, provider)
    provider.public = provider.key = RSAKey.generate_key(2048, {"kid": "1"})
    assert (await finish(visitor, asked["state"])).status_code == 303


async def test_another_state_or_an_answer_without_the_cookie_is_refused(
    visitor: httpx.AsyncClient, provider: Provider
) -> None:
    asked = await begin(visitor, provider)
    assert (await finish(visitor, "another")).status_code == 403
    assert (await finish(visitor, asked["state"])).status_code == 403  # the cookie was for one answer
    asked = await begin(visitor, provider)
    visitor.cookies.clear()
    assert (await finish(visitor, asked["state"])).status_code == 403
    asked = await begin(visitor, provider)
    assert (await finish(visitor, asked["state"], iss="https://other.example")).status_code == 403
    asked = await begin(visitor, provider)
    assert (await finish(visitor, asked["state"], error="access_denied")).status_code == 403
    asked = await begin(visitor, provider)
    provider.challenge = "another"
    assert (await finish(visitor, asked["state"])).status_code == 403


DEEP = b"[" * 100_000
METADATA = "/.well-known/openid-configuration"


async def test_metadata_that_cannot_be_read_is_an_error(visitor: httpx.AsyncClient, provider: Provider) -> None:
    url = provider.url
    whole = {"issuer": url, "jwks_uri": f"{url}/keys", "token_endpoint": url, "authorization_endpoint": url}
    for path, answer in (
        (METADATA, DEEP),
        (METADATA, b"\xff"),
        (METADATA, json.dumps({**whole, "jwks_uri": "http://[::1"}).encode()),
        (METADATA, json.dumps({**whole, "authorization_endpoint": "https://example.com/\ud800"}).encode()),
        ("/keys", DEEP),
        ("/keys", b'{"keys": null}'),
        ("/keys", b"{}"),
    ):
        provider.answers = {path: answer}
        response = await visitor.get("/console/oidc/start")
        assert response.status_code == 502, answer[:100]
        assert "The identity provider" in response.text


async def test_a_token_that_cannot_be_read_is_an_error(visitor: httpx.AsyncClient, provider: Provider) -> None:
    for answer in (DEEP, b"[]", b'{"id_token": 1}', b'{"id_token": "a", "expires_in": [1]}'):
        asked = await begin(visitor, provider)
        provider.answers = {"/token": answer}
        response = await finish(visitor, asked["state"])
        assert response.status_code == 403, answer[:100]
        assert "The identity provider" in response.text


async def test_a_cookie_that_cannot_be_read_is_refused(visitor: httpx.AsyncClient) -> None:
    for kept in (b"[" * 2000, b"[]", b'{"state": "\\ud800", "nonce": "", "verifier": "", "next": ""}'):
        visitor.cookies.set("trunkline_oidc", base64.urlsafe_b64encode(kept).decode(), domain="gateway.test")
        assert (await finish(visitor, "s")).status_code == 403
