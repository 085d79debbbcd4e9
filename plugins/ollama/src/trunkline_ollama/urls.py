"""Where the server is: `OLLAMA_HOST` and URLs as people set them. Pure, but for the log."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlunsplit

from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.urls import endpoint_note, plain_http_note, split_url

if TYPE_CHECKING:
    from trunkline_ollama.settings import OllamaSettings

PORT = 11434
"""The port where none is told and there is no scheme either, as Ollama's own programs have it."""

CLOUD = "ollama.com"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_ENDPOINT = re.compile(r"/api/(chat|generate|embed|embeddings|tags|show|ps)$", re.IGNORECASE)
_ROOT = re.compile(r"/api$", re.IGNORECASE)
_IMITATION = re.compile(r"/v1(/(chat/completions|completions|responses|messages|embeddings|models))?$", re.IGNORECASE)


def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """The root that `/api/chat` and the others are joined to, and notes on what was changed that a user should know.

    A host without a scheme is reached by `http`, at port 11434 where it names none (`ollama.com` by `https`). An
    address to listen on (`0.0.0.0`, `::`, or a port alone) means this machine. `/api` goes; a whole endpoint's path and
    `/v1`, the server's imitation of other APIs, go with a note. Raises `ValueError` for what is no URL.
    """
    text = pasted.strip().strip("'\"<>").strip()
    bare = not _SCHEME.match(text)
    url, notes = split_url(_with_scheme(text.removeprefix("//")) if bare else text)
    host, port = str(url.hostname), url.port
    if bare and port is None and host != CLOUD:
        port = PORT
    host = _reachable(host)
    if ":" in host:
        host = f"[{host}]"
    user, at, _ = url.netloc.rpartition("@")
    path = url.path
    if found := _IMITATION.search(path):
        path = path[: found.start()]
        notes.append(f"{found[0]} was taken off: this provider speaks Ollama's own API, below /api")
    elif found := _ENDPOINT.search(path):
        path = path[: found.start()]
        notes.append(endpoint_note(found[0]))
    netloc = f"{user}{at}{host}" + (f":{port}" if port is not None else "")
    return urlunsplit(url._replace(netloc=netloc, path=_ROOT.sub("", path).rstrip("/"))), tuple(notes)


def _with_scheme(text: str) -> str:
    authority, slash, rest = text.partition("/")
    try:
        authority = f"[{ip_address(authority)}]" if ":" in authority else authority
    except ValueError:
        if authority.startswith(":"):
            authority = f"127.0.0.1{authority}"
    scheme = "https" if authority.lower() == CLOUD else "http"
    return f"{scheme}://{authority}{slash}{rest}"


def _reachable(host: str) -> str:
    # 0.0.0.0 and :: tell a server where to listen; to connect there is not portable.
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def log_notes(context: ServiceContext[OllamaSettings]) -> None:
    """Log, at WARNING, what should be known of the service's URL. Called when the service opens."""
    base, notes = base_url(context.settings.api_url)
    plain = plain_http_note(base) if context.settings.api_key is not None else None
    if notes or plain:
        import logging

        logger = logging.getLogger("trunkline.ollama")
        for note in (*notes, *([plain] if plain else [])):
            logger.warning("service %r: setting 'api_url': %s", context.name, note)
