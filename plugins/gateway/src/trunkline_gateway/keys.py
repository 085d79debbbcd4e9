"""Virtual keys: what clients of the gateway authenticate with. Pure: the database stores them (`database/keys.py`)."""

from __future__ import annotations

import datetime
import hashlib
import secrets
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

import attrs

Period: TypeAlias = Literal["day", "month", "total"]

PREFIX = "tlk"
"""How each key begins, so that scanners of leaked secrets find it."""


@attrs.frozen(kw_only=True)
class Budget:
    """What a key may spend in a period (UTC). `cost` is in nano-dollars: 1_000_000_000 is one US dollar."""

    period: Period = "month"
    tokens: int | None = None
    cost: int | None = None


@attrs.frozen(kw_only=True)
class KeyDraft:
    """What an administrator chooses about a key."""

    name: str
    scopes: tuple[str, ...] = ()
    """The models that the key may use, as patterns of `service/model` (`main/*`, `*/gpt-*`) or names of aliases.
    Empty: all."""
    expires_at: datetime.datetime | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    budget: Budget | None = None


@attrs.frozen(kw_only=True)
class Key:
    """A key as it is stored: without its secret."""

    id: int
    draft: KeyDraft
    prefix: str
    """The beginning of the key, by which people know it: `tlk_Ab12Cd34`."""
    created_at: datetime.datetime
    revoked_at: datetime.datetime | None = None

    def may_use(self, *names: str) -> bool:
        """Whether one of the names of a model (the alias, `service/model`) is in the key's scopes."""
        scopes = self.draft.scopes
        return not scopes or any(fnmatchcase(name, scope) for name in names for scope in scopes)


def new_secret() -> tuple[str, str]:
    """Make a key of 256 random bits, and return it with its prefix: `tlk_<8 characters>_<43 characters>`."""
    public = secrets.token_hex(4)
    return f"{PREFIX}_{public}_{secrets.token_urlsafe(32)}", f"{PREFIX}_{public}"


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret in hexadecimal. A slow hash is for passwords; these secrets cannot be guessed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
