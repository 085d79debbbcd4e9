"""The private names of botocore and aiobotocore that the plugin uses, held against the installed versions.

If a test fails after an update, `_botocore.py` or `_aiobotocore.py` needs a change before the range in `pyproject.toml`
may be widened.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.auth
import botocore.configloader
import botocore.credentials
import botocore.exceptions
import httpx2
import pytest
from aiobotocore import httpxsession
from aiobotocore.config import AioConfig
from aiobotocore.credentials import (
    AioCredentials,
    AioDeferredRefreshableCredentials,
    AioLoginProvider,
    AioRefreshableCredentials,
)
from aiobotocore.httpxsession import HttpxSession
from aiobotocore.session import AioSession
from botocore.awsrequest import AWSRequest
from trunkline.testing import Exchange, serve
from trunkline_bedrock import _aiobotocore, _botocore
from trunkline_bedrock.aws_config import parse_error

NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


# botocore


def test_signing_steps_have_the_signatures_that_the_signer_calls() -> None:
    signer = botocore.auth.SigV4Auth
    assert parameters(signer.__init__) == ["self", "credentials", "service_name", "region_name"]
    assert parameters(signer.add_auth) == ["self", "request"]
    assert parameters(signer._modify_request_before_signing) == ["self", "request"]
    assert parameters(signer.canonical_request) == ["self", "request"]
    assert parameters(signer.string_to_sign) == ["self", "request", "canonical_request"]
    assert parameters(signer.signature) == ["self", "string_to_sign", "request"]
    assert parameters(signer._inject_signature_to_request) == ["self", "request", "signature"]


def test_signer_signs_as_botocores_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOW)
    keys = botocore.credentials.ReadOnlyCredentials("AKIAX", "secret", "token")
    theirs, ours = (AWSRequest(method="POST", url="https://host/a%3Ab", data=b"{}", headers={}) for _ in range(2))
    botocore.auth.SigV4Auth(keys, "bedrock", "us-east-1").add_auth(theirs)
    _botocore.Signer(keys, "bedrock", "us-east-1").add_auth(ours, now=lambda: NOW)
    assert "Signature=" in theirs.headers["Authorization"]
    assert dict(ours.headers.items()) == dict(theirs.headers.items())


class Source:
    """Gives keys that live for some hours, and counts how often it is asked."""

    def __init__(self, hours: float = 1) -> None:
        self.asked = 0
        self.hours = hours

    async def __call__(self) -> dict[str, str]:
        self.asked += 1
        expires = datetime.now(UTC) + timedelta(hours=self.hours)
        return {"access_key": "A", "secret_key": "s", "token": "t", "expiry_time": expires.isoformat()}


def expiring(source: Source, seconds: float) -> AioRefreshableCredentials:
    expires = datetime.now(UTC) + timedelta(seconds=seconds)
    return AioRefreshableCredentials("A", "s", "t", expires, source, "test")


@pytest.mark.anyio
async def test_credentials_refresh_early_unless_they_are_kept_from_it() -> None:
    source = Source()
    await expiring(source, 60).get_frozen_credentials()
    assert source.asked == 1
    kept = expiring(source, 60)
    _botocore.refresh_only_when_missing(kept)
    await kept.get_frozen_credentials()
    assert source.asked == 1
    expired = expiring(source, -1)
    _botocore.refresh_only_when_missing(expired)
    await expired.get_frozen_credentials()  # the clock of this machine may be wrong
    assert source.asked == 1
    missing = AioDeferredRefreshableCredentials(Source(-1), "test")
    _botocore.refresh_only_when_missing(missing)
    assert (await missing.get_frozen_credentials()).access_key == "A"


@pytest.mark.anyio
async def test_expired_credentials_of_a_login_are_refreshed() -> None:
    assert AioLoginProvider.METHOD == "login"
    source, expires = Source(), datetime.now(UTC) - timedelta(days=1)
    credentials = AioRefreshableCredentials("A", "s", "t", expires, source, "login")
    _botocore.refresh_only_when_missing(credentials)
    await credentials.get_frozen_credentials()
    assert source.asked == 1


@pytest.mark.anyio
async def test_expiry_time_is_known_once_credentials_are_fetched() -> None:
    source = Source()
    credentials = expiring(source, 60)
    assert _botocore.expiry_time(credentials) == pytest.approx(datetime.now(UTC).timestamp() + 60, abs=30)
    deferred = AioDeferredRefreshableCredentials(source, "test")
    assert _botocore.expiry_time(deferred) is None
    await deferred.get_frozen_credentials()
    assert _botocore.expiry_time(deferred) == pytest.approx(datetime.now(UTC).timestamp() + 3600, abs=60)


def test_permanent_credentials_do_not_expire() -> None:
    credentials = AioCredentials("A", "s")
    _botocore.refresh_only_when_missing(credentials)
    assert _botocore.expiry_time(credentials) is None


@pytest.mark.anyio
async def test_role_with_an_mfa_device_calls_the_prompter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text(
        "[profile base]\naws_access_key_id = A\naws_secret_access_key = s\n"
        "[profile role]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = base\nmfa_serial = arn:aws:iam::1:mfa/u\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    prompts: list[str] = []

    def prompter(prompt: str) -> str:
        prompts.append(prompt)
        raise RuntimeError("refused")

    session = AioSession(profile="role")
    session.set_default_client_config(AioConfig(http_session_cls=_aiobotocore.LimitedSession))
    _botocore.never_prompt(session.get_component("credential_provider"), prompter)
    credentials = await session.get_credentials()
    with pytest.raises(RuntimeError, match="refused"):
        await credentials.get_frozen_credentials()
    assert prompts == ["Enter MFA code for arn:aws:iam::1:mfa/u: "]


def test_session_reads_the_variables_that_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text("[profile dev]\noutput = text\n", encoding="utf-8")
    monkeypatch.setenv("AWS_PROFILE", "")
    monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "")
    session = AioSession()
    session.set_default_client_config(AioConfig(http_session_cls=_aiobotocore.LimitedSession))
    environ = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_PROFILE": "dev", "AWS_ROLE_ARN": "r"}
    _botocore.read_environment(session, environ)
    assert session.get_scoped_config() == {"output": "text"}
    providers = {provider.METHOD: provider for provider in session.get_component("credential_provider").providers}
    assert providers["env"].environ is providers["container-role"]._environ is environ
    web = providers["assume-role-with-web-identity"]
    assert [web._get_config(key) for key in ("role_arn", "web_identity_token_file")] == ["r", None]


def test_error_about_a_file_holds_its_path_and_the_line(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[default]\nno key\n", encoding="utf-8")
    with pytest.raises(botocore.exceptions.ConfigParseError) as caught:
        botocore.configloader.load_config(str(tmp_path / "config"))
    assert parse_error(caught.value) == f"AWS's file {str(tmp_path / 'config')!r} cannot be parsed (line 2)"


# aiobotocore


@pytest.mark.parametrize("name", [*_botocore.DEBUG_LOGGERS, *_aiobotocore.DEBUG_LOGGERS])
def test_loggers_to_silence_exist(name: str) -> None:
    module = importlib.import_module(name)
    logger = getattr(module, "logger", None) or getattr(module, "LOG", None)
    assert isinstance(logger, logging.Logger)
    assert logger.name == name


@asynccontextmanager
async def targets_of(session: HttpxSession) -> AsyncIterator[list[str]]:
    """The request targets that a server sees while a session sends to it."""

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"{}")

    async with serve(handler) as server, session:
        await session.send(AWSRequest(method="GET", url=f"{server.url}/a?b=c").prepare())
        yield [request.target for request in server.requests]


@pytest.mark.anyio
async def test_client_is_made_by_a_method_without_arguments() -> None:
    assert parameters(HttpxSession._make_async_client) == ["self"]
    async with _aiobotocore.LimitedSession() as session:
        client = session._make_async_client()
        assert isinstance(client, httpx2.AsyncClient)
        assert client.event_hooks["response"] == [_aiobotocore._limit_response]
        await client.aclose()
    assert parameters(HttpxSession.send) == ["self", "request"]


@pytest.mark.anyio
async def test_session_sends_the_absolute_form_unless_it_is_kept_from_it() -> None:
    async with targets_of(HttpxSession()) as targets:
        assert targets[0].startswith("http://")
    async with targets_of(_aiobotocore.LimitedSession()) as targets:
        assert targets == ["/a?b=c"]


def test_extension_for_targets_behind_a_proxy_has_its_name() -> None:
    assert httpxsession._RAW_PROXY_TARGET == "aiobotocore_raw_proxy_target"


@pytest.mark.anyio
async def test_metadata_providers_hold_sessions_that_are_limited() -> None:
    session = AioSession()
    session.set_default_client_config(AioConfig(http_session_cls=_aiobotocore.LimitedSession))
    resolver = session.get_component("credential_provider")
    by_method = {provider.METHOD: provider for provider in resolver.providers}
    sessions = [by_method["iam-role"]._role_fetcher._session, by_method["container-role"]._fetcher._session]
    assert all(isinstance(session, HttpxSession) for session in sessions)
    _aiobotocore.limit_metadata_sessions(resolver)
    for metadata_session in sessions:
        assert metadata_session.send.func is _aiobotocore._send
        async with targets_of(metadata_session) as targets:
            assert targets == ["/a?b=c"]
