"""The matrix: conversations of every family, replayed to every other, with what was mended and what was refused."""

from __future__ import annotations

import json
from functools import cache

import attrs
from trunkline import CallWarning, Message
from trunkline._config.sources import make_settings
from trunkline._plugins.registry import Steps, load_provider, open_steps
from trunkline.authoring.provider import ServiceContext

from strict_servers.conversations import BY_HAND, conversations, request_of
from strict_servers.families import Family
from strict_servers.refusal import Refusal
from strict_servers.server import settings

YOUR_CODE = "your code"
"""The issuer of the conversations that an application makes by hand."""


@attrs.frozen(kw_only=True)
class Conversation:
    """One state of a conversation: who made it, what happened in it, and its messages."""

    issuer: str
    trouble: str
    messages: tuple[Message, ...] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Replayed:
    """A conversation, translated for a family: its warnings, and why the family's server refuses it."""

    conversation: Conversation
    target: Family
    warnings: tuple[CallWarning, ...]
    refusals: tuple[Refusal, ...]


async def of_family(family: Family) -> list[Conversation]:
    """Return the conversations of a family."""
    return [
        Conversation(issuer=family.name, trouble=trouble, messages=messages)
        async for trouble, messages in conversations(family)
    ]


def by_hand() -> list[Conversation]:
    """Return the conversations that no model made."""
    return [Conversation(issuer=YOUR_CODE, trouble=trouble, messages=messages) for trouble, messages in BY_HAND.items()]


@cache
def _steps(family: Family) -> Steps:
    provider = load_provider(family.provider)
    arguments = settings(family, "http://127.0.0.1:1")
    made = make_settings(family.provider, provider, arguments=arguments, environ={})
    context = ServiceContext(name=family.name, provider=family.provider, settings=made)
    return open_steps(attrs.evolve(provider, transport=lambda context: None), context)


def replayed(conversation: Conversation, target: Family) -> Replayed:
    """Translate a conversation for a family, and check the request as its server does. Does no I/O."""
    request = attrs.evolve(request_of(target, conversation.messages), model=target.model)
    translation = _steps(target).translator.translate(request, stream=True)
    body = json.loads(translation.wire_request.body)
    return Replayed(
        conversation=conversation,
        target=target,
        warnings=translation.warnings,
        refusals=tuple(target.refusals(body)),
    )
