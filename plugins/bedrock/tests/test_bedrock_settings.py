"""The settings: their labels, where they come from, and what is refused."""

from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from trunkline._config.sources import make_settings
from trunkline.errors import ConfigurationError
from trunkline.secrets import Secret
from trunkline.settings import json_schema, setting_infos
from trunkline_bedrock import BedrockSettings, bedrock
from trunkline_bedrock.aws_settings import configured_credentials
from trunkline_bedrock.credentials import BearerToken, Chain, Keys

CREDENTIALS = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_profile", "api_key"]
OWN = [
    "aws_region",
    *CREDENTIALS[:-1],
    "api_url",
    "control_url",
    "openai_url",
    "api",
    "endpoint",
    "use_fips_endpoint",
    "use_dualstack_endpoint",
    "api_key",
]


def made(environ: dict[str, str] | None = None, table: dict[str, object] | None = None, **arguments: Any) -> Any:
    return make_settings(
        "bedrock", bedrock, arguments={"aws_region": "us-east-1", **arguments}, table=table, environ=environ or {}
    )


def test_the_table_of_settings() -> None:
    infos = {info.name: info for info in setting_infos(BedrockSettings)}
    assert list(infos)[: len(OWN)] == OWN
    assert not any(infos[name].required for name in OWN)  # the region may come from AWS's configuration
    assert [name for name in OWN if infos[name].secret] == ["aws_secret_access_key", "aws_session_token", "api_key"]
    assert {infos[name].source_group for name in CREDENTIALS} == {"credentials"}
    assert infos["api_url"].label == "Custom Endpoint URL"
    assert all(info.label and info.description for info in infos.values())
    assert "aws_region" in json_schema(BedrockSettings)["required"]


def test_no_credential_setting_has_a_customary_variable() -> None:
    assert all(not info.environment for info in setting_infos(BedrockSettings) if info.source_group == "credentials")


@pytest.mark.parametrize(
    ("environ", "region"),
    [
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "x"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"TRUNKLINE_BEDROCK_AWS_REGION": "eu-west-3", "AWS_REGION": "x"}, "eu-west-3"),
    ],
)
def test_the_region_comes_from_the_environment(environ: dict[str, str], region: str) -> None:
    found = make_settings("bedrock", bedrock, arguments={}, environ=environ)
    assert isinstance(found, BedrockSettings)
    assert found.aws_region == region


def test_a_region_is_required() -> None:
    with pytest.raises(ConfigurationError, match=r"aws_region.*AWS_REGION or AWS_DEFAULT_REGION"):
        make_settings("bedrock", bedrock, arguments={}, environ={})


