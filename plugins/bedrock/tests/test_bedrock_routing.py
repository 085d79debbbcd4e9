"""Which API and which host serve a model, and what the settings say about it."""

from typing import Any

import httpx2
import pytest
from openai import OpenAI
from openai.providers import bedrock as sdk_bedrock
from trunkline.errors import ConfigurationError, UnsupportedOperation
from trunkline_bedrock import BedrockSettings
from trunkline_bedrock.endpoints import control_base, runtime_base
from trunkline_bedrock.model_facts import openai_name
from trunkline_bedrock.routing import api_for, endpoint_for, messages_root, openai_address, signing_service


def made(**settings: Any) -> BedrockSettings:
    return BedrockSettings(**{"aws_region": "us-east-1", **settings})


# By the model


@pytest.mark.parametrize(
    ("model", "api"),
    [
        ("openai.gpt-5.5", "responses"),
        ("openai.gpt-6-astra", "responses"),
        ("xai.grok-4.3", "responses"),
        ("google.gemma-4-31b", "chat"),
        # Under the ids of inference profiles, bedrock-runtime serves them with Converse.
        ("us.openai.gpt-5.6-sol", "converse"),
        ("global.xai.grok-4.7", "converse"),
        ("openai.gpt-oss-120b-1:0", "converse"),
        ("openai.gpt-oss-120b", "chat"),
        ("google.gemma-3-27b-it", "converse"),
        ("us.anthropic.claude-opus-4-8", "converse"),
        ("amazon.nova-pro-v1:0", "converse"),
        ("m", "converse"),
    ],
)
def test_auto_chooses_converse_unless_bedrock_has_only_openais_apis_for_the_model(model: str, api: str) -> None:
    assert api_for(made(), model) == api


@pytest.mark.parametrize(
    ("model", "api"),
    [
        ("anthropic.claude-opus-4-8", "messages"),
        ("openai.gpt-5.5", "responses"),
        ("openai.gpt-oss-120b", "chat"),
        ("qwen.qwen3-32b", "chat"),
    ],
)
@pytest.mark.parametrize(
    "settings", [{"endpoint": "mantle"}, {"api_url": "https://bedrock-mantle.us-east-1.api.aws/v1"}]
)
def test_auto_chooses_an_api_that_mantle_has_if_only_mantle_is_called(
    settings: dict[str, Any], model: str, api: str
) -> None:
    assert api_for(made(**settings), model) == api


def test_the_setting_api_and_model_facts_win_over_the_table() -> None:
    assert api_for(made(api="chat"), "openai.gpt-5.5") == "chat"
    facts = {"us.openai.gpt-5.6*": {"api": "responses"}, "openai.gpt-oss*": {"api": "responses"}}
    assert api_for(made(model_facts=facts), "us.openai.gpt-5.6-sol") == "responses"
    assert api_for(made(model_facts=facts), "openai.gpt-oss-20b") == "responses"
    arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"
    assert api_for(made(model_facts={"*abc": {"base_model": "openai.gpt-6-sol"}}), arn) == "converse"


# URLs


@pytest.mark.parametrize("region", ["us-east-1", "us-gov-west-1", "cn-north-1", "eusc-de-east-1", "us-iso-east-1"])
@pytest.mark.parametrize("endpoint", ["mantle", "runtime"])
@pytest.mark.parametrize("path", ["/responses", "/chat/completions"])
def test_the_urls_of_openais_apis_are_those_of_openais_client(region: str, endpoint: Any, path: str) -> None:
    client = OpenAI(
        provider=sdk_bedrock(region=region, endpoint=endpoint, api_key="k"),
        http_client=httpx2.Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(500))),
    )
    settings = made(aws_region=region, endpoint=endpoint)
    assert openai_address(settings, path, "openai.gpt-5.5") == f"{client.base_url}".rstrip("/") + path


