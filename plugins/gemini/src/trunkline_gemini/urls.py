"""Turn a pasted API URL into the root that all methods share, and build the URLs of the methods."""

from __future__ import annotations

import re
from urllib.parse import urlunsplit

from trunkline.authoring.urls import endpoint_note, endpoint_url, path_segments, split_url

VERSION = "/v1beta"
"""The version for a URL without one: unlike `/v1`, it has model aliases such as `gemini-flash-latest`."""

_ENDPOINT = re.compile(r"/models(/[^/]+)?$", re.IGNORECASE)
_OPENAI = re.compile(r"/openai(/chat/completions)?$", re.IGNORECASE)


def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """Return the root URL that methods are appended to, and notes on changes that a user should know about.

    A complete endpoint path is removed with a note, and so is `/openai`, the path of Google's OpenAI-compatible API. A
    URL without a path gets `/v1beta`. Raises `ValueError` if the text is not a URL.
    """
    url, notes = split_url(pasted)
    path = url.path
    if found := _OPENAI.search(path):
        path = path[: found.start()]
        notes.append("removed /openai, because this provider uses Gemini's own API")
    elif found := _ENDPOINT.search(path):
        path = path[: found.start()]
        notes.append(endpoint_note(found[0]))
    return urlunsplit(url._replace(path=path.rstrip("/") or VERSION)), tuple(notes)


def method_url(base: str, model: str, method: str, query: str = "") -> str:
    """Return the URL of a model's method. `model` may include its prefix, such as `models/` or `tunedModels/`."""
    return endpoint_url(base, f"/{path_segments(model_path(model))}:{method}", query)


def model_path(model: str) -> str:
    """Return the model's resource name: `models/gemini-2.5-flash`, unless the name has a prefix already."""
    return model if "/" in model else f"models/{model}"
