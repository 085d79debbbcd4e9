"""The errors of connections, in our words: the same failure has the same class and text with each HTTP library.

The texts of the libraries never reach a user. They name internals ("TransferEncodingError: 400, message=…"), and some
of them quote headers or bytes of the response. Only the operating system's reason is kept, in ordinary words.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator

import attrs

from trunkline._base_errors import Problem
from trunkline._http.proxies import Proxy
from trunkline._http.socks import is_message
from trunkline._urls import redact_url
from trunkline.errors import (
    ConfigurationError,
    ConnectionFailed,
    ProtocolViolation,
    StreamInterrupted,
    TrunklineError,
)

CLOSED = "the server closed the connection without a response"
RESET = "connection reset by the server"
CUT = "the server closed it before the response was complete"
INVALID = "what the server sent is not valid HTTP"
BAD_NAME = "the name of the host cannot be resolved (it is not valid)"
NO_ADDRESS = "the name of the host cannot be resolved (it has no address)"
TLS_ALERT = "the server sent a TLS alert"
"""A note that the pool adds to an error."""
REUSED = "the server has answered a request on this connection"
"""A note that the transports add to an error."""
TOO_LARGE = "the headers of the response are too large"

_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: RESET,
    errno.ECONNABORTED: "connection aborted",
    errno.EPIPE: RESET,
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "the network is unreachable",
    errno.ETIMEDOUT: "the connection timed out",
    errno.EMFILE: "this process has too many open files",
}

_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_WRONG_HOST = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_WRONG_TIME = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


@attrs.frozen
class _Failure:
    """Why there is no connection, and what to do about it."""

    reason: str
    problem: Problem | None
    advice: str | None = None

    def error(self, what: str, *, retryable: bool | None = False) -> ConnectionFailed:
        """Return the error. `what` is its message before the reason, such as "cannot reach https://host"."""
        return ConnectionFailed(f"{what}: {self.reason}", retryable=retryable, problem=self.problem, advice=self.advice)


def no_response(url: str, error: BaseException, reason: str, through: Proxy | None = None) -> TrunklineError:
    """Return the error of a request that got no response.

    `error` is the library's. `reason` says why if the operating system and TLS did not report anything. `through` is
    the proxy that had connected to the server.
    """
    where = redact_url(url) if through is None else f"{redact_url(url)} through {through}"
    if (tls := _tls_failure(error)) is not None:
        return tls.error(f"no secure connection to {where}")
    if reason == INVALID and _is_tls(error) and where.startswith("http:"):
        return _Failure("the server expects TLS", "tls", "use https instead of http in the URL").error(
            f"cannot reach {where}"
        )
    text = os_reason(error) or reason
    advice = None
    if text in (CLOSED, RESET) and not _has_note(error, REUSED) and not where.startswith("http+unix:"):
        # A server that expects TLS or a certificate does this, and so does one that has just crashed.
        plain = where.startswith("http:")
        expected = (
            "TLS, use https in the URL"
            if plain
            else "a client certificate, set 'client_certificate' to one that it accepts"
        )
        advice = f"if it expects {expected}"
    # A server that sends too large headers does so again.
    retryable = None if text != TOO_LARGE else False
    problem = "dns" if reason == BAD_NAME else _problem(error)
    return _Failure(text, problem, advice).error(f"cannot reach {where}", retryable=retryable)


def interrupted(url: str, error: BaseException, reason: str, through: Proxy | None = None) -> StreamInterrupted:
    """Return the error of a response whose connection broke. `reason` and `through` are those of `no_response`."""
    where = redact_url(url) if through is None else f"{redact_url(url)} through {through}"
    return StreamInterrupted(
        f"the connection to {where} was lost: {os_reason(error) or reason}",
        proxy=None if through is None else redact_url(through.url),
    )


def not_decodable(url: str, encoding: str, reason: str = "") -> ProtocolViolation:
    """Return the error of a response that cannot be decompressed."""
    text = f"the response from {redact_url(url)} cannot be decompressed (content-encoding: {encoding})"
    return ProtocolViolation(f"{text}: {reason}" if reason else text)


def unknown_encoding_error(url: str, encoding: str) -> ProtocolViolation:
    """Return the error of a response whose encoding was not asked for."""
    return ProtocolViolation(
        f"the response from {redact_url(url)} cannot be decompressed: its content-encoding is {encoding!r}, which the "
        "request did not ask for"
    )


def proxy_not_reached(proxy: Proxy, error: BaseException) -> ConnectionFailed:
    """Return the error of a proxy that no connection could be made to."""
    failure = _tls_failure(error) or _Failure(os_reason(error) or CLOSED, "proxy")
    return failure.error(f"cannot reach {proxy}")


def proxy_handshake(
    proxy: Proxy, url: str, error: BaseException, answer: bytes, *, has_ended: bool
) -> ConnectionFailed:
    """Return the error of a proxy that accepted a connection, but failed before it was connected to the server.

    `answer` holds the first bytes of its last answer, at most five. `has_ended` says whether the connection ended after
    them.
    """
    if (tls := _tls_failure(error)) is not None:
        return tls.error(f"no secure connection to {proxy}")
    advice = None
    if answer.startswith(b"\x15\x03"):
        reason, advice = "it expects TLS", "use https instead of http in its URL"
    elif proxy.is_socks and answer.startswith(b"HTTP"):
        reason, advice = "it is an HTTP proxy", "use http instead of socks5 in its URL"
    elif not answer or os_reason(error) is not None or (has_ended and _is_begun(proxy, answer)):
        return proxy_refused(proxy, url, os_reason(error) or "it closed the connection", retryable=True)
    else:
        reason = f"its answer is not valid {'SOCKS5' if proxy.is_socks else 'HTTP'}"
    return proxy_refused(proxy, url, reason, retryable=False, advice=advice)


def _is_begun(proxy: Proxy, answer: bytes) -> bool:
    """Whether a proxy's answer begins as its protocol demands."""
    return is_message(answer) if proxy.is_socks else b"HTTP/".startswith(answer)


