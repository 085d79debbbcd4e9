"""Send with the application's own client of httpx2 or httpx, which is used without changes and never closed.

Both libraries have the same API; the exceptions are looked up in the module that the client comes from. A client does
not say whether a connection was reused, so a request on a stale one is an error that the retry policy handles.
"""

from __future__ import annotations

import logging
import math
import sys
import traceback
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

import anyio

from trunkline._exception_text import exception_text
from trunkline._http.common import (
    CLOSE_LIMIT,
    HTTPClient,
    HTTPErrors,
    HTTPResponse,
    Sender,
    default_headers,
    encodings,
    user_agent,
)
from trunkline._http.decompression import DecodingError
from trunkline._http.failures import INVALID
from trunkline._http.handshake import Closable, close_now
from trunkline._http.socks import CompleteReplies, SocksStream
from trunkline._http.unsolicited import close_idle, has_unsolicited_bytes, refuse_reuse
from trunkline.authoring.wire import WireRequest
from trunkline.errors import CallError, ConfigurationError, TrunklineError

if TYPE_CHECKING:
    import httpx2

    from trunkline._http.proxies import Proxy

HTTP2_WARNING = (
    "your http_client uses HTTP/2, where all requests to a server share one connection: a call that is cancelled or "
    "times out can break the others, and the server is not asked to stop generating; create the client with http2=False"
)
"""What is logged once for each client. The libraries send no RST_STREAM when a stream is closed; a timeout of one read
fails all streams of the connection; and a write that is cancelled leaves half a frame behind."""

_log = logging.getLogger("trunkline")
_warned_of_http2: WeakSet[object] = WeakSet()


def library_of(client: object) -> ModuleType:
    """Return the module of the application's client. Raises `ConfigurationError` if it is not a client of httpx."""
    for base in type(client).__mro__:
        name = base.__module__.partition(".")[0]
        if name in ("httpx2", "httpx") and base.__name__ == "AsyncClient":
            return sys.modules[name]
    raise ConfigurationError(
        f"http_client must be an httpx2.AsyncClient (or an httpx.AsyncClient), not {type(client).__name__}",
        setting="http_client",
    )


def client_sender(http_client: HTTPClient) -> Sender:
    """Return the sender of the application's client. Raises `ConfigurationError` if it is not a client of httpx."""
    library, client = library_of(http_client), cast("httpx2.AsyncClient", http_client)
    # Its library may have found a package for an encoding that cannot be decompressed here.
    supported = encodings(default_headers()["accept-encoding"])
    wanted = [item.strip() for item in client.headers.get("accept-encoding", "").split(",")]
    accepted = [item for item in wanted if item.partition(";")[0].strip().lower() in supported]
    known = encodings(",".join(item.partition(";")[0] for item in accepted))
    accept = None if accepted == wanted else ", ".join(accepted) or "identity"

    async def send(wire_request: WireRequest, timeouts: dict[str, float | None], *, resend: bool) -> HTTPResponse:
        if client.is_closed:
            raise CallError("the http_client that the application passed is closed; keep it open while it is in use")
        headers = dict(wire_request.headers)
        if client.headers.get("user-agent", "").startswith("python-httpx"):
            headers.setdefault("user-agent", user_agent())  # unless the application has chosen one
        if accept is not None:
            headers.setdefault("accept-encoding", accept)
        trace = _ClientTrace(connect=timeouts["connect"], headers=timeouts["read"])
        request = client.build_request(
            wire_request.method,
            wire_request.url,
            headers=headers,
            content=wire_request.body,
            extensions={"timeout": timeouts, "trace": trace},
        )
        response: _ClientResponse | None = None
        try:
            # `auth=None`: otherwise a client adds an Authorization header from the URL or from .netrc, and the request
            # is not what a signature covers.
            with trace.scope:
                response = _ClientResponse(await client.send(request, stream=True, auth=None, follow_redirects=False))
        except Exception as error:
            if not _is_of_hook(error, library):
                if type(error) is ValueError and trace.is_sent:  # with HTTP/2, the status that came is no number
                    raise library.RemoteProtocolError(INVALID) from None
                raise
            if _request_of(error) is not request:  # also if the hook has sent another request, which failed
                # Its frames hold the headers, so the cause is not kept.
                raise _hook_error(error) from None
            if not isinstance(error, library.HTTPStatusError):
                raise  # the connection failed while the hook read the body
            refused: Any = error  # the hook called `raise_for_status`
            response = _ClientResponse(refused.response)
        finally:
            await trace.close_handshake()
        if response is None:  # the scope was cancelled by its deadline
            raise library.ReadTimeout("")
        if response.http_version == b"HTTP/2" and client not in _warned_of_http2:
            _warned_of_http2.add(client)
            _log.warning(HTTP2_WARNING)
        if response.is_decoded:
            # An event hook has read the body, and with its end the client has closed the response.
            with anyio.move_on_after(CLOSE_LIMIT, shield=True):
                await close_idle(response.stream)
        return response

    return Sender(send, _client_errors(library), known)


def _is_of_hook(error: Exception, library: ModuleType) -> bool:
    """Whether one of the application's event hooks has raised an error, or is not asynchronous.

    The client calls its hooks in `_send_handling_redirects`, which is not documented; `test_core_own_client.py` checks
    it.
    """
    step = error.__traceback__
    while step is not None:
        inner = step.tb_next
        if step.tb_frame.f_code.co_name == "_send_handling_redirects":
            if inner is None:
                return isinstance(error, TypeError)
            if inner.tb_frame.f_globals.get("__name__", "").partition(".")[0] != library.__name__:
                return True
        step = inner
    return False


