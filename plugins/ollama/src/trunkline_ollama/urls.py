"""Turn the value of `OLLAMA_HOST`, or a pasted URL, into the root that all endpoints share."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlunsplit

from trunkline.authoring.urls import clean_url, endpoint_note, split_url

PORT = 11434
"""The default port for a value without scheme and port, as in Ollama's own programs."""

CLOUD = "ollama.com"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[/\\]|https?:", re.IGNORECASE)
_ENDPOINT = re.compile(r"/api/(chat|generate|embed|embeddings|tags|show|ps)$", re.IGNORECASE)
_ROOT = re.compile(r"/api$", re.IGNORECASE)
_COMPATIBLE = re.compile(r"/v1(/(chat/completions|completions|responses|messages|embeddings|models))?$", re.IGNORECASE)


def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """Return the root URL that `/api/chat` and other endpoints are appended to, and notes on changes.

    A host without a scheme gets `http`, and port 11434 unless it names one (`ollama.com` gets `https`). An address that
    servers listen on (`0.0.0.0`, `::`, or a port alone) means this machine. `/api` is removed; a complete endpoint path
    and `/v1`, the server's OpenAI-compatible API, are removed with a note for the user. Raises `ValueError` if the text
    is not a URL.
    """
    text = clean_url(pasted)
    bare = not _SCHEME.match(text)
    url, notes = _split_bare(text.removeprefix("//")) if bare else split_url(text)
    host, port = str(url.hostname), url.port
    if bare and port is None and host != CLOUD:
        port = PORT
    host = _reachable(host)
    if ":" in host:
        host = f"[{host}]"
    user, at, _ = url.netloc.rpartition("@")
    path = url.path
    if found := _COMPATIBLE.search(path):
        path = path[: found.start()]
        notes.append(f"removed {found[0]}, because this provider uses Ollama's own API under /api")
    elif found := _ENDPOINT.search(path):
        path = path[: found.start()]
        notes.append(endpoint_note(found[0]))
    netloc = f"{user}{at}{host}" + (f":{port}" if port is not None else "")
    return urlunsplit(url._replace(netloc=netloc, path=_ROOT.sub("", path).rstrip("/"))), tuple(notes)


def _split_bare(text: str) -> tuple[SplitResult, list[str]]:
    authority, slash, rest = text.partition("/")
    try:
        authority = f"[{ip_address(authority)}]" if ":" in authority else authority
    except ValueError:
        if authority.startswith(":"):
            authority = f"127.0.0.1{authority}"
    return split_url(f"{authority}{slash}{rest}", "https" if authority.lower() == CLOUD else "http")


def _reachable(host: str) -> str:
    # 0.0.0.0 and :: mean "all interfaces" to a server. Connecting to them works on some systems only.
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"
