"""One HTTP request and its response: reading the body, headers, JSON, server-sent events."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import parse_qsl

import anyio
from starlette.types import Message, Receive, Scope, Send
from trunkline import CallWarning
from trunkline.authoring.json import JSONObject, dumps, loads_finite

from trunkline_gateway.limits import Grant, LimitExceeded, Window
from trunkline_gateway.problems import GatewayError, Problem, invalid
from trunkline_gateway.wires import Dialect, chat, messages

Header = tuple[bytes, bytes]

_WITH_KEYS = (b"authorization", b"x-api-key")

LONGEST_WARNINGS = 2000
"""The most characters of the header with warnings. Proxies refuse long headers."""

LARGE_BODY = 256 * 1024
"""The bytes of a body from which on it is read in a thread."""

ERROR_WRITERS: Mapping[Dialect, Callable[[Problem, str], JSONObject]] = {
    "openai": chat.write_error,
    "anthropic": messages.write_error,
}
"""Write an error for the clients of each API, with the id of the request."""

T = TypeVar("T")


class ClientGone(Exception):
    """The client disconnected before its request had arrived."""


class Exchange:
    """A request of a client of the API, and the response to it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, request_id: str, dialect: Dialect) -> None:
        self.receive = receive
        self.request_id = request_id
        self.dialect: Dialect = dialect
        headers: list[Header] = list(scope["headers"])
        self.headers: dict[bytes, bytes] = dict(headers)
        # Of several, a proxy may have checked another one than the last.
        self._is_ambiguous = any(sum(name == sent for sent, _ in headers) > 1 for name in _WITH_KEYS)
        self.method: str = scope["method"]
        self.has_started = False
        self._body_size = 0
        self._parameters: dict[str, object] = scope.get("path_params", {})
        self.query: dict[str, str] = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        self._send = send
        self._more: list[Header] = [(b"x-request-id", f"req_{request_id}".encode()), (b"cache-control", b"no-store")]
        if dialect == "anthropic":
            self._more.append((b"request-id", f"req_{request_id}".encode()))

    @property
    def secret(self) -> str | None:
        """The key that the client sent, in either form. Raises `GatewayError` if a header with a key was sent twice."""
        if self._is_ambiguous:
            message = "the request has more than one header 'authorization' or 'x-api-key'"
            raise GatewayError(Problem(kind="authentication", status=401, message=message, code="invalid_api_key"))
        kind, *token = self.headers.get(b"authorization", b"").split(maxsplit=1) or [b""]
        if kind.lower() == b"bearer" and token:
            return token[0].strip().decode("utf-8", "replace")
        key = self.headers.get(b"x-api-key")
        return None if key is None else key.strip().decode("utf-8", "replace")

    def header(self, name: bytes) -> str:
        """Return a header of the request, or "" if it was not sent."""
        return self.headers.get(name, b"").decode("latin-1")

    def path_parameter(self, name: str) -> str | None:
        """A part of the path that the route names."""
        value = self._parameters.get(name)
        return value if isinstance(value, str) else None

    async def read_json(self, *, max_body: int, timeout: float) -> JSONObject:
        """Read the body, a JSON object. Raises `GatewayError`, or `ClientGone`."""
        body = await self._read(max_body, timeout)
        encoding = self.headers.get(b"content-encoding", b"identity").lower()
        if encoding != b"identity":
            raise GatewayError(Problem(kind="invalid_request", status=415, message="the body must not be compressed"))
        self._body_size = len(body)
        try:
            value = await self.in_thread_if_large(lambda: loads_finite(body.decode()))
        except (ValueError, RecursionError) as error:
            raise invalid(f"the body is not JSON: {_reason(error)}") from None
        if not isinstance(value, dict):
            raise invalid("the body must be a JSON object")
        return value

    async def in_thread_if_large(self, work: Callable[[], T]) -> T:
        """Run work whose time grows with the body: in a thread for a large one, which would stop other calls."""
        return await anyio.to_thread.run_sync(work) if self._body_size > LARGE_BODY else work()

    async def _read(self, max_body: int, timeout: float) -> bytes:
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > max_body:
            raise _too_large(max_body)
        chunks: list[bytes] = []
        size = 0
        while True:
            message: Message | None = None
            with anyio.move_on_after(timeout):
                message = await self.receive()
            if message is None:
                problem = Problem(kind="timeout", status=408, message=f"no byte of the body arrived for {timeout:g} s")
                raise GatewayError(problem)
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > max_body:
                raise _too_large(max_body)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def add_limits(self, grant: Grant | LimitExceeded | None) -> None:
        """Add the headers about the key's limits, as the client's SDK reads them."""
        if grant is None:
            return

        for name, window in (("requests", grant.requests_window), ("tokens", grant.tokens_window)):
            if window is not None:
                self._more += _limit_headers(name, window, self.dialect)

    def add_warnings(self, warnings: Iterable[CallWarning], ignored: Iterable[str] = ()) -> None:
        """Add the header that says what the provider did not receive."""
        texts = [str(warning) for warning in warnings]
        texts += [f"{name}: not known to the gateway, and not sent" for name in ignored]
        if texts:
            self._more.append((b"x-trunkline-warnings", header_text("; ".join(texts))[:LONGEST_WARNINGS].encode()))

    def add_service(self, service: str) -> None:
        """Add the header that names the service that was called."""
        self._more.append((b"x-trunkline-service", header_text(service).encode()))

    async def send_json(self, body: JSONObject, *, status: int = 200, headers: Iterable[Header] = ()) -> None:
        """Send a whole response."""
        content = dumps(body)
        await self._start(status, b"application/json", (*headers, (b"content-length", str(len(content)).encode())))
        await self._send({"type": "http.response.body", "body": content})

    async def start_events(self) -> None:
        """Send the head of a stream."""
        # The second header keeps nginx from collecting the stream.
        await self._start(HTTPStatus.OK, b"text/event-stream; charset=utf-8", ((b"x-accel-buffering", b"no"),))

    async def send_events(self, content: bytes) -> None:
        """Send a part of a stream."""
        await self._send({"type": "http.response.body", "body": content, "more_body": True})

    async def end_events(self) -> None:
        """End a stream."""
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int, content_type: bytes, headers: Iterable[Header]) -> None:
        self.has_started = True
        every = [(b"content-type", content_type), *self._more, *headers]
        await self._send({"type": "http.response.start", "status": status, "headers": every})

    async def send_problem(self, problem: Problem) -> None:
        """Send an error in the client's form."""
        headers: list[Header] = [(b"x-should-retry", b"true" if problem.retryable else b"false")]
        if problem.retry_after is not None:
            headers.append((b"retry-after", str(max(1, round(problem.retry_after + 0.499))).encode()))
        if problem.status == HTTPStatus.UNAUTHORIZED:
            headers.append((b"www-authenticate", b"Bearer"))
        if problem.status in (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_TIMEOUT):
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        body = ERROR_WRITERS[self.dialect](problem, f"req_{self.request_id}")
        await self.send_json(body, status=problem.status, headers=headers)


def header_text(text: str) -> str:
    """Return a text that a header can carry: ASCII, on one line."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)


def _reason(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]


def _too_large(max_body: int) -> GatewayError:
    return GatewayError(
        Problem(
            kind="too_large", status=413, message=f"the body is larger than {max_body} bytes", code="body_too_large"
        )
    )


def _limit_headers(name: str, window: Window, dialect: Dialect) -> list[Header]:
    # Whole seconds are rounded up: a client that waits for them must not come too early.
    if dialect == "anthropic":
        now = datetime.datetime.now(datetime.UTC)
        resets = datetime.datetime.fromtimestamp(math.ceil(now.timestamp() + window.reset_after), datetime.UTC)
        prefix = f"anthropic-ratelimit-{name}-"
        values = {"limit": window.limit, "remaining": window.remaining, "reset": f"{resets:%Y-%m-%dT%H:%M:%SZ}"}
        return [(f"{prefix}{key}".encode(), str(value).encode()) for key, value in values.items()]
    values = {"limit": window.limit, "remaining": window.remaining, "reset": f"{math.ceil(window.reset_after)}s"}
    return [(f"x-ratelimit-{key}-{name}".encode(), str(value).encode()) for key, value in values.items()]
