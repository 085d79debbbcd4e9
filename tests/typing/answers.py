"""What a user's editor knows about typed answers. Never run: mypy and pyright check it."""

from __future__ import annotations

import dataclasses
from typing import TypedDict, assert_type

import attrs
from trunkline import ChatParams, ChatResponse, InvalidAnswer, JSONValue, Service, Stream, TypedResponse, TypedStream


@attrs.define
class Place:
    city: str


@dataclasses.dataclass
class Area:
    size: float


class Line(TypedDict):
    start: int


async def chatting(service: Service, defaults: ChatParams) -> None:
    """The answer has the type that was asked for."""
    response = await service.chat("Where?", answer_type=Place)
    assert_type(response, TypedResponse[Place])
    assert_type(response.answer, Place)
    assert_type(response.text, str)
    plain: ChatResponse = response
    assert_type((await service.chat("Where?", answer_type=Area, answer_retries=2, temperature=0)).answer.size, float)
    assert_type((await service.chat("Where?", answer_type=Line)).answer["start"], int)
    assert_type((await service.chat("Where?", answer_type=list[Place])).answer, list[Place])
    assert_type((await service.chat("Where?", answer_type=dict[str, int])).answer, dict[str, int])
    assert_type((await service.chat("Where?", answer_type=int)).answer, int)
    assert_type((await service.chat("Where?", answer_type=Place, **defaults)).answer, Place)
    assert_type(await service.chat("Where?", answer_type=None), ChatResponse)
    assert_type(await service.chat(plain.text, **defaults), ChatResponse)


async def unions(service: Service) -> Place | None:
    """What is no class for a type checker is an object: an application asks for its class."""
    response = await service.chat("Where?", answer_type=Place | Area)
    answer: object = response.answer
    return answer if isinstance(answer, Place) else None


async def streaming(service: Service) -> Place:
    """A stream has the answer so far as JSON, and the whole answer at its end."""
    assert_type(service.stream("Where?"), Stream)
    async with service.stream("Where?", answer_type=Place) as stream:
        assert_type(stream, TypedStream[Place])
        async for event in stream:
            print(event)
            assert_type(stream.answer, JSONValue)
        assert_type(stream.response, TypedResponse[Place])
        return (await stream.finish()).answer


async def failing(service: Service) -> str | None:
    """The error has the response."""
    try:
        await service.chat("Where?", answer_type=Place)
    except InvalidAnswer as error:
        assert_type(error.response, ChatResponse)
        return error.path or error.reason
    return None
