"""Runs commands in a terminal and draws what it shows: `python docs/terminal_svg.py PICTURE.svg COMMAND …`.

Each command is one argument. Its program is looked up beside the running Python first. This makes the README's picture:

    python docs/terminal_svg.py docs/assets/terminal.svg \\
        'trunkline chat -p llamacpp "In one sentence: why is the sky blue?"'

The commands really run, so a model's answer differs from one run to the next. Needs POSIX, for the pseudo-terminal.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

COLUMNS = 80

# The standard format loads a font from a server. A picture in a README must load nothing.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace("Fira Code, ", "")


def shown(command: str) -> str:
    """Run a command in a terminal of its own, and return what it writes there, escape sequences included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environ = {**os.environ, "PATH": path, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    environ.pop("NO_COLOR", None)
    arguments = ["/bin/sh", "-c", command]
    process = subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)  # noqa: S603
    os.close(theirs)
    output = bytearray()
    try:
        while data := os.read(ours, 65536):
            output += data
    except OSError as error:
        if error.errno != errno.EIO:  # on Linux, reading a terminal that its last program has left raises EIO
            raise
    os.close(ours)
    if process.wait() != 0:
        sys.exit(f"{command!r} failed:\n{output.decode()}")
    return output.decode()


def picture(commands: list[str]) -> str:
    """The terminal, as SVG, after all commands have run."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
    )
    for command in commands:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        for line in shown(command).splitlines():
            console.print(Text.from_ansi(line))
    svg = console.export_svg(title="trunkline", code_format=FORMAT, unique_id="terminal")
    # Rich clips each line to its height, which cuts underscores off in any font but Rich's own.
    return re.sub(r' clip-path="[^"]*"', "", svg)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(sys.argv[2:]), encoding="utf-8")
