"""Conversations of each family, with the troubles that broke real conversations. The family's plugin reads the answers.

A trouble is a function that talks to a model of the family. Each state in which the application would send the
conversation becomes a conversation of the matrix, so a tool loop is replayed both in the middle and after its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TypeAlias

import attrs
from trunkline import (
    ChatRequest,
    Image,
    Message,
    Reasoning,
    ReasoningOptions,
    StreamInterrupted,
    Text,
    Tool,
    ToolCall,
    assistant,
    system,
    tool_result,
    user,
)
from trunkline._config.sources import make_settings
from trunkline._plugins.registry import Steps, load_provider, open_steps
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.events import ResponseStarted
from trunkline.fold import Fold

from strict_servers.answers import PNG, Said
from strict_servers.families import Family
from strict_servers.server import settings

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool(name="weather", description="The weather in a city.", parameters=SCHEMA)
OSLO, ROME, LIMA = ('{"city": "Oslo"}', '{"city": "Rome"}', '{"city": "Lima"}')


@attrs.define
class Talk:
    """A conversation with one family. `states` are its states when the application sends it."""

    family: Family
    messages: list[Message] = attrs.field(factory=list)
    states: list[tuple[Message, ...]] = attrs.field(factory=list)

    def add(self, *messages: Message) -> None:
        """Add messages of the application."""
        self.messages += messages

    def say(self, **said: object) -> Message:
        """Let the model answer. The part of an interrupted answer that arrived stays in the conversation."""
        number = sum(message.role == "assistant" for message in self.messages) + 1
        content, _ = self.family.answer(Said(number=number, **said))  # type: ignore[arg-type]
        self.state()
        asked = translated(self.family, request_of(self.family, self.messages))
        folded = Fold(self.family.provider)
        decoder = StreamDecoder(*steps_of(self.family).parser.stream())
        events = decoder.feed(content)
        try:
            events += decoder.finish()
        except StreamInterrupted:
            if "cut" not in said:
                raise
        for event in events:
            # Like the core, take the model's family from the translation of the request.
            folded.add(attrs.evolve(event, family=asked.family) if isinstance(event, ResponseStarted) else event)
        message = folded.response().message
        self.messages.append(message)
        return message

    def state(self) -> None:
        """Record the conversation as a state that the application sends."""
        if any(message.role == "assistant" for message in self.messages):
            self.states.append(tuple(self.messages))


@cache
def steps_of(family: Family) -> Steps:
    """Return the steps of a service of a family, without a transport."""
    provider = load_provider(family.provider)
    arguments = settings(family, "http://127.0.0.1:1")
    made = make_settings(family.provider, provider, arguments=arguments, environ={})
    context = ServiceContext(name=family.name, provider=family.provider, settings=made)
    return open_steps(attrs.evolve(provider, transport=lambda context: None), context)


def translated(family: Family, request: ChatRequest) -> Translation:
    """Return a request as a family's service sends it."""
    return steps_of(family).translator.translate(attrs.evolve(request, model=family.model), stream=True)


Trouble: TypeAlias = Callable[[Talk], None]


def request_of(
    family: Family, messages: list[Message] | tuple[Message, ...], tools: tuple[Tool, ...] = (WEATHER,)
) -> ChatRequest:
    """Return the request that continues a conversation with a family."""
    reasoning = None
    if family.budget is not None:
        reasoning = ReasoningOptions(max_tokens=family.budget)
    return ChatRequest(
        messages=messages, tools=tools if family.tools else (), max_output_tokens=4000, reasoning=reasoning
    )


def text_and_reasoning(talk: Talk) -> None:
    """Reasoning and a text."""
    talk.add(system("Be brief."), user("Hello"))
    talk.say(reasoning="They greet.", text="Hello!")
    talk.add(user("Who are you?"))
    talk.state()


