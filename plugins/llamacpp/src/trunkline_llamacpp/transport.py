"""A transport to a model in this process: it answers Chat Completions requests as an HTTP server would.

llama.cpp blocks, so loading a model and computing a response each run in a thread. How a piece of a response gets to
the reading task:

    thread                                         event loop
    llama.cpp calls back with a piece
    _Exchange._send -> _EventLoop.call_soon -----> _put: appends to the queue, sets the event `_more`
                                                   __anext__: takes it from the queue, or waits for `_more`
    the response is complete, or failed
    _Job._run ------> _EventLoop.call_soon ------> _finished: ends the response

- A thread never waits for the event loop: a loop that was closed would block it for ever. `call_soon` then returns
  false, and the thread stops computing.
- The state of an exchange is changed on its event loop, and needs no lock. The thread only reads `_stopping`: when the
  reader leaves, it makes llama.cpp stop at the next callback.
- A model is shared by all event loops of a service (`LoadedModels`), and belongs to none of them. Its requests wait for
  the loading and for their turn. Both are guarded by locks, which are held only for a moment. Each request waits in its
  own loop and is woken there (`_Waiter`).
- The queue is unbounded; the context length limits its size. With back-pressure, a stream that is read slowly would
  keep the model from all other requests, and an application that asks a second question while it reads the first
  response would wait for itself.
- No task group or cancel scope is open while the application's code runs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal
from urllib.parse import urlsplit

import anyio
from anyio.lowlevel import checkpoint, current_token
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.provider import ByteStream, SendOptions
from trunkline.authoring.wire import WireRequest
from trunkline.errors import FirstChunkTimeout, ServiceClosed, StreamInterrupted, TrunklineError
from trunkline.secrets import Headers

from trunkline_llamacpp.runtime import Model, Server
from trunkline_llamacpp.whole_response import whole_response

STOP_LIMIT = 2.0
"""Seconds to wait until the model stops. It stops after the current token, or the current batch of the prompt."""

_PROGRESS = '"prompt_progress":'
_ERROR = '{"error":'


class LoadedModels:
    """The instances of a model that one service loads, for all its event loops.

    llama.cpp sets up a model for chats or for embeddings, so each has its own instance; the one for embeddings takes
    memory only if it is used. Each instance answers one request at a time.

    The child of a fork has the memory of a loaded model, but not llama.cpp's threads, and locks that a thread of its
    parent may have held. `ServiceContext.keep`, which holds this object, makes a new one there and does not free it.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._chat = _LoadedModel(lambda: model.load("chat"))
        self._embeddings = _LoadedModel(lambda: model.load("embeddings"))

    def get(self, purpose: Literal["chat", "embeddings"]) -> _LoadedModel:
        """Return the instance for a purpose. The first request loads it."""
        return self._chat if purpose == "chat" else self._embeddings


class LlamaCppTransport:
    """A `Transport` to a model in this process, for one event loop."""

    def __init__(self, models: LoadedModels) -> None:
        self._models: LoadedModels | None = models
        self._service = models.model.service
        self._exchanges: set[_Exchange] = set()

    async def __aenter__(self) -> LlamaCppTransport:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        # The memory of the models is freed when nobody refers to them: neither the service, which drops them when it is
        # closed, nor a thread that still computes or loads.
        self._models = None
        for exchange in tuple(self._exchanges):
            await exchange.stop()

    def send(self, wire_request: WireRequest, options: SendOptions) -> AbstractAsyncContextManager[ByteStream]:
        """Answer a request. Leaving the context manager stops computing. An unknown path is answered with 404."""
        models = self._models
        if models is None:
            raise ServiceClosed(f"service {self._service!r} was closed")
        path = urlsplit(wire_request.url).path.rstrip("/")
        exchange: _Exchange
        if path.endswith("/chat/completions"):
            exchange = _Chat(models.get("chat"), wire_request, options)
        elif path.endswith("/embeddings"):
            exchange = _Embeddings(models.get("embeddings"), wire_request, options)
        elif path.endswith("/models"):
            name = models.model.path.stem
            described = {"id": name, "object": "model", "meta": {"n_ctx": models.model.context_length}}
            return _WholeResponse(200, dumps({"object": "list", "data": [described]}))
        else:
            return _WholeResponse(
                404, _error(404, "not_found_error", f"llama.cpp in this process has no endpoint {path!r}")
            )
        exchange.closing = self._exchanges.discard
        self._exchanges.add(exchange)
        return exchange


class _EventLoop:
    """The event loop of the request, for threads to call."""

    def __init__(self) -> None:
        native: Any = current_token().native_token
        # A method of an asyncio loop, or of a trio token.
        self._call_soon = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon

    def call_soon(self, function: Callable[..., object], *args: object) -> bool:
        """Have the loop call a function, without waiting. False if the loop was closed."""
        try:
            self._call_soon(function, *args)
        except RuntimeError:
            return False
        return True


