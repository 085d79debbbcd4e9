"""A conversation's turns, with the results of tools beside the calls that they answer. For translators."""

from __future__ import annotations

from collections.abc import Iterable

from trunkline.authoring.warnings import Warnings
from trunkline.errors import InvalidRequest
from trunkline.messages import Message, ToolCall, ToolResult


class Turn:
    """A message other than a tool's. `results` are the results of the calls in it, by the position of the call."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.results: dict[int, list[ToolResult]] = {}


def pair_turns(messages: Iterable[Message], warnings: Warnings) -> list[Turn]:
    """The turns of a conversation, each with the results of its calls, wherever those stood.

    A result belongs to the nearest call before it with its id, since some servers give the same ids in each turn. One
    without a call is left out, with a warning. Raises `InvalidRequest` for a tool message with anything else in it.
    """
    turns: list[Turn] = []
    owners: dict[str, tuple[Turn, int]] = {}
    for message in messages:
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        for result in results:
            owner = owners.get(result.tool_call_id)
            if owner is None:
                told = f"no tool call {result.tool_call_id!r} stands before this result; keep the two together"
                warnings.add("left_out", "tool result", told)
            else:
                owner[0].results.setdefault(owner[1], []).append(result)
        if message.role == "tool":
            if len(results) != len(message.parts):
                raise InvalidRequest("a tool message holds ToolResult parts and nothing else")
            continue
        turn = Turn(message)
        turns.append(turn)
        for position, part in enumerate(message.parts):
            if isinstance(part, ToolCall):
                owners[part.id] = (turn, position)
    return turns
