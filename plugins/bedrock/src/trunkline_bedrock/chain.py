"""AWS's default credential chain, as aiobotocore has it: how it is set up, and what its failures mean.

Nothing here waits: `auth.py` does. Importing aiobotocore and reading AWS's files blocks for up to a second, so
`make_session` is called in a worker thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.errors import AuthenticationError, ConfigurationError, ConnectionFailed, RemoteError, TrunklineError
from trunkline.secrets import Secret, scrub

from trunkline_bedrock.credentials import Keys
from trunkline_bedrock.errors import error_from_facts

if TYPE_CHECKING:
    from trunkline_bedrock.settings import BedrockSettings

_MESSAGE_LIMIT = 500

# At DEBUG these write answers of the token service and signed requests, secrets included, into the log.
_TALKATIVE = (
    "botocore.auth",
    "botocore.credentials",
    "botocore.endpoint",
    "botocore.hooks",
    "botocore.httpsession",
    "botocore.parsers",
    "botocore.regions",
    "botocore.retries.standard",
    "botocore.retryhandler",
    "botocore.tokens",
    "botocore.utils",
    "aiobotocore.credentials",
    "aiobotocore.endpoint",
    "aiobotocore.httpxsession",
    "aiobotocore.retries.standard",
    "aiobotocore.retryhandler",
    "aiobotocore.tokens",
    "aiobotocore.utils",
)

_asking: ContextVar[bool] = ContextVar("trunkline_bedrock_asking", default=False)


def _is_safe(record: logging.LogRecord) -> bool:
    if not _asking.get():
        return True
    if record.levelno >= logging.WARNING:
        # A container's endpoint or the token service may say again what it was asked with.
        record.msg, record.args = scrub(record.getMessage(), tokens_of(os.environ)), ()
        record.exc_info = record.exc_text = None
    return record.levelno > logging.DEBUG


@contextmanager
def asking() -> Iterator[None]:
    """Keep the chain's debug log, which holds secrets, out of the application's while the block runs."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        if _is_safe not in logger.filters:
            logger.addFilter(_is_safe)
    token = _asking.set(True)
    try:
        yield
    finally:
        _asking.reset(token)


async def _origin_form(request: Any) -> None:
    # aiobotocore asks in absolute form, as one asks a proxy; some metadata and token endpoints refuse that.
    request.extensions.pop("target", None)
    if request.url.scheme == "https":
        request.extensions.pop("aiobotocore_raw_proxy_target", None)


def make_session(settings: BedrockSettings, profile: str | None) -> Any:
    """A session of aiobotocore with its credential chain ready. Blocks.

    It uses the HTTP session that runs on both backends; the other follows redirects, and its headers go along.
    """
    from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
    from aiobotocore.httpxsession import HttpxSession  # type: ignore[import-untyped]
    from aiobotocore.session import AioSession  # type: ignore[import-untyped]

    def in_origin_form(self: Any) -> Any:
        client = HttpxSession._make_async_client(self)
        client.event_hooks = {"request": [_origin_form]}
        return client

    class Session(HttpxSession):  # type: ignore[misc]  # aiobotocore has no types
        _make_async_client = in_origin_form

    options: dict[str, Any] = {"warm_up_loader_caches": True, "http_session_cls": Session}
    if settings.proxy is not None and settings.proxy.startswith("http"):
        options["proxies"] = {"http": settings.proxy, "https": settings.proxy}
    session = AioSession(profile=profile)
    session.set_config_variable("region", settings.aws_region)
    if settings.ca_bundle is not None:
        session.set_config_variable("ca_bundle", settings.ca_bundle)
    session.set_default_client_config(AioConfig(**options))
    resolver = session.get_component("credential_provider")
    for provider in resolver.providers:
        for attribute in ("_role_fetcher", "_fetcher"):
            inner = getattr(getattr(provider, attribute, None), "_session", None)
            if isinstance(inner, HttpxSession):
                inner._make_async_client = partial(in_origin_form, inner)
    return session


