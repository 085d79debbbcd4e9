"""The matrix: conversations of every family, replayed to every family, with the warnings and the refusals."""

from __future__ import annotations

import json

import attrs
from trunkline import CallWarning, Message, Tool, user

from strict_servers.conversations import BY_HAND, BY_TOOLS, WEATHER, conversations, request_of, translated
from strict_servers.families import ALL, Family
from strict_servers.refusal import Refusal

YOUR_CODE = "your code"
"""The issuer of the conversations that an application makes by hand."""


@attrs.frozen(kw_only=True)
class Conversation:
    """One state of a conversation: its issuer, its trouble and its messages."""

    issuer: str
    trouble: str
    messages: tuple[Message, ...] = attrs.field(repr=False)
    tools: tuple[Tool, ...] = attrs.field(default=(WEATHER,), repr=False)
    tools: tuple[Tool, ...] = attrs.field(default=(WEATHER,), repr=False)


@attrs.frozen(kw_only=True)
class Replayed:
    """A conversation, translated for a family: the request, its warnings, and the refusals of the family's server."""

    conversation: Conversation
    target: Family
    body: str = attrs.field(repr=False)
    warnings: tuple[CallWarning, ...]
    refusals: tuple[Refusal, ...]


def of_family(family: Family) -> list[Conversation]:
    """Return the conversations of a family."""
    return [
        Conversation(issuer=family.name, trouble=trouble, messages=messages)
        for trouble, messages in conversations(family)
    ]


def everything() -> list[Conversation]:
    """Return the conversations of all families and the conversations that an application makes."""
    return [conversation for family in ALL for conversation in of_family(family)] + by_hand()


def by_hand() -> list[Conversation]:
    """Return the conversations that no model made."""
    made = [Conversation(issuer=YOUR_CODE, trouble=name, messages=messages) for name, messages in BY_HAND.items()]
    for name, tool in BY_TOOLS.items():
        made.append(Conversation(issuer=YOUR_CODE, trouble=name, messages=(user("Oslo?"),), tools=(tool,)))
    return made


def replayed(conversation: Conversation, target: Family) -> Replayed:
    """Translate a conversation for a family, and check the request as its server does. Does no I/O."""
    translation = translated(target, request_of(target, conversation.messages, conversation.tools))
    body = translation.wire_request.body.decode()
    return Replayed(
        conversation=conversation,
        target=target,
        body=body,
        warnings=translation.warnings,
        refusals=tuple(target.refusals(json.loads(body))),
    )
