"""AWS's default credential chain, as aiobotocore implements it: how it is set up, and what its failures mean.

`auth` does the waiting. Importing aiobotocore and reading AWS's files blocks for up to a second, so `make_session` is
called in a worker thread.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.authoring.json import as_object, as_string
from trunkline.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    ProtocolViolation,
    RemoteError,
    TrunklineError,
)
from trunkline.secrets import Secret, scrub

from trunkline_bedrock.aws_config import KEY_PAIR, chain_environment, parse_error, read_aws_files, unknown_profile
from trunkline_bedrock.credentials import Keys
from trunkline_bedrock.errors import make_error

if TYPE_CHECKING:
    from trunkline_bedrock.aws_settings import AWSSettings

_MESSAGE_LIMIT = 500

# Set while this plugin asks the chain. The application may use botocore too, and its log is left alone.
_asking: ContextVar[bool] = ContextVar("trunkline_bedrock_asking", default=False)


def _is_safe(record: logging.LogRecord) -> bool:
    if not _asking.get():
        return True
    if record.args == ("mandatory",):  # a refresh failed; the error that follows is raised, with its reason
        return False
    if record.levelno >= logging.WARNING:
        # A container's endpoint or the token service may repeat the token that it was sent.
        record.msg, record.args = scrub(record.getMessage(), sent_tokens(os.environ)), ()
        record.exc_info = record.exc_text = None
    return record.levelno > logging.DEBUG


@contextmanager
def quiet_log() -> Iterator[None]:
    """Keep the chain's debug log, which contains secrets, out of the application's log while the block runs."""
    token = _asking.set(True)
    try:
        yield
    finally:
        _asking.reset(token)


def make_session(settings: AWSSettings, profile: str | None) -> Any:
    """Create an aiobotocore session with its credential chain. Blocks.

    It uses the HTTP session that runs on asyncio and trio. aiobotocore's other one runs only on asyncio, and follows
    redirects with the headers of the request, tokens included.
    """
    from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
    from aiobotocore.session import AioSession  # type: ignore[import-untyped]

    from trunkline_bedrock import _aiobotocore, _botocore

    for name in (*_botocore.DEBUG_LOGGERS, *_aiobotocore.DEBUG_LOGGERS):
        logger = logging.getLogger(name)
        if _is_safe not in logger.filters:
            logger.addFilter(_is_safe)
    options: dict[str, Any] = {"warm_up_loader_caches": True, "http_session_cls": _aiobotocore.LimitedSession}
    if settings.proxy is not None and settings.proxy.startswith("http"):
        options["proxies"] = {"http": settings.proxy, "https": settings.proxy}
    session = AioSession(profile=profile)
    session.set_config_variable("region", settings.region)
    session.set_config_variable("use_fips_endpoint", settings.uses_fips)
    session.set_config_variable("use_dualstack_endpoint", settings.uses_dualstack)
    if settings.ca_bundle is not None:
        session.set_config_variable("ca_bundle", settings.ca_bundle)
    session.set_default_client_config(AioConfig(**options))
    _botocore.read_environment(session, chain_environment(os.environ))
    resolver = session.get_component("credential_provider")
    _aiobotocore.limit_metadata_sessions(resolver)
    _botocore.never_prompt(resolver, _refuse_prompt)
    return session


class _MFARequired(Exception):
    """A role requires an MFA code. The text is the prompt for it."""


def _refuse_prompt(prompt: str) -> str:
    raise _MFARequired(prompt)


def leave_refreshing_to_us(credentials: Any) -> None:
    """Keep aiobotocore's credentials from refreshing themselves: `auth.ChainAuth` does."""
    from trunkline_bedrock._botocore import refresh_only_when_missing

    refresh_only_when_missing(credentials)


def keys_of(credentials: Any, frozen: Any) -> tuple[Keys, float | None]:
    """Return the keys of aiobotocore's credentials, and when they expire, as a Unix time.

    `frozen` is what `get_frozen_credentials` returned. Raises `AuthenticationError` if a key is empty.
    """
    from trunkline_bedrock._botocore import expiry_time

    if not frozen.access_key or not frozen.secret_key:
        raise AuthenticationError("AWS's credential chain returned an empty access key")
    # A variable that was filled from a file often ends with a line break, which no key contains.
    token = (frozen.token or "").strip()
    keys = Keys(
        access_key_id=frozen.access_key.strip(),
        secret_access_key=Secret(frozen.secret_key.strip()),
        session_token=Secret(token) if token else None,
    )
    return keys, expiry_time(credentials)


def check_environment(environ: Mapping[str, str], service: str) -> None:
    """Raise `ConfigurationError` if the environment contains half of an IAM key pair."""
    missing = [name for name in KEY_PAIR if not environ.get(name, "").strip()]
    if len(missing) == 1:
        present = next(name for name in KEY_PAIR if name not in missing)
        raise ConfigurationError(
            f"service {service!r}: the variable {missing[0]} is missing: {present} is set, and the two belong together",
            service=service,
        )


