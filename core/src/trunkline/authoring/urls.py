"""URLs as people paste them. Pure; what a provider takes off or adds is its own."""

from __future__ import annotations

import functools
from urllib.parse import urlsplit, urlunsplit

from trunkline._urls import is_loopback, plain_http_note, redact_url, split_url

__all__ = ["endpoint_note", "endpoint_url", "is_loopback", "plain_http_note", "redact_url", "split_url"]


@functools.lru_cache(maxsize=64)
def endpoint_url(base: str, path: str, query: str = "") -> str:
    """The URL of an endpoint (`/chat/completions`, say) under a base; the base's query string stays, before `query`."""
    url = urlsplit(base)
    query = "&".join(part for part in (url.query, query) if part)
    return urlunsplit(url._replace(path=url.path.rstrip("/") + path, query=query))


def endpoint_note(endpoint: str) -> str:
    """The note for an endpoint's path that was pasted with the rest."""
    return f"the endpoint's path {endpoint} was taken off: the setting is the root that all endpoints share"
