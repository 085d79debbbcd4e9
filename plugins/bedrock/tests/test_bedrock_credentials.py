"""Credentials from every place, as they reach the wire. One loopback server is Bedrock, STS and the metadata."""

import json
import logging
import sys
import threading
import time
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest
import trunkline
from botocore.exceptions import LoginRefreshRequired
from botocore.utils import ContainerMetadataFetcher
from trunkline.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    PermissionDenied,
    ProtocolViolation,
    TrunklineError,
)
from trunkline.testing import Exchange, LoopbackServer, serve
from trunkline_bedrock import BedrockSettings, _aiobotocore
from trunkline_bedrock.auth import COALESCE, ChainAuth, Scope
from trunkline_bedrock.chain import chain_error, make_session
from trunkline_bedrock.credentials import Keys

ANSWER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "ok"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
}
XML = {"content-type": "text/xml"}


def bedrock_scope(url: str) -> Scope:
    return Scope("bedrock")


def at(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


class AWS:
    """What the server does. `lives` are the seconds that the keys it gives live, one after the other."""

    def __init__(self) -> None:
        self.lives = [3600.0]
        self.given = 0
        self.expired: set[str] = set()
        self.expires_after: tuple[str, int] | None = None
        self.fails = False
        self.delay = 0.0
        self.stale_body: dict[str, str] = {"message": "The security token included in the request is expired"}
        self.stale_name = "ExpiredTokenException"
        self.seen: list[str] = []
        self.asked = anyio.Event()
        self.server: LoopbackServer

    def keys(self) -> tuple[str, str, str, str]:
        life = self.lives[min(self.given, len(self.lives) - 1)]
        self.given += 1
        return f"ASIA{self.given}", "canary-secret", f"canary-token-{self.given}", at(life)

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        path = request.target.partition("?")[0]
        if path.startswith("/model/"):
            await self._bedrock(exchange)
            return
        self.seen.append(f"{request.method} {path}")
        if path == "/latest/api/token":
            await exchange.respond(b"imds-token", headers={"content-type": "text/plain"})
            return
        if path == "/latest/meta-data/iam/security-credentials/":
            assert request.headers["x-aws-ec2-metadata-token"] == "imds-token"
            await exchange.respond(b"role", headers={"content-type": "text/plain"})
            return
        self.asked.set()
        if self.delay:
            await anyio.sleep(self.delay)
        if self.fails:
            await exchange.respond(b"{}", status=500)
            return
        if path == "/":
            await exchange.respond(self._sts(request.body.decode()), headers=XML)
            return
        key, secret, token, expiration = self.keys()
        keys = {
            "AccessKeyId": key,
            "SecretAccessKey": secret,
            "Token": token,
            "Expiration": expiration,
            "Code": "Success",
        }
        await exchange.respond(json.dumps(keys).encode())

    def _sts(self, body: str) -> bytes:
        action = "AssumeRoleWithWebIdentity" if "WebIdentity" in body else "AssumeRole"
        self.seen[-1] += f" {action}"
        key, secret, token, expiration = self.keys()
        return (
            f"<{action}Response><{action}Result><Credentials><AccessKeyId>{key}</AccessKeyId>"
            f"<SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>"
            f"<Expiration>{expiration}</Expiration></Credentials><AssumedRoleUser>"
            f"<Arn>arn:aws:sts::000000000000:assumed-role/r/s</Arn><AssumedRoleId>i</AssumedRoleId></AssumedRoleUser>"
            f"</{action}Result></{action}Response>"
        ).encode()

    async def _bedrock(self, exchange: Exchange) -> None:
        authorization = exchange.request.headers["authorization"]
        if self.expires_after is not None:
            key, left = self.expires_after
            self.expires_after = (key, left - 1) if left > 1 else None
            if left == 1:
                self.expired.add(key)
        if any(f"Credential={key}/" in authorization for key in self.expired) or authorization == "Bearer stale":
            headers = {"x-amzn-errortype": self.stale_name}
            await exchange.respond(json.dumps(self.stale_body).encode(), status=403, headers=headers)
            return
        await exchange.respond(json.dumps(ANSWER).encode())

    @property
    def sent(self) -> list[str]:
        """How each request to Bedrock was authenticated: the bearer token, or key id and session token."""
        found = []
        for request in self.server.requests:
            if not request.target.startswith("/model/"):
                continue
            authorization = request.headers["authorization"]
            if authorization.startswith("Bearer "):
                found.append(authorization)
                assert "x-amz-security-token" not in request.headers
                continue
            key = authorization.partition("Credential=")[2].partition("/")[0]
            found.append(" ".join(filter(None, [key, request.headers.get("x-amz-security-token")])))
        return found


@asynccontextmanager
async def running() -> AsyncIterator[AWS]:
    aws = AWS()
    async with serve(aws) as server:
        aws.server = server
        yield aws


def opened(aws: AWS, **settings: Any) -> trunkline.Service:
    return trunkline.open_service(
        "bedrock",
        **{"aws_region": "us-east-1", "api_url": aws.server.url, "default_model": "amazon.nova-lite-v1:0", **settings},
    )


@pytest.fixture
def profiles(tmp_path: Path, environment: pytest.MonkeyPatch) -> Path:
    """A configuration file of AWS with a profile of each kind; the environment names it."""
    script = tmp_path / "process.py"
    output = {
        "Version": 1,
        "AccessKeyId": "PROCESS",
        "SecretAccessKey": "s",
        "SessionToken": "t",
        "Expiration": at(3600),
    }
    script.write_text(f"print({json.dumps(output)!r})")
    (tmp_path / "jwt").write_text("web-token")
    config = tmp_path / "config"
    config.write_text(
        "[profile keys]\naws_access_key_id = PROFILE\naws_secret_access_key = s\n"
        "[profile role]\nrole_arn = arn:aws:iam::000000000000:role/r\nsource_profile = keys\n"
        f"[profile process]\ncredential_process = {sys.executable} {script}\n"
        f"[profile web]\nrole_arn = arn:aws:iam::000000000000:role/r\nweb_identity_token_file = {tmp_path / 'jwt'}\n"
        "[profile broken]\nrole_arn = arn:aws:iam::000000000000:role/r\nsource_profile = nobody\n"
        "[profile half]\naws_access_key_id = PROFILE\n"
        "[profile failing]\ncredential_process = false\n"
        "[profile mfa]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = keys\nmfa_serial = arn:aws:iam::1:mfa/u\n"
        "[sso-session corp]\nsso_start_url = https://d-1.awsapps.com/start\nsso_region = us-east-1\n"
        "[profile sso]\nsso_session = corp\nsso_account_id = 000000000000\nsso_role_name = Dev\n"
        "[profile from-sso]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = sso\n"
        "[profile bare]\nrole_arn = arn:aws:iam::1:role/r\n"
        "[profile prints-text]\ncredential_process = echo hello\n"
        "[profile prints-list]\ncredential_process = echo []\n"
        "[profile without-process]\ncredential_process =\n"
    )
    environment.setenv("AWS_CONFIG_FILE", str(config))
    return config


PAIR = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "s"}
TEMPORARY = {**PAIR, "AWS_SESSION_TOKEN": "t"}
BEARER = {"AWS_BEARER_TOKEN_BEDROCK": "env-bearer"}
OWN_PAIR = {"aws_access_key_id": "OWN", "aws_secret_access_key": "s"}
ROLE = {"aws_profile": "role"}
CONTAINER = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "@/creds"}
INSTANCE = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "@"}
WEB = {"AWS_WEB_IDENTITY_TOKEN_FILE": "#/jwt", "AWS_ROLE_ARN": "arn:aws:iam::000000000000:role/r"}
BLANK_NAMES = (
    *TEMPORARY,
    *BEARER,
    *WEB,
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_METADATA_SERVICE_TIMEOUT",
    "AWS_STS_REGIONAL_ENDPOINTS",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_CA_BUNDLE",
)
BLANK = {**dict.fromkeys(BLANK_NAMES, " "), "HOME": "#"}
EVERYTHING = {**TEMPORARY, **BEARER, "AWS_PROFILE": "keys", **CONTAINER, **INSTANCE, **WEB}
GIVEN = "ASIA1 canary-token-1"