def _request_of(error: Exception) -> object:
    """Return the request whose failure an error of the library is, or `None`."""
    try:
        return getattr(error, "request", None)
    except RuntimeError:  # the library raises it if no request was set
        return None


def _hook_error(error: Exception) -> Exception:
    """Return our error for one that an event hook has raised."""
    if isinstance(error, TrunklineError):
        return error
    failed = CallError(f"an event hook of the http_client that the application passed failed: {exception_text(error)}")
    failed.add_note("".join(["Raised in:\n", *traceback.format_tb(error.__traceback__)[-1:]]).rstrip())
    return failed


class _ClientTrace:
    """Follows a request through its extension `trace`, which both libraries document and call at each step.

    It limits the time until the headers of the response have arrived, and finds the connection of the request while its
    handshake is in progress. The client applies its timeouts to each read and write, so these would never be reached:

    - A server sends a byte of the headers now and then. The headers of a proxy's answer are limited as well.
    - With HTTP/2, a server sends frames now and then, but does not accept the body.
    - With HTTP/2, a request waits without a timeout until another one of its connection is complete.

    Without an event, `connect` and `headers` together are allowed. An upload over HTTP/1.1 may take any time, since
    each write has a timeout.

    It also makes the handshake with a SOCKS proxy wait for complete replies.
    """

    def __init__(self, *, connect: float | None, headers: float | None) -> None:
        self.scope = anyio.CancelScope()
        self.is_sent = False
        """Whether the headers of the request were sent."""
        self._headers = math.inf if headers is None else headers
        self._connect = math.inf if connect is None else connect + self._headers
        self._allow(self._connect)
        self._stream: Closable | None = None
        self._is_in_handshake = False

    def _allow(self, seconds: float) -> None:
        self.scope.deadline = anyio.current_time() + seconds

    async def __call__(self, event: str, info: dict[str, object]) -> None:
        """Note a step: its name is `connection.start_tls.started`, for example."""
        # A transport of the application may report steps with names of any form.
        layer, _, rest = event.partition(".")
        step, _, state = rest.partition(".")
        if step == "receive_response_headers":
            self._allow(self._headers if state == "started" else math.inf)
        elif step in ("send_request_headers", "send_request_body"):
            self._allow(self._headers if layer == "http2" else math.inf)
            self.is_sent = self.is_sent or state == "complete"
        elif layer == "connection" or step == "send_connection_init":
            self._allow(self._connect)
        if step in ("start_tls", "setup_socks5_connection"):
            self._is_in_handshake = state != "complete"
            if step == "setup_socks5_connection" and state == "started" and "stream" in info:
                # Both libraries pass these arguments on to the handshake after this call.
                info["stream"] = CompleteReplies(cast("SocksStream", info["stream"]))
        if state == "complete" and step in ("connect_tcp", "connect_unix_socket", "start_tls"):
            self._stream = info.get("return_value")  # type: ignore[assignment]  # its type is that of any value

    async def close_handshake(self) -> None:
        """Close the connection if its handshake, with the server or a SOCKS proxy, has not ended."""
        if self._is_in_handshake and self._stream is not None:
            await close_now(self._stream)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


class _ClientResponse:
    """The `HTTPResponse` of a client of httpx2 or httpx."""

    __slots__ = ("_response", "chunks", "http_version", "is_decoded", "proxy", "raw_headers", "status", "stream")

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self.proxy: Proxy | None = None
        self.status = response.status_code
        self.raw_headers: Sequence[tuple[bytes, bytes]] = response.headers.raw
        self.http_version: object = response.extensions.get("http_version")
        # The declared type of the stream is also that of the library's synchronous API.
        stream: Any = response.stream
        self.stream: object = stream
        is_lost = response.is_closed and not response.is_stream_consumed  # the client closes it if a hook raises
        self.is_decoded = response.is_stream_consumed or is_lost
        self.chunks: AsyncIterable[bytes] = (
            _nothing() if is_lost else response.aiter_bytes() if self.is_decoded else stream
        )

    def has_unsolicited_bytes(self) -> bool:
        """Whether bytes follow the response. Call this after the response was read to its end."""
        return not self.is_decoded and has_unsolicited_bytes(self.stream)

    def refuse_reuse(self) -> None:
        """Let `aclose` close the connection, also if the body was read to its end."""
        refuse_reuse(self.stream)

    def aclose(self) -> Awaitable[None]:
        """Close the connection, or return it to its pool if the body was read to its end."""
        return self._response.aclose()


def _client_errors(library: ModuleType) -> HTTPErrors:
    """Return the exceptions of a client's module, `httpx2` or `httpx`."""
    return HTTPErrors(
        connect_timeout=library.ConnectTimeout,
        pool_timeout=library.PoolTimeout,
        response_timeout=(library.ReadTimeout, library.WriteTimeout),
        decoding=(DecodingError, library.DecodingError),
        proxy=library.ProxyError,
        local_protocol=library.LocalProtocolError,
        remote_protocol=library.RemoteProtocolError,
        invalid_url=(library.InvalidURL, library.UnsupportedProtocol),
        transport=library.TransportError,
    )
