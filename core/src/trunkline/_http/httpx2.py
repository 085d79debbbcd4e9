"""The HTTP transport of httpx2, for asyncio and trio.

There are two ways to send, each a `Sender`:

- `Pool` (see `_http/pool.py`), which uses httpcore2 directly: the default
- the application's own client (see `_http/own_client.py`)
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import anyio

from trunkline._http.common import (
    CLOSE_LIMIT,
    DRAIN_LIMIT,
    ConnectionOptions,
    ErrorTypes,
    HTTPClient,
    HTTPResponse,
    Sender,
    check_request_headers,
    content_encoding,
    unknown_encoding,
)
from trunkline._http.decoding import Decompressed, Undecodable
from trunkline._http.decompression import DecodingError, supported
from trunkline._http.failures import (
    BAD_NAME,
    CLOSED,
    CUT,
    INVALID,
    has_no_address,
    interrupted,
    is_name_error,
    no_response,
    not_decodable,
    protocol_reason,
)
from trunkline._http.log_filter import guard_logs, sending
from trunkline._http.own_client import client_sender, library_of
from trunkline._http.proxies import Proxy
from trunkline._urls import redact_url
from trunkline.authoring.provider import ByteStream, SendOptions
from trunkline.authoring.wire import LowerHeaders, WireRequest
from trunkline.errors import (
    ConfigurationError,
    ConnectionFailed,
    ConnectTimeout,
    FirstChunkTimeout,
    TrunklineError,
)
from trunkline.secrets import Headers


class HTTPTransport:
    """A `Transport` over HTTP/1.1, on asyncio and trio, with one pool of connections.

    `client` is the application's own client; `options` have no effect on it.
    """

    def __init__(self, options: ConnectionOptions | None = None, *, client: HTTPClient | None = None) -> None:
        self._options = options or ConnectionOptions()
        self._client = client
        if client is not None:
            library_of(client)  # raises for a wrong type when the service is created, not at its first call
        self._sender: Sender | None = None

    async def __aenter__(self) -> HTTPTransport:
        if self._client is not None:
            self._sender = client_sender(self._client)
            guard_logs(library_of(self._client).__name__)
            return self
        from trunkline._http.pool import POOL_ERRORS, Pool

        pool = Pool(self._options)
        self._sender = Sender(pool.send, POOL_ERRORS, frozenset(supported()), pool.aclose)
        guard_logs("httpx2")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._sender is not None and self._sender.aclose is not None:
            with anyio.CancelScope(shield=True):
                await self._sender.aclose()

    def send(self, wire_request: WireRequest, options: SendOptions) -> AbstractAsyncContextManager[ByteStream]:
        """Send a request. Leaving the context manager closes the response; see `_Exchange`."""
        assert self._sender is not None, "the transport is not open"
        return _Exchange(self._sender, wire_request, options)


def _decode_headers(pairs: Iterable[tuple[bytes, bytes]]) -> Headers:
    # Names in lower case; repeated headers are joined with a comma (RFC 9110, section 5.3).
    found: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = raw_name.decode("latin-1").lower()
        try:
            value = raw_value.decode()
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return LowerHeaders(found)


class _Exchange:
    """One request and its response, as an async context manager and an async iterator over the body.

    The life of an exchange:

    1. Entering builds and sends the request and waits for the headers. The timeouts for connecting and for the headers
       are the library's; the body has none here, since the caller limits how long each read may take.
    2. Iterating reads the body where the library receives it (`HTTPResponse.chunks`). A compressed body is decompressed
       at a higher cost for each chunk.
    3. Leaving decides whether the connection can be used again. HTTP/1.1 allows that only if the response was read to
       its end, and it is not safe if bytes follow the response that nothing asked for, so:

       - If the body ended and nothing follows it, closing returns the connection to the pool at once.
       - If the block is left without an error, the rest of the body is read, for at most `CLOSE_LIMIT` seconds and
         `DRAIN_LIMIT` bytes. After the terminator of a stream usually a few bytes are left that have already arrived.
       - Otherwise the connection is closed. That is also how a provider learns that it can stop generating.

    Closing is shielded from cancellation: a cancelled call must not leave a connection open. Each step takes at most
    `CLOSE_LIMIT` seconds, since TLS waits for the other side when it closes.
    """

    __slots__ = (
        "_chunks",
        "_ended",
        "_errors",
        "_has_response",
        "_options",
        "_raw",
        "_request",
        "_response",
        "_sender",
        "_url",
        "headers",
    )

    _response: HTTPResponse
    _chunks: AsyncIterator[bytes]
    _raw: AsyncIterator[bytes]

    def __init__(self, sender: Sender, request: WireRequest, options: SendOptions) -> None:
        self._sender = sender
        self._errors = sender.errors
        self._request: WireRequest | None = request
        self._url = request.url
        self._options = options
        self.headers = Headers()
        self._has_response = False
        self._ended = False

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def forwarded_by(self) -> Proxy | None:
        """The proxy that forwarded the request over plain HTTP, and so may have answered it itself."""
        proxy = self._response.proxy
        return proxy if proxy is not None and not proxy.is_socks and self._url.startswith("http:") else None

    async def __aenter__(self) -> ByteStream:
        request, options, self._request = self._request, self._options, None
        assert request is not None
        check_request_headers(request.headers, self._url)
        failed: Exception | None = None
        limits = {
            "connect": options.connect,
            "pool": options.connect,
            "read": options.headers,
            "write": options.headers,
        }
        sending.set(True)
        try:
            response = self._response = await self._sender.send(request, limits, resend=options.resend)
            self._has_response = True
            # The library looks this up again when reading the body starts. From here on the pipeline's own timer limits
            # how long a read may take.
            limits["read"] = None
            self.headers = _decode_headers(response.raw_headers)
        except Exception as error:
            failed = self._translate_error(error)
        finally:
            sending.set(False)
        if failed is not None:
            # Raised outside of the `except` block, so that it has no `__context__`: error reporters would show the
            # local variables of the library's frames, which hold the headers.
            raise failed
        self._open_body()
        return self

    def _open_body(self) -> None:
        response = self._response
        chunks = response.chunks.__aiter__()
        # Read directly from the connection: the generators that httpx puts around it cost more than all other work for
        # a chunk together.
        self._raw = self._chunks = chunks
        if response.is_decoded:
            return
        encoding = content_encoding(self.headers.get("content-encoding", ""))
        if not encoding:
            return
        unknown = unknown_encoding(encoding, self._sender.encodings)
        if unknown is not None:
            self._chunks = Undecodable(self._url, unknown)
        else:
            self._chunks = Decompressed(encoding, chunks)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        sending.set(True)
        try:
            await self._close(kind)
        finally:
            sending.set(False)

    async def _close(self, kind: type[BaseException] | None) -> None:
        if self._ended and self._is_reusable():
            await self._response.aclose()  # returns the connection to the pool, without waiting
            return
        with anyio.move_on_after(CLOSE_LIMIT, shield=True) as scope:
            try:
                unread = kind is None and not self._ended
                if unread and not (await self._drain(self._chunks) and self._is_reusable()):
                    # Reading the rest did not help and took some of the time; closing gets its full share.
                    scope.deadline = anyio.current_time() + CLOSE_LIMIT
            finally:
                # Also if the task is cancelled meanwhile: anyio's shields do not stop `Task.cancel`.
                await self._response.aclose()
        if scope.cancelled_caught:
            # The deadline passed while reading the rest or while closing, so the connection may still be open. A second
            # `aclose` finishes what the first began.
            with anyio.move_on_after(CLOSE_LIMIT, shield=True):
                await self._response.aclose()
        if not self._ended:
            # httpx nests async generators and closes only the outer ones. Reading on from the closed connection ends
            # all of them here; otherwise the garbage collector would have to, in no particular task.
            with anyio.move_on_after(CLOSE_LIMIT, shield=True):
                await self._drain(self._chunks)
                await self._drain(self._raw)

    def _is_reusable(self) -> bool:
        """Whether the connection can be used again, now that the response was read to its end. If not, mark it.

        Bytes behind the response would be taken for the response to the next request. See `_http/unsolicited.py`.
        Where the length of the body is stated twice, a gateway may disagree where the response ends.
        """
        response, headers = self._response, self.headers
        if response.http_version == b"HTTP/2" or headers.get("connection", "").lower() == "close":
            return False  # one of several calls on the connection, or the library closes it
        ends_once = not ("transfer-encoding" in headers and "content-length" in headers)
        if response.http_version == b"HTTP/1.1" and ends_once and not response.has_unsolicited_bytes():
            return True
        response.refuse_reuse()
        return False

    async def _drain(self, chunks: AsyncIterable[bytes]) -> bool:
        """Read the rest of a body. Returns whether its end was reached within `DRAIN_LIMIT` bytes.

        No error leaves this method, because nobody waits for these bytes. A connection that breaks counts as an end:
        there is nothing left to read. After a decompression error there may be, so the connection is not used again.
        """
        size = 0
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > DRAIN_LIMIT:
                    return False
        except Exception as error:
            if isinstance(error, self._errors.decoding):
                return False
        self._ended = True
        return True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        # `sending` is not set here: while a body is read, the library logs neither headers nor URLs.
        try:
            return await self._chunks.__anext__()
        except StopAsyncIteration:
            self._ended = True
            raise
        except Exception as error:
            self._ended = not isinstance(error, self._errors.decoding)
            # After a decompression error the connection still has unread bytes, which closing reads. Any other error
            # ended the body.
            self._chunks = self._raw
            failed = self._translate_error(error)
        raise failed

    def _translate_error(self, error: Exception) -> Exception:
        """Return our error for one of the library's."""
        errors = self._errors
        url = redact_url(self._url)
        if isinstance(error, TrunklineError):  # of the proxy, or of a file of certificates
            return error.with_traceback(None)
        if isinstance(error, errors.connect_timeout):
            return ConnectTimeout(f"no connection to {url} within connect_timeout ({self._options.connect:g} s)")
        if isinstance(error, errors.pool_timeout):
            text = "all connections that your http_client may open were in use for connect_timeout"
            return ConnectTimeout(f"no connection to {url}: {text} ({self._options.connect:g} s)")
        if not self._has_response and isinstance(error, errors.response_timeout):
            return FirstChunkTimeout(f"no response from {url} within first_chunk_timeout ({self._options.headers:g} s)")
        if isinstance(error, errors.decoding):
            reason = str(error) if isinstance(error, DecodingError) else ""
            return not_decodable(self._url, self.headers.get("content-encoding", ""), reason)
        if isinstance(error, errors.proxy):
            return ConnectionFailed(f"the proxy of your http_client did not connect to {url}", retryable=False)
        http2 = _is_of_http2(error)
        if isinstance(error, errors.local_protocol) and not (self._has_response or http2):
            return ConfigurationError(f"a request to {url} cannot be sent: it is not valid HTTP")
        if isinstance(error, errors.invalid_url):
            return ConfigurationError(f"a request to {url} cannot be sent: it is not a valid HTTP URL")
        if type(error).__module__.partition(".")[0] == "socksio":  # the package for SOCKS, whose errors httpx passes on
            text = f"the proxy of your http_client did not connect to {url}: its answer is not valid SOCKS5"
            return ConnectionFailed(text, retryable=False)
        if is_name_error(error):
            return no_response(self._url, error, BAD_NAME)
        if isinstance(error, UnicodeError):
            return ConfigurationError(f"a request to {url} cannot be sent: a header or the URL is not ASCII")
        if isinstance(error, (*_types(errors.transport), OSError)) or has_no_address(error) or http2:
            if self._has_response:
                return interrupted(self._url, error, self._reason(error), self._response.proxy)
            return no_response(self._url, error, self._reason(error))
        return error

    def _reason(self, error: Exception) -> str:
        closed = CUT if self._has_response else CLOSED
        if _is_of_http2(error):
            return INVALID
        return protocol_reason(error, closed) if isinstance(error, self._errors.remote_protocol) else closed


def _types(errors: ErrorTypes) -> tuple[type[Exception], ...]:
    return errors if isinstance(errors, tuple) else (errors,)


def _is_of_http2(error: BaseException) -> bool:
    """Whether the packages for HTTP/2 refused what a server has sent.

    httpcore and httpcore2 report that as a local error, or pass on the exception of the package.
    """
    found: BaseException | None = error
    while found is not None:
        if type(found).__module__.partition(".")[0] in ("h2", "hpack", "hyperframe"):
            return True
        found = found.__cause__ or found.__context__
    return False
