"""The surface of Azure that a pasted URL belongs to, and the URLs of its endpoints. Pure.

A resource has three surfaces: `/openai/v1`, where the body names the deployment; the classic surface, where the path
names it and `api-version` is required; and Azure AI inference, `/models`. The portal, the SDKs and the browser show
different URLs of a resource. All of them are accepted.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import attrs
from trunkline.authoring.urls import endpoint_note, path_segment, query_string, split_url
from trunkline_openai.urls import ENDPOINTS

Kind: TypeAlias = Literal["classic", "v1", "inference"]

CLASSIC_VERSION = "2024-10-21"
"""The default `api-version` of the classic surface: its last generally available one."""

INFERENCE_VERSION = "2024-05-01-preview"
"""The default `api-version` of the `/models` surface."""

PORTALS = (
    *("portal.azure.com", "ai.azure.com", "oai.azure.com", "ml.azure.com"),
    *("portal.azure.us", "ai.azure.us", "portal.azure.cn", "ai.azure.cn"),
)
DATE_PATTERN = "[0-9]{4}-[0-9]{2}-[0-9]{2}(?:-[A-Za-z0-9.]+)?"
VERSION_PATTERN = "[A-Za-z0-9][A-Za-z0-9._-]*"
_DATED = re.compile(DATE_PATTERN)
_VERSION = re.compile(VERSION_PATTERN)


@attrs.frozen
class Cloud:
    """A cloud of Azure: the scope of the tokens for its resources, and the host of Entra ID that issues them."""

    scope: str
    authority: str


PUBLIC = Cloud("https://cognitiveservices.azure.com/.default", "login.microsoftonline.com")
"""The public cloud. Newer Foundry documentation also uses the scope https://ai.azure.com/.default."""

# Scopes: microsoft/semantic-kernel#6255, 2024-05; cline/cline#8718, 2026-01. Hosts: azure.identity.AzureAuthorityHosts.
_US = Cloud("https://cognitiveservices.azure.us/.default", "login.microsoftonline.us")
_CHINA = Cloud("https://cognitiveservices.azure.cn/.default", "login.chinacloudapi.cn")
_CLOUDS = ((".azure.us", _US), (".microsoft.us", _US), (".azure.cn", _CHINA))


