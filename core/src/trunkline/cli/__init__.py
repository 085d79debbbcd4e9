"""The `trunkline` command. Needs the extra: `pip install 'trunkline[cli]'`.

Importing this package needs nothing; each command is imported when it runs, so that `--help` and `--version` are quick
and work whatever plugin is broken.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import App

BUILT_IN = {
    "chat": "Ask a model; its answer streams.",
    "check": "Try each service of a configuration: settings, credentials, reachability, one tiny request.",
    "init": "Ask for a service's settings and write a configuration file.",
    "models": "List the models that a service offers.",
    "new-plugin": "Make a package for a provider of your own.",
    "providers": "List what is installed, with versions, and what is broken and why.",
    "settings": "Show the settings that a provider takes.",
}

_HELP = """One interface to every LLM provider.

Errors are told in a line or two; `--debug`, or the environment variable TRUNKLINE_DEBUG, adds the traceback.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (by default the process's) and return its exit status."""
    if any(find_spec(name) is None for name in ("cyclopts", "rich")):
        print("trunkline: the command needs two more packages: pip install 'trunkline[cli]'", file=sys.stderr)
        return 2
    if list(sys.argv[1:] if arguments is None else arguments) == ["--version"]:
        # The answer to "is it there at all" waits for nothing.
        print(_version())
        return 0
    tokens, debug = _without_debug(sys.argv[1:] if arguments is None else arguments)
    from trunkline.cli.failures import told
    from trunkline.cli.terminal import lenient_output

    lenient_output()
    with told(debug=debug or bool(os.environ.get("TRUNKLINE_DEBUG"))) as outcome:
        app = _assemble(tokens[0] if tokens else None)
        result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        outcome.status = result if isinstance(result, int) else 0
    return outcome.status


def _version() -> str:
    from trunkline import __version__

    return f"trunkline {__version__}"


def _without_debug(tokens: Sequence[str]) -> tuple[list[str], bool]:
    # It may stand before or after the command; what follows `--` is text.
    end = tokens.index("--") if "--" in tokens else len(tokens)
    kept = [word for word in tokens[:end] if word != "--debug"]
    return [*kept, *tokens[end:]], len(kept) != end


def _assemble(asked: str | None) -> App:
    from cyclopts import App

    from trunkline.cli.external import add_external_commands

    app = App(
        name="trunkline",
        help=_HELP,
        help_format="plaintext",
        version=_version,
        suppress_keyboard_interrupt=False,
    )
    for name, text in BUILT_IN.items():
        module = name.replace("-", "_")
        app.command(f"trunkline.cli.{module}:{module}", name=name, help=text)
    add_external_commands(app, asked, built_in=BUILT_IN)
    return app
