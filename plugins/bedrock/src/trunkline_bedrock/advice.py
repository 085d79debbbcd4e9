"""What to do about errors of AWS Bedrock. Pure."""

from __future__ import annotations

from trunkline.authoring.advice import Advice, find_advice
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import (
    AuthenticationError,
    ConnectionFailed,
    NotFound,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RemoteError,
    TrunklineError,
    UnexpectedRedirect,
)

from trunkline_bedrock.aws_settings import configured_credentials
from trunkline_bedrock.credentials import BearerToken, Chain
from trunkline_bedrock.endpoints import is_s3
from trunkline_bedrock.errors import is_of_s3, is_skewed
from trunkline_bedrock.model_facts import is_profile
from trunkline_bedrock.regions import did_you_mean_region
from trunkline_bedrock.routing import api_for, endpoint_for
from trunkline_bedrock.settings import BedrockSettings

_SHORT_TERM = "bedrock-api-key-"
"""How a short-term Bedrock API key begins."""

CLOCK = Advice("synchronise the clock of this machine with a time server", problem="clock")
KEY_PAIR = (
    Advice(
        "get new credentials: these were temporary. With IAM Identity Center: `aws sso login`",
        problem="key",
        kind=AuthenticationError,
        codes=("ExpiredTokenException", "ExpiredToken", "RequestExpired", "TokenRefreshRequired"),
    ),
    Advice(
        "check aws_secret_access_key: it does not belong to the access key id",
        problem="key",
        kind=AuthenticationError,
        codes=("SignatureDoesNotMatch", "InvalidSignatureException"),
    ),
)
"""Advice about an IAM key pair, which AWS's services refuse alike."""

_SHORT_KEY = Advice(
    "make a new key: a short-term Bedrock API key expires after 12 hours at most, and with the session that made it",
    problem="key",
)
_SOME_KEY = Advice(
    "make a new Bedrock API key: a short-term one expires after 12 hours at most; AWS_BEARER_TOKEN_BEDROCK may still "
    "hold an old one",
    problem="key",
)
_LONG_KEY = Advice(
    "make a new Bedrock API key in the console of this region (API keys), and check that this one has not expired",
    problem="key",
)


def advice(context: ServiceContext[BedrockSettings], error: TrunklineError) -> Advice | None:
    """Return what to do about an error, or `None`."""
    settings = context.settings
    region = settings.region
    if isinstance(error, AuthenticationError) and is_skewed(error):
        return CLOCK
    custom = settings.api_url is not None or settings.openai_url is not None
    if not custom and isinstance(error, ConnectionFailed) and error.problem == "dns":
        return Advice(
            f"check aws_region: Bedrock may not exist in {region}{did_you_mean_region(region)}; without the internet, "
            "set api_url to a VPC endpoint",
            problem="region",
        )
    if (s3 := _s3_advice(settings, error)) is not None:
        return s3
    found = find_advice(error, _table(region))
    if found is not None and found.problem == "model" and _is_unknown_to_mantle(settings):
        return Advice(
            "set default_model to the model's own id: bedrock-mantle knows no ids of inference profiles and no ARNs",
            problem="model",
        )
    if isinstance(error, AuthenticationError) and (found is None or found.problem == "key"):
        credentials = configured_credentials(settings)
        if isinstance(credentials, BearerToken):
            return _SHORT_KEY if credentials.token.reveal().startswith(_SHORT_TERM) else _LONG_KEY
        # The token of the default chain, if a server says that it got one.
        if isinstance(credentials, Chain) and (
            "bearer token" in error.message.lower() or "api key" in error.message.lower()
        ):
            return _SOME_KEY
    return found


def _s3_advice(settings: BedrockSettings, error: TrunklineError) -> Advice | None:
    if not isinstance(error, RemoteError):
        return None
    url = (error.endpoint or "").partition(" ")[2]
    if not is_of_s3(error) and not (isinstance(error, UnexpectedRedirect) and url and is_s3(settings, url)):
        return None
    return find_advice(
        error,
        (
            Advice(
                f"set batch_s3_uri to a bucket of the region {settings.region}, or aws_region to that of the bucket",
                problem="region",
                codes=("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"),
            ),
            Advice(
                f"set batch_s3_uri to a bucket of the region {settings.region}, or aws_region to that of the bucket",
                problem="region",
                kind=UnexpectedRedirect,
            ),
            Advice(
                "allow s3:PutObject and s3:GetObject below batch_s3_uri in an IAM policy of this user or role, and the "
                "use of the KMS key if the bucket is encrypted with one",
                problem="permission",
                kind=PermissionDenied,
            ),
            Advice(
                "set batch_s3_uri to a bucket that exists",
                problem="settings",
                codes=("NoSuchBucket",),
            ),
            Advice(
                "look for the results in S3: the job wrote none, or they were moved or deleted",
                codes=("NoSuchKey",),
            ),
        ),
    )


