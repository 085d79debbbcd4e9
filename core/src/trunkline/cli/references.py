"""References to secrets in a configuration file: where a secret is kept, in place of the secret."""

from __future__ import annotations

import os
import re
from typing import TypeAlias

from trunkline._setting_types import REFERENCE_KINDS

Reference: TypeAlias = dict[str, str]
"""One entry: `env`, `file` or `keyring`, and the name of the variable, file or keyring entry."""


def parse_reference(text: str) -> Reference | None:
    """Parse `env:NAME`, `file:PATH` or `keyring:SERVICE/USER`. Returns `None` for any other text."""
    kind, _, name = text.partition(":")
    return {kind: name} if kind in REFERENCE_KINDS and name else None


def is_variable_name(text: str) -> bool:
    """Whether a text is the name of an environment variable, rather than a key that was pasted by mistake."""
    return text in os.environ or re.fullmatch(r"[A-Z_][A-Z0-9_]*", text) is not None
