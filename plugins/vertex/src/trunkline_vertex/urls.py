"""The URLs of Vertex AI: the host of a location, the resource name of a model, and the URL of a method."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias
from urllib.parse import urlunsplit

from trunkline.authoring.urls import endpoint_note, endpoint_url, path_segments, split_url
from trunkline_gemini.urls import without_alt

_REST = re.compile(r"/v1(?:beta1)?(?:/(?:projects|publishers)/.*)?$", re.IGNORECASE)

MULTI_REGIONS = ("us", "eu")
"""Locations that span the regions of a continent, with hosts of their own (google-genai 3.6.1, `_api_client`)."""

CLAUDE = r"(?:^|publishers/)anthropic/|^claude"
"""The regular expression of the names of Claude's models, and of patterns for them."""

OPENAI = r"(?:^|publishers/)openai/|^gpt-"
"""The regular expression of the names of OpenAI's models, and of patterns for them."""

Format: TypeAlias = Literal["gemini", "messages", "responses"]
"""The APIs that Vertex AI serves models with."""

UNKNOWN_PROJECT = "PROJECT-OF-THE-CREDENTIALS"
"""Stands in a URL for the project until the credentials are known. The id of a project has no capital letters."""


def format_of(model: str) -> Format:
    """Return the API of a model, by its name or by a pattern of names. Any other name is one of Gemini's."""
    if re.search(CLAUDE, model):
        return "messages"
    return "responses" if re.search(OPENAI, model) else "gemini"


def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """Return the root URL, which the version of the API is appended to, and notes on changes.

    A version such as `/v1` is removed, and so is the path of a method, with a note. Raises `ValueError` if the text is
    not a URL.
    """
    url, notes = split_url(pasted)
    found = _REST.search(url.path)
    if found is not None:
        notes.append(endpoint_note(found[0]))
        url = url._replace(path=url.path[: found.start()], query=without_alt(url.query))
    return urlunsplit(url._replace(path=url.path.rstrip("/"))), tuple(notes)


def host_url(location: str) -> str:
    """Return the URL of the host that serves a location."""
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in MULTI_REGIONS:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def publisher_and_model(model: str) -> tuple[str, str]:
    """Return the publisher that a model's name gives, or `""`, and the model's name alone.

    `google/gemini-2.5-flash` and `publishers/google/models/gemini-2.5-flash` both name the publisher `google`.
    """
    parts = model.split("/")
    if "publishers" in parts[:-3]:
        at = parts.index("publishers")
        return parts[at + 1], parts[-1]
    if len(parts) == 2 and parts[0] not in ("models", "endpoints"):
        return parts[0], parts[1]
    return "", parts[-1]


def resource_name(model: str, publisher: str) -> str:
    """Return the resource name of a model, below a project and a location unless it begins with `projects/`.

    `publisher` is that of a name without one. `models/1` and `endpoints/1` are a model and an endpoint of the project.
    """
    if model.startswith(("projects/", "publishers/", "models/", "endpoints/")):
        return model
    named, name = publisher_and_model(model)
    return f"publishers/{named or publisher}/models/{name}" if model.count("/") <= 1 else model


def resource_url(root: str, version: str, parent: str, resource: str, method: str = "") -> str:
    """Return the URL of a resource, or of a method of it, which may have a query.

    `parent` is `projects/P/locations/L`, or empty for an API key that belongs to a project already.
    """
    path = resource if not parent or resource.startswith("projects/") else f"{parent}/{resource}"
    name, _, query = method.partition("?")
    # A colon separates the method, and Claude's models have an `@`. Neither has to be encoded in a path, and Google's
    # own libraries do not encode them.
    encoded = path_segments(path).replace("%40", "@").replace("%3A", ":")
    return endpoint_url(root, f"/{version}/{encoded}{f':{name}' if name else ''}", query)
