"""The settings in AWS's configuration files and in its environment variables, as the AWS SDKs read them.

`read_aws_files` reads the files. `aws_values` is pure: it finds the settings in what was read and in the environment.
A test compares the result with what botocore does.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping

import attrs
from trunkline.errors import ConfigurationError
from trunkline.settings import setting_error

from trunkline_bedrock.urls import public_endpoint, without_fips

Section = Mapping[str, object]
Found = tuple[object, str]
"""A value, and where it comes from."""

CONFIG_FILE, CREDENTIALS_FILE = "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
MISSING_REGION = (
    "(AWS Region) is required: set it as an argument, in the configuration file, or in "
    f"TRUNKLINE_<SERVICE>_AWS_REGION or {' or '.join(REGION_VARIABLES)}, or set 'region' in an AWS profile"
)
KEY_PAIR = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_PROFILE_VARIABLES = ("AWS_DEFAULT_PROFILE", "AWS_PROFILE")  # in botocore's order
_RUNTIME, _CONTROL = "bedrock_runtime", "bedrock"
"""The names of the two services in a `[services …]` section, and in capitals in the names of variables."""

_KEYS = {
    "region",
    "use_fips_endpoint",
    "use_dualstack_endpoint",
    "endpoint_url",
    "ignore_configured_endpoint_urls",
    "services",
    "ca_bundle",
    "max_attempts",
}


@attrs.frozen(kw_only=True)
class AWSFiles:
    """What AWS's two files contain, without the credentials.

    `profiles` and `services` map the names of sections to their keys. `path` is that of the configuration file.
    """

    profiles: Mapping[str, Section] = attrs.field(factory=dict)
    services: Mapping[str, Section] = attrs.field(factory=dict)
    path: str = "~/.aws/config"


def read_aws_files(environ: Mapping[str, str]) -> AWSFiles:
    """Read AWS's configuration file and its credentials file. Blocks.

    A file that does not exist is empty. If `environ` is not the environment of this process and has no `HOME`, there
    are no default files. Raises `ConfigurationError` for a file that has another format.
    """
    home = "~" if environ is os.environ else environ.get("HOME") or environ.get("USERPROFILE", "")
    paths = [
        environ.get(variable, "").strip() or (f"{home}/.aws/{name}" if home else "")
        for variable, name in ((CONFIG_FILE, "config"), (CREDENTIALS_FILE, "credentials"))
    ]
    if not any(_is_file(path) for path in paths):
        return AWSFiles(path=paths[0] or AWSFiles().path)
    # Only now, since this imports botocore's reader, which takes about 20 ms.
    from botocore.configloader import load_config, raw_config_parse  # type: ignore[import-untyped]
    from botocore.exceptions import ConfigNotFound, ConfigParseError  # type: ignore[import-untyped]

    found = []
    for path, read in zip(paths, (load_config, raw_config_parse), strict=True):
        try:
            found.append(read(path) if path else {})
        except ConfigNotFound:
            found.append({})
        except ConfigParseError as error:
            raise ConfigurationError(parse_error(error)) from None
    config, credentials = found
    profiles: dict[str, dict[str, object]] = {}
    for sections in (config.get("profiles", {}), credentials):  # the second file wins, as in botocore
        for name, section in sections.items():
            kept = {key: value for key, value in section.items() if key in _KEYS}
            profiles.setdefault(name, {}).update(kept)
    return AWSFiles(profiles=profiles, services=config.get("services", {}), path=paths[0])


def _is_file(path: str) -> bool:
    # The methods of `Path` raise errors for an unknown user and for a folder that may not be read.
    return os.path.isfile(os.path.expanduser(os.path.expandvars(path)))  # noqa: PTH111, PTH113


def parse_error(error: object) -> str:
    """Return what is wrong with a file, from botocore's `ConfigParseError`, whose text quotes lines with secrets."""
    details: Mapping[str, object] = getattr(error, "kwargs", {})
    cause = details.get("error")
    lines: list[tuple[int, str]] = getattr(cause, "errors", [])
    line = lines[0][0] if lines else getattr(cause, "lineno", None)
    where = f" (line {line})" if line else ""
    return f"AWS's file {str(details.get('path'))!r} cannot be parsed{where}"


