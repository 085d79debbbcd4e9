"""A provider of Chat Completions for the gateway's tests. The path says how its streams behave.

`/chat/completions` answers at once; below `/slow` a stream takes a second, and below `/endless` it does not end.
`GET /open` returns the number of streams that are open.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ("Blue ", "is ", "the ", "colour.")


def service(url: str, name: str = "main") -> str:
    """Return the table of a service that this provider answers at an address, for a configuration file."""
    fields = ('provider = "openai-compatible"', f'api_url = "{url}"', 'default_model = "m"', "max_retries = 0")
    return "\n".join([f"[services.{name}]", *fields, ""])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
    open_streams = 0
    lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._send(json.dumps(self.server.open_streams).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/embeddings"):
            given = body["input"]
            entries = [
                {"object": "embedding", "index": index, "embedding": [0.5, -1.0]}
                for index in range(1 if isinstance(given, str) else len(given))
            ]
            counts = {"prompt_tokens": 3, "total_tokens": 3}
            self._send(json.dumps({"object": "list", "model": "m", "data": entries, "usage": counts}).encode())
            return
        usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
        answer = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m"}
        if not body.get("stream"):
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "".join(WORDS)}}
            self._send(json.dumps({**answer, "choices": [choice], "usage": usage}).encode())
            return
        with self.server.lock:
            self.server.open_streams += 1
        try:
            self._stream({**answer, "object": "chat.completion.chunk"}, usage)
        except OSError:
            self.close_connection = True
        finally:
            with self.server.lock:
                self.server.open_streams -= 1

    def _stream(self, chunk: dict[str, object], usage: dict[str, int]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for word in WORDS:
            self._event({**chunk, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            if "/slow" in self.path:
                time.sleep(0.25)
        while "/endless" in self.path:
            time.sleep(0.1)
            self._event({**chunk, "choices": [{"index": 0, "delta": {"content": "more "}, "finish_reason": None}]})
        self._event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._event({**chunk, "choices": [], "usage": usage})
        self._write(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, value: object) -> None:
        self._write(b"data: " + json.dumps(value).encode() + b"\n\n")

    def _write(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def streaming_server() -> Iterator[str]:
    """Run the provider on loopback for as long as the block runs; gives its URL."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
