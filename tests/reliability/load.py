"""What the measurements of load share: the server's process, and services of it."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trunkline

sys.path.append(str(Path(__file__).parents[1] / "support"))

from server_process import server_process

__all__ = ["facts", "load_server", "opened"]


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
    return trunkline.open_service("openai-compatible", api_url=f"{url}/v1", api_key="k", max_retries=0, **settings)
