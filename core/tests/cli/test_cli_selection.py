"""Which service a command means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trunkline.cli.selection import assignments, with_tables

ONE = '[services.one]\nprovider = "fake"\ndefault_model = "echo"\napi_key = "k-123456"\n'


def test_the_only_service_of_the_file_in_the_current_folder_is_the_default(call: Any, write_config: Any) -> None:
    write_config(ONE)
    status, out, err = call("chat", "Hi")
    assert (status, out) == (0, "You said: Hi\n")
    assert "[service one of trunkline.toml]" in err


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_file_may_be_named(call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str) -> None:
    path = tmp_path / "other.toml"
    path.write_text(ONE)
    if how == "variable":
        monkeypatch.setenv("TRUNKLINE_CONFIG", str(path))
    assert call("chat", *(("--config", str(path)) if how == "option" else ()), "Hi")[1] == "You said: Hi\n"


def test_one_of_several_services_is_named(call: Any, configured: Path) -> None:
    assert call("chat", "--service", "two", "Hi")[1] == "[['user', 'Hi']] images=0 max=None\n"


def test_of_several_services_none_is_guessed(call: Any, configured: Path) -> None:
    status, _, err = call("chat", "Hi")
    assert status == 2
    assert "select one with --service: one, two" in err


def test_unknown_service_is_reported_with_the_known_ones(call: Any, configured: Path) -> None:
    status, _, err = call("chat", "--service", "three", "Hi")
    assert status == 2
    assert "no service 'three'; it has: one, two" in err
    assert "no service 'tow'; did you mean 'two'? it has: one, two" in call("chat", "--service", "tow", "Hi")[2]


def test_another_service_may_be_broken(call: Any, configured: Path, write_config: Any) -> None:
    write_config(configured.read_text() + '[services.bad]\nprovider = "missing"\n[services.worse]\n')
    assert call("chat", "--service", "one", "Hi")[0] == 0
    status, _, err = call("chat", "--service", "bad", "Hi")
    assert status == 1
    assert "no provider 'missing' is installed" in err


@pytest.mark.parametrize("path", ["/", "//", "/usr/..", "../" * 30, "."])
def test_folder_in_place_of_a_file_is_an_ordinary_error(path: str, call: Any) -> None:
    code, _, err = call("models", "--config", path)
    assert code == 1
    assert "the configuration file" in err
    assert "unexpected" not in err


def test_blank_variable_names_no_file(call: Any, write_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(ONE)
    monkeypatch.setenv("TRUNKLINE_CONFIG", " \n")
    assert call("chat", "Hi")[0] == 0
    monkeypatch.setenv("TRUNKLINE_CONFIG", " trunkline.toml\n")
    assert call("chat", "Hi")[0] == 0


def test_blank_setting_on_the_command_line_is_not_set(call: Any, write_config: Any) -> None:
    write_config(ONE)
    assert call("chat", "--set", "default_model= ", "--set", "max_retries=", "Hi")[1] == "You said: Hi\n"


def test_variable_of_two_services_is_refused_for_either(
    call: Any, configured: Path, write_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config(configured.read_text() + '[services.ONE]\nprovider = "fake"\n[services.bad]\nprovider = "missing"\n')
    monkeypatch.setenv("TRUNKLINE_ONE_CHUNK_TIMEOUT", "5")
    status, _, err = call("chat", "--service", "one", "Hi")
    assert status == 1
    assert "TRUNKLINE_ONE_CHUNK_TIMEOUT would set both" in err
    assert "the service 'one'" in err
    assert "the service 'ONE'" in err
    assert call("chat", "--service", "two", "Hi")[0] == 0


def test_mistake_in_the_defaults_is_reported_once(call: Any, configured: Path, write_config: Any) -> None:
    write_config("[defaults]\nchunk_timeout = 0\n" + configured.read_text())
    status, out, err = call("check")
    assert status == 1
    assert (out + err).count("[defaults]: setting 'chunk_timeout' must be a number above 0") == 1


def test_a_secret_file_is_found_beside_the_configuration(call: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file-1234\n")
    path = tmp_path / "c.toml"
    path.write_text('[services.a]\nprovider = "fake"\ndefault_model = "echo"\napi_key = { file = "key" }\n')
    assert call("chat", "--config", str(path), "Hi")[0] == 0


def test_settings_of_the_command_line_come_first(call: Any, configured: Path) -> None:
    assert call("chat", "-s", "one", "--set", "default_model=turns", "Hi")[1].startswith("[['user', 'Hi']]")


def test_all_wrong_settings_are_reported_together(call: Any, key: str) -> None:
    status, _, err = call("chat", "-p", "fake", "--set", "level=0", "--set", "colour=red", "--set", "strict=what", "Hi")
    assert status == 1
    assert "3 settings are wrong" in err
    for name in ("level", "colour", "strict"):
        assert f"setting '{name}'" in err


def test_provider_and_service_exclude_each_other(call: Any, configured: Path) -> None:
    status, _, err = call("chat", "-p", "fake", "-s", "one", "Hi")
    assert status == 2
    assert "--provider cannot be combined" in err


def test_without_a_file_the_only_provider_that_is_ready_is_taken(call: Any, alone: None, key: str) -> None:
    status, out, err = call("chat", "-m", "echo", "Hi")
    assert (status, out) == (0, "You said: Hi\n")
    assert "[provider fake]" in err


def test_missing_file_and_choice_are_reported_with_what_to_do(
    call: Any, alone: None, key: str, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("dist-snap", {"trunkline.providers": {"snap": "snap:provider"}}, {"snap": "1 / 0"})
    monkeypatch.delenv("FAKE_API_KEY")
    status, _, err = call("chat", "Hi")
    assert status == 2
    assert "trunkline init" in err
    assert "fake: needs api_key" in err
    assert "spare: needs place, api_key" in err or "spare: needs api_key, place" in err
    assert "snap: broken:" in err
    assert "ZeroDivisionError" in err


def test_several_configured_providers_require_a_choice(
    call: Any, alone: None, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARE_PLACE", "there")
    status, _, err = call("chat", "-m", "echo", "Hi")
    assert status == 2
    assert "several providers are ready to use" in err


def test_missing_model_is_reported_before_any_request(call: Any, key: str) -> None:
    status, _, err = call("chat", "-p", "fake", "Hi")
    assert status == 2
    assert "--model" in err


def test_service_without_a_file_is_an_error_that_says_how_to_make_one(call: Any, key: str) -> None:
    status, _, err = call("models", "-s", "one")
    assert status == 2
    assert "trunkline init" in err


@pytest.mark.parametrize(
    ("pairs", "values"),
    [
        (["a=b"], {"a": "b"}),
        (["api-url=http://x?a=b"], {"api_url": "http://x?a=b"}),
        (["a={"], {"a": "{"}),
        (["a="], {"a": ""}),
    ],
)
def test_assignments(pairs: list[str], values: dict[str, object]) -> None:
    assert assignments(pairs) == values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{", "{"),
        ('{"a": 1}', '{"a": 1}'),
        ('{"env": "NAME"}', {"env": "NAME"}),
    ],
)
def test_a_text_stays_what_it_is_unless_it_is_a_reference(text: str, value: object, site: Any) -> None:
    from fake_plugin import provider

    assert with_tables({"default_model": text, "headers": '{"x": "y"}'}, provider) == {
        "default_model": value,
        "headers": {"x": "y"},
    }


@pytest.mark.parametrize("pair", ["canary-secret", "=canary-secret", "headers={canary"])
def test_a_bad_assignment_is_not_repeated(call: Any, key: str, pair: str) -> None:
    status, _, err = call("chat", "-p", "fake", "--set", pair, "Hi")
    assert status == 2
    assert "canary" not in err


def test_mistakes_of_the_file_and_of_all_its_services_are_reported_together(call: Any, write_config: Any) -> None:
    service = '[services.{}]\nprovider = "{}"\napi_key = "k"\n'
    write_config(
        "[prices]\n[defaults]\nmax_retrys = 3\nstrict = 7\n"
        + service.format("a", "opnai")
        + service.format("b", "fake")
        + "total_timeout = -1\n"
    )
    status, out, err = call("check")
    assert (status, out) == (1, "")
    assert "5 settings are wrong" in err
    for mistake in ("'prices'", "'max_retrys'", "'strict'", "'opnai'", "'total_timeout'"):
        assert mistake in err
    assert "'total_timeout'" not in call("check", "-s", "a")[2]
    assert "'total_timeout'" in call("chat", "-s", "b", "Hi")[2]
