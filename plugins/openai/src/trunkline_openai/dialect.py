"""The Chat Completions dialect as a `Provider` that others make theirs.

A provider whose wire is this dialect is one expression:

    acme = chat_completions(
        name="acme",
        settings=AcmeSettings,
        profile=Profile(name="acme", stream_options=True),
    )

with `AcmeSettings` a class of settings that has `api_url` and `api_key`. What differs goes into the `profile` (quirks),
`auth` (another header), `url` (another way to the endpoints), or a subclass of `ChatTranslator` or `ChatParser`.
Nothing here imports the translator or the parser before a service opens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from trunkline.authoring.auth import HeaderAuth, NoAuth
from trunkline.authoring.provider import Auth, Operations, Provider, ResponseParser, ServiceContext, Translator
from trunkline.authoring.urls import endpoint_url, plain_http_note
from trunkline.secrets import Secret
from trunkline.settings import Settings

from trunkline_openai.profile import Profile
from trunkline_openai.urls import base_url

if TYPE_CHECKING:
    from trunkline_openai.parse import ChatParser
    from trunkline_openai.translate import ChatTranslator, UrlFor

ProfileFor: TypeAlias = Profile | Callable[[Any], Profile]
"""A profile, or a function that gives it for a service's settings."""

NotesFor: TypeAlias = Callable[[Any], tuple[str, ...]]
"""Gives what a user should know of a service's URL, from its settings."""


def bearer_auth(context: ServiceContext[Any]) -> Auth:
    """`Authorization: Bearer` with the setting `api_key`; nothing without one, or where `headers` has its own."""
    settings = context.settings
    api_key = getattr(settings, "api_key", None)
    if not isinstance(api_key, Secret) or any(name.lower() == "authorization" for name in settings.headers):
        return NoAuth()
    return HeaderAuth("authorization", api_key.reveal(), prefix="Bearer ")


def default_url(settings: Settings, path: str, model: str | None) -> str:
    """The URL of an endpoint under the setting `api_url`."""
    base, _ = base_url(settings.api_url)  # type: ignore[attr-defined]  # every provider of this dialect has it
    return endpoint_url(base, path)


def profile_for(settings: Settings) -> Profile:
    """The profile in the setting `profile`."""
    found: Profile = settings.profile  # type: ignore[attr-defined]  # only for settings that have one
    return found


def url_notes(settings: Any) -> tuple[str, ...]:
    """What a user should know of the setting `api_url`."""
    if getattr(settings, "api_url", None) is None:
        return ()  # a provider that is not reached over HTTP
    base, notes = base_url(settings.api_url)
    plain = plain_http_note(base) if getattr(settings, "api_key", None) else None
    return (*notes, plain) if plain else notes


def log_notes(context: ServiceContext[Any], notes: NotesFor = url_notes) -> None:
    """Log, at WARNING, what should be known of the service's URL. Called when the service opens."""
    told = notes(context.settings)
    if told:
        import logging

        logger = logging.getLogger("trunkline.openai")
        for note in told:
            logger.warning("service %r: setting 'api_url': %s", context.name, note)


def chat_completions(
    *,
    name: str,
    settings: type[Settings],
    profile: ProfileFor,
    auth: Callable[[ServiceContext[Any]], Auth] = bearer_auth,
    url: UrlFor = default_url,
    notes: NotesFor = url_notes,
    translator: Callable[[], type[ChatTranslator]] | None = None,
    parser: Callable[[], type[ChatParser]] | None = None,
    operations: Operations | Callable[[ServiceContext[Any]], Operations] | None = None,
) -> Provider:
    """A provider that speaks the dialect.

    `url` gives the URL of an endpoint from the settings, the endpoint's path and the request's model, and `notes` what
    is logged of the URL when a service opens. `translator` and `parser` give subclasses of `ChatTranslator` and
    `ChatParser`; they are functions, so that importing those classes can wait. `operations` replaces listing models and
    embedding.
    """

    def quirks(context: ServiceContext[Any]) -> Profile:
        return profile(context.settings) if callable(profile) else profile

    def make_translator(context: ServiceContext[Any]) -> Translator:
        from trunkline_openai.translate import ChatTranslator

        log_notes(context, notes)
        kind = translator() if translator is not None else ChatTranslator
        return kind(context, profile=quirks(context), url=url)

    def make_parser(context: ServiceContext[Any]) -> ResponseParser:
        from trunkline_openai.parse import ChatParser, ChatResponseParser

        kind = parser() if parser is not None else ChatParser
        return ChatResponseParser(context, profile=quirks(context), parser=kind)

    def make_operations(context: ServiceContext[Any]) -> Operations:
        from trunkline_openai.operations import chat_operations

        return chat_operations(quirks(context), url)

    return Provider(
        name=name,
        settings=settings,
        auth=auth,
        translator=make_translator,
        response_parser=make_parser,
        operations=operations if operations is not None else make_operations,
    )
