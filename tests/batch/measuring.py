"""Run a provider and a client, each in processes of its own, and measure the client: time, CPU, memory, and its output.

Linux only: the figures are read from `/proc`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from provider import answer_to

HERE = Path(__file__).resolve().parent
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

TEMPLATE = "[row {id}] {text}"
"""The prompt of a row."""


def adopt_orphans() -> None:
    """Make this process the parent of orphans among its descendants, so that it can measure and end them."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def text_of(number: int) -> str:
    """Return the text of a row, some 120 bytes."""
    return (
        f"Which of the {number % 89 + 2} parts of sentence {number} says where it took place, and which one says when?"
    )


def write_rows(path: Path, rows: int) -> Path:
    """Write a file of rows with the columns `id` and `text`, unless it exists."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            for number in range(1, rows + 1):
                file.write(json.dumps({"id": str(number), "text": text_of(number)}) + "\n")
    return path


class Server:
    """The provider of `provider.py`, in a process of its own."""

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        self.url = url
        self.pid = process.pid

    def ask(self, path: str, value: object = None) -> Any:
        """Send a command, and return the answer."""
        data = None if value is None else json.dumps(value).encode()
        with urllib.request.urlopen(self.url + path, data, timeout=60) as response:
            return json.load(response)

    def set(self, **settings: object) -> None:
        self.ask("/control", settings)

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("/stats")
        return found

    def accepted(self) -> int:
        found: int = self.ask("/accepted")["accepted"]
        return found


@contextmanager
def provider(**settings: object) -> Iterator[Server]:
    """Run the provider for as long as the block runs."""
    command = [sys.executable, str(HERE / "provider.py")]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Server(process.stdout.readline().split()[1], process)
    finally:
        process.terminate()
        process.communicate()


@attrs.define
class Usage:
    """What a client and all its processes have used. Memory is in MiB."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: float = 0.0
    """The largest sum over all processes. Memory that processes share counts once (PSS)."""
    processes: int = 0
    """The most processes at once."""
    memory: list[tuple[float, float]] = attrs.Factory(list)
    """Resident memory (RSS) of all processes over time: seconds, MiB."""


class Sampler:
    """Samples the descendants of this process, but for the provider, while a client runs."""

    def __init__(self, leave_out: Iterable[int], interval: float = 0.25) -> None:
        self.usage = Usage()
        self._leave_out = frozenset(leave_out)
        self._interval = interval
        self._cpu: dict[tuple[int, str], float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample_on, daemon=True)

    def __enter__(self) -> Sampler:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.usage.seconds = time.monotonic() - self._began
        self._ended.set()
        self._thread.join()
        self.usage.cpu_seconds = sum(self._cpu.values())

    def add_exact(self, used: float, pid: int) -> None:
        """Take the CPU time of a process that was waited for, which the samples miss the end of."""
        self._cpu = {key: value for key, value in self._cpu.items() if key[0] != pid}
        self._cpu[pid, "exact"] = used

    def _sample_on(self) -> None:
        last_memory = 0.0
        while not self._ended.wait(self._interval):
            now = time.monotonic() - self._began
            pids = self.descendants()
            self.usage.processes = max(self.usage.processes, len(pids))
            if now - last_memory >= 1.0 or not self.usage.memory:
                last_memory = now
                resident = sum(_resident(pid) for pid in pids)
                shared = sum(_proportional(pid) for pid in pids) if len(pids) > 1 else resident
                self.usage.memory.append((round(now, 1), round(resident / 2**20, 1)))
                self.usage.peak_memory = max(self.usage.peak_memory, round(shared / 2**20, 1))

    def descendants(self) -> list[int]:
        """Return the processes that are alive, and note their CPU time."""
        children: dict[int, list[int]] = defaultdict(list)
        seen: dict[int, tuple[str, float]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                pid = int(entry.name)
                children[int(fields[1])].append(pid)
                seen[pid] = (fields[19], (int(fields[11]) + int(fields[12])) / _TICKS)
        found: list[int] = []
        left = [os.getpid()]
        while left:
            for pid in children[left.pop()]:
                if pid not in self._leave_out:
                    found.append(pid)
                    left.append(pid)
        for pid in found:
            started, used = seen[pid]
            if (pid, "exact") not in self._cpu:
                self._cpu[pid, started] = used
        return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


@attrs.frozen
class Ended:
    """How a client ended."""

    usage: Usage
    code: int
    output: str
    """The end of what it printed."""


def run_client(
    command: Sequence[str],
    server: Server,
    log: Path,
    meanwhile: Callable[[subprocess.Popen[bytes]], None] | None = None,
    environment: dict[str, str] | None = None,
) -> Ended:
    """Run a client to its end, and measure it with all its processes. `meanwhile` may disturb it.

    Its orphans are ended as well: without that, the processes of a killed Ray would go on.
    """
    with log.open("ab") as file, Sampler([server.pid]) as sampler:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        if meanwhile is not None:
            meanwhile(process)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        sampler.add_exact(used.ru_utime + used.ru_stime, process.pid)
    end_orphans(server)
    return Ended(sampler.usage, process.returncode, log.read_bytes()[-3000:].decode(errors="replace"))


def end_orphans(server: Server) -> None:
    """End the descendants of this process that are left, but for the provider."""
    while pids := Sampler([server.pid]).descendants():
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pid in pids:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue


Answers = Iterable[tuple[str, str | None]]
"""The ids in an output, each with its answer, or with None for a row that is reported as failed."""


def lines_of(*paths: Path) -> Iterator[dict[str, Any]]:
    for path in paths:
        with path.open("rb") as file:
            for line in file:
                yield json.loads(line)


def check(answers: Answers, rows: int) -> dict[str, int]:
    """Compare an output with the rows 1 to `rows`, and count.

    `right`: rows with their answer, `failed`: rows that are reported as failed and have no answer, `lost`: rows
    that are not in the output, `repeated`: further answers to the same row, `wrong`: answers to another prompt.
    """
    times = bytearray(rows + 1)
    failures: set[int] = set()
    found = Counter(right=0, failed=0, lost=0, repeated=0, wrong=0)
    for row_id, answer in answers:
        number = int(row_id)
        if answer is None:
            failures.add(number)
        elif answer != answer_to(TEMPLATE.format(id=row_id, text=text_of(number))):
            found["wrong"] += 1
        elif times[number]:
            found["repeated"] += 1
        else:
            times[number] = 1
    found["right"] = sum(times)
    found["failed"] = sum(1 for number in failures if not times[number])
    found["lost"] = rows - found["right"] - found["failed"]
    return dict(found)