@pytest.mark.parametrize("region", ["", "us east", "evil.example/", "US-EAST-1", "-a", "a" * 64, 5])
def test_a_region_is_a_host_label(region: Any) -> None:
    with pytest.raises(ConfigurationError, match="aws_region"):
        BedrockSettings(aws_region=region)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"aws_access_key_id": "AKIA1"}, "aws_secret_access_key.*is missing"),
        ({"aws_secret_access_key": "secret"}, "aws_access_key_id.*is missing"),
        ({"aws_session_token": "token"}, "aws_access_key_id.*is missing"),
        ({"aws_access_key_id": "AKIA1", "api_key": "bearer"}, "aws_secret_access_key.*is missing"),
        ({"aws_access_key_id": "a b", "aws_secret_access_key": "s"}, "aws_access_key_id.*access key id"),
        ({"api_key": "id:"}, "api_key.*without empty parts"),
        ({"api_key": ":secret"}, "api_key.*without empty parts"),
        ({"api_key": "a:b:c:d"}, "api_key.*without empty parts"),
        ({"api_key": "a b"}, "api_key.*without spaces"),
        ({"api_key": "schlüssel"}, "api_key.*ASCII"),
        ({"api_url": "ftp://x"}, "api_url.*http"),
        ({"api_url": "https://u:p@x"}, "api_url.*user information"),
        ({"api_url": "https://x/?a=b"}, "api_url.*query"),
        ({"api_url": "us-east-1"}, "api_url.*a URL such as"),
        ({"control_url": "us-east-1"}, "control_url.*a URL such as"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(settings: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigurationError, match=names) as caught:
        made(**settings)
    assert "secret'" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Chain()),
        ({"aws_profile": "p"}, Chain(profile="p")),
        (
            {"aws_access_key_id": "id", "aws_secret_access_key": "s"},
            Keys(access_key_id="id", secret_access_key=Secret("s")),
        ),
        (
            {"aws_access_key_id": "id", "aws_secret_access_key": "s", "aws_session_token": "t", "api_key": "b"},
            Keys(access_key_id="id", secret_access_key=Secret("s"), session_token=Secret("t")),
        ),
        ({"api_key": "ABSK=="}, BearerToken(token=Secret("ABSK=="))),
        ({"api_key": "b", "aws_profile": "p"}, BearerToken(token=Secret("b"))),
        ({"api_key": "id:s/+="}, Keys(access_key_id="id", secret_access_key=Secret("s/+="))),
        (
            {"api_key": "id:s:t=="},
            Keys(access_key_id="id", secret_access_key=Secret("s"), session_token=Secret("t==")),
        ),
    ],
)
def test_the_order_within_one_source(settings: dict[str, Any], expected: object) -> None:
    assert configured_credentials(made(**settings)) == expected


# The whole matrix of sources: each way to give credentials, at each of the three places, beside each other way.

PLACES = ("argument", "file", "variable")
WAYS: dict[str, dict[str, str]] = {
    "nothing": {},
    "pair": {"aws_access_key_id": "id-@", "aws_secret_access_key": "secret-@"},
    "token": {"aws_access_key_id": "id-@", "aws_secret_access_key": "secret-@", "aws_session_token": "token-@"},
    "half": {"aws_access_key_id": "id-@"},
    "bearer": {"api_key": "bearer-@"},
    "legacy two": {"api_key": "id-@:secret-@"},
    "legacy three": {"api_key": "id-@:secret-@:token-@"},
    "profile": {"aws_profile": "profile-@"},
}
AMBIENT = {
    "AWS_ACCESS_KEY_ID": "ambient",
    "AWS_SECRET_ACCESS_KEY": "ambient",
    "AWS_SESSION_TOKEN": "ambient",
    "AWS_BEARER_TOKEN_BEDROCK": "ambient",
    "AWS_PROFILE": "ambient",
}


def expected(way: str, place: str) -> object:
    key, secret, token = f"id-{place}", Secret(f"secret-{place}"), Secret(f"token-{place}")
    if way in ("pair", "legacy two"):
        return Keys(access_key_id=key, secret_access_key=secret)
    if way in ("token", "legacy three"):
        return Keys(access_key_id=key, secret_access_key=secret, session_token=token)
    if way == "bearer":
        return BearerToken(token=Secret(f"bearer-{place}"))
    return Chain(profile=f"profile-{place}" if way == "profile" else None)


@pytest.mark.parametrize("variable", WAYS)
@pytest.mark.parametrize("file", WAYS)
@pytest.mark.parametrize("argument", WAYS)
def test_sources_never_mix(argument: str, file: str, variable: str) -> None:
    given = {
        place: {name: value.replace("@", place) for name, value in WAYS[way].items()}
        for place, way in zip(PLACES, (argument, file, variable), strict=True)
    }
    environ = {f"TRUNKLINE_BEDROCK_{name.upper()}": value for name, value in given["variable"].items()} | AMBIENT
    place, way = next(
        ((place, way) for place, way in zip(PLACES, (argument, file, variable), strict=True) if way != "nothing"),
        ("none", "nothing"),
    )
    if way == "half":
        with pytest.raises(ConfigurationError, match=r"aws_secret_access_key.*is missing"):
            made(environ, dict(given["file"]), **given["argument"])
        return
    assert configured_credentials(made(environ, dict(given["file"]), **given["argument"])) == expected(way, place)


