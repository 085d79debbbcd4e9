"""Limits on the structure of JSON, which are checked before it is decoded."""

from __future__ import annotations

import math

from trunkline._json import brackets, depth, opening_brackets
from trunkline.errors import ProtocolViolation

MAX_CONTAINERS = 1_000_000
"""How many objects and arrays the JSON of an event or a body may have.

Each takes 50 to 200 bytes of memory, and as few as three bytes of JSON. The largest responses, with the probabilities
of all tokens, have some hundred thousand.
"""


def check_structure(data: bytes | bytearray, nesting_limit: int | None, *, status: int | None = None) -> None:
    """Raise `ProtocolViolation` if JSON is nested too deeply, or has too many objects and arrays. Takes linear time.

    `status` is the HTTP status for the error. Without the check, deeply nested JSON would exhaust the decoder's stack.
    """
    limit = math.inf if nesting_limit is None else nesting_limit
    if opening_brackets(data) <= min(limit, MAX_CONTAINERS):
        return
    steps = brackets(data)
    if len(steps) > 2 * MAX_CONTAINERS:
        problem = f"has more than {MAX_CONTAINERS} objects and arrays"
    elif limit < math.inf and depth(steps) > limit:
        problem = f"is nested deeper than nesting_limit ({nesting_limit})"
    else:
        return
    raise ProtocolViolation(f"the JSON of the response {problem}", status=status)
