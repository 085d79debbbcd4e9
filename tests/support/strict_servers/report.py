"""The matrix as Markdown: the changes to the conversations of all families, for the models of each wire format."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from trunkline import CallWarning

from strict_servers.conversations import request_of as request_of, translated
from strict_servers.families import ALL
from strict_servers.matrix import YOUR_CODE, Conversation, everything

WIRES = {
    "chat": "Chat Completions",
    "responses": "Responses",
    "anthropic": "Messages (Anthropic)",
    "converse": "Converse (Bedrock)",
    "gemini": "generateContent (Gemini)",
    "mistral": "Mistral",
    "cohere": "Cohere",
    "ollama": "Ollama",
}
"""The wire formats, which are the names of the columns."""


class Legend:
    """The changes that were made, numbered in the order in which they were first seen."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, change: str) -> int:
        """Return the number of a change."""
        return self._numbers.setdefault(change, len(self._numbers) + 1)

    def lines(self) -> Iterable[str]:
        """Return a line for each change."""
        return (f"{number}. {change}\n" for change, number in self._numbers.items())


def _change(warning: CallWarning) -> str:
    """Return the text of a warning, without the name of the provider that made the part."""
    message = re.sub(r"only [\w-]+( \([\w.-]+\))? understands it", "only its provider understands it", warning.message)
    return f"{'**lost**: ' if warning.lossy else ''}{warning.subject}: {message}"


def _cell(conversations: list[Conversation], wire: str, legend: Legend) -> str:
    targets = [family for family in ALL if family.wire == wire]
    found: dict[str, int] = defaultdict(int)
    replays = 0
    for target in targets:
        for conversation in conversations:
            replays += 1
            request = request_of(target, conversation.messages, conversation.tools)
            changes = dict.fromkeys(_change(warning) for warning in translated(target, request).warnings)
            for change in changes:
                found[change] += 1
    numbers = sorted((legend.number(change), count == replays) for change, count in found.items())
    return ", ".join(str(number) if always else f"({number})" for number, always in numbers) or "–"


def report() -> str:
    """Return the table, with a legend of the changes."""
    conversations = everything()
    by_trouble: dict[str, list[Conversation]] = defaultdict(list)
    for conversation in conversations:
        by_trouble[conversation.trouble].append(conversation)
    legend = Legend()
    rows = ["| | " + " | ".join(WIRES.values()) + " |", "|---" * (len(WIRES) + 1) + "|"]
    for trouble, made in by_trouble.items():
        cells = [_cell(made, wire, legend) for wire in WIRES]
        who = "" if made[0].issuer == YOUR_CODE else f" ({len({one.issuer for one in made})} families)"
        rows.append(f"| **{trouble}**{who} | " + " | ".join(cells) + " |")
    count = f"{len(conversations)} conversations, {len(conversations) * len(ALL):,} replays to {len(ALL)} families"
    families = ", ".join(family.name for family in ALL)
    table = "\n".join(rows)
    return f"{count}: {families}.\n\n{table}\n\n{''.join(legend.lines())}"