async def check_sent(
    environment: pytest.MonkeyPatch, profiles: Path, environ: dict[str, str], settings: dict[str, str], sent: str
) -> None:
    async with running() as aws:
        environment.setenv("AWS_ENDPOINT_URL_STS", aws.server.url)
        for name, value in environ.items():
            environment.setenv(name, value.replace("@", aws.server.url).replace("#", str(profiles.parent)))
        async with opened(aws, **settings) as service:
            await service.chat("x")
            await service.chat("x")
        assert aws.sent == [sent, sent]


@pytest.mark.parametrize("anyio_backend", ["asyncio", pytest.param("trio", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(
    ("environ", "settings", "sent"),
    [
        # Configured credentials beside everything that the environment can hold.
        (EVERYTHING, OWN_PAIR, "OWN"),
        (EVERYTHING, {**OWN_PAIR, "aws_session_token": "own-t"}, "OWN own-t"),
        (EVERYTHING, {**OWN_PAIR, "api_key": "own-bearer"}, "OWN"),
        (EVERYTHING, {"api_key": "own-bearer"}, "Bearer own-bearer"),
        (EVERYTHING, {"api_key": "own-bearer", "aws_profile": "keys"}, "Bearer own-bearer"),
        (EVERYTHING, {"api_key": "LEGACY:s"}, "LEGACY"),
        (EVERYTHING, {"api_key": "LEGACY:s:t"}, "LEGACY t"),
        (EVERYTHING, {"aws_profile": "keys"}, "PROFILE"),
        (EVERYTHING, {"aws_profile": "role"}, GIVEN),
        (EVERYTHING, {"aws_profile": "process"}, "PROCESS t"),
        (EVERYTHING, {"aws_profile": "web"}, GIVEN),
        # Several credentials in the environment.
        (EVERYTHING, {}, "ENV t"),
        ({**PAIR, **BEARER}, {}, "ENV"),
        ({**BEARER, "AWS_PROFILE": "keys", **CONTAINER, **INSTANCE, **WEB}, {}, "Bearer env-bearer"),
        ({"AWS_PROFILE": "keys", **CONTAINER}, {}, "PROFILE"),
        # FIPS and dual-stack do not change a custom endpoint of STS.
        ({"AWS_PROFILE": "role"}, {"use_fips_endpoint": True, "use_dualstack_endpoint": True}, GIVEN),
        # A blank variable is not set, and blanks around a value do not belong to it.
        ({**BLANK, **PAIR}, {}, "ENV"),
        ({**BLANK, **BEARER}, {}, "Bearer env-bearer"),
        ({**BLANK, "AWS_PROFILE": "keys"}, {}, "PROFILE"),
        ({**BLANK, "AWS_PROFILE": " role\n"}, {}, GIVEN),
        ({**BLANK, **CONTAINER}, {}, GIVEN),
        ({**BLANK, **WEB}, {}, GIVEN),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "@/creds\n"}, {}, GIVEN),
        # A profile that does not exist matters only if the credentials should come from it.
        ({"AWS_PROFILE": "nobody", **PAIR}, {}, "ENV"),
        # The profile of the settings beats the environment's.
        ({"AWS_PROFILE": "nobody", **PAIR}, {"aws_profile": "keys"}, "PROFILE"),
        (BEARER, {"aws_profile": "keys"}, "PROFILE"),
    ],
)
@pytest.mark.anyio
async def test_the_first_of_several_credentials_reaches_bedrock(
    environment: pytest.MonkeyPatch, profiles: Path, environ: dict[str, str], settings: dict[str, str], sent: str
) -> None:
    await check_sent(environment, profiles, environ, settings, sent)


@pytest.mark.parametrize(
    ("environ", "sent"),
    [
        (PAIR, "ENV"),
        (BEARER, "Bearer env-bearer"),
        ({"AWS_PROFILE": "keys"}, "PROFILE"),
        ({"AWS_PROFILE": "role"}, GIVEN),
        ({"AWS_PROFILE": "process"}, "PROCESS t"),
        ({"AWS_PROFILE": "web"}, GIVEN),
        (WEB, GIVEN),
        (CONTAINER, GIVEN),
        (INSTANCE, GIVEN),
    ],
)
@pytest.mark.anyio
async def test_credentials_of_each_source_reach_bedrock(
    environment: pytest.MonkeyPatch, profiles: Path, environ: dict[str, str], sent: str
) -> None:
    await check_sent(environment, profiles, environ, {}, sent)


@pytest.mark.parametrize(
    ("environ", "settings", "kind", "message"),
    [
        ({}, {}, ConfigurationError, "no AWS credentials: set aws_access_key_id"),
        ({"AWS_ACCESS_KEY_ID": "ENV"}, {}, ConfigurationError, "AWS_SECRET_ACCESS_KEY is missing"),
        ({"AWS_SECRET_ACCESS_KEY": "s", **BEARER}, {}, ConfigurationError, "AWS_ACCESS_KEY_ID is missing"),
        ({"AWS_BEARER_TOKEN_BEDROCK": "a b"}, {}, ConfigurationError, "AWS_BEARER_TOKEN_BEDROCK"),
        ({"AWS_PROFILE": "nobody"}, {}, ConfigurationError, "no AWS profile 'nobody', which .* does not have$"),
        (PAIR, {"aws_profile": "proces"}, ConfigurationError, "no AWS profile 'proces'.*did you mean 'process'"),
        ({}, {"aws_profile": "broken"}, ConfigurationError, "nobody"),
        ({}, {"aws_profile": "half"}, ConfigurationError, "aws_secret_access_key"),
        ({}, {"aws_profile": "failing"}, AuthenticationError, "custom-process.*get-caller-identity --profile failing`"),
        ({}, {"aws_profile": "mfa"}, ConfigurationError, "profile 'mfa'.*MFA code of arn:aws:iam::1:mfa/u, and"),
        ({"AWS_PROFILE": "mfa"}, {}, ConfigurationError, "profile 'mfa'.*aws sts assume-role"),
        ({"HOME": "#"}, {"aws_profile": "sso"}, AuthenticationError, "run `aws sso login --profile sso`"),
        ({"HOME": "#", "AWS_PROFILE": "sso"}, {}, AuthenticationError, "run `aws sso login --profile sso`"),
        ({"HOME": "#"}, {"aws_profile": "from-sso"}, AuthenticationError, "run `aws sso login --profile sso`"),
        ({"AWS_ENDPOINT_URL_STS": "https://x"}, {**ROLE, "ca_bundle": "/no.pem"}, ConfigurationError, "'/no.pem'"),
        ({"AWS_ENDPOINT_URL_STS": "https://x"}, {**ROLE, "ca_bundle": __file__}, ConfigurationError, "_credentials.py"),
        ({}, {"aws_profile": "bare"}, ConfigurationError, "'bare'.* role_arn, but no source_profile or cred"),
        ({}, {"aws_profile": "prints-text"}, AuthenticationError, "'prints-text' returned something else .*JSON"),
        ({}, {"aws_profile": "prints-list"}, AuthenticationError, "'prints-list' returned something else"),
        ({}, {"aws_profile": "without-process"}, AuthenticationError, "'without-process' returned something else"),
        (
            {"AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere", "AWS_ROLE_ARN": "arn:aws:iam::000000000000:role/r"},
            {},
            ConfigurationError,
            "nowhere",
        ),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://evil.example/creds"}, {}, TrunklineError, "evil.example"),
    ],
)
@pytest.mark.anyio
async def test_unavailable_credentials_raise(
    environment: pytest.MonkeyPatch,
    profiles: Path,
    environ: dict[str, str],
    settings: dict[str, str],
    kind: type[TrunklineError],
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in environ.items():
        environment.setenv(name, value)
    async with running() as aws:
        async with opened(aws, **settings) as service:
            with pytest.raises(kind, match=message):
                await service.chat("x")
        assert aws.sent == []
    # The error has what botocore logs about a refresh that failed.
    assert "Refreshing temporary credentials failed" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({"aws_region": "us-east-1"}, "sts.us-east-1.amazonaws.com"),
        ({"aws_region": "us-east-1", "use_fips_endpoint": True}, "sts-fips.us-east-1.amazonaws.com"),
        ({"aws_region": "fips-us-east-1"}, "sts-fips.us-east-1.amazonaws.com"),
        ({"aws_region": "us-east-1", "use_dualstack_endpoint": True}, "sts.us-east-1.api.aws"),
    ],
)
@pytest.mark.parametrize("variable", ["", "true"])
@pytest.mark.anyio
async def test_fips_and_dual_stack_apply_to_the_token_service(
    environment: pytest.MonkeyPatch, settings: dict[str, Any], host: str, variable: str
) -> None:
    environment.setenv("AWS_USE_FIPS_ENDPOINT", variable)  # the settings win
    session = make_session(BedrockSettings(**settings), None)
    async with session.create_client("sts") as client:
        assert client.meta.endpoint_url == f"https://{host}"