def test_a_region_in_one_place_leaves_the_credentials_of_another() -> None:
    found = made(None, {"api_key": "bearer"}, api_url="https://x.example")
    assert configured_credentials(found) == BearerToken(token=Secret("bearer"))


def test_secrets_are_known_part_by_part_and_never_shown() -> None:
    found = made(api_key="canary-id:canary-secret:canary-token")
    assert found.secrets() == ("canary-id:canary-secret:canary-token", "canary-id", "canary-secret", "canary-token")
    pair = made(aws_access_key_id="id", aws_secret_access_key="canary-a", aws_session_token="canary-b")
    assert set(pair.secrets()) == {"id", "canary-a", "canary-b"}
    for settings in (found, pair):
        assert "canary" not in f"{settings!r} {configured_credentials(settings)!r}"


def test_a_secret_may_be_a_reference(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("bearer-from-file\n")
    found = make_settings(
        "bedrock",
        bedrock,
        arguments={},
        table={"aws_region": "us-east-1", "api_key": {"file": "key"}},
        environ={},
        folder=tmp_path,
    )
    assert isinstance(found, BedrockSettings)
    assert found.api_key == Secret("bearer-from-file")


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"aws_region": "US EAST", "aws_access_key_id": "a,b", "aws_secret_access_key": "s"}, ["aws_access_key_id"]),
        (
            {"use_dualstack_endpoint": "maybe", "aws_access_key_id": "a,b", "aws_secret_access_key": "s"},
            ["aws_access_key_id"],
        ),
        ({"aws_region": "US EAST", "api_key": "a:b:c:d"}, ["api_key"]),
        ({"api_key": "\u00fc", "aws_region": None}, ["aws_region"]),
    ],
)
def test_wrong_value_hides_no_other_mistake(settings: dict[str, Any], wrong: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        made(**settings)
    assert [error.setting for error in caught.value.errors[1:]] == wrong


@pytest.mark.parametrize("name", ["api_url", "control_url"])
@pytest.mark.parametrize("url", ["https://u:p@host.example", "https://host.example?a=b"])
def test_url_with_a_login_or_a_query_is_refused_by_the_schema_too(name: str, url: str) -> None:
    table = {"aws_region": "us-east-1", "default_model": "m"}
    schema = jsonschema.Draft202012Validator(json_schema(BedrockSettings))
    assert schema.is_valid(table)
    assert not schema.is_valid({**table, name: url})


@pytest.mark.parametrize(
    ("settings", "accepted"),
    [
        ({"aws_region": "us-isof-south-1", "use_dualstack_endpoint": True}, False),
        ({"aws_region": " eu-isoe-west-1\n", "use_dualstack_endpoint": " YES"}, False),
        ({"aws_region": "fips-us-isof-south-1", "use_dualstack_endpoint": "1"}, False),
        ({"aws_region": "us-isof-south-1", "use_dualstack_endpoint": "off"}, True),
        ({"aws_region": "us-isof-south-1", "use_dualstack_endpoint": " "}, True),
        ({"aws_region": "us-iso-east-1", "use_dualstack_endpoint": True}, True),
        ({"control_url": "https://host.example/@x"}, True),
        ({"control_url": "user@host.example"}, False),
        ({"api_url": "'https://user:p@host.example/x'"}, False),
    ],
)
def test_schema_and_library_agree(settings: dict[str, Any], accepted: bool) -> None:
    table = {"aws_region": "us-east-1", "default_model": "m", **settings}
    assert jsonschema.Draft202012Validator(json_schema(BedrockSettings)).is_valid(table) is accepted
    if accepted:
        made(**table)
    else:
        with pytest.raises(ConfigurationError):
            made(**table)
