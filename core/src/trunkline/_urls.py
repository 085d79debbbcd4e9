"""Normalise pasted URLs, and remove secrets from URLs."""

from __future__ import annotations

import re
import unicodedata
from base64 import b64encode
from collections.abc import Iterator
from difflib import get_close_matches
from ipaddress import IPv6Address, ip_address
from urllib.parse import SplitResult, quote, unquote, unquote_plus, urlsplit

from trunkline._masking import looks_like_key, may_be_secret, names_credential

_AUTHORITY = re.compile(r"^\W*([A-Za-z][A-Za-z0-9+.-]*:[/\\]+|https?:|([A-Za-z]+[;.,]*)?[/\\]{2})", re.IGNORECASE)
_SECRET_PARAMETER = re.compile("sig|code|ticket|hmac|pass", re.IGNORECASE)  # in signed URLs and logins
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_SLASHES = re.compile(r"(https?):([/\\]*)", re.IGNORECASE)
_SCHEME_TYPED = re.compile(r"([A-Za-z][A-Za-z0-9]*)([:;.,]*)([/\\]+)")
"""A word, punctuation and slashes: what was perhaps meant as the scheme."""
_LINK = re.compile(r"!?\[([^\]]*)\]\(\s*<?([^\s()<>]+)>?\s*\)")  # in Markdown
_EMBEDDED = re.compile(r"https?://[^\s'\"`<>()]+", re.IGNORECASE)
_BEGINS_ANOTHER = re.compile(r"[A-Za-z]+[:;.,]*[/\\]|https?:|.+://", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_PLACEHOLDER = re.compile(r"<[^<>]*>|\$?\{[^{}]*\}|\$[A-Z_]+")
_QUOTES = "'\"`´‘’‚“”„«»‹›「」"
_OPENING, _CLOSING = _QUOTES + "<(", _QUOTES + ">,;"
# A soft hyphen, zero-width characters, marks of the direction of text, a byte-order mark. Nobody sees them, so without
# them a URL is what its user sees. Others change the order of the text, and are refused.
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
_LIKE_SLASHES = dict.fromkeys(map(ord, "\\\u2044\u2215\u2571\u29f8"), "/")
_LIKE_DOTS = dict.fromkeys(map(ord, "\u3002\uff0e\uff61"), ".")
"""Full stops that IDNA reads as dots (RFC 3490, section 3.1)."""
_LONGEST_SHOWN = 200
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


def clean_url(pasted: str) -> str:
    """Return a pasted URL without what surrounds it: spaces, quotes, `<>`, a link in Markdown, invisible characters."""
    text = pasted.translate(_INVISIBLE).strip()
    link = _LINK.fullmatch(text)
    # A link may show another URL than the one that it leads to.
    if link is not None and ("://" not in link[1] or link[1] == link[2]):
        text = link[2]
    cleaned = text.lstrip(_OPENING).rstrip(_CLOSING).strip()
    return cleaned if "(" in cleaned else cleaned.rstrip(")")


def proxy_url(pasted: str) -> str:
    """Normalise the URL of a proxy. Raises `ValueError` with a noun phrase that says what is accepted."""
    text = clean_url(pasted)
    try:
        return _proxy(text)
    except ValueError as error:
        problem = str(error)
    raise ValueError(_with_probable(problem, text, PROXY_SCHEMES))


def _proxy(text: str) -> str:
    if "://" not in text and not _is_mistyped(text, PROXY_SCHEMES) and not _SLASHES.match(text):
        text = f"http://{_bracketed(text.removeprefix('//'))}"
    try:
        text.encode()  # a lone surrogate cannot be sent
        url = urlsplit(text)
        valid = (
            bool(_host(url._replace(netloc=_ZONE.sub("]", url.netloc))))
            and (url.port is None or url.port > 0)
            and not re.search(r"\s", text)
            and not _is_scheme_as_host(url, PROXY_SCHEMES)
            and max(map(len, _host(url).split("."))) <= MAX_LABEL
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


def split_url(pasted: str, scheme: str | None = None) -> tuple[SplitResult, list[str]]:
    """Normalise a pasted URL. Returns the URL and notes on the changes that a user should know about.

    Surrounding spaces, quotes and invisible characters, the fragment, punctuation at the end, and duplicate and
    trailing slashes are removed. Path and query stay; characters in them that no URL contains are percent-encoded. A
    missing scheme becomes `scheme`, if it is given, else `https`, or `http` for this machine and for a host with a port
    in a private network. Fewer than two slashes after `https:` are read as two, as browsers do.

    Raises `ValueError` with a noun phrase that says what is accepted and, where it can be guessed, which URL was
    probably meant. A scheme that is spelt wrong is refused, since it could be the name of a host.
    The scheme `http+unix` means a Unix socket, whose percent-encoded path is in place of the host.
    """
    text = clean_url(pasted)
    try:
        return _split_clean(text, scheme)
    except ValueError as error:
        problem = str(error)
    raise ValueError(_with_probable(problem, text, ("http", "https")))


def _split_clean(text: str, scheme: str | None = None) -> tuple[SplitResult, list[str]]:
    if not text or any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("a URL such as https://host, without spaces inside")
    notes = []
    slashes = _SLASHES.match(text)
    if slashes is not None and slashes[2] != "//":
        rest = text[slashes.end() :]
        if "///" in slashes[2] or not (_begins_with_host(rest) or _may_begin_with_host(rest)):
            raise ValueError("a URL with a host, such as https://host")  # in `http:///v1`, the host is missing
        text = f"{slashes[1]}://{rest}"
        notes.append(f"it was read as {redact_url(text)}, with two slashes after its scheme")
    elif not _SCHEME.match(text):
        text = _with_scheme(text, scheme)
    if "?" not in text and "#" not in text and text[-1] in ".!":
        without = text.rstrip(".!")
        # A host may end with a dot, and a path of dots is refused.
        if without[-1:] != "/" and (text[-1] == "!" or "/" in text.partition("://")[2]):
            text = without
            notes.append("the punctuation at its end was removed")
    url = _split(text)
    if _is_scheme_as_host(url, ("http", "https")):
        raise ValueError("a URL with one scheme, such as https://host")
    path = _encoded(re.sub(r"/{2,}", "/", url.path).rstrip("/"))
    if any(segment.lower().replace("%2e", ".") in (".", "..") for segment in path.split("/")):
        # Some libraries remove them, and others send them.
        raise ValueError("a URL whose path has no segment . or ..")
    notes += ["the fragment after '#' was removed"] if url.fragment else []
    netloc = url.netloc.removesuffix(":")  # a port that is empty
    url = url._replace(scheme=url.scheme.lower(), netloc=netloc, path=path, query=_encoded(url.query), fragment="")
    return url, notes


def _begins_with_host(text: str) -> bool:
    """Whether a text without a scheme begins with a host: with a dot or a port, or `localhost`."""
    host = _authority(text)
    return not host.isdigit() and ("." in host or ":" in host or is_loopback(host))


def _may_begin_with_host(text: str) -> bool:
    """Whether a text without a scheme may begin with a host that is one word: not a version, a port or a key."""
    host = _authority(text)
    return bool(_HOST.match(host)) and not re.fullmatch("v?[0-9].*", host) and not may_be_secret(host)


def _authority(text: str) -> str:
    """Return the host and the port at the beginning of a text without a scheme."""
    return re.split(r"[/?#]", text, maxsplit=1)[0].rpartition("@")[2]


def _with_scheme(text: str, scheme: str | None) -> str:
    if _is_mistyped(text, ("http", "https")):
        raise ValueError("a URL that starts with http:// or https://, such as https://host")
    rest = _bracketed(text.removeprefix("//"))
    if re.fullmatch(r"[A-Za-z0-9_-]+", rest) and looks_like_key(rest):
        # Errors would show it as the name of the host.
        raise ValueError("a URL such as https://host, not a key")
    if scheme is None and not _begins_with_host(rest):
        # Such as a region, or `true`: a word that was meant for another setting.
        raise ValueError("a URL such as https://host; without https://, a host needs a dot or a port")
    return f"{scheme or _scheme_for(rest)}://{rest}"


def _bracketed(text: str) -> str:
    """Return an IPv6 address in brackets, and any other text unchanged. The end of the address could be a port."""
    return f"[{text}]" if _is_ipv6(text) and not _is_ipv6(text.rpartition(":")[0]) else text


def _is_ipv6(text: str) -> bool:
    try:
        return bool(IPv6Address(text))
    except ValueError:
        return False


def _is_mistyped(text: str, schemes: tuple[str, ...]) -> bool:
    """Whether a text without a valid scheme begins with what was meant as one, such as `https//` or `htps:/`."""
    found = _SCHEME_TYPED.match(text)
    if found is None:
        return False
    word, punctuation, slashes = found.groups()
    return (
        word.lower() in schemes
        or ":" in punctuation
        or ";" in punctuation
        or ((len(slashes) > 1 or _begins_with_host(text[found.end() :])) and _scheme_meant(word, schemes) is not None)
    )


def _is_scheme_as_host(url: SplitResult, schemes: tuple[str, ...]) -> bool:
    """Whether the host is a second scheme, as in `https://https://host`. A host of that name needs a port."""
    host = (url.hostname or "").removesuffix(".")
    if url.netloc.endswith(":") and url.path.startswith("//"):  # such as `https://www.https://host`
        return True
    if url.port is not None or "." in host:
        return False
    before_host = host in schemes or url.path.startswith("//") or _begins_with_host(url.path[1:])
    return before_host and _scheme_meant(host, schemes) is not None


def _scheme_meant(word: str, schemes: tuple[str, ...]) -> str | None:
    word = {"ws": "http", "wss": "https"}.get(word.lower(), word.lower())
    if word in ("socks4", "socks4a"):  # a server that speaks only this is reached with no other scheme
        return None
    return next(iter(get_close_matches(word, schemes, 1, 0.74)), None)


def _with_probable(problem: str, text: str, schemes: tuple[str, ...]) -> str:
    """Return the problem of a URL, with the URL that was probably meant."""
    if "@" in text:
        return problem  # a password may be anywhere in it
    found = _PLACEHOLDER.search(_authority(text[_start(text) :]))
    if found is not None and not may_be_secret(found[0].strip("<>${}")):
        return f"a URL without placeholders; replace {found[0]}"
    probable = _probable(text, schemes)
    return problem if probable is None else f"{problem}; did you mean {probable}?"


def _probable(text: str, schemes: tuple[str, ...]) -> str | None:
    text = unicodedata.normalize("NFKC", text).translate(_LIKE_SLASHES | _LIKE_DOTS)
    embedded = _EMBEDDED.search(text, 1)
    before = "" if embedded is None else text[: embedded.start()]
    if embedded is not None and re.search(r"[\s=]", before) and "." not in before:
        text = embedded[0]  # of a line of a shell script, for example
    first, *others = text.split() or [""]
    if any(map(_BEGINS_ANOTHER.match, others)):
        return None  # several URLs
    text = first + "".join(others)
    scheme = None
    while (found := _SCHEME_TYPED.match(text)) and (meant := _scheme_meant(found[1], schemes)):
        scheme, text = meant, text[found.end() :]
    if scheme is None and (slashes := _SLASHES.match(text)):
        scheme, text = slashes[1], text[slashes.end() :]
    if others and scheme is None:
        return None
    if scheme is None and may_be_secret(_authority(text)):
        return None  # perhaps a key with a line break
    if not _begins_with_host(text) and (scheme is None or not _may_begin_with_host(text)):
        return None
    try:
        candidate = text if scheme is None else f"{scheme}://{text}"
        found_url = _proxy(candidate) if schemes is PROXY_SCHEMES else _split_clean(candidate)[0].geturl()
    except ValueError:
        return None
    shown = redact_url(found_url)
    return shown if len(shown) <= _LONGEST_SHOWN else None


def _encoded(text: str) -> str:
    """Percent-encode what a URL cannot contain, so that all HTTP libraries send the same. Escapes stay as they are."""
    return text if _PLAIN.fullmatch(text) else quote(_NO_ESCAPE.sub("%25", text), safe="%/?:@!$&'()*+,;=~")


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _split(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        host, _ = _host(url), url.port
    except ValueError:
        authority = _authority(text[_start(text) :])
        if re.fullmatch(r"[0-9A-Fa-f:.]+", authority) and authority.count(":") > 1:
            raise ValueError("a URL with its IPv6 address in brackets, such as http://[::1]:8080") from None
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
    if not ascii_host(name := url.hostname or "") and name:
        raise ValueError("a URL whose host has only letters, digits and hyphens between its dots")
    if not host:
        raise ValueError("a URL with a host, such as https://host")
    if len(longest := max(host.split("."), key=len)) > MAX_LABEL:
        raise ValueError(f"a URL whose host has at most {MAX_LABEL} characters between two dots, not {len(longest)}")
    return url


def _host(url: SplitResult) -> str:
    """Return the host of a URL in ASCII, an IPv6 address in brackets, or "" if it is not valid."""
    host = ascii_host(url.hostname or "")
    authority = url.netloc.rpartition("@")[2]
    if "[" in authority:
        host = f"[{host}]" if re.search(r"\](:[0-9]*)?$", authority) else ""
    return host if _HOST.match(host) and ".." not in host and not _is_part_of_an_address(host) else ""


def _is_part_of_an_address(host: str) -> bool:
    """Whether a host is a number, such as a port alone, or ends with one, but is no IP address.

    Operating systems read `127.1` and `11434` as addresses.
    """
    if not _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        return False
    try:
        return not ip_address(host.rstrip("."))
    except ValueError:
        return True


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
    """Return the ASCII form (IDNA 2008) of the name of a host, or an empty text if it has none.

    Both HTTP libraries call the host by this name. Characters that they map to others in different ways have none.
    """
    if host.isascii():
        return host
    if host != host.translate(_LIKE_DOTS):
        return ""
    import idna  # its tables are large

    try:
        return idna.encode(host.lower()).decode()
    except UnicodeError:
        return ""


def _scheme_for(text: str) -> str:
    authority = _authority(text)
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
    return f"credentials are sent to {url.hostname} over plain HTTP, where others can read them; use https"
