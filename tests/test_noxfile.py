"""The network settings that noxfile.py passes to uv: wherever pip reaches the package index, uv reaches it too."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest
from scripts import load_script

ROOT = Path(__file__).parents[1]
Settings = Mapping[str, str]


@pytest.fixture
def noxfile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, loaded without nox, which the tests' environment does not have."""
    monkeypatch.setitem(sys.modules, "nox", MagicMock())
    monkeypatch.setattr(os, "environ", {**os.environ})  # loading the file changes the variables
    return load_script(ROOT / "noxfile.py", "trunkline_noxfile")


@pytest.fixture
def uv_environment(noxfile: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[[Settings, Settings], Settings]:
    """The function, on a system that has a certificate store."""
    monkeypatch.setattr(noxfile, "SYSTEM_CERTIFICATES", (str(ROOT / "noxfile.py"),))
    function: Callable[[Settings, Settings], Settings] = noxfile.uv_environment
    return function


SYSTEM = {"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true"}


@pytest.mark.parametrize(
    ("environ", "pip", "expected"),
    [
        ({}, {}, {}),
        ({}, {"cert": "/bundle.pem"}, {"SSL_CERT_FILE": "/bundle.pem"}),
        ({}, {"cert": str(ROOT)}, {"SSL_CERT_DIR": str(ROOT)}),
        ({"CURL_CA_BUNDLE": "/b"}, {"cert": "/c"}, {"SSL_CERT_FILE": "/b"}),
        ({"REQUESTS_CA_BUNDLE": "/a", "CURL_CA_BUNDLE": "/b"}, {}, {"SSL_CERT_FILE": "/a"}),
        ({"SSL_CERT_FILE": "/other.pem"}, {"cert": "/bundle.pem"}, {"SSL_CERT_FILE": "/bundle.pem"}),
        ({}, {"client-cert": "/me.pem"}, {"SSL_CLIENT_CERT": "/me.pem"}),
        ({}, {"trusted-host": "\na.example\nb.example:8443"}, {"UV_INSECURE_HOST": "a.example b.example:8443"}),
        (
            {},
            {"index-url": "https://index.example/simple"},
            {"UV_DEFAULT_INDEX": "https://index.example/simple", "UV_INDEX_URL": "https://index.example/simple"},
        ),
        (
            {},
            {"proxy": "http://proxy.example:3128"},
            {
                "HTTPS_PROXY": "http://proxy.example:3128",
                "NO_PROXY": "localhost,127.0.0.1,::1",
                "no_proxy": "localhost,127.0.0.1,::1",
            },
        ),
    ],
)
def test_uv_gets_what_lets_pip_reach_the_index(
    uv_environment: Callable[[Settings, Settings], Settings], environ: Settings, pip: Settings, expected: Settings
) -> None:
    assert uv_environment(environ, pip) == SYSTEM | expected


@pytest.mark.parametrize(
    ("environ", "pip"),
    [
        ({"UV_INDEX_URL": "https://mine.example"}, {"index-url": "https://index.example"}),
        ({"UV_DEFAULT_INDEX": "https://mine.example"}, {"index-url": "https://index.example"}),
        ({"UV_INSECURE_HOST": "mine.example"}, {"trusted-host": "index.example"}),
        ({"https_proxy": "http://mine.example"}, {"proxy": "http://proxy.example"}),
        ({"ALL_PROXY": "http://mine.example"}, {"proxy": "http://proxy.example"}),
    ],
)
def test_a_variable_of_uv_that_the_user_has_set_is_left_alone(
    uv_environment: Callable[[Settings, Settings], Settings], environ: Settings, pip: Settings
) -> None:
    assert uv_environment(environ, pip) == SYSTEM


@pytest.mark.parametrize("name", ["UV_SYSTEM_CERTS", "UV_NATIVE_TLS"])
def test_the_user_can_keep_uv_from_the_system_certificates(
    uv_environment: Callable[[Settings, Settings], Settings], name: str
) -> None:
    assert uv_environment({name: "false"}, {}) == {}


def test_uv_keeps_its_own_certificates_where_the_system_has_none(
    noxfile: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noxfile, "SYSTEM_CERTIFICATES", ("/nowhere/at/all.pem",))
    assert noxfile.uv_environment({}, {}) == {}


LISTING = """\
:env:.cert='/from/the/environment.pem'
global.cert='/global.pem'
global.index-url='https://index.example/simple'
global.trusted-host='\\na.example\\nb.example'
install.cert='/install.pem'
"""


def test_settings_of_pip_come_from_its_files_and_its_variables_win(
    noxfile: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = MagicMock(stdout=LISTING)
    monkeypatch.setattr(noxfile.subprocess, "run", lambda *arguments, **options: listing)
    from_files = {
        "cert": "/install.pem",
        "index-url": "https://index.example/simple",
        "trusted-host": "\na.example\nb.example",
    }
    assert noxfile.pip_settings({"PATH": "/bin"}) == from_files
    assert noxfile.pip_settings({"PIP_INDEX_URL": "https://mine.example"}) == from_files | {
        "index-url": "https://mine.example"
    }
