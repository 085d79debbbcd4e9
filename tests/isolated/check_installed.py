"""Check one distribution in an environment that holds nothing else: `check_installed.py NAME`.

Every module must import with what the metadata declares, and the plugin must do its work without the others.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distributions, requires
from importlib.resources import files

EXTRAS = (
    "trunkline._http.aiohttp",
    "trunkline.cli",
    "trunkline.testing",
    "trunkline_gateway.console.oidc",
    "trunkline_gateway.database.migrations",  # Alembic runs it
)
"""The modules and packages that need an extra, which is not installed here."""


def ours() -> set[str]:
    """The distributions of this project that are installed."""
    return {name for distribution in distributions() if (name := distribution.name).startswith("trunkline")}


def expected(name: str) -> set[str]:
    """The distributions of this project that `name` needs, itself included."""
    found = {name}
    for line in requires(name) or []:
        required = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        if required.startswith("trunkline") and "extra ==" not in line and required not in found:
            found |= expected(required)
    return found


def import_all(distribution: str) -> int:
    """Import every module of a distribution except those that need an extra. Return the number of imports."""
    package = importlib.import_module(distribution.replace("-", "_"))
    # `walk_packages` ignores packages that cannot be imported; importing them below raises the error.
    found = pkgutil.walk_packages(package.__path__, package.__name__ + ".", onerror=lambda _: None)
    names = [module.name for module in found if not module.name.startswith(EXTRAS)]
    for name in names:
        importlib.import_module(name)
    return 1 + len(names)


TEXT = [{"type": "text", "text": "Hello"}]
WHOLE: dict[str, dict[str, object]] = {
    "/v1/messages": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": TEXT,
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 1},
    },
    "/v2/chat": {
        "id": "1",
        "finish_reason": "COMPLETE",
        "message": {"role": "assistant", "content": TEXT},
        "usage": {"tokens": {"input_tokens": 3, "output_tokens": 1}},
    },
    ":generateContent": {
        "responseId": "1",
        "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1, "totalTokenCount": 4},
    },
    "/api/chat": {
        "model": "m",
        "message": {"role": "assistant", "content": "Hello"},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 3,
        "eval_count": 1,
    },
    "/converse": {
        "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 3, "outputTokens": 1, "totalTokens": 4},
        "metrics": {"latencyMs": 1},
    },
}
"""Answers in the wire formats that are no Chat Completions, by the end of the endpoint's path."""


class _Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        whole = next((answer for ending, answer in WHOLE.items() if self.path.endswith(ending)), None)
        if whole is not None:
            return self._answer(json.dumps(whole), "application/json")
        head = {"id": "chatcmpl-1", "created": 1, "model": asked["model"]}
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        if asked.get("stream"):
            chunks: list[dict[str, object]] = [
                {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": None}]},
                {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": None}]},
                {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                {"choices": [], "usage": usage},
            ]
            lines = [json.dumps({**head, "object": "chat.completion.chunk", **chunk}) for chunk in chunks]
            body = "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])
            return self._answer(body, "text/event-stream")
        message = {"role": "assistant", "content": "Hello"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        return self._answer(json.dumps(answer), "application/json")

    def _answer(self, body: str, media_type: str) -> None:
        self.send_response(200)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Be silent."""


@contextmanager
def served() -> Iterator[str]:
    """A server of every provider's wire format on a loopback port; gives its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def check_core() -> None:
    """Without a plugin the core says which one to install."""
    import trunkline

    try:
        trunkline.open_service("openai")
    except trunkline.ProviderNotFound as error:
        assert "pip install trunkline-openai" in str(error), error
    else:
        raise AssertionError("a provider was found though none is installed")


def call(provider: str, streams: bool = False, **settings: object) -> Callable[[], None]:
    """A check that a call over loopback is answered; with `streams`, a stream too."""

    async def run(url: str) -> None:
        import trunkline

        async with trunkline.open_service(provider, api_url=url, default_model="m", **settings) as service:
            answers = [await service.chat("Hello?")]
            if streams:
                async with service.stream("Hello?") as stream:
                    async for _ in stream:
                        pass
                answers.append(stream.response)
        for answer in answers:
            assert (answer.text, answer.finish_reason) == ("Hello", "stop"), answer
            assert answer.usage is not None and answer.usage.total_tokens == 4, answer

    def check() -> None:
        with served() as url:
            asyncio.run(run(url))

    return check


def check_llamacpp() -> None:
    """Without a model file and without the model's package, the error names the setting."""
    import trunkline

    async def run() -> None:
        async with trunkline.open_service("llamacpp") as service:
            await service.chat("Hello?")

    try:
        asyncio.run(run())
    except trunkline.ConfigurationError as error:
        for words in ("model_path", 'pip install "trunkline-llamacpp[model]"'):
            assert words in str(error), error
    else:
        raise AssertionError("a model answered though none is installed")


def check_smollm2() -> None:
    """The package contains a GGUF file."""
    [path] = [file for file in files("trunkline_smollm2").iterdir() if file.name.endswith(".gguf")]
    with path.open("rb") as file:
        assert file.read(4) == b"GGUF", path


CHECKS: dict[str, Callable[[], None]] = {
    "trunkline": check_core,
    "trunkline-openai": call("openai-compatible", streams=True),
    "trunkline-anthropic": call("anthropic", api_key="k"),
    "trunkline-azure-openai": call("azure-openai", streams=True, api_key="k"),
    "trunkline-bedrock": call("bedrock", aws_region="us-east-1", api_key="k"),
    "trunkline-cohere": call("cohere", api_key="k"),
    "trunkline-gemini": call("gemini", api_key="k"),
    "trunkline-vertex": call("vertex", api_key="k"),
    "trunkline-mistral": call("mistral", streams=True, api_key="k"),
    "trunkline-llamacpp": check_llamacpp,
    "trunkline-smollm2": check_smollm2,
    "trunkline-ollama": call("ollama", streams=True),
}


def main(name: str) -> None:
    """Check the distribution called `name`."""
    assert ours() == expected(name), f"installed: {sorted(ours())}; expected: {sorted(expected(name))}"
    modules = sum(import_all(distribution) for distribution in ours())
    if name in CHECKS:
        CHECKS[name]()
    installed = sorted(distribution.name for distribution in distributions())
    print(f"{name}: {modules} modules imported; {len(installed)} distributions installed: {', '.join(installed)}")


if __name__ == "__main__":
    main(sys.argv[1])
