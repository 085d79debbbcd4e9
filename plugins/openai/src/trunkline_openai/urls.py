"""The URLs of the API, from the URL that a user pasted. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from trunkline.authoring.urls import endpoint_note, endpoint_url, split_url
from trunkline.settings import Settings

S = TypeVar("S", bound=Settings)

UrlFor: TypeAlias = Callable[[S, str, str | None], str]
"""Returns the URL of an endpoint, for the settings, the endpoint's path and the request's model.

The path is that of an endpoint, such as `/chat/completions` or `/models`. The model is `None` for `/models`. Put the
text of a setting or a model into a URL with `path_segment` of `trunkline.authoring.urls`, which encodes it.
"""

HeadersFor: TypeAlias = Callable[[S], Mapping[str, str]]
"""Returns the headers of each request that are no credentials, for the settings."""

# Longest first, so that `/chat/completions` is recognised before `/completions`.
ENDPOINTS = (
    "/chat/completions",
    "/responses/input_tokens",
    "/audio/transcriptions",
    "/audio/speech",
    "/images/generations",
    "/images/edits",
    "/completions",
    "/embeddings",
    "/moderations",
    "/responses",
    "/rerank",
    "/models",
)
"""The endpoint paths that are removed from a pasted URL."""

DEFAULT_PATH = "/v1"
"""The path for a URL without one."""

HOST_PATHS = {
    "api.groq.com": "/openai/v1",
    "openrouter.ai": "/api/v1",
    "api.deepseek.com": "",
    "api.perplexity.ai": "",
    "api.fireworks.ai": "/inference/v1",
    "generativelanguage.googleapis.com": "/v1beta/openai",
    "models.github.ai": "/inference",
    "api.z.ai": "/api/paas/v4",
    "open.bigmodel.cn": "/api/paas/v4",
    "dashscope.aliyuncs.com": "/compatible-mode/v1",
    "dashscope-intl.aliyuncs.com": "/compatible-mode/v1",
    "dashscope-us.aliyuncs.com": "/compatible-mode/v1",
}
"""The paths of known hosts, for URLs that were pasted without a path."""

_AZURE_SUFFIXES = (
    *(".openai.azure.com", ".openai.azure.us", ".openai.azure.cn"),
    *(".services.ai.azure.com", ".services.ai.azure.us", ".services.ai.azure.cn"),
    *(".cognitiveservices.azure.com", ".cognitiveservices.azure.us", ".cognitiveservices.azure.cn"),
    *(".api.cognitive.microsoft.com", ".api.cognitive.microsoft.us", ".api.cognitive.azure.cn"),
)
_DEPLOYMENT = re.compile(r"(/openai)/deployments/[^/]+$", re.IGNORECASE)
_AZURE_ROOT = re.compile(r"/openai|/api/projects/[^/]+", re.IGNORECASE)


def is_azure(base: str) -> bool:
    """Whether a URL is that of a resource of Azure, or has the path of a deployment of Azure."""
    url = urlsplit(base)
    host = (url.hostname or "").rstrip(".")
    return host.endswith(_AZURE_SUFFIXES) or _DEPLOYMENT.search(url.path) is not None


def azure_version(base: str) -> str | None:
    """Return the `api-version` in the URL of a deployment of Azure, or `None` on another API of Azure's."""
    url = urlsplit(base)
    if _DEPLOYMENT.search(url.path) is None:
        return None
    return next((value for name, value in parse_qsl(url.query) if name.lower() == "api-version"), "")


@functools.lru_cache(maxsize=64)
def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """Return the URL that endpoint paths are appended to, and notes about changes that the user should know of.

    - Surrounding spaces and trailing slashes are removed.
    - A missing scheme becomes `https`, or `http` for this machine and for hosts of a private network with a port.
    - The path of a whole endpoint (`/chat/completions`) is removed, with a note.
    - A URL without a path gets `/v1`, or the path that its host is known to use (`HOST_PATHS`).
    - A query string is kept. A fragment is removed, with a note.
    - The root of a resource or project of Azure gets `/openai/v1`. The URL of a deployment stays.

    Raises `ValueError` for text that is not a URL. Call it on the pasted URL, not on its own result.
    """
    root, notes = split_url(pasted)
    path = root.path
    if not path:
        return urlunsplit(_with_path(root)), tuple(notes)
    endpoint = next((endpoint for endpoint in ENDPOINTS if path.lower().endswith(endpoint)), None)
    if endpoint is not None and not _is_root(root):
        # The endpoint's path shows where the root is, even if nothing precedes it, so `/v1` is not added.
        root = root._replace(path=path[: -len(endpoint)].rstrip("/"))
        notes.append(endpoint_note(endpoint))
    if (root.hostname or "").rstrip(".").endswith(_AZURE_SUFFIXES) and _AZURE_ROOT.fullmatch(root.path):
        root = _on_v1(root)
        notes.append("it was read as the root of Azure's API at /openai/v1, which has no dated versions")
    return urlunsplit(root), tuple(notes)


def _on_v1(url: SplitResult) -> SplitResult:
    query = "&".join(pair for pair in url.query.split("&") if not pair.lower().startswith("api-version="))
    path = url.path if url.path.lower().endswith("/openai") else f"{url.path}/openai"
    return url._replace(path=f"{path}/v1", query=query)


def _is_root(url: SplitResult) -> bool:
    # Azure AI inference has its root at `/models`, which is an endpoint's path everywhere else.
    return url.path == "/models" and (url.hostname or "").rstrip(".").endswith(_AZURE_SUFFIXES)


def _with_path(url: SplitResult) -> SplitResult:
    host = (url.hostname or "").rstrip(".")
    if host.endswith(_AZURE_SUFFIXES):
        return url._replace(path="/openai/v1")
    return url._replace(path=HOST_PATHS.get(host, DEFAULT_PATH))


def default_url(settings: Settings, path: str, model: str | None) -> str:
    """Return the URL of an endpoint under the setting `api_url`, which every user of this function must have.

    The path of an endpoint is removed from `api_url`, and `/v1` is added if it has no path.
    """
    base, _ = base_url(settings.api_url)  # type: ignore[attr-defined]  # every provider of this API has the setting
    if path == "/models":
        url = urlsplit(base)
        base = urlunsplit(url._replace(path=_DEPLOYMENT.sub(r"\1", url.path)))  # Azure lists them for the resource
    return endpoint_url(base, path)


def no_headers(settings: Settings) -> Mapping[str, str]:
    """Return no further headers."""
    return {}
