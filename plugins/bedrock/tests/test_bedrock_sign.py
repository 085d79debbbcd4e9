"""Signatures, compared with what botocore's own client signs."""

import logging
from datetime import UTC, datetime
from typing import Any

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from openai.lib._bedrock_auth import BedrockAwsAuth, BedrockAwsAuthConfig
from trunkline.authoring.wire import WireRequest
from trunkline.secrets import Secret
from trunkline_bedrock import BedrockSettings
from trunkline_bedrock.auth import Scope, StaticAuth
from trunkline_bedrock.credentials import BearerToken, Keys
from trunkline_bedrock.endpoints import signing_scope
from trunkline_bedrock.sign import sign

NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
URL = "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.claude%3A0/converse"
KEYS = Keys(access_key_id="AKIAX", secret_access_key=Secret("canary-secret"), session_token=Secret("canary-token"))


@pytest.mark.parametrize("token", [None, "canary-token"])
@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("POST", URL, b'{"a":1}'),
        ("POST", "http://127.0.0.1:4566/p/model/arn%3Aaws%3Ax%2Fy/converse-stream", b"\xc3\xa9"),
        ("GET", "https://bedrock.us-east-1.amazonaws.com/inference-profiles?maxResults=1000&nextToken=a%2Fb%3D", b""),
    ],
)
@pytest.mark.parametrize("service", ["bedrock", "aws-external-anthropic"])
def test_the_signature_is_botocores(
    monkeypatch: pytest.MonkeyPatch, method: str, url: str, body: bytes, token: str | None, service: str
) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOW)
    headers = {"content-type": "application/json"}
    reference: Any = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
    botocore.auth.SigV4Auth(Credentials("AKIAX", "canary-secret", token), service, "us-east-1").add_auth(reference)
    keys = Keys(
        access_key_id="AKIAX",
        secret_access_key=Secret("canary-secret"),
        session_token=Secret(token) if token else None,
    )
    # What is not signed may be changed on the way.
    wire = WireRequest(method=method, url=url, body=body, headers={**headers, "accept": "x", "user-agent": "y"})
    signed = sign(wire, keys, "us-east-1", service, now=lambda: NOW)
    expected = {name.lower(): value for name, value in reference.headers.items()}
    assert {name: signed.headers[name] for name in expected} == expected
    assert (signed.headers["accept"], signed.url, signed.body) == ("x", url, body)


MANTLE_URL = "https://bedrock-mantle.us-east-1.api.aws/openai/v1/responses"
RUNTIME_URL = "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/chat/completions"


@pytest.mark.parametrize("token", [None, "canary-token"])
@pytest.mark.parametrize(("url", "service"), [(MANTLE_URL, "bedrock-mantle"), (RUNTIME_URL, "bedrock")])
def test_the_signature_for_openais_api_is_that_of_openais_client(
    monkeypatch: pytest.MonkeyPatch, url: str, service: Any, token: str | None
) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOW)
    config = BedrockAwsAuthConfig(
        region="us-east-1",
        source="static",
        service=service,
        access_key_id="AKIAX",
        secret_access_key="canary-secret",
        session_token=token,
    )
    headers = {"content-type": "application/json"}
    expected = BedrockAwsAuth(config).sign(method="POST", url=url, headers=headers, body=b'{"a":1}')
    keys = Keys(
        access_key_id="AKIAX",
        secret_access_key=Secret("canary-secret"),
        session_token=Secret(token) if token else None,
    )
    scope = signing_scope(BedrockSettings(aws_region="us-east-1"), url)
    wire = WireRequest(url=url, headers=headers, body=b'{"a":1}')
    signed = sign(wire, keys, "us-east-1", scope.service, content_hash=scope.content_hash, now=lambda: NOW)
    assert signed.headers == {name.lower(): value for name, value in expected.items()}
    again = sign(signed, keys, "us-east-1", scope.service, content_hash=scope.content_hash, now=lambda: NOW)
    assert again == signed


@pytest.mark.parametrize(
    ("host", "service", "content_hash"),
    [
        ("bedrock-mantle.eu-west-1.api.aws", "bedrock-mantle", True),
        ("vpce-0a-b.bedrock-mantle.eu-west-1.vpce.amazonaws.com", "bedrock-mantle", True),
        ("bedrock-runtime.eu-west-1.amazonaws.com", "bedrock", False),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "bedrock", False),
        ("bedrock.eu-west-1.amazonaws.com", "bedrock", False),
        ("proxy.example", "bedrock", False),
    ],
)
def test_the_host_says_for_which_service_a_request_is_signed(host: str, service: str, content_hash: bool) -> None:
    path = "v1/responses" if content_hash else "model/x/converse"
    settings = BedrockSettings(aws_region="eu-west-1")
    assert signing_scope(settings, f"https://{host}/{path}") == Scope(service, content_hash)


def test_a_request_that_is_signed_again_has_one_signature() -> None:
    wire = WireRequest(url=URL, headers={"content-type": "application/json", "x-amz-meta": "1"}, body=b"{}")
    once = sign(wire, KEYS, "us-east-1", "bedrock", now=lambda: NOW)
    assert sign(once, KEYS, "us-east-1", "bedrock", now=lambda: NOW) == once
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-meta;x-amz-security-token" in once.headers["authorization"]


def test_signing_logs_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        sign(WireRequest(url=URL, body=b"{}"), KEYS, "us-east-1", "bedrock")
    assert "canary" not in caplog.text


def test_a_bearer_token_is_sent_alone() -> None:
    auth = StaticAuth(BearerToken(token=Secret("canary")), "us-east-1", lambda url: Scope("bedrock"))
    signed = auth.sign(WireRequest(url=URL), BearerToken(token=Secret("canary")))
    assert signed.headers == {"authorization": "Bearer canary"}
    assert "canary" not in f"{auth!r} {signed!r}"
