"""Blank is unset: every setting of every provider, in every source, with every kind of blank text.

The cases are made from the providers that are installed. For each setting and each source, three things hold:

- A blank text is as good as no value: the setting has its default, or is required.
- The source after it is asked instead.
- White space, line breaks and invisible characters around a value make no difference.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from trunkline import ConfigurationError, Secret, Settings
from trunkline._config.sources import make_settings, variable_name
from trunkline._plugins import registry
from trunkline._plugins.registry import PROVIDERS, installed
from trunkline._setting_types import takes_reference, without_none
from trunkline.cli.selection import assignments, with_tables
from trunkline.secrets import Headers
from trunkline.settings import SettingInfo, setting_infos

BLANKS = ("", " ", "\t\r\n", "\ufeff\u200b \u2060\u00a0\n")
AROUND = ("\ufeff \t{}\u200b\r\n", "\u00a0{}\u2060\n")

REQUIRED = {
    "api_key": "key-0123456789",
    "api_url": "https://service.example",
    "aws_region": "us-east-1",
    "workspace_id": "w",
}

SAMPLES: dict[str, object] = {
    "api_url": "https://other.example",
    "control_url": "https://control.example",
    "openai_url": "https://openai.example",
    "s3_url": "https://s3.example",
    "batch_s3_uri": "s3://my-bucket/batches",
    "batch_role_arn": "arn:aws:iam::123456789012:role/batches",
    "api_version": "2024-10-21",
    "aws_region": "eu-west-1",
    "keep_alive": "5m",
    "model_facts": '{"x*": {}}',
    "profile": "generic",
    "proxy": "http://proxy.example:1",
    "send_user_id": "true",
    "token_provider": "azure-identity",
    "credentials_json": '{"type": "authorized_user"}',
}
"""A value, as text, of each setting whose type does not show what it accepts."""

PARTNERS = {
    "client_key": ("client_certificate",),
    "location": ("project",),
    "access_token": ("project",),
    "client_key_passphrase": ("client_certificate",),
    "aws_access_key_id": ("aws_secret_access_key",),
    "aws_secret_access_key": ("aws_access_key_id",),
    "aws_session_token": ("aws_access_key_id", "aws_secret_access_key"),
}
"""The settings that must be given together with a setting."""

SOURCES = ("argument", "--set", "table", "defaults", "variable", "env", "file", "keyring")

load_provider = cache(registry.load_provider)  # searching the entry points takes longer than making settings

PROVIDER_NAMES = sorted({item.name for item in installed(PROVIDERS)})


def sample(info: SettingInfo) -> str:
    """Return a text that is a valid value and not the default."""
    kind = without_none(info.type)
    if info.name in SAMPLES:
        found = SAMPLES[info.name]
        if info.name == "api_version" and get_origin(kind) is Literal:
            found = get_args(kind)[-1]
        return str(found)
    if kind is bool:
        return "no" if info.default else "yes"
    if kind in (int, float):
        return f"{int(info.minimum or 0) + 7}"
    if get_origin(kind) is Literal:
        return str(next(value for value in get_args(kind) if value != info.default))
    if kind is Headers:
        return json.dumps({"X-A": "b"})
    return "sample"


def make(
    provider: str, source: str, given: dict[str, Any], lower: dict[str, str], environ: dict[str, str], folder: Path
) -> Settings:
    """Make settings with values from one source, and with texts from the sources below it."""
    plugin = load_provider(provider)
    names = [info.name for info in setting_infos(plugin.settings)]
    arguments: dict[str, Any] = {}
    table: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    variables = {variable_name("s", name): text for name, text in lower.items()} | environ
    if source == "argument":
        arguments = given
    elif source == "--set":
        arguments = with_tables(assignments(f"{name}={text}" for name, text in given.items()), plugin)
    elif source == "table":
        table = given
    elif source == "defaults":
        defaults = given
    elif source == "variable":
        variables |= {variable_name("s", name): text for name, text in given.items()}
    else:
        for name, text in given.items():
            variables[f"REFERENCE_{names.index(name)}"] = text
            (folder / f"{name}.txt").write_text(text, encoding="utf-8", newline="")
            keyring: Any = sys.modules["keyring"]
            keyring.kept[name] = text
            place = {"env": f"REFERENCE_{names.index(name)}", "file": f"{name}.txt", "keyring": f"service/{name}"}
            table[name] = {source: place[source]}
    return make_settings(
        "s", plugin, arguments=arguments, table=table, defaults=defaults, environ=variables, folder=folder
    )


def cases(provider: str, source: str) -> Iterator[tuple[SettingInfo, dict[str, str], dict[str, str]]]:
    """Yield each setting that a source can set, with samples that are given with it, and values for the others."""
    infos = {info.name: info for info in setting_infos(load_provider(provider).settings)}
    common = {info.name for info in setting_infos(Settings)}
    for info in infos.values():
        kind = without_none(info.type)
        if info.name == "extensions" or (source == "defaults" and info.name not in common):
            continue
        if source in ("env", "file", "keyring") and not takes_reference(kind):
            continue
        together = {name: sample(infos[name]) for name in (info.name, *PARTNERS.get(info.name, ()))}
        groups = {infos[name].source_group for name in together} - {None}
        others = {
            name: text
            for name, text in REQUIRED.items()
            if name in infos
            and name not in together
            and infos[name].source_group not in groups
            and (infos[name].required or name in ("api_key", "aws_region"))
        }
        yield info, together, others


@pytest.fixture(autouse=True)
def keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the system's keyring."""
    errors: Any = types.ModuleType("keyring.errors")
    errors.KeyringError = OSError
    keyring: Any = types.ModuleType("keyring")
    keyring.kept = {}
    keyring.get_password = lambda service, user: keyring.kept[user]
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)


