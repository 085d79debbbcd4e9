"""`trunkline check` with each provider: a server on this machine plays what goes wrong, in the provider's own words."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from trunkline._config.sources import make_settings
from trunkline._plugins.registry import load_provider
from trunkline.authoring.advice import Advice
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.cli import main
from trunkline.errors import BadRequest, ConnectionFailed, NotFound, TrunklineError
from trunkline.secrets import Headers
from trunkline_llamacpp.model_file import INSTALL_MODEL, packaged_model

KEY = "sk-canary-0123456789abcdef"

Reply = tuple[int, Mapping[str, str], bytes]


def reply(body: object, status: int = 200, **headers: str) -> Reply:
    """An answer in JSON."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"content-type": "application/json", **named}, json.dumps(body).encode()


def page(status: int, **headers: str) -> Reply:
    """A web page."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"content-type": "text/html", **named}, b"<!doctype html><title>Welcome</title><h1>Hello</h1>"


@attrs.frozen(kw_only=True)
class Api:
    """A provider's API: its settings beside the URL, its good answers, and its errors."""

    settings: Mapping[str, str]
    chat: Reply
    models: Reply
    key: Reply
    permission: Reply
    model: Reply
    quota: Reply
    model_problem: str = "model"


ANSWER = reply(
    {
        "id": "1",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
)
MODELS = reply({"object": "list", "data": [{"id": "gpt-right", "object": "model"}]})


def openai_error(status: int, message: str, code: str | None, kind: str = "invalid_request_error") -> Reply:
    return reply({"error": {"message": message, "type": kind, "param": None, "code": code}}, status)


def anthropic_error(status: int, kind: str, message: str) -> Reply:
    return reply({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}, status)


def google_error(status: int, name: str, message: str, *details: object) -> Reply:
    return reply({"error": {"code": status, "message": message, "status": name, "details": list(details)}}, status)


def aws_error(status: int, name: str, message: str) -> Reply:
    return reply({"message": message}, status, x_amzn_errortype=f"{name}:http://internal.amazon.com/coral/")


OPENAI = Api(
    settings={"api_key": KEY},
    chat=ANSWER,
    models=MODELS,
    key=openai_error(401, "Incorrect API key provided: sk-***cdef.", "invalid_api_key"),
    permission=openai_error(403, "You are not allowed to sample from this model", None),
    model=openai_error(404, "The model `gpt-wrong` does not exist or you do not have access to it.", "model_not_found"),
    quota=openai_error(429, "You exceeded your current quota, please check your plan.", "insufficient_quota"),
)
AWS_KEYS = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": KEY, "aws_region": "us-east-1"}
APIS = {
    "openai": OPENAI,
    "openai-compatible": OPENAI,
    "anthropic": Api(
        settings={"api_key": KEY},
        chat=reply(
            {
                "id": "m1",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": [{"type": "text", "text": "ok"}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 1, "output_tokens": 1},
            }
        ),
        models=reply({"data": [{"id": "gpt-right", "type": "model"}], "has_more": False}),
        key=anthropic_error(401, "authentication_error", "invalid x-api-key"),
        permission=anthropic_error(403, "permission_error", "Your API key may not use the specified resource"),
        model=anthropic_error(404, "not_found_error", "model: gpt-wrong"),
        quota=anthropic_error(400, "invalid_request_error", "Your credit balance is too low to access the API."),
    ),
    "azure-openai": Api(
        settings={"api_key": KEY},
        chat=ANSWER,
        models=MODELS,
        key=reply({"error": {"code": "401", "message": "Access denied due to invalid subscription key."}}, 401),
        permission=reply({"error": {"code": "403", "message": "Public access is disabled."}}, 403),
        model=reply({"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}}, 404),
        quota=openai_error(429, "You exceeded your current quota.", "insufficient_quota"),
        model_problem="deployment",
    ),
    "bedrock": Api(
        settings=AWS_KEYS,
        chat=reply(
            {
                "output": {"message": {"role": "assistant", "content": [{"text": "ok"}]}},
                "stopReason": "end_turn",
                "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
            }
        ),
        models=reply({"modelSummaries": [{"modelId": "gpt-right"}]}),
        key=aws_error(403, "UnrecognizedClientException", "The security token included in the request is invalid."),
        permission=aws_error(
            403,
            "AccessDeniedException",
            "User: arn:aws:iam::123456789012:user/x is not authorized to perform: bedrock:InvokeModel on resource: y",
        ),
        model=aws_error(400, "ValidationException", "The provided model identifier is invalid."),
        quota=aws_error(400, "ServiceQuotaExceededException", "You have exceeded the quota."),
    ),
    "cohere": Api(
        settings={"api_key": KEY},
        chat=reply(
            {
                "id": "1",
                "finish_reason": "COMPLETE",
                "message": {"role": "assistant", "content": [{"type": "text", "text": "ok"}]},
            }
        ),
        models=reply({"models": [{"name": "gpt-right", "endpoints": ["chat"]}]}),
        key=reply({"id": "1", "message": "invalid api token"}, 401),
        permission=reply({"id": "1", "message": "access to the resource is forbidden"}, 403),
        model=reply({"id": "1", "message": "model 'gpt-wrong' not found, make sure the correct ID was used"}, 404),
        quota=reply(
            {"id": "1", "message": "You are using a Trial key, which is limited to 1000 API calls / month."}, 429
        ),
    ),
    "gemini": Api(
        settings={"api_key": KEY},
        chat=reply({"candidates": [{"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP"}]}),
        models=reply({"models": [{"name": "models/gpt-right", "displayName": "Right"}]}),
        key=google_error(
            400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid one.", {"reason": "API_KEY_INVALID"}
        ),
        permission=google_error(403, "PERMISSION_DENIED", "Requests from referer <empty> are blocked."),
        model=google_error(404, "NOT_FOUND", "models/gpt-wrong is not found for API version v1beta"),
        quota=google_error(
            429, "RESOURCE_EXHAUSTED", "You exceeded your quota.", {"violations": [{"quotaId": "RequestsPerDay"}]}
        ),
    ),
    "vertex": Api(
        settings={"api_key": KEY},
        # The name of the model chooses the API: that of `gpt-right` is Responses.
        chat=reply(
            {
                "id": "resp_1",
                "object": "response",
                "status": "completed",
                "model": "gpt-right",
                "output": [
                    {
                        "type": "message",
                        "id": "msg_1",
                        "role": "assistant",
                        "status": "completed",
                        "content": [{"type": "output_text", "text": "ok", "annotations": []}],
                    }
                ],
            }
        ),
        models=reply({"publisherModels": [{"name": "publishers/google/models/gpt-right"}]}),
        key=google_error(
            400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid one.", {"reason": "API_KEY_INVALID"}
        ),
        permission=google_error(403, "PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied."),
        model=google_error(404, "NOT_FOUND", "Publisher Model `publishers/google/models/gpt-wrong` was not found"),
        quota=google_error(403, "PERMISSION_DENIED", "This API method requires billing to be enabled."),
    ),
    "mistral": Api(
        settings={"api_key": KEY},
        chat=ANSWER,
        models=MODELS,
        key=reply({"detail": "Invalid API Key"}, 401),
        permission=reply({"message": "Forbidden", "request_id": "1"}, 403),
        model=reply(
            {"object": "error", "message": "Invalid model: gpt-wrong", "type": "invalid_model", "code": "1500"}, 400
        ),
        quota=reply({"message": "Payment required", "request_id": "1"}, 402),
    ),
    "ollama": Api(
        settings={"api_key": KEY},
        chat=reply(
            {
                "model": "m",
                "created_at": "2026-01-01T00:00:00Z",
                "message": {"role": "assistant", "content": "ok"},
                "done": True,
                "done_reason": "stop",
            }
        ),
        models=reply({"models": [{"name": "gpt-right", "model": "gpt-right"}]}),
        key=reply({"error": "unauthorized"}, 401),
        permission=reply({"error": "forbidden"}, 403),
        model=reply({"error": "model 'gpt-wrong' not found"}, 404),
        quota=reply({"error": "you have reached your weekly usage limit"}, 429),
    ),
}


class Play(ThreadingHTTPServer):
    """A server that answers as a test says: `models` to GET, `chat` to POST."""

    daemon_threads = True
    models: Reply
    chat: Reply
    asked: list[str]
    breaks: str = ""
    """What happens to a GET: it `hangs`, or the server `closes` or `resets` the connection."""

    def __init__(self, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = []
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients hang up, and refuse certificates."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        breaks = self.server.breaks  # type: ignore[attr-defined]
        if breaks:
            if breaks == "hangs":
                self.connection.recv(1)  # until the client has hung up
            elif breaks == "resets":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        self._answer(self.server.models)  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer(self.server.chat)  # type: ignore[attr-defined]

    def do_CONNECT(self) -> None:
        self._answer(self.server.chat)  # type: ignore[attr-defined]

    def _answer(self, answer: Reply) -> None:
        self.server.asked.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        status, headers, body = answer
        if "inference-profiles" in self.path and status == 200 and b"modelSummaries" in body:
            body = b'{"inferenceProfileSummaries": []}'
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Play]:
    play = Play()
    yield play
    play.shutdown()
    play.server_close()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings, credentials and proxies of this machine."""
    for name in list(os.environ):
        if name.upper().startswith(("TRUNKLINE_", "AWS_", "AZURE_", "OPENAI_", "OLLAMA_")) or "PROXY" in name.upper():
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


Checked = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def checked(capsys: pytest.CaptureFixture[str]) -> Checked:
    """Check a provider at a URL: the exit status and the object of `--json`. No key may be in the output."""

    def run(
        name: str, url: str, *options: str, model: str | None = "gpt-wrong", **more: str
    ) -> tuple[int, dict[str, Any]]:
        api = APIS[name]
        values = {**api.settings, "api_url": url, **more}
        if model is not None:
            values["default_model"] = model
        given = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
        status = main(["check", "--provider", name, "--json", *given, *options])
        output = capsys.readouterr()
        assert KEY not in output.out + output.err
        (result,) = json.loads(output.out)
        assert (status == 0) is result["ok"]
        if not result["ok"]:
            assert result["advice"]
            assert result["message"]
        return status, result

    return run


@pytest.mark.parametrize("name", APIS)
def test_service_that_works_is_ok(name: str, server: Play, checked: Checked) -> None:
    server.models, server.chat = APIS[name].models, APIS[name].chat
    _, result = checked(name, server.url)
    assert [step["status"] for step in result["steps"]] == ["ok"] * 4, result
    assert (result["notes"], result["proxy"]) == ([], None)
    assert result["url"].startswith(f"POST {server.url}/")


def both(field: str) -> Callable[[Api], tuple[Reply, Reply]]:
    return lambda api: (getattr(api, field), getattr(api, field))


def same(answer: Reply) -> Callable[[Api], tuple[Reply, Reply]]:
    return lambda api: (answer, answer)


MISTAKES: Mapping[str, tuple[Callable[[Api], tuple[Reply, Reply]], str]] = {
    "wrong key": (both("key"), "key"),
    "wrong key, list for all": (lambda api: (api.models, api.key), "key"),
    "no permission": (both("permission"), "permission"),
    "wrong model": (lambda api: (api.models, api.model), "model"),
    "no quota": (lambda api: (api.models, api.quota), "quota"),
    "wrong path": (same(page(404)), "url"),
    "wrong path, empty": (same((404, {}, b"")), "url"),
    "web page": (same(page(200)), "not-the-api"),
    "login page": (same(page(403)), "not-the-api"),
    "redirect": (same(page(302, location="https://login.example/")), "redirect"),
    "broken gateway": (same(page(502)), "server"),
    "another API": (same(reply({"status": "ok"})), "not-the-api"),
    "empty object": (same(reply({})), "not-the-api"),
    "empty list": (same(reply([])), "not-the-api"),
    "text": (same((200, {"content-type": "text/plain"}, b"OK")), "not-the-api"),
    "method not allowed": (same(page(405)), "url"),
    "too many requests": (lambda api: (api.models, reply({"message": "slow down"}, 429)), "rate-limit"),
}


@pytest.mark.parametrize("name", APIS)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_told_from_the_others(name: str, mistake: str, server: Play, checked: Checked) -> None:
    make, problem = MISTAKES[mistake]
    server.models, server.chat = make(APIS[name])
    if mistake == "wrong model":
        problem = APIS[name].model_problem
    status, result = checked(name, server.url)
    assert (status, result["problem"]) == (1, problem), result
    if mistake == "wrong model":
        assert "gpt-right" in result["advice"]


@pytest.mark.parametrize("name", APIS)
@pytest.mark.parametrize("answer", [page(404), page(405), page(403), reply({"message": "no"}, 501), page(200)])
def test_list_that_fails_does_not_fail_a_model_that_answers(
    name: str, answer: Reply, server: Play, checked: Checked
) -> None:
    server.models, server.chat = answer, APIS[name].chat
    status, result = checked(name, server.url)
    assert status == 0
    assert any("the models cannot be listed" in note for note in result["notes"])


@pytest.mark.parametrize("name", APIS)
def test_list_that_fails_fails_a_check_without_a_request(name: str, server: Play, checked: Checked) -> None:
    server.models, server.chat = page(404), APIS[name].chat
    status, result = checked(name, server.url, "--no-request")
    assert (status, result["problem"]) == (1, "url"), result
    assert any("without --no-request" in note for note in result["notes"])
    server.models = reply({"message": "no"}, 501)
    status, result = checked(name, server.url, "--no-request")
    assert (status, result["problem"], "try again" in result["advice"]) == (1, "url", False), result


@pytest.mark.parametrize("name", APIS)
def test_missing_default_model_names_some_models(name: str, server: Play, checked: Checked) -> None:
    server.models, server.chat = APIS[name].models, APIS[name].chat
    status, result = checked(name, server.url, model=None)
    assert (status, result["problem"]) == (1, "model")
    assert "gpt-right" in result["advice"]
    assert result["url"].startswith(f"GET {server.url}/")
    assert not any(asked.startswith("POST") for asked in server.asked)
    assert checked(name, server.url, "--model", "x", model=None)[1]["model"] == "x"


@pytest.mark.parametrize("name", APIS)
@pytest.mark.parametrize("how", ["hangs", "closes", "resets"])
def test_list_that_gets_no_answer_does_not_fail_a_model_that_answers(
    name: str, how: str, server: Play, checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.cli.check.LIST_LIMIT", 0.05)
    server.models, server.chat = APIS[name].models, APIS[name].chat
    server.breaks = how
    status, result = checked(name, server.url)
    assert status == 0, result
    assert any("the models cannot be listed" in note for note in result["notes"])
    assert result["url"].startswith(f"POST {server.url}/")
    status, result = checked(name, server.url, "--timeout", "0.2" if how == "hangs" else "60", "--no-request")
    assert (status, result["problem"]) == (1, "timeout" if how == "hangs" else "connection")
    assert result["url"].startswith(f"GET {server.url}/")


def test_list_that_fails_is_reported_first_if_no_request_can_follow(
    server: Play, checked: Checked, nobody: str
) -> None:
    server.models = page(200)
    _, result = checked("openai", server.url, model=None)
    assert (result["problem"], result["notes"]) == ("not-the-api", ["default_model is not set"])
    _, result = checked("openai", server.url, model=None, proxy=f"http://{nobody}")
    assert (result["problem"], "NO_PROXY" in result["advice"]) == ("proxy", False)
    assert "setting 'proxy'" in result["advice"]
    server.models = page(501)
    _, result = checked("openai", server.url, model=None)
    assert (result["problem"], result["notes"]) == ("model", ["the models cannot be listed (status 501)"])


@pytest.mark.parametrize(
    ("variable", "value"), [("HTTPS_PROXY", "no such://proxy"), ("SSL_CERT_FILE", "/no/such/file.pem")]
)
@pytest.mark.parametrize("options", [(), ("--no-request",)])
def test_what_was_not_asked_is_not_named(
    variable: str, value: str, options: tuple[str, ...], checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    _, result = checked("openai", "https://api.example.com", *options)
    assert (result["url"], "trunkline settings" in result["advice"]) == (None, False)
    assert variable in result["message"]


def test_advice_on_settings_names_the_provider_or_the_variable(checked: Checked) -> None:
    _, result = checked("openai", "https://api.example.com", max_retries="-1")
    assert result["provider"] == "openai"
    assert "`trunkline settings openai`" in result["advice"]
    _, result = checked("openai", "https://api.example.com", api_key='{"env": "NO_SUCH_VARIABLE"}')
    assert "set this environment variable" in result["advice"]


def test_model_that_needs_more_tokens_than_the_test_allows_works(server: Play, checked: Checked) -> None:
    text = "Could not finish the message because max_tokens or model output limit was reached."
    server.models, server.chat = OPENAI.models, openai_error(400, text, None)
    assert checked("openai", server.url)[0] == 0


def test_provider_without_a_list_says_what_remains_untested(checked: Checked) -> None:
    endpoint = "https://vpce-1-x.bedrock-runtime.us-east-1.vpce.amazonaws.com"
    status, result = checked("bedrock", endpoint, "--no-request")
    assert status == 0
    assert [step["status"] for step in result["steps"]] == ["ok", "ok", "unavailable"]
    assert result["notes"] == ["this provider lists no models, so the key, the URL and the model were not tested"]
    assert result["url"] is None


# llama.cpp runs inside the process: it has no server and no key, and its own messages say what to do


def checked_in_process(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    status = main(["check", "--provider", "llamacpp", "--json", *options])
    (result,) = json.loads(capsys.readouterr().out)
    return status, result


def test_model_in_the_process_that_works_is_ok(capsys: pytest.CaptureFixture[str]) -> None:
    if packaged_model() is None and os.environ.get("TRUNKLINE_REQUIRE_MODEL") != "1":
        pytest.skip(f"needs a model: {INSTALL_MODEL}")
    status, result = checked_in_process(capsys)
    assert (status, result["problem"], result["url"]) == (0, None, None)
    assert result["steps"][-1]["detail"].startswith("answer from SmolLM2")


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("model_path", "gone.gguf", "'model_path' is 'gone.gguf', which does not exist"),
        ("model_path", "page.gguf", "'model_path' is 'page.gguf', which is not a GGUF file"),
        ("model_path", ".", "'model_path' is '.', which is a directory"),
        ("model_path", "cut.gguf", "'cut.gguf'"),
        ("model_paht", "x.gguf", "did you mean 'model_path'"),
        ("context_length", "0", "'context_length' must be a number of at least 256"),
        ("threads", "many", "'threads' must be a whole number"),
    ],
)
def test_mistake_about_a_model_in_the_process_names_the_setting(
    capsys: pytest.CaptureFixture[str], setting: str, value: str, text: str
) -> None:
    Path("page.gguf").write_bytes(page(200)[2])
    Path("cut.gguf").write_bytes(b"GGUF\x03\x00")
    status, result = checked_in_process(capsys, "--set", f"{setting}={value}")
    assert (status, result["problem"], result["url"]) == (1, "settings", None)
    assert text in result["message"]
    assert "`trunkline settings llamacpp`" in result["advice"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine that nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "check")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("certificate") / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


@pytest.fixture
def nobody() -> str:
    """The address of a port on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize("name", APIS)
def test_connection_that_fails_says_where_and_what_to_do(
    name: str, server: Play, checked: Checked, certificate: Path, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = APIS[name]
    server.models, server.chat = api.models, api.chat

    def failed(url: str, problem: str, text: str, *options: str, **more: str) -> dict[str, Any]:
        status, result = checked(name, url, *options, **more)
        assert (status, result["problem"]) == (1, problem), result
        assert text in f"{result['message']} {result['advice']}"
        return result

    failed(f"http://{nobody}", "refused", "start the server")
    failed(server.url.replace("http:", "https:"), "tls", "use http instead of https")
    secure = Play(certificate)
    secure.models, secure.chat = server.models, server.chat
    failed(secure.url, "certificate", "set 'ca_bundle'")
    assert checked(name, secure.url, ca_bundle=str(certificate))[0] == 0
    failed(secure.url.replace("127.0.0.1", "localhost"), "certificate", "check the host", ca_bundle=str(certificate))
    secure.shutdown()
    secure.server_close()
    proxied = failed(server.url, "proxy", "the proxy", proxy=f"http://user:{KEY}@{nobody}")
    assert f"through the proxy http://{nobody} (setting 'proxy')" in proxied["proxy"]


@pytest.mark.parametrize("name", APIS)
def test_host_that_does_not_exist_is_reported(name: str, checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    status, result = checked(name, "https://no-such-host.example")
    assert (status, result["problem"]) == (1, "dns")


def test_proxy_that_asks_for_a_login_or_refuses_the_host_is_told_from_the_provider(
    server: Play, checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    for answer in (page(407, proxy_authenticate="Basic"), page(403), page(502)):
        server.models = server.chat = answer
        status, result = checked("openai", "https://api.example.com", proxy=server.url)
        assert (status, result["problem"]) == (1, "proxy")
        assert server.asked[-1] == "CONNECT api.example.com:443"


def test_proxy_of_the_environment_and_no_proxy_are_named(
    server: Play, checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url.replace("//", f"//user:{KEY}@"))
    server.models, server.chat = OPENAI.models, OPENAI.chat
    status, result = checked("openai", "http://api.example.com")
    assert (status, server.asked[-1]) == (0, "POST http://api.example.com/v1/chat/completions")
    assert result["proxy"] == f"through the proxy {server.url} (environment variable HTTP_PROXY)"
    monkeypatch.setenv("NO_PROXY", "example.com")

    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    status, result = checked("openai", "http://api.example.com")
    assert (status, result["problem"]) == (1, "dns")
    assert result["proxy"] == "without a proxy, because NO_PROXY excludes the host"


def test_advice_on_a_proxy_of_the_environment_names_no_proxy(
    checked: Checked, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{nobody}")
    _, result = checked("openai", "http://api.example.com")
    assert (result["problem"], "NO_PROXY" in result["advice"]) == ("proxy", True)


def test_server_that_says_nothing_is_reported(checked: Checked) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        status, result = checked("openai", url, "--timeout", "0.2")
    assert (status, result["problem"]) == (1, "timeout")


# The advice of the providers, which they give about their own servers only

ADVICE = [
    ("openai", OPENAI.key, "key", "https://platform.openai.com/api-keys"),
    ("openai", OPENAI.quota, "quota", "billing"),
    ("openai", OPENAI.model, "model", "set default_model"),
    ("openai", openai_error(403, "Country not supported", "unsupported_country_region_territory"), "region", "country"),
    ("openai", openai_error(403, "Missing scopes: api.model.read", None), "permission", "permissions of the key"),
    ("openai", openai_error(403, "Your organization must be verified to use it", None), "permission", "verify"),
    ("openai", openai_error(401, "No such organization: org-x", "invalid_organization"), "key", "organization_id"),
    ("openai", openai_error(404, "This is not a chat model and thus not supported", None), "model", "responses"),
    ("openai-compatible", reply({"detail": "Not Found"}, 404), "url", "often ends with /v1"),
    ("openai-compatible", openai_error(404, "Response with id 'resp_1' not found.", None), None, None),
    ("openai-compatible", OPENAI.key, None, None),
    ("anthropic", APIS["anthropic"].key, "key", "https://platform.claude.com/settings/keys"),
    ("anthropic", APIS["anthropic"].quota, "quota", "billing"),
    ("anthropic", APIS["anthropic"].permission, "permission", "workspace"),
    ("anthropic", APIS["anthropic"].model, "model", "current model"),
    ("cohere", APIS["cohere"].key, "key", "https://dashboard.cohere.com"),
    ("cohere", APIS["cohere"].quota, "quota", "production key"),
    ("cohere", reply({"message": "model 'command-r' was removed on September 15, 2025."}, 404), "model", "current"),
    ("mistral", APIS["mistral"].key, "key", "https://console.mistral.ai"),
    ("mistral", APIS["mistral"].model, "model", "current model"),
    ("gemini", APIS["gemini"].key, "key", "https://aistudio.google.com"),
    (
        "gemini",
        google_error(400, "INVALID_ARGUMENT", "API key expired. Please renew it.", {"reason": "API_KEY_INVALID"}),
        "key",
        "expired",
    ),
    ("gemini", google_error(403, "PERMISSION_DENIED", "Your API key was reported as leaked."), "key", "public"),
    ("gemini", APIS["gemini"].permission, "permission", "restrictions"),
    ("gemini", google_error(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers"), "key", "api_key"),
    (
        "gemini",
        google_error(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
        "region",
        "country",
    ),
    ("gemini", APIS["gemini"].quota, "quota", "billing"),
    ("ollama", APIS["ollama"].model, "model", "`ollama pull gpt-wrong`"),
    ("ollama", reply({"error": "model requires more system memory (9 GiB)"}, 500), "model", "smaller"),
    ("azure-openai", APIS["azure-openai"].model, "deployment", "name of a deployment"),
    ("azure-openai", reply({"error": {"code": "404", "message": "Resource not found"}}, 404), "url", "api_url"),
    (
        "azure-openai",
        reply({"error": {"code": "BadRequest", "message": "API version not supported"}}, 400),
        "settings",
        "api_version",
    ),
    ("azure-openai", APIS["azure-openai"].key, "key", "KEY 1"),
    ("azure-openai", APIS["azure-openai"].permission, "permission", "network"),
    (
        "azure-openai",
        reply({"error": {"code": "AuthenticationTypeDisabled", "message": "Key based authentication is off."}}, 403),
        "key",
        "token_provider",
    ),
    ("bedrock", APIS["bedrock"].key, "key", "access key exists"),
    ("bedrock", aws_error(401, "Unauthorized", "Incorrect API key provided"), None, None),
    ("bedrock", APIS["bedrock"].permission, "permission", "IAM policy"),
    ("bedrock", APIS["bedrock"].model, "model", "whether us-east-1 offers it"),
    (
        "bedrock",
        aws_error(400, "ValidationException", "Invocation of model ID x with on-demand throughput isn’t supported."),
        "model",
        "inference profile",
    ),
    (
        "bedrock",
        aws_error(403, "ExpiredTokenException", "The security token included in the request is expired"),
        "key",
        "aws sso login",
    ),
    (
        "bedrock",
        aws_error(403, "InvalidSignatureException", "Signature expired: 20251102T171419Z is now earlier than …"),
        "clock",
        "clock",
    ),
    (
        "bedrock",
        aws_error(403, "InvalidSignatureException", "Credential should be scoped to a valid region."),
        "region",
        "aws_region",
    ),
    (
        "bedrock",
        aws_error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match"),
        "key",
        "aws_secret_access_key",
    ),
    (
        "bedrock",
        aws_error(403, "AccessDeniedException", "You don't have access to the model with the specified model ID."),
        "permission",
        "playground of the Bedrock console in us-east-1",
    ),
    (
        "bedrock",
        aws_error(
            403,
            "AccessDeniedException",
            "Model access is denied due to IAM user or service role is not authorized to perform the required AWS "
            "Marketplace actions (aws-marketplace:ViewSubscriptions, aws-marketplace:Subscribe) to enable access.",
        ),
        "permission",
        "aws-marketplace:Subscribe",
    ),
    (
        "bedrock",
        aws_error(
            403, "AccessDeniedException", "Model access is denied due to INVALID_PAYMENT_INSTRUMENT: AWS Marketplace"
        ),
        "quota",
        "payment method",
    ),
    (
        "bedrock",
        aws_error(404, "ResourceNotFoundException", "Model use case details have not been submitted for this account."),
        "permission",
        "form",
    ),
]


def advice_about(name: str, error: Reply | TrunklineError, settings: Mapping[str, str]) -> Advice | None:
    """The advice of a provider about an error, or about a response of its API."""
    provider = load_provider(name)
    made = make_settings(name, provider, arguments=settings)
    context = ServiceContext(name=name, provider=name, settings=made)
    if not isinstance(error, TrunklineError):
        status, headers, body = error
        wire = WireResponse(status=status, headers=Headers(headers), body=body)
        error = provider.response_parser(context).error(wire)
    return provider.advice(context, error)


@pytest.mark.parametrize(("name", "answer", "problem", "text"), ADVICE)
def test_provider_advises_on_its_own_errors(name: str, answer: Reply, problem: str | None, text: str | None) -> None:
    urls = {"azure-openai": "https://x.openai.azure.com", "openai-compatible": "https://x.example/v1"}
    url = {"api_url": urls[name]} if name in urls else {}
    found = advice_about(name, answer, {**APIS[name].settings, **url, "default_model": "gpt-wrong"})
    assert (found and found.problem) == problem
    assert text is None or text in (found.text if found is not None else "")


@pytest.mark.parametrize(
    ("key", "message", "text"),
    [
        ("bedrock-api-key-YmVkcm9jay1rZXk", "Bearer Token has expired", "expires after 12 hours"),
        ("ABSKQmVkcm9ja0FQSUtleS0x", "Please make sure your API Key is valid.", "make a new Bedrock API key"),
    ],
)
def test_bedrock_advises_on_its_own_keys(key: str, message: str, text: str) -> None:
    answer = aws_error(403, "AccessDeniedException", f"Authentication failed: {message}")
    found = advice_about("bedrock", answer, {"aws_region": "us-east-1", "api_key": key})
    assert found is not None
    assert (found.problem, text in found.text) == ("key", True)


HOSTS = {
    "openai": "api.openai.com",
    "anthropic": "api.anthropic.com",
    "gemini": "generativelanguage.googleapis.com",
    "mistral": "api.mistral.ai",
    "cohere": "api.cohere.ai",
    "ollama": "ollama.com",
}


@pytest.mark.parametrize("url", ["https://gateway.example", "https://gateway.example/{}", "https://{}.gateway.example"])
@pytest.mark.parametrize("name", HOSTS)
def test_provider_does_not_advise_on_the_errors_of_another_server(name: str, url: str) -> None:
    assert advice_about(name, APIS[name].key, {"api_key": KEY, "api_url": url.format(HOSTS[name])}) is None


@pytest.mark.parametrize("name", HOSTS)
def test_provider_advises_on_its_own_errors_however_its_url_is_written(name: str) -> None:
    assert advice_about(name, APIS[name].key, {"api_key": KEY, "api_url": HOSTS[name].upper()}) is not None


def test_gemini_advises_on_its_location_behind_another_server() -> None:
    error = BadRequest("User location is not supported for the API use.", status=400)
    found = advice_about("gemini", error, {"api_key": KEY, "api_url": "https://gateway.example"})
    assert (found and found.problem) == "region"


def test_ollama_advises_to_fetch_a_model_only_if_it_is_known() -> None:
    assert advice_about("ollama", NotFound("no such model here", status=404), {}) is None


@pytest.mark.parametrize(
    ("region", "hint"),
    [("eu-cental-1", " (did you mean eu-central-1?)"), ("us-east1", " (did you mean us-east-1?)"), ("us-east-1", "")],
)
def test_bedrock_that_cannot_be_found_advises_on_the_region(region: str, hint: str) -> None:
    error = ConnectionFailed("cannot reach x: the name of the host cannot be resolved (unknown)", problem="dns")
    found = advice_about("bedrock", error, {**AWS_KEYS, "aws_region": region})
    assert found is not None
    assert (found.problem, f"may not exist in {region}{hint};" in found.text) == ("region", True)
