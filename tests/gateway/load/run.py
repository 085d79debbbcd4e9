"""Compare the gateway with other Python gateways under load: `python tests/gateway/load/run.py [--json FILE]`.

    python tests/gateway/load/run.py                             all gateways; missing ones are installed
    python tests/gateway/load/run.py -g trunkline -m cpu         one gateway, one measure
    python tests/gateway/load/run.py --size tiny                 a few requests of each kind
    python tests/gateway/load/run.py --show docs/gateway-figures.json

Linux only: CPU time and memory are read from `/proc`. All gateways have the same provider, `tests/bench/provider.py`,
and the same load client, each a process. `direct` is the load client without a gateway. A round starts each gateway,
takes all measures, and ends it; the order rotates from round to round.

    cpu        CPU time that a gateway uses for a request and for a chunk of a stream
    latency    time to the first text and to the end of a stream, for numbers of streams at once
    memory     memory with streams that are open and wait, and how many of them a gateway opens
    start      time from the start of the process to its first answer, and its memory then (always measured)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import load_report  # noqa: E402
from gateways import DIRECT, KINDS, SHAPES, Gateway, listens, started, versions  # noqa: E402

MEASURES = ("cpu", "latency", "memory")
START_TIMEOUT = 120.0

Found = dict[str, Any]


@attrs.frozen(kw_only=True)
class Size:
    """How much is measured. A number of streams at once has a number of waves, each of which starts all of them.

    `settle` is the seconds after a load in which a gateway may still work for it, such as to store usage.
    """

    rounds: int
    warm_up: int
    requests: int
    fast_streams: int
    paced_streams: int
    waves: dict[int, int]
    waiting: int
    texts: int = 500
    settle: float = 1.0
    compiled: bool = True
    """Whether each gateway is started once before, so that Python has compiled its modules."""


SIZES = {
    "full": Size(
        rounds=3,
        warm_up=100,
        requests=2000,
        fast_streams=48,
        paced_streams=16,
        waves={1: 30, 10: 10, 50: 4, 100: 3, 200: 2},
        waiting=1000,
    ),
    "small": Size(
        rounds=1,
        warm_up=50,
        requests=400,
        fast_streams=16,
        paced_streams=16,
        waves={1: 10, 10: 3, 50: 1, 100: 1, 200: 1},
        waiting=1000,
    ),
    "tiny": Size(
        rounds=1,
        warm_up=2,
        requests=20,
        fast_streams=2,
        paced_streams=2,
        waves={1: 1, 10: 1},
        waiting=20,
        texts=20,
        settle=0.1,
        compiled=False,
    ),
}
CONCURRENCY = 16
TEXTS = {"together": 50, "waiting": 8}


class Client:
    """The load client, in a process."""

    def __init__(self) -> None:
        command = [sys.executable, str(HERE / "load_client.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def do(self, job: dict[str, object]) -> Found:
        """Do a job, and return what was found."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load client ended during {job}")
        found: Found = json.loads(line)
        return found


def start(client: Client, gateway: Gateway, began: float) -> Found:
    """Wait for the first answer of a gateway. A gateway may listen before it answers."""
    if not listens(gateway, START_TIMEOUT):
        return {"error": "it did not start"}
    until = time.monotonic() + START_TIMEOUT
    while True:
        found = client.do(gateway.job("run", "chat", "whole", concurrency=1, requests=1))
        if not found["failed"]:
            seconds = time.monotonic() - began
            return {"seconds": seconds, "mib": gateway.memory_mib(), "processes": gateway.processes()}
        if time.monotonic() > until:
            return {"error": f"its first answer: {', '.join(found['failed'])}"}
        time.sleep(0.05)


def used_by(client: Client, gateway: Gateway, job: dict[str, object], settle: float) -> Found:
    """Do a job, and return the CPU time that the gateway has used for each request."""
    before = gateway.cpu_seconds()
    found = client.do(job)
    time.sleep(settle)
    used = gateway.cpu_seconds() - before
    names = ("requests", "failed", "seconds", "client_cpu")
    return {name: found[name] for name in names} | {"cpu": used, "per_request": used / found["requests"]}


def cpu(client: Client, gateway: Gateway, wires: Sequence[str], size: Size) -> Found:
    """Measure the CPU time for requests and for streams, with 16 at a time."""
    found: Found = {}
    for wire in wires:
        client.do(gateway.job("run", wire, "whole", concurrency=CONCURRENCY, requests=size.warm_up))
        job = gateway.job("run", wire, "whole", concurrency=CONCURRENCY, requests=size.requests)
        whole = used_by(client, gateway, job, size.settle)
        found[wire] = {"whole": whole}
        for service, streams in (("fast", size.fast_streams), ("paced", size.paced_streams)):
            at_once = min(CONCURRENCY, streams)
            job = gateway.job("run", wire, service, concurrency=at_once, requests=streams, texts=size.texts)
            stream = used_by(client, gateway, job, size.settle)
            stream["per_chunk"] = (stream["per_request"] - whole["per_request"]) / size.texts
            found[wire][service] = stream
    return found