def outcome(*arguments: Any) -> object:
    """Return the settings that are made, or the names of the settings that are required."""
    try:
        return make(*arguments)
    except ConfigurationError as error:
        return {(single.setting, "is required" in str(single)) for single in error.errors or (error,)}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("provider", PROVIDER_NAMES)
def test_blank_setting_is_unset(provider: str, source: str, tmp_path: Path) -> None:
    for info, _, others in cases(provider, source):
        without = outcome(provider, source, {}, others, {}, tmp_path)
        blanks: tuple[object, ...] = BLANKS
        off = isinstance(info.default, (int, float)) and type(None) in get_args(info.type)
        if source in ("argument", "table", "defaults") and not off:
            blanks = (*BLANKS, None)
        for blank in blanks:
            lower = {name: text for name, text in others.items() if name != info.name}
            assert outcome(provider, source, {info.name: blank}, lower, {}, tmp_path) == without, (info.name, blank)
            own = dict.fromkeys(info.environment, blank)
            if source == "variable" and isinstance(blank, str):
                assert outcome(provider, source, {}, lower, own, tmp_path) == without, (info.name, blank)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("provider", PROVIDER_NAMES)
def test_source_after_a_blank_one_is_asked(provider: str, source: str, tmp_path: Path) -> None:
    for info, together, others in cases(provider, source):
        if info.name == "token_provider":  # needs a package
            continue
        wanted = getattr(make(provider, source, {}, {**others, **together}, {}, tmp_path), info.name)
        assert wanted != info.default or info.name == "model_facts"
        for blank in BLANKS:
            if source == "variable":
                if not info.environment or info.source_group:
                    continue
                lower = {name: text for name, text in {**others, **together}.items() if name != info.name}
                own = {info.environment[-1]: together[info.name], **dict.fromkeys(info.environment[:-1], blank)}
                made = make(provider, source, {info.name: blank}, lower, own, tmp_path)
            else:
                made = make(provider, source, {info.name: blank}, {**others, **together}, {}, tmp_path)
            assert getattr(made, info.name) == wanted, (info.name, blank)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("provider", PROVIDER_NAMES)
def test_white_space_around_a_setting_is_removed(provider: str, source: str, tmp_path: Path) -> None:
    for info, together, others in cases(provider, source):
        kind = without_none(info.type)
        if info.name in ("token_provider", "client_key_passphrase"):  # spaces may belong to a passphrase
            continue
        if source in ("argument", "table", "defaults") and (kind is Headers or info.name == "model_facts"):
            continue
        lower = {name: text for name, text in {**others, **together}.items() if name != info.name}
        if info.source_group:
            together, lower = dict(together), others
        else:
            together = {info.name: together[info.name]}
        wanted = getattr(make(provider, source, together, lower, {}, tmp_path), info.name)
        for around in AROUND:
            given = {name: around.format(text) for name, text in together.items()}
            found = getattr(make(provider, source, given, lower, {}, tmp_path), info.name)
            assert found == wanted, (info.name, around)


@pytest.mark.parametrize("provider", PROVIDER_NAMES)
def test_blank_setting_of_a_settings_object_is_unset(provider: str) -> None:
    kind: Any = load_provider(provider).settings
    for info, _, others in cases(provider, "argument"):
        blanks: tuple[object, ...] = (*BLANKS, Secret("\n")) if info.secret else BLANKS
        for blank in blanks:
            if info.required or info.name == "aws_region":  # which may come from a profile
                with pytest.raises(ConfigurationError, match=rf"setting '{info.name}' \(.*\) is required"):
                    kind(**others, **{info.name: blank})
            elif "api_key" in others or not info.source_group:
                assert kind(**others, **{info.name: blank}) == kind(**others), (info.name, blank)


@pytest.mark.parametrize("provider", PROVIDER_NAMES)
def test_zero_does_not_mean_unlimited(provider: str, tmp_path: Path) -> None:
    for info, _, others in cases(provider, "table"):
        if not (without_none(info.type) in (int, float) and type(None) in get_args(info.type)):
            continue
        for value in (0, -1, "0", " -1\n"):
            with pytest.raises(
                ConfigurationError, match=rf"'{info.name}' must be .*, or none to turn it off"
            ) as caught:
                make(provider, "table", {info.name: value}, others, {}, tmp_path)
            assert caught.value.setting == info.name
        for text in ("none", " None\n"):
            assert getattr(make(provider, "table", {info.name: text}, others, {}, tmp_path), info.name) is None
    assert make(provider, "table", {"max_retries": 0}, others, {}, tmp_path).max_retries == 0
