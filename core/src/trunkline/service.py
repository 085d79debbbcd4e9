"""`Service`, the base class of everything an application calls: configured providers and composed services."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar, Unpack, cast, overload

import attrs

from trunkline._calls.batch_calls import name_request
from trunkline._calls.options import NO_OPTIONS, CallOptions, OptionParams, checked_options
from trunkline._json import JSONObject
from trunkline._suggestions import check_keywords
from trunkline.answers import AnswerType, TypedResponse, answer_type_of, check_retries, next_request
from trunkline.authoring.batches import BatchRequests
from trunkline.authoring.provider import CallGroup, Operation
from trunkline.batches import Batch, BatchResults
from trunkline.errors import InvalidAnswer, InvalidRequest, TrunklineError
from trunkline.events import ResumePoint
from trunkline.inputs import Inputs
from trunkline.messages import Audio, Message
from trunkline.operations import (
    ImageParams,
    ImageRequest,
    ImageResponse,
    ModerationParams,
    ModerationRequest,
    ModerationResponse,
    RerankParams,
    RerankRequest,
    RerankResponse,
    SpeechParams,
    SpeechRequest,
    SpeechResponse,
    TranscriptionParams,
    TranscriptionRequest,
    TranscriptionResponse,
)
from trunkline.request import ChatParams, ChatRequest, EmbedParams, EmbedRequest
from trunkline.response import ChatResponse, EmbedResponse, ModelInfo, Usage, sum_usage
from trunkline.secrets import without_traceback
from trunkline.stream import Stream
from trunkline.typed_stream import TypedStream

T = TypeVar("T")
V = TypeVar("V")
R = TypeVar("R")


def _batch(batch: object, service: str) -> Batch:
    """Return the batch that the caller gives, or names by its id."""
    if isinstance(batch, str):
        return Batch(id=batch, status="running")
    _check_kind(batch, Batch, "batch must be a Batch or the id of one", service)
    return cast(Batch, batch)


def _check_kind(value: object, kind: type[object], rule: str, service: str) -> None:
    if not isinstance(value, kind):
        raise InvalidRequest(f"{rule}, not {type(value).__name__}", service=service)


def _response_id(response: object, service: str) -> str:
    """Return the id of the response that the caller gives, or names by its id."""
    if isinstance(response, str):
        return response
    _check_kind(response, ChatResponse, "response must be a ChatResponse or the id of one", service)
    response_id = cast(ChatResponse, response).id
    if response_id is None:
        raise InvalidRequest("the response has no id, so the provider cannot be asked for it", service=service)
    return response_id


_OTHER_KEYWORDS = {"chat": ("answer_type", "answer_retries"), "stream": ("answer_type",)}


class Service(ABC):
    """What an application calls. `open_service` and `open_services` make services of configured providers.

    `fallback`, `balance` and `limit` make composed services. All have the same methods. `name` is the service's
    name in the configuration, by default the provider's.

    A service opens on its first call and may be used by any number of tasks at once. Closing it ends the calls that are
    still running: they raise `ServiceClosed`.

    A service belongs to no event loop: it may be used in several `asyncio.run`, one after another or in several threads
    at once, and in a process that was forked.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        """The service's name: its name in the configuration file, or the provider's name."""
        self._options = NO_OPTIONS

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    @overload
    async def chat(
        self,
        request: ChatRequest | str | Message | Iterable[Message],
        *,
        answer_type: type[T],
        answer_retries: int = 0,
        **params: Unpack[ChatParams],
    ) -> TypedResponse[T]: ...

    @overload
    async def chat(
        self,
        request: ChatRequest | str | Message | Iterable[Message],
        *,
        answer_type: None = None,
        **params: Unpack[ChatParams],
    ) -> ChatResponse: ...

    # A union, for example, for which Python 3.11 has no type.
    @overload
    async def chat(
        self,
        request: ChatRequest | str | Message | Iterable[Message],
        *,
        answer_type: object,
        answer_retries: int = 0,
        **params: Unpack[ChatParams],
    ) -> TypedResponse[object]: ...

    async def chat(
        self,
        request: ChatRequest | str | Message | Iterable[Message],
        *,
        answer_type: object = None,
        answer_retries: int = 0,
        **params: Unpack[ChatParams],
    ) -> ChatResponse:
        """Send a request and return the whole response. A string is one user message.

        The keywords are the fields of a `ChatRequest`: `service.chat("…", temperature=0)`. If `request` is a
        `ChatRequest`, they replace its fields for this call.

        With an `answer_type`, the model answers with JSON that follows the type's schema, and `response.answer` is a
        value of the type: an attrs class, a dataclass, a TypedDict, a msgspec.Struct, a pydantic model, or a list or
        union of them. `answer_retries` is how often the model is asked again after an answer that does not fit. Each
        attempt is a call of its own, and `response.usage` is the sum of all. Needs the extra `answers`.

        Raises a `RemoteError` if the provider or the connection fails, a `CallError` if the request cannot be made, and
        a `ConfigurationError` if a setting is wrong. With an `answer_type`, also raises `InvalidAnswer` if the response
        has no answer of that type, and `InvalidRequest` for a type that has no schema.
        """
        prepared = self._request(request, params, "chat")
        if answer_type is None:
            if answer_retries:
                raise InvalidRequest("answer_retries needs an answer_type", service=self.name)
            return await self._chat(prepared, NO_OPTIONS)
        asked, prepared = self._typed(prepared, answer_type, answer_retries)
        usages: list[Usage | None] = []
        while True:
            response = await self._chat(prepared, NO_OPTIONS)
            usages.append(response.usage)
            try:
                return asked.read(response, usage=sum_usage(usages))
            except InvalidAnswer as error:
                again = next_request(prepared, error)
                if again is None or answer_retries <= 0:
                    raise
            prepared, answer_retries = again, answer_retries - 1

    @overload
    def stream(
        self,
        request: ChatRequest | str | Message | Iterable[Message],
        *,
        answer_type: type[T],
        **params: Unpack[ChatParams],
    ) -> TypedStream[T]: ...

    @overload
    def stream(
        self,
        request: ChatRequest | str | Message | Iterable[Message],
        *,
        answer_type: None = None,
        **params: Unpack[ChatParams],
    ) -> Stream: ...

    @overload
    def stream(
        self,
        request: ChatRequest | str | Message | Iterable[Message],
        *,
        answer_type: object,
        **params: Unpack[ChatParams],
    ) -> TypedStream[object]: ...

    def stream(
        self,
        request: ChatRequest | str | Message | Iterable[Message],
        *,
        answer_type: object = None,
        **params: Unpack[ChatParams],
    ) -> Stream:
        """Send a request and read the response as it arrives.

        `async with service.stream(…) as stream: async for event in stream: …`. Entering the block sends the request and
        waits for the first content, so it raises the errors that come before that. The arguments are those of `chat`.
        Leaving the block closes the connection, whether by an exception, a `break` or a `return`.

        With an `answer_type`, the stream is a `TypedStream`: `stream.answer` is what has arrived of the answer.
        """
        prepared = self._request(request, params, "stream")
        if answer_type is None:
            return self._stream(prepared, NO_OPTIONS)
        asked, prepared = self._typed(prepared, answer_type)
        return TypedStream(self._stream(prepared, NO_OPTIONS), asked)

    async def get_response(self, response: ChatResponse | str) -> ChatResponse:
        """Return the present state of a response that the provider has stored, such as one made in the background.

        `response` is an earlier state of the response, or its id. While the provider makes the response, the finish
        reason is `PENDING`. If the provider has failed to make it, the error is raised, as `chat` would. Call this on
        the service that the response comes from (`ChatResponse.service`).

        Raises `UnsupportedOperation` if the provider has no such responses, `NotFound` if it does not know the id, and
        `InvalidRequest` if `response` has no id.
        """
        return await self._perform("get_response", _response_id(response, self.name), ChatResponse, NO_OPTIONS)

    async def cancel_response(self, response: ChatResponse | str) -> ChatResponse:
        """Cancel a response that runs in the background, given as a `ChatResponse` or its id, and return its state.

        Raises what `get_response` raises, and `BadRequest` if the response does not run in the background.
        """
        return await self._perform("cancel_response", _response_id(response, self.name), ChatResponse, NO_OPTIONS)

    def resume_stream(self, point: ResumePoint) -> Stream:
        """Read the stream of a response that runs in the background on from a `ResumePoint`.

        Text and other parts that had begun before the point start again, with what follows it. The stream's `response`
        has only this; `get_response` returns the whole response. Middlewares do not see the call.

        Entering the block raises `UnsupportedOperation` if the provider has no such streams.
        """
        if not isinstance(point, ResumePoint):
            raise InvalidRequest(f"resume_stream takes a ResumePoint, not {type(point).__name__}", service=self.name)
        return self._resume(point, NO_OPTIONS)

    async def list_models(self) -> tuple[ModelInfo, ...]:
        """List the models that the service offers.

        Raises `UnsupportedOperation` if the provider has no such list, and `ProtocolViolation` if its list does not
        end, for example because a page leads back to one before it.
        """
        return await self._list_models(NO_OPTIONS)

    async def embed(self, inputs: Inputs | EmbedRequest, **params: Unpack[EmbedParams]) -> EmbedResponse:
        """Return one vector for each text or image. The keywords are the fields of an `EmbedRequest`.

        Raises `UnsupportedOperation` if the provider has no embeddings, and `ProtocolViolation` if the response does
        not have exactly one vector for each input, or if the vectors differ in length or contain NaN or infinity.
        """
        return await self._perform_new("embed", EmbedRequest, inputs, {"inputs": inputs}, params, EmbedResponse)

    async def rerank(
        self, query: str | RerankRequest, documents: Iterable[str] = (), **params: Unpack[RerankParams]
    ) -> RerankResponse:
        """Sort documents by their relevance to a query. The keywords are the fields of a `RerankRequest`.

        Raises `UnsupportedOperation` if the provider has no reranking, and `ProtocolViolation` if the response ranks a
        document twice, or one that is not in the request.
        """
        fields = {"query": query, "documents": documents}
        changes: dict[str, object] = {**params}
        if isinstance(query, RerankRequest) and not (isinstance(documents, tuple) and not documents):
            changes["documents"] = documents
        return await self._perform_new("rerank", RerankRequest, query, fields, changes, RerankResponse)

    async def transcribe(
        self, audio: Audio | TranscriptionRequest, **params: Unpack[TranscriptionParams]
    ) -> TranscriptionResponse:
        """Return the text of recorded speech. The keywords are the fields of a `TranscriptionRequest`.

        Raises `UnsupportedOperation` if the provider has no transcription. A model that answers chats about audio is
        not one for this method: send it the audio with `chat`.
        """
        fields = {"audio": audio}
        return await self._perform_new("transcribe", TranscriptionRequest, audio, fields, params, TranscriptionResponse)

    async def generate_speech(self, text: str | SpeechRequest, **params: Unpack[SpeechParams]) -> SpeechResponse:
        """Return audio in which a voice reads the text. The keywords are the fields of a `SpeechRequest`.

        Raises `UnsupportedOperation` if the provider has no speech.
        """
        return await self._perform_new("generate_speech", SpeechRequest, text, {"text": text}, params, SpeechResponse)

    async def generate_images(self, prompt: str | ImageRequest, **params: Unpack[ImageParams]) -> ImageResponse:
        """Generate images, or edit those in `images`. The keywords are the fields of an `ImageRequest`.

        Raises `UnsupportedOperation` if the provider generates no images, `ContentFiltered` if it refused to make one,
        and `ProtocolViolation` if the response has none.
        """
        return await self._perform_new(
            "generate_images", ImageRequest, prompt, {"prompt": prompt}, params, ImageResponse
        )

    async def moderate(
        self, inputs: Inputs | ModerationRequest, **params: Unpack[ModerationParams]
    ) -> ModerationResponse:
        """Judge whether texts and images break the provider's rules. The keywords are those of a `ModerationRequest`.

        Raises `UnsupportedOperation` if the provider has no moderation, and `ProtocolViolation` if the response does
        not have one result for each input.
        """
        fields = {"inputs": inputs}
        return await self._perform_new("moderate", ModerationRequest, inputs, fields, params, ModerationResponse)

    async def _perform_new(
        self,
        name: str,
        kind: type[attrs.AttrsInstance],
        given: object,
        fields: Mapping[str, object],
        params: Mapping[str, Any],
        result: type[R],
    ) -> R:
        """Perform an operation. `given` is its request, or `fields` and `params` make one."""
        check_keywords(params, kind, name)
        try:
            if isinstance(given, kind):
                request = attrs.evolve(cast(Any, given), **params)
            else:
                request = cast(Any, kind)(**fields, **params)
        except TrunklineError as error:
            error.service = self.name
            raise
        return await self._perform(name, request, result, NO_OPTIONS)

    async def count_tokens(
        self, request: ChatRequest | str | Message | Iterable[Message], **params: Unpack[ChatParams]
    ) -> int:
        """Return the provider's own count of a request's tokens. The arguments are those of `chat`.

        The request is prepared as for `chat`: the token limits apply to it, and media are fetched. What the provider
        cannot count is left out, with a warning from the logger `trunkline`; a `strict` service raises as for `chat`.

        Raises `UnsupportedOperation` if the provider does not count.
        """
        return await self._count_tokens(self._request(request, params, "count_tokens"), NO_OPTIONS)

    async def submit_batch(
        self,
        requests: Mapping[str, ChatRequest | str | Message | Iterable[Message]],
        *,
        batch_options: Mapping[str, JSONObject] | None = None,
        **params: Unpack[ChatParams],
    ) -> Batch:
        """Submit many requests together, to be answered within a day or so, usually for half the price.

        `requests` maps an id of your own to each request, which is anything that `chat` takes. The keywords are the
        fields of a `ChatRequest`; they replace the fields of every request. `batch_options` are fields of the request
        that creates the batch, by provider, such as `{"openai": {"metadata": {…}}}`.

        Each request is prepared and translated as for `chat`. Its warnings are in `Batch.requests`, and in its
        response. If one of them cannot be sent, the error names its id, and nothing is submitted.

        The batch is not submitted a second time if it is unknown whether the provider has accepted it: the error is
        raised, and `list_batches` shows whether the batch exists.

        Raises `UnsupportedOperation` if the provider has no batches, and `InvalidRequest` if an id is not accepted or
        the batch is too large for it.
        """
        check_keywords(params, ChatRequest, "submit_batch", ("batch_options",))
        _check_kind(requests, Mapping, "the requests of a batch must be a mapping from ids to requests", self.name)
        batch_options = {} if batch_options is None else batch_options
        rule = "batch_options must be a mapping from providers to their options"
        _check_kind(batch_options, Mapping, rule, self.name)
        for options in batch_options.values():
            _check_kind(options, Mapping, rule, self.name)
        prepared: dict[str, ChatRequest] = {}
        for request_id, request in requests.items():
            try:
                prepared[request_id] = self._request(request, params.copy(), "submit_batch")
            except TrunklineError as error:
                name_request(error, request_id)
                raise
        value = BatchRequests(requests=prepared, options=batch_options)
        return await self._call_batches("submit_batch", value, Batch, NO_OPTIONS)

    async def get_batch(self, batch: Batch | str) -> Batch:
        """Return the present state of a batch, which is given as a `Batch` or as its id.

        Raises `NotFound` if the provider knows no such batch.
        """
        return await self._call_batches("get_batch", _batch(batch, self.name), Batch, NO_OPTIONS)

    async def batch_results(self, batch: Batch | str) -> BatchResults:
        """Return the results of a batch that has ended: a `ChatResponse` or an error for each id.

        `for id, result in await service.batch_results(batch): …`. A response is what `chat` would have returned. With a
        `Batch` of `submit_batch`, also one that was stored, it has the warnings of its request, and a request for which
        the provider returns nothing has an error; with an id alone, it has no warnings.

        Raises `CallError` if the batch has not ended.
        """
        return await self._call_batches("batch_results", _batch(batch, self.name), BatchResults, NO_OPTIONS)

    async def cancel_batch(self, batch: Batch | str) -> Batch:
        """Cancel a batch and return its state, which may be `cancelling` for some minutes.

        Requests that have completed have results and are charged.
        """
        return await self._call_batches("cancel_batch", _batch(batch, self.name), Batch, NO_OPTIONS)

    async def list_batches(self, *, limit: int = 100) -> tuple[Batch, ...]:
        """List the account's batches, the newest first, at most `limit`. Their `requests` are empty.

        The list contains batches of other programs, if they use the same account.
        """
        if type(limit) is not int or limit < 1:
            raise InvalidRequest(f"limit must be a whole number of at least 1, not {limit!r}", service=self.name)
        return await self._call_batches("list_batches", limit, tuple, NO_OPTIONS)

    async def run(self, operation: Operation[V, R], value: V) -> R:
        """Send a request of your own, such as for an endpoint that Trunkline has no method for; return its result.

        The request has the service's credentials, deadline and retries, and passes through its middlewares and
        observers. The logger `trunkline` reports the warnings of `operation`; a `strict` service raises as
        `chat` does.

        Raises what `chat` raises, and `PluginError` if a function of `operation` fails.
        """
        if not isinstance(operation, Operation):
            raise InvalidRequest(f"run takes an Operation, not a {type(operation).__name__}", service=self.name)
        return await self._run_operation(operation, value, NO_OPTIONS)

    async def authenticate(self) -> None:
        """Open the service and acquire its credentials without sending a request. Raises what a call would.

        For a composed service, this authenticates all of its members.
        """
        await self._authenticate(NO_OPTIONS)

    @abstractmethod
    async def aclose(self) -> None:
        """Close the service and end the calls that are still running in this event loop.

        Returns when they have ended, after a few seconds at most. Closing it again does nothing, but also waits for the
        end of the first closing. Calls in other event loops are not ended; new calls are refused everywhere. Closing a
        composed service closes its members.
        """

    def with_options(self, **options: Unpack[OptionParams]) -> Self:
        """Return a view of the service whose calls have other options: `service.with_options(max_retries=0).chat(…)`.

        The view shares everything with the service, such as its connections and credentials, and closing one closes
        both. All options but `state` replace the settings of the same name:

        - `headers` are added to those of the service, and replace those with the same name.
        - `max_retries`, `retry_after_limit`, `strict`
        - `total_timeout`, `connect_timeout`, `first_chunk_timeout`, `chunk_timeout`: in seconds
        - `state` is what `Call.state` starts with in each call. It tells extensions about the call. The key `label`
          says whom the call is for, such as a customer; the extensions for costs, traces and log lines read it. Begin
          every other key with the name of the distribution that reads it.

        A composed service passes the options on to its members, except for `total_timeout`, which then limits the whole
        call. Options that a view already has are replaced.

        Raises `ConfigurationError` for a value that the setting does not accept.
        """
        try:
            checked = checked_options(options, self.name)
        except BaseException as error:
            failed = without_traceback(error)
        else:
            return self._view(self._options.within(checked))
        options = {}  # headers may be secret, and error trackers show the local variables of each frame
        raise failed

    def _view(self, options: CallOptions) -> Self:
        view = copy.copy(self)
        view._options = options
        return view

    def _in_group(self, group: CallGroup) -> Self:
        """Return a view of the service whose calls belong to a group."""
        return self._view(attrs.evolve(self._options, group=group))

    def _typed(self, request: ChatRequest, type_: object, retries: int = 0) -> tuple[AnswerType[object], ChatRequest]:
        """Return how to read the answer of a call with an `answer_type`, and the request to send.

        Errors get the name of the service.
        """
        try:
            check_retries(retries)
            asked = answer_type_of(type_)
            return asked, asked.request(request)
        except TrunklineError as error:
            error.service = self.name
            raise

    def _request(
        self, request: ChatRequest | str | Message | Iterable[Message], params: ChatParams, call: str
    ) -> ChatRequest:
        check_keywords(params, ChatRequest, call, _OTHER_KEYWORDS.get(call, ()))
        try:
            if isinstance(request, ChatRequest):
                return attrs.evolve(request, **params) if params else request
            params.setdefault("model", self._default_model)  # copying the request later would take ten times as long
            return ChatRequest(messages=request, **params)
        except TrunklineError as error:
            error.service = self.name
            raise

    @property
    def _default_model(self) -> str | None:
        """The model of requests that name none, or `None` if each member has its own."""
        return None

    @abstractmethod
    def _own_total_timeout(self) -> float | None:
        """Return the `total_timeout` of a call of this view, in seconds."""

    # The calls themselves. `outer` has the options of the composed service around this one; those of this view apply
    # where it has none: see `CallOptions.within`.

    @abstractmethod
    async def _chat(self, request: ChatRequest, outer: CallOptions) -> ChatResponse: ...

    @abstractmethod
    def _stream(self, request: ChatRequest, outer: CallOptions) -> Stream: ...

    @abstractmethod
    def _resume(self, point: ResumePoint, outer: CallOptions) -> Stream: ...

    @abstractmethod
    async def _list_models(self, outer: CallOptions) -> tuple[ModelInfo, ...]: ...

    @abstractmethod
    async def _count_tokens(self, request: ChatRequest, outer: CallOptions) -> int: ...

    @abstractmethod
    async def _perform(self, name: str, value: object, result: type[R], outer: CallOptions) -> R:
        """Make a call of the operation that is the field `name` of the provider's `Operations`.

        Sets the default model if `value` has no `model`, and the fields `provider`, `service`, `warnings` and
        `rate_limits` of a result that has them.
        """

    @abstractmethod
    async def _call_batches(self, name: str, value: object, result: type[R], outer: CallOptions) -> R:
        """Make a call about batches. `name` is that of the public method."""

    @abstractmethod
    async def _run_operation(self, operation: Operation[V, R], value: V, outer: CallOptions) -> R: ...

    @abstractmethod
    async def _authenticate(self, outer: CallOptions) -> None: ...
