"""Say in one word what is wrong with a service, and what to do about it, for `trunkline check`.

The provider's own advice (`TrunklineError.advice`) takes precedence. The tables here apply to every provider.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import attrs

from trunkline._base_errors import Problem
from trunkline.authoring.http_errors import is_web_page
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ConfigurationError,
    ConnectionFailed,
    ContentFiltered,
    ContextTooLong,
    NotFound,
    Overloaded,
    PermissionDenied,
    PluginError,
    ProtocolViolation,
    ProviderNotFound,
    QuotaExhausted,
    RateLimited,
    RequestTimeout,
    ServerError,
    StreamInterrupted,
    TotalTimeout,
    TrunklineError,
    UnexpectedRedirect,
    UnsupportedOperation,
)
from trunkline.response import ModelInfo
from trunkline.settings import Settings

_BY_CLASS: Mapping[type[TrunklineError], tuple[Problem, str]] = {
    AuthenticationError: (
        "key",
        "check that the key is complete, was not revoked and has not expired, and that it belongs to the server that "
        "was asked",
    ),
    PermissionDenied: (
        "permission",
        "give this key or role the permission to use the model, or use another one that has it",
    ),
    QuotaExhausted: ("quota", "add credit or raise the limit in the provider's console; waiting does not help"),
    RateLimited: ("rate-limit", "the settings work, but the limit of requests is reached: try again later"),
    Overloaded: ("server", "the provider has no capacity at the moment: try again later"),
    ServerError: ("server", "the provider, or a gateway in front of it, failed: try again later"),
    NotFound: ("url", "check the URL of the service: the server has no such API at that path"),
    UnexpectedRedirect: ("redirect", "set the URL of the service to the one that it redirects to"),
    ProtocolViolation: (
        "not-the-api",
        "check the URL of the service: what answers there is not the provider's API, but perhaps a web page, a login "
        "page of the network, or another API",
    ),
    TotalTimeout: ("timeout", "check that the server is not overloaded, or give it more time with --timeout"),
    RequestTimeout: (
        "timeout",
        "check the host and the port, and whether a firewall blocks them or a proxy is needed (setting 'proxy')",
    ),
    StreamInterrupted: ("connection", "try again; a proxy or a gateway may cut the connection"),
    ContextTooLong: ("model", "set default_model to a model with a larger context"),
    ContentFiltered: ("request", "the key and the model work, but a safety system refused the test request"),
    BadRequest: ("request", "check that default_model is a model for chat, and the settings that go into each request"),
    ConnectionFailed: ("connection", "check the host and the port, and the network of this machine"),
    PluginError: ("unexpected", "update the plugin, or report the error to its authors"),
    ProviderNotFound: (
        "settings",
        "correct the name of the provider, or install it; `trunkline providers` lists the installed ones",
    ),
    ConfigurationError: ("settings", "correct what the message names"),
    UnsupportedOperation: ("settings", "correct the settings that the message names"),
    TrunklineError: ("unexpected", "report the error to the authors of the plugin that it names"),
}
"""The problem of each class of error and what to do about it. The first class that matches wins."""

_BY_SETTING: Mapping[str, Problem] = {
    "api_key": "key",
    "api_url": "url",
    "ca_bundle": "certificate",
    "client_certificate": "certificate",
    "client_key": "certificate",
    "default_model": "model",
    "proxy": "proxy",
}
"""The problem to report if one of these settings is wrong: common settings, and those that most providers have."""

_BY_PROBLEM: Mapping[Problem, str] = {
    "proxy": "check the address of the proxy and whether it may connect to this host; NO_PROXY excludes a host from it",
    "certificate": "set 'ca_bundle' to a file that contains the certificate of the authority",
    "tls": "check whether the URL begins with the right one of http and https",
    "dns": "check the spelling of the host in the URL, and the network of this machine",
    "refused": "check the port, and start the server: is it running?",
}

_UNSET_VARIABLE = "refers to the environment variable"

_OTHER_MODEL = "set default_model to a model that this service offers"


@attrs.frozen(kw_only=True)
class Diagnosis:
    """What is wrong, in a word, what happened, and what to do about it."""

    problem: Problem
    message: str
    advice: str


def diagnose(
    error: TrunklineError,
    settings: Settings | None,
    models: Sequence[ModelInfo] | None,
    *,
    provider: str | None = None,
    proxied: bool = False,
) -> Diagnosis:
    """Return what is wrong and what to do about it.

    `models` are those that the service lists, or `None` if that is not known. Without `settings`, they were
    wrong; `provider` is then the name of their provider, if that is known. `proxied` means that the request went
    through a proxy.
    """
    model = settings.default_model if settings is not None else None
    problem: Problem
    problem, advice = next(value for kind, value in _BY_CLASS.items() if isinstance(error, kind))
    if isinstance(error, ConfigurationError):
        problem = _BY_SETTING.get(_setting(error), problem)
        advice = _setting_advice(error, settings.provider if settings is not None else provider) or advice
    elif getattr(error, "status", None) in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
        problem, advice = _BY_CLASS[NotFound]
    elif is_web_page(error) and isinstance(error, ServerError):
        problem, advice = _BY_CLASS[ServerError]  # of a gateway, which says nothing about the provider
    elif is_web_page(error) and isinstance(error, _REFUSALS):
        problem, advice = _BY_CLASS[ProtocolViolation]
    elif _is_about_model(error, model, models):
        problem, advice = "model", _OTHER_MODEL + ("; `trunkline models` lists them" if models else "")
    elif isinstance(error, AuthenticationError) and settings is not None and _has_no_key(settings):
        advice = "set 'api_key': this service has no key"
    if error.problem is not None:
        problem, advice = error.problem, _BY_PROBLEM.get(error.problem, advice)
        if problem == "proxy" and settings is not None and settings.proxy is not None:
            advice = "check the setting 'proxy': its address, and whether that proxy may connect to this host"
    advice = error.advice or advice
    if problem == "timeout" and proxied:
        advice += "; the proxy may also hold the request up"
    near = near_models(model, models) if problem in ("model", "deployment", "permission") else []
    if near:
        advice += f"; listed models with a similar name: {', '.join(near)}"
    return Diagnosis(problem=problem, message=_without_advice(error), advice=advice)


_REFUSALS = (AuthenticationError, PermissionDenied, BadRequest)


def _setting(error: ConfigurationError) -> str:
    """Return the setting that is wrong, or an empty string if there are several or none."""
    errors = error.errors or (error,)
    return errors[0].setting or "" if len(errors) == 1 else ""


def _setting_advice(error: ConfigurationError, provider: str | None) -> str | None:
    """Return what to do about settings that are wrong, or `None` if it is something else that is wrong."""
    errors = [single for single in error.errors or (error,) if single.setting is not None]
    if not errors or isinstance(error, (PluginError, ProviderNotFound)):
        return None
    if all(_UNSET_VARIABLE in str(single) for single in errors):
        return "set this environment variable where the command runs, or correct its name in the reference"
    described = f"; `trunkline settings {provider}` describes each" if provider else ""
    return f"correct the {'setting' if len(errors) == 1 else 'settings'}{described}"


def _has_no_key(settings: Settings) -> bool:
    return getattr(settings, "api_key", "") is None and not settings.ambient_credentials and not settings.secrets()


def _without_advice(error: TrunklineError) -> str:
    return str(error).removesuffix(f"; {error.advice}")


def _is_about_model(error: TrunklineError, model: str | None, models: Sequence[ModelInfo] | None) -> bool:
    """Whether a server refused the model and not the path: it names it, or it lists others."""
    if not isinstance(error, (NotFound, BadRequest)) or isinstance(error, (ContextTooLong, ContentFiltered)):
        return False
    if isinstance(error, BadRequest):
        return model is not None and not_listed(model, models)
    text = error.message.lower()
    names_it = "model" in text or "deployment" in text or bool(model and model.lower() in text)
    return names_it or (model is not None and not_listed(model, models))


def not_listed(model: str, models: Sequence[ModelInfo] | None) -> bool:
    """Whether a list of models is known, and has no model of this name, in any of the forms that servers accept.

    An ARN is a name for itself, which no list has.
    """
    if not models or model.startswith("arn:"):
        return False
    names = {name for info in models for name in _names(info)}
    return _plain(model) not in names


def near_models(model: str | None, models: Sequence[ModelInfo] | None) -> list[str]:
    """Return up to three listed models whose names are most like `model`, or none if it is listed itself."""
    if not model or not not_listed(model, models):
        return []
    ids = {_plain(info.id): info.id for info in models or ()}
    wanted = _plain(model)
    found = difflib.get_close_matches(wanted, ids, n=3, cutoff=0.5)
    found += [name for name in ids if len(wanted) > 2 and wanted in name and name not in found]
    return [ids[name] for name in found[:3]]


def _names(info: ModelInfo) -> set[str]:
    aliases = info.raw.get("aliases")
    names = [info.id, *(aliases if isinstance(aliases, list) else ())]
    return {_plain(name) for name in names if isinstance(name, str)}


def _plain(name: str) -> str:
    """Return a model's name without the prefix and the tag that servers let users leave out."""
    return name.lower().removeprefix("models/").removesuffix(":latest")
