"""The stored keys."""

from __future__ import annotations

from trunkline_gateway.database.engine import Database
from trunkline_gateway.keys import Key, KeyDraft


class KeyStore:
    """The virtual keys. Found keys are remembered until the database's revision changes (`forget`)."""

    def __init__(self, database: Database) -> None: ...

    async def create(self, draft: KeyDraft) -> tuple[Key, str]:
        """Store a new key, and return it with its secret, which is not stored."""
        raise NotImplementedError

    async def list(self) -> list[Key]:
        """Return all keys, the newest first."""
        raise NotImplementedError

    async def get(self, key_id: int) -> Key | None:
        """Return a key."""
        raise NotImplementedError

    async def update(self, key_id: int, draft: KeyDraft) -> None:
        """Replace what was chosen about a key."""
        raise NotImplementedError

    async def revoke(self, key_id: int) -> None:
        """End a key. Calls in flight go on."""
        raise NotImplementedError

    async def find(self, secret: str) -> Key | None:
        """Return the key with this secret, revoked and expired ones included, or `None`.

        Looks it up by its digest, and compares digests in constant time. Also remembers secrets that are not there, a
        bounded number, so that guessing does not load the database.
        """
        raise NotImplementedError

    def forget(self) -> None:
        """Read keys anew."""