def relax(source: Any) -> None:
    """Have aiobotocore's credentials refresh themselves only when they have expired: `auth.py` decides when, before."""
    if hasattr(source, "_advisory_refresh_timeout"):
        source._advisory_refresh_timeout = source._mandatory_refresh_timeout = 0


def keys_from(source: Any, frozen: Any) -> tuple[Keys, float | None]:
    """The keys, and when they expire, as a Unix time."""
    if not frozen.access_key or not frozen.secret_key:
        raise AuthenticationError("the credential chain gave an empty access key")
    keys = Keys(
        access_key_id=frozen.access_key,
        secret_access_key=Secret(frozen.secret_key),
        session_token=Secret(frozen.token) if frozen.token else None,
    )
    expiry = getattr(source, "_expiry_time", None)
    return keys, expiry.timestamp() if expiry is not None else None


def check_environment(environ: Mapping[str, str], service: str) -> None:
    """Raise `ConfigurationError` where the environment holds half of an IAM pair."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    missing = [name for name in names if not environ.get(name)]
    if len(missing) == 1:
        there = next(name for name in names if name not in missing)
        raise ConfigurationError(
            f"service {service!r}: the variable {missing[0]} is missing: {there} is set, and the two belong together",
            service=service,
        )


def tokens_of(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The tokens that the chain shows to a container's endpoint and to the token service. Reads files: blocks."""
    found = [environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")]
    for name in ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        with suppress(OSError, UnicodeError):
            found.append(Path(environ[name]).read_text(encoding="utf-8").strip() if name in environ else "")
    return tuple(token for token in found if token)


def none_found(service: str) -> ConfigurationError:
    """The error for a chain that found nothing."""
    return ConfigurationError(
        f"service {service!r} has no AWS credentials: set aws_access_key_id and aws_secret_access_key, or api_key, or "
        f"aws_profile; or give AWS's default chain some (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        f"AWS_BEARER_TOKEN_BEDROCK, AWS_PROFILE, or the role of a container or an instance)",
        service=service,
    )


def failure(error: Exception, *, provider: str, service: str) -> TrunklineError:
    """Our error for what went wrong while the chain was asked."""
    from botocore import exceptions as aws  # type: ignore[import-untyped]

    told = " ".join(str(error).split())[:_MESSAGE_LIMIT] or type(error).__name__
    if isinstance(error, aws.ClientError):
        return _refused(error, provider)
    if isinstance(error, (aws.ConnectionError, aws.HTTPClientError)):
        return ConnectionFailed(f"AWS credentials cannot be fetched: {told}", provider=provider)
    if isinstance(error, aws.PartialCredentialsError):
        return ConfigurationError(f"service {service!r}: half of an IAM pair: {told}", service=service)
    configuration = (
        aws.ProfileNotFound,
        aws.ConfigNotFound,
        aws.ConfigParseError,
        aws.InvalidConfigError,
        aws.UnknownCredentialError,
        aws.MissingDependencyException,
        aws.NoRegionError,
        aws.InvalidRegionError,
        OSError,
        ImportError,
    )
    if isinstance(error, configuration):
        return ConfigurationError(f"service {service!r}: AWS credentials cannot be read: {told}", service=service)
    if "still expired" in told or "expired" in type(error).__name__.lower():
        return AuthenticationError(
            f"the AWS credentials have expired, and a refresh gave no others: {told}", provider=provider
        )
    return AuthenticationError(f"AWS credentials cannot be had: {told}", provider=provider)


def _refused(error: Any, provider: str) -> RemoteError:
    response = error.response if isinstance(getattr(error, "response", None), dict) else {}
    facts, metadata = response.get("Error") or {}, response.get("ResponseMetadata") or {}
    status = metadata.get("HTTPStatusCode")
    operation = getattr(error, "operation_name", "the token service")
    return error_from_facts(
        name=str(facts.get("Code") or "") or None,
        message=f"AWS credentials cannot be had ({operation}): {facts.get('Message') or ''}",
        status=status if isinstance(status, int) else None,
        provider=provider,
        request_id=metadata.get("RequestId"),
    )
