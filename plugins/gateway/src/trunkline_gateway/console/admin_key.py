"""The admin key: the secret to sign in to the console with, where OpenID Connect is not configured."""

from __future__ import annotations

import hmac
import secrets

from trunkline_gateway.database.sessions import SessionStore
from trunkline_gateway.keys import digest
from trunkline_gateway.settings import GatewaySettings

VALUE = "admin_key"
"""The name of the stored value that holds the key's digest."""

_PREFIX = "tladmin_"


async def ensure_admin_key(sessions: SessionStore, settings: GatewaySettings) -> str | None:
    """Store the digest of the admin key, and return a key that was made now, to be printed once, or `None`.

    The key is that of the settings, or one that is made at the first start. With OpenID Connect there is none. If the
    settings have another key than before, all sessions end.
    """
    if settings.oidc_issuer is not None:
        return None
    if settings.admin_key is not None:
        wanted = digest(settings.admin_key.reveal())
        if await sessions.get_value(VALUE) != wanted:
            await sessions.set_value(VALUE, wanted)
            await sessions.end_all()
        return None
    if await sessions.get_value(VALUE) is not None:
        return None
    return await _store_new(sessions, only_if_absent=True)


async def replace_admin_key(sessions: SessionStore) -> str:
    """Make a new admin key, end all sessions, and return the key. For a key that was lost."""
    key = await _store_new(sessions, only_if_absent=False)
    await sessions.end_all()
    return key or ""


async def _store_new(sessions: SessionStore, *, only_if_absent: bool) -> str | None:
    key = _PREFIX + secrets.token_urlsafe(32)
    stored = await sessions.set_value(VALUE, digest(key), only_if_absent=only_if_absent)
    return key if stored else None


async def is_admin_key(sessions: SessionStore, given: str) -> bool:
    """Whether this is the admin key. `False` if there is none. Compares digests in constant time."""
    # An empty variable must not become a key that everybody knows.
    if not given.strip():
        return False
    stored = await sessions.get_value(VALUE)
    return stored is not None and hmac.compare_digest(stored.encode(), digest(given.strip()).encode())
