"""Gateways as processes: `trunkline serve` as an administrator runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs

TRUNKLINE = [str(Path(sys.executable).with_name("trunkline"))]
STARTED = re.compile(r"^API +(http://[^ ]+)/v1", re.MULTILINE)
ADMIN_KEY = "tla_an-admin-key-of-the-tests-that-is-long-enough"


@attrs.define
class GatewayProcess:
    """A gateway that runs. `url` is its address, without a path."""

    process: subprocess.Popen[str]
    url: str
    data_dir: Path
    environment: Mapping[str, str]
    log: Path

    def create_key(self, name: str = "tests", *options: str) -> str:
        """Make a key by the command line."""
        command = [*TRUNKLINE, "gateway", "create-key", name, "--data-dir", str(self.data_dir), *options]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=dict(self.environment), timeout=60
        ).stdout.strip()

    def kill(self) -> None:
        """End the process as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout: float = 60.0) -> int:
        """End the process with SIGTERM, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


@contextmanager
def gateway_process(
    data_dir: Path, *options: str, services: str | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[GatewayProcess]:
    """Start `trunkline serve` on a free port. `services` is the text of a configuration file."""
    variables = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith("TRUNKLINE_GATEWAY_") and name != "PYTHONUNBUFFERED"
        },
        "TRUNKLINE_GATEWAY_ADMIN_KEY": ADMIN_KEY,
        **(environment or {}),
    }
    data_dir.mkdir(parents=True, exist_ok=True)
    if services is not None:
        file = data_dir / "trunkline.toml"
        file.write_text(services, encoding="utf-8")
        options = (*options, "--services", str(file))
    command = [*TRUNKLINE, "serve", "--port", "0", "--data-dir", str(data_dir), *options]
    log = data_dir / "gateway.log"
    with log.open("a") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=variables)
    assert process.stdout is not None
    try:
        output = ""
        while (found := STARTED.search(output)) is None:
            line = process.stdout.readline()
            if not line:
                raise AssertionError(f"the gateway did not start: {output}\n{log.read_text()}")
            output += line
        yield GatewayProcess(process, found[1], data_dir, variables, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
