"""Shared by the measurements of load: the server process, services for it, and a process for each backend.

They use one wire format, `DEFAULT`, unless `--provider` names others of `wires.py`.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import attrs
import trunkline
from measuring import on

sys.path.append(str(Path(__file__).parents[1] / "support"))

from server_process import server_process
from wires import WIRES

__all__ = ["DEFAULT", "Upstream", "asking", "each_backend", "load_server", "server_process"]

DEFAULT = "openai-compatible"

Options = TypeVar("Options")
Measured = dict[str, Any]


@attrs.frozen
class Upstream:
    """A running server and the wire format of its responses."""

    provider: str
    url: str

    def facts(self) -> dict[str, Any]:
        """The counts of the server."""
        with urllib.request.urlopen(f"{self.url}/facts", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def opened(self, **settings: object) -> trunkline.Service:
        """Open a service for the server, without retries, which would hide failures."""
        return WIRES[self.provider].open(self.url, **{"max_retries": 0, **settings})


def asking(answer: str) -> str:
    """A message that asks the server for a kind of response; `loadserver.py` lists them."""
    return f"answer: {answer}"


@contextmanager
def load_server(provider: str) -> Iterator[Upstream]:
    """Run `loadserver.py` while the block runs."""
    with server_process(sys.executable, str(Path(__file__).with_name("loadserver.py")), provider) as url:
        yield Upstream(provider, url)


Measure: TypeAlias = Callable[[Options, Upstream], Awaitable[Measured]]


def each_backend(
    measure: Measure[Options],
    options: Options,
    backends: tuple[str, ...],
    *,
    at_once: int,
    providers: tuple[str, ...] = (DEFAULT,),
    server: Callable[[str], AbstractContextManager[Upstream]] = load_server,
) -> dict[str, Measured]:
    """Measure each backend in a new process with a new server, `at_once` of them at the same time."""
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {
            backend if provider == DEFAULT else f"{provider}: {backend}": pool.submit(
                _measured, backend, provider, measure, options, server
            )
            for provider in providers
            for backend in backends
        }
        return {name: future.result() for name, future in running.items()}


def _measured(
    backend: str,
    provider: str,
    measure: Measure[Options],
    options: Options,
    server: Callable[[str], AbstractContextManager[Upstream]],
) -> Measured:
    with server(provider) as upstream:
        return on(backend, measure, options, upstream)
