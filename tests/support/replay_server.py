"""A provider that answers with recorded bodies. A request names its recording: `recording 0123456789abcdef`."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from recordings import Exchange

_NAMED = re.compile(rb"recording ([0-9a-f]{16})")


@contextmanager
def replay_server(exchanges: Iterable[Exchange]) -> Iterator[str]:
    """Serve recordings on loopback for as long as the block runs; gives the server's URL."""
    by_id = {exchange.id: exchange for exchange in exchanges}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # it waits 40 ms between two pieces

        def do_POST(self) -> None:
            found = _NAMED.search(self.rfile.read(int(self.headers.get("content-length", 0))))
            assert found is not None, "the request names no recording"
            exchange = by_id[found[1].decode()]
            names = {name.lower(): value for name, value in exchange.headers.items()}
            self.send_response(exchange.status)
            self.send_header("content-type", names.get("content-type", "application/json"))
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for piece in filter(None, exchange.chunks):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
