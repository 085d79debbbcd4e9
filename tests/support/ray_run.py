"""Jobs of Ray whose processes are killed, and what a provider sees of them.

    unshare --map-root-user --net python tests/support/ray_run.py SCENARIO [--rows N] [--actors N] [--concurrency N]

Ray listens on every address, so this program must run in a network namespace of its own; it brings up its loopback
interface. The provider is a process of its own (tests/batch/provider.py). The scenarios:

- `faults`: the provider answers some requests with 429, 503 and 400, and resets some connections.
- `worker`: workers are killed with SIGKILL while they have requests in flight.
- `driver`: the driver is killed with SIGKILL, and the job is run again.
- `outage`: the provider is down for `--outage` seconds.

Prints a line of JSON: what the output has, and what the provider has counted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROVIDER = ROOT / "tests" / "batch" / "provider.py"


def provider_module() -> Any:
    """Import the provider, for the answers that it gives."""
    spec = importlib.util.spec_from_file_location("batch_provider", PROVIDER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def prompt(row: int) -> str:
    return f"[row {row}] label it"


def drive(url: str, folder: Path, rows: int, actors: int, concurrency: int) -> None:
    """Run a job: the program of an application."""
    import ray
    import trunkline_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.range(rows, override_num_blocks=max(8, rows // 5000))
    config = {
        "services": {
            "main": {
                "provider": "openai-compatible",
                "api_url": url,
                "api_key": {"env": "BATCH_KEY"},
                "default_model": "batch",
            }
        }
    }
    labelled = trunkline_ray.map(
        dataset,
        "[row {id}] label it",
        service="main",
        config=config,
        journal=folder / "journal",
        actors=actors,
        concurrency=concurrency,
    )
    labelled.write_parquet(str(folder / "output"), mode=ray.data.SaveMode.OVERWRITE)


class Run:
    """A provider and a job."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        self._provider = subprocess.Popen([sys.executable, str(PROVIDER)], stdout=subprocess.PIPE, text=True)
        assert self._provider.stdout is not None
        self.url = self._provider.stdout.readline().split()[1]
        self.driver = self.start()

    def start(self) -> subprocess.Popen[str]:
        size = (self.options.rows, self.options.actors, self.options.concurrency)
        return subprocess.Popen(
            [sys.executable, __file__, "drive", self.url, str(self.folder), *map(str, size)],
            env={**os.environ, "BATCH_KEY": "k", "RAY_USAGE_STATS_ENABLED": "0"},
            stdout=(self.folder / "driver.log").open("a"),
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ask(self, path: str, value: object = None) -> Any:
        request = urllib.request.Request(self.url + path, None if value is None else json.dumps(value).encode())
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)

    def wait_for(self, accepted: int) -> None:
        """Wait until the provider has accepted so many requests."""
        while self.ask("/stats")["accepted"] < accepted:
            if self.driver.poll() is not None:
                raise SystemExit(f"the driver has ended early:\n{(self.folder / 'driver.log').read_text()}")
            time.sleep(0.02)

    def workers(self) -> list[int]:
        """Return the processes that write journals now."""
        found = []
        for path in (self.folder / "journal").glob("*.jsonl"):
            with path.open() as lines:
                pid = int(json.loads(lines.readline())["pid"])
            if Path(f"/proc/{pid}").exists():
                found.append(pid)
        return found

    def close(self) -> None:
        """End what still runs."""
        for process in (self.driver, self._provider):
            process.kill()
            process.wait()

    def finish(self) -> dict[str, object]:
        """Wait for the end of the job, and compare its output with the right answers."""
        status = self.driver.wait()
        if status:
            raise SystemExit(f"the driver has failed:\n{(self.folder / 'driver.log').read_text()}")
        stats = self.ask("/stats")

        import pyarrow.parquet as pq

        table = pq.read_table(self.folder / "output")
        answers: dict[int, list[tuple[str | None, str | None]]] = {}
        for row in table.select(["id", "response_text", "error_type"]).to_pylist():
            answers.setdefault(row["id"], []).append((row["response_text"], row["error_type"]))
        answer_to = provider_module().answer_to
        numbers = range(self.options.rows)
        failed = [number for number in numbers if answers.get(number, [(None, None)])[0][1] is not None]
        return {
            "rows": table.num_rows,
            "lost": sum(number not in answers for number in numbers),
            "twice": sum(len(found) > 1 for found in answers.values()),
            "wrong": sum(
                text != answer_to(prompt(number))
                for number, found in answers.items()
                for text, error in found
                if not error
            ),
            "failed": len(failed),
            "errors": sorted({str(answers[number][0][1]) for number in failed}),
            "provider": stats,
        }


def main() -> None:
    """Run a scenario."""
    if sys.argv[1] == "drive":
        url, folder, *size = sys.argv[2:]
        return drive(url, Path(folder), *map(int, size))
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", choices=["faults", "worker", "driver", "outage"])
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--outage", type=float, default=3.0)
    options = parser.parse_args()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name), options)
        try:
            settings: dict[str, object] = {"latency": options.latency}
            if options.scenario == "faults":
                settings |= {"rate_limited": 0.05, "retry_after": 0.1, "unavailable": 0.05, "reset": 0.05, "bad": 0.02}
            if options.scenario == "outage":
                settings |= {"outage": options.outage, "outage_after": options.rows // 3}
            run.ask("/control", settings)
            kills = options.kills if options.scenario in ("worker", "driver") else 0
            for number in range(kills):
                run.wait_for((number + 1) * options.rows // (kills + 1))
                if options.scenario == "worker":
                    while len(workers := run.workers()) < options.actors:  # Ray is starting the last one again
                        time.sleep(0.02)
                    os.kill(workers[number % options.actors], signal.SIGKILL)
                else:
                    run.driver.kill()
                    run.driver.wait()
                    run.driver = run.start()
            result = run.finish()
        finally:
            run.close()
        print(json.dumps({"kills": kills, "concurrency": options.concurrency, "actors": options.actors, **result}))
    return None


if __name__ == "__main__":
    main()