def test_login_that_is_needed_names_its_profile() -> None:
    profiles = {"role": {"role_arn": "r", "source_profile": "dev"}, "dev": {"login_session": "arn"}}
    session = types.SimpleNamespace(full_config={"profiles": profiles})
    error = chain_error(LoginRefreshRequired(), provider="bedrock", service="s", profile="role", session=session)
    assert isinstance(error, AuthenticationError)
    assert "run `aws login --profile dev`" in str(error)


@pytest.mark.anyio
async def test_an_instance_is_asked_by_the_second_version_of_its_metadata(environment: pytest.MonkeyPatch) -> None:
    async with running() as aws:
        for name, value in INSTANCE.items():
            environment.setenv(name, value.replace("@", aws.server.url))
        async with opened(aws) as service:
            await service.chat("x")
        assert aws.seen == [
            "PUT /latest/api/token",
            "GET /latest/meta-data/iam/security-credentials/",
            "GET /latest/meta-data/iam/security-credentials/role",
        ]
        # As a web server is asked, not as a proxy: some metadata services refuse the other form.
        assert all(request.target.startswith("/") for request in aws.server.requests)


@pytest.mark.anyio
async def test_an_authorization_of_ones_own_is_left_alone() -> None:
    async with running() as aws, opened(aws, headers={"Authorization": "Bearer gateway"}) as service:
        await service.chat("x")
        assert aws.sent == ["Bearer gateway"]


