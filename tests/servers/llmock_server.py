"""Runs the mock server of the package llmock on a free port of 127.0.0.1.

Without a scripted response, it echoes the texts of the request. It prints `ready URL` when it listens. It stops on
SIGTERM, and when its standard input is closed.
"""

import signal
import sys
import threading

from llmock.simulation import MockResponseSettings
from llmock.testing import LLMockServer


def main() -> None:
    """Serve until stopped."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    with LLMockServer(responses=MockResponseSettings(response_style="echo")) as server:
        print("ready", server.url, flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
