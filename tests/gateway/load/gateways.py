"""The gateways of the comparison: how each is configured and started, and what its processes use. Linux only.

Each offers the same services, which differ in how the provider streams. Other gateways run in environments of their
own, in the folder that `TRUNKLINE_PEERS` names; a missing environment is created.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

HERE = Path(__file__).resolve().parent
PEERS = Path(os.environ.get("TRUNKLINE_PEERS") or HERE / "out" / "venvs")
TICKS = os.sysconf("SC_CLK_TCK")

SHAPES = {"whole": "n8b1", "fast": "n500b1", "paced": "n500b1g10", "together": "n50b1g10", "waiting": "n8h1"}
"""The services: a name, and how the provider streams, as in `tests/bench/provider.py`."""
MODEL = "bench-model"
PROVIDER_KEY = "key-of-the-provider"


def new_key() -> str:
    """Return a key for a gateway, in the form that all accept."""
    return f"sk-{secrets.token_hex(24)}"


@attrs.frozen
class Prepared:
    """A gateway that can be started: its command, and what its clients send."""

    command: Sequence[str]
    key: str
    model: Callable[[str], str]
    """The name of a model for a service."""
    environment: Mapping[str, str] = attrs.Factory(dict)


@attrs.frozen(kw_only=True)
class Kind:
    """A gateway of the comparison."""

    title: str
    prepare: Callable[[Path, int, int], Prepared]
    """Make the configuration in a folder, for the ports of the gateway and of the provider."""
    wires: tuple[str, ...] = ("chat", "messages")
    packages: tuple[str, ...] = ()
    """The packages to install for another gateway, and to report the versions of."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def peer(name: str, packages: Sequence[str], program: str) -> str:
    """Return the path of a program in the environment of another gateway, which is created if it does not exist."""
    venv = PEERS / name
    if not (venv / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin" / "python"), "-m", "pip", "install", "-q", *packages], check=True)
    return str(venv / "bin" / program)


def trunkline_program() -> str:
    return str(Path(sys.executable).with_name("trunkline"))


def _trunkline(*limits: str) -> Callable[[Path, int, int], Prepared]:
    def prepare(folder: Path, port: int, provider: int) -> Prepared:
        lines = []
        for name, how in SHAPES.items():
            lines += [
                f"[services.{name}]",
                'provider = "openai-compatible"',
                f'api_url = "http://127.0.0.1:{provider}/{how}/v1"',
                f'default_model = "{MODEL}"',
                f'api_key = "{PROVIDER_KEY}"',
                "",
            ]
        file = folder / "trunkline.toml"
        file.write_text("\n".join(lines), encoding="utf-8")
        file.chmod(0o600)
        data = ["--data-dir", str(folder / "data")]
        (folder / "data").mkdir()
        create = [trunkline_program(), "gateway", "create-key", "load", *limits, *data]
        key = subprocess.run(create, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        command = [trunkline_program(), "serve", "--port", str(port), "--services", str(file), *data]
        return Prepared(command, key, lambda service: f"{service}/{MODEL}")

    return prepare


def _litellm(folder: Path, port: int, provider: int) -> Prepared:
    key = new_key()
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{MODEL}",
                "api_base": f"http://127.0.0.1:{provider}/{how}/v1",
                "api_key": PROVIDER_KEY,
            },
        }
        for name, how in SHAPES.items()
    ]
    # Without the second setting, /v1/messages calls the provider's Responses API, which the provider does not have.
    settings = {"telemetry": False, "use_chat_completions_url_for_anthropic_messages": True}
    value = {"model_list": models, "litellm_settings": settings, "general_settings": {"master_key": key}}
    file = folder / "config.yaml"
    file.write_text(json.dumps(value), encoding="utf-8")  # JSON is YAML
    program = peer("litellm", KINDS["litellm"].packages, "litellm")
    command = [program, "--config", str(file), "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
    # Else it looks for a list of prices on the Internet when it starts.
    return Prepared(command, key, lambda service: service, {"LITELLM_LOCAL_MODEL_COST_MAP": "True"})


def _lm_proxy(folder: Path, port: int, provider: int) -> Prepared:
    key = new_key()
    lines = ['host = "127.0.0.1"', f"port = {port}", ""]
    for name, how in SHAPES.items():
        url = f"http://127.0.0.1:{provider}/{how}/v1"
        lines += [f"[connections.{name}]", 'api_type = "openai"', f'api_base = "{url}"', f'api_key = "{PROVIDER_KEY}"']
    lines += ["[routing]", *(f'"{name}" = "{name}.{MODEL}"' for name in SHAPES)]
    lines += ["[groups.default]", f'api_keys = ["{key}"]', ""]
    file = folder / "config.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    program = peer("lm-proxy", KINDS["lm-proxy"].packages, "lm-proxy")
    return Prepared([program, "--config", str(file)], key, lambda service: service)


LIMITS = ("--requests-per-minute=1000000", "--tokens-per-minute=1000000000", "--budget-tokens=1000000000000")

KINDS = {
    "trunkline": Kind(title="trunkline", prepare=_trunkline()),
    "trunkline-limits": Kind(title="trunkline, with limits", prepare=_trunkline(*LIMITS)),
    "litellm": Kind(title="litellm", prepare=_litellm, packages=("litellm[proxy]",)),
    "lm-proxy": Kind(title="lm-proxy", prepare=_lm_proxy, wires=("chat",), packages=("lm-proxy",)),
}
DIRECT = "direct"
"""The name of the connection without a gateway."""


@attrs.frozen
class Gateway:
    """A gateway that runs, or the provider itself."""

    port: int
    prepared: Prepared | None
    process: subprocess.Popen[bytes] | None
    began: float | None = None
    """When its process was started, by `time.monotonic`."""

    def job(self, job: str, wire: str, service: str, **more: object) -> dict[str, object]:
        """Return a job for the load client."""
        found: dict[str, object] = {"job": job, "wire": wire, "host": "127.0.0.1", "port": self.port}
        if self.prepared is None:
            found |= {"prefix": f"/{SHAPES[service]}", "key": PROVIDER_KEY, "model": MODEL}
        else:
            found |= {"key": self.prepared.key, "model": self.prepared.model(service)}
        return found | more

    def cpu_seconds(self) -> float:
        """Return the CPU time that its processes have used, user and system."""
        return 0.0 if self.process is None else sum(_tree(self.process.pid).values())

    def memory_mib(self) -> float:
        """Return the memory of its processes. Memory that they share counts once."""
        if self.process is None:
            return 0.0
        pids = list(_tree(self.process.pid))
        field = "Rss:" if len(pids) == 1 else "Pss:"
        return sum(_memory(pid, field) for pid in pids) / 1024

    def processes(self) -> int:
        return 0 if self.process is None else len(_tree(self.process.pid))


def _tree(root: int) -> dict[int, float]:
    """Return a process and its descendants, with the CPU time of each and of its children that have ended."""
    children: dict[int, list[int]] = defaultdict(list)
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children[int(fields[1])].append(int(entry.name))
            used[int(entry.name)] = sum(map(int, fields[11:15])) / TICKS
    found: dict[int, float] = {}
    left = [root]
    while left:
        pid = left.pop()
        if pid in used:
            found[pid] = used[pid]
            left += children[pid]
    return found


def _memory(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


@contextmanager
def started(name: str, folder: Path, provider: int) -> Iterator[Gateway]:
    """Start a gateway for as long as the block runs. It does not wait until the gateway listens."""
    if name == DIRECT:
        yield Gateway(provider, None, None)
        return
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    prepared = KINDS[name].prepare(folder, port, provider)
    # PYTHON…: such as PYTHONDONTWRITEBYTECODE, with which every start compiles all modules.
    others = ("TRUNKLINE_", "LITELLM_", "PYTHON")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(others)}
    began = time.monotonic()
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            prepared.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**kept, **prepared.environment},
        )
    try:
        yield Gateway(port, prepared, process, began)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listens(gateway: Gateway, timeout: float) -> bool:
    """Wait until a gateway accepts connections. Returns whether it does, before it ends or the time is over."""
    until = time.monotonic() + timeout
    while time.monotonic() < until and (gateway.process is None or gateway.process.poll() is None):
        try:
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=1):
                return True
        except OSError:
            time.sleep(0.01)
    return False


def versions(name: str) -> dict[str, str]:
    """Return the versions of Python and of what a gateway is made of."""
    python = str(PEERS / name / "bin" / "python") if KINDS[name].packages else sys.executable
    code = (
        "import json, platform; from importlib.metadata import distributions; "
        "found = {d.name.lower(): d.version for d in distributions()}; "
        "print(json.dumps(found | {'python': platform.python_version()}))"
    )
    found = json.loads(subprocess.run([python, "-c", code], capture_output=True, check=True).stdout)
    wanted = ("python", "trunkline", "trunkline-gateway", "litellm", "lm-proxy", "uvicorn", "uvloop", "httptools")
    return {package: found[package] for package in wanted if package in found}
