"""Runs the package ollama-proxy-plus, Ollama's API in front of a Chat Completions server, on a free port of 127.0.0.1.

    python ollama_proxy_server.py URL --key KEY

Its models are `local/NAME`. It prints `ready URL` when it listens. It stops on SIGTERM, and when its standard input is
closed.
"""

import argparse
import os
import socket
import sys
import threading

import uvicorn


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--key", required=True)
    arguments = parser.parse_args()
    # The package reads its configuration on import.
    os.environ |= {"PROVIDERS_LOCAL_API_KEY": arguments.key, "PROVIDERS_LOCAL_BASE_URL": f"{arguments.url}/v1"}
    os.environ["EXTRA_MODELS"] = "local/smollm2"
    from ollama_proxy.server import app

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))

    def stop() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=stop, daemon=True).start()
    print(f"ready http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    server.run(sockets=[listening])


if __name__ == "__main__":
    main()