@attrs.frozen(kw_only=True)
class _Source:
    """The environment and the profile in use."""

    environ: Mapping[str, str] = attrs.field(repr=False)
    files: AWSFiles
    profile: str

    def variable(self, name: str) -> Found | None:
        text = self.environ.get(name, "").strip()
        return (text, f"the variable {name}") if text else None

    def key(self, name: str) -> Found | None:
        text = _text(self.files.profiles.get(self.profile, {}).get(name))
        return (text, self.origin(name)) if text else None

    def origin(self, key: str) -> str:
        return f"{key!r} in the profile {self.profile!r} of {self.files.path}"

    def service(self, service: str) -> Found | None:
        """Return the `endpoint_url` of a service in the section that the profile names with `services`."""
        found = self.key("services")
        if found is None:
            return None
        section = self.files.services.get(str(found[0]))
        if not section:
            raise ConfigurationError(f"{found[1]} names the section [services {found[0]}], which does not exist")
        keys = section.get(service)
        text = _text(keys.get("endpoint_url")) if isinstance(keys, Mapping) else ""
        origin = f"'endpoint_url' of {service!r} in [services {found[0]}] of {self.files.path}"
        return (text, origin) if text else None

    def flag(self, variable: str, key: str) -> bool:
        found = self.variable(variable) or self.key(key)
        if found is None:
            return False
        text = str(found[0]).lower()
        if text not in ("true", "false"):
            raise ConfigurationError(f"{found[1]} must be true or false, not {found[0]!r}")
        return text == "true"

    def endpoint_url(self, service: str) -> tuple[Found | None, bool]:
        """Return the configured URL of a service, in botocore's order, and whether it is for this service alone."""
        own, common = self.variable(f"AWS_ENDPOINT_URL_{service.upper()}"), self.variable("AWS_ENDPOINT_URL")
        if own is None and common is None:
            own, common = self.service(service), self.key("endpoint_url")
        return own or common, own is not None


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def chain_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that AWS's default chain reads: those that are not blank, without blanks around the values.

    If they contain a key pair, the profile does not matter, and need not exist.
    """
    found = {name: text for name, value in environ.items() if (text := value.strip())}
    if all(name in found for name in KEY_PAIR):
        for name in _PROFILE_VARIABLES:
            found.pop(name, None)
    return found


def profile_name(given: Mapping[str, object], environ: Mapping[str, str]) -> tuple[str, bool]:
    """Return the profile in use, and whether a setting or a variable names it."""
    named = _text(given.get("aws_profile")) or next(
        (text for name in _PROFILE_VARIABLES if (text := environ.get(name, "").strip())), ""
    )
    return named or "default", bool(named)


def unknown_profile(profile: str, files: AWSFiles) -> str:
    """Return the name of a profile that AWS's files do not have, with that and the profile that was probably meant."""
    near = difflib.get_close_matches(profile, files.profiles, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{profile!r}, which {files.path} does not have{hint}"


def aws_values(
    given: Mapping[str, object],
    environ: Mapping[str, str],
    files: AWSFiles,
    *,
    provider: str,
    endpoints: bool = False,
) -> dict[str, Found]:
    """Return the settings that AWS's variables and the profile have, each with its origin. Pure.

    `given` has the settings that are set for Trunkline; `aws_profile` in it names the profile. The variables of
    single settings, such as `AWS_REGION`, have been read already. `endpoints` adds those about the endpoints of
    Bedrock's runtime and control plane. Raises `ConfigurationError` if there is no region,
    and for a value that cannot be used.
    """
    profile, named = profile_name(given, environ)
    source = _Source(environ=environ, files=files, profile=profile)
    found: dict[str, Found] = {}

    def add(setting: str, value: Found | None) -> None:
        if value is not None and given.get(setting) is None:
            found[setting] = value

    add("aws_region", source.key("region"))
    if given.get("aws_region") is None and "aws_region" not in found:
        lost = named and profile not in files.profiles
        where = f"the profile {unknown_profile(profile, files)}" if lost else source.origin("region")
        raise setting_error("aws_region", f"{MISSING_REGION}; looked for: {where}", provider=provider)
    add("ca_bundle", source.variable("AWS_CA_BUNDLE") or source.key("ca_bundle"))
    if "max_retries" not in given:
        add("max_retries", _max_retries(source.variable("AWS_MAX_ATTEMPTS") or source.key("max_attempts")))
    if endpoints:
        add("use_fips_endpoint", source.key("use_fips_endpoint"))
        add("use_dualstack_endpoint", source.key("use_dualstack_endpoint"))
        _add_endpoints(source, given, found)
    return found


def _max_retries(attempts: Found | None) -> Found | None:
    if attempts is None:
        return None
    text, origin = str(attempts[0]), attempts[1]
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise ConfigurationError(f"{origin} must be a number of attempts, at least 1, not {text!r}")
    return int(text) - 1, origin


def _add_endpoints(source: _Source, given: Mapping[str, object], found: dict[str, Found]) -> None:
    """Add the URLs of the runtime and of the control plane, which AWS configures independently of each other."""
    explicit = given.get("api_url") is not None
    if source.flag("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls"):
        return
    runtime = None if explicit else source.endpoint_url(_RUNTIME)[0]
    if runtime is not None:
        found["api_url"] = runtime
    if given.get("control_url") is not None:
        return
    control, only_control = source.endpoint_url(_CONTROL)
    if control is not None and (only_control or not explicit):
        found["control_url"] = control
    elif runtime is not None:
        # Without this value, the control plane would be looked for at the URL of the runtime.
        region, fips = without_fips(str(given.get("aws_region") or found["aws_region"][0]))
        fips = fips or _is_on("use_fips_endpoint", given, found)
        url = public_endpoint("bedrock", region, fips=fips, dual_stack=_is_on("use_dualstack_endpoint", given, found))
        found["control_url"] = (url, "the public endpoint of the region")


def _is_on(flag: str, given: Mapping[str, object], found: Mapping[str, Found]) -> bool:
    value = found[flag][0] if flag in found else given.get(flag)
    return str(value).lower() in ("true", "yes", "on", "1")  # other texts are refused when the setting is converted
