"""Normalise pasted URLs, and build the URLs of endpoints. Providers add what is specific to their API."""

from __future__ import annotations

import functools
from urllib.parse import urlsplit, urlunsplit

from trunkline._urls import is_loopback, plain_http_note, redact_url, split_url

__all__ = ["endpoint_note", "endpoint_url", "is_loopback", "plain_http_note", "redact_url", "split_url"]


@functools.lru_cache(maxsize=64)
def endpoint_url(base: str, path: str, query: str = "") -> str:
    """Return the URL of an endpoint (for example `/chat/completions`) under a base URL.

    `query` is appended to the query string of the base.
    """
    url = urlsplit(base)
    query = "&".join(part for part in (url.query, query) if part)
    return urlunsplit(url._replace(path=url.path.rstrip("/") + path, query=query))


def endpoint_note(endpoint: str) -> str:
    """Return the note that the path of an endpoint was pasted with the URL, and removed."""
    return f"the path {endpoint} was removed: this setting is the root URL of all endpoints"
