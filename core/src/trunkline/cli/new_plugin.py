"""`trunkline new-plugin`: create a package for a new provider or extension, which builds and passes its tests."""

from __future__ import annotations

import builtins
import keyword
import re
import shlex
import symtable
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

from trunkline import __version__
from trunkline._masking import looks_like_key, quoted
from trunkline._visible_text import one_line
from trunkline.cli.failures import CommandError
from trunkline.cli.terminal import print_note

Flavour: TypeAlias = Literal["chat", "wire", "extension"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_COMMON = {
    "pyproject.toml": "pyproject.toml",
    "CHANGELOG.md": "CHANGELOG.md",
    "gitignore": ".gitignore",
    "ci.yml": ".github/workflows/ci.yml",
    "py.typed": "src/{package}/py.typed",
}
_EACH = {
    "README.md": "README.md",
    "init.py": "src/{package}/__init__.py",
    "test.py": "tests/test_{module}.py",
}
_FILES: Mapping[Flavour, Mapping[str, str]] = {
    "chat": _EACH,
    "wire": {
        **_EACH,
        "settings.py": "src/{package}/settings.py",
        "translate.py": "src/{package}/translate.py",
        "parse.py": "src/{package}/parse.py",
        "errors.py": "src/{package}/errors.py",
    },
    "extension": _EACH,
}
"""The templates of each flavour, which are in its folder or in `common`, and the files made from them."""


def new_plugin(
    name: str,
    *,
    flavour: Annotated[Flavour, Parameter(alias="-f")] = "wire",
    folder: Annotated[Path | None, Parameter(alias="-o")] = None,
) -> int:
    """Create a package for your own provider or extension. It builds, is typed, and passes its tests.

    Parameters
    ----------
    name
        Its name, as in open_service("NAME") or extensions=["NAME"]: lower-case letters, digits and hyphens.
    flavour
        `chat` for a server with a Chat Completions API, `wire` for any other API, `extension` for an extension.
    folder
        Where to create it. Default: the folder trunkline-NAME in the current directory.
    """
    if not _NAME.fullmatch(name) or looks_like_key(name):
        raise CommandError(
            f"{quoted(name)} is not a valid name: use lower-case letters, digits and single hyphens, such as acme"
        )
    _check_is_free(name, flavour)
    folder = folder or Path(f"trunkline-{name}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandError(f"{folder} already exists; choose another folder with --folder, or move it away")
    contents = plugin_files(name, flavour)
    if _has_clash(name, contents):
        raise CommandError(
            f"{name!r} would clash with a name that the package needs itself; choose another name, such as my-{name}"
        )
    for path, text in contents.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    print_note(one_line(f"Created {len(contents)} files in {folder}. To run its tests:"))
    print_note(f"    cd {shlex.quote(str(folder))} && python -m venv .venv && . .venv/bin/activate")
    print_note("    python -m pip install --upgrade pip && pip install -e . --group dev && pytest")
    return 0


def _check_is_free(name: str, flavour: Flavour) -> None:
    """Raise `CommandError` if the name, or the name of the distribution, belongs to something installed.

    With two providers of a name in an environment, neither works. A distribution of a taken name would replace the
    other one when it is installed.
    """
    from trunkline._plugins.registry import EXTENSIONS, PROVIDERS, installed

    group, kind = (EXTENSIONS, "extension") if flavour == "extension" else (PROVIDERS, "provider")
    owner = next((f"the {kind} of {item.distribution}" for item in installed(group) if item.name == name), None)
    if owner is None:
        try:
            owner = f"the distribution {distribution(f'trunkline-{name}').name}"
        except PackageNotFoundError:
            return
    raise CommandError(f"{name!r} is the name of {owner}, which is installed; choose another name")


def _has_clash(name: str, contents: Mapping[str, str]) -> bool:
    """Return whether this name would hide an import or a module of the package, or is not valid in Python."""
    module = name.replace("-", "_")
    folder = f"src/trunkline_{module}"
    try:
        table = symtable.symtable(contents[f"{folder}/__init__.py"], "__init__.py", "exec")
    except SyntaxError:
        return True
    hidden = any(symbol.is_imported() and symbol.is_assigned() for symbol in table.get_symbols())
    return hidden or f"{folder}/{module}.py" in contents


def _range(version: str) -> str:
    """Return a requirement that excludes the next version that may break a plugin: a minor one before 1.0."""
    major, minor = (int(number) for number in version.split(".")[:2])
    return f">={major}.{minor},<{f'0.{minor + 1}' if major == 0 else major + 1}"


def plugin_files(name: str, flavour: Flavour) -> dict[str, str]:
    """Return the package's files: their contents by path, relative to its folder."""
    module = name.replace("-", "_")
    words = name.split("-")
    templates = files("trunkline.cli") / "templates"

    def template(source: str) -> str:
        found = templates / flavour / f"{source}.tmpl"
        return (found if found.is_file() else templates / "common" / f"{source}.tmpl").read_text(encoding="utf-8")

    values = {
        "name": name,
        "distribution": f"trunkline-{name}",
        "package": f"trunkline_{module}",
        "module": module,
        "variable": module + "_" * (keyword.iskeyword(module) or hasattr(builtins, module)),
        "title": " ".join(word.capitalize() for word in words),
        "class_name": "".join(word.capitalize() for word in words),
        "environment": f"{module.upper()}_API_KEY",
        "core": f"trunkline{_range(__version__)}",
        "group": "trunkline.extensions" if flavour == "extension" else "trunkline.providers",
    }
    for part in ("dependencies", "dev_dependencies"):
        values[part] = Template(template(part)).substitute(values)
    return {
        target.format_map(values): Template(template(source)).substitute(values)
        for source, target in {**_COMMON, **_FILES[flavour]}.items()
    }
