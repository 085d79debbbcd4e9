"""Carries Chat Completions requests to the model in this process, and its answers back as HTTP would.

Loading and computing run in threads of their own, which hand each piece to the event loop. There is no task group and,
while the application's code runs, no cancel scope. Pieces wait in an unbounded queue, whose size the context length
limits: were there back-pressure, a stream that is read slowly would keep the model from everyone else, and an
application that asks a second question while it reads an answer would wait for itself.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import anyio
from anyio.lowlevel import checkpoint, current_token
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.provider import ByteStream, Timeouts
from trunkline.authoring.wire import WireRequest
from trunkline.errors import FirstChunkTimeout, ServiceClosed, StreamInterrupted, TrunklineError

from trunkline_llamacpp.runtime import Model, Server
from trunkline_llamacpp.whole_answer import whole_answer

T = TypeVar("T")

STOP_LIMIT = 2.0
"""Seconds to wait for the model to stop. It does so after the token, or the batch of the prompt, that it is at."""

_PROGRESS = '"prompt_progress":'
_ERROR = '{"error":'


class LlamaCppTransport:
    """A `Transport` whose other end is a model in this process. The model is loaded by the first request.

    Chats and embeddings have an instance of the model each, since llama.cpp sets one up for the one or the other; that
    for embeddings costs its memory only where it is used. Each instance answers one request at a time.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._chat = _Instance(lambda: model.load("chat"))
        self._embeddings = _Instance(lambda: model.load("embeddings"))
        self._exchanges: set[_Exchange] = set()
        self._closed = False

    async def __aenter__(self) -> LlamaCppTransport:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._closed = True
        for exchange in tuple(self._exchanges):
            await exchange.stop()
        await self._chat.close()
        await self._embeddings.close()

    def send(self, wire_request: WireRequest, timeouts: Timeouts) -> AbstractAsyncContextManager[ByteStream]:
        """Answer; leaving the context manager stops the computing. A path that is not served here is a 404."""
        if self._closed:
            raise ServiceClosed(f"service {self._model.service!r} was closed")
        path = urlsplit(wire_request.url).path.rstrip("/")
        exchange: _Exchange
        if path.endswith("/chat/completions"):
            exchange = _Chat(self._chat, wire_request, timeouts)
        elif path.endswith("/embeddings"):
            exchange = _Embeddings(self._embeddings, wire_request, timeouts)
        elif path.endswith("/models"):
            name = self._model.path.stem
            return _Answer(200, dumps({"object": "list", "data": [{"id": name, "object": "model"}]}))
        else:
            return _Answer(404, _error(404, "not_found_error", f"a model in the process does not serve {path!r}"))
        exchange.closing = self._exchanges.discard
        self._exchanges.add(exchange)
        return exchange


class _Loop:
    """The event loop, for threads to call. They never wait for it: one that has gone would keep them for ever."""

    def __init__(self) -> None:
        native: Any = current_token().native_token
        # An asyncio loop's method, else that of a trio token.
        self._soon = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon

    def tell(self, function: Callable[..., object], *args: object) -> bool:
        """Have a function called on the loop. False where the loop is no more."""
        try:
            self._soon(function, *args)
        except RuntimeError:
            return False
        return True


class _Job(Generic[T]):
    """Work in a thread of its own. `done` is set on the event loop when it has ended, however it ended."""

    def __init__(self, loop: _Loop, work: Callable[[], T], finished: Callable[[_Job[T]], None]) -> None:
        self.done = anyio.Event()
        self.result: T | None = None
        self.error: BaseException | None = None
        self._loop = loop
        self._finished = finished
        threading.Thread(target=self._run, args=(work,), name="trunkline-llamacpp").start()

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self.result = work()
        except BaseException as error:
            self.error = error
        self._loop.tell(self._finish)

    def _finish(self) -> None:
        self._finished(self)
        self.done.set()


class _Instance:
    """One loaded model: loaded once for all who wait for it, and used by one at a time."""

    def __init__(self, load: Callable[[], Server]) -> None:
        self._load = load
        self._loading: _Job[Server] | None = None
        self._turn: anyio.Semaphore | None = None
        self._closed = False

    async def server(self) -> Server:
        """The model, loaded if need be. Who is cancelled meanwhile leaves the loading to those who are not."""
        job = self._loading
        if job is None:
            job = self._loading = _Job(_Loop(), self._load, self._loaded)
        await job.done.wait()
        if job.error is not None:
            raise job.error
        assert job.result is not None
        return job.result

    def _loaded(self, job: _Job[Server]) -> None:
        # The next request tries again what failed; a service that was closed meanwhile keeps no model.
        if self._closed or job.error is not None:
            self._loading = None

    @property
    def turn(self) -> anyio.Semaphore:
        """Held by the request that computes."""
        if self._turn is None:
            self._turn = anyio.Semaphore(1)
        return self._turn

    async def close(self) -> None:
        """Let go of the model; its memory is freed when the last request that computes has ended."""
        self._closed = True
        job, self._loading = self._loading, None
        if job is not None:
            with anyio.move_on_after(STOP_LIMIT, shield=True):
                await job.done.wait()


