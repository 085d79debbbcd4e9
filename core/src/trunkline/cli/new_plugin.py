"""`trunkline new-plugin`: create a package for a new provider, which builds and passes the conformance kit."""

from __future__ import annotations

import keyword
import re
import shlex
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated, Literal

from cyclopts import Parameter

from trunkline._masking import looks_like_key, quoted
from trunkline._visible_text import one_line
from trunkline.cli.failures import CommandError
from trunkline.cli.terminal import print_note

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_COMMON = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "gitignore": ".gitignore",
    "ci.yml": ".github/workflows/ci.yml",
    "py.typed": "src/{package}/py.typed",
}
_CODE = {
    "chat": {"init.py": "src/{package}/__init__.py", "test.py": "tests/test_{module}.py"},
    "wire": {
        "init.py": "src/{package}/__init__.py",
        "settings.py": "src/{package}/settings.py",
        "translate.py": "src/{package}/translate.py",
        "parse.py": "src/{package}/parse.py",
        "errors.py": "src/{package}/errors.py",
        "test.py": "tests/test_{module}.py",
    },
}


def new_plugin(
    name: str,
    *,
    flavour: Annotated[Literal["chat", "wire"], Parameter(alias="-f")] = "wire",
    folder: Annotated[Path | None, Parameter(alias="-o")] = None,
) -> int:
    """Create a package for your own provider. It builds, is typed, and passes the conformance kit.

    Parameters
    ----------
    name
        The provider's name, as in open_service("NAME"): lower-case letters, digits and hyphens.
    flavour
        `chat` for a server with a Chat Completions API, `wire` for any other API.
    folder
        Where to create it. Default: the folder trunkline-NAME in the current directory.
    """
    if not _NAME.fullmatch(name) or looks_like_key(name):
        raise CommandError(
            f"{quoted(name)} is not a valid provider name: use lower-case letters, digits and single hyphens, "
            f"such as acme"
        )
    folder = folder or Path(f"trunkline-{name}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandError(f"{folder} already exists; choose another folder with --folder, or move it away")
    contents = plugin_files(name, flavour)
    for path, text in contents.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    print_note(one_line(f"Created {len(contents)} files in {folder}. To run its tests:"))
    print_note(f"    cd {shlex.quote(str(folder))} && python -m venv .venv && . .venv/bin/activate")
    print_note("    python -m pip install --upgrade pip && pip install -e . --group dev && pytest")
    return 0


def plugin_files(name: str, flavour: Literal["chat", "wire"]) -> dict[str, str]:
    """Return the package's files: their contents by path, relative to its folder."""
    module = name.replace("-", "_")
    words = name.split("-")
    templates = files("trunkline.cli") / "templates"

    def template(kind: str, source: str) -> str:
        return (templates / kind / f"{source}.tmpl").read_text(encoding="utf-8")

    values = {
        "name": name,
        "distribution": f"trunkline-{name}",
        "package": f"trunkline_{module}",
        "module": module,
        "variable": module + "_" * keyword.iskeyword(module),
        "title": " ".join(word.capitalize() for word in words),
        "class_name": "".join(word.capitalize() for word in words),
        "environment": f"{module.upper()}_API_KEY",
        "dependencies": template(flavour, "dependencies"),
    }
    contents = {}
    for kind, targets in (("common", _COMMON), (flavour, _CODE[flavour])):
        for source, target in targets.items():
            contents[target.format_map(values)] = Template(template(kind, source)).substitute(values)
    return contents
