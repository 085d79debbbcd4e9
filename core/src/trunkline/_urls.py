"""Normalise pasted URLs, and remove secrets from URLs."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit

from trunkline._masking import may_be_secret, names_credential

_AUTHORITY = re.compile(r"^[\s'\"<]*([A-Za-z][A-Za-z0-9+.-]*:)?//")
_SECRET_PARAMETER = re.compile("sig|code|ticket|hmac|pass", re.IGNORECASE)  # in signed URLs and logins
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_ONE_SLASH = re.compile(r"https?:/?(?!/)(?![0-9])", re.IGNORECASE)
_PLAIN = re.compile(r"(?:[A-Za-z0-9/?:@!$&'()*+,;=._~-]|%[0-9A-Fa-f]{2})*")
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNIX_HOST = re.compile(r"^%2[Ff][A-Za-z0-9._~%-]+$")
_HOST = re.compile(r"^(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?)$")
_ZONE = re.compile(r"%[A-Za-z0-9._~%-]+\]")  # the network interface of an IPv6 address (RFC 6874)

MAX_LABEL = 63
"""The most characters between two dots of a host name (RFC 1035, section 2.3.4)."""

PROXY_SCHEMES = ("http", "https", "socks5", "socks5h", "socks")
"""The schemes of the proxies that can be used. `socks` means SOCKS5: desktops on Linux write it so."""


def redact_url(url: str) -> str:
    """Return the URL without user information, query and fragment, since each may hold a secret."""
    url = url.split("?", 1)[0].split("#", 1)[0]
    start = _start(url)
    return url[:start] + url[start + len(_user(url[start:])) :].removeprefix("@")


def _start(url: str) -> int:
    found = _AUTHORITY.match(url)
    return found.end() if found else 0


def _user(rest: str) -> str:
    authority = rest.partition("/")[0]
    if "@" not in authority and "@" in rest and re.search(r":(?!\d*$)", authority.rpartition("]")[2]):
        authority = rest  # the text after the colon is not a port: a password with an unencoded slash
    return authority.rpartition("@")[0]


def split_login(url: str) -> tuple[str, str | None]:
    """Return the URL without its user name and password, and the value of `Authorization` that they stand for.

    The value is `None` if there are none (RFC 3986, section 3.2.1, and RFC 7617).
    """
    start = _start(url)
    user = _user(re.split(r"[?#]", url[start:], maxsplit=1)[0])
    if not user or url.startswith("http+unix:"):
        return url, None
    name, _, password = user.partition(":")
    login = b64encode(f"{unquote(name)}:{unquote(password)}".encode("utf-8", "surrogatepass")).decode()
    return url[:start] + url[start + len(user) + 1 :], f"Basic {login}"


def url_secrets(url: str) -> Iterator[str]:
    """Yield the secrets in a URL: the user name, the password, and values of the query.

    A value is secret if its name is one such as `key` or `token`, or if it is neither words nor a number.
    """
    rest = url[_start(url) :]
    user = _user(re.split(r"[?#]", rest, maxsplit=1)[0])
    if user:
        yield unquote(user)  # `user:password` is what `Authorization: Basic` encodes in base64
        name, _, password = user.partition(":")
        yield from (text for part in (password, name) for text in (part, unquote(part)) if part)
    for pair in rest.partition("#")[0].partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        plain = unquote_plus(name)
        if value and (names_credential(plain) or _SECRET_PARAMETER.search(plain) or may_be_secret(unquote_plus(value))):
            yield from (value, unquote_plus(value))


def proxy_url(pasted: str) -> str:
    """Normalise the URL of a proxy. Raises `ValueError` with a noun phrase that says what is accepted."""
    text = pasted.strip()
    if "://" not in text:
        text = f"http://{text}"
    try:
        text.encode()  # a lone surrogate cannot be sent
        url = urlsplit(text)
        valid = (
            bool(_host(url._replace(netloc=_ZONE.sub("]", url.netloc))))
            and (url.port is None or url.port > 0)
            and not re.search(r"\s", text)
        )
        cut = (
            bool(re.search(r"[\s\\]", url.netloc.rpartition("@")[0]))
            or "@" in text.partition("://")[2][len(url.netloc) :]
        )
    except ValueError:
        # The start of a password is no port.
        url, valid, cut = (
            urlsplit(""),
            False,
            "@" in "".join(re.split(r"[/?#]", text.partition("://")[2], maxsplit=1)[1:]),
        )
    if cut:
        # What comes before the slash looks like the host, but is a part of the password. So is a space before the @.
        # Some programs read a backslash as a slash.
        raise ValueError(
            "the URL of a proxy with the password percent-encoded "
            "(/ as %2F, ? as %3F, # as %23, @ as %40, \\ as %5C, a space as %20)"
        )
    if not valid:
        raise ValueError("the URL of a proxy, such as http://host:8080 or socks5://host:1080")
    if url.scheme not in PROXY_SCHEMES:
        raise ValueError(f"the URL of a proxy that starts with {', '.join(PROXY_SCHEMES)}, not {url.scheme}")
    return url._replace(path="", query="", fragment="").geturl()


def split_url(pasted: str) -> tuple[SplitResult, list[str]]:
    """Normalise a pasted URL. Returns the URL and notes on the changes that a user should know about.

    Surrounding spaces and quotes, the fragment, and duplicate and trailing slashes are removed. Path and query stay;
    characters in them that no URL contains are percent-encoded. A missing scheme becomes `https`, or `http` for this
    machine and for a host with a port in a private network. Raises `ValueError` with a noun phrase that says what is
    accepted.
    The scheme `http+unix` means a Unix socket, whose percent-encoded path is in place of the host.
    """
    text = pasted.strip().strip("'\"<>").strip()
    if not text or any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("a URL such as https://host, without spaces inside")
    if _ONE_SLASH.match(text):
        raise ValueError("a URL with two slashes after its scheme, such as https://host")
    if not _SCHEME.match(text):
        text = f"{_scheme_for(text)}://{text.removeprefix('//')}"
    url = _split(text)
    path = _encoded(re.sub(r"/{2,}", "/", url.path).rstrip("/"))
    if any(segment.lower().replace("%2e", ".") in (".", "..") for segment in path.split("/")):
        # Some libraries remove them, and others send them.
        raise ValueError("a URL whose path has no segment . or ..")
    notes = ["the fragment after '#' was removed"] if url.fragment else []
    return url._replace(scheme=url.scheme.lower(), path=path, query=_encoded(url.query), fragment=""), notes


def _encoded(text: str) -> str:
    """Percent-encode what a URL cannot contain, so that all HTTP libraries send the same. Escapes stay as they are."""
    return text if _PLAIN.fullmatch(text) else quote(_NO_ESCAPE.sub("%25", text), safe="%/?:@!$&'()*+,;=~")


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _split(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        host, _ = _host(url), url.port
    except ValueError:
        raise ValueError("a URL with a valid host and port") from None
    if url.scheme.lower() == "http+unix":
        if not _UNIX_HOST.match(url.netloc):
            raise ValueError("a URL of a Unix socket such as http+unix://%2Frun%2Fserver.sock/v1, with each / as %2F")
        return url
    if url.scheme.lower() == "unix":
        raise ValueError(
            "a URL that starts with http+unix:// for a Unix socket, such as http+unix://%2Frun%2Fserver.sock/v1, "
            "with each / of the path as %2F"
        )
    if url.scheme.lower() not in ("http", "https"):
        raise ValueError(f"a URL that starts with http:// or https://, not {url.scheme}://")
    if "\\" in url.netloc:  # browsers read it as a slash, and so would show another host than the one that is called
        raise ValueError("a URL without a backslash in front of its path")
    if not host:
        raise ValueError("a URL with a host, such as https://host")
    if len(longest := max(host.split("."), key=len)) > MAX_LABEL:
        raise ValueError(f"a URL whose host has at most {MAX_LABEL} characters between two dots, not {len(longest)}")
    return url


def _host(url: SplitResult) -> str:
    """Return the host of a URL in ASCII, an IPv6 address in brackets, or "" if it is not valid."""
    host = ascii_host(url.hostname or "")
    if "[" in url.netloc.rpartition("@")[2]:
        host = f"[{host}]"
    return host if _HOST.match(host) and ".." not in host else ""


def same_origin(url: str, other: str) -> bool:
    """Return whether two URLs lead to the same server, so that the credentials for one may be sent to the other.

    An invalid URL is on no server: HTTP libraries may differ in the host that they read in it.
    """
    try:
        return _origin(_split(url)) == _origin(_split(other))
    except ValueError:
        return False


def _origin(url: SplitResult) -> tuple[str, str, int | None]:
    scheme = url.scheme.lower()
    return scheme, _host(url) or url.netloc, url.port or {"http": 80, "https": 443}.get(scheme)


def ascii_host(host: str) -> str:
    """Return the ASCII form (IDNA) of the name of a host, or an empty text if it has none."""
    try:
        return host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        return ""


def _scheme_for(text: str) -> str:
    authority = re.split(r"[/?#]", text.removeprefix("//"), maxsplit=1)[0].rpartition("@")[2]
    host, colon, port = authority.rpartition(":")
    has_port = bool(colon) and port.isdigit()
    name = (host if has_port else authority).strip("[]").lower()
    if is_loopback(name):
        return "http"
    return "http" if has_port and _is_private(name) else "https"


def _is_private(host: str) -> bool:
    if "." not in host and ":" not in host:
        return True
    if host.endswith((".local", ".internal", ".lan", ".home.arpa")):
        return True
    try:
        return ip_address(host).is_private
    except ValueError:
        return False


def plain_http_note(base: str) -> str | None:
    """Return the warning that credentials would be sent to another machine over plain HTTP, or `None`."""
    url = urlsplit(base)
    if url.scheme != "http" or is_loopback(url.hostname or ""):
        return None
    return f"credentials are sent to {url.hostname} over plain HTTP, where others can read it; use https"