def parallel_tools(talk: Talk) -> None:
    """Three calls in one turn: one result, one failure, and one call that was never answered."""
    talk.add(user("Compare Oslo, Rome and Lima."))
    turn = talk.say(
        reasoning="I need the weather.",
        text="Let me look.",
        calls=(("weather", OSLO), ("weather", ROME), ("weather", LIMA)),
    )
    oslo, rome, _ = turn.tool_calls
    talk.add(tool_result(rome, "timeout", is_error=True), tool_result(oslo, "7 C"))
    talk.say(text="Oslo has 7 C.")
    talk.add(user("Thanks"))
    talk.state()


def unanswered_calls(talk: Talk) -> None:
    """A call that the application never answered, because the user sent another message."""
    talk.add(user("Weather in Oslo?"))
    talk.say(reasoning="I need the weather.", calls=(("weather", OSLO),))
    talk.add(user("Never mind. Hi!"))
    talk.state()


def invalid_arguments(talk: Talk) -> None:
    """A call whose arguments are not JSON."""
    talk.add(user("Weather in Oslo?"))
    turn = talk.say(calls=(("weather", '{"city": "Os'),))
    talk.add(tool_result(turn.tool_calls[0], "the arguments are not JSON", is_error=True))
    talk.say(text="I will try again.")
    talk.add(user("Do."))
    talk.state()


def interrupted_answer(talk: Talk) -> None:
    """An interrupted answer with white space at the end."""
    talk.add(user("Weather in Oslo?"))
    talk.say(reasoning="I need the weather.", text="Let me look. ", cut=True)
    talk.add(user("Go on."))
    talk.state()


def interrupted_call(talk: Talk) -> None:
    """An answer that was interrupted in a call."""
    talk.add(user("Weather in Oslo?"))
    talk.say(reasoning="I need the weather.", text="Let me look.", calls=(("weather", OSLO),), cut=True)
    talk.add(user("Go on."))
    talk.state()


def repeated_ids(talk: Talk) -> None:
    """Two rounds of calls. Some servers give the calls of each round the same ids."""
    talk.add(user("Weather in Oslo, then in Rome?"))
    for city in (OSLO, ROME):
        turn = talk.say(reasoning=f"Now {city}.", calls=(("weather", city),))
        talk.add(tool_result(turn.tool_calls[0], "7 C"))
    talk.say(text="Both have 7 C.")
    talk.add(user("Thanks"))
    talk.state()


def reasoning_alone(talk: Talk) -> None:
    """An answer with only reasoning."""
    talk.add(user("Hello"))
    talk.say(reasoning="They greet.")
    talk.add(user("Are you there?"))
    talk.state()


def blank_texts(talk: Talk) -> None:
    """A blank text before a call, an empty result, and an answer of white space."""
    talk.add(user("Weather in Oslo?"))
    turn = talk.say(text="\n\n", calls=(("weather", OSLO),))
    talk.add(tool_result(turn.tool_calls[0], ""))
    talk.say(text="\n ")
    talk.add(user("And?"))
    talk.state()


def made_images(talk: Talk) -> None:
    """A picture that the model made."""
    talk.add(user("Draw Oslo."))
    talk.say(text="Here it is.", image=True)
    talk.add(user("Bluer."))
    talk.state()


def hosted_tools(talk: Talk) -> None:
    """A tool that the provider ran."""
    talk.add(user("What is new in Oslo?"))
    talk.say(reasoning="I will search.", text="Nothing.", hosted=True)
    talk.add(user("Thanks"))
    talk.state()


TROUBLES: Mapping[str, Trouble] = {
    "text and reasoning": text_and_reasoning,
    "parallel calls: one failed, one has no result": parallel_tools,
    "a call without a result": unanswered_calls,
    "arguments that are not JSON": invalid_arguments,
    "an interrupted answer": interrupted_answer,
    "an interrupted call": interrupted_call,
    "repeated ids": repeated_ids,
    "reasoning alone": reasoning_alone,
    "blank texts": blank_texts,
    "an image made by the model": made_images,
    "a tool that the provider runs": hosted_tools,
}
"""The troubles, by their names in the table."""


