"""Where the API is: URLs as people paste them, and the URLs of its endpoints. Pure."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit, urlunsplit

# Longest first: `/chat/completions` is taken off before `/completions` could be.
ENDPOINTS = (
    "/chat/completions",
    "/responses/input_tokens",
    "/audio/transcriptions",
    "/audio/speech",
    "/completions",
    "/embeddings",
    "/responses",
    "/models",
)
"""The endpoint paths that are taken off a pasted URL."""

DEFAULT_PATH = "/v1"
"""The path of a URL that has none."""

HOST_PATHS = {
    "api.groq.com": "/openai/v1",
    "openrouter.ai": "/api/v1",
    "api.deepseek.com": "",
    "api.perplexity.ai": "",
    "api.fireworks.ai": "/inference/v1",
    "generativelanguage.googleapis.com": "/v1beta/openai",
    "models.github.ai": "/inference",
    "api.z.ai": "/api/paas/v4",
    "open.bigmodel.cn": "/api/paas/v4",
}
"""The paths of known hosts, for URLs pasted without one."""

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_HOST = re.compile(r"^(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?)$")
_AZURE_SUFFIXES = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")


def base_url(pasted: str) -> tuple[str, tuple[str, ...]]:
    """The URL that endpoint paths are joined to, and notes on what was changed that a user should know.

    Spaces and slashes at the end go. A missing scheme is `https`, or `http` for this machine and for names and
    addresses of a private network with a port. A whole endpoint's path is taken off, with a note. A URL without a path
    gets `/v1`, or what its host is known to want (`HOST_PATHS`); a path that is there stays. A query string stays. A
    fragment goes, with a note. Raises `ValueError` for what is no URL. To be called once, on the URL as it was pasted.
    """
    text = pasted.strip().strip("'\"<>").strip()
    if not text or any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("a URL such as https://host/v1, without spaces inside")
    if not _SCHEME.match(text):
        text = f"{_scheme_for(text)}://{text.removeprefix('//')}"
    url = _split(text)
    notes: list[str] = []
    if url.fragment:
        notes.append("the fragment after '#' was taken off")
    path = re.sub(r"/{2,}", "/", url.path).rstrip("/")
    root = url._replace(scheme=url.scheme.lower(), path=path, fragment="")
    if not path:
        return urlunsplit(_with_path(root)), tuple(notes)
    endpoint = next((endpoint for endpoint in ENDPOINTS if path.lower().endswith(endpoint)), None)
    if endpoint is not None and not _is_root(root):
        # A whole endpoint tells where the root is, even where nothing stands before it: no `/v1` is added then.
        root = root._replace(path=path[: -len(endpoint)].rstrip("/"))
        notes.append(f"the endpoint's path {endpoint} was taken off: the setting is the root that all endpoints share")
    return urlunsplit(root), tuple(notes)


def plain_http_note(base: str) -> str | None:
    """The warning for a key that would go over plain HTTP to another machine, or `None`."""
    url = urlsplit(base)
    if url.scheme != "http" or _is_loopback(url.hostname or ""):
        return None
    return f"the API key goes to {url.hostname} over plain HTTP, where others can read it; use https"


def endpoint_url(base: str, path: str) -> str:
    """The URL of an endpoint (`/chat/completions`, say) under a base from `base_url`; a query string stays last."""
    url = urlsplit(base)
    return urlunsplit(url._replace(path=url.path.rstrip("/") + path))


def _split(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError("a URL with a valid host and port") from None
    if url.scheme.lower() not in ("http", "https"):
        raise ValueError(f"a URL that begins with http:// or https://, not {url.scheme}://")
    bare = f"[{host}]" if host and ":" in host else host
    if not bare or not _HOST.match(_ascii(bare)):
        raise ValueError("a URL with a host, such as https://host/v1")
    return url


def _is_root(url: SplitResult) -> bool:
    # Azure AI inference has its root at `/models`, which is an endpoint's path everywhere else.
    return url.path == "/models" and (url.hostname or "").endswith(_AZURE_SUFFIXES)


def _ascii(host: str) -> str:
    try:
        return host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        return ""


def _with_path(url: SplitResult) -> SplitResult:
    host = (url.hostname or "").lower()
    if host.endswith(_AZURE_SUFFIXES):
        return url._replace(path="/openai/v1")
    return url._replace(path=HOST_PATHS.get(host, DEFAULT_PATH))


def _scheme_for(text: str) -> str:
    authority = re.split(r"[/?#]", text.removeprefix("//"), maxsplit=1)[0].rpartition("@")[2]
    host, colon, port = authority.rpartition(":")
    has_port = bool(colon) and port.isdigit()
    name = (host if has_port else authority).strip("[]").lower()
    if _is_loopback(name):
        return "http"
    return "http" if has_port and _is_private(name) else "https"


def _is_loopback(host: str) -> bool:
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    if "." not in host and ":" not in host:
        return True
    if host.endswith((".local", ".internal", ".lan", ".home.arpa")):
        return True
    try:
        return ip_address(host).is_private
    except ValueError:
        return False
