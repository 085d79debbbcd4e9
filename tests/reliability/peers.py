"""The same faults against Trunkline and other clients, in one run: handled, raw, hung, silent, lost or leaked.

Each client runs in a process and a virtual environment of its own, with the fault server in another. An outcome is

- handled: the right answer, whole, or an exception of the library's own (or of the SDK that it is built on) within
  4 s, all timeouts that the client has being 0.3 s; for what is cancelled or left, the connection is closed within
  0.5 s and no request follows;
- raw: the caller is told, but by an exception of some other library, or of Python itself;
- hung: nothing after 4 s;
- silent: a success, though the answer was cut off or is another;
- lost: an error, where the whole answer had come or was to be had by trying again, as the client was set to;
- leaked: the connection, or a request, went on after it was left; the key stands in the error; the prompt went to
  another host; more than 32 MiB were read ahead of a slow consumer.

A call without a fault comes first in each process and is not counted, so that lazy imports are not taken for slowness.
Streams are read as the libraries' own pages show it: with `async with` for Trunkline and pydantic-ai, with a bare
`async for` for the others.

`TRUNKLINE_PEERS` names the folder of the peers' virtual environments (`openai`, `litellm`, `anyllm`, `pydanticai`);
what is not there is made with uv, from a file of requirements in the folder `TRUNKLINE_PEER_REQUIREMENTS` where that
has one of the name. Without it Trunkline is measured alone.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
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
"""When a process is ended that does not come back from a case, and from its first call, imports included."""
READ_AHEAD = FLOOD // 2


class Case(NamedTuple):
    """A fault: its class in the catalogue, what it is, its name at the server, and what the client does."""

    number: str
    title: str
    fault: str
    action: str = "read"
    retries: int = 0
    wanted: str = "told"
    """`answer`: nothing but the whole answer will do. `told`: that, or an error. `left`: all is let go."""


CASES = (
    Case("1", "refused connection", "refused"),
    Case("2", "connect black hole", "black_hole"),
    Case("3", "accepted, no headers", "no_headers"),
    Case("4", "headers, no first chunk", "no_first_chunk"),
    Case("5", "stall between chunks", "stall"),
    Case("6", "heartbeats and nothing else", "heartbeats"),
    Case("7", "reset in mid-stream", "reset"),
    Case("8", "clean end, no terminator", "end_of_file"),
    Case("8", "clean end within an event", "end_in_an_event"),
    Case("8", "connection closed, no length told", "closed_without_length"),
    Case("9", "socket parked after the terminator", "parked_after_the_end", wanted="answer"),
    Case("10", "stale pooled connection", "stale", "read twice", 2, "answer"),
    Case("12", "plain bytes said to be gzip", "broken_encoding"),
    Case("13", "a byte a write", "byte_by_byte", wanted="answer"),
    Case("14", "CRLF, comments, byte order mark", "other_line_ends", wanted="answer"),
    Case("15", "broken JSON in an event", "broken_json"),
    Case("17", "a page of HTML with status 200", "html"),
    Case("17", "a whole JSON answer for a stream", "whole_body"),
    Case("18", "error event inside a stream", "error_event"),
    Case("19", "bare JSON error in a stream", "bare_error"),
    Case("22", "no choices; usage in every chunk", "odd_usage", wanted="answer"),
    Case("23", "unknown event and fields", "unknown", wanted="answer"),
    Case("25", "503 twice, then an answer", "unavailable_twice", retries=2, wanted="answer"),
    Case("27", "200 with an error first, then an answer", "error_first", retries=2),
    Case("28", "redirect to another host", "redirect"),
    Case("30", "the key echoed in an error", "echoed_key"),
    Case("31", "cancelled before headers", "no_headers", "cancel before headers", wanted="left"),
    Case("32", "cancelled in mid-stream", "stall", "cancel in mid-stream", wanted="left"),
    Case("33", "early break", "stall", "break", wanted="left"),
    Case("34", "cancelled in backoff", "later", "cancel in backoff", 2, "left"),
    Case("35", "slow consumer", "flood", "read slowly", wanted="left"),
    Case("38", "client closed in mid-stream", "stall", "close the client", wanted="left"),
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
    """The outcome of a case, from what the client and the server saw."""
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
    return "handled" if own else "raw"


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
    """A client's process, begun anew where it did not come back."""

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
            return {"ended": "not", "message": "the process did not come back"}
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


def environments() -> dict[str, str]:
    """The Python of each peer that is installed, made with uv where `TRUNKLINE_PEERS` says where to."""
    folder = os.environ.get("TRUNKLINE_PEERS")
    if not folder:
        return {}
    found = {}
    for name, venv in VENVS.items():
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
    told = "; ".join(
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
    return Result(ours, f"{len(options.cases)} faults: {told}", figures)


if __name__ == "__main__":
    command("peers", SIZES, measure)
