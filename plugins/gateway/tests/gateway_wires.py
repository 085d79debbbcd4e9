"""What the tests of the wire formats share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import pytest
from trunkline import Event
from trunkline_gateway.problems import GatewayError, Problem
from trunkline_gateway.targets import Target
from trunkline_gateway.wires import Reply

PNG = b"\x89PNG\r\n\x1a\n"
ID = "0123456789abcdef0123456789abcdef"


class Writer(Protocol):
    """A writer of streams."""

    def write(self, event: Event, /) -> bytes:
        """Return what is sent for an event."""


def reply_to(target: Target, **fields: Any) -> Reply:
    return Reply(target=target, id=ID, created=1_764_000_000, **fields)


def stream_of(writer: Writer, events: Iterable[Event]) -> bytes:
    return b"".join(map(writer.write, events))


def problem_of_read(read: Callable[[], object]) -> Problem:
    """Return why a request is refused."""
    with pytest.raises(GatewayError) as caught:
        read()
    assert caught.value.problem.status == 400
    return caught.value.problem