@pytest.mark.parametrize(
    ("settings", "model", "url"),
    [
        # The recorded requests of 2026: GPT OSS at /v1, GPT-5.6 at /openai/v1.
        ({}, "openai.gpt-oss-20b", "https://bedrock-mantle.us-east-1.api.aws/v1/responses"),
        ({}, "openai.gpt-5.6-luna", "https://bedrock-mantle.us-east-1.api.aws/openai/v1/responses"),
        ({}, "google.gemma-4-31b", "https://bedrock-mantle.us-east-1.api.aws/openai/v1/responses"),
        ({}, None, "https://bedrock-mantle.us-east-1.api.aws/v1/responses"),
        ({}, "us.openai.gpt-6-sol", "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/responses"),
        (
            {"use_fips_endpoint": True},
            "us.openai.gpt-6-sol",
            "https://bedrock-runtime-fips.us-east-1.amazonaws.com/openai/v1/responses",
        ),
        (
            {"endpoint": "runtime", "use_dualstack_endpoint": True},
            "openai.gpt-oss-20b",
            "https://bedrock-runtime.us-east-1.api.aws/openai/v1/responses",
        ),
        (
            {"model_facts": {"new.*": {"mantle_path": "/openai/v1"}}},
            "new.model",
            "https://bedrock-mantle.us-east-1.api.aws/openai/v1/responses",
        ),
        # A path in the URL is used for all models, as in OpenAI's client.
        (
            {"openai_url": "https://bedrock-mantle.us-east-1.api.aws/openai/v1/"},
            "openai.gpt-oss-20b",
            "https://bedrock-mantle.us-east-1.api.aws/openai/v1/responses",
        ),
        (
            {"openai_url": "https://bedrock-mantle.us-east-1.api.aws/v1/responses"},
            "openai.gpt-5.5",
            "https://bedrock-mantle.us-east-1.api.aws/v1/responses",
        ),
        (
            {"openai_url": "https://vpce-0a-b.bedrock-mantle.us-east-1.vpce.amazonaws.com"},
            "openai.gpt-5.5",
            "https://vpce-0a-b.bedrock-mantle.us-east-1.vpce.amazonaws.com/openai/v1/responses",
        ),
        (
            {"api_url": "https://vpce-0a-b.bedrock-runtime.us-east-1.vpce.amazonaws.com"},
            "openai.gpt-5.5",
            "https://vpce-0a-b.bedrock-runtime.us-east-1.vpce.amazonaws.com/openai/v1/responses",
        ),
        ({"api_url": "http://127.0.0.1:1/p"}, "openai.gpt-5.5", "http://127.0.0.1:1/p/openai/v1/responses"),
        ({"api_url": "http://127.0.0.1:1/p/v1"}, "openai.gpt-5.5", "http://127.0.0.1:1/p/v1/responses"),
        (
            {"api_url": "http://127.0.0.1:1", "openai_url": "http://127.0.0.1:2/openai"},
            "openai.gpt-oss-20b",
            "http://127.0.0.1:2/openai/v1/responses",
        ),
    ],
)
def test_the_url_follows_from_the_model_and_the_settings(settings: Any, model: str | None, url: str) -> None:
    assert openai_address(made(**settings), "/responses", model) == url


RUNTIME, MANTLE = "https://bedrock-runtime.us-east-1.amazonaws.com", "https://bedrock-mantle.us-east-1.api.aws"


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        # The path of another API says nothing about OpenAI's.
        ({"openai_url": f"{MANTLE}/anthropic/v1/messages"}, f"{MANTLE}/openai/v1/responses"),
        ({"openai_url": f"{MANTLE}/anthropic/v1"}, f"{MANTLE}/openai/v1/responses"),
        # AWS's runtime has OpenAI's APIs at one path only.
        ({"openai_url": f"{RUNTIME}/v1/chat/completions"}, f"{RUNTIME}/openai/v1/responses"),
        ({"api_url": f"{RUNTIME}/v1/responses/"}, f"{RUNTIME}/openai/v1/responses"),
        # The region's public runtime is the default, and does not serve this model.
        ({"api_url": RUNTIME}, f"{MANTLE}/openai/v1/responses"),
        ({"api_url": "https://bedrock-runtime.us-east-1.api.aws/"}, f"{MANTLE}/openai/v1/responses"),
        ({"api_url": f"{RUNTIME}/openai/v1"}, f"{RUNTIME}/openai/v1/responses"),
        (
            {"api_url": "https://bedrock-runtime-fips.us-east-1.amazonaws.com"},
            "https://bedrock-runtime-fips.us-east-1.amazonaws.com/openai/v1/responses",
        ),
    ],
)
def test_a_pasted_url_of_another_api_or_endpoint_is_understood(settings: Any, url: str) -> None:
    assert openai_address(made(**settings), "/responses", "openai.gpt-5.5") == url


