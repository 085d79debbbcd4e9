"""Replacements for values that a server signs or encrypts. The fixtures can read the issuer of such a value.

A real signature can be verified only by the server that made it. A seal replaces such a value. The strict servers
verify it, and refuse seals of another issuer and values that are not seals.
"""

from __future__ import annotations

from base64 import b64decode, b64encode


def seal(issuer: str, content: str) -> str:
    """Return a value that only `issuer` accepts, in base64 as all providers send it."""
    return b64encode(f"seal|{issuer}|{content}".encode()).decode()


def issuer_of(value: object) -> str | None:
    """Return the issuer of a seal, or `None` for anything else."""
    if not isinstance(value, str):
        return None
    try:
        found = b64decode(value, validate=True).decode().split("|")
    except ValueError:
        return None
    return found[1] if found[0] == "seal" and len(found) == 3 else None
