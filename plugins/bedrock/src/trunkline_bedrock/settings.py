"""The settings of `bedrock`, and which credentials they configure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from trunkline.authoring.json import JSONObject
from trunkline.authoring.model_facts import ModelFactsSetting, model_facts_setting
from trunkline.authoring.urls import plain_http_note
from trunkline.secrets import Secret
from trunkline.settings import Alternative, Converted, Settings, any_case, setting, settings, url_setting

from trunkline_bedrock.aws_config import aws_values, read_aws_files
from trunkline_bedrock.aws_settings import CREDENTIALS, AWSSettings, aws_alternatives, configured_credentials
from trunkline_bedrock.credentials import BearerToken, Chain, Keys, read_api_key
from trunkline_bedrock.model_facts import BedrockFacts
from trunkline_bedrock.urls import (
    NO_DUAL_STACK,
    S3_URI,
    Place,
    base_url,
    control_url,
    is_public,
    place_of,
    split_s3_uri,
    without_fips,
)

_NO_LOGIN_NOR_QUERY: JSONObject = {"not": {"type": "string", "pattern": "[?]|^(?:[^/]*:/|[^/]*//)?[^/?#]*@"}}
_WITHOUT_DUAL_STACK: JSONObject = {
    "required": ["aws_region", "use_dualstack_endpoint"],
    "properties": {
        "aws_region": {"type": "string", "pattern": rf"^\s*(?:fips-)?(?:{'|'.join(NO_DUAL_STACK)})"},
        "use_dualstack_endpoint": {
            "anyOf": [
                {"const": True},
                {"type": "string", "pattern": rf"^\s*(?:{'|'.join(map(any_case, ('true', 'yes', 'on', '1')))})\s*$"},
            ]
        },
    },
}
"""The schema of the tables that ask for dual-stack endpoints in a region that has none."""


_s3_root = control_url  # in the class below, this is the name of a setting

# botocore's model of `RoleArn`.
_ROLE = re.compile(r"arn:aws(?:-[^:]+)?:iam::[0-9]{12}:role/[!-~]+")


def _convert_s3_uri(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"an S3 URI such as s3://bucket/folder, not {value!r}")
    split_s3_uri(value.strip())
    return value.strip()


def _convert_role(value: object) -> str:
    if isinstance(value, str) and _ROLE.fullmatch(value.strip()):
        return value.strip()
    raise ValueError(f"the ARN of an IAM role, such as arn:aws:iam::123456789012:role/batches, not {value!r}")


@settings
class BedrockSettings(AWSSettings):
    """How to reach AWS Bedrock, and the credentials to use.

    The credential settings are taken from one source together (argument, file, `TRUNKLINE_*` variables). Within that
    source the IAM key pair comes first, then `api_key`, then `aws_profile`. Without any of them, AWS's default chain
    provides the credentials; only that chain reads the `AWS_*` credential variables.
    """

    provider: ClassVar[str] = "bedrock"
    display_name: ClassVar[str] = "AWS Bedrock"
    model_examples: ClassVar[tuple[str, ...]] = ("us.anthropic.claude-sonnet-4-6",)
    bearer_variable: ClassVar[str | None] = "AWS_BEARER_TOKEN_BEDROCK"
    ambient_credentials: ClassVar[str] = (
        "the environment variable AWS_BEARER_TOKEN_BEDROCK, or signatures with the credentials of AWS's configuration"
    )
    alternatives: ClassVar[tuple[Alternative, ...]] = aws_alternatives(
        Alternative(
            title="Bedrock API key",
            description="A key from the Bedrock console, short-term or long-term.",
            settings=("api_key",),
            required=("api_key",),
        )
    )

    schema_rules: ClassVar[tuple[JSONObject, ...]] = ({"not": _WITHOUT_DUAL_STACK},)

    api_url: str | None = url_setting(
        "Custom Endpoint URL",
        "The URL of Bedrock's runtime, instead of the region's public endpoint: a VPC endpoint, or a proxy, with or "
        "without a path. By default, it is what `AWS_ENDPOINT_URL_BEDROCK_RUNTIME`, `AWS_ENDPOINT_URL` or the AWS "
        "profile say.",
        default=None,
        base_url=base_url,
        schema=_NO_LOGIN_NOR_QUERY,
    )
    control_url: str | None = url_setting(
        "Control Plane URL",
        "The URL of Bedrock's control plane, which lists models. By default, it is what `AWS_ENDPOINT_URL_BEDROCK`, "
        "`AWS_ENDPOINT_URL` or the AWS profile say; without them it follows from `api_url` or the region.",
        default=None,
        base_url=control_url,
        schema=_NO_LOGIN_NOR_QUERY,
        advanced=True,
    )
    openai_url: str | None = url_setting(
        "OpenAI API URL",
        "The URL of OpenAI's and Anthropic's APIs, instead of `api_url` or the region's public endpoint: a VPC "
        "endpoint of `bedrock-mantle`, or a proxy. A path such as `/openai/v1` is used for all models.",
        default=None,
        environment=("AWS_BEDROCK_BASE_URL",),
        base_url=base_url,
        schema=_NO_LOGIN_NOR_QUERY,
        advanced=True,
    )
    api: Literal["auto", "converse", "chat", "responses", "messages"] = setting(
        "API",
        "The API to use. `auto` chooses by the model: Converse, unless Bedrock serves the model only with OpenAI's "
        "APIs.",
        default="auto",
        group="Requests",
        choices={
            "auto": "By the model.",
            "converse": "AWS's own Converse API.",
            "chat": "OpenAI's Chat Completions API.",
            "responses": "OpenAI's Responses API.",
            "messages": "Anthropic's Messages API, for Claude at bedrock-mantle.",
        },
    )
    endpoint: Literal["auto", "mantle", "runtime"] = setting(
        "Endpoint",
        "The hosts that serve OpenAI's APIs. `auto` is `bedrock-mantle`, except for the ids of inference profiles "
        "(`us.…`) and for a URL that names other hosts. `mantle` is used for all models, with OpenAI's APIs or "
        "Anthropic's.",
        default="auto",
        group="Requests",
        choices={
            "auto": "By the model and the URL.",
            "mantle": "bedrock-mantle, also for models that have Converse.",
            "runtime": "bedrock-runtime.",
        },
        advanced=True,
    )
    use_fips_endpoint: bool = setting(
        "Use FIPS Endpoint",
        "Call the region's endpoint whose cryptography is validated under FIPS 140. A custom URL wins over it.",
        default=False,
        environment=("AWS_USE_FIPS_ENDPOINT",),
        group="Connection",
        advanced=True,
    )
    use_dualstack_endpoint: bool = setting(
        "Use Dual-Stack Endpoint",
        "Call the region's endpoint that has IPv4 and IPv6 addresses. A custom URL wins over it.",
        default=False,
        environment=("AWS_USE_DUALSTACK_ENDPOINT",),
        group="Connection",
        advanced=True,
    )
    api_key: Converted[Secret | None, str] = setting(
        "API Key",
        "A Bedrock API key (bearer token), or `access_key_id:secret_access_key`, or "
        "`access_key_id:secret_access_key:session_token`.",
        default=None,
        source_group=CREDENTIALS,
        group="Authentication",
        schema={
            "type": "string",
            "pattern": "^[!-9;-~]+(?::[!-9;-~]+){0,2}$",
        },
    )
    batch_s3_uri: str | None = setting(
        "S3 Location of Batches",
        "Where the requests and results of batches are stored: a place in a bucket of the region.",
        default=None,
        convert=_convert_s3_uri,
        schema={"type": "string", "pattern": f"^{S3_URI.pattern}$"},
        group="Batches",
        examples=("s3://my-bucket/batches",),
        advanced=True,
    )
    batch_role_arn: str | None = setting(
        "IAM Role of Batches",
        "The ARN of the IAM role that Bedrock assumes to read and write the objects of batches in S3.",
        default=None,
        convert=_convert_role,
        schema={"type": "string", "pattern": f"^{_ROLE.pattern}$"},
        group="Batches",
        examples=("arn:aws:iam::123456789012:role/bedrock-batches",),
        advanced=True,
    )
    s3_url: str | None = url_setting(
        "S3 Endpoint URL",
        "The URL of S3, which stores batches, instead of the region's public endpoint.",
        default=None,
        environment=("AWS_ENDPOINT_URL_S3",),
        base_url=_s3_root,
        schema=_NO_LOGIN_NOR_QUERY,
        group="Batches",
        advanced=True,
    )
    model_facts: ModelFactsSetting = model_facts_setting(BedrockFacts)

    @classmethod
    def machine_values(
        cls, given: Mapping[str, object], environ: Mapping[str, str]
    ) -> Mapping[str, tuple[object, str]]:
        """Return the settings in AWS's variables and in the profile of AWS's files. Raises `ConfigurationError`."""
        return aws_values(given, environ, read_aws_files(environ), provider=cls.provider, endpoints=True)

    @property
    def uses_fips(self) -> bool:
        """Whether the FIPS endpoint is called. AWS's old names of regions, such as `fips-us-east-1`, also say so."""
        return self.use_fips_endpoint or without_fips(self.aws_region or "")[1]

    @property
    def uses_dualstack(self) -> bool:
        """Whether the endpoint with IPv4 and IPv6 addresses is called."""
        return self.use_dualstack_endpoint

    @property
    def openai_place(self) -> Place | None:
        """Where the URLs of the settings say that OpenAI's and Anthropic's APIs are."""
        if self.openai_url is not None:
            return place_of(base_url(self.openai_url)[0])
        url = base_url(self.api_url)[0] if self.api_url is not None else None
        # The region's public runtime is also the default of `api_url`, so it says nothing about the other endpoint.
        return place_of(url) if url is not None and not is_public(url, self.region) else None

    @property
    def only_mantle(self) -> bool:
        """Whether every model is called at `bedrock-mantle`, which has no Converse."""
        if self.api == "converse":
            return False
        if self.endpoint != "auto":
            return self.endpoint == "mantle"
        return self.api_url is not None and place_of(base_url(self.api_url)[0]).endpoint == "mantle"

    def key_credentials(self) -> Keys | BearerToken | None:
        """Return the credentials in `api_key`, which may contain an IAM key pair."""
        return read_api_key(self.api_key) if self.api_key is not None else None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report a missing region, and credentials that cannot be sent."""
        yield from AWSSettings.problems(self)
        yield from self.separate_problems(self._dual_stack_problems, self._api_key_problems, self._endpoint_problems)

    def _dual_stack_problems(self) -> Iterator[tuple[str, str]]:
        if self.use_dualstack_endpoint and self.region.startswith(NO_DUAL_STACK):
            yield "use_dualstack_endpoint", f"is not possible in the region {self.region}"

    def _endpoint_problems(self) -> Iterator[tuple[str, str]]:
        for name, url in (("api_url", self.api_url), ("openai_url", self.openai_url)):
            place = place_of(base_url(url)[0]) if url is not None else None
            # OpenAI's client refuses both endpoints. As `api_url`, botocore accepts any host of the runtime.
            other_region = place is not None and place.region not in (None, self.region)
            if place is not None and other_region and (place.endpoint == "mantle" or name == "openai_url"):
                yield name, f"is a host of the region {place.region}, but aws_region is {self.region}"
            if self.api == "converse" and name == "api_url" and place is not None and place.endpoint == "mantle":
                why = "because api_url names bedrock-mantle, and only bedrock-runtime serves it"
                yield "api", f"cannot be converse, {why}"
        place = self.openai_place
        if self.api == "messages" and place is not None and place.endpoint == "runtime":
            name = "openai_url" if self.openai_url is not None else "api_url"
            yield "api", f"cannot be messages, because {name} names bedrock-runtime, and only bedrock-mantle serves it"
        if place is not None and place.endpoint is not None and self.endpoint not in ("auto", place.endpoint):
            name = "openai_url" if self.openai_url is not None else "api_url"
            yield "endpoint", f"is {self.endpoint}, but {name} names a host of bedrock-{place.endpoint}"

    def _api_key_problems(self) -> Iterator[tuple[str, str]]:
        if self.api_key is not None:
            try:
                read_api_key(self.api_key)
            except ValueError as error:
                yield "api_key", f"must be {error}"

    def notes(self) -> Iterator[tuple[str, str]]:
        """Report what the base class does, a FIPS endpoint that is not called, and plain HTTP for a bearer token."""
        yield from Settings.notes(self)
        if self.uses_fips:
            for name in ("api_url", "openai_url"):
                if getattr(self, name) is not None:
                    yield "use_fips_endpoint", f"has no effect, because {name} names the endpoint"
        if (self.api, self.endpoint) in (("converse", "mantle"), ("messages", "runtime")):
            yield "endpoint", f"has no effect, because api is {self.api}, which only the other endpoint serves"
        uses_chain = isinstance(configured_credentials(self), Chain)
        if uses_chain and self.proxy is not None and not self.proxy.startswith("http"):
            yield "proxy", "is not used to fetch AWS credentials, such as those of a role, since it is no HTTP proxy"
        for name, url in (("api_url", self.api_url), ("openai_url", self.openai_url)):
            note = plain_http_note(base_url(url)[0]) if url is not None and uses_chain else None
            if note is not None:
                yield name, note
