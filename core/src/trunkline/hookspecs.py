"""The hooks of Trunkline.

A provider implements the first four; a `Provider` object does so with its fields. An extension may override any of them
(`tryfirst=True`), wrap any of them (`wrapper=True`), or add an observer or a middleware.

The order of the setting `extensions` is that of the hooks: the first extension is asked first, and its wrapper and its
middleware are the outermost. An implementation with `tryfirst=True` is asked before all others.

Each hook is called once, when a service opens, and only for the services that use the provider or extension. A hook
does no I/O; it returns an object whose methods are then called for each request and each chunk.
"""

from __future__ import annotations

import pluggy

from trunkline.authoring.middleware import Middleware
from trunkline.authoring.provider import Auth, Observer, ResponseParser, ServiceContext, Translator, Transport
from trunkline.settings import Settings

hookspec: pluggy.HookspecMarker = pluggy.HookspecMarker("trunkline")


@hookspec(firstresult=True)
def trunkline_auth(context: ServiceContext[Settings]) -> Auth | None:
    """Return the `Auth` that signs the service's requests. The first result that is not `None` is used.

    Override it to use a token exchange of your own; wrap it to add a signature to the provider's authentication.
    """


@hookspec(firstresult=True)
def trunkline_translator(context: ServiceContext[Settings]) -> Translator | None:
    """Return the `Translator` from requests to the wire format. The first result that is not `None` is used."""


@hookspec(firstresult=True)
def trunkline_response_parser(context: ServiceContext[Settings]) -> ResponseParser | None:
    """Return the `ResponseParser` for streams, bodies and errors. The first result that is not `None` is used."""


@hookspec(firstresult=True)
def trunkline_transport(context: ServiceContext[Settings]) -> Transport | None:
    """Return a `Transport` for a provider that is not reached over HTTP, or `None` to use the core's HTTP transport.

    The core implements this hook itself, after all others. A wrapper therefore always receives the transport in use.
    """


@hookspec
def trunkline_observer(context: ServiceContext[Settings]) -> Observer | None:
    """Return an `Observer` of the service's calls. Every observer that is returned is notified of each call."""


@hookspec
def trunkline_middleware(context: ServiceContext[Settings]) -> Middleware | None:
    """Return a `Middleware` that wraps the service's calls. All that are returned are used.

    They are nested in the order of the setting `extensions`: the first one is the outermost. Observers see the calls
    that the innermost one makes.
    """