# Refreshing


async def many(service: trunkline.Service, count: int) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(service.chat, "x")


@pytest.fixture
def many_calls(exhaustive: bool) -> int:
    """More calls than the connections to a host."""
    return 500 if exhaustive else 120


@pytest.fixture
def container(environment: pytest.MonkeyPatch) -> Any:
    # It waits a second before it asks again.
    environment.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    # Nor does it ask again of itself because hundreds of calls keep the loop busy for two seconds.
    environment.setattr(ContainerMetadataFetcher, "TIMEOUT_SECONDS", 60)

    def use(aws: AWS) -> None:
        environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{aws.server.url}/creds")

    return use


@pytest.mark.anyio
async def test_a_first_storm_asks_the_chain_once(container: Any) -> None:
    async with running() as aws:
        container(aws)
        aws.delay = 0.05
        async with opened(aws) as service:
            await many(service, 50)
        assert aws.given == 1
        assert set(aws.sent) == {GIVEN}


@pytest.mark.anyio
async def test_many_calls_across_an_expiry_cause_one_refresh_and_no_failure(container: Any, many_calls: int) -> None:
    async with running() as aws:
        container(aws)
        async with opened(aws, max_retries=0) as service:
            await service.chat("x")
            # The service counts: the key expires in the middle of the storm.
            aws.expires_after = ("ASIA1", many_calls // 2)
            await many(service, many_calls)
            assert aws.given == 2
            assert aws.sent.count("ASIA2 canary-token-2") >= many_calls // 2 + 1


@pytest.mark.anyio
async def test_many_calls_after_the_keys_end_cause_one_refresh_and_no_failure(container: Any, many_calls: int) -> None:
    async with running() as aws:
        container(aws)
        async with opened(aws, max_retries=0) as service:
            await service.chat("x")
            pipeline = service._state.parts.get().pipeline
            assert pipeline is not None
            auth = pipeline.steps.auth
            assert isinstance(auth, ChainAuth)
            assert auth._lease is not None
            auth._lease = attrs.evolve(auth._lease, expires=time.monotonic() - 1)
            aws.expired.add("ASIA1")
            await many(service, many_calls)
        assert aws.given == 2
        assert aws.sent[1:] == ["ASIA2 canary-token-2"] * many_calls


@pytest.mark.anyio
async def test_many_calls_with_a_key_that_the_service_calls_expired_cause_one_refresh(
    container: Any, many_calls: int
) -> None:
    async with running() as aws:
        container(aws)
        async with opened(aws, max_retries=0) as service:
            await service.chat("x")
            aws.expired.add("ASIA1")
            await many(service, many_calls)
        assert aws.given == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ExpiredTokenException", "The security token included in the request is expired"),
        ("UnrecognizedClientException", "The security token included in the request is invalid"),
    ],
)
@pytest.mark.anyio
async def test_refused_key_is_replaced_once_and_then_raises(container: Any, name: str, message: str) -> None:
    async with running() as aws:
        container(aws)
        aws.stale_name, aws.stale_body = name, {"message": message}
        async with opened(aws) as service:
            aws.expired.add("ASIA1")
            await service.chat("x")
            assert aws.sent == [GIVEN, "ASIA2 canary-token-2"]
            aws.expired |= {"ASIA2", "ASIA3"}
            with pytest.raises(AuthenticationError, match=r"expired|invalid") as caught:
                await service.chat("x")
        assert caught.value.code == name
        assert aws.given <= 3


