"""Measure batch work: `python tests/batch/run.py SCENARIO [--rows N] [--json FILE]`. Linux only.

    kills        map over a file, killed by `kill -9` at random moments and started again
    throughput   map beside bare HTTP clients that read and write the same files
    memory       map over a file with resident memory over time
    outage       map, while the provider is down for a time
    faults       map, with status 429, 503, resets and slow answers
    limit        map with a limit of requests, measured by the provider
    peers        map, a script with the openai SDK, the HTTP stage of ray.data.llm, and trunkline_ray, with and
                 without faults
    ray          trunkline_ray, with a worker killed, the driver killed, and the provider down

Each scenario prints a table. The exit status is 1 if a promise is broken. Scenarios with Ray need `--ray-python`, the
Python of an environment with `ray[data]`, trunkline-ray, openai and aiohttp; they run in a network namespace with the
loopback interface alone, since Ray listens on every address.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import report  # noqa: E402
from measuring import (  # noqa: E402
    TEMPLATE,
    Answers,
    Ended,
    Server,
    adopt_orphans,
    check,
    lines_of,
    provider,
    run_client,
    write_rows,
)

CLIENTS = HERE / "clients"
FAULTS = {"rate_limited": 0.0005, "retry_after": 1.0, "unavailable": 0.005, "reset": 0.005, "slow": 0.005}
"""What goes wrong in the scenarios with faults, as shares of the requests."""

Found = dict[str, Any]


class Runner:
    """The options, and a folder for the files of a scenario."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = options.folder
        self.rows: int = options.rows
        self.concurrency: int = options.concurrency
        self.source = write_rows(self.folder / f"rows-{self.rows}.jsonl", self.rows)
        self.broken: list[str] = []

    def output(self, name: str) -> Path:
        """Return the name of an output, whose files of an earlier run are removed."""
        for path in self.folder.glob(f"{name}.*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return self.folder / f"{name}.jsonl"

    def map(self, server: Server, output: Path, library: str = "aiohttp", *more: str) -> list[str]:
        """Return the command `trunkline map`. `library` sends the requests."""
        settings = {"api_url": server.url, "default_model": "batch", "http_library": library}
        pairs = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        command = [
            str(Path(sys.executable).with_name("trunkline")),
            "map",
            str(self.source),
            str(output),
            "--prompt",
            TEMPLATE,
        ]
        return [*command, "-p", "openai-compatible", *pairs, "--concurrency", str(self.concurrency), *more]

    def bare(self, server: Server, output: Path, library: str) -> list[str]:
        client = [sys.executable, str(CLIENTS / "bare.py"), library, server.url]
        return [*client, str(self.source), str(output), str(self.concurrency)]

    def require(self, promise: str, kept: bool) -> None:
        if not kept:
            self.broken.append(promise)
            print(f"BROKEN: {promise}", flush=True)


def answers_of(output: Path) -> Answers:
    """Yield the answers in the files of `map`."""
    for record in lines_of(output):
        yield record["id"], record["text"]
    failures = output.with_name(output.stem + ".failed.jsonl")
    if failures.exists():
        for record in lines_of(failures):
            yield record["id"], None


def ended(name: str, run: Ended, rows: int) -> Found:
    """Return the figures of a client that has ended."""
    if run.code:
        print(f"{name} ended with {run.code}:\n{run.output}", file=sys.stderr)
    usage = run.usage
    return {
        "code": run.code,
        "seconds": round(usage.seconds, 1),
        "rows_per_second": round(rows / usage.seconds),
        "cpu_seconds": round(usage.cpu_seconds, 1),
        "peak_mib": usage.peak_memory,
        "processes": usage.processes,
    }


def seen(server: Server) -> Found:
    """Return what the provider has seen."""
    stats = server.stats()
    names = ("requests", "accepted", "repeated", "injected", "early", "in_pause", "abandoned", "most_in_flight")
    return {name: stats[name] for name in names} | {"busiest": stats["busiest"]}


def random_moments(rows: int, kills: int) -> Iterator[int]:
    """Yield the numbers of accepted requests at which to kill, in order."""
    return iter(sorted(random.sample(range(rows // 50, rows - rows // 50), kills)))


def wait_until(server: Server, accepted: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the provider has accepted so many requests. Returns whether the process is still alive."""
    while server.accepted() < accepted:
        if process.poll() is not None:
            return False
        time.sleep(0.05)
    time.sleep(random.uniform(0, 0.05))
    return process.poll() is None


def kills(runner: Runner) -> Found:
    """Kill `map` at random moments, and start it again."""
    output = runner.output("kills")
    runs = []
    lines = 0
    with provider(latency=runner.options.latency) as server:
        for moment in [*random_moments(runner.rows, runner.options.kills), None]:
            process = subprocess.Popen(runner.map(server, output), stdout=subprocess.DEVNULL)
            killed = moment is not None and wait_until(server, moment, process)
            if killed:
                process.send_signal(signal.SIGKILL)
            code = process.wait()
            now = output.read_bytes().count(b"\n")
            runs.append({"killed": killed, "code": code, "lines": now, "accepted": server.accepted()})
            runner.require("no recorded line is lost by a kill", now >= lines)
            lines = now
        found = {"rows": runner.rows, "concurrency": runner.concurrency, "runs": runs}
        found |= {**check(answers_of(output), runner.rows), "provider": seen(server)}
    repeated = found["provider"]["repeated"]
    killed_runs = sum(run["killed"] for run in runs)
    runner.require("the last run ends well", runs[-1]["code"] == 0)
    runner.require("each row is in the output once", found["right"] == runner.rows and not found["repeated"])
    runner.require("at most `concurrency` repeated for a kill", repeated <= killed_runs * runner.concurrency)
    found |= {"kills": killed_runs, "repeated_requests": repeated}
    return found


def throughput(runner: Runner) -> Found:
    """Compare `map` with bare clients, in rounds with a rotated order."""
    commands: dict[str, Callable[[Server, Path], list[str]]] = {}
    for library in ("httpx2", "aiohttp"):
        commands[f"bare {library}"] = lambda server, output, library=library: runner.bare(server, output, library)
        commands[f"map, {library}"] = lambda server, output, library=library: runner.map(server, output, library)
    samples: dict[str, list[Found]] = {name: [] for name in commands}
    with provider(latency=runner.options.latency) as server:
        for number in range(runner.options.rounds):
            names = list(commands)
            names = names[number % len(names) :] + names[: number % len(names)]
            for name in names:
                output = runner.output("throughput")
                run = run_client(commands[name](server, output), server, runner.folder / "throughput.log")
                samples[name].append(ended(name, run, runner.rows))
                counts = check(answers_of(output), runner.rows)
                runner.require(f"{name}: each row once", counts["right"] == runner.rows and not counts["repeated"])
    best = {name: max(sample["rows_per_second"] for sample in found) for name, found in samples.items()}
    ratios = {library: best[f"map, {library}"] / best[f"bare {library}"] for library in ("httpx2", "aiohttp")}
    return {
        "rows": runner.rows,
        "concurrency": runner.concurrency,
        "latency": runner.options.latency,
        "samples": samples,
        "ratios": ratios,
    }


def memory(runner: Runner) -> Found:
    """Sample the memory of a run."""
    output = runner.output("memory")
    with provider(latency=runner.options.latency) as server:
        run = run_client(runner.map(server, output), server, runner.folder / "memory.log")
        found = {"rows": runner.rows, "concurrency": runner.concurrency, **ended("map", run, runner.rows)}
        found |= {**check(answers_of(output), runner.rows), "provider": seen(server)}
    samples = run.usage.memory
    found["memory"] = samples[:: max(1, len(samples) // 60)]
    # The start is left out: until everything is imported and the caches are full.
    resident = [mib for seconds, mib in samples if seconds > run.usage.seconds / 10] or [mib for _, mib in samples]
    found |= {
        "first_tenth_mib": resident[0],
        "last_mib": resident[-1],
        "growth_mib": round(resident[-1] - resident[0], 1),
    }
    runner.require("each row is in the output once", found["right"] == runner.rows)
    return found


def disturbed(runner: Runner, name: str, settings: Found, *more: str) -> Found:
    """Run `map` once, with a provider that has these settings."""
    output = runner.output(name)
    with provider(latency=runner.options.latency, **settings) as server:
        run = run_client(runner.map(server, output, "aiohttp", *more), server, runner.folder / f"{name}.log")
        found = {"rows": runner.rows, "concurrency": runner.concurrency, **ended(name, run, runner.rows)}
        found |= {**check(answers_of(output), runner.rows), "provider": seen(server), "settings": settings}
    runner.require("the run ends well", run.code == 0)
    runner.require("each row is in the output once", found["right"] == runner.rows and not found["repeated"])
    return found


def outage(runner: Runner) -> Found:
    seconds = runner.options.outage
    kinds = ("503", "reset")
    settings = {"outage": seconds, "outage_after": runner.rows // 2}
    return {kind: disturbed(runner, f"outage-{kind}", {**settings, "outage_kind": kind}) for kind in kinds}


def faults(runner: Runner) -> Found:
    return disturbed(runner, "faults", FAULTS)


def limit(runner: Runner) -> Found:
    most = max(60, runner.rows // 2)
    found = disturbed(runner, "limit", {}, "--requests-per-minute", str(most))
    arrived = found["provider"]["busiest"]["arrived"]
    runner.require("no interval of 60 s is over the limit by more than 1 %", arrived <= most * 1.01)
    return found | {"limit": most}


def folder_answers(output: Path) -> Answers:
    """Yield the answers in a folder that Ray wrote."""
    for record in lines_of(*sorted(output.glob("*.json"))):
        yield record["id"], record["response_text"]


def peers(runner: Runner) -> Found:
    """The same rows by several programs, first without and then with faults."""
    python = str(runner.options.ray_python)
    concurrency, source = str(runner.concurrency), str(runner.source)

    def client(name: str, *more: str) -> Callable[[Server, Path], list[str]]:
        def command(server: Server, output: Path) -> list[str]:
            return [python, str(CLIENTS / name), server.url, source, str(output), concurrency, *more]

        return command

    programs: dict[str, tuple[Callable[[Server, Path], list[str]], Callable[[Path], Answers]]] = {
        "trunkline map": (lambda server, output: runner.map(server, output), answers_of),
        "script with the openai SDK": (client("openai_script.py"), answers_of),
        "ray.data.llm's HTTP stage": (client("ray_llm.py"), folder_answers),
        "trunkline_ray": (client("trunkline_ray_job.py", "2"), folder_answers),
    }
    only = runner.options.only
    found: Found = {"rows": runner.rows, "concurrency": runner.concurrency, "latency": runner.options.latency}
    for label, settings in (("without faults", {}), ("with faults", FAULTS), ("down for a time", _down(runner))):
        found[label] = {}
        for name, (command, answers) in programs.items():
            if only and not any(part in name for part in only):
                continue
            output = runner.output("peer")
            with provider(latency=runner.options.latency, **settings) as server:
                run = run_client(command(server, output), server, runner.folder / "peers.log")
                result = ended(name, run, runner.rows)
                # What a job wrote before it failed counts.
                counts = check(answers(output), runner.rows) if output.exists() else {"lost": runner.rows, "right": 0}
                found[label][name] = {**result, **counts, "provider": seen(server)}
    for label in ("without faults", "with faults", "down for a time"):
        for name, row in found[label].items():
            if name.startswith("trunkline"):
                runner.require(f"{name}, {label}: each row once", row["right"] == runner.rows and not row["lost"])
    return found


def _down(runner: Runner) -> Found:
    return {"outage": runner.options.outage, "outage_after": runner.rows // 2}


def ray(runner: Runner) -> Found:
    """`trunkline_ray`, disturbed in several ways."""
    found: Found = {"rows": runner.rows, "concurrency": runner.concurrency}
    for actors in runner.options.actors:
        for kind in ("a worker killed", "the driver killed", "the provider down"):
            output = runner.output("ray")
            client = [str(runner.options.ray_python), str(CLIENTS / "trunkline_ray_job.py")]
            with provider(
                latency=runner.options.latency, **(_down(runner) if kind.startswith("the prov") else {})
            ) as server:
                command = [*client, server.url, str(runner.source), str(output), str(runner.concurrency), str(actors)]

                def disturb(process: subprocess.Popen[bytes], kind: str = kind, server: Server = server) -> None:
                    if kind.endswith("killed") and wait_until(server, runner.rows // 2, process):
                        if kind == "a worker killed":
                            _kill_a_worker(server)
                        else:
                            process.kill()

                run = run_client(command, server, runner.folder / "ray.log", disturb)
                result = {} if run.code < 0 else ended(kind, run, runner.rows)
                if kind == "the driver killed":
                    run = run_client(command, server, runner.folder / "ray.log")
                    result |= ended(kind, run, runner.rows)
                counts = check(folder_answers(output), runner.rows) if output.exists() else {"lost": runner.rows}
                of_one = max(1, runner.concurrency // actors)
                allowed = {"a worker killed": of_one, "the driver killed": of_one * actors}.get(kind, 0)
                result |= {"actors": actors, "allowed": allowed, **counts, "provider": seen(server)}
                found[f"{kind}, {actors} actors"] = result
    for name, row in found.items():
        if isinstance(row, dict):
            once = row.get("right") == runner.rows and not row["repeated"]
            runner.require(f"{name}: each row is in the output once", once)
            repeated = row["provider"]["repeated"]
            runner.require(f"{name}: at most {row['allowed']} requests sent again", repeated <= row["allowed"])
    return found


def _kill_a_worker(server: Server) -> None:
    """Kill a process of Ray that has an actor of ours."""
    from measuring import Sampler

    for pid in Sampler([server.pid]).descendants():
        name = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        if name.startswith("ray::") and "MapWorker" in name:
            os.kill(pid, signal.SIGKILL)
            return
    raise RuntimeError("there is no worker to kill")


SCENARIOS: dict[str, Callable[[Runner], Found]] = {
    function.__name__: function for function in (kills, throughput, memory, outage, faults, limit, peers, ray)
}
WITH_RAY = ("peers", "ray")


def versions(python: str) -> dict[str, str]:
    """Return the versions of the libraries in an environment."""
    code = (
        "import json; from importlib.metadata import distributions; "
        "print(json.dumps({d.name: d.version for d in distributions()}))"
    )
    found = json.loads(subprocess.run([python, "-c", code], capture_output=True, check=True).stdout)
    return {name: found[name] for name in ("trunkline", "aiohttp", "httpx2", "openai", "ray") if name in found}


def main() -> int:
    """Run a scenario. Returns 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds until the provider answers")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--outage", type=float, default=30.0, help="seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--actors", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--only", nargs="+", help="only the programs whose names contain one of these texts")
    parser.add_argument("--seed", type=int, default=None, help="of the moments of the kills")
    parser.add_argument("--ray-python", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/trunkline-batch"))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.scenario in WITH_RAY:
        if options.ray_python is None:
            parser.error(f"{options.scenario} needs --ray-python")
        if "TRUNKLINE_BATCH_ALONE" not in os.environ:
            return in_namespace()
    random.seed(options.seed)
    adopt_orphans()
    runner = Runner(options)
    found = {"scenario": options.scenario, "date": time.strftime("%Y-%m-%d"), "python": platform.python_version()}
    found["versions"] = versions(str(options.ray_python or sys.executable))
    found |= SCENARIOS[options.scenario](runner)
    found["broken"] = runner.broken
    print(report.TABLES[options.scenario](found), flush=True)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 1 if runner.broken else 0


def in_namespace() -> int:
    """Run this command in a network namespace that has the loopback interface alone."""
    script = 'ip link set lo up && exec "$@"'
    command = ["unshare", "--net", "sh", "-c", script, "sh", sys.executable, *sys.argv]
    return subprocess.run(command, check=False, env={**os.environ, "TRUNKLINE_BATCH_ALONE": "1"}).returncode


if __name__ == "__main__":
    sys.exit(main())