def test_converse_is_not_called_below_the_path_of_openais_api_at_awss_runtime() -> None:
    assert runtime_base(made(api_url=f"{RUNTIME}/v1/chat/completions")) == RUNTIME
    whole = f"{RUNTIME}/model/m/invoke-with-response-stream"
    assert runtime_base(made(api_url=whole)) == RUNTIME


@pytest.mark.parametrize(
    ("settings", "root"),
    [
        ({"openai_url": "http://127.0.0.1:2/p/v1/messages"}, "http://127.0.0.1:2/p"),
        ({"openai_url": "http://127.0.0.1:2/v1"}, "http://127.0.0.1:2"),
        ({"openai_url": "http://127.0.0.1:2/p"}, "http://127.0.0.1:2/p/anthropic"),
        ({"openai_url": f"{MANTLE}/v1"}, f"{MANTLE}/anthropic"),
        ({"api": "messages", "api_url": RUNTIME}, f"{MANTLE}/anthropic"),
        ({}, "https://bedrock-mantle.us-east-1.api.aws/anthropic"),
        ({"openai_url": "http://127.0.0.1:2/p/openai/v1"}, "http://127.0.0.1:2/p/anthropic"),
        ({"openai_url": "http://127.0.0.1:2/anthropic/v1/messages"}, "http://127.0.0.1:2/anthropic"),
    ],
)
def test_anthropics_api_is_beside_openais(settings: Any, root: str) -> None:
    assert messages_root(made(**settings)) == root


def test_converse_and_the_control_plane_are_beside_the_path_of_openais_api() -> None:
    url = "https://bedrock-runtime.us-east-1.amazonaws.com"
    assert runtime_base(made(api_url=f"{url}/openai/v1")) == url
    assert control_base(made(api_url=f"{url}/openai/v1")) == "https://bedrock.us-east-1.amazonaws.com"
    assert runtime_base(made(api_url="https://proxy.example/v1")) == "https://proxy.example/v1"
    mantle = made(api_url="https://bedrock-mantle.us-east-1.api.aws/v1")
    assert control_base(mantle) == "https://bedrock.us-east-1.amazonaws.com"
    with pytest.raises(UnsupportedOperation, match="move this URL from api_url to openai_url"):
        runtime_base(mantle)
    with pytest.raises(UnsupportedOperation, match="set control_url"):
        control_base(made(api_url="https://vpce-0a-b.bedrock-mantle.us-east-1.vpce.amazonaws.com"))


def test_mantle_is_not_called_without_the_fips_endpoint_that_was_asked_for() -> None:
    with pytest.raises(UnsupportedOperation, match="no FIPS endpoint: set endpoint to runtime"):
        openai_address(made(use_fips_endpoint=True), "/responses", "openai.gpt-5.5")
    with pytest.raises(UnsupportedOperation, match="no FIPS endpoint: set api to converse"):
        messages_root(made(use_fips_endpoint=True, api="messages"))
    with pytest.raises(UnsupportedOperation, match="no FIPS endpoint"):
        openai_address(made(use_fips_endpoint=True, api_url=RUNTIME), "/responses", "openai.gpt-5.5")


