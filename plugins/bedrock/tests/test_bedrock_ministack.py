"""Against an emulator of AWS that checks signatures, session tokens and IAM policies."""

import json
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import botocore.session
import pytest
import trunkline
from trunkline.errors import AuthenticationError, PermissionDenied, RemoteError
from trunkline.events import TextDelta

REGION = "us-east-1"
MODEL = "anthropic.claude-3-5-sonnet-20240620-v1:0"
ROLE = "arn:aws:iam::000000000000:role/trunkline"


@attrs.frozen
class Account:
    """An emulated account: a user who may call Bedrock, one who may not, and a role to assume."""

    url: str
    allowed: dict[str, str]
    refused: dict[str, str]


def client(service: str, url: str, keys: dict[str, str] | None = None) -> Any:
    keys = keys or {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return botocore.session.Session().create_client(service, region_name=REGION, endpoint_url=url, **keys)


def policy(*actions: str) -> str:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture(scope="session")  # as the emulator, which keeps what is made in it
def account(ministack: str) -> Account:
    iam = client("iam", ministack)
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    iam.create_role(
        RoleName="trunkline", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    # The emulator asks for actions of its own; AWS itself has bedrock:InvokeModel and its like.
    iam.put_role_policy(RoleName="trunkline", PolicyName="p", PolicyDocument=policy("bedrock:*"))

    def user(*actions: str) -> dict[str, str]:
        name = f"user-{uuid.uuid4().hex[:8]}"
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy(*actions))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}

    return Account(ministack, user("bedrock:*", "sts:AssumeRole"), user("s3:ListAllMyBuckets"))


@pytest.fixture
def role(account: Account) -> dict[str, str]:
    """Temporary keys of the role."""
    sts = client("sts", account.url, account.allowed)
    keys = sts.assume_role(RoleArn=ROLE, RoleSessionName="session")["Credentials"]
    return {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        "aws_session_token": keys["SessionToken"],
    }


def opened(account: Account, **settings: Any) -> trunkline.Service:
    return trunkline.open_service(
        "bedrock", aws_region=REGION, api_url=account.url, default_model=MODEL, max_retries=0, **settings
    )


async def failure(account: Account, **settings: Any) -> RemoteError:
    async with opened(account, **settings) as service:
        with pytest.raises(RemoteError) as caught:
            await service.chat("x")
    assert caught.value.status == 403
    assert settings.get("aws_secret_access_key", "-") not in str(caught.value)
    return caught.value


@pytest.mark.anyio
async def test_the_right_key_chats_streams_and_lists_models(account: Account) -> None:
    async with opened(account, **account.allowed) as service:
        response = await service.chat("Hello")
        assert response.text
        assert response.finish_reason == "stop"
        assert response.id is not None
        async with service.stream("Hello") as stream:
            events = [event async for event in stream]
        assert any(isinstance(event, TextDelta) for event in events)
        assert stream.response.text == response.text
        assert MODEL in [model.id for model in await service.list_models()]


@pytest.mark.parametrize(
    "model",
    [
        "us.anthropic.claude-3-5-sonnet-20240620-v1:0",
        f"arn:aws:bedrock:us-east-1::foundation-model/{MODEL}",
    ],
)
@pytest.mark.anyio
async def test_ids_of_inference_profiles_and_arns_are_signed_as_they_are_sent(account: Account, model: str) -> None:
    async with opened(account, **account.allowed) as service:
        assert (await service.chat(trunkline.ChatRequest(messages="x", model=model))).text


@pytest.mark.anyio
async def test_the_legacy_api_key_signs_as_the_pair_does(account: Account, role: dict[str, str]) -> None:
    pair = ":".join(account.allowed.values())
    for api_key in (pair, ":".join(role.values())):
        async with opened(account, api_key=api_key) as service:
            assert (await service.chat("x")).text


@pytest.mark.anyio
async def test_a_wrong_secret(account: Account) -> None:
    error = await failure(account, **{**account.allowed, "aws_secret_access_key": "w" * 40})
    assert (type(error), error.code) == (AuthenticationError, "InvalidSignatureException")


@pytest.mark.anyio
async def test_an_unknown_key(account: Account) -> None:
    error = await failure(account, **{**account.allowed, "aws_access_key_id": "AKIA0000000000000000"})
    assert (type(error), error.code) == (AuthenticationError, "UnrecognizedClientException")


