"""Settings, and where they come from."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from trunkline import ConfigurationError, PluginError, Secret, Settings, open_services, opening
from trunkline._config.configuration import read_configuration
from trunkline._config.references import resolve_reference
from trunkline._config.sources import make_settings
from trunkline.authoring.provider import Provider
from trunkline.settings import Converted, json_schema, setting, setting_infos, settings, url_setting


def _even(value: object) -> int:
    if not isinstance(value, int) or value % 2:
        raise ValueError("an even number")
    return value


@settings
class DemoSettings(Settings):
    """Every kind of setting."""

    provider = "demo"

    api_key: Converted[Secret, str] = setting("API Key", "The key.", environment=("DEMO_KEY", "DEMO_TOKEN"))
    region: str | None = setting("Region", "The region.", default=None, environment=("DEMO_REGION",))
    mode: Literal["fast", "slow"] = setting("Mode", "The mode.", default="fast")
    tags: Converted[tuple[str, ...], Sequence[str]] = setting("Tags", "The tags.", default=())
    even: int = setting("Even", "An even number.", default=2, convert=_even, schema={"type": "integer"})
    first: Converted[Secret | None, str] = setting(
        "First", "One half.", default=None, source_group="pair", environment=("DEMO_FIRST",)
    )
    second: Converted[Secret | None, str] = setting(
        "Second", "The other.", default=None, source_group="pair", environment=("DEMO_SECOND",)
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """One half needs the other."""
        if (self.first is None) != (self.second is None):
            yield "second", "goes with 'first'; give both or neither"


def provider(cls: type[Settings] = DemoSettings) -> Provider:
    nothing: Any = None
    return Provider(name="demo", settings=cls, auth=nothing, translator=nothing, response_parser=nothing)


def make(environ: dict[str, str] | None = None, table: dict[str, Any] | None = None, **arguments: Any) -> DemoSettings:
    made = make_settings("my-demo", provider(), arguments=arguments, table=table, environ=environ or {})
    assert isinstance(made, DemoSettings)
    return made


# Precedence


def test_sources_of_settings_have_the_documented_order() -> None:
    own, customary = {"TRUNKLINE_MY_DEMO_API_KEY": "own"}, {"DEMO_KEY": "customary", "DEMO_TOKEN": "second"}
    table = {"api_key": "file"}
    assert make({**own, **customary}, table, api_key="argument").api_key == Secret("argument")
    assert make({**own, **customary}, table).api_key == Secret("file")
    assert make({**own, **customary}).api_key == Secret("own")
    assert make(customary).api_key == Secret("customary")
    assert make({"DEMO_KEY": "", "DEMO_TOKEN": "second"}).api_key == Secret("second")
    assert make({"DEMO_KEY": "x"}).mode == "fast"


@settings
class MachineSettings(DemoSettings):
    """Settings that another tool on the machine may have."""

    @classmethod
    def machine_values(
        cls, given: Mapping[str, object], environ: Mapping[str, str]
    ) -> Mapping[str, tuple[object, str]]:
        """Values from the variables of the other tool."""
        if "TOOL_FAILS" in environ:
            raise ConfigurationError("the file of the tool cannot be read", setting="region")
        names = {name.lower(): name for name in environ if name.isupper()}
        return {info.name: (environ[names[info.name]], "the tool") for info in setting_infos(cls) if info.name in names}


def test_configuration_of_another_tool_comes_after_the_variables_and_before_the_default() -> None:
    def made(environ: dict[str, str], **arguments: Any) -> Settings:
        arguments = {"api_key": "k", **arguments}
        return make_settings("my-demo", provider(MachineSettings), arguments=arguments, environ=environ)

    tool = {"REGION": "tool", "MAX_RETRIES": "5", "CA_BUNDLE": "/tool.pem"}
    found = made(tool)
    assert isinstance(found, DemoSettings)
    assert (found.region, found.max_retries, found.ca_bundle) == ("tool", 5, "/tool.pem")
    found = made({**tool, "DEMO_REGION": "variable"}, max_retries=1)
    assert isinstance(found, DemoSettings)
    assert (found.region, found.max_retries) == ("variable", 1)
    with pytest.raises(ConfigurationError, match=r"service 'my-demo': .*'max_retries' must be .*'x' \(from the tool\)"):
        made({"MAX_RETRIES": "x"})
    with pytest.raises(ConfigurationError, match="service 'my-demo': the file of the tool cannot be read"):
        made({"TOOL_FAILS": "1"})


@pytest.mark.parametrize("bundle", ["/tool.pem", "~nobody-of-this-name/tool.pem"])
def test_connection_settings_of_another_tool_are_no_mistake_with_an_own_client(bundle: str) -> None:
    without = make_settings(
        "my-demo",
        provider(MachineSettings),
        arguments={"api_key": "k"},
        environ={"CA_BUNDLE": bundle, "REGION": "tool"},
        not_from_machine={"ca_bundle"},
    )
    assert isinstance(without, DemoSettings)
    assert (without.region, without.ca_bundle) == ("tool", None)


def test_a_group_is_taken_from_one_source() -> None:
    environ = {"DEMO_KEY": "x", "DEMO_FIRST": "e1", "DEMO_SECOND": "e2"}
    made = make(environ, {"first": "f1", "second": "f2"})
    assert (made.first, made.second) == (Secret("f1"), Secret("f2"))
    with pytest.raises(ConfigurationError, match="'second' goes with 'first'"):
        make(environ, {"first": "f1"})


def test_none_switches_a_limit_off_and_is_otherwise_not_given() -> None:
    assert make({"DEMO_KEY": "x"}, connect_timeout=None).connect_timeout is None
    assert make({"DEMO_KEY": "x"}, {"connect_timeout": "none"}).connect_timeout is None
    assert make({"DEMO_KEY": "x", "TRUNKLINE_MY_DEMO_REGION": "eu"}, region=None).region == "eu"
    assert make({"DEMO_KEY": "customary"}, api_key=None).api_key.reveal() == "customary"
    assert make({"DEMO_KEY": "x"}, max_retries=None).max_retries == 2
    with pytest.raises(ConfigurationError, match=r"'api_key' .* is required"):
        make(api_key=None)


# Conversion and mistakes


def test_environment_variables_become_the_setting_s_type() -> None:
    made = make(
        {
            "DEMO_KEY": " key\n",
            "TRUNKLINE_MY_DEMO_STRICT": "yes",
            "TRUNKLINE_MY_DEMO_CHUNK_TIMEOUT": "1.5",
            "TRUNKLINE_MY_DEMO_MAX_RETRIES": "4",
            "TRUNKLINE_MY_DEMO_TAGS": "a, b",
            "TRUNKLINE_MY_DEMO_HEADERS": '{"X-A": "b"}',
        }
    )
    assert (made.api_key, made.strict, made.chunk_timeout, made.max_retries) == (Secret("key"), True, 1.5, 4)
    assert (made.tags, made.headers) == (("a", "b"), {"X-A": "b"})


@pytest.mark.parametrize("text", [' ["a", "b, c"] ', '["a","b, c"]'])
def test_list_from_the_environment_may_be_json(text: str) -> None:
    assert make({"TRUNKLINE_MY_DEMO_TAGS": text}, api_key="k").tags == ("a", "b, c")


@pytest.mark.parametrize("text", ['["a", 1]', '["a"', "[a, b]"])
def test_list_from_the_environment_is_refused_if_it_looks_like_json(text: str) -> None:
    with pytest.raises(ConfigurationError, match="must be a list of strings"):
        make({"TRUNKLINE_MY_DEMO_TAGS": text}, api_key="k")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mode", "quick", "'fast' or 'slow', not 'quick'"),
        ("strict", "perhaps", "true or false, not 'perhaps'"),
        ("chunk_timeout", "soon", "a number of seconds, not 'soon'"),
        ("chunk_timeout", -1, r"a number above 0, or none to turn it off, not -1"),
        ("total_timeout", 0, r"a number above 0, or none to turn it off, not 0"),
        ("body_limit", "0", r"at least 1, or none to turn it off, not \'0\'"),
        ("max_retries", -1, "a number of at least 0, not -1"),
        ("chunk_timeout", float("nan"), "a number of seconds"),
        ("max_retries", 1.5, "a whole number, not 1.5"),
        ("max_retries", True, "a whole number, not True"),
        ("input_token_limit", 0, "'auto' or a number of at least 1"),
        ("input_token_limit", "car", "'auto' or a whole number"),
        ("output_token_limit", True, "'auto' or a whole number"),
        ("api_key", "", r"\(API Key\) is required: .*; the value that is given is blank"),
        ("api_key", "a\nb", "a line break"),
        ("api_key", 5, "a string, not int"),
        ("headers", {"a": 1}, "a table of strings"),
        ("headers", "canary", "a table of strings"),
        ("tags", [1], "a list of strings"),
        ("tags", '["a"', "a list of strings, as texts between commas or as JSON"),
        ("even", 3, "an even number"),
        ("extensions", 3, "a list of extensions: names, tables with a name, or objects"),
        ("regoin", "x", "did you mean 'region'"),
        ("nonsense_entirely", "x", "the settings are api_key, region"),
    ],
)
def test_error_names_service_setting_and_accepted_values(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        make(table={"api_key": "k", **{name: value}})
    error = caught.value
    assert "'my-demo'" in str(error)
    assert (error.service, error.setting) == ("my-demo", name)
    assert "canary" not in str(error)


def test_error_for_a_missing_setting_lists_all_ways_to_set_it() -> None:
    with pytest.raises(ConfigurationError, match="TRUNKLINE_MY_DEMO_API_KEY or DEMO_KEY or DEMO_TOKEN"):
        make()


def test_all_wrong_settings_are_reported_together() -> None:
    with pytest.raises(ConfigurationError, match="3 settings are wrong") as caught:
        make(table={"mode": "x", "wrong": 1})
    assert {error.setting for error in caught.value.errors} == {"mode", "wrong", "api_key"}


def test_an_error_lists_a_hundred_wrong_settings_at_most() -> None:
    with pytest.raises(ConfigurationError, match="more than 100 settings are wrong") as caught:
        make(table={f"wrong_{number}": 1 for number in range(10_000)})
    assert len(caught.value.errors) == 100
    assert len(str(caught.value)) < 100_000


def test_settings_made_by_hand_are_checked_as_well() -> None:
    with pytest.raises(ConfigurationError, match="provider 'demo': setting 'mode'"):
        DemoSettings(api_key=Secret("k"), mode="x")  # type: ignore[arg-type]


def test_no_secret_is_in_the_repr() -> None:
    made = make(api_key="canary", headers={"X-Key": "canary"}, proxy="http://u:canary@p.example")
    assert "canary" not in repr(made)
    assert "X-Key" in repr(made)
    assert set(made.secrets()) == {"canary", "u", "u:canary"}


# References


def test_a_secret_may_be_a_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.txt").write_text("from-file\n")
    file = tmp_path / "trunkline.toml"
    file.write_text(
        '[services.a]\nprovider="demo"\napi_key={file="key.txt"}\nheaders={X-Key={env="MY_HEADER"}}\nregion={env="R"}\n'
    )
    configuration = read_configuration(file)
    table = {**configuration.services["a"]}
    table.pop("provider")
    environ = {"MY_HEADER": "from-env", "R": "eu"}
    made = make_settings("a", provider(), arguments={}, table=table, environ=environ, folder=configuration.folder)
    assert isinstance(made, DemoSettings)
    assert (made.api_key, made.headers, made.region) == (Secret("from-file"), {"X-Key": "from-env"}, "eu")


def test_the_keyring_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class KeyringError(Exception):
        pass

    errors = types.ModuleType("keyring.errors")
    errors.KeyringError = KeyringError  # type: ignore[attr-defined]
    keyring = types.ModuleType("keyring")
    keyring.get_password = lambda service, user: {("team/llm", "me"): "kept"}.get((service, user))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    assert make(table={"api_key": {"keyring": "team/llm/me"}}).api_key == Secret("kept")
    with pytest.raises(ConfigurationError, match="does not exist"):
        make(table={"api_key": {"keyring": "team/llm/you"}})


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({"env": "NOT_SET"}, "NOT_SET, which is not set"),
        ({"file": "/nowhere/at/all"}, "cannot be read"),
        ({"vault": "x"}, 'reference.*keyring = "…" }$'),
        ({"evn": "A"}, "reference.*; did you mean 'env'"),
        ({"env": "A", "file": "b"}, "reference"),
        ({"env": 1}, "needs a name"),
        ({"keyring": "no-user"}, "service/user"),
    ],
)
def test_invalid_reference_is_a_clear_error(reference: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        make(table={"api_key": reference})
    assert caught.value.setting == "api_key"


# Files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[services", "is not TOML"),
        ("", r"no services; add a table \[services.NAME\]"),
        ("[service.a]\nprovider='x'", r"'service' at the top level; did you mean 'services'\? only the tables"),
        (
            "[defaults]\nmax_retris = 1\n[services.a]\nprovider='x'",
            r"did you mean 'max_retries'\?$",
        ),
        ("[services]\na = 1", r"'a' is no table; each service must be one: \[services.NAME\]"),
        ("[a]\nprovider='x'", r"'a' at the top level; did you mean \[services.a\]\?"),
        ("[openai]\napi_key='x'", r"'openai' at the top level; did you mean \[services.openai\]\?"),
        ("ignore_table=[]", r"did you mean 'ignore_tables'\?"),
        ("[defaults]\nzzzz=1\n[services.a]\nprovider='x'", "the settings of every service are body_limit"),
        ("api_key='x'", r"'api_key' at the top level; settings belong in a table"),
        ("provider='x'", r"'provider' at the top level; settings belong in a table \[services.NAME\]"),
        ("ignore_tables='prices'\n[services.a]", "ignore_tables must be a list of names"),
        ("ignore_tables=['price']\n[services.a]\n[prices]", "'prices' at the top level"),
        ("defaults=1\n[services.a]", r"\[defaults\] must be a table"),
        ("[defaults]\napi_key = 'x'\n[services.a]\nprovider='x'", r"\[defaults\] has 'api_key'"),
    ],
)
def test_malformed_file_is_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "trunkline.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_configuration(file)


def test_error_in_the_defaults_is_reported_together_with_all_others() -> None:
    services = {"a": {"provider": "openai", "max_retris": 1}, "b": {"provider": "nowhere"}}
    with pytest.raises(ConfigurationError) as caught:
        open_services({"defaults": {"timeout": 1, "max_retris": 1}, "services": services})
    wrong = [(single.setting, single.service) for single in caught.value.errors]
    assert wrong[:2] == [("timeout", None), ("max_retris", None)]
    assert ("max_retris", "a") in wrong
    assert wrong[-1] == (None, "b")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing.toml.*No such file"):
        read_configuration(tmp_path / "nothing.toml")


def test_all_mistakes_of_a_file_are_reported_at_once_and_those_of_the_defaults_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_services(
            {
                "servces": {
                    "a": {"provider": "openai", "api_key": "k", "chunk_timeout": "soon"},
                    "b": {"provider": "openai", "api_key": "k"},
                    "c": {"providr": "openai"},
                    "d": "openai",
                    "e": {"provider": "opnai"},
                },
                "defaults": {
                    "max_retries": "three",
                    "api_kee": "k",
                    "headers": {"X-A": {"env": "NOT_SET"}},
                    "extensions": ["no-such-extension"],
                },
                "gateway": {},
            },
            environ={},
        )
    text = str(caught.value)
    for part in (
        "'servces' at the top level; did you mean 'services'?",
        "'gateway' at the top level",
        "'d' is no table",
        "[defaults] has 'api_kee', which is not a setting of every service; did you mean 'api_key' of the provider "
        "'openai'?",
        "[defaults]: setting 'max_retries' must be a whole number, not 'three'",
        "[defaults]: setting 'headers' refers to the environment variable NOT_SET, which is not set",
        "no extension 'no-such-extension' is installed",
        "service 'a': setting 'chunk_timeout' must be a number",
        "service 'c': setting 'provider' is required: the name of an installed provider; did you mean it by 'providr'?",
        "no provider 'opnai' is installed; did you mean 'openai'?",
    ):
        assert text.count(part) == 1, part
    assert len(caught.value.errors) == 10


def test_tables_of_other_programs_are_ignored(tmp_path: Path) -> None:
    file = tmp_path / "trunkline.toml"
    file.write_text(
        "ignore_tables = ['prices', 'acme-*']\n[services.a]\nprovider = 'openai'\n"
        "[tool.other]\na = 1\n[prices]\nb = 2\n[acme-gateway]\nc = 3\n"
    )
    assert read_configuration(file).services == {"a": {"provider": "openai"}}


def test_file_may_begin_with_a_byte_order_mark_and_utf_16_is_named(tmp_path: Path) -> None:
    file = tmp_path / "trunkline.toml"
    text = "[services.a]\r\nprovider = ' openai\ufeff'\r\n"
    file.write_bytes(text.encode("utf-8-sig"))
    assert read_configuration(file).services["a"]["provider"] == "openai"
    file.write_bytes(text.encode("utf-16"))
    with pytest.raises(ConfigurationError, match=r"it is UTF-16.*save it as UTF-8"):
        read_configuration(file)
    with pytest.raises(ConfigurationError, match="it is UTF-16"):
        make(table={"api_key": {"file": str(file)}})


def test_blank_setting_of_a_service_leaves_the_default_and_none_does_too() -> None:
    table = {"provider": "openai", "api_key": "k", "default_model": " ", "max_retries": None, "proxy": {"env": "BLANK"}}
    defaults = {"default_model": "m", "max_retries": 7, "proxy": "http://p.example:1", "chunk_timeout": 5}
    services = {"a": table, "b": {**table, "chunk_timeout": None}}
    opened = open_services({"services": services, "defaults": defaults}, environ={"BLANK": "\n"})
    a, b = opened["a"].settings, opened["b"].settings
    assert (a.default_model, a.max_retries, a.proxy, a.chunk_timeout) == ("m", 7, "http://p.example:1", 5)
    assert b.chunk_timeout is None


def test_settings_object_takes_blank_as_not_given() -> None:
    made = DemoSettings(api_key="k", region="", mode=" ", tags="", max_retries=None, headers="\n", even=None, strict="")  # type: ignore[arg-type]
    assert made == DemoSettings(api_key="k")
    for blank in ("", " \ufeff", None, Secret("\n")):
        with pytest.raises(ConfigurationError, match=r"provider 'demo': setting 'api_key' \(API Key\) is required"):
            DemoSettings(api_key=blank)  # type: ignore[arg-type]


def test_blank_source_does_not_count_for_a_group() -> None:
    environ = {"DEMO_KEY": "x", "DEMO_FIRST": "e1", "DEMO_SECOND": "e2"}
    made = make(environ, {"first": " "})
    assert (made.first, made.second) == (Secret("e1"), Secret("e2"))
    made = make({**environ, "BLANK": "\ufeff"}, {"first": {"env": "BLANK"}, "second": ""})
    assert (made.first, made.second) == (Secret("e1"), Secret("e2"))


def test_every_reference_of_a_header_that_leads_nowhere_is_reported() -> None:
    headers = {"X-A": {"env": "NOT_SET"}, "X-B": "b", "X-C": {"env": "NOT_SET_EITHER"}, "X-D": {"file": "missing"}}
    with pytest.raises(ConfigurationError) as caught:
        make(table={"api_key": "k", "headers": headers})
    assert [error.setting for error in caught.value.errors] == ["headers"] * 3
    assert all(name in str(caught.value) for name in ("NOT_SET,", "NOT_SET_EITHER,", "missing"))


def test_required_setting_says_which_reference_is_blank(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    for reference, named in (
        ({"env": "BLANK"}, "environment variable 'BLANK'"),
        ({"file": str(tmp_path / "empty.txt")}, "file '.*empty.txt'"),
    ):
        with pytest.raises(ConfigurationError, match=rf"is required.*; the {named}, to which it refers, is blank"):
            make({"BLANK": " "}, {"api_key": reference})


def test_passphrase_keeps_the_spaces_around_it(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_bytes(b"\xef\xbb\xbf open sesame \r\n")
    values = {"client_certificate": "c.pem", "client_key_passphrase": {"file": str(tmp_path / "passphrase")}}
    made = make({"DEMO_KEY": "k"}, values)
    assert made.client_key_passphrase == Secret(" open sesame ")


def test_blank_headers_are_left_out() -> None:
    made = make({"DEMO_KEY": "k", "BLANK": ""}, {"headers": {"X-A": " a\u200b\n", "X-B": " ", "X-C": {"env": "BLANK"}}})
    assert made.headers == {"X-A": "a"}
    assert make({"DEMO_KEY": "k"}, headers={"X-A": None}).headers == {}


def services(**tables: dict[str, Any]) -> dict[str, Any]:
    return {"services": {name.replace("__", "-"): {"provider": "openai", **table} for name, table in tables.items()}}


@pytest.mark.parametrize(
    ("configuration", "variable", "readers"),
    [
        (
            services(my__llm={}, my_llm={}),
            "TRUNKLINE_MY_LLM_API_KEY",
            ("the setting 'api_key' of the service 'my-llm'", "the setting 'api_key' of the service 'my_llm'"),
        ),
        (
            services(a={}, a_default={"provider": "fake"}),
            "TRUNKLINE_A_DEFAULT_MODEL",
            ("the setting 'default_model' of the service 'a'", "the setting 'model' of the service 'a_default'"),
        ),
    ],
)
def test_two_services_do_not_share_a_variable(
    configuration: Any, variable: str, readers: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings
    class FakeSettings(Settings):
        provider = "fake"
        model: str | None = setting("Model", "The model.", default=None)

    nothing: Any = None
    fake = Provider(name="fake", settings=FakeSettings, auth=nothing, translator=nothing, response_parser=nothing)
    real = opening.load_provider
    monkeypatch.setattr(opening, "load_provider", lambda name: fake if name == "fake" else real(name))
    environ = {"OPENAI_API_KEY": "k"}
    open_services(configuration, environ=environ)
    open_services(configuration, environ={**environ, variable: " "})
    with pytest.raises(ConfigurationError, match=f"the environment variable {variable} would set both") as caught:
        open_services(configuration, environ={**environ, variable: "x"})
    assert all(reader in str(caught.value) for reader in readers)
    # A setting that the file contains is not read from the variable.
    first = next(iter(configuration["services"]))
    name = variable.removeprefix("TRUNKLINE_").removeprefix(first.upper().replace("-", "_") + "_").lower()
    table = {**configuration["services"][first], name: "own"}
    open_services({"services": {**configuration["services"], first: table}}, environ={**environ, variable: "x"})


def test_defaults_hold_for_all_services() -> None:
    read = read_configuration(
        {"defaults": {"max_retries": 7}, "services": {"a": {"provider": "x"}, "b": {"provider": "x", "max_retries": 1}}}
    )
    assert [read.services[name]["max_retries"] for name in ("a", "b")] == [7, 1]


# Descriptions of settings


def test_every_setting_has_a_label_and_a_description() -> None:
    for info in setting_infos(DemoSettings):
        assert info.label
        assert info.description.endswith(".")
    assert [info.name for info in setting_infos(DemoSettings)][:2] == ["api_key", "region"]
    assert [info.name for info in setting_infos(DemoSettings) if info.secret] == [
        *("api_key", "first", "second"),
        "client_key_passphrase",
    ]
    assert [info.name for info in setting_infos(DemoSettings) if info.required] == ["api_key"]


def test_json_schema_is_valid_and_accepts_what_the_file_accepts() -> None:
    schema: Any = json_schema(DemoSettings)
    jsonschema.Draft202012Validator.check_schema(schema)
    good = {"api_key": {"env": "X"}, "default_model": "m"}
    jsonschema.validate({**good, "mode": "slow", "headers": {"a": {"file": "b"}}}, schema)
    for more in ({"api_key": " "}, {"api_key": 1}, {"mode": "x"}, {"other": 1}, {"default_model": ""}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, **more}, schema)


def test_a_file_that_is_nested_too_deeply_is_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "trunkline.toml"
    path.write_text("a = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        read_configuration(path)


_SERVICE = {"provider": "openai", "api_key": "k"}


class _BytesPath:
    def __fspath__(self) -> bytes:
        return b"trunkline.toml"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a\0b", "cannot be read"),
        ("\ud800.toml", "cannot be read"),
        ("a" * 5000, "cannot be read"),
        (Path("a\0b"), "cannot be read"),
        ("", "is a folder"),
        (b"trunkline.toml", "must be the path of a file or a mapping; it is of the type bytes"),
        (_BytesPath(), "must be the path of a file or a mapping"),
        (5, "must be the path of a file or a mapping"),
        (None, "it is None"),
        ({1: {}}, "all names must be strings, but one is of the type int"),
        ({1: {}, "a": {}}, "all names must be strings"),
        ({"services": {1: _SERVICE}}, "in services, all names must be strings"),
        ({"services": {None: _SERVICE, "a": _SERVICE}}, "all names must be strings, but one is None"),
        ({"services": {"a": {1: 2, **_SERVICE}}}, "in the service 'a', all names must be strings"),
        ({"services": {"a": {1: 2, None: 3, "x": 4, **_SERVICE}}}, "all names must be strings"),
        ({"services": {"a": _SERVICE}, "defaults": {1: 2}}, r"in \[defaults\], all names must be strings"),
    ],
    ids=range(16),
)
def test_source_that_cannot_be_a_configuration_is_a_configuration_error(source: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        open_services(source)


@pytest.mark.parametrize("environ", [5, [], {1: "x"}, {"TRUNKLINE_A_API_KEY": 5}, {"TRUNKLINE_A_API_KEY": b"x"}])
def test_environment_that_is_no_mapping_of_strings_is_a_configuration_error(environ: Any) -> None:
    with pytest.raises(ConfigurationError, match="environ must be a mapping of strings"):
        open_services({"services": {"a": _SERVICE}}, environ=environ)


def test_home_of_an_unknown_user_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="refers to the file"):
        resolve_reference({"file": "~no-such-user-here/key"}, environ={}, folder=tmp_path)


def test_a_url_is_taken_as_it_was_pasted_and_shows_no_secret() -> None:
    def root(pasted: str) -> str:
        if "/v1" in pasted:
            raise ValueError("a URL without a version")
        return pasted

    @settings
    class Pasted(Settings):
        provider = "pasted"
        plain: str = url_setting("Plain", "Any URL.", default="https://api.example/v1")
        own: str = url_setting("Own", "One without a version.", default="https://api.example", base_url=root)

    made = Pasted(plain=" localhost:8080/v1/ ", own=" api.example:80/ ")
    assert (made.plain, made.own) == ("http://localhost:8080/v1", "api.example:80/")
    assert "sesame" not in repr(Pasted(plain="https://me:sesame@api.example", own="https://me:sesame@api.example"))
    for values, message in (
        ({"plain": "ftp://api.example"}, "plain.*http://"),
        ({"own": "api.example/v1"}, "own.*without a version"),
        ({"plain": 7}, "plain.*a URL, not int"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            Pasted(**values)


def test_setting_that_reads_as_another_type_is_described_as_that_type() -> None:
    infos = {info.name: info for info in setting_infos(DemoSettings)}
    assert (infos["api_key"].type, infos["api_key"].secret) == (Secret, True)
    assert (infos["first"].type, infos["first"].secret) == (Secret | None, True)
    assert (infos["tags"].type, infos["tags"].secret) == (tuple[str, ...], False)
    assert DemoSettings(api_key="k", tags=["a"]).tags == ("a",)


def _nested() -> object:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize("setting", ["connect_timeout", "strict", "http_library", "max_retries", "body_limit"])
@pytest.mark.parametrize("value", [_nested(), {"a": _nested()}, 10**5000], ids=["nested", "nested table", "huge"])
def test_value_without_a_repr_is_a_configuration_error(setting: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=setting):
        Settings(**{setting: value})  # type: ignore[arg-type]


def test_variable_that_looks_like_json_is_a_configuration_error_of_a_choice() -> None:
    with pytest.raises(ConfigurationError, match="http_library"):
        make({"TRUNKLINE_MY_DEMO_HTTP_LIBRARY": "{}"})


@pytest.mark.parametrize("setting", ["ca_bundle", "client_certificate", "client_key"])
@pytest.mark.parametrize("path", ["a\x00b", "~/\x00", "\ud800", Path("a\x00b")])
def test_path_that_no_system_can_name_is_refused(setting: str, path: str | Path) -> None:
    with pytest.raises(ConfigurationError, match="must be the path of a file") as caught:
        Settings(**{"client_certificate": "x", setting: path})
    assert caught.value.setting == setting


# Every mistake at once


@settings
class PairSettings(Settings):
    """Settings that need each other."""

    provider = "demo"

    url: str = url_setting("URL", "The URL.")
    region: str | None = setting("Region", "The region.", default=None)
    name: str | None = setting("Name", "The name.", default=None, requires=("word",))
    word: Converted[Secret | None, str] = setting("Word", "The word.", default=None, requires=("name",))
    level: int = setting("Level", "The level.", default=1)

    def problems(self) -> Iterator[tuple[str, str]]:
        """The region first, then what depends on the URL."""
        if self.region is None:
            yield "region", "is required; set TRUNKLINE_<SERVICE>_REGION"
        if self.url.endswith("/no") or self.level > 2:
            yield "level", "does not go with the URL"

    @classmethod
    def machine_values(
        cls, given: Mapping[str, object], environ: Mapping[str, str]
    ) -> Mapping[str, tuple[object, str]]:
        """Return the region of the machine, unless one is given."""
        return {"region": (environ["REGION"], "the machine")} if "REGION" in environ else {}


@pytest.mark.parametrize(
    "text",
    [
        "$NAME",
        "${NAME}",
        "%NAME%",
        "<hidden-key>",
        "{{hidden}}",
        '{env="NAME"}',
        "env:NAME",
        "file:k.txt",
        "keyring:a/b",
    ],
)
def test_placeholder_in_the_place_of_a_key_is_refused_in_every_source(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)
    sources: list[tuple[dict[str, object], dict[str, object], dict[str, str]]] = [
        ({"word": text}, {}, {}),
        ({}, {"word": text}, {}),
        ({}, {}, {"TRUNKLINE_A_WORD": text}),
        ({}, {"word": {"env": "WORD"}}, {"WORD": text}),
        ({}, {"word": {"file": str(tmp_path / "key")}}, {}),
    ]
    for arguments, table, environ in sources:
        more = {"url": "https://h", "region": "r", "name": "n"}
        with pytest.raises(ConfigurationError, match="must be the key itself, not a placeholder") as caught:
            make_settings("a", provider(PairSettings), arguments=arguments, table={**more, **table}, environ=environ)
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("key", ["$ecret-1", "$ecret", "$2b$10$abc", "EMPTY", "none", "ABSKQmVkcm9jaw==", "a:b"])
def test_key_that_looks_a_little_like_a_placeholder_is_accepted(key: str) -> None:
    given = {"url": "https://h", "region": "r", "name": "n", "word": key}
    made = make_settings("a", provider(PairSettings), arguments=given, environ={})
    assert made.word.reveal() == key  # type: ignore[attr-defined]


@settings
class SeparateSettings(PairSettings):
    """Settings whose combinations are checked separately."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield the mistakes of each check."""
        yield from self.separate_problems(self._of_the_url, self._of_the_level, self._of_the_region)

    def _of_the_url(self) -> Iterator[tuple[str, str]]:
        if self.url.endswith("/no"):
            yield "url", "is of no use"

    def _of_the_level(self) -> Iterator[tuple[str, str]]:
        if self.level > 2:
            yield "level", "is too high"

    def _of_the_region(self) -> Iterator[tuple[str, str]]:
        if self.region is None:
            yield "region", "is required"


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        ({"url": "us east", "level": 3}, ["level", "region", "url"]),
        ({"url": "https://h/no", "level": "x"}, ["level", "region", "url"]),
        ({"url": "us east", "level": "x"}, ["level", "region", "url"]),
        ({"url": "https://h/no", "level": 3}, ["level", "region", "url"]),
    ],
)
def test_wrong_value_hides_no_mistake_of_another_check(table: dict[str, Any], wrong: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_settings("a", provider(SeparateSettings), arguments={}, table=table, environ={})
    assert sorted(str(error.setting) for error in caught.value.errors) == wrong


def test_broken_separate_check_is_the_plugins_mistake() -> None:
    @settings
    class Broken(Settings):
        provider = "demo"

        def problems(self) -> Iterator[tuple[str, str]]:
            yield from self.separate_problems(self._broken)

        def _broken(self) -> Iterator[tuple[str, str]]:
            yield from self.nothing  # type: ignore[attr-defined]

    with pytest.raises(PluginError, match="checking the settings of 'demo' failed"):
        Broken()


PAIRS = [
    ({"name": "n", "level": "x", "url": "us east", "region": "r"}, ["level", "url", "word"]),
    ({"name": "n", "level": "x", "url": "us east"}, ["level", "region", "url", "word"]),
    ({"name": "n", "levle": 1, "url": "https://h/no"}, ["levle", "region", "word"]),
    ({"name": {"env": "NONE"}, "word": "w", "url": "https://h", "region": "r"}, ["name"]),
    ({"nmae": "n", "word": "w", "url": "https://h", "region": "r"}, ["nmae"]),
    ({"urll": "https://h", "regoin": "r"}, ["regoin", "urll"]),
    ({"level": 3, "url": "https://h"}, ["level", "region"]),
    ({"level": 3, "url": "https://h", "max_retries": -1}, ["level", "max_retries", "region"]),
]


@pytest.mark.parametrize(("table", "wrong"), PAIRS)
def test_wrong_values_and_wrong_combinations_are_reported_together(table: dict[str, Any], wrong: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_settings("a", provider(PairSettings), arguments={}, table=table, environ={})
    assert sorted(str(error.setting) for error in caught.value.errors or (caught.value,)) == wrong
    assert ("TRUNKLINE_A_REGION" in str(caught.value)) is ("region" in wrong)
    if not any(isinstance(value, Mapping) for value in table.values()) and not {*table} & {"levle", "nmae", "urll"}:
        with pytest.raises(ConfigurationError) as caught:
            PairSettings(**table)
        assert sorted(str(error.setting) for error in caught.value.errors or (caught.value,)) == wrong


def test_setting_of_the_machine_is_not_missing_beside_a_wrong_value() -> None:
    table = {"url": "https://h", "level": "x"}
    with pytest.raises(ConfigurationError, match=r"^service 'a': setting 'level' must be") as caught:
        make_settings("a", provider(PairSettings), arguments={}, table=table, environ={"REGION": "r"})
    assert not caught.value.errors


def test_setting_at_fault_in_the_defaults_is_not_missing_in_each_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.opening.load_provider", lambda _: provider(PairSettings))
    monkeypatch.setattr("trunkline._config.configuration.load_provider", lambda _: provider(PairSettings))
    services = {"a": {"provider": "demo"}, "b": {"provider": "demo", "level": "x"}}
    with pytest.raises(ConfigurationError) as caught:
        open_services({"defaults": {"region": "r", "url": "https://h", "max_retrys": 1}, "services": services})
    assert [error.setting for error in caught.value.errors] == ["region", "url", "max_retrys", "level"]
    assert [error.service for error in caught.value.errors] == [None, None, None, "b"]


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a\nb", "\u200ba", "a\u200bb", "\0", "\ufeff", "\x1b[2J"])
def test_name_of_a_service_that_nobody_can_see_whole_is_refused(name: str) -> None:
    table = {"provider": "openai", "api_key": "k", "max_retries": -1}
    with pytest.raises(ConfigurationError, match="cannot be the name of a service, which is visible text") as caught:
        open_services({"services": {name: table, "spare": table}})
    _, *others = map(str, caught.value.errors)
    assert len(others) == 2  # the settings are checked as well


@pytest.mark.parametrize(
    "name", ["a", "A1", "my-llm", "gpt-5.4", "-a", "4", "Claude (EU)", "\u65e5\u672c\u8a9e", "a/b:c"]
)
def test_name_of_a_service_may_be_any_visible_text(name: str) -> None:
    services = open_services({"services": {name: {"provider": "openai", "api_key": "k"}}})
    assert list(services) == [name]


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("[services.gpt-5.4]\nprovider='x'", r'a dot needs quotes: \[services."gpt-5.4"\]'),
        ("[services.a.b.c]\nprovider='x'", r'a dot needs quotes: \[services."a.b.c"\]'),
        ("[[services]]\nprovider='x'", r"services is a list; write \[services.NAME\]"),
        ("[services.a]\nprovider=5", r"'provider' must be the name of an installed provider, not int"),
        ("[services.a]\nprovider={env='X'}", r"'provider' must be the name of an installed provider, not dict"),
        ("[services.a]\nprovider='openai'\ndefault_model=5", r"'default_model' must be a string, not int"),
        ("[services.a]\nprovider='openai'\nmodel='m'", r"'model' does not exist; did you mean 'default_model'\?"),
        (
            "[prices]\ncurrency='EUR'\n[services.a]\nprovider='x'",
            r"at the top level; only .*ignore_tables = \[\"prices\"\]",
        ),
        ("[defaults]\nignore_tables=['x']\n[services.a]\nprovider='x'", "belongs at the start of the file"),
        ("# é\n[services.a]", r"is not UTF-8 \(in line 1\); save it as UTF-8"),
    ],
)
def test_usual_slip_in_a_file_is_named(content: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "trunkline.toml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=hint):
        open_services(path)
