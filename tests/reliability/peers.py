"""Compare Trunkline with other clients on the same faults: handled, foreign, hung, silent, lost or leaked.

Each client runs in its own process and virtual environment, and the fault server in another. The outcomes:

- handled: the right and complete response, or an exception of the library itself (or of the SDK it is built on) within
  4 s. Every timeout of the client is 0.3 s. After cancelling or leaving a stream, the connection is closed within 0.5 s
  and no request follows.
- foreign: an exception of some other library or of Python itself.
- hung: nothing after 4 s.
- silent: success is reported, but the response is cut off or wrong.
- lost: an error, although the complete response had arrived or one of the configured retries would have got it.
- leaked: the connection or a request continued after the stream was left; or the error shows the key; or the prompt
  went to another host; or the client read more than 32 MiB ahead of a slow consumer.

In each process, a call without a fault comes first and does not count, so that lazy imports are not measured. Streams
are read as in each library's documentation: with `async with` for Trunkline and pydantic-ai, with a bare `async for`
for the others.

`TRUNKLINE_PEERS` names the folder of the virtual environments (`openai`, `litellm`, `anyllm`, `pydanticai`). Missing
ones are created with uv. If the folder `TRUNKLINE_PEER_REQUIREMENTS` has a requirements file of that name, it is used.
Without `TRUNKLINE_PEERS` only Trunkline is measured.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any, NamedTuple

import attrs
from faultserver import ANSWER, FLOOD
from measuring import Result, black_hole, command

sys.path.append(str(Path(__file__).parents[1] / "support"))

from server_process import server_process

HERE = Path(__file__).parent
VENVS = {"openai": "openai", "litellm": "litellm", "any-llm": "anyllm", "pydantic-ai": "pydanticai"}
PACKAGES = {
    "openai": "openai",
    "litellm": "litellm",
    "anyllm": "any-llm-sdk[openai]",
    "pydanticai": "pydantic-ai-slim[openai]",
}
CASE_LIMIT, START_LIMIT = 30.0, 300.0
"""After how many seconds a process is killed that does not finish a case, or its first call, imports included."""
READ_AHEAD = FLOOD // 2


class Case(NamedTuple):
    """A fault: its class in the catalogue, its title, its name at the server, and what the client does."""

    number: str
    title: str
    fault: str
    action: str = "read"
    retries: int = 0
    wanted: str = "error"
    """`answer`: only the complete response is right. `error`: that, or an error. `left`: everything is released."""


CASES = (
    Case("1", "refused connection", "refused"),
    Case("2", "connection attempt never answered", "black_hole"),
    Case("3", "connection accepted, headers never sent", "no_headers"),
    Case("4", "headers sent, first chunk never sent", "no_first_chunk"),
    Case("5", "stall between chunks", "stall"),
    Case("6", "endless heartbeats, no events", "heartbeats"),
    Case("7", "connection reset mid-stream", "reset"),
    Case("8", "body ends cleanly before the terminator", "end_of_file"),
    Case("8", "body ends cleanly within an event", "end_in_an_event"),
    Case("8", "connection closed early, no Content-Length", "closed_without_length"),
    Case("9", "socket left open after the terminator", "parked_after_the_end", wanted="answer"),
    Case("10", "stale connection in the pool", "stale", "read twice", 2, "answer"),
    Case("12", "plain bytes labelled as gzip", "broken_encoding"),
    Case("13", "one byte per write", "byte_by_byte", wanted="answer"),
    Case("14", "CRLF, comments, byte order mark", "other_line_ends", wanted="answer"),
    Case("15", "broken JSON in an event", "broken_json"),
    Case("17", "HTML page with status 200", "html"),
    Case("17", "plain JSON response instead of a stream", "whole_body"),
    Case("18", "error event in a stream", "error_event"),
    Case("19", "bare JSON error in a stream", "bare_error"),
    Case("22", "chunk without choices, usage in every chunk", "odd_usage", wanted="answer"),
    Case("23", "unknown event and fields", "unknown", wanted="answer"),
    Case("25", "503 twice, then a response", "unavailable_twice", retries=2, wanted="answer"),
    Case("27", "status 200 with an error, then a response", "error_first", retries=2),
    Case("28", "redirect to another host", "redirect"),
    Case("30", "API key echoed in an error", "echoed_key"),
    Case("31", "cancelled before the headers", "no_headers", "cancel before headers", wanted="left"),
    Case("32", "cancelled mid-stream", "stall", "cancel in mid-stream", wanted="left"),
    Case("33", "early break", "stall", "break", wanted="left"),
    Case("34", "cancelled during backoff", "later", "cancel in backoff", 2, "left"),
    Case("35", "slow consumer", "flood", "read slowly", wanted="left"),
    Case("38", "client closed mid-stream", "stall", "close the client", wanted="left"),
)


@attrs.frozen
class Options:
    cases: tuple[Case, ...] = CASES
    peers: bool = True


SIZES = {
    "smoke": Options(tuple(case for case in CASES if case.fault in ("end_of_file", "reset", "html")), peers=False),
    "ci": Options(peers=False),
    "full": Options(),
}

OWN = {
    "trunkline": ("trunkline.",),
    "openai": ("openai.",),
    "litellm": ("litellm.", "openai."),
    "any-llm": ("any_llm.", "openai."),
    "pydantic-ai": ("pydantic_ai.", "openai."),
}


def judged(name: str, case: Case, found: dict[str, Any]) -> str:
    """The outcome of a case, from the observations of the client and the server."""
    ended, after = found["ended"], found.get("after", {})
    if ended in ("n/a", "broken"):
        return ended
    if ended == "not":
        return "hung"
    if found.get("key"):
        return "leaked"
    if any(request["key"] or request["prompt"] for request in found["elsewhere"]):
        return "leaked"
    if case.wanted == "left":
        return _left(case, found, after)
    if ended == "success":
        return "handled" if found["text"] == ANSWER else "silent"
    if case.wanted == "answer":
        return "lost"
    own = any(kind.startswith(OWN[name]) for kind in found.get("kinds", ()))
    return "handled" if own else "foreign"


def _left(case: Case, found: dict[str, Any], after: dict[str, Any]) -> str:
    if case.action == "read slowly":
        return "leaked" if found["sent"] > READ_AHEAD else "handled"
    if after.get("open") or found["requests after"] > 0:
        return "leaked"
    if found["seconds"] > 2:
        return "hung"
    if case.action == "close the client" and found["ended"] == "success":
        return "silent"
    return "handled"


# The clients' processes


class Client:
    """A client's process. It is started again after a case that it did not finish."""

    def __init__(self, name: str, python: str) -> None:
        self.name = name
        self.python = python
        self.process: subprocess.Popen[str] | None = None

    def meet(self, case: Case, url: str, limit: float = CASE_LIMIT) -> dict[str, Any]:
        process = self.process or self._begin()
        assert process.stdin is not None
        assert process.stdout is not None
        asked = {"url": url, "fault": case.fault, "action": case.action, "retries": case.retries}
        watch = Timer(limit, process.kill)
        watch.start()
        try:
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            line = next((line for line in process.stdout if line.startswith("RESULT ")), None)
        finally:
            watch.cancel()
        if line is None:
            self.close()
            return {"ended": "not", "message": "the process was killed: it did not finish the case in time"}
        found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
        return found

    def _begin(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [self.python, str(HERE / "peer_client.py"), self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        return self.process

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def environments(names: Iterable[str] = VENVS) -> dict[str, str]:
    """The Python of these peers' virtual environments in `TRUNKLINE_PEERS`; missing environments are created."""
    folder = os.environ.get("TRUNKLINE_PEERS")
    if not folder:
        return {}
    found = {}
    for name in names:
        venv = VENVS[name]
        python = Path(folder) / venv / "bin" / "python"
        if not python.exists():
            _make(Path(folder) / venv, venv)
        found[name] = str(python)
    return found


def _make(path: Path, name: str) -> None:
    requirements = Path(os.environ.get("TRUNKLINE_PEER_REQUIREMENTS", "")) / f"{name}.txt"
    wanted = ["-r", str(requirements)] if requirements.is_file() else [PACKAGES[name]]
    subprocess.run(["uv", "venv", "-q", str(path)], check=True)
    subprocess.run(["uv", "pip", "install", "-q", "--python", str(path / "bin" / "python"), *wanted], check=True)


def versions(python: str) -> str:
    code = (
        "from importlib.metadata import version, PackageNotFoundError\n"
        "for n in ('litellm', 'any-llm-sdk', 'pydantic-ai-slim', 'trunkline-openai', 'openai'):\n"
        "    try: print(n, version(n)); break\n"
        "    except PackageNotFoundError: pass\n"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _facts(url: str, what: str, fault: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/{what}/{fault}", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@contextmanager
def closed_port() -> Iterator[int]:
    """A port on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def run(name: str, python: str, cases: tuple[Case, ...], url: str) -> list[dict[str, Any]]:
    client = Client(name, python)
    rows = []
    try:
        with closed_port() as refused, black_hole() as hole:
            for left in (2, 1, 0):
                healthy = client.meet(Case("", "no fault", "healthy"), f"{url}/healthy/v1", START_LIMIT)
                if healthy.get("text") == ANSWER:
                    break
                if not left:
                    raise RuntimeError(f"{name} cannot read a stream without a fault: {healthy}")
            for case in cases:
                _facts(url, "_reset", case.fault)
                port = {"refused": refused, "black_hole": hole}.get(case.fault)
                root = f"http://127.0.0.1:{port}" if port else url
                found = client.meet(case, f"{root}/{case.fault}/v1")
                found["elsewhere"] = _facts(url, "_facts", case.fault)["elsewhere"]
                rows.append({"outcome": judged(name, case, found), **found})
    finally:
        client.close()
    return rows


def measure(options: Options) -> Result:
    pythons = {"trunkline": sys.executable, **(environments() if options.peers else {})}
    table: dict[str, list[dict[str, Any]]] = {}
    with server_process(sys.executable, str(HERE / "faultserver.py")) as url:
        for name, python in pythons.items():
            table[name] = run(name, python, options.cases, url)
    counts = {name: Counter(row["outcome"] for row in rows) for name, rows in table.items()}
    by_case = [
        {
            "class": case.number,
            "fault": case.title,
            **{name: rows[number]["outcome"] for name, rows in table.items()},
        }
        for number, case in enumerate(options.cases)
    ]
    outcomes = "; ".join(
        f"{name} {', '.join(f'{count} {kind}' for kind, count in counted.most_common())}"
        for name, counted in counts.items()
    )
    ours = set(counts["trunkline"]) == {"handled"}
    figures = {
        "versions": {name: versions(python) for name, python in pythons.items()},
        "outcomes": {name: dict(counted) for name, counted in counts.items()},
        "cases": by_case,
        "details": {
            name: [
                {
                    "fault": case.title,
                    "outcome": row["outcome"],
                    "ended": row["ended"],
                    "kind": row.get("kinds", [""])[0],
                    "message": row.get("message", "")[:160],
                    "seconds": round(row.get("seconds", 0), 2),
                }
                for case, row in zip(options.cases, rows, strict=True)
            ]
            for name, rows in table.items()
        },
    }
    return Result(ours, f"{len(options.cases)} faults: {outcomes}", figures)


if __name__ == "__main__":
    command("peers", SIZES, measure)
