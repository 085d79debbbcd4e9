"""Where the API is: URLs as people paste them. Pure."""

from __future__ import annotations

from urllib.parse import urlunsplit

from trunkline.authoring.urls import endpoint_note, split_url

# Longest first: `/messages/count_tokens` is taken off before `/messages` could be.
ENDPOINTS = ("/messages/count_tokens", "/messages/batches", "/chat/completions", "/messages", "/complete", "/models")
"""The endpoint paths, after `/v1`, that are taken off a pasted URL."""


def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """The root that `/v1/…` is joined to, and notes on what was changed that a user should know.

    Slashes and `/v1` at the end go, and a whole endpoint's path, with a note; any other path and a query string stay.
    Raises `ValueError` for what is no URL. A root gives itself.
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
