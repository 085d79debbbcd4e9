"""What the measurements of load share: the server's process, services of it, and a process for each backend."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import trunkline
from measuring import http_library, on

sys.path.append(str(Path(__file__).parents[1] / "support"))

from server_process import server_process

__all__ = ["each_backend", "facts", "load_server", "opened"]

Options = TypeVar("Options")
Measured = dict[str, Any]


@contextmanager
def load_server() -> Iterator[str]:
    """Run `loadserver.py` for as long as the block runs; gives its URL."""
    with server_process(sys.executable, str(Path(__file__).with_name("loadserver.py"))) as url:
        yield url


def facts(url: str) -> dict[str, Any]:
    """What the server has counted."""
    with urllib.request.urlopen(f"{url}/facts", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def opened(url: str, **settings: object) -> trunkline.Service:
    """A service of the server. Retries would hide what goes wrong."""
    options = {"api_url": f"{url}/v1", "api_key": "k", "max_retries": 0, "http_library": http_library.get(), **settings}
    return trunkline.open_service("openai-compatible", **options)


def each_backend(
    measure: Callable[[Options, str], Awaitable[Measured]], options: Options, backends: tuple[str, ...], *, at_once: int
) -> dict[str, Measured]:
    """Measure on each backend, in a fresh process with a fresh server: so many of them at once."""
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {backend: pool.submit(_measured, backend, measure, options) for backend in backends}
        return {backend: future.result() for backend, future in running.items()}


def _measured(backend: str, measure: Callable[[Options, str], Awaitable[Measured]], options: Options) -> Measured:
    with load_server() as url:
        return on(backend, measure, options, url)