def proxy_login(proxy: Proxy) -> ConfigurationError:
    """Return the error of a proxy that asks for a login, or refuses the one that it got."""
    if proxy.login:
        problem = "refuses the user name and password in its URL"
        advice = "correct them in its URL; in a password, write @ as %40, : as %3A, / as %2F and % as %25"
    else:
        problem = "requires a user name and a password"
        advice = "put them in its URL: http://user:password@host"
    return ConfigurationError(f"{proxy} {problem}", setting=proxy.setting, advice=advice, problem="proxy")


def proxy_refused(
    proxy: Proxy, url: str, reason: str, *, retryable: bool, advice: str | None = None
) -> ConnectionFailed:
    """Return the error of a proxy that did not connect to the server."""
    failure = _Failure(reason, "proxy", advice)
    return failure.error(f"{proxy} did not connect to {redact_url(url)}", retryable=retryable)


def reason_of(error: BaseException, otherwise: str) -> str:
    """Return the reason of TLS or of the operating system for an error, in words, or `otherwise` if there is none."""
    failure = _tls_failure(error)
    return (failure.reason if failure is not None else os_reason(error)) or otherwise


def is_name_error(error: BaseException) -> bool:
    """Whether looking up the name of a host failed because it is not valid, for example because a part is too long."""
    # The codec `idna` raises it. The class depends on the version of Python.
    return isinstance(error, UnicodeError) and getattr(error, "encoding", "idna") == "idna"


def has_no_address(error: BaseException) -> bool:
    """Whether looking up the name of a host succeeded, and returned no address."""
    # trio raises an `OSError` without a number. anyio makes a group of no exceptions on asyncio, which Python refuses.
    words: dict[type, str] = {OSError: "no results found", ValueError: "non-empty sequence"}
    return any(type(link) in words and words[type(link)] in str(link) for link in _chain(error))