@pytest.mark.anyio
async def test_no_permission(account: Account) -> None:
    error = await failure(account, **account.refused)
    assert (type(error), error.code) == (PermissionDenied, "AccessDeniedException")


@pytest.mark.anyio
async def test_keys_of_a_role_with_their_token_without_it_and_with_another(
    account: Account, role: dict[str, str]
) -> None:
    async with opened(account, **role) as service:
        assert (await service.chat("x")).text
    without = {name: value for name, value in role.items() if name != "aws_session_token"}
    for keys in (without, {**role, "aws_session_token": role["aws_session_token"][:-4] + "AAAA"}):
        assert type(await failure(account, **keys)) is AuthenticationError


@pytest.mark.anyio
async def test_the_chain_assumes_a_role(account: Account, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config"
    keys = "\n".join(f"{name} = {value}" for name, value in account.allowed.items())
    config.write_text(f"[profile base]\n{keys}\n[profile role]\nrole_arn = {ROLE}\nsource_profile = base\n")
    environment.setenv("AWS_CONFIG_FILE", str(config))
    environment.setenv("AWS_ENDPOINT_URL_STS", account.url)
    async with opened(account, aws_profile="role") as service:
        assert (await service.chat("x")).text


@pytest.mark.anyio
async def test_the_environments_keys(account: Account, environment: pytest.MonkeyPatch, role: dict[str, str]) -> None:
    for name, value in role.items():
        environment.setenv(name.upper(), value)
    async with opened(account) as service, service.stream("x") as stream:
        async for _ in stream:
            pass
        assert stream.response.text


# Where OpenAI's and Anthropic's APIs are, the emulator verifies the signature and then has no such service, except for
# Chat Completions, which it answers.
@pytest.mark.parametrize(
    ("provider", "url", "given"),
    [
        ("bedrock", "openai_url", {"api": "chat", "endpoint": "mantle"}),
        ("bedrock", "openai_url", {"api": "chat", "endpoint": "runtime"}),
        ("bedrock", "openai_url", {"api": "responses"}),
        ("bedrock", "openai_url", {"api": "messages"}),
        ("anthropic-aws", "api_url", {"workspace_id": "wrkspc_1"}),
    ],
    ids=["chat-mantle", "chat-runtime", "responses", "messages", "anthropic-aws"],
)
@pytest.mark.anyio
async def test_the_signatures_of_the_other_apis_are_verified(
    account: Account, provider: str, url: str, given: dict[str, Any]
) -> None:
    async def answer(keys: dict[str, str]) -> str:
        service = trunkline.open_service(
            provider,
            aws_region=REGION,
            default_model="anthropic.claude-opus-4-8",
            max_retries=0,
            **{url: account.url},
            **given,
            **keys,
        )
        async with service:
            try:
                return (await service.chat("x")).text
            except RemoteError as error:
                return str(error)

    refused = "The request signature we calculated does not match"
    assert refused not in await answer(account.allowed)
    assert refused in await answer({**account.allowed, "aws_secret_access_key": "w" * 40})


PICTURE = trunkline.Image(data=b"\x89PNG", media_type="image/png")
OTHER_CALLS: dict[str, Callable[[trunkline.Service], Awaitable[object]]] = {
    "rerank": lambda service: service.rerank("q", ["a", "b"], model="cohere.rerank-v3-5:0"),
    "generate_images": lambda service: service.generate_images("a cat", model="amazon.nova-canvas-v1:0"),
    "embed": lambda service: service.embed([PICTURE], model="amazon.titan-embed-image-v1"),
    "submit_batch": lambda service: service.submit_batch({"a": "Hi"}),  # puts an object into S3 first
}


# The emulator verifies the signature first. Then it has no such operation, or no such bucket.
@pytest.mark.parametrize("name", OTHER_CALLS)
@pytest.mark.anyio
async def test_the_signatures_of_the_other_operations_are_verified(account: Account, name: str) -> None:
    async def error(keys: dict[str, str]) -> RemoteError:
        batches = {"batch_s3_uri": "s3://bucket/batches", "batch_role_arn": ROLE, "s3_url": account.url}
        async with opened(account, control_url=account.url, **batches, **keys) as service:
            with pytest.raises(RemoteError) as caught:
                await OTHER_CALLS[name](service)
        return caught.value

    assert (await error(account.allowed)).code in ("AccessDenied", "NoSuchBucket")
    wrong = await error({**account.allowed, "aws_secret_access_key": "w" * 40})
    assert (type(wrong), wrong.code) == (AuthenticationError, "SignatureDoesNotMatch")
