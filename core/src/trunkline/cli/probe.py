"""Imports a plugin and says what is wrong with it, in a process of its own, which a broken plugin may take along.

`python -c "…; main()" PATH GROUP NAME DISTRIBUTION`, where PATH is the import path as JSON. The last line on stdout is
a JSON object with `problem`, a text or null.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from trunkline._plugins.registry import COMMANDS, EXTENSIONS, PROVIDERS, InstalledPlugin

TIME_LIMIT = 30.0
"""Seconds that a plugin may take to import."""

_RUN = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from trunkline.cli.probe import main; main()"


def probe_all(items: list[InstalledPlugin], groups: list[str]) -> list[str | None]:
    """What is wrong with each plugin, `None` for nothing; each in a process of its own, some at once."""
    with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 1)) as pool:
        return list(pool.map(_probe, items, groups))


def _probe(item: InstalledPlugin, group: str) -> str | None:
    command = [sys.executable, "-P", "-c", _RUN, json.dumps(sys.path), group, item.name, item.distribution]
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter  # our own interpreter
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it is not imported within {TIME_LIMIT:g} s"
    except OSError as error:
        return f"it cannot be checked: {error}"
    try:
        problem: str | None = json.loads(done.stdout.splitlines()[-1])["problem"]
    except (IndexError, KeyError, TypeError, ValueError):
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return f"importing it ended the process with {how}" + (f": {said[-1]}" if said else "")
    return problem


def main() -> None:
    """Probe the plugin that the process's arguments name."""
    group, name, distribution = sys.argv[2:5]
    answer, sys.stdout = sys.stdout, sys.stderr
    problem = _problem(group, name, distribution)
    answer.write("\n" + json.dumps({"problem": problem}) + "\n")
    answer.flush()
    # A thread that the plugin started must not keep the process.
    os._exit(0)


def _problem(group: str, name: str, distribution: str) -> str | None:
    import pluggy

    from trunkline import hookspecs
    from trunkline._plugins.registry import check_hooks, installed, load_plugin, load_provider
    from trunkline.errors import PluginError

    try:
        if group == PROVIDERS:
            load_provider(name)
            return None
        item = next(item for item in installed(group) if (item.name, item.distribution) == (name, distribution))
        value = load_plugin(item, kind="command" if group == COMMANDS else "extension")
        if group == EXTENSIONS:
            check_hooks(value, distribution)
            manager = pluggy.PluginManager("trunkline")
            manager.add_hookspecs(hookspecs)
            manager.register(value)
        elif not callable(value):
            return f"it names a {type(value).__name__}, not a function or an App"
    except (PluginError, pluggy.PluginValidationError, ValueError) as error:
        return str(error)
    return None
