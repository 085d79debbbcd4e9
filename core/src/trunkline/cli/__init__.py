"""The `trunkline` command. It needs the extra `cli`: `pip install 'trunkline[cli]'`.

Each command is imported when it runs, so that `--help` and `--version` are fast and work even if a plugin is broken.
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
    "chat": "Ask a model a question and stream its answer.",
    "check": "Test the services of a configuration file: settings, credentials, connection, and a tiny request.",
    "init": "Add a service to a configuration file: asks for its settings on a terminal.",
    "map": "Send one request for each row of a file, and write the answers to another file.",
    "models": "List the models that a service offers.",
    "new-plugin": "Create a package for your own provider or extension.",
    "providers": "List the installed providers, extensions and commands, and report broken ones.",
    "settings": "Show the settings of a provider or an extension.",
    "trust": "Accept the configuration file of a folder, which somebody else may have written.",
}

_HELP = """One interface for LLM providers.

Errors are reported in one or two lines; `--debug`, or the environment variable TRUNKLINE_DEBUG, adds the traceback.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status. `arguments` defaults to those of the process."""
    if any(find_spec(name) is None for name in ("cyclopts", "rich", "tomlkit")):
        print("trunkline: the command line needs more packages: pip install 'trunkline[cli]'", file=sys.stderr)
        return 2
    if list(sys.argv[1:] if arguments is None else arguments) == ["--version"]:
        # Answered before anything is imported, since scripts use it to find out whether trunkline is installed.
        print(_version())
        return 0
    tokens, debug = _without_debug(sys.argv[1:] if arguments is None else arguments)
    from trunkline.cli.failures import reported_errors
    from trunkline.cli.hidden import hiding
    from trunkline.cli.terminal import log_on_stderr, safe_output

    debug = debug or bool(os.environ.get("TRUNKLINE_DEBUG"))
    command = tokens[0] if tokens else None
    external = command is not None and command not in BUILT_IN
    with (
        hiding(tokens),
        safe_output(colours=external),
        log_on_stderr(),
        reported_errors(tokens, debug=debug) as outcome,
    ):
        app = _assemble(command)
        result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        outcome.status = result if isinstance(result, int) else 0
    return outcome.status


def _version() -> str:
    from trunkline import __version__

    return f"trunkline {__version__}"


def _without_debug(tokens: Sequence[str]) -> tuple[list[str], bool]:
    # `--debug` is accepted before and after the name of the command, but not after `--`, where everything is text.
    end = tokens.index("--") if "--" in tokens else len(tokens)
    kept = [word for word in tokens[:end] if word != "--debug"]
    return [*kept, *tokens[end:]], len(kept) != end


def _assemble(command: str | None) -> App:
    from cyclopts import App

    from trunkline.cli.plugin_commands import add_external_commands

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
    add_external_commands(app, command, built_in=BUILT_IN)
    return app
