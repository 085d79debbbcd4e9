"""Anthropic's Messages: requests, responses, streams and errors."""

from __future__ import annotations

from trunkline import ChatRequest, ChatResponse, Event
from trunkline.authoring.json import JSONObject

from trunkline_gateway.problems import Problem
from trunkline_gateway.targets import Target
from trunkline_gateway.wires import Reply


def read_request(body: JSONObject, target: Target) -> ChatRequest:
    """Read a request. Raises `GatewayError` (`problems.invalid`) that names the field, or a core `InvalidRequest`."""
    raise NotImplementedError


def write_response(response: ChatResponse, reply: Reply) -> JSONObject:
    """Write a whole response."""
    raise NotImplementedError


class StreamWriter:
    """Writes the events of a stream as server-sent events."""

    def __init__(self, reply: Reply) -> None:
        raise NotImplementedError

    def write(self, event: Event) -> bytes:
        """Return the bytes of an event, empty if the format has nothing for it. `Finished` ends the stream."""
        raise NotImplementedError

    def write_error(self, problem: Problem) -> bytes:
        """Return the bytes of an error in the middle of a stream."""
        raise NotImplementedError

    heartbeat: bytes = b'event: ping\ndata: {"type": "ping"}\n\n'
    """What keeps an idle connection open."""


def write_error(problem: Problem, request_id: str) -> JSONObject:
    """Write the body of an error."""
    raise NotImplementedError


def ignored_fields(body: JSONObject, target: Target) -> tuple[str, ...]:
    """Return the names of the fields that are not sent."""
    raise NotImplementedError


def read_count_request(body: JSONObject, target: Target) -> ChatRequest:
    """Read a request to count tokens."""
    raise NotImplementedError


def write_count(tokens: int) -> JSONObject:
    """Write a count of tokens."""
    raise NotImplementedError