class _Answer:
    """An answer that is there at once."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {"content-type": "application/json"}
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
    """One request and the answer to it, computed in a thread. The subclasses say what is computed."""

    def __init__(self, instance: _Instance, request: WireRequest, timeouts: Timeouts) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = {"content-type": "application/json"}
        self.closing: Callable[[_Exchange], None] = lambda exchange: None
        self._instance = instance
        self._request = request
        self._timeouts = timeouts
        self._chunks: deque[bytes] = deque()
        self._more = anyio.Event()
        self._loop = _Loop()
        self._job: _Job[None] | None = None
        self._begun = False
        self._stopping = False
        self._failure: TrunklineError | None = None

    async def __aenter__(self) -> ByteStream:
        seconds = self._timeouts.headers
        try:
            with anyio.move_on_after(seconds) as scope:
                await self._start()
        except BaseException:
            await self.stop()
            raise
        if scope.cancelled_caught:
            await self.stop()
            raise FirstChunkTimeout(f"the model did not begin to answer within {seconds:g} s")
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

        def finished(job: _Job[None]) -> None:
            turn.release()
            self._finished(job)

        try:
            self._job = _Job(self._loop, lambda: self._compute(server, body), finished)
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
                raise StreamInterrupted("the service was closed before the answer was complete")
            await self._wait()
        return self._chunks.popleft()

    async def _wait(self) -> None:
        self._more = anyio.Event()
        await self._more.wait()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop the computing, and wait for its end."""
        self._stopping = True
        self.closing(self)
        self._more.set()
        if self._job is not None and not self._job.done.is_set():
            with anyio.move_on_after(STOP_LIMIT, shield=True):
                await self._job.done.wait()

    # On the event loop, for the thread

    def _put(self, chunk: bytes) -> None:
        self._begun = True
        self._chunks.append(chunk)
        self._more.set()

    def _finished(self, job: _Job[None]) -> None:
        error = job.error
        if isinstance(error, TrunklineError):
            self._failure = error
        elif error is not None and self._begun:
            self._failure = StreamInterrupted(f"llama.cpp failed: {error}")
        elif error is not None:
            # What is refused before any computing is the request: its JSON, its schema, an image for a model without
            # eyes. llama.cpp's own server answers some of it with 500, which would be tried again to no use.
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
        self.headers = {"content-type": "application/json"}
        self._put(body)

    # In the thread

    def _prepare(self, body: bytes) -> str:
        raise NotImplementedError

    def _compute(self, server: Server, body: str) -> None:
        raise NotImplementedError

    def _tell(self, function: Callable[[bytes], None], data: bytes) -> bool:
        """Hand over a piece of the answer. True says that computing must stop."""
        return not self._loop.tell(function, data) or self._stopping


class _Chat(_Exchange):
    """A chat. llama.cpp gives each chunk as bare JSON; an error, as the only chunk, has its status for a code.

    It computes a stream in either case, and tells how far it is with the prompt: only what calls back can be stopped.
    While a whole answer is computed, blanks before its JSON show that something happens; in a stream, comments do.
    """

    def _prepare(self, body: bytes) -> str:
        options: dict[str, Any] = loads(body)
        if not isinstance(options, dict):
            raise ValueError("it is something else")
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
                return self._tell(self._put, b" ")
            if _PROGRESS in text and not self._progress_wanted:
                return self._tell(self._put_sse, b": reading the prompt\n\n")
            return self._tell(self._put_sse, b"data: " + text.encode() + b"\n\n")

        server.handle_chat_completions(body, take)
        if errors and begun:
            raise StreamInterrupted(f"llama.cpp failed: {_message(errors[0])}")
        if errors:
            self._tell(self._put_error, errors[0].encode())
        elif not self._stopping:
            last = b"data: [DONE]\n\n" if self._streamed else whole_answer(collected)
            self._tell(self._put_sse if self._streamed else self._put, last)

    def _put_sse(self, chunk: bytes) -> None:
        if not self._begun:
            self.headers = {"content-type": "text/event-stream"}
        self._put(chunk)


class _Embeddings(_Exchange):
    """Embeddings: one call that cannot be stopped on its way."""

    def _prepare(self, body: bytes) -> str:
        if not isinstance(loads(body), dict):
            raise ValueError("it is something else")
        return body.decode()

    def _compute(self, server: Server, body: str) -> None:
        if self._stopping:
            return
        text = server.handle_embeddings(body)
        if not text.lstrip().startswith(_ERROR):
            self._tell(self._put, text.encode())
        elif "too large to process" in text:
            # llama.cpp calls a text that is too long a failure of its own (500).
            error = _error(400, "exceed_context_size_error", _message(text))
            self._tell(self._put_error, error)
        else:
            self._tell(self._put_error, text.encode())


def _error(status: int, kind: str, message: str) -> bytes:
    return dumps({"error": {"code": status, "message": message, "type": kind}})


def _message(text: str) -> str:
    try:
        return str(loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "it gave an error that cannot be read"
