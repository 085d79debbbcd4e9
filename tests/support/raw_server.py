"""A server on a raw socket, in a thread: it reads a request, sends the bytes that a test chose, and closes."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class RawServer:
    """Answers each request on a new connection with the bytes in `answer`. `targets` are the requested paths."""

    def __init__(self) -> None:
        self.answer = b""
        self.targets: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop the server."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(30)
            received = b""
            while b"\r\n\r\n" not in received:
                data = connection.recv(65536)
                if not data:
                    return
                received += data
            head, _, body = received.partition(b"\r\n\r\n")
            self.targets.append(head.split(b"\r\n", 1)[0].split(b" ")[1].decode("latin-1"))
            length = int(found[1]) if (found := _LENGTH.search(head)) else 0
            while len(body) < length and (data := connection.recv(65536)):
                body += data
            connection.sendall(self.answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
