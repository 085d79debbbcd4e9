"""Pair the tool results of a conversation with the calls that they answer. For translators."""

from __future__ import annotations

from collections.abc import Iterable

from trunkline.authoring.warnings import Warnings
from trunkline.errors import InvalidRequest
from trunkline.messages import Message, ToolCall, ToolResult


class Turn:
    """A message that is not a tool result. `results` maps the position of a tool call in it to the call's results."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.results: dict[int, list[ToolResult]] = {}


def pair_turns(messages: Iterable[Message], warnings: Warnings) -> list[Turn]:
    """Return the turns of a conversation, each with the results of its tool calls.

    A result belongs to the nearest call before it with the same id, since some servers use the same ids in every turn.
    A result without a call is left out, with a warning. Raises `InvalidRequest` if a tool message contains anything but
    results.
    """
    turns: list[Turn] = []
    owners: dict[str, tuple[Turn, int]] = {}
    for message in messages:
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        for result in results:
            owner = owners.get(result.tool_call_id)
            if owner is None:
                cause = "no tool call before this result has the id"
                problem = f"{cause} {result.tool_call_id!r}; keep the two together"
                warnings.add("left_out", "tool result", problem, lossy=False, cause=cause)
            else:
                owner[0].results.setdefault(owner[1], []).append(result)
        if message.role == "tool":
            if len(results) != len(message.parts):
                raise InvalidRequest("a tool message may contain only ToolResult parts")
            continue
        turn = Turn(message)
        turns.append(turn)
        for position, part in enumerate(message.parts):
            if isinstance(part, ToolCall):
                owners[part.id] = (turn, position)
    return turns
