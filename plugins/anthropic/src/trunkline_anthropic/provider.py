"""Providers that speak the Messages API, made by one function call.

    acme = messages_api(name="acme", settings=AcmeSettings, endpoint=acme_endpoint)

    def acme_endpoint(settings: AcmeSettings) -> MessagesEndpoint:
        return MessagesEndpoint(url=at_root(settings.api_url))

`AcmeSettings` is a settings class with `api_url` and `api_key`. The endpoint describes how the place differs from
Anthropic's own API. If this is not enough, pass `auth` (other credentials) or `load`, a function that imports the parts
that the provider replaces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from trunkline.authoring.advice import Advice
from trunkline.authoring.auth import key_auth
from trunkline.authoring.provider import (
    Auth,
    Operations,
    Provider,
    ProviderParts,
    ServiceContext,
    lazy_provider,
)
from trunkline.authoring.rate_limits import RateLimitHeaders
from trunkline.errors import TrunklineError
from trunkline.settings import Settings

if TYPE_CHECKING:
    from trunkline_anthropic.endpoint import EndpointFor, S
    from trunkline_anthropic.parse import MessagesParser
    from trunkline_anthropic.translate import MessagesTranslator


@attrs.frozen(kw_only=True)
class MessagesParts:
    """What a provider of the Messages API replaces. A part that is `None` stays Anthropic's.

    `translator` is a subclass of `trunkline_anthropic.translate.MessagesTranslator`, which may override `translate`.
    `parser` is a subclass of `trunkline_anthropic.parse.MessagesParser`, which may override `stream`, for example to
    frame a stream differently, `body` and `error`. `operations` replaces counting tokens and listing models.

    `advice` returns what to do about an error: see `trunkline.authoring.advice`. Without it there is none, since the
    advice of `anthropic` names pages of Anthropic's console. `rate_limits` has the names of the place's headers about
    rate limits, if they are not those of Anthropic or Azure.
    """

    translator: type[MessagesTranslator] | None = None
    parser: type[MessagesParser] | None = None
    operations: Callable[[ServiceContext[Any]], Operations] | None = None
    advice: Callable[[ServiceContext[Any], TrunklineError], Advice | None] | None = None
    rate_limits: RateLimitHeaders | None = None


def api_key_auth(context: ServiceContext[Settings]) -> Auth:
    """Return an `Auth` that sends the setting `api_key` in the header `x-api-key`.

    It sends nothing if there is no key, or if the user's setting `headers` authenticates.
    """
    settings = context.settings
    return key_auth(getattr(settings, "api_key", None), "x-api-key", headers=settings.headers)


def messages_parts(
    *,
    endpoint: EndpointFor[S],
    auth: Callable[[ServiceContext[S]], Auth] = api_key_auth,
    parts: MessagesParts = MessagesParts(),
) -> ProviderParts[S]:
    """Return the parts of a provider, for `lazy_provider` or as one wire format of several.

    It imports the translator and the parser, so call it when a service opens. See `messages_api`.
    """
    from trunkline_anthropic.operations import messages_operations
    from trunkline_anthropic.parse import MessagesParser
    from trunkline_anthropic.rate_limits import RATE_LIMITS
    from trunkline_anthropic.translate import MessagesTranslator

    translator, parser = parts.translator or MessagesTranslator, parts.parser or MessagesParser
    return ProviderParts(
        auth=auth,
        translator=lambda context: translator(context, endpoint=endpoint(context.settings)),
        response_parser=parser,
        operations=parts.operations or (lambda context: messages_operations(context, endpoint)),
        advice=parts.advice or _no_advice,
        rate_limits=parts.rate_limits or RATE_LIMITS,
    )


def messages_api(
    *,
    name: str,
    settings: type[S],
    endpoint: EndpointFor[S],
    auth: Callable[[ServiceContext[S]], Auth] = api_key_auth,
    load: Callable[[], MessagesParts] = MessagesParts,
) -> Provider:
    """Return a provider that speaks the Messages API.

    - `settings`: the class of the provider's settings.
    - `endpoint`: returns where the API is and how it differs from Anthropic's own, for the settings.
    - `auth`: returns the authentication. The default sends the setting `api_key` in the header `x-api-key`.
    - `load`: returns the parts that the provider replaces. It is called when the first service opens, and can import
      their modules then.
    """
    return lazy_provider(
        name=name, settings=settings, load=lambda: messages_parts(endpoint=endpoint, auth=auth, parts=load())
    )


def _no_advice(context: ServiceContext[Any], error: TrunklineError) -> Advice | None:
    return None
