"""Workers of a Ray cluster that share limits, and a provider that counts: `python limited_workers.py OPTIONS-AS-JSON`.

Writes what the provider has seen to `result.json` in the `folder` of the options. Run it in a network namespace: Ray
listens on every address.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import ray
import trunkline
from trunkline_ray.limits import ClusterLimiter, ClusterLimits, limiter_status

PROVIDER = Path(__file__).parents[3] / "tests" / "batch" / "provider.py"


@ray.remote(num_cpus=0)
class Worker:
    """Sends requests until it is told to stop, as many at once as it is told."""

    def __init__(self, url: str, limits: ClusterLimits, name: str) -> None:
        service = trunkline.open_service("openai", default_model="batch", api_url=url, api_key="key", max_retries=20)
        self._name = name
        self._limiter = ClusterLimiter(limits)
        self._service = trunkline.limit(service, limiter=self._limiter)
        self._next = 0
        self._stopped = False
        self.errors: list[str] = []

    async def run(self, concurrency: int, requests: int) -> tuple[int, list[str]]:
        async with anyio.create_task_group() as tasks:
            for _ in range(concurrency):
                tasks.start_soon(self._send, requests)
        await self._limiter.aclose()
        return self._next, self.errors

    async def _send(self, requests: int) -> None:
        while not self._stopped and self._next < requests:
            self._next += 1
            try:
                await self._service.chat(f"[row {self._name}-{self._next}]", max_output_tokens=20)
            except trunkline.TrunklineError as error:
                self.errors.append(repr(error))

    async def stop(self) -> None:
        self._stopped = True

    async def process(self) -> int:
        return os.getpid()


@contextmanager
def provider(options: dict[str, Any]) -> Iterator[str]:
    """Run the provider, and yield its URL; then end Ray."""
    settings = {"window": options["period"], **options.get("provider", {})}
    process = subprocess.Popen(
        [sys.executable, str(PROVIDER), *(f"--set={name}={value}" for name, value in settings.items())],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        ray.shutdown()
        process.terminate()
        process.wait()


def ask(url: str, path: str, value: object = None) -> dict[str, Any]:
    data = None if value is None else json.dumps(value).encode()
    with urllib.request.urlopen(f"{url}{path}", data=data) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def wait_for(url: str, accepted: int) -> None:
    while ask(url, "/stats")["requests"] < accepted:
        time.sleep(0.05)


def main(options: dict[str, Any]) -> None:
    with provider(options) as url:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        limits = ClusterLimits(name="test", folder=options["folder"], period=options["period"], **options["limits"])
        requests, concurrency = options["requests"], options.get("concurrency", 16)
        workers = [Worker.remote(url, limits, str(number)) for number in range(options["workers"])]
        running = [worker.run.remote(concurrency, requests) for worker in workers]
        killed = []
        for accepted, what in options.get("kills", []):
            wait_for(url, accepted)
            if what == "limiter":
                killed.append(limiter_status("test").process)
                os.kill(killed[-1], signal.SIGKILL)
            else:
                os.kill(ray.get(workers[0].process.remote()), signal.SIGKILL)
                running = running[1:]
        if options.get("seconds"):
            time.sleep(options["seconds"])
            ray.get([worker.stop.remote() for worker in workers[-len(running) :]])
        done = ray.get(running)
        status = limiter_status("test")
        result = {
            "sent": sum(sent for sent, _ in done),
            "errors": [error for _, errors in done for error in errors],
            "restarted": status.process not in killed,
            "running": status.running,
            "waiting": status.waiting,
            "tokens": status.tokens,
            **ask(url, "/stats"),
        }
        # Not to the standard output, where Ray writes as well.
        Path(options["folder"], "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