def happens(trouble: str, family: Family) -> bool:
    """Return whether a conversation with a family can have a trouble."""
    return {
        "parallel calls: one failed, one has no result": family.tools,
        "a call without a result": family.tools,
        "arguments that are not JSON": family.tools and family.text_arguments,
        "an interrupted call": family.tools and family.text_arguments,
        "repeated ids": family.tools,
        "blank texts": family.tools,
        "reasoning alone": family.thinks,
        "an image made by the model": family.images,
        "a tool that the provider runs": family.hosted,
    }.get(trouble, True)


def conversations(family: Family) -> Iterator[tuple[str, tuple[Message, ...]]]:
    """Yield the conversations of a family, each with its trouble."""
    for name, trouble in TROUBLES.items():
        if happens(name, family):
            talk = Talk(family)
            trouble(talk)
            for state in talk.states:
                yield name, state


_CALL = ToolCall(id="call_1", name="weather", arguments={"city": "Oslo"})
_OTHER = ToolCall(id="call_2", name="weather", arguments={"city": "Rome"})

BY_HAND: Mapping[str, tuple[Message, ...]] = {
    "starts with an answer": (assistant("Hello! How can I help?"), user("Who are you?")),
    "two messages of one role": (
        user("Hello"),
        user("Are you there?"),
        assistant("Yes."),
        assistant("Ask."),
        user("Hm"),
    ),
    "a system message in the middle": (
        user("Hello"),
        assistant("Hi."),
        system("Answer in French."),
        user("Who are you?"),
    ),
    "a system message after results": (user("Oslo?"), assistant(_CALL), tool_result(_CALL, "7 C"), system("Be brief.")),
    "a user message after results": (user("Oslo?"), assistant(_CALL), tool_result(_CALL, "7 C"), user("In French.")),
    "results out of order": (
        user("Oslo and Rome?"),
        assistant(_CALL, _OTHER),
        user("Hurry!"),
        tool_result(_OTHER, "20 C"),
        tool_result(_CALL, "7 C"),
    ),
    "a result without its call": (user("Hello"), tool_result("call_9", "7 C"), assistant("Hi."), user("Who are you?")),
    "two results for one call": (
        user("Oslo?"),
        assistant(_CALL),
        tool_result(_CALL, "It"),
        tool_result(_CALL, "rains."),
    ),
    "ids in any form": (
        user("Oslo and Rome?"),
        assistant(
            attrs.evolve(_CALL, id=""),
            attrs.evolve(_OTHER, id="an id / that is not (everywhere) valid, and is far too long for most providers"),
        ),
        tool_result("", "7 C"),
        tool_result("an id / that is not (everywhere) valid, and is far too long for most providers", "20 C"),
    ),
    "two calls with one id": (
        user("Oslo and Rome?"),
        assistant(_CALL, attrs.evolve(_OTHER, id="call_1")),
        tool_result("call_1", "7 C"),
        tool_result("call_1", "20 C"),
    ),
    "a tool with an invalid name": (
        user("Oslo?"),
        assistant(attrs.evolve(_CALL, name="the weather in (Oslo)!")),
        tool_result("call_1", "there is no such tool", is_error=True),
    ),
    "a text after a call": (user("Oslo?"), assistant(_CALL, "Let me look."), tool_result(_CALL, "7 C")),
    "an image in a result": (
        user("Show Oslo."),
        assistant(_CALL),
        tool_result(_CALL, [Text(text="Here:"), Image(data=PNG)]),
    ),
    "an empty answer": (user("Hello"), assistant(""), user("Are you there?")),
    "reasoning without a provider": (
        user("Hello"),
        assistant(Reasoning(text="They greet."), Text(text="Hi.")),
        user("Well?"),
    ),
}
"""Conversations that an application makes, by the trouble in them."""

_CITY = {"type": "object", "properties": {"city": {"type": "string"}}}

BY_TOOLS: Mapping[str, Tool] = {
    "a tool without parameters": Tool(name="weather"),
    "a schema without a type": Tool(name="weather", parameters={"properties": {"city": {"type": "string"}}}),
    "a schema that is a union": Tool(name="weather", parameters={"oneOf": [_CITY, {"type": "object"}]}),
}
"""Tools as MCP servers and other programs define them, by the form of their schemas."""
