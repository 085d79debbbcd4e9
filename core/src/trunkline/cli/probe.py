"""Imports a plugin in a process of its own and reports what is wrong with it. A broken plugin may crash that process.

The process is `python -c "…; main()" PATH GROUP NAME DISTRIBUTION`, where PATH is `sys.path` as JSON. The last line of
its stdout is a JSON object with `problem` and `display_name`, each a string or null.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import attrs

from trunkline._plugins.registry import EXTENSIONS, PROVIDERS, InstalledPlugin

TIME_LIMIT = 30.0
"""The longest time that importing a plugin may take, in seconds."""

_RUN = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from trunkline.cli.probe import main; main()"


@attrs.frozen(kw_only=True)
class Finding:
    """The result of importing a plugin: an error message or `None`, and the name of a provider as users write it."""

    problem: str | None
    display_name: str | None = None


def probe_all(items: list[InstalledPlugin], groups: list[str]) -> list[Finding]:
    """Import each plugin and return what was found. Several processes run at the same time."""
    with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 1)) as pool:
        return list(pool.map(_probe, items, groups))


def _probe(item: InstalledPlugin, group: str) -> Finding:
    command = [sys.executable, "-P", "-c", _RUN, json.dumps(sys.path), group, item.name, item.distribution]
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding(problem=f"importing it takes longer than {TIME_LIMIT:g} s")
    except OSError as error:
        return Finding(problem=f"checking it failed: {error}")
    try:
        result = json.loads(done.stdout.splitlines()[-1])
        return Finding(problem=result["problem"], display_name=result["display_name"])
    except (IndexError, KeyError, TypeError, ValueError):
        ending = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        output = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return Finding(problem=f"importing it ended the process with {ending}" + (f": {output[-1]}" if output else ""))


def main() -> None:
    """Check the plugin that the arguments of this process name."""
    group, name, distribution = sys.argv[2:5]
    # stdout is for our result alone; what the plugin prints goes to stderr.
    result, sys.stdout = sys.stdout, sys.stderr
    finding = _finding(group, name, distribution)
    result.write("\n" + json.dumps(attrs.asdict(finding)) + "\n")
    result.flush()
    # Exit without waiting for threads that the plugin may have started.
    os._exit(0)


def _finding(group: str, name: str, distribution: str) -> Finding:
    from trunkline._plugins.registry import check_extension, installed, load_extension, load_plugin, load_provider
    from trunkline.errors import PluginError

    try:
        if group == PROVIDERS:
            return Finding(problem=None, display_name=load_provider(name).settings.display_name or name)
        if group == EXTENSIONS:
            check_extension(name)
            load_extension(name)
            return Finding(problem=None)
        item = next(item for item in installed(group) if (item.name, item.distribution) == (name, distribution))
        value = load_plugin(item, kind="command")
        if not callable(value):
            return Finding(
                problem=f"its entry point leads to a {type(value).__name__}, not a function or a cyclopts App"
            )
    except PluginError as error:
        return Finding(problem=str(error))
    return Finding(problem=None)
