"""AWS's files and variables as sources of settings: what is refused, and with which words."""

from __future__ import annotations

import builtins
import os
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from trunkline import open_service
from trunkline._config.sources import make_settings
from trunkline.errors import ConfigurationError
from trunkline_bedrock import BedrockSettings, bedrock
from trunkline_bedrock.aws_config import AWSFiles, aws_values, read_aws_files


def made(environ: dict[str, str], **arguments: Any) -> BedrockSettings:
    return cast(BedrockSettings, make_settings("claude", bedrock, arguments=arguments, environ=environ))


def test_missing_region_names_every_way_to_set_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        made({"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_PROFILE": "dev"})
    message = str(caught.value)
    assert message.startswith("service 'claude': setting 'aws_region' (AWS Region) is required: ")
    for way in ("argument", "configuration file", "AWS_REGION or AWS_DEFAULT_REGION", "'region' in an AWS profile"):
        assert way in message
    assert f"the profile 'dev', which {tmp_path / 'config'} does not have" in message
    assert caught.value.setting == "aws_region"
    (tmp_path / "config").write_text("[profile deva]\n")
    with pytest.raises(ConfigurationError, match="does not have; did you mean 'deva'"):
        made({"AWS_CONFIG_FILE": str(tmp_path / "config")}, aws_profile="dev")
    with pytest.raises(ConfigurationError, match="'region' in an AWS profile"):
        BedrockSettings()


@pytest.mark.parametrize(
    ("environ", "lines", "problem"),
    [
        ({"AWS_MAX_ATTEMPTS": "many"}, "", "the variable AWS_MAX_ATTEMPTS must be a number of attempts.*'many'"),
        ({}, "max_attempts = 0", "'max_attempts' in the profile 'default' of .*config must be a number of attempts"),
        ({"AWS_USE_FIPS_ENDPOINT": "perhaps"}, "", "'use_fips_endpoint' must be true or false"),
        ({}, "use_fips_endpoint = perhaps", "true or false, not 'perhaps' .from 'use_fips_endpoint' in the profile"),
        ({}, "region = us east", "'aws_region' must be .*not 'us east' .from 'region' in the profile 'default'"),
        ({"AWS_ENDPOINT_URL": "ftp://x"}, "", r"'api_url' must be .*http.*\(from the variable AWS_ENDPOINT_URL\)"),
        ({"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "1"}, "", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS must be true or false"),
        ({}, "services = gone", r"names the section \[services gone\], which does not exist"),
    ],
)
def test_wrong_value_is_refused_with_its_place(
    tmp_path: Path, environ: dict[str, str], lines: str, problem: str
) -> None:
    (tmp_path / "config").write_text(f"[default]\n{lines}\n", encoding="utf-8")
    region = {} if "region" in lines else {"AWS_REGION": "us-east-1"}
    with pytest.raises(ConfigurationError, match=problem):
        made({"AWS_CONFIG_FILE": str(tmp_path / "config"), **region, **environ})


@pytest.mark.parametrize(
    "content", ["[default]\ncanary-secret\n", "canary-secret\n", "[default]\ns3 =\n  canary-secret\n"]
)
def test_file_that_cannot_be_parsed_is_refused_without_its_content(tmp_path: Path, content: str) -> None:
    path = tmp_path / "credentials"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="credentials' cannot be parsed") as caught:
        made({"AWS_SHARED_CREDENTIALS_FILE": str(path)}, aws_region="us-east-1")
    assert "canary" not in str(caught.value)


def test_credentials_are_not_kept_from_the_files(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_secret_access_key = canary-secret\nregion = eu-west-1\n", encoding="utf-8")
    files = read_aws_files({"AWS_SHARED_CREDENTIALS_FILE": str(path)})
    assert files.profiles == {"default": {"region": "eu-west-1"}}


def test_files_of_this_user_are_read_only_with_the_environment_of_this_process(
    tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\nregion = eu-west-1\n", encoding="utf-8")
    environment.setenv("HOME", str(tmp_path))
    environment.delenv("AWS_CONFIG_FILE")
    assert read_aws_files(os.environ).profiles == {"default": {"region": "eu-west-1"}}
    assert read_aws_files({"HOME": str(tmp_path)}).profiles == {"default": {"region": "eu-west-1"}}
    assert read_aws_files({}).profiles == {}


def test_without_files_nothing_is_imported_to_read_them(environment: pytest.MonkeyPatch) -> None:
    modules = [name for name in sys.modules if name.split(".")[0] == "botocore"]
    for name in modules:
        environment.delitem(sys.modules, name)
    imported: list[str] = []
    original = builtins.__import__

    def noting(name: str, *args: Any, **kwargs: Any) -> Any:
        imported.append(name)
        return original(name, *args, **kwargs)

    environment.setattr(builtins, "__import__", noting)
    read_aws_files(os.environ)
    assert not [name for name in imported if name.startswith("botocore")]


def test_profile_of_the_settings_wins_over_that_of_the_environment() -> None:
    files = AWSFiles(profiles={"a": {"region": "us-east-1"}, "b": {"region": "us-east-2"}})
    assert (
        aws_values({"aws_profile": "a"}, {"AWS_PROFILE": "b"}, files, provider="bedrock")["aws_region"][0]
        == "us-east-1"
    )
    assert aws_values({}, {"AWS_PROFILE": "b"}, files, provider="bedrock")["aws_region"][0] == "us-east-2"


def test_ca_bundle_of_the_environment_is_no_mistake_with_an_own_client(environment: pytest.MonkeyPatch) -> None:
    import httpx2

    environment.setenv("AWS_CA_BUNDLE", "/variable.pem")
    own, shared = httpx2.AsyncClient(), open_service("bedrock", aws_region="us-east-1")
    assert open_service("bedrock", http_client=own, aws_region="us-east-1").settings.ca_bundle is None
    assert shared.settings.ca_bundle == "/variable.pem"


def test_proxy_that_does_not_serve_the_chain_is_noted() -> None:
    note = "is not used to fetch AWS credentials, such as those of a role, since it is no HTTP proxy"
    socks, http = "socks5://127.0.0.1:1080", "http://127.0.0.1:1080"
    assert ("proxy", note) in list(BedrockSettings(aws_region="us-east-1", proxy=socks).notes())
    assert not list(BedrockSettings(aws_region="us-east-1", proxy=http).notes())
    assert not list(BedrockSettings(aws_region="us-east-1", proxy=socks, api_key="k").notes())


def test_fips_that_a_custom_url_outdoes_is_noted() -> None:
    settings = BedrockSettings(aws_region="us-east-1", api_url="https://x.example", use_fips_endpoint=True)
    assert ("use_fips_endpoint", "has no effect, because api_url names the endpoint") in list(settings.notes())