def latency(client: Client, gateway: Gateway, wires: Sequence[str], size: Size) -> Found:
    """Measure the times of streams, for numbers of streams at once."""
    found: Found = {}
    for streams, waves in size.waves.items():
        job = gateway.job("waves", "chat", "together", concurrency=streams, waves=waves, texts=TEXTS["together"])
        before = gateway.cpu_seconds()
        found[str(streams)] = client.do(job)
        found[str(streams)]["cpu"] = gateway.cpu_seconds() - before
    return found


def memory(client: Client, gateway: Gateway, wires: Sequence[str], size: Size) -> Found:
    """Measure memory with open streams, and the time of a request beside them."""
    before = gateway.memory_mib()
    job = gateway.job("hold", "chat", "waiting", concurrency=size.waiting, texts=TEXTS["waiting"], timeout=30.0)
    found = client.do(job)
    time.sleep(size.settle)
    found |= {"streams": size.waiting, "before_mib": before, "mib": gateway.memory_mib()}
    beside = client.do(gateway.job("run", "chat", "whole", concurrency=1, requests=5, timeout=10.0))
    found["beside"] = {"failed": beside["failed"], "whole": beside["whole"]}
    found["still_open"] = client.do({"job": "release"})["open"]
    time.sleep(size.settle)
    found["after"] = client.do(gateway.job("run", "chat", "whole", concurrency=1, requests=1, timeout=30.0))["failed"]
    found["after_mib"] = gateway.memory_mib()
    return found


TAKEN = {function.__name__: function for function in (cpu, latency, memory)}


def take(client: Client, name: str, folder: Path, provider: int, options: argparse.Namespace) -> Found:
    """Start a gateway, and take the measures."""
    with started(name, folder, provider) as gateway:
        began = gateway.began or time.monotonic()
        found: Found = {"start": start(client, gateway, began)}
        if "error" in found["start"]:
            return found
        offered = ("chat",) if name == DIRECT else KINDS[name].wires
        wires = [wire for wire in options.wires.split(",") if wire in offered]
        for measure in options.measures.split(","):
            found[measure] = TAKEN[measure](client, gateway, wires, SIZES[options.size])
            print(f"{time.strftime('%H:%M:%S')} {name} {measure}", file=sys.stderr, flush=True)
    return found


def main() -> int:
    """Run the comparison, and print its tables. Returns 1 if a gateway did not start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-g", "--gateways", default=",".join((DIRECT, *KINDS)), help="only these, with commas between")
    parser.add_argument("-m", "--measures", default=",".join(MEASURES), help="only these, with commas between")
    parser.add_argument("-w", "--wires", default="chat,messages", help="the APIs of the measure cpu")
    parser.add_argument("-s", "--size", choices=SIZES, default="full")
    parser.add_argument("-r", "--rounds", type=int, help="how often each measure is taken")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--show", type=Path, metavar="JSON", help="print the tables of this file")
    options = parser.parse_args()
    if options.show:
        print(load_report.all_tables(json.loads(options.show.read_text(encoding="utf-8"))))
        return 0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for all processes that this one starts
    size = SIZES[options.size]
    SHAPES.update(fast=f"n{size.texts}b1", paced=f"n{size.texts}b1g10")
    names = options.gateways.split(",")
    samples: dict[str, list[Found]] = {name: [] for name in names}
    result: Found = {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "size": attrs.asdict(size),
        "titles": {name: "no gateway" if name == DIRECT else KINDS[name].title for name in names},
        "versions": {},
        "samples": samples,
    }
    command = [sys.executable, str(HERE.parents[1] / "bench" / "provider.py")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        provider = int(server.stdout.readline())
        with tempfile.TemporaryDirectory(prefix="gateway-load-") as folder, Client() as client:
            for name in names if size.compiled else ():
                with started(name, Path(folder) / f"{name}-before", provider) as gateway:
                    start(client, gateway, time.monotonic())
            for turn in range(options.rounds or size.rounds):
                shift = turn % len(names)
                for name in names[shift:] + names[:shift]:
                    here = Path(folder) / f"{name}-{turn}"
                    samples[name].append(take(client, name, here, provider, options))
    finally:
        server.terminate()
        server.communicate()
    result["versions"] = {name: versions(name) for name in names if name != DIRECT}
    result["load_after"] = os.getloadavg()
    figures = load_report.condensed(result)
    print(load_report.all_tables(figures), flush=True)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return int(any("error" in sample["start"] for taken in samples.values() for sample in taken))


if __name__ == "__main__":
    sys.exit(main())