@pytest.mark.parametrize(
    "settings", [{"api_key": "stale"}, {"aws_access_key_id": "ASIA1", "aws_secret_access_key": "s"}]
)
@pytest.mark.anyio
async def test_a_configured_key_that_expired_is_not_tried_again(settings: dict[str, str]) -> None:
    async with running() as aws:
        aws.expired.add("ASIA1")
        async with opened(aws, **settings) as service:
            with pytest.raises(AuthenticationError, match="credentials have expired"):
                await service.chat("x")
        assert len(aws.sent) == 1


@pytest.mark.anyio
async def test_an_early_refresh_that_fails_leaves_what_is_still_good(
    container: Any, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    async with running() as aws:
        container(aws)
        auth = ChainAuth(
            BedrockSettings(aws_region="us-east-1"),
            provider="bedrock",
            service="s",
            profile=None,
            scope_of=bedrock_scope,
            clock=lambda: now,
        )
        # Keys of an hour by this clock, which does not move by itself.
        aws.lives = [now + 3600 - datetime.now(UTC).timestamp(), 3600]
        aws.delay = 0
        first = await _keys(auth, now + 3600)
        aws.fails = True
        now += 3600 - 14 * 60
        with caplog.at_level(logging.WARNING, "trunkline.bedrock"):
            assert await auth.acquire() == first
            assert await auth.acquire() == first
        assert caplog.text.count("refreshing the AWS credentials early failed") == 1
        now += 9 * 60
        with pytest.raises(TrunklineError):
            await auth.acquire()


async def _keys(auth: ChainAuth, expires: float) -> Keys:
    """The first keys, taken to expire at a time of the test's own clock."""
    keys = await auth.acquire()
    assert isinstance(keys, Keys)
    assert auth._lease is not None
    auth._lease = attrs.evolve(auth._lease, expires=expires)
    return keys


@pytest.mark.anyio
async def test_one_call_refreshes_early_while_the_others_go_on(container: Any) -> None:
    now = 1000.0
    async with running() as aws:
        container(aws)
        auth = ChainAuth(
            BedrockSettings(aws_region="us-east-1"),
            provider="bedrock",
            service="s",
            profile=None,
            scope_of=bedrock_scope,
            clock=lambda: now,
        )
        first = await _keys(auth, now + 3600)
        now += 3600 - 14 * 60
        aws.delay = 0.2
        got: list[Any] = []

        async def refresher() -> None:
            got.append(await auth.acquire())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(refresher)
            await anyio.wait_all_tasks_blocked()
            assert await auth.acquire() == first
            assert got == []
        assert got[0] != first
        assert aws.given == 2


@pytest.mark.anyio
async def test_a_refresh_that_is_cancelled_leaves_the_others_to_theirs(container: Any) -> None:
    async with running() as aws:
        container(aws)
        aws.delay = 0.1
        auth = ChainAuth(
            BedrockSettings(aws_region="us-east-1"),
            provider="bedrock",
            service="s",
            profile=None,
            scope_of=bedrock_scope,
        )
        async with anyio.create_task_group() as tasks:
            first = anyio.CancelScope()

            async def cancelled() -> None:
                with first:
                    await auth.acquire()

            tasks.start_soon(cancelled)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(auth.acquire)
            await aws.asked.wait()
            first.cancel()
        assert auth._lease is not None


@pytest.mark.anyio
@pytest.mark.parametrize("wrong_by", [-2 * 3600.0, 2 * 3600.0])
async def test_keys_are_used_although_the_wall_clock_is_wrong(container: Any, wrong_by: float) -> None:
    """Fault class 81."""
    now = 1000.0
    async with running() as aws:
        container(aws)
        aws.lives = [3600 - wrong_by]
        auth = ChainAuth(
            BedrockSettings(aws_region="us-east-1"),
            provider="bedrock",
            service="s",
            profile=None,
            scope_of=bedrock_scope,
            clock=lambda: now,
        )
        first = await auth.acquire()
        assert await auth.acquire() is first
        assert aws.given == 1
        now += COALESCE + 1
        assert await auth.acquire(refresh=True) is not first


@pytest.mark.anyio
async def test_wall_clock_that_is_set_ends_no_keys(container: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault class 81."""
    now = 1000.0
    async with running() as aws:
        container(aws)
        auth = ChainAuth(
            BedrockSettings(aws_region="us-east-1"),
            provider="bedrock",
            service="s",
            profile=None,
            scope_of=bedrock_scope,
            clock=lambda: now,
        )
        first = await auth.acquire()
        wall = time.time
        monkeypatch.setattr(time, "time", lambda: wall() - 7200)
        assert await auth.acquire() is first
        now += 3601
        assert await auth.acquire() is not first


@pytest.mark.anyio
async def test_failing_metadata_service_raises(container: Any) -> None:
    async with running() as aws:
        container(aws)
        aws.fails = True
        async with opened(aws, max_retries=0) as service:
            with pytest.raises(AuthenticationError, match="not available"):
                await service.chat("x")


SOURCES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "container": (CONTAINER, {}),
    "instance": (INSTANCE, {}),
    "token service": ({"AWS_ENDPOINT_URL_STS": "@"}, {"aws_profile": "role"}),
}


@pytest.mark.anyio
@pytest.mark.parametrize("source", list(SOURCES))
@pytest.mark.parametrize("headers", [{}, {"content-encoding": "gzip"}], ids=["plain", "compressed"])
async def test_endless_response_with_credentials_is_refused(
    source: str, headers: dict[str, str], environment: pytest.MonkeyPatch, profiles: Path
) -> None:
    accepted: list[str] = []

    async def endless(exchange: Exchange) -> None:
        accepted.append(exchange.request.headers["accept-encoding"])
        await exchange.start(headers={**XML, **headers})
        with suppress(OSError, anyio.BrokenResourceError):
            while True:
                await exchange.chunk(b" " * 65536)

    variables, settings = SOURCES[source]
    async with serve(endless) as server, running() as aws:
        for name, value in variables.items():
            environment.setenv(name, value.replace("@", server.url))
        async with opened(aws, max_retries=0, **settings) as service:
            with pytest.raises(ProtocolViolation, match=r"response of 127\.0\.0\.1 is (larger|compressed)") as caught:
                await service.authenticate()
    assert (caught.value.provider, caught.value.retryable) == ("bedrock", False)
    assert accepted == ["identity"]


@pytest.mark.anyio
@pytest.mark.parametrize("source", list(SOURCES))
async def test_response_with_credentials_that_drips_is_given_up(
    source: str, environment: pytest.MonkeyPatch, profiles: Path
) -> None:
    environment.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    environment.setattr(_aiobotocore, "REQUEST_SECONDS", 0.3)
    environment.setenv("AWS_MAX_ATTEMPTS", "1")

    async def drip(exchange: Exchange) -> None:
        await exchange.start(headers=XML)
        with suppress(OSError, anyio.BrokenResourceError):
            while True:
                await exchange.chunk(b" ")
                await anyio.sleep(0.05)

    variables, settings = SOURCES[source]
    async with serve(drip) as server, running() as aws:
        for name, value in variables.items():
            environment.setenv(name, value.replace("@", server.url))
        async with opened(aws, max_retries=0, **settings) as service:
            with anyio.fail_after(30), pytest.raises(TrunklineError):
                await service.authenticate()


@pytest.mark.anyio
async def test_a_token_service_that_cannot_be_reached_is_a_failed_connection(
    environment: pytest.MonkeyPatch, profiles: Path
) -> None:
    environment.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    environment.setenv("AWS_MAX_ATTEMPTS", "1")
    async with running() as aws, opened(aws, aws_profile="role") as service:
        with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1:9"):
            await service.chat("x")


@pytest.mark.anyio
async def test_a_role_that_may_not_be_assumed_is_a_lack_of_permission(
    environment: pytest.MonkeyPatch, profiles: Path
) -> None:
    async def refuse(exchange: Exchange) -> None:
        body = (
            b"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not you</Message></Error>"
            b"<RequestId>r-1</RequestId></ErrorResponse>"
        )
        await exchange.respond(body, status=403, headers=XML)

    async with serve(refuse) as sts, running() as aws:
        environment.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        async with opened(aws, aws_profile="role") as service:
            with pytest.raises(PermissionDenied, match="not you") as caught:
                await service.chat("x")
    assert (caught.value.code, caught.value.request_id) == ("AccessDenied", "r-1")


@pytest.mark.anyio
async def test_the_environments_proxy_is_used_for_the_token_service(
    environment: pytest.MonkeyPatch, profiles: Path
) -> None:
    async with running() as aws:
        environment.setenv("AWS_ENDPOINT_URL_STS", "http://sts.invalid")
        environment.setenv("HTTP_PROXY", aws.server.url)
        environment.setenv("http_proxy", aws.server.url)
        environment.setenv("NO_PROXY", "127.0.0.1")
        environment.setenv("no_proxy", "127.0.0.1")

        async def proxied(exchange: Exchange) -> None:
            # A request in absolute form is one for a proxy.
            if exchange.request.target.startswith("http://sts.invalid"):
                await exchange.respond(aws._sts(exchange.request.body.decode()), headers=XML)
            else:
                await aws(exchange)

        aws.seen.append("POST")
        aws.server._handler = proxied
        async with opened(aws, aws_profile="role") as service:
            await service.chat("x")
        assert aws.sent == [GIVEN]


@pytest.mark.anyio
async def test_no_secret_of_the_chain_is_logged(
    environment: pytest.MonkeyPatch, profiles: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as aws:
        environment.setenv("AWS_ENDPOINT_URL_STS", aws.server.url)
        with caplog.at_level(logging.DEBUG):
            async with opened(aws, aws_profile="role") as service:
                await service.chat("x")
            async with opened(aws, aws_profile="web") as service:
                await service.chat("x")
        assert "canary" not in caplog.text
        assert "web-token" not in caplog.text


@pytest.mark.anyio
async def test_a_secret_of_the_chain_that_an_error_repeats_is_taken_out(container: Any) -> None:
    async with running() as aws:
        container(aws)
        aws.stale_name, aws.stale_body = "AccessDeniedException", {"message": "no canary-secret canary-token-1"}
        aws.expired.add("ASIA1")
        async with opened(aws) as service:
            with pytest.raises(PermissionDenied) as caught:
                await service.chat("x")
        assert "canary" not in f"{caught.value} {caught.value.body}"


@pytest.mark.anyio
async def test_plain_http_to_another_machine_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    settings = {"aws_region": "us-east-1", "api_url": "http://gateway.invalid/model/m/converse", "api_key": "b"}
    settings["proxy"] = "http://127.0.0.1:9"  # the name is not looked up
    async with trunkline.open_service("bedrock", **settings, default_model="m", max_retries=0) as service:
        with pytest.raises(ConnectionFailed):
            await service.chat("x")
    assert "plain HTTP" in caplog.text
    assert "removed" in caplog.text


@pytest.mark.anyio
async def test_the_loop_goes_on_while_the_chain_is_asked(environment: pytest.MonkeyPatch, profiles: Path) -> None:
    async with running() as aws:
        environment.setenv("AWS_ENDPOINT_URL_STS", aws.server.url)
        aws.delay = 0.3
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await anyio.sleep(0.01)
                ticks += 1

        async with opened(aws, aws_profile="role") as service, anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            await service.chat("x")
            tasks.cancel_scope.cancel()
        assert ticks > 10


# A thread that blocks


@pytest.mark.anyio
@pytest.mark.parametrize("function", ["make_session", "_import_sign"])
async def test_cancelled_call_does_not_wait_for_a_worker_thread(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    started, release, released = threading.Event(), threading.Event(), threading.Event()

    def block(*args: object) -> None:
        started.set()
        release.wait(10)
        released.set()

    monkeypatch.setattr(f"trunkline_bedrock.auth.{function}", block)
    monkeypatch.setattr("trunkline_bedrock.auth._signer_imported", False)
    keys = {"aws_access_key_id": "AKIA1", "aws_secret_access_key": "canary"} if function == "_import_sign" else {}
    try:
        async with trunkline.open_service(
            "bedrock",
            aws_region="us-east-1",
            api_url="http://127.0.0.1:9",
            default_model="m",
            max_retries=0,
            **keys,
        ) as service:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(service.chat, "hi")
                while not started.is_set():
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        assert not released.is_set(), "the call waited for the thread"
    finally:
        release.set()
