"""One reason for which a server refuses a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import attrs
import pydantic
from strict_types import strict_adapter

Body: TypeAlias = dict[str, Any]
"""The decoded body of a request."""


@attrs.frozen
class Refusal:
    """One reason for which a server refuses a request: its message, and the source that documents it."""

    message: str
    source: str

    def __str__(self) -> str:
        return f"{self.message} [{self.source}]"


Check: TypeAlias = Callable[[Body], Iterable[Refusal]]
"""Returns the refusals of a body."""


def typed(body: Body, kind: Any, source: str) -> Iterator[Refusal]:
    """Compare a body with a `TypedDict` of an official SDK: unknown fields and values of another type are refused."""
    try:
        strict_adapter(kind).validate_python(body)
    except pydantic.ValidationError as error:
        # A union reports the errors of each of its members. The member that was meant has the fewest.
        errors = error.errors(include_url=False)
        siblings = Counter(found["loc"][:-1] for found in errors)
        likely = min(errors, key=lambda found: (siblings[found["loc"][:-1]], -len(found["loc"])))
        place = ".".join(map(str, likely["loc"]))
        yield Refusal(f"{place}: {likely['msg']} ({str(likely.get('input'))[:80]})", source)
