"""Where the API is: URLs as people paste them. Pure."""

from __future__ import annotations

import functools
from urllib.parse import SplitResult, urlunsplit

from trunkline.authoring.urls import endpoint_note, split_url

# Longest first: `/chat/completions` is taken off before `/completions` could be.
ENDPOINTS = (
    "/chat/completions",
    "/responses/input_tokens",
    "/audio/transcriptions",
    "/audio/speech",
    "/completions",
    "/embeddings",
    "/responses",
    "/models",
)
"""The endpoint paths that are taken off a pasted URL."""

DEFAULT_PATH = "/v1"
"""The path of a URL that has none."""

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
}
"""The paths of known hosts, for URLs pasted without one."""

_AZURE_SUFFIXES = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")


@functools.lru_cache(maxsize=64)
def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """The URL that endpoint paths are joined to, and notes on what was changed that a user should know.

    Spaces and slashes at the end go. A missing scheme is `https`, or `http` for this machine and for names and
    addresses of a private network with a port. A whole endpoint's path is taken off, with a note. A URL without a path
    gets `/v1`, or what its host is known to want (`HOST_PATHS`); a path that is there stays. A query string stays. A
    fragment goes, with a note. Raises `ValueError` for what is no URL. To be called once, on the URL as it was pasted.
    """
    root, notes = split_url(pasted)
    path = root.path
    if not path:
        return urlunsplit(_with_path(root)), tuple(notes)
    endpoint = next((endpoint for endpoint in ENDPOINTS if path.lower().endswith(endpoint)), None)
    if endpoint is not None and not _is_root(root):
        # A whole endpoint tells where the root is, even where nothing stands before it: no `/v1` is added then.
        root = root._replace(path=path[: -len(endpoint)].rstrip("/"))
        notes.append(endpoint_note(endpoint))
    return urlunsplit(root), tuple(notes)


def _is_root(url: SplitResult) -> bool:
    # Azure AI inference has its root at `/models`, which is an endpoint's path everywhere else.
    return url.path == "/models" and (url.hostname or "").endswith(_AZURE_SUFFIXES)


def _with_path(url: SplitResult) -> SplitResult:
    host = (url.hostname or "").lower()
    if host.endswith(_AZURE_SUFFIXES):
        return url._replace(path="/openai/v1")
    return url._replace(path=HOST_PATHS.get(host, DEFAULT_PATH))