def sent_tokens(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the tokens that the chain sends to a container's endpoint and to the token service. Reads files: blocks.

    They are secret, and neither the settings nor the resulting credentials contain them.
    """
    tokens = [environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "").strip()]
    for name in ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        path = environ.get(name, "").strip()
        with suppress(OSError, UnicodeError, ValueError):
            tokens.append(Path(path).read_text(encoding="utf-8").strip() if path else "")
    return tuple(token for token in tokens if token)


def no_credentials(service: str, bearer_variable: str | None) -> ConfigurationError:
    """Return the error for a chain that found no credentials."""
    token = f"{bearer_variable}, " if bearer_variable is not None else ""
    return ConfigurationError(
        f"service {service!r} has no AWS credentials: set aws_access_key_id and aws_secret_access_key, or api_key, or "
        f"aws_profile; or provide some to AWS's default chain (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        f"{token}AWS_PROFILE, or the role of a container or an instance)",
        service=service,
    )


def _profile_with(session: Any, profile: str, *keys: str) -> str:
    """Return the profile that has one of the keys: `profile`, or one that it takes its credentials from."""
    profiles = as_object(as_object(session.full_config).get("profiles"))
    name: str | None = profile
    for _ in profiles:  # botocore refuses profiles that name each other in a circle
        section = as_object(profiles.get(name or ""))
        if any(key in section for key in keys):
            return name or profile
        name = as_string(section.get("source_profile"))
    return profile


def chain_error(error: Exception, *, provider: str, service: str, profile: str, session: Any) -> TrunklineError:
    """Return the core's error for an exception that the chain raised. Blocks, since it may read AWS's files.

    `profile` is the one in use. `session` is what `make_session` returned, or `None` if it raised the exception.
    """
    from botocore import exceptions as aws  # type: ignore[import-untyped]

    if isinstance(error, _MFARequired):
        device = str(error).removeprefix("Enter MFA code for ").rstrip(": ")
        return ConfigurationError(
            f"service {service!r}: the AWS profile {profile!r} assumes a role that requires an MFA code of {device}, "
            f"and a service cannot ask for it",
            service=service,
            advice="use a profile with SSO or without mfa_serial, or set the temporary keys that "
            "`aws sts assume-role --serial-number … --token-code …` returns",
        )
    if isinstance(error, aws.ConfigParseError):
        return ConfigurationError(f"service {service!r}: {parse_error(error)}", service=service)
    if isinstance(error, aws.ProfileNotFound):
        unknown = unknown_profile(profile, read_aws_files(os.environ))
        return ConfigurationError(f"service {service!r}: there is no AWS profile {unknown}", service=service)
    message = " ".join(str(error).split())[:_MESSAGE_LIMIT] or type(error).__name__
    if isinstance(error, aws.HTTPClientError) and isinstance(broken := error.kwargs.get("error"), ProtocolViolation):
        return ProtocolViolation(broken.message, provider=provider)  # of `LimitedSession`
    if isinstance(error, aws.ClientError):
        return _token_service_error(error, provider)
    if isinstance(error, (aws.ConnectionError, aws.HTTPClientError)):
        return ConnectionFailed(f"fetching AWS credentials failed: {message}", provider=provider)
    if isinstance(error, aws.PartialCredentialsError) and error.kwargs.get("provider") == "assume-role":
        return ConfigurationError(
            f"service {service!r}: the AWS profile {profile!r}, or its source_profile, has a role_arn, but no "
            f"{error.kwargs.get('cred_var')}",
            service=service,
        )
    if isinstance(error, aws.PartialCredentialsError):
        return ConfigurationError(
            f"service {service!r}: half of an IAM key pair is missing: {message}", service=service
        )
    configuration = (
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
    if isinstance(error, OSError) and error.filename is None and session is not None:
        bundle = session.get_config_variable("ca_bundle")  # the `ssl` module does not name the file that it cannot load
        message += f" (CA bundle {bundle!r})" if bundle else ""
    if isinstance(error, configuration):
        return ConfigurationError(f"service {service!r}: reading AWS credentials failed: {message}", service=service)
    if isinstance(error, (aws.SSOError, aws.TokenRetrievalError)):
        return AuthenticationError(
            f"the AWS SSO session has expired, or does not exist ({message})",
            provider=provider,
            advice=f"run `aws sso login --profile {_profile_with(session, profile, 'sso_session', 'sso_start_url')}`",
        )
    if isinstance(error, aws.LoginError) and not isinstance(error, aws.LoginInsufficientPermissions):
        return AuthenticationError(
            f"the session of `aws login` has expired, or does not exist ({message})",
            provider=provider,
            advice=f"run `aws login --profile {_profile_with(session, profile, 'login_session')}`",
        )
    if "still expired" in message or "expired" in type(error).__name__.lower():
        return AuthenticationError(
            f"the AWS credentials have expired, and a refresh returned no new ones: {message}", provider=provider
        )
    if isinstance(error, (json.JSONDecodeError, LookupError, AttributeError, TypeError, UnicodeError)):
        # botocore does not check what a `credential_process` prints, and what the files of its caches contain.
        message = f"a source of the profile {profile!r} returned something else ({type(error).__name__}: {message})"
    option = "" if profile == "default" else f" --profile {profile}"
    return AuthenticationError(
        f"AWS credentials are not available: {message}",
        provider=provider,
        advice=f"run `aws sts get-caller-identity{option}` on this machine: if the AWS CLI has no credentials either, "
        "correct their source in AWS's configuration",
    )


def _token_service_error(error: Any, provider: str) -> RemoteError:
    response = as_object(getattr(error, "response", None))
    fields, metadata = as_object(response.get("Error")), as_object(response.get("ResponseMetadata"))
    status = metadata.get("HTTPStatusCode")
    operation = getattr(error, "operation_name", "the token service")
    return make_error(
        name=str(fields.get("Code") or "") or None,
        message=f"AWS credentials are not available ({operation}): {fields.get('Message') or ''}",
        status=status if isinstance(status, int) else None,
        provider=provider,
        request_id=as_string(metadata.get("RequestId")),
    )