class _Waiter:
    """A request that waits in its event loop until a thread, or a request in another loop, wakes it."""

    def __init__(self) -> None:
        self._loop = _EventLoop()
        self._event = anyio.Event()

    def wake(self) -> bool:
        """Wake the request, from any thread. False if its event loop was closed."""
        return self._loop.call_soon(self._event.set)

    async def wait(self) -> None:
        await self._event.wait()


class _Turn:
    """Lets one request at a time use an instance, in the order in which they came, whatever event loop they are in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: deque[_Waiter] = deque()

    async def acquire(self) -> None:
        """Wait for the turn."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            waiter = _Waiter()
            self._waiting.append(waiter)
        try:
            await waiter.wait()
        except BaseException:
            with self._lock:
                has_turn = waiter not in self._waiting
                if not has_turn:
                    self._waiting.remove(waiter)
            if has_turn:
                self.release()
            raise

    def release(self) -> None:
        """Give the turn to the next request, from any thread."""
        with self._lock:
            while self._waiting:
                if self._waiting.popleft().wake():
                    return
            self._taken = False


class _LoadedModel:
    """An instance that is loaded once for all waiting requests, and used by one request at a time."""

    def __init__(self, load: Callable[[], Server]) -> None:
        self.turn = _Turn()
        self._load = load
        self._lock = threading.Lock()
        self._loading: Future[Server] | None = None

    async def server(self) -> Server:
        """Return the instance, after loading it if necessary. If loading failed, the next request tries again.

        A cancelled request does not stop the loading for the others.
        """
        with self._lock:
            loading = self._loading
            if loading is None or (loading.done() and loading.exception() is not None):
                loading = self._loading = Future()
                threading.Thread(target=self._run, args=(loading,), name="trunkline-llamacpp").start()
        waiter = _Waiter()
        loading.add_done_callback(lambda _: waiter.wake())
        await waiter.wait()
        return loading.result()

    def _run(self, loading: Future[Server]) -> None:
        try:
            server = self._load()
        except BaseException as error:
            loading.set_exception(error)
        else:
            loading.set_result(server)


class _Job:
    """Computing a response in its own thread.

    `released` is called in the thread when it has ended, also if the event loop is closed by then. `finished` is called
    on the event loop, and then `done` is set there.
    """

    def __init__(
        self,
        loop: _EventLoop,
        work: Callable[[], None],
        released: Callable[[], None],
        finished: Callable[[_Job], None],
    ) -> None:
        self.done = anyio.Event()
        self.error: BaseException | None = None
        self._loop = loop
        self._released = released
        self._finished = finished
        threading.Thread(target=self._run, args=(work,), name="trunkline-llamacpp").start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.error = error
        self._released()
        self._loop.call_soon(self._finish)

    def _finish(self) -> None:
        self._finished(self)
        self.done.set()


class _WholeResponse:
    """A response that is complete at once."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.headers = Headers({"content-type": "application/json"})
        self._chunks = [body]

    async def __aenter__(self) -> ByteStream:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.pop()


class _Exchange:
    """One request and its response, computed in a thread. Subclasses define what is computed."""

    def __init__(self, instance: _LoadedModel, request: WireRequest, options: SendOptions) -> None:
        self.status = 200
        self.headers = Headers({"content-type": "application/json"})
        self.closing: Callable[[_Exchange], None] = lambda exchange: None
        self._instance = instance
        self._request = request
        self._options = options
        self._chunks: deque[bytes] = deque()
        self._more = anyio.Event()
        self._loop = _EventLoop()
        self._job: _Job | None = None
        self._begun = False
        self._stopping = False
        self._failure: TrunklineError | None = None

    async def __aenter__(self) -> ByteStream:
        seconds = self._options.headers
        try:
            with anyio.move_on_after(seconds) as scope:
                await self._start()
        except BaseException:
            await self.stop()
            raise
        if scope.cancelled_caught:
            await self.stop()
            raise FirstChunkTimeout(f"the model did not start to answer within first_chunk_timeout ({seconds:g} s)")
        return self

    async def _start(self) -> None:
        try:
            body = self._prepare(self._request.body)
        except (ValueError, RecursionError) as error:
            self._refuse(400, f"the request is not a JSON object: {error}")
            return
        server = await self._instance.server()
        turn = self._instance.turn
        await turn.acquire()
        if self._stopping:
            turn.release()
            raise ServiceClosed("the service was closed while the request waited for its turn")
        try:
            self._job = _Job(self._loop, lambda: self._compute(server, body), turn.release, self._finished)
        except BaseException:
            turn.release()
            raise
        while not self._begun:
            await self._wait()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await checkpoint()
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._job is None or self._job.done.is_set():
                raise StopAsyncIteration
            if self._stopping:
                raise StreamInterrupted("the service was closed before the response was complete")
            await self._wait()
        return self._chunks.popleft()

    async def _wait(self) -> None:
        self._more = anyio.Event()
        await self._more.wait()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop computing, and wait until the thread has ended."""
        self._stopping = True
        self.closing(self)
        self._more.set()
        if self._job is not None and not self._job.done.is_set():
            with anyio.move_on_after(STOP_LIMIT, shield=True):
                await self._job.done.wait()

    # Called by the thread, on the event loop

    def _put(self, chunk: bytes) -> None:
        self._begun = True
        self._chunks.append(chunk)
        self._more.set()

    def _finished(self, job: _Job) -> None:
        error = job.error
        if isinstance(error, TrunklineError):
            self._failure = error
        elif error is not None and self._begun:
            self._failure = StreamInterrupted(f"llama.cpp failed: {error}")
        elif error is not None:
            # An error before any computing is the request's fault: its JSON, its schema, an image for a model without
            # vision. llama.cpp's own server answers some of these with 500, which would be retried in vain.
            self._refuse(400, str(error))
        self._begun = True
        self._more.set()

    def _refuse(self, status: int, message: str) -> None:
        self._put_error(_error(status, "invalid_request_error", message))

    def _put_error(self, body: bytes) -> None:
        try:
            code = loads(body)["error"]["code"]
        except (ValueError, KeyError, TypeError):
            code = None
        self.status = code if isinstance(code, int) and 400 <= code < 600 else 500
        self.headers = Headers({"content-type": "application/json"})
        self._put(body)

    # In the thread

    def _prepare(self, body: bytes) -> str:
        raise NotImplementedError

    def _compute(self, server: Server, body: str) -> None:
        raise NotImplementedError

    def _send(self, put: Callable[[bytes], None], data: bytes) -> bool:
        """Pass a piece of the response to the event loop. True if computing must stop."""
        return not self._loop.call_soon(put, data) or self._stopping


