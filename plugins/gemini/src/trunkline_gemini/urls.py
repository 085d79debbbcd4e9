"""Turn a pasted API URL into the root that all methods share, and build the URLs of the methods."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import urlunsplit

from trunkline.authoring.urls import endpoint_note, endpoint_url, path_segments, split_url
from trunkline.settings import Settings

UrlFor: TypeAlias = Callable[[Settings, str, str], str]
"""Returns the URL of a method from the settings, the model and the method, such as `generateContent`.

For another place with Gemini's models. A method may have a query: `streamGenerateContent?alt=sse`.
"""

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
        url = url._replace(query=without_alt(url.query))
    return urlunsplit(url._replace(path=path.rstrip("/") or VERSION)), tuple(notes)


def without_alt(query: str) -> str:
    """Return the query of a pasted endpoint without `alt=sse`, which asks for a stream whatever the method is."""
    return "&".join(part for part in query.split("&") if not part.startswith("alt="))


def method_url(base: str, path: str, method: str) -> str:
    """Return the URL of the method of a model with this resource name. The method may have a query."""
    name, _, query = method.partition("?")
    return endpoint_url(base, f"/{path_segments(path)}:{name}", query)


def default_url(settings: Settings, model: str, method: str) -> str:
    """Return the URL of a method under the setting `api_url`, for the Gemini API of Google AI Studio."""
    base, _ = base_url(settings.api_url)  # type: ignore[attr-defined]  # `GeminiSettings` has it
    return method_url(base, model_path(model), method)


def model_path(model: str) -> str:
    """Return the model's resource name: `models/gemini-2.5-flash`, unless the name has a prefix already."""
    return model if "/" in model else f"models/{model}"
