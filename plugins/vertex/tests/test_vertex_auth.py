"""Credentials with the code of google-auth: where they come from, how often they are fetched, and what errors say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import trunkline
from trunkline.authoring.json import dumps
from trunkline.errors import AuthenticationError, ConfigurationError, Overloaded, ProtocolViolation
from trunkline.service import Service
from trunkline.testing.server import Exchange, LoopbackServer, serve

ANSWER = dumps({"candidates": [{"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP"}]})
VARIABLES = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_LOCATION",
    "GOOGLE_CLOUD_QUOTA_PROJECT",
    "GCLOUD_PROJECT",
)
Answer = Callable[[Exchange], tuple[int, object] | None]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of whoever runs the tests, and no metadata server."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", True)


def no_answer(exchange: Exchange) -> tuple[int, object] | None:
    return None


@asynccontextmanager
async def loopback(answer: Answer = no_answer) -> AsyncIterator[LoopbackServer]:
    """A server for tokens and for the API. `answer` may answer a request otherwise."""

    async def respond(exchange: Exchange) -> None:
        other = answer(exchange)
        if other is not None:
            await exchange.respond(dumps(other[1]), status=other[0])
        elif exchange.request.target.startswith("/token"):
            await exchange.respond(dumps({"access_token": "token-1", "expires_in": 3600, "token_type": "Bearer"}))
        else:
            await exchange.respond(ANSWER)

    async with serve(respond) as server:
        yield server


def service(server: LoopbackServer, **settings: Any) -> Service:
    values = {"api_url": server.url, "default_model": "gemini-2.5-flash", "max_retries": 0, **settings}
    return trunkline.open_service("vertex", **values)


def user_credentials(server: LoopbackServer) -> dict[str, Any]:
    """A file of workload identity federation that reads its token from a URL."""
    return {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{server.url}/token",
        "credential_source": {"url": f"{server.url}/subject", "format": {"type": "text"}},
    }


LOGIN = {
    "type": "authorized_user",
    "client_id": "client",
    "client_secret": "secret-of-the-client",
    "refresh_token": "1//09-abcdefghijklmnop",
}
"""The file of `gcloud auth application-default login`."""


def account(server: LoopbackServer, private_key: str) -> dict[str, Any]:
    return {
        "type": "service_account",
        "project_id": "project-of-the-file",
        "client_email": "account@project.iam.gserviceaccount.com",
        "private_key": private_key,
        "private_key_id": "1",
        "token_uri": f"{server.url}/token",
    }


@pytest.fixture(scope="module")
def private_key() -> str:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.anyio
async def test_fifty_calls_fetch_one_token_and_use_the_project_of_the_credentials(private_key: str) -> None:
    async with loopback() as server:
        async with service(server, credentials_json=json.dumps(account(server, private_key))) as vertex:
            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(vertex.chat, "Hi")
    tokens = [request for request in server.requests if request.target == "/token"]
    calls = [request for request in server.requests if request.target != "/token"]
    assert (len(tokens), len(calls)) == (1, 50)
    assert {call.target for call in calls} == {
        "/v1beta1/projects/project-of-the-file/locations/global/publishers/google/models/gemini-2.5-flash"
        ":generateContent"
    }
    assert {call.headers["authorization"] for call in calls} == {"Bearer token-1"}


@pytest.mark.anyio
async def test_setting_project_wins_over_that_of_the_credentials(private_key: str) -> None:
    async with loopback() as server:
        info = json.dumps(account(server, private_key))
        async with service(server, credentials_json=info, project="mine", quota_project="pays") as vertex:
            await vertex.chat("Hi")
    assert "/projects/mine/" in server.requests[-1].target
    assert server.requests[-1].headers["x-goog-user-project"] == "pays"


@pytest.mark.anyio
async def test_workload_identity_exchanges_a_token_from_a_url() -> None:
    async with loopback() as server:
        info = json.dumps(user_credentials(server))
        async with service(server, credentials_json=info, project="p") as vertex:
            await vertex.chat("Hi")
    assert [request.target.partition("?")[0] for request in server.requests[:2]] == ["/subject", "/token"]
    assert server.requests[-1].headers["authorization"] == "Bearer token-1"


@pytest.mark.anyio
async def test_default_credentials_read_the_file_of_the_environment(
    private_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with loopback() as server:
        file = tmp_path / "account.json"
        file.write_text(json.dumps(account(server, private_key)))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        async with service(server) as vertex:
            await vertex.chat("Hi")
    assert "/projects/project-of-the-file/" in server.requests[-1].target


@pytest.mark.anyio
async def test_metadata_server_gives_the_token_and_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    async def respond(exchange: Exchange) -> None:
        target = exchange.request.target.partition("?")[0]
        flavour = {"metadata-flavor": "Google"}
        if target == "/":
            await exchange.respond(b"computeMetadata/", headers=flavour)
        elif target.endswith("/project/project-id"):
            await exchange.respond(b"project-of-the-machine", headers={**flavour, "content-type": "application/text"})
        elif target.endswith("/token"):
            token = dumps({"access_token": "token-of-the-machine", "expires_in": 3599, "token_type": "Bearer"})
            await exchange.respond(token, headers={**flavour, "content-type": "application/json"})
        elif target.startswith("/computeMetadata/"):
            info = dumps({"email": "machine@p.iam.gserviceaccount.com", "scopes": [], "aliases": ["default"]})
            await exchange.respond(info, headers={**flavour, "content-type": "application/json"})
        else:
            await exchange.respond(ANSWER)

    async with serve(respond) as server:
        host = server.url.removeprefix("http://")
        monkeypatch.setenv("GCE_METADATA_HOST", host)
        monkeypatch.setenv("GCE_METADATA_IP", host)
        # google-auth reads these when it is imported.
        monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", False)
        monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", host)
        # No proxy reaches the metadata server, so it is called directly.
        async with service(server, proxy="http://127.0.0.1:9") as behind_proxy:
            await behind_proxy.authenticate()
        async with service(server) as vertex:
            await vertex.chat("Hi")
    assert "/projects/project-of-the-machine/" in server.requests[-1].target
    assert server.requests[-1].headers["authorization"] == "Bearer token-of-the-machine"


@pytest.mark.anyio
async def test_function_for_tokens_is_called_again_when_a_token_is_refused() -> None:
    tokens = iter(["first", "second"])

    def refuse_first(exchange: Exchange) -> tuple[int, object] | None:
        refused = exchange.request.headers["authorization"] == "Bearer first"
        return (401, {"error": {"code": 401, "message": "no", "status": "UNAUTHENTICATED"}}) if refused else None

    async with loopback(refuse_first) as server:
        async with service(server, access_token=lambda: next(tokens), project="p") as vertex:
            await vertex.chat("Hi")
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer first", "Bearer second"]


@pytest.mark.anyio
async def test_failing_function_for_tokens_is_an_authentication_error() -> None:
    def fail() -> str:
        raise OSError("vault is sealed")

    async with loopback() as server, service(server, access_token=fail, project="p") as vertex:
        with pytest.raises(AuthenticationError, match="'access_token' failed: OSError: vault is sealed"):
            await vertex.chat("Hi")


@pytest.mark.anyio
async def test_missing_credentials_say_what_to_do() -> None:
    async with loopback() as server, service(server, project="p") as vertex:
        with pytest.raises(AuthenticationError, match="no credentials of Google Cloud can be used") as caught:
            await vertex.chat("Hi")
    assert caught.value.advice is not None
    assert "gcloud auth application-default login" in caught.value.advice


@pytest.mark.anyio
async def test_revoked_credentials_say_what_to_do(private_key: str) -> None:
    def revoked(exchange: Exchange) -> tuple[int, object] | None:
        return 400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}

    async with loopback(revoked) as server:
        async with service(server, credentials_json=json.dumps(account(server, private_key))) as vertex:
            with pytest.raises(AuthenticationError, match="invalid_grant: Token has been expired or revoked") as caught:
                await vertex.chat("Hi")
    assert caught.value.code == "invalid_grant"
    assert caught.value.advice is not None
    assert "make a new key for the service account" in caught.value.advice


@pytest.mark.anyio
async def test_token_server_that_is_overloaded_is_asked_again_by_the_services_own_retries(private_key: str) -> None:
    async with loopback(lambda exchange: (503, {})) as server:
        info = json.dumps(account(server, private_key))
        async with service(server, credentials_json=info) as vertex:
            with pytest.raises(Overloaded, match=r"the server for access tokens 127\.0\.0\.1 failed with status 503"):
                await vertex.chat("Hi")
    assert len(server.requests) == 1


@pytest.mark.anyio
async def test_credentials_that_name_no_project_need_the_setting() -> None:
    def without(exchange: Exchange) -> tuple[int, object] | None:
        return (200, {}) if "projects" in exchange.request.target else None

    async with loopback(without) as server:
        info = {**user_credentials(server), "audience": "pool"}
        async with service(server, credentials_json=json.dumps(info)) as vertex:
            with pytest.raises(ConfigurationError, match="'project' is required, because the credentials name no"):
                await vertex.chat("Hi")


@pytest.mark.anyio
async def test_missing_file_is_named(tmp_path: Path) -> None:
    async with loopback() as server:
        async with service(server, credentials_file=tmp_path / "none.json", project="p") as vertex:
            with pytest.raises(ConfigurationError, match=r"cannot be read: No such file or directory: .*none\.json"):
                await vertex.chat("Hi")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"project_id": 7}, "the project_id of the credentials must be a string, not int"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\n?"}, "of the type service_account cannot be used: .*PEM"),
        ({"type": "impersonated_service_account"}, "of the type impersonated_service_account cannot be used"),
        (
            {
                "type": "external_account",
                "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": "https://sts.googleapis.com/v1/token",
                "credential_source": {"executable": {"command": "/bin/true"}},
            },
            "Executables need to be explicitly allowed",
        ),
    ],
)
async def test_file_that_cannot_be_used_is_a_configuration_error(
    private_key: str, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], problem: str
) -> None:
    monkeypatch.delenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", raising=False)
    async with loopback() as server:
        info = json.dumps({**account(server, private_key), **change})
        async with service(server, credentials_json=info) as vertex:
            with pytest.raises(ConfigurationError, match=problem):
                await vertex.chat("Hi")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "response", ["<html>Log in</html>", [1], {"access_token": "t", "expires_in": "soon"}, {"access_token": 5}]
)
async def test_token_response_that_cannot_be_read_is_no_refusal(
    response: object, private_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with loopback(lambda exchange: (200, response)) as server:
        monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{server.url}/token")
        async with service(server, credentials_json=json.dumps(LOGIN), project="p") as vertex:
            with pytest.raises(ProtocolViolation, match="the response with the access token"):
                await vertex.chat("Hi")


@pytest.mark.anyio
async def test_secret_at_the_end_of_a_long_error_is_removed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async def respond(exchange: Exchange) -> None:
        # The 500 characters that an error quotes end within the secret.
        await exchange.respond(b"x" * 490 + b" " + LOGIN["refresh_token"].encode(), status=400)

    async with serve(respond) as server:
        monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{server.url}/token")
        async with service(server, credentials_json=json.dumps(LOGIN), project="p") as vertex:
            with pytest.raises(AuthenticationError, match="x") as caught:
                await vertex.chat("Hi")
    assert LOGIN["refresh_token"][:5] not in str(caught.value)


@pytest.mark.anyio
async def test_call_after_a_cancelled_exchange_makes_its_own(private_key: str) -> None:
    asked, may_answer = anyio.Event(), anyio.Event()

    async def respond(exchange: Exchange) -> None:
        if exchange.request.target != "/token":
            await exchange.respond(ANSWER)
            return
        if not asked.is_set():
            asked.set()
            await may_answer.wait()
        await exchange.respond(dumps({"access_token": "token-1", "expires_in": 3600}))

    async with serve(respond) as server:
        async with service(server, credentials_json=json.dumps(account(server, private_key))) as vertex:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(vertex.chat, "Hi")
                await asked.wait()
                tasks.cancel_scope.cancel()
            assert (await vertex.chat("Hi")).text == "ok"
            may_answer.set()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"access_token": "t"}, "'project' is required, because an access token names none"),
        ({"headers": {"authorization": "Bearer t"}}, "'project' is required, because the setting 'headers'"),
        ({"headers": {"X-Goog-Api-Key": "k"}}, "'project' is required, because the setting 'headers'"),
        ({"api_key": "k", "credentials_file": "/f"}, "'api_key' and 'credentials_file' are both set"),
        ({"api_key": "k", "location": "eu"}, "'project' is required beside 'location'"),
        ({"location": "EU West"}, "'location' must be a location of Google Cloud, such as global"),
        ({"credentials_json": '{"type": "unknown"}'}, "'credentials_json' must be the JSON of a file of credentials"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        trunkline.open_service("vertex", **settings)


def test_express_mode_ignores_the_project_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "other")
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "eu")
    express = trunkline.open_service("vertex", api_key="k").settings
    default = trunkline.open_service("vertex").settings
    assert (express.project, express.location) == (None, None)
    assert (default.project, default.location) == ("other", "eu")