def test_a_url_that_wins_over_fips_is_noted() -> None:
    notes = dict(made(use_fips_endpoint=True, openai_url=MANTLE).notes())
    assert notes == {"use_fips_endpoint": "has no effect, because openai_url names the endpoint"}


@pytest.mark.parametrize(
    ("url", "settings", "service", "hashed"),
    [
        ("https://bedrock-mantle.us-east-1.api.aws/anthropic/v1/messages", {}, "bedrock-mantle", True),
        ("https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/responses", {}, "bedrock", True),
        ("http://127.0.0.1:1/v1/chat/completions", {}, "bedrock-mantle", True),
        ("http://127.0.0.1:1/v1/chat/completions", {"endpoint": "runtime"}, "bedrock", True),
        ("http://127.0.0.1:1/openai/v1/models", {}, "bedrock-mantle", True),
        ("http://127.0.0.1:1/v1/model/m/converse", {"endpoint": "mantle"}, "bedrock", False),
        ("http://127.0.0.1:1/foundation-models", {}, "bedrock", False),
    ],
)
def test_the_path_says_for_which_service_a_request_to_another_host_is_signed(
    url: str, settings: Any, service: str, hashed: bool
) -> None:
    assert signing_service(made(**settings), url) == (service, hashed)


def test_the_endpoint_of_a_custom_url_is_mantle_as_in_openais_client() -> None:
    assert endpoint_for(made(openai_url="http://127.0.0.1:1"), "us.openai.gpt-6-sol") == "mantle"


# What the settings refuse


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"openai_url": "https://bedrock-mantle.eu-west-1.api.aws"}, "region eu-west-1, but aws_region is us-east-1"),
        ({"api_url": "https://bedrock-mantle.eu-west-1.api.aws"}, "region eu-west-1, but aws_region is us-east-1"),
        (
            {"api": "converse", "api_url": "https://bedrock-mantle.us-east-1.api.aws"},
            "api_url names bedrock-mantle, and only",
        ),
        (
            {"api": "messages", "api_url": "https://vpce-0a-b.bedrock-runtime.us-east-1.vpce.amazonaws.com"},
            "api_url names bedrock-runtime, and only bedrock-mantle",
        ),
        (
            {"openai_url": "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1"},
            "region eu-west-1, but aws_region is us-east-1",
        ),
        (
            {"endpoint": "runtime", "openai_url": "https://bedrock-mantle.us-east-1.api.aws"},
            "endpoint.*is runtime, but openai_url names a host of bedrock-mantle",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        made(**settings)


@pytest.mark.parametrize(("api", "endpoint"), [("converse", "mantle"), ("messages", "runtime")])
def test_an_endpoint_that_does_not_serve_the_chosen_api_has_no_effect(api: Any, endpoint: Any) -> None:
    settings = made(api=api, endpoint=endpoint)
    assert (
        "endpoint",
        f"has no effect, because api is {api}, which only the other endpoint serves",
    ) in settings.notes()
    assert not (settings.only_mantle and api == "converse")  # whose list of models is that of the control plane
    assert runtime_base(settings) == "https://bedrock-runtime.us-east-1.amazonaws.com"
    assert messages_root(settings) == "https://bedrock-mantle.us-east-1.api.aws/anthropic"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("openai.gpt-5.6-sol", "gpt-5.6-sol"),
        ("us.openai.gpt-6-sol", "gpt-6-sol"),
        ("deepseek.v3.2", "deepseek-v3.2"),
        ("moonshotai.kimi-k2.5", "kimi-k2.5"),
        ("arn:aws:bedrock:us-east-1::foundation-model/qwen.qwen3-32b-v1:0", "qwen3-32b-v1:0"),
        ("m", "m"),
    ],
)
def test_models_have_their_vendors_names_in_the_tables_of_openais_apis(model: str, name: str) -> None:
    assert openai_name(model, {}) == name
    assert openai_name("mine", {"mine": {"base_model": model}}) == name
