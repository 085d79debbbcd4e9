"""The root of the errors, and the errors that values raise. `trunkline.errors` has them all.

They are defined here because the other errors carry a `ChatResponse`, whose own module raises these.
"""

from __future__ import annotations


class TrunklineError(Exception):
    """The root of all errors of Trunkline and of its plugins."""


class CallError(TrunklineError):
    """The call cannot be made as it was written."""


class InvalidRequest(CallError):
    """The conversation, a tool or an option contradicts itself."""


def refuse_dict(value: object, where: str, expected: str) -> None:
    """Raise `InvalidRequest` for a dict where a message or a part belongs, and name the function that converts it."""
    if isinstance(value, dict):
        # Most applications come with conversations in OpenAI's form, so this error names one plugin's function.
        raise InvalidRequest(
            f"{where} is a dict, not {expected}; to convert a conversation in OpenAI's form, call "
            "trunkline_openai.messages_from(messages), from the package trunkline-openai"
        )


for _error in (TrunklineError, CallError, InvalidRequest):
    _error.__module__ = "trunkline.errors"  # where an application finds it