def _is_unknown_to_mantle(settings: BedrockSettings) -> bool:
    model = settings.default_model or ""
    api = api_for(settings, model)
    at_mantle = api == "messages" or (api != "converse" and endpoint_for(settings, model) == "mantle")
    return at_mantle and is_profile(model)


def _table(region: str) -> tuple[Advice, ...]:
    return (
        Advice(
            f"set aws_region to the region of the host in the URL, or remove the URL: requests are signed for {region}",
            problem="region",
            kind=AuthenticationError,
            message="credential should be scoped to",
        ),
        *KEY_PAIR,
        Advice(
            "check that the access key exists and is active, and that aws_session_token is set if it begins with ASIA",
            problem="key",
            kind=AuthenticationError,
            message="security token|access key",
        ),
        Advice(
            "add a valid payment method to the AWS account, and wait some minutes",
            problem="quota",
            message="INVALID_PAYMENT_INSTRUMENT",
        ),
        Advice(
            "fill in the use case form in the Bedrock console (Model catalog), and wait 15 minutes",
            problem="permission",
            message="use case details have not been submitted",
        ),
        Advice(
            "set default_model to a newer model: this one is no longer offered to this account",
            problem="model",
            message="marked by provider as legacy|end of its life",
        ),
        Advice(
            "set default_model to the id or ARN of an inference profile, such as the model's id with `us.`, `eu.` or "
            "`apac.` before it; `trunkline models` lists them",
            problem="model",
            message="on-demand throughput isn.t supported",
        ),
        Advice(
            "let an administrator call the model once in the playground of the Bedrock console, or allow "
            "aws-marketplace:Subscribe, aws-marketplace:Unsubscribe and aws-marketplace:ViewSubscriptions in an IAM "
            "policy of this user or role; then wait some minutes",
            problem="permission",
            message="aws.marketplace",
        ),
        Advice(
            f"let an administrator call the model once in the playground of the Bedrock console in {region}, which "
            "subscribes the account to it, and check the policies of the organization (SCP); then wait some minutes",
            problem="permission",
            message="don.t have access to the model|access to the model .*denied|model access is denied",
        ),
        Advice(
            "set api to another API that Bedrock has for this model (chat, responses, messages or converse); if it is "
            "the right one, set the fact mantle_path in model_facts to the model's path, or aws_region to a region "
            "that offers the model",
            problem="model",
            message=r"isn.t supported on this route|does not support the ./",
        ),
        Advice(
            "check that bedrock-mantle offers the model in this region at this path (its model card says so), and that "
            "the account may call it",
            problem="model",
            kind=PermissionDenied,
            codes=("access_denied",),
        ),
        Advice(
            "allow the named action on the named resource in an IAM policy of this user or role, and check the "
            "policies of the organization (SCP); an inference profile also needs the model in each of its regions",
            problem="permission",
            message="not authorized to perform",
        ),
        Advice(
            "ask AWS's support to allow Bedrock for this account: new accounts may be restricted",
            problem="permission",
            message="operation not allowed|subscription|opt.?in",
        ),
        Advice(
            "allow bedrock:InvokeModel and bedrock:InvokeModelWithResponseStream in an IAM policy of this user or role",
            problem="permission",
            kind=PermissionDenied,
        ),
        Advice(
            f"check the id of the model and whether {region} offers it; `trunkline models` lists the models there",
            problem="model",
            message="model identifier is invalid|could not resolve the foundation model|model.* (not found|not exist)",
        ),
        Advice(
            "check api_url: it must be the endpoint of the Bedrock runtime (bedrock-runtime), or be left out; and "
            "openai_url: its path must be that of the API, such as /openai/v1, or be left out",
            problem="url",
            kind=NotFound,
            codes=("UnknownOperationException",),
        ),
        Advice(
            "ask for a higher limit in the console of Service Quotas (Amazon Bedrock), or use an inference profile",
            problem="quota",
            kind=QuotaExhausted,
        ),
        Advice(
            "try again later, or ask for a higher limit in the console of Service Quotas (Amazon Bedrock)",
            problem="rate-limit",
            kind=RateLimited,
        ),
    )
