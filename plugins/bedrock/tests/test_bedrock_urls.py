"""Where Bedrock is: every region that botocore knows, and custom endpoints as people paste them."""

from itertools import product

import botocore.session
import pytest
from botocore.endpoint_provider import EndpointProvider
from trunkline.errors import UnsupportedOperation
from trunkline_bedrock import BedrockSettings
from trunkline_bedrock.endpoints import control_base, runtime_base
from trunkline_bedrock.urls import base_url, model_url, public_endpoint


@pytest.mark.parametrize("service", ["bedrock-runtime", "bedrock"])
def test_the_endpoints_of_all_regions_are_botocores(service: str) -> None:
    loader = botocore.session.Session().get_component("data_loader")
    partitions = loader.load_data("partitions")
    rules = EndpointProvider(loader.load_service_model(service, "endpoint-rule-set-1"), partitions)
    regions = [
        region for partition in partitions["partitions"] for region in partition["regions"] if "global" not in region
    ]
    assert len(regions) > 40
    for region, fips, dual_stack in product(regions, (False, True), (False, True)):
        resolved = rules.resolve_endpoint(Region=region, UseDualStack=dual_stack, UseFIPS=fips)
        assert public_endpoint(service, region, fips=fips, dual_stack=dual_stack) == resolved.url


VPC = "https://vpce-1-a.bedrock-runtime.us-east-1.vpce.amazonaws.com"


@pytest.mark.parametrize(
    ("pasted", "base", "notes"),
    [
        (VPC, VPC, 0),
        (VPC + "/", VPC, 0),
        (f" '{VPC}//' ", VPC, 0),
        ("proxy.example/bedrock/", "https://proxy.example/bedrock", 0),
        ("proxy.example:8443/a//b", "https://proxy.example:8443/a/b", 0),
        ("localhost:4566", "http://localhost:4566", 0),
        ("127.0.0.1:4566", "http://127.0.0.1:4566", 0),
        ("[::1]:4566", "http://[::1]:4566", 0),
        ("HTTP://x.example", "http://x.example", 0),
        (VPC + "/model/us.anthropic.x%3A0/converse", VPC, 1),
        ("https://p.example/v/model/a/converse-stream", "https://p.example/v", 1),
    ],
)
def test_custom_endpoints_as_people_paste_them(pasted: str, base: str, notes: int) -> None:
    found, noted = base_url(pasted)
    assert (found, len(noted)) == (base, notes)
    assert base_url(found) == (base, ())


@pytest.mark.parametrize(
    "pasted",
    [
        "",
        "a b",
        "ftp://x",
        "https://",
        "https://x:y",
        "https://[::1",
        "https://u:p@x.example",
        "https://x.example/?a=b",
    ],
)
def test_what_is_no_url_is_refused(pasted: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        base_url(pasted)


@pytest.mark.parametrize(
    ("region", "api_url", "base"),
    [
        ("us-east-1", None, "https://bedrock.us-east-1.amazonaws.com"),
        ("cn-north-1", None, "https://bedrock.cn-north-1.amazonaws.com.cn"),
        (
            "us-east-1",
            "https://bedrock-runtime-fips.us-east-1.amazonaws.com",
            "https://bedrock-fips.us-east-1.amazonaws.com",
        ),
        ("us-east-1", "https://bedrock-runtime.us-west-2.api.aws", "https://bedrock.us-west-2.api.aws"),
        ("us-east-1", "https://proxy.example/aws", "https://proxy.example/aws"),
    ],
)
def test_models_are_listed_by_the_sibling_of_the_runtime(region: str, api_url: str | None, base: str) -> None:
    assert control_base(BedrockSettings(aws_region=region, api_url=api_url)) == base


def test_the_endpoint_of_a_vpc_lists_no_models() -> None:
    with pytest.raises(UnsupportedOperation, match="set control_url"):
        control_base(BedrockSettings(aws_region="us-east-1", api_url=VPC))
    control = "https://vpce-2-b.bedrock.us-east-1.vpce.amazonaws.com"
    assert control_base(BedrockSettings(aws_region="us-east-1", api_url=VPC, control_url=control)) == control


RUNTIME = "https://bedrock-runtime.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("pasted", "base"),
    [
        ("https://bedrock.us-east-1.amazonaws.com", RUNTIME),
        ("https://bedrock.us-east-1.amazonaws.com/foundation-models", f"{RUNTIME}/foundation-models"),
        ("bedrock-agent-runtime.us-east-1.amazonaws.com", RUNTIME),
        ("https://BEDROCK-agent.us-east-1.amazonaws.com:443", f"{RUNTIME}:443"),
        (
            "https://bedrock-fips.us-gov-west-1.amazonaws.com",
            "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
        ),
        ("https://bedrock.us-east-1.api.aws", "https://bedrock-runtime.us-east-1.api.aws"),
        ("https://bedrock.cn-north-1.amazonaws.com.cn", "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_another_service_of_bedrock_becomes_the_runtime_with_a_note(pasted: str, base: str) -> None:
    found, notes = base_url(pasted)
    assert found == base
    assert len(notes) == 1
    assert "requests are sent to bedrock-runtime" in notes[0]


@pytest.mark.parametrize(
    ("pasted", "problem"),
    [
        ("https://vpce-1-a.bedrock.us-east-1.vpce.amazonaws.com", "VPC endpoint of bedrock-runtime.*control plane"),
        ("https://us-east-1.console.aws.amazon.com/bedrock/home?region=us-east-1#/models", "console: set aws_region"),
        ("https://us-east-1.console.aws.amazon.com/bedrock/home", "console: set aws_region"),
    ],
)
def test_what_cannot_become_the_runtime_is_refused_with_what_to_do(pasted: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        base_url(pasted)


@pytest.mark.parametrize("host", ["bedrock.us-east-1.example.com", "bedrock.internal", "vpce-1.bedrock.example"])
def test_hosts_of_others_stay(host: str) -> None:
    assert base_url(f"https://{host}") == (f"https://{host}", ())


def test_a_model_id_is_one_segment_of_the_path() -> None:
    assert model_url(
        runtime_base(BedrockSettings(aws_region="us-east-1", api_url="http://x/p")), "a/b:c~d é", "converse"
    ) == ("http://x/p/model/a%2Fb%3Ac~d%20%C3%A9/converse")
