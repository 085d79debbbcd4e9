"""Imports a plugin in a process of its own and reports what is wrong with it. A broken plugin may crash that process.

The process is `python -c "…; main()" PATH GROUP NAME DISTRIBUTION`, where PATH is `sys.path` as JSON. The last line of
its stdout is a JSON object with `problem`, a string or null.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from trunkline._plugins.registry import COMMANDS, EXTENSIONS, PROVIDERS, InstalledPlugin

TIME_LIMIT = 30.0
"""The longest time that importing a plugin may take, in seconds."""

_RUN = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from trunkline.cli.probe import main; main()"


def probe_all(items: list[InstalledPlugin], groups: list[str]) -> list[str | None]:
    """Return what is wrong with each plugin, or `None`. Several processes run at the same time."""
    with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 1)) as pool:
        return list(pool.map(_probe, items, groups))


def _probe(item: InstalledPlugin, group: str) -> str | None:
    command = [sys.executable, "-P", "-c", _RUN, json.dumps(sys.path), group, item.name, item.distribution]
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"importing it takes longer than {TIME_LIMIT:g} s"
    except OSError as error:
        return f"checking it failed: {error}"
    try:
        problem: str | None = json.loads(done.stdout.splitlines()[-1])["problem"]
    except (IndexError, KeyError, TypeError, ValueError):
        ending = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        output = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return f"importing it ended the process with {ending}" + (f": {output[-1]}" if output else "")
    return problem


def main() -> None:
    """Check the plugin that the arguments of this process name."""
    group, name, distribution = sys.argv[2:5]
    # stdout is for our result alone; what the plugin prints goes to stderr.
    result, sys.stdout = sys.stdout, sys.stderr
    problem = _problem(group, name, distribution)
    result.write("\n" + json.dumps({"problem": problem}) + "\n")
    result.flush()
    # Exit without waiting for threads that the plugin may have started.
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
            return f"its entry point leads to a {type(value).__name__}, not a function or a cyclopts App"
    except (PluginError, pluggy.PluginValidationError, ValueError) as error:
        return str(error)
    return None
