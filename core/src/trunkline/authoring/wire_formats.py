"""A provider that has several wire formats, and uses the one of the request's model.

    acme = provider_with_formats(
        name="acme",
        settings=AcmeSettings,
        auth=acme_auth,
        format_of=lambda context, model: "messages" if model.startswith("claude") else "chat",
        load=load_formats,
    )

`load_formats` imports the modules of all formats and returns their parts, such as `{"messages": …, "chat": …}`. A
format may also be a whole `Provider`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import attrs

from trunkline.authoring.advice import Advice
from trunkline.authoring.provider import (
    Auth,
    Call,
    Framer,
    MediaClass,
    Operation,
    Operations,
    Parser,
    Provider,
    ProviderParts,
    ResponseParser,
    ServiceContext,
    Translation,
    Translator,
    current_call,
    lazy_provider,
)
from trunkline.authoring.rate_limits import NO_RATE_LIMITS, RateLimitHeaders
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import TrunklineError, UnsupportedOperation
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse
from trunkline.settings import Settings

S = TypeVar("S", bound=Settings)
V = TypeVar("V")
R = TypeVar("R")


def provider_with_formats(
    *,
    name: str,
    settings: type[S],
    auth: Callable[[ServiceContext[S]], Auth],
    format_of: Callable[[ServiceContext[S], str], str],
    load: Callable[[], Mapping[str, ProviderParts[S] | Provider]],
    shared_operations: Callable[[ServiceContext[S]], Operations] = lambda context: Operations(),
    advice: Callable[[ServiceContext[S], TrunklineError], Advice | None] = lambda context, error: None,
    rate_limits: RateLimitHeaders = NO_RATE_LIMITS,
    bytes_only_media: tuple[MediaClass, ...] = (),
) -> Provider:
    """Return a provider that translates and parses each call in the wire format of the call's model.

    - `auth` authenticates the requests of all formats; its `sign` can look at the request's URL.
    - `format_of` returns the name of a model's format, a key of what `load` returns. It may raise a `CallError`.
    - `load` imports the modules of the formats and returns their parts, or a whole `Provider` for a format. Of either,
      the translator, the response parser and the operations are used. It is called once, when the first service opens.
    - `shared_operations` returns the operations that do not depend on a model, such as `list_models` and `batches`.
      They take precedence over those of the formats. Operations whose value names no model are never a format's.
    """
    formats = cache(load)

    def load_provider() -> ProviderParts[S]:
        def translator(context: ServiceContext[S]) -> Translator:
            translators = {name: parts.translator(context) for name, parts in formats().items()}
            return _Translator(_chosen_formats(context, format_of), translators)

        def response_parser(context: ServiceContext[S]) -> ResponseParser:
            parsers = {name: parts.response_parser(context) for name, parts in formats().items()}
            return _ResponseParser(_chosen_formats(context, format_of), parsers)

        def operations(context: ServiceContext[S]) -> Operations:
            of_formats = {name: parts.operations(context) for name, parts in formats().items()}
            return _operations(_chosen_formats(context, format_of), of_formats, shared_operations(context))

        return ProviderParts(
            auth=auth,
            translator=translator,
            response_parser=response_parser,
            operations=operations,
            advice=advice,
            rate_limits=rate_limits,
        )

    return lazy_provider(name=name, settings=settings, load=load_provider, bytes_only_media=bytes_only_media)


_OF_NO_MODEL = frozenset({"list_models", "batches", "get_response", "cancel_response", "resume_stream"})
"""The operations whose value does not name a model, so that it chooses no format."""


class _Choices:
    """The formats of the calls of one service that have not ended."""

    def __init__(self) -> None:
        self.by_call: WeakKeyDictionary[Call, str] = WeakKeyDictionary()


@attrs.frozen
class _ChosenFormats(Generic[S]):
    """Chooses the format of each call when it is translated; the response is then parsed in the same format."""

    context: ServiceContext[S]
    format_of: Callable[[ServiceContext[S], str], str]
    by_call: WeakKeyDictionary[Call, str]

    def choose(self, model: str) -> str:
        name = self.format_of(self.context, model)
        # By call rather than in `Call.state`, which a middleware's second call, with another model, shares.
        if (call := current_call()) is not None:
            self.by_call[call] = name
        return name

    @property
    def chosen(self) -> str:
        call = current_call()
        name = self.by_call.get(call) if call is not None else None
        # Outside of a call, as in a test of a parser.
        return self.format_of(self.context, self.context.settings.default_model or "") if name is None else name


def _chosen_formats(
    context: ServiceContext[S], format_of: Callable[[ServiceContext[S], str], str]
) -> _ChosenFormats[S]:
    return _ChosenFormats(context, format_of, context.keep(_Choices, _Choices).by_call)


@attrs.frozen
class _Translator:
    formats: _ChosenFormats[Any]
    translators: Mapping[str, Translator]

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        return self.translators[self.formats.choose(request.model or "")].translate(request, stream=stream)


@attrs.frozen
class _ResponseParser:
    formats: _ChosenFormats[Any]
    parsers: Mapping[str, ResponseParser]

    def stream(self) -> tuple[Framer[Any], Parser[Any]]:
        return self.parsers[self.formats.chosen].stream()

    def body(self, wire_response: WireResponse) -> ChatResponse:
        return self.parsers[self.formats.chosen].body(wire_response)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        return self.parsers[self.formats.chosen].error(wire_response)


def _operations(formats: _ChosenFormats[Any], of_formats: Mapping[str, Operations], shared: Operations) -> Operations:
    found: dict[str, Any] = {}
    for field in attrs.fields(Operations):
        own = getattr(shared, field.name)
        by_format = {name: getattr(operations, field.name) for name, operations in of_formats.items()}
        if own is not None:
            found[field.name] = own
        elif field.name not in _OF_NO_MODEL and any(by_format.values()):
            found[field.name] = _by_format(field.name, formats, by_format)
    return Operations(**found)


def _by_format(
    name: str, formats: _ChosenFormats[Any], by_format: Mapping[str, Operation[Any, Any] | None]
) -> Operation[Any, Any]:
    """Return the operation that is that of the format of its value's model."""

    def operation(chosen: str) -> Operation[Any, Any]:
        found = by_format[chosen]
        if found is None:
            context = formats.context
            raise UnsupportedOperation(f"service {context.name!r}: this model of {context.provider!r} has no {name}")
        return found

    def build(context: ServiceContext[Any], value: Any) -> WireRequest | Translation:
        model = value if isinstance(value, str) else getattr(value, "model", None)
        return operation(formats.choose(model or "")).build(context, value)

    def parse(context: ServiceContext[Any], wire_response: WireResponse) -> Any:
        return operation(formats.chosen).parse(context, wire_response)

    repeatable = all(found.repeatable for found in by_format.values() if found is not None)
    return Operation(build=build, parse=parse, name=name, repeatable=repeatable)
