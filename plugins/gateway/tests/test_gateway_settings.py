"""The settings of a gateway: what is refused, and what a blank one means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from trunkline import ConfigurationError, Secret
from trunkline.cli import main
from trunkline_gateway.command import DataSettings
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.keys import KeyStore
from trunkline_gateway.keys import Key
from trunkline_gateway.settings import GatewaySettings

OIDC = {"oidc_issuer": "https://login.example.com", "oidc_client_id": "gateway", "oidc_admins": ("ana@example.com",)}
SECRETS = ("database", "redis", "encryption_key", "admin_key", "oidc_client_secret", "metrics_token")


@pytest.mark.parametrize("name", [*SECRETS, "oidc_issuer", "oidc_client_id", "public_url"])
@pytest.mark.parametrize("blank", ["", "  ", "\n", None])
def test_a_blank_setting_is_not_set(name: str, blank: str | None) -> None:
    options: dict[str, Any] = {name: blank}
    assert getattr(GatewaySettings(**options), name) is None


@pytest.mark.parametrize("blank", ["", "  ", None])
def test_a_blank_path_is_not_the_current_folder(blank: Any) -> None:
    settings = GatewaySettings(data_dir=blank, services=blank)
    assert settings.data_dir == GatewaySettings().data_dir
    assert settings.services is None
    assert GatewaySettings(data_dir=".", services="a.toml").services == Path("a.toml")
    assert DataSettings(data_dir=blank).data_dir == settings.data_dir


def test_the_space_around_an_address_does_not_count() -> None:
    assert GatewaySettings(host=" 127.0.0.1\n").host == "127.0.0.1"


@pytest.mark.parametrize("amount", ["nan", "inf", "-inf", "1e400", "-1", "0.0000000001", "1000000001"])
def test_an_amount_that_cannot_be_a_budget_is_refused(
    amount: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["gateway", "create-key", "k", "--data-dir", str(tmp_path), f"--budget-usd={amount}"]
    assert main(command) == 2
    assert "US dollars" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_refused_by_the_name_of_its_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["gateway", "create-key", "k", "--data-dir", str(tmp_path / "file")]) == 1
    assert "data_dir" in capsys.readouterr().err


def test_the_models_of_a_key_may_be_given_with_commas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data-dir", str(tmp_path), "--models", "a/*, b", "--models", "c", "--budget-usd", "0.5"]
    assert main(["gateway", "create-key", "k", *options]) == 0

    async def keys() -> list[Key]:
        async with await Database.open(f"sqlite:///{tmp_path / 'gateway.sqlite3'}") as database:
            return await KeyStore(database).list()

    [key] = anyio.run(keys)
    assert key.draft.scopes == ("a/*", "b", "c")
    assert capsys.readouterr().out.startswith(key.prefix)
    assert main(["gateway", "create-key", "k", "--data-dir", str(tmp_path), "--models", ""]) == 1
    assert "--models is blank" in capsys.readouterr().err


@pytest.mark.parametrize("name", SECRETS)
def test_a_blank_secret_is_not_set(name: str) -> None:
    options: dict[str, Any] = {name: Secret(" ")}
    assert getattr(GatewaySettings(**options), name) is None


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"port": -1}, "port"),
        ({"port": 65536}, "port"),
        ({"port": 99999}, "port"),
        ({"host": ""}, "host"),
        ({"host": " "}, "host"),
        ({"idle_timeout": 0}, "idle_timeout"),
        ({"idle_timeout": float("nan")}, "idle_timeout"),
        ({"heartbeat": -1.0}, "heartbeat"),
        ({"drain_timeout": -1.0}, "drain_timeout"),
        ({"drain_timeout": float("inf")}, "drain_timeout"),
        ({"max_body": 0}, "max_body"),
        ({"max_headers": 0}, "max_headers"),
        ({"max_connections": 0}, "max_connections"),
        ({"log_days": -1}, "log_days"),
        ({"log_days": 999_999}, "log_days"),
        ({"reserved_output_tokens": -1}, "reserved_output_tokens"),
        ({"public_url": "bogus"}, "public_url"),
        ({"public_url": "javascript:alert(1)"}, "public_url"),
        ({"public_url": "llm.example.com"}, "public_url"),
        ({"public_url": "https://"}, "public_url"),
        ({"public_url": "https://llm.example.com:99999"}, "public_url"),
        ({"public_url": "https://user:password@llm.example.com"}, "public_url"),
        ({"public_url": "https://llm.example.com/?a=b"}, "public_url"),
        ({"public_url": "https://llm.example.com/a b"}, "public_url"),
        ({**OIDC, "oidc_issuer": "login.example.com"}, "oidc_issuer"),
        ({**OIDC, "oidc_issuer": "http://login.example.com"}, "oidc_issuer"),
        ({**OIDC, "oidc_issuer": " "}, "oidc_issuer"),
        ({**OIDC, "oidc_client_id": " "}, "oidc_client_id"),
        ({**OIDC, "oidc_admins": ()}, "oidc_admins"),
        ({**OIDC, "oidc_admins": ("",)}, "oidc_admins"),
        ({"oidc_client_secret": "s"}, "oidc_issuer"),
        ({"oidc_admins": ("ana@example.com",)}, "oidc_issuer"),
    ],
    ids=str,
)
def test_a_setting_with_which_the_gateway_cannot_run_is_refused_by_name(options: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        GatewaySettings(**options)
    assert caught.value.setting == setting
    assert setting in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"port": 0},
        {"port": 65535},
        {"host": "::"},
        {"drain_timeout": 0},
        {"public_url": "https://llm.example.com/gateway/"},
        {"public_url": "http://[::1]:8080"},
        OIDC,
        {**OIDC, "oidc_issuer": "http://127.0.0.1:9000/realm"},
        {"allowed_networks": ("10.0.0.0/8", "private")},
    ],
    ids=str,
)
def test_a_setting_at_the_edge_is_accepted(options: dict[str, Any], tmp_path: Path) -> None:
    assert GatewaySettings(data_dir=tmp_path, **options)


def test_several_mistakes_are_reported_together() -> None:
    with pytest.raises(ConfigurationError) as caught:
        GatewaySettings(port=-1, public_url="bogus")
    assert [error.setting for error in caught.value.errors] == ["port", "public_url"]


@pytest.mark.parametrize("name", ["oidc_admins", "allowed_networks"])
def test_a_list_may_be_given_with_commas(name: str) -> None:
    options: dict[str, Any] = {**OIDC, name: ("10.0.0.0/8, private", " ", "a@example.com,")}
    assert getattr(GatewaySettings(**options), name) == ("10.0.0.0/8", "private", "a@example.com")
