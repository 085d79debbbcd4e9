"""Providers that speak the Chat Completions API or the Responses API, made by one function call.

    acme = chat_completions(
        name="acme",
        settings=AcmeSettings,
        profile=Profile(name="acme", stream_options=True),
    )

`AcmeSettings` is a settings class with `api_url` and `api_key`. The `profile` describes how the server differs from
OpenAI. If a profile is not enough, pass `auth` (other credentials), `url` (other endpoints), `headers` (further
headers), or `load`, a function that imports subclasses of `ChatTranslator` and `ChatParser`.

`responses` has the same arguments. `chat_or_responses` joins both, for a provider with a setting `api`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from trunkline.authoring.advice import Advice
from trunkline.authoring.auth import key_auth
from trunkline.authoring.provider import (
    Auth,
    BatchOperations,
    Operations,
    Provider,
    ProviderParts,
    ServiceContext,
    Transport,
    lazy_provider,
)
from trunkline.authoring.rate_limits import RateLimitHeaders
from trunkline.errors import TrunklineError
from trunkline.settings import Settings

from trunkline_openai.profile import Profile, ProfileFor
from trunkline_openai.urls import HeadersFor, S, UrlFor, default_url, no_headers

if TYPE_CHECKING:
    from trunkline_openai.parse import ChatParser
    from trunkline_openai.responses_parse import ResponsesParser
    from trunkline_openai.responses_translate import ResponsesTranslator
    from trunkline_openai.translate import ChatTranslator


@attrs.frozen(kw_only=True)
class ChatParts:
    """What a provider of Chat Completions replaces. A part that is `None` stays OpenAI's.

    `translator` is a subclass of `trunkline_openai.translate.ChatTranslator`. It may override `body`, `family`,
    `takes`, `facts_about`, `for_model` and the class attribute `history`; `body` returns the JSON object to send.

    `parser` is a subclass of `trunkline_openai.parse.ChatParser`. It may override `take`, which reads a chunk or a
    whole body, `content_part`, `text`, `reasoning`, `reasoning_end`, `keep`, `keep_logprobs`, `sources` and `error`.
    Call the method of the base class for whatever your server sends as others do. All other methods are internal.

    `operations` replaces the operations besides chat. `transport` replaces HTTP, for a model that is not behind a
    server.

    `advice` returns what to do about an error: see `trunkline.authoring.advice`. `rate_limits` has the names of the
    server's headers about rate limits, if they are none that the known servers send. `batches` are the operations on
    batches; `trunkline_openai.batches.batch_operations` makes those of OpenAI's API. There are none by default.
    """

    translator: type[ChatTranslator] | None = None
    parser: type[ChatParser] | None = None
    operations: Callable[[ServiceContext[Any]], Operations] | None = None
    transport: Callable[[ServiceContext[Any]], Transport] | None = None
    advice: Callable[[ServiceContext[Any], TrunklineError], Advice | None] | None = None
    rate_limits: RateLimitHeaders | None = None
    batches: BatchOperations | None = None


@attrs.frozen(kw_only=True)
class ResponsesParts:
    """What a provider of the Responses API replaces. A part that is `None` stays OpenAI's.

    `translator` is a subclass of `trunkline_openai.responses_translate.ResponsesTranslator`. It may override `body`,
    `family`, `takes`, `facts_about`, `for_model` and `wants_encrypted_reasoning`.

    `parser` is a subclass of `trunkline_openai.responses_parse.ResponsesParser`. It may override `read_error`.

    The other parts are as in `ChatParts`.
    """

    translator: type[ResponsesTranslator] | None = None
    parser: type[ResponsesParser] | None = None
    operations: Callable[[ServiceContext[Any]], Operations] | None = None
    transport: Callable[[ServiceContext[Any]], Transport] | None = None
    advice: Callable[[ServiceContext[Any], TrunklineError], Advice | None] | None = None
    rate_limits: RateLimitHeaders | None = None
    batches: BatchOperations | None = None


def bearer_auth(context: ServiceContext[Settings]) -> Auth:
    """Return an `Auth` that sends the setting `api_key` as a bearer token.

    It sends nothing if there is no key, or if the user's setting `headers` contains `Authorization`.
    """
    settings = context.settings
    return key_auth(getattr(settings, "api_key", None), "authorization", headers=settings.headers, prefix="Bearer ")


def chat_completions(
    *,
    name: str,
    settings: type[S],
    profile: ProfileFor[S],
    auth: Callable[[ServiceContext[S]], Auth] = bearer_auth,
    url: UrlFor[S] = default_url,
    headers: HeadersFor[S] = no_headers,
    load: Callable[[], ChatParts] = ChatParts,
) -> Provider:
    """Return a provider that speaks the Chat Completions API.

    - `settings`: the class of the provider's settings. `profile`, `url` and `headers` are called with its objects.
    - `profile`: how its server differs from OpenAI, or a function that returns this for the settings.
    - `auth`: returns the authentication. The default sends the setting `api_key` as a bearer token.
    - `url`: returns the URL of an endpoint for the settings, the endpoint's path and the request's model.
    - `headers`: returns further headers of each request that are no credentials, such as the name of a workspace. The
      user's setting `headers` takes precedence over them. Credentials belong into `auth`.
    - `load`: returns the parts that the provider replaces. It is called when the first service opens, and can import
      their modules then. `ChatParts.operations` sends the requests that it builds without these `headers`.
    """

    def profile_of(context: ServiceContext[S]) -> Profile:
        return profile if isinstance(profile, Profile) else profile(context.settings)

    def load_parts() -> ProviderParts[S]:
        from trunkline_openai.advice import compatible_advice
        from trunkline_openai.operations import chat_operations
        from trunkline_openai.parse import ChatParser, ChatResponseParser
        from trunkline_openai.rate_limits import RATE_LIMITS
        from trunkline_openai.translate import ChatTranslator

        parts = load()
        translator, parser = parts.translator or ChatTranslator, parts.parser or ChatParser
        return ProviderParts(
            auth=auth,
            translator=lambda context: translator(context, profile=profile_of(context), url=url, headers=headers),
            response_parser=lambda context: ChatResponseParser(context, profile=profile_of(context), parser=parser),
            transport=parts.transport or _no_transport,
            operations=_with_batches(
                parts.operations or (lambda context: chat_operations(profile_of(context), url, headers)), parts.batches
            ),
            advice=parts.advice or compatible_advice,
            rate_limits=parts.rate_limits or RATE_LIMITS,
        )

    return lazy_provider(name=name, settings=settings, load=load_parts)


def responses(
    *,
    name: str,
    settings: type[S],
    profile: ProfileFor[S],
    auth: Callable[[ServiceContext[S]], Auth] = bearer_auth,
    url: UrlFor[S] = default_url,
    headers: HeadersFor[S] = no_headers,
    load: Callable[[], ResponsesParts] = ResponsesParts,
) -> Provider:
    """Return a provider that speaks the Responses API.

    The arguments are those of `chat_completions`. `Profile.responses` says what the server accepts, and `Profile.takes`
    has no meaning. The paths that `url` is called with begin with `/responses`, apart from `/models` and `/embeddings`.
    """

    def load_parts() -> ProviderParts[S]:
        from trunkline_openai.advice import compatible_advice
        from trunkline_openai.rate_limits import RATE_LIMITS
        from trunkline_openai.responses_operations import responses_operations
        from trunkline_openai.responses_parse import ResponsesParser
        from trunkline_openai.responses_translate import ResponsesTranslator

        parts = load()
        kind, parser = parts.translator or ResponsesTranslator, parts.parser or ResponsesParser

        def translator(context: ServiceContext[Any]) -> ResponsesTranslator:
            chosen = profile if isinstance(profile, Profile) else profile(context.settings)
            return kind(context, profile=chosen, url=url, headers=headers)

        return ProviderParts(
            auth=auth,
            translator=translator,
            response_parser=parser,
            transport=parts.transport or _no_transport,
            operations=_with_batches(parts.operations or responses_operations(translator, parser), parts.batches),
            advice=parts.advice or compatible_advice,
            rate_limits=parts.rate_limits or RATE_LIMITS,
        )

    return lazy_provider(name=name, settings=settings, load=load_parts)


def chat_or_responses(chat: Provider, responses: Provider) -> Provider:
    """Return the provider that is `chat` or `responses`, as the setting `api` of a service says."""

    def chosen(context: ServiceContext[Any]) -> Provider:
        return responses if context.settings.api == "responses" else chat

    return attrs.evolve(
        chat,
        translator=lambda context: chosen(context).translator(context),
        response_parser=lambda context: chosen(context).response_parser(context),
        operations=lambda context: chosen(context).operations(context),
    )


def _with_batches(
    operations: Callable[[ServiceContext[Any]], Operations], batches: BatchOperations | None
) -> Callable[[ServiceContext[Any]], Operations]:
    return operations if batches is None else lambda context: attrs.evolve(operations(context), batches=batches)


def _no_transport(context: ServiceContext[Any]) -> None:
    return None