class _Chat(_Exchange):
    """A chat. llama.cpp calls back with the JSON of each chunk. An error is the only chunk; its `code` is the status.

    llama.cpp always computes a stream here and reports its progress with the prompt, because it can only be stopped in
    a callback. Progress also keeps the reader's timeouts from expiring: it is sent as a comment in a stream, and as a
    space before the JSON of a whole response.
    """

    def _prepare(self, body: bytes) -> str:
        options: dict[str, Any] = loads(body)
        if not isinstance(options, dict):
            raise ValueError("it is not an object")
        self._streamed = options.get("stream") is True
        self._progress_wanted = options.get("return_progress") is True
        options.update(stream=True, return_progress=True)
        if not self._streamed:
            options["stream_options"] = {"include_usage": True}
        return dumps(options).decode()

    def _compute(self, server: Server, body: str) -> None:
        if self._stopping:
            return
        collected: list[dict[str, Any]] = []
        errors: list[str] = []
        begun = False

        def take(text: str) -> bool:
            nonlocal begun
            if text.lstrip().startswith(_ERROR):
                errors.append(text)
                return True
            begun = True
            if not self._streamed:
                collected.append(loads(text))
                return self._send(self._put, b" ")
            if _PROGRESS in text and not self._progress_wanted:
                return self._send(self._put_sse, b": reading the prompt\n\n")
            return self._send(self._put_sse, b"data: " + text.encode() + b"\n\n")

        server.handle_chat_completions(body, take)
        if errors and begun:
            raise StreamInterrupted(f"llama.cpp failed: {_message(errors[0])}")
        if errors:
            self._send(self._put_error, errors[0].encode())
        elif not self._stopping:
            last = b"data: [DONE]\n\n" if self._streamed else whole_response(collected)
            self._send(self._put_sse if self._streamed else self._put, last)

    def _put_sse(self, chunk: bytes) -> None:
        if not self._begun:
            self.headers = Headers({"content-type": "text/event-stream"})
        self._put(chunk)


class _Embeddings(_Exchange):
    """Embeddings, computed in one call that cannot be stopped."""

    def _prepare(self, body: bytes) -> str:
        if not isinstance(loads(body), dict):
            raise ValueError("it is not an object")
        return body.decode()

    def _compute(self, server: Server, body: str) -> None:
        if self._stopping:
            return
        text = server.handle_embeddings(body)
        if not text.lstrip().startswith(_ERROR):
            self._send(self._put, text.encode())
        elif "too large to process" in text:
            # llama.cpp reports a text that is too long as its own failure (500).
            error = _error(400, "exceed_context_size_error", _message(text))
            self._send(self._put_error, error)
        else:
            self._send(self._put_error, text.encode())


def _error(status: int, kind: str, message: str) -> bytes:
    return dumps({"error": {"code": status, "message": message, "type": kind}})


def _message(text: str) -> str:
    try:
        return str(loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "its error cannot be read"
