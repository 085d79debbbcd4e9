"""Turn a pasted API URL into the root that all endpoints share."""

from __future__ import annotations

import re
from urllib.parse import urlunsplit

from trunkline.authoring.urls import endpoint_note, split_url

COMPATIBILITY = "/compatibility/v1"
"""The path of Cohere's OpenAI-compatible API, which this provider does not use."""

_ENDPOINT = re.compile(r"(/v[12])?/(chat|embed|models|rerank|tokenize|generate)$", re.IGNORECASE)
_VERSION = re.compile(r"/v[12]$", re.IGNORECASE)


def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """Return the root URL that endpoint paths are appended to, and notes on changes that a user should know about.

    Surrounding spaces, trailing slashes and a version (`/v1`, `/v2`) are removed, because each endpoint has its own
    version. A complete endpoint path, `/compatibility/v1` and a fragment are removed with a note. A missing scheme
    becomes `https`, or `http` for this machine and for private hosts with a port. Any other path and the query string
    are kept. Raises `ValueError` if the text is not a URL.
    """
    url, notes = split_url(pasted)
    path = url.path
    compatibility = path.lower().find(COMPATIBILITY)
    endpoint = _ENDPOINT.search(path)
    if compatibility >= 0:
        path = path[:compatibility]
        notes.append(f"removed {COMPATIBILITY}, because this provider uses Cohere's own API")
    elif endpoint is not None:
        path = path[: endpoint.start()]
        notes.append(endpoint_note(endpoint[0]))
    path = _VERSION.sub("", path).rstrip("/")
    return urlunsplit(url._replace(path=path)), tuple(notes)
