"""The setting `send_user_id`, for providers whose API accepts the id of an end user."""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal, TypeAlias

from trunkline._setting_types import BOOLEAN_WORDS
from trunkline.secrets import Secret
from trunkline.settings import setting

SendUserId: TypeAlias = Literal[False, True, "hashed"]
"""How a request's user id is sent: not at all, unchanged, or as a keyed hash."""

HASH_CONTEXT = "trunkline.user_id"
"""The key of the hash if a service has no API key."""


def convert_send_user_id(value: object) -> SendUserId:
    """Convert a boolean or text to `False`, `True` or `hashed`. Raises `ValueError`."""
    word = value.strip().lower() if isinstance(value, str) else value
    if word == "hashed":
        return "hashed"
    found = BOOLEAN_WORDS.get(word) if isinstance(word, str) else word
    if isinstance(found, bool):
        return found
    raise ValueError(f"false, true or 'hashed', not {value!r}")


def send_user_id_setting(field: str) -> SendUserId:
    """Declare the setting `send_user_id`. `field` is the name of the field in the request's body."""
    declared: SendUserId = setting(
        "Send User ID",
        f"Send a request's user id to the provider, in the field `{field}`: `false`, `true`, or `hashed` to send a "
        "keyed hash instead (HMAC-SHA256 with the API key, in hexadecimal).",
        default=False,
        convert=convert_send_user_id,
        schema={"enum": [False, True, "hashed"]},
        group="Requests",
        choices={
            "false": "Do not send it.",
            "true": "Send it unchanged.",
            "hashed": "Send a keyed hash of it: HMAC-SHA256 with the API key, in hexadecimal.",
        },
    )
    return declared


def user_identifier(user_id: str | None, send: SendUserId, api_key: Secret | None) -> str | None:
    """Return what to send for a request's user id under the setting `send_user_id`, or `None` to send nothing.

    The hash of an id stays the same as long as the API key does. Without an API key, the hash is made with
    `HASH_CONTEXT`, which is public: anyone who guesses an id can then check the guess.
    """
    if user_id is None or send is False:
        return None
    if send is True:
        return user_id
    key = (api_key.reveal() if api_key is not None else "") or HASH_CONTEXT
    return hmac.new(key.encode(), user_id.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
