"""The URL of the API, from URLs as people paste them. Pure."""

from __future__ import annotations

from urllib.parse import urlunsplit

from trunkline.authoring.urls import endpoint_note, split_url

# Longest first: `/messages/count_tokens` must match before `/messages` does.
ENDPOINTS = ("/messages/count_tokens", "/messages/batches", "/chat/completions", "/messages", "/complete", "/models")
"""The endpoint paths, after `/v1`, that are removed from a pasted URL."""


def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """Return the root URL that `/v1/…` is appended to, and notes on changes that a user should know about.

    Trailing slashes and a trailing `/v1` are removed, and so is the path of an endpoint, with a note. Any other path
    and a query string stay. A root is returned unchanged. Raises `ValueError` if `pasted` is not a URL.
    """
    url, notes = split_url(pasted)
    path = url.path
    endpoint = next((endpoint for endpoint in ENDPOINTS if path.lower().endswith(endpoint)), None)
    if endpoint is not None:
        path = path[: -len(endpoint)]
        notes.append(endpoint_note(endpoint))
    if path.lower().endswith("/v1"):
        path = path[:-3]
    return urlunsplit(url._replace(path=path.rstrip("/"))), tuple(notes)
