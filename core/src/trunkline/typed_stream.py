"""`TypedStream`, one response as it arrives, with its answer as a value of a type."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from types import TracebackType
from typing import Generic, TypeVar

from trunkline._json import JSONValue
from trunkline.answers import AnswerType, TypedResponse, partial_json
from trunkline.events import Event, TextDelta
from trunkline.response import ChatResponse
from trunkline.stream import EndCallback, Stream

T_co = TypeVar("T_co", covariant=True)
V = TypeVar("V")
R = TypeVar("R")


class TypedStream(Stream, Generic[T_co]):
    """The stream of a call with an `answer_type`. `answer` is what has arrived of the answer.

    `response` and `finish` give a `TypedResponse`; they raise `InvalidAnswer` if the answer does not fit. Events that
    have been read cannot be taken back, so a stream is not asked again.
    """

    __slots__ = ("_answer", "_asked", "_part", "_read", "_stream", "_text", "_typed")

    def __init__(self, stream: Stream, asked: AnswerType[T_co]) -> None:
        self._stream = stream
        self._asked = asked
        self._text = bytearray()
        self._part: int | None = None  # the index of the part that the text is from
        self._read = 0  # how much of the text `_answer` is from
        self._answer: JSONValue = None
        self._typed: TypedResponse[T_co] | None = None

    def __repr__(self) -> str:
        return repr(self._stream)

    @property
    def answer(self) -> JSONValue:
        """The answer as far as it has arrived, as plain JSON values; `None` before it has started.

        Texts may be cut off, and properties may be missing. Raises `ConfigurationError` if `jiter` is not installed.
        """
        if self._read != len(self._text):
            self._read = len(self._text)
            with suppress(ValueError):  # no JSON so far, or not any more
                self._answer = self._asked.partial(partial_json(self._text))
        return self._answer

    @property
    def response(self) -> TypedResponse[T_co]:
        """The whole response with its answer, once `Finished` has arrived. Raises `CallError` before that.

        Raises `InvalidAnswer` if the answer does not fit the type.
        """
        if self._typed is None:
            self._typed = self._asked.read(self._stream.response)
        return self._typed

    @property
    def partial(self) -> ChatResponse:
        return self._stream.partial

    async def finish(self) -> TypedResponse[T_co]:
        """Read the stream to its end and return the whole response with its answer.

        Raises what reading the events raises, and `InvalidAnswer` if the answer does not fit the type.
        """
        async for _ in self:
            pass
        return self.response

    async def __aenter__(self) -> TypedStream[T_co]:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stream.__aexit__(kind, error, traceback)

    async def __anext__(self) -> Event:
        event = await self._stream.__anext__()
        if type(event) is TextDelta and event.index not in self._stream._refusals:
            if event.index != self._part:
                self._part = event.index
                self._text.clear()
                self._read = 0
            self._text += event.text.encode("utf-8", "replace")
        return event

    async def aclose(self) -> None:
        await self._stream.aclose()

    @property
    def _is_new(self) -> bool:
        return self._stream._is_new

    @property
    def _refusals(self) -> Collection[int]:
        return self._stream._refusals

    def _on_end(self, callback: EndCallback) -> None:
        self._stream._on_end(callback)

    async def _run_locally(
        self, operation: str, value: V, proceed: Callable[[V], Awaitable[R]], result_class: type
    ) -> R:
        return await self._stream._run_locally(operation, value, proceed, result_class)
