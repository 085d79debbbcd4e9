"""Normalise pasted URLs, and build the URLs of endpoints. Providers add what is specific to their API.

Text of a user, a configuration or a server becomes part of a URL only through `path_segment`, `path_segments` and
`query_string`. Otherwise it could change the endpoint, or add parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from trunkline._urls import clean_url, is_loopback, plain_http_note, redact_url, split_url
from trunkline.errors import InvalidRequest

__all__ = [
    "clean_url",
    "endpoint_note",
    "endpoint_url",
    "has_host",
    "is_loopback",
    "path_segment",
    "path_segments",
    "plain_http_note",
    "query_string",
    "redact_url",
    "split_url",
]


@functools.lru_cache(maxsize=64)
def endpoint_url(base: str, path: str, query: str = "") -> str:
    """Return the URL of an endpoint (for example `/chat/completions`) under a base URL.

    `query` is appended to the query string of the base.
    """
    url = urlsplit(base)
    query = "&".join(part for part in (url.query, query) if part)
    return urlunsplit(url._replace(path=url.path.rstrip("/") + path, query=query))


def has_host(url: str, *domains: str) -> bool:
    """Return whether the host of a pasted URL is one of these domains, or a subdomain of one.

    Raises `ValueError` if `url` is not a URL.
    """
    host = (split_url(url)[0].hostname or "").rstrip(".")
    return any(f".{host}".endswith(f".{domain}") for domain in domains)


def path_segment(text: str, what: str = "the model") -> str:
    """Return a text as one segment of a path, with `/` and all other reserved characters percent-encoded.

    `what` names the text in the error. Raises `InvalidRequest` for a text that no segment can hold: an empty one, `.`
    and `..`, which libraries and proxies remove from a path even if they are encoded, and a lone surrogate.
    """
    if text in ("", ".", ".."):
        raise InvalidRequest(f"{what} cannot be part of a URL: {text!r}")
    try:
        return quote(text, safe="~")
    except UnicodeEncodeError:
        raise InvalidRequest(f"{what} cannot be part of a URL, because it is not valid Unicode: {text!r}") from None


def path_segments(text: str, what: str = "the model") -> str:
    """Return a text as segments of a path. Each `/` separates two segments, which are encoded as by `path_segment`."""
    return "/".join(path_segment(part, what) for part in text.split("/"))


def query_string(parameters: Mapping[str, str]) -> str:
    """Return the query string of a URL, percent-encoded. A lone surrogate, which UTF-8 cannot encode, becomes `?`."""
    return urlencode(parameters, quote_via=quote, safe="~", errors="replace")


def endpoint_note(endpoint: str) -> str:
    """Return the note that the path of an endpoint was pasted with the URL, and removed."""
    return f"the path {endpoint} was removed: this setting is the root URL of all endpoints"
