"""References to secrets in a configuration file: where a secret is kept, in place of the secret."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TypeAlias

from trunkline._config.references import resolve_reference
from trunkline._masking import looks_like_key
from trunkline._setting_types import REFERENCE_KINDS
from trunkline.errors import ConfigurationError

Reference: TypeAlias = dict[str, str]
"""One entry: `env`, `file` or `keyring`, and the name of the variable, file or keyring entry."""


def parse_reference(text: str) -> Reference | None:
    """Parse `env:NAME`, `file:PATH` or `keyring:SERVICE/USER`. Returns `None` for any other text."""
    kind, _, name = text.partition(":")
    return {kind: name} if kind in REFERENCE_KINDS and name else None


def missing_now(reference: Reference, folder: Path) -> str | None:
    """Return what this machine lacks of a file or a keyring entry, as in `refers to the file …`, or `None`.

    A missing environment variable is none of it: the service may run in another environment.
    """
    if "env" in reference:
        return None
    try:
        resolve_reference(reference, environ=os.environ, folder=folder)
    except ConfigurationError as error:
        return str(error)
    return None


def reference_problem(reference: Reference) -> str | None:
    """Return what a reference must name instead, if it seems to contain the secret itself, else `None`."""
    [(kind, name)] = reference.items()
    if kind == "env":
        is_variable = re.fullmatch(r"[A-Z_][A-Z0-9_]*", name) and not looks_like_key(name)
        if not is_variable and name not in os.environ:
            return "the NAME of an environment variable (capitals, digits and _), not the secret itself"
    elif looks_like_key(name) and not (kind == "file" and Path(name).is_file()):
        return f"{'the path of a file' if kind == 'file' else 'service/user'}, not the secret itself"
    return None