def cloud_of(url: str) -> Cloud:
    """Return the cloud of a resource. A host of your own, such as that of a gateway, belongs to the public cloud."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    return next((cloud for suffix, cloud in _CLOUDS if host.endswith(suffix)), PUBLIC)


@attrs.frozen(kw_only=True)
class Surface:
    """A surface of a resource.

    - `root`: the URL that endpoint paths are appended to; it ends with `/openai`, `/openai/v1` or `/models`.
    - `version`: the `api-version` to send, if any.
    - `deployment`, `endpoint`: those in the pasted URL, if any.
    - `query`: the query string of the pasted URL, without the version.
    - `notes`: what the user should know.
    """

    kind: Kind
    root: str
    version: str | None = None
    deployment: str | None = None
    endpoint: str | None = None
    query: str = attrs.field(default="", repr=False)
    notes: tuple[str, ...] = ()

    def url(self, path: str, model: str | None) -> str:
        """The URL of an endpoint, such as `/chat/completions`. On the classic surface, `model` is the deployment."""
        of_resource = path == "/models" or path.startswith(("/responses", "/files", "/batches"))
        if self.kind == "classic" and not of_resource:
            path = f"/deployments/{path_segment(model or '', 'the deployment')}{path}"
        version = query_string({"api-version": self.version}) if self.version else ""
        query = "&".join(part for part in (version, self.query) if part)
        return f"{self.root}{path}" + (f"?{query}" if query else "")


def is_dated(version: str) -> bool:
    """Whether an `api-version` is a date, as on the classic surface."""
    return _DATED.fullmatch(version) is not None


def convert_version(value: object) -> str:
    """Return an `api-version`: a date, perhaps with `-preview`, or on the v1 surface a word. Raises `ValueError`."""
    if not isinstance(value, str) or not _VERSION.fullmatch(value.strip()):
        raise ValueError(f"a version such as {CLASSIC_VERSION}, 2025-04-01-preview or preview, not {value!r}")
    return value.strip()


@lru_cache(maxsize=256)
def surface_of(pasted: str, version: str | None = None) -> Surface:
    """The surface of a pasted URL. `version` is the setting `api_version`, which overrides the URL's own.

    A resource's root and unknown paths belong to the v1 surface, or with a dated version to the classic one. Raises
    `ValueError` for text that is not a URL, and for a URL of the portal.
    """
    url, notes = split_url(pasted)
    if (url.hostname or "").lower().rstrip(".") in PORTALS:
        raise ValueError(
            "the endpoint of the resource, such as https://RESOURCE.openai.azure.com (in the portal under Keys and "
            "Endpoint), not the address of the portal"
        )
    url_version, query = _query(url)
    if version is not None and url_version is not None and url_version != version:
        notes.append(f"its api-version={url_version} is not used, because the setting api_version is {version!r}")
    found = _parts(url.path, version or url_version)
    if found.endpoint:
        notes.append(endpoint_note(found.endpoint))
    defaults = {"classic": CLASSIC_VERSION, "inference": INFERENCE_VERSION, "v1": None}
    return attrs.evolve(
        found,
        root=urlunsplit(url._replace(path=found.root, query="")),
        version=version or url_version or defaults[found.kind],
        query=query,
        notes=tuple(notes),
    )


def _query(url: SplitResult) -> tuple[str | None, str]:
    """The version in the query string, and the rest of the query string."""
    pairs = parse_qsl(url.query, keep_blank_values=True)
    versions = [value.strip() for name, value in pairs if name.lower() == "api-version" and value.strip()]
    rest = [(name, value) for name, value in pairs if name.lower() != "api-version"]
    if versions:
        convert_version(versions[0])
    return (versions[0] if versions else None), urlencode(rest)


def _parts(path: str, version: str | None) -> Surface:
    """The surface of a path. Its `root` is a path too."""
    steps = [step for step in path.split("/") if step]
    lower = [step.lower() for step in steps]
    newer: Kind = "classic" if version is not None and is_dated(version) else "v1"
    for at, step in enumerate(lower):
        rest = lower[at + 1 :]
        if step == "openai" and (not rest or rest[0] in ("v1", "deployments") or _endpoint(rest)):
            return _under_openai(steps[: at + 1], steps[at + 1 :], newer)
        if step == "v1" and (not rest or _endpoint(rest)):
            # A gateway with its own path.
            return Surface(kind="v1", root=_join(steps[: at + 1]), endpoint=_endpoint(rest))
        if step == "models" and (not rest or _endpoint(rest) or rest == ["info"]):
            return Surface(kind="inference", root=_join(steps[: at + 1]), endpoint=_endpoint(rest))
    return _resource(steps, newer)


def _under_openai(prefix: list[str], rest: list[str], newer: Kind) -> Surface:
    root = _join(prefix)
    if rest and rest[0].lower() == "deployments":
        deployment = unquote(rest[1]) if len(rest) > 1 else None
        return Surface(kind="classic", root=root, deployment=deployment, endpoint=_taken(rest[2:]))
    if rest and rest[0].lower() == "v1":
        return Surface(kind="v1", root=f"{root}/v1", endpoint=_taken(rest[1:]))
    return Surface(kind=newer, root=root if newer == "classic" else f"{root}/v1", endpoint=_taken(rest))


def _resource(steps: list[str], newer: Kind) -> Surface:
    """The surface of a resource's root, which may follow a gateway's path and precede an endpoint's path."""
    endpoint = None
    for length in range(len(steps), 0, -1):
        endpoint = _endpoint([step.lower() for step in steps[-length:]])
        if endpoint is not None:
            steps = steps[:-length]
            break
    root = f"{_join(steps)}/openai"
    return Surface(kind=newer, root=root if newer == "classic" else f"{root}/v1", endpoint=endpoint)


def _endpoint(steps: list[str]) -> str | None:
    path = _join(steps)
    return path if path in ENDPOINTS else None


def _taken(steps: list[str]) -> str | None:
    # Any path is possible here, because a resource has other APIs too.
    return _join(steps) or None


def _join(steps: list[str]) -> str:
    return "".join(f"/{step}" for step in steps)
