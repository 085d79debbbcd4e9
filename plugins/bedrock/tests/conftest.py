"""Both backends, an environment without AWS in it, botocore as the oracle of every body, and an emulator of AWS."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zlib import crc32

import botocore.session
import pytest
from botocore.serialize import create_serializer
from botocore.validate import ParamValidator

MINISTACK = "ministack==1.5.33"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No AWS and no proxy in the environment, no AWS files, no metadata service."""
    for name in list(os.environ):
        if name.upper().startswith(("AWS_", "TRUNKLINE_BEDROCK", "ECS_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


# The oracle: botocore's model of the service, walked for what its validator leaves out


class Oracle:
    """Checks an operation's body and path against botocore's validator, serializer and model."""

    def __init__(self) -> None:
        self._service = botocore.session.Session().get_service_model("bedrock-runtime")

    def check(self, operation: str, url: str, body: bytes) -> dict[str, Any]:
        """The decoded body. Fails where botocore would not send it, or would send something else."""
        model = self._service.operation_model(operation)
        decoded = json.loads(body)
        path = urlsplit(url).path
        found = re.fullmatch(r".*/model/([^/]+)/[a-z-]+", path)
        assert found is not None, path
        params = {"modelId": _unquoted(found[1]), **self._boto(decoded, model.input_shape, "body")}
        report = ParamValidator().validate(params, model.input_shape)
        assert not report.has_errors(), report.generate_report()
        serialized = create_serializer("rest-json").serialize_to_request(params, model)
        assert path.endswith(serialized["url_path"])
        assert json.loads(serialized["body"]) == decoded
        return dict(decoded)

    def _boto(self, value: Any, shape: Any, where: str) -> Any:
        """The value as botocore takes it, with bytes for base64; constraints are checked on the way."""
        kind = shape.type_name
        if kind == "structure" and not shape.is_document_type:
            assert isinstance(value, dict), where
            unknown = set(value) - set(shape.members)
            assert not unknown, f"{where} has {unknown}"
            if shape.is_tagged_union:
                assert len(value) == 1, f"{where} is no tagged union: {list(value)}"
            return {key: self._boto(item, shape.members[key], f"{where}.{key}") for key, item in value.items()}
        if kind == "list":
            self._within(len(value), shape, where)
            return [self._boto(item, shape.member, f"{where}[]") for item in value]
        if kind == "map":
            self._within(len(value), shape, where)
            for key, item in value.items():
                self._boto(key, shape.key, f"{where} key")
                self._boto(item, shape.value, f"{where}.{key}")
            return value
        if kind == "blob":
            data = base64.b64decode(value, validate=True)
            self._within(len(data), shape, where)
            return data
        if kind == "string":
            self._within(len(value), shape, where)
            if shape.enum:
                assert value in shape.enum, f"{where} is {value!r}, not one of {shape.enum}"
            pattern = shape.metadata.get("pattern")
            if pattern:
                assert re.fullmatch(pattern, value), f"{where} is {value!r}, not {pattern}"
        if kind in ("integer", "float", "double", "long"):
            self._within(value, shape, where)
        return value

    @staticmethod
    def _within(number: float, shape: Any, where: str) -> None:
        low, high = shape.metadata.get("min"), shape.metadata.get("max")
        assert low is None or number >= low, f"{where}: {number} is below {low}"
        assert high is None or number <= high, f"{where}: {number} is above {high}"


def _unquoted(text: str) -> str:
    from urllib.parse import unquote

    return unquote(text)


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    return Oracle()


# The event stream, which botocore can read and not write


def encode_message(headers: dict[str, str], payload: bytes) -> bytes:
    packed = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", len(packed) + len(payload) + 16, len(packed))
    message = prelude + struct.pack("!I", crc32(prelude)) + packed + payload
    return message + struct.pack("!I", crc32(message))


def encode_event(name: str, payload: Any, kind: str = "event") -> bytes:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    if kind == "error":
        return encode_message({":message-type": "error", ":error-code": name, ":error-message": str(payload)}, b"")
    headers = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    return encode_message(headers, data)


@pytest.fixture(scope="session")
def event() -> Callable[..., bytes]:
    """Encodes one message: `event(name, payload, kind="event")`."""
    return encode_event


@pytest.fixture(scope="session")
def message() -> Callable[..., bytes]:
    """Encodes one message of any headers."""
    return encode_message


# The emulator


def _command() -> list[str] | None:
    named = os.environ.get("TRUNKLINE_MINISTACK") or shutil.which("ministack")
    if named:
        return [named]
    return [sys.executable, "-m", "ministack"] if find_spec("ministack") is not None else None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an emulator of AWS that checks signatures and policies."""
    command = _command()
    if command is None:
        reason = f"needs an emulator of AWS: {MINISTACK}, without its dependency on botocore or in its own environment"
        if os.environ.get("TRUNKLINE_REQUIRE_MINISTACK") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    port = _free_port()
    folder = tmp_path_factory.mktemp("ministack")
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "STATE_DIR": str(folder / "state"),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "AUTH": "true",
        "LOG_LEVEL": "ERROR",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, cwd=folder)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                opener.open(url, timeout=2).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the emulator did not start: {(folder / 'log').read_text()[-2000:]}")
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)
