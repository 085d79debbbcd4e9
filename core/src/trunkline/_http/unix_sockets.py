"""Unix sockets: the path in a URL, and connecting.

If many clients connect at once, the queue of the server's socket is full. Linux then refuses to wait without blocking
(EAGAIN), and reports at once that the socket is writable. anyio tries again without a pause, which takes all of the
CPU; asyncio and trio take the socket for connected. So this module connects, and tries again after a pause.
"""

from __future__ import annotations

import os
import socket
import sys

import anyio

from trunkline._urls import redact_url
from trunkline.errors import ConfigurationError

MAX_SOCKET_PATH = 107 if sys.platform == "linux" else 103
"""The longest path of a Unix socket, in bytes: `sun_path` of `sockaddr_un` without the null character."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1


def unix_target(url: str) -> tuple[str, str] | None:
    """Return the socket's path and the `http:` URL of a request, if the URL has the scheme `http+unix`.

    Raises `ConfigurationError` if this platform has no Unix sockets, or the path is too long for one.
    """
    if not url.startswith("http+unix:"):
        return None
    from urllib.parse import unquote, urlsplit

    if not hasattr(socket, "AF_UNIX"):
        raise ConfigurationError(f"a request to {redact_url(url)} cannot be sent: this platform has no Unix sockets")
    parts = urlsplit(url)
    path = unquote(parts.netloc)
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH:
        problem = f"the path of the Unix socket is too long: {size} bytes, where {MAX_SOCKET_PATH} are possible"
        raise ConfigurationError(f"a request to {redact_url(url)} cannot be sent: {problem}")
    return path, parts._replace(scheme="http", netloc="localhost").geturl()


async def connect(path: str) -> socket.socket:
    """Return a socket that is connected, and does not block. Raises `OSError`.

    It waits as long as the server's queue is full, so the caller must limit the time.
    """
    connecting = socket.socket(socket.AF_UNIX)
    pause = _FIRST_PAUSE
    try:
        connecting.setblocking(False)
        while True:
            try:
                connecting.connect(path)
            except BlockingIOError:
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return connecting
    except BaseException:
        connecting.close()
        raise
