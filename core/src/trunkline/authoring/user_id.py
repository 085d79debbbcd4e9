"""The setting `send_user_id`, for providers whose wire has a field for the id of an end user."""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal, TypeAlias

from trunkline.secrets import Secret
from trunkline.settings import BOOLEAN_WORDS, setting

SendUserId: TypeAlias = Literal[False, True, "hashed"]
"""Whether a request's user id is sent: not at all, as it is, or as a keyed hash."""

HASH_CONTEXT = "trunkline.user_id"
"""The key of the hash where a service has no API key."""


def convert_send_user_id(value: object) -> SendUserId:
    """`false`, `true` or `hashed`, from a truth value or text. Raises `ValueError`."""
    word = value.strip().lower() if isinstance(value, str) else value
    if word == "hashed":
        return "hashed"
    found = BOOLEAN_WORDS.get(word) if isinstance(word, str) else word
    if isinstance(found, bool):
        return found
    raise ValueError(f"false, true or 'hashed', not {value!r}")


def send_user_id_setting(field: str) -> SendUserId:
    """The setting `send_user_id`; `field` names where the id goes."""
    chosen: SendUserId = setting(
        "Send user id",
        f"Send a request's user id to the provider, in the field `{field}`: `false`, `true`, or `hashed` for a keyed "
        "hash (HMAC-SHA256 with the API key, in hexadecimal) in its place.",
        default=False,
        convert=convert_send_user_id,
        schema={"enum": [False, True, "hashed"]},
    )
    return chosen


def user_identifier(user_id: str | None, send: SendUserId, api_key: Secret | None) -> str | None:
    """What is sent for a request's user id, under the setting `send_user_id`; `None` for nothing.

    The hash of one id is the same for as long as the key is. Without a key it is made with `HASH_CONTEXT`, which
    everyone knows: who guesses an id can then confirm it.
    """
    if user_id is None or send is False:
        return None
    if send is True:
        return user_id
    key = api_key.reveal() if api_key is not None else HASH_CONTEXT
    return hmac.new(key.encode(), user_id.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
