"""The base class of all errors, and the errors that messages and requests raise. Import them from `trunkline.errors`.

They have a module of their own because `trunkline.errors` refers to `ChatResponse`, whose module raises these.
"""

from __future__ import annotations


class TrunklineError(Exception):
    """The base class of all errors of Trunkline and its plugins."""


class CallError(TrunklineError):
    """The call is wrong: it cannot be made as written. Nothing was sent."""


class InvalidRequest(CallError):
    """The request is invalid before any provider sees it: a message, a tool or an option contradicts another."""


for _error in (TrunklineError, CallError, InvalidRequest):
    _error.__module__ = "trunkline.errors"  # the module that applications import from, so tracebacks show it