def protocol_reason(error: BaseException, closed: str) -> str:
    """Return what an error of httpx2, httpx or httpcore2 about the protocol means: `closed`, or what is wrong."""
    text = str(error)
    if "too long" in text:
        return TOO_LARGE
    # The other texts are those of h11 about bytes that are not HTTP. The classes do not tell them apart.
    return closed if text.startswith(("Server disconnected", "peer closed connection")) or not text else INVALID


def os_reason(error: BaseException) -> str | None:
    """Return the operating system's reason for an error, in words, or `None` if there is none."""
    if isinstance(found := _find(error, socket.gaierror), OSError):
        return f"the name of the host cannot be resolved ({(found.strerror or 'unknown').lower()})"
    if has_no_address(error):
        return NO_ADDRESS
    found = _find(error, OSError)
    if not isinstance(found, OSError) or not found.errno or isinstance(found, ssl.SSLError):
        return None
    return _WORDS.get(found.errno) or os.strerror(found.errno).lower()


def _tls_failure(error: BaseException) -> _Failure | None:
    """Return what is wrong for as long as nobody changes it, or `None` if the connection broke in the handshake."""
    tls = _find(error, ssl.SSLError)
    if not isinstance(tls, ssl.SSLError):
        return None
    if isinstance(tls, ssl.SSLCertVerificationError):
        text = tls.verify_message.rstrip(".")
        if tls.verify_code in _WRONG_HOST:
            reason, advice = f"the server's certificate belongs to another host ({text})", "check the host in the URL"
        elif tls.verify_code in _WRONG_TIME:
            reason, advice = (
                f"the server's certificate is not valid now ({text})",
                "check the clock of this machine; if it is right, the server needs a new certificate",
            )
        else:
            reason = f"the server's certificate is not trusted ({text})"
            advice = (
                "if a private certificate authority or a proxy issued it, set 'ca_bundle' to a file that contains the "
                "certificate of that authority"
            )
        return _Failure(reason, "certificate", advice)
    reason = getattr(tls, "reason", None) or ""
    if reason in _NO_TLS:
        advice = "check the port, or use http instead of https in the URL"
        return _Failure("the server does not use TLS on this port", "tls", advice)
    if "ALERT" in reason or "HANDSHAKE_FAILURE" in reason:
        words = (reason.partition("ALERT_")[2] or reason).replace("_", " ").lower()
        advice = "if it requires a client certificate, set 'client_certificate' to one that it accepts"
        return _Failure(f"the server refused the TLS handshake ({words})", "tls", advice)
    if isinstance(tls, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) or not reason:
        return None
    return _Failure(f"TLS failed ({reason.replace('_', ' ').lower()})", "tls")


def _problem(error: BaseException) -> Problem | None:
    if _find(error, socket.gaierror) is not None or has_no_address(error):
        return "dns"
    found = _find(error, OSError)
    return "refused" if isinstance(found, OSError) and found.errno == errno.ECONNREFUSED else None


def _is_tls(error: BaseException) -> bool:
    # The pool notes it; aiohttp quotes the bytes that are no HTTP.
    return _has_note(error, TLS_ALERT) or any("\\x15\\x03" in str(link) for link in _chain(error))


def _has_note(error: BaseException, note: str) -> bool:
    return any(note in getattr(link, "__notes__", ()) for link in _chain(error))


def _find(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """Return the first cause of a kind that says something: an `OSError` needs a number."""
    for link in _chain(error):
        if isinstance(link, kind) and (kind is not OSError or (isinstance(link, OSError) and link.errno)):
            return link
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, without the wrappers of aiohttp around errors of the system and of TLS."""
    link: BaseException | None = error
    for _ in range(6):
        if link is None:
            return
        inner = getattr(link, "certificate_error", None) or getattr(link, "os_error", None)
        if isinstance(inner, BaseException):
            link = inner
            continue
        yield link
        # A group holds the attempts to connect to each address of a host.
        link = link.exceptions[0] if isinstance(link, BaseExceptionGroup) else link.__cause__ or link.__context__
