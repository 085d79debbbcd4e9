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


for _error in (TrunklineError, CallError, InvalidRequest):
    _error.__module__ = "trunkline.errors"  # where an application finds it
