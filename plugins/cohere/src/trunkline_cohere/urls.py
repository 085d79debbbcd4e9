"""Where the API is: URLs as people paste them, and the URLs of its endpoints. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlunsplit

from trunkline.authoring.urls import endpoint_note, split_url

COMPATIBILITY = "/compatibility/v1"
"""The root of Cohere's imitation of another provider's API, which this provider does not speak."""

_ENDPOINT = re.compile(r"(/v[12])?/(chat|embed|models|rerank|tokenize|generate)$", re.IGNORECASE)
_VERSION = re.compile(r"/v[12]$", re.IGNORECASE)


def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """The root that endpoint paths are joined to, and notes on what was changed that a user should know.

    Spaces, slashes at the end and a version (`/v1`, `/v2`) go, since each endpoint has a version of its own. A whole
    endpoint's path and `/compatibility/v1` go with a note, and so does a fragment. A missing scheme is `https`, or
    `http` for this machine and for an address or a bare name with a port. Any other path and a query string stay.
    Raises `ValueError` for what is no URL.
    """
    url, notes = split_url(pasted)
    path = url.path
    compatibility = path.lower().find(COMPATIBILITY)
    endpoint = _ENDPOINT.search(path)
    if compatibility >= 0:
        path = path[:compatibility]
        notes.append(f"{COMPATIBILITY} was taken off: this provider speaks Cohere's own API")
    elif endpoint is not None:
        path = path[: endpoint.start()]
        notes.append(endpoint_note(endpoint[0]))
    path = _VERSION.sub("", path).rstrip("/")
    return urlunsplit(url._replace(path=path)), tuple(notes)
