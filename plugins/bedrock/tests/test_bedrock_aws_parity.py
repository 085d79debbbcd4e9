"""AWS's variables and profiles mean what they mean to botocore: one generated table, each case compared.

For each case botocore's own clients build a request, which an event handler takes before it is sent. The URL, the
region in its signature, the number of attempts and the CA bundle must be ours. Where Trunkline differs on purpose, the
case is compared with what botocore does once the difference is written out: see `_as_botocore`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, cast
from urllib.parse import urlsplit

import attrs
import botocore.config
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader
from trunkline._config.sources import make_settings
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import ConfigurationError, UnsupportedOperation
from trunkline_bedrock import BedrockSettings, bedrock
from trunkline_bedrock.endpoints import control_base, runtime_base

SAMPLE = 60
"""Every how many cases one is compared without `--exhaustive`."""

REGIONS = (
    "us-east-1",
    "us-gov-west-1",
    "cn-north-1",
    "eusc-de-east-1",
    "us-iso-east-1",
    "us-isob-east-1",
    "eu-isoe-west-1",
    "us-isof-south-1",
    "fips-us-east-1",
    "xx-moon-1",
)
KEYS = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "secret"}
A, B, C, D, E, F = (f"https://{letter}.example" for letter in "abcdef")


@attrs.frozen(kw_only=True)
class Part:
    """What one choice adds to a case: settings of Trunkline, variables, lines of the profile, and other sections."""

    name: str
    given: dict[str, object] = attrs.field(factory=dict)
    env: dict[str, str] = attrs.field(factory=dict)
    profile: tuple[str, ...] = ()
    sections: str = ""


REGION_SOURCES = (
    Part(name="setting", given={"aws_region": "@"}),
    Part(name="AWS_REGION", env={"AWS_REGION": "@", "AWS_DEFAULT_REGION": "us-west-1"}),
    Part(name="AWS_DEFAULT_REGION", env={"AWS_DEFAULT_REGION": "@"}, profile=("region = us-west-1",)),
    Part(name="profile", profile=("region = @",)),
    Part(name="blank variable", env={"AWS_DEFAULT_REGION": ""}, profile=("region = @",)),
    Part(name="no region"),
)
PROFILES = (
    Part(name="default"),
    Part(name="AWS_PROFILE", env={"AWS_PROFILE": "dev"}),
    Part(name="AWS_DEFAULT_PROFILE", env={"AWS_DEFAULT_PROFILE": "dev", "AWS_PROFILE": "other"}),
    Part(name="setting", given={"aws_profile": "dev"}, env={"AWS_PROFILE": "other"}),
    Part(name="missing", env={"AWS_PROFILE": "gone"}),
)


def flags(key: str) -> tuple[Part, ...]:
    variable = f"AWS_{key.upper()}"
    return (
        Part(name="unset"),
        Part(name="variable", env={variable: "true"}),
        Part(name="profile", profile=(f"{key} = true",)),
        Part(name="variable against profile", env={variable: "false"}, profile=(f"{key} = True",)),
        Part(name="setting", given={key: True}, env={variable: "false"}),
        Part(name="one", env={variable: "1"}),
    )


FIPS, DUAL_STACK = flags("use_fips_endpoint"), flags("use_dualstack_endpoint")
RUNTIME, CONTROL, COMMON = "AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_ENDPOINT_URL_BEDROCK", "AWS_ENDPOINT_URL"
SERVICES = f"[services s]\nbedrock_runtime =\n  endpoint_url = {D}\nbedrock =\n  endpoint_url = {E}\n"
ENDPOINTS = (
    Part(name="none"),
    Part(name="setting", given={"api_url": F}, env={COMMON: A}, profile=(f"endpoint_url = {B}",)),
    Part(name="setting and own", given={"api_url": F}, env={CONTROL: A, RUNTIME: B}),
    Part(name="both settings", given={"api_url": F, "control_url": E}, env={CONTROL: A, RUNTIME: B}),
    Part(name="common", env={COMMON: A}),
    Part(name="runtime", env={RUNTIME: B}),
    Part(name="control", env={CONTROL: C}),
    Part(name="all variables", env={COMMON: A, RUNTIME: B, CONTROL: C}, profile=(f"endpoint_url = {D}",)),
    Part(name="common before section", env={COMMON: A}, profile=("services = s",), sections=SERVICES),
    Part(name="section", profile=("services = s", f"endpoint_url = {B}"), sections=SERVICES),
    Part(
        name="section of one",
        profile=("services = s", f"endpoint_url = {B}"),
        sections=f"[services s]\nbedrock =\n  endpoint_url = {E}\n",
    ),
    Part(name="section is missing", profile=("services = s", f"endpoint_url = {B}")),
    Part(name="profile", profile=(f"endpoint_url = {B}",)),
    Part(name="path", env={COMMON: f"{A}/aws/"}),
    Part(name="blank", env={COMMON: ""}, profile=(f"endpoint_url = {B}",)),
)
IGNORE_VARIABLE = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"
IGNORED = (
    Part(name="unset"),
    Part(name="variable", env={IGNORE_VARIABLE: "true"}),
    Part(name="profile", profile=("ignore_configured_endpoint_urls = true",)),
    Part(
        name="variable against profile",
        env={IGNORE_VARIABLE: "False"},
        profile=("ignore_configured_endpoint_urls = true",),
    ),
)
BUNDLES = (
    Part(name="unset"),
    Part(name="setting", given={"ca_bundle": "/setting.pem"}, env={"AWS_CA_BUNDLE": "/variable.pem"}),
    Part(name="variable", env={"AWS_CA_BUNDLE": "/variable.pem"}, profile=("ca_bundle = /profile.pem",)),
    Part(name="profile", profile=("ca_bundle = /profile.pem",)),
)
ATTEMPTS = (
    Part(name="unset"),
    Part(name="setting", given={"max_retries": 7}, env={"AWS_MAX_ATTEMPTS": "3"}),
    Part(name="variable", env={"AWS_MAX_ATTEMPTS": "3"}, profile=("max_attempts = 9",)),
    Part(name="profile", profile=("max_attempts = 9",)),
    Part(name="one", env={"AWS_MAX_ATTEMPTS": "1"}),
    Part(name="no number", env={"AWS_MAX_ATTEMPTS": "many"}),
    Part(name="zero", env={"AWS_MAX_ATTEMPTS": "0"}),
)


@attrs.frozen(kw_only=True)
class Case:
    parts: tuple[Part, ...]
    region: str

    @property
    def name(self) -> str:
        return f"{self.region}: {', '.join(part.name for part in self.parts)}"

    @property
    def given(self) -> dict[str, Any]:
        return {name: self._filled(value) for part in self.parts for name, value in part.given.items()}

    @property
    def env(self) -> dict[str, str]:
        return {name: self._filled(value) for part in self.parts for name, value in part.env.items()}

    @property
    def config(self) -> str:
        lines = "\n".join(self._filled(line) for part in self.parts for line in part.profile)
        names_dev = self.parts[0] in PROFILES[1:4]
        default, dev = ("region = us-east-2", lines) if names_dev else (lines, "region = us-east-2")
        sections = "".join(part.sections for part in self.parts)
        return f"[default]\n{default}\n[profile dev]\n{dev}\n[profile other]\nregion = us-west-2\n{sections}"

    def _filled(self, value: Any) -> Any:
        return value.replace("@", self.region) if isinstance(value, str) else value


def cases() -> Iterator[Case]:
    """Yield the product of the choices that depend on each other most, each with a random one of the others."""
    random = Random(0)
    for profile, endpoint, ignored, fips in product(PROFILES, ENDPOINTS, IGNORED, FIPS[:5]):
        others = (random.choice(rest) for rest in (DUAL_STACK[:5], REGION_SOURCES[:4], BUNDLES, ATTEMPTS[:5]))
        yield Case(parts=(profile, endpoint, ignored, fips, *others), region=random.choice(REGIONS))
    for source, fips, dual_stack, region in product(REGION_SOURCES, FIPS, DUAL_STACK, REGIONS):
        yield Case(parts=(random.choice(PROFILES[:4]), source, fips, dual_stack), region=region)
    for profile, bundle, attempt in product(PROFILES, BUNDLES, ATTEMPTS):
        yield Case(parts=(profile, random.choice(REGION_SOURCES[:4]), bundle, attempt), region="us-east-1")


@attrs.frozen(kw_only=True)
class Result:
    """What a service uses; `None` where the settings are refused."""

    runtime: tuple[str, str] | None
    """The root URL of the runtime, and the region of the signature."""
    control: tuple[str, str] | None
    attempts: int | None
    bundle: str | None


REFUSED = Result(runtime=None, control=None, attempts=None, bundle=None)


def ours(case: Case) -> Result:
    given = {**KEYS, **case.given}
    try:
        settings = cast(BedrockSettings, make_settings("bedrock", bedrock, arguments=given, environ=dict(os.environ)))
    except ConfigurationError:
        return REFUSED
    context = ServiceContext(name="bedrock", provider="bedrock", settings=settings)
    try:
        control = (control_base(context.settings), settings.region)
    except UnsupportedOperation:
        control = None
    return Result(
        runtime=(runtime_base(settings), settings.region),
        control=control,
        attempts=settings.max_retries + 1,
        bundle=None if settings.ca_bundle is None else str(settings.ca_bundle),
    )


LOADER = Loader()


def _sent(session: Any, service: str, given: dict[str, Any], url: object) -> tuple[tuple[str, str] | None, Any]:
    """Return the root URL and the region of the request that botocore sends, and the client."""
    config = botocore.config.Config(
        **{name: given[name] for name in ("use_fips_endpoint", "use_dualstack_endpoint") if name in given}
    )
    sent: list[Any] = []

    def take(request: Any, **_: object) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {}, None)

    try:
        client = session.create_client(
            service, region_name=given.get("aws_region"), endpoint_url=url, config=config, **KEYS
        )
    except (BotoCoreError, ValueError):
        return None, None
    client.meta.events.register_first("before-send", take)
    try:
        if service == "bedrock":
            client.list_foundation_models()
        else:
            client.converse(modelId="m", messages=[])
    except BotoCoreError:
        return None, client
    except Exception:
        if not sent:  # the empty response cannot be parsed, which comes after what is compared
            raise
    authorization = sent[0].headers["Authorization"].decode()
    found = re.search(r"Credential=[^/]+/\d+/([^/]+)/", authorization)
    assert found is not None
    path = urlsplit(sent[0].url).path
    base = sent[0].url[: sent[0].url.index(path)] + re.sub(r"/(?:model/m/converse|foundation-models)$", "", path)
    return (base.rstrip("/"), found[1]), client


def botocores(given: dict[str, Any]) -> Result:
    session = botocore.session.Session(profile=given.get("aws_profile"))
    session.register_component("data_loader", LOADER)
    runtime, client = _sent(session, "bedrock-runtime", given, given.get("api_url"))
    control, _ = _sent(session, "bedrock", given, given.get("control_url"))
    if client is None or runtime is None:
        return REFUSED
    attempts = client.meta.config.retries.get("total_max_attempts")
    return Result(
        runtime=runtime,
        control=control,
        attempts=given["max_retries"] + 1 if "max_retries" in given else 3 if attempts is None else attempts,
        bundle=given.get("ca_bundle") or session.get_config_variable("ca_bundle"),
    )


def _as_botocore(case: Case, given: dict[str, Any], env: dict[str, str]) -> list[str]:
    """Write out how Trunkline differs on purpose, in settings and variables for botocore. Return the reasons."""
    reasons = []
    if "AWS_REGION" in env:
        env["AWS_DEFAULT_REGION"] = env["AWS_REGION"]
        reasons.append("botocore does not read AWS_REGION, as the other AWS SDKs do")
    for name, value in list(env.items()):
        if not value:
            del env[name]
            reasons.append("a blank variable is not set")
        if value == "1" and name in ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"):
            env[name] = "true"
            reasons.append("botocore takes every text but true for false")
    if env.get("AWS_PROFILE") == "gone":
        env["AWS_PROFILE"] = "empty"
        reasons.append("a missing profile matters only where its values are needed")
    if env.get("AWS_MAX_ATTEMPTS") == "0":
        env["AWS_MAX_ATTEMPTS"] = "refused"
        reasons.append("AWS_MAX_ATTEMPTS = 0 is refused")
    ignored = IGNORED[1] in case.parts or (IGNORED[2] in case.parts and PROFILES[4] not in case.parts)
    if case.given.get("api_url") and not case.given.get("control_url") and (ignored or not env.get(CONTROL)):
        given["control_url"] = case.given["api_url"]
        reasons.append("a gateway that is set as api_url serves the control plane too")
    return reasons


def test_aws_settings_mean_what_they_mean_to_botocore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exhaustive: bool
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    counts: Counter[str] = Counter()
    differences = []
    table = list(cases())
    for case in table if exhaustive else table[:: SAMPLE + 1]:
        (tmp_path / "config").write_text(f"{case.config}\n[profile empty]\n", encoding="utf-8")
        with monkeypatch.context() as patch:
            for name, value in case.env.items():
                patch.setenv(name, value)
            found = ours(case)
        given, env = case.given, case.env
        reasons = _as_botocore(case, given, env)
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            expected = botocores(given)
        if found != expected:
            differences.append(f"{case.name}\n  ours     {found}\n  botocore {expected}")
        counts["explained" if reasons else "equal"] += 1
        counts["refused"] += found == REFUSED
        counts.update(dict.fromkeys(reasons, 1))
    counts["cases"] = len(table) if exhaustive else len(table[:: SAMPLE + 1])
    print(dict(counts), f"{len(differences)} differ")
    assert not differences, "\n".join([f"{len(differences)} of {counts['cases']} differ:", *differences[:20]])
