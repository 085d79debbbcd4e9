"""Where the API is: URLs as people paste them, and the URLs of its methods. Pure, but for the log."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlunsplit

from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.urls import endpoint_note, endpoint_url, plain_http_note, split_url

if TYPE_CHECKING:
    from trunkline_gemini.settings import GeminiSettings

VERSION = "/v1beta"
"""The version where the URL names none: the one that has aliases such as `gemini-flash-latest`."""

_ENDPOINT = re.compile(r"/models(/[^/]+)?$", re.IGNORECASE)
_OPENAI = re.compile(r"/openai(/chat/completions)?$", re.IGNORECASE)
_VERSION = re.compile(r"/v\d+(alpha|beta)?\d*(?=/|$)", re.IGNORECASE)


def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """The root that methods are joined to, and notes on what was changed that a user should know.

    A whole endpoint's path goes with a note, and so does `/openai`, Google's imitation of another provider's API. A URL
    without a version gets `/v1beta`, where there is no other path. Raises `ValueError` for what is no URL.
    """
    url, notes = split_url(pasted)
    path = url.path
    if found := _OPENAI.search(path):
        path = path[: found.start()]
        notes.append("/openai was taken off: this provider speaks Gemini's own API")
    elif found := _ENDPOINT.search(path):
        path = path[: found.start()]
        notes.append(endpoint_note(found[0]))
    if not _VERSION.search(path) and path in ("", "/"):
        path = VERSION
    return urlunsplit(url._replace(path=path.rstrip("/"))), tuple(notes)


def method_url(base: str, model: str, method: str, query: str = "") -> str:
    """The URL of a model's method; `model` may begin with `models/`, or with `tunedModels/` and the like."""
    name = model if "/" in model else f"models/{model}"
    return endpoint_url(base, f"/{quote(name, safe='/-._~@:')}:{method}", query)


def log_notes(context: ServiceContext[GeminiSettings]) -> None:
    """Log, at WARNING, what should be known of the service's URL. Called when the service opens."""
    base, notes = base_url(context.settings.api_url)
    plain = plain_http_note(base)
    if notes or plain:
        import logging

        logger = logging.getLogger("trunkline.gemini")
        for note in (*notes, *([plain] if plain else [])):
            logger.warning("service %r: setting 'api_url': %s", context.name, note)
