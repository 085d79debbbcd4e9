"""What calls used, as it is counted: values. `database/usage.py` stores them."""

from __future__ import annotations

import datetime
from typing import Literal, TypeAlias

import attrs

Outcome: TypeAlias = Literal["ok", "error", "cancelled", "interrupted"]
"""How a call ended. `cancelled`: the client hung up or an administrator ended it. `interrupted`: the gateway died.

Interrupted calls are known by what they had reserved of a budget.
"""


@attrs.frozen(kw_only=True)
class CallRecord:
    """One call that has ended: a row of the log, and what is added to the usage of its day."""

    id: str
    """The request id, as the client has it in `x-request-id`."""
    key_id: int | None
    """The key, or `None` for the console's playground."""
    key_name: str
    service: str
    model: str
    api: str
    """The path: `/v1/chat/completions`."""
    started_at: datetime.datetime
    outcome: Outcome
    status: int
    seconds: float
    """0 if the call was interrupted: how long it ran is not known."""
    first_token_seconds: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    estimated: bool = False
    """Whether the tokens are an estimate, because the provider did not report them."""
    cost: int | None = None
    """In nano-dollars, or `None` if the price is not known."""
    error: str | None = None
    request: str | None = None
    """The request's JSON, if contents are logged."""
    response: str | None = None
    """The response's JSON, if contents are logged."""


@attrs.frozen(kw_only=True)
class UsageRow:
    """The sum of calls of one day (UTC), key, service and model."""

    day: datetime.date
    key_id: int | None
    key_name: str
    service: str
    model: str
    requests: int
    errors: int
    input_tokens: int
    output_tokens: int
    cost: int
    unpriced: int
    """The number of calls whose price is not known; they are not in `cost`."""
