"""Loads what an option names in a file of the user: `FILE.py:NAME`, or a file of JSON."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from trunkline._exception_text import exception_text
from trunkline._files import UnreadableFile, decoded, read_file
from trunkline._json import JSONValue, loads_finite
from trunkline._suggestions import did_you_mean
from trunkline.cli.failures import CommandError

MAX_JSON = 16 * 1024 * 1024
"""The largest file of JSON that is read, in bytes."""


def load_object(option: str, reference: str) -> object:
    """Run a Python file and return the object in it that `FILE.py:NAME` names.

    The file's folder is put on the import path, as `python FILE.py` does, so that the file can import its neighbours.
    Raises `CommandError`, which names the option.
    """
    file, colon, name = reference.rpartition(":")
    if not colon or not name.isidentifier() or not file.endswith(".py"):
        raise CommandError(f"{option} takes FILE.py:NAME, such as labels.py:request, not {reference!r}")
    path = Path(file).absolute()
    if not path.is_file():
        raise CommandError(f"{option}: there is no file {file!r}")
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = sys.modules.get(path.stem)
    # Two options may name the same file. Its classes and functions must then be the same objects.
    if module is None or getattr(module, "__file__", None) != str(path):
        if module is not None:
            raise CommandError(f"{option}: a module named {path.stem} is already imported; rename {file!r}")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise CommandError(f"{option}: {file!r} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # classes look up the types of their fields there
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[path.stem]
            raise CommandError(f"{option}: {file!r} cannot be run: {exception_text(error)}") from error
    if not hasattr(module, name):
        names = [own for own in vars(module) if not own.startswith("_")]
        hint = did_you_mean(name, names)
        raise CommandError(f"{option}: {file!r} has no {name!r}{hint}")
    found: object = getattr(module, name)
    return found


def load_json_file(option: str, file: str) -> JSONValue:
    """Return what a file of JSON contains. Raises `CommandError`, which names the option."""
    try:
        value: JSONValue = loads_finite(decoded(read_file(file, MAX_JSON)))
        return value
    except UnreadableFile as error:
        raise CommandError(f"{option}: the file {file!r} {error}") from None
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{option}: the file {file!r} is not JSON: {error}") from None
