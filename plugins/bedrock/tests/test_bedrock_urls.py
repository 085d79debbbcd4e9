"""Where Bedrock is: every region that botocore knows, and custom endpoints as people paste them."""

import botocore.session
import pytest
from botocore.endpoint_provider import EndpointProvider
from trunkline.errors import UnsupportedOperation
from trunkline_bedrock.urls import base_url, control_base, endpoint, model_url, runtime_base


@pytest.mark.parametrize("service", ["bedrock-runtime", "bedrock"])
def test_the_endpoints_of_all_regions_are_botocores(service: str) -> None:
    loader = botocore.session.Session().get_component("data_loader")
    partitions = loader.load_data("partitions")
    rules = EndpointProvider(loader.load_service_model(service, "endpoint-rule-set-1"), partitions)
    regions = [
        region for partition in partitions["partitions"] for region in partition["regions"] if "global" not in region
    ]
    assert len(regions) > 40
    for region in regions:
        resolved = rules.resolve_endpoint(Region=region, UseDualStack=False, UseFIPS=False)
        assert endpoint(service, region) == resolved.url


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
    assert control_base(region, api_url) == base


def test_the_endpoint_of_a_vpc_lists_no_models() -> None:
    with pytest.raises(UnsupportedOperation, match="control plane"):
        control_base("us-east-1", VPC)


def test_a_model_id_is_one_segment_of_the_path() -> None:
    assert model_url(runtime_base("us-east-1", "http://x/p"), "a/b:c~d é", "converse") == (
        "http://x/p/model/a%2Fb%3Ac~d%20%C3%A9/converse"
    )
