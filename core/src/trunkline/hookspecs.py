"""Every hook of Trunkline, typed and documented.

A provider implements the first four (a `Provider` value does so from its fields); an extension may override any of them
(`tryfirst=True`), wrap one (`wrapper=True`), or add an observer. Hooks are called once, when a service opens, and only
for the service that the plugin or extension belongs to. They do no I/O and return typed objects; what is done for each
request and each chunk is plain method calls on those.
"""

from __future__ import annotations

from typing import Any

import pluggy

from trunkline.authoring.provider import Auth, Observer, ResponseParser, ServiceContext, Translator, Transport

hookspec = pluggy.HookspecMarker("trunkline")


@hookspec(firstresult=True)
def trunkline_auth(context: ServiceContext[Any]) -> Auth | None:
    """Give the `Auth` that signs the service's requests. The first result that is not `None` is used.

    Override it for a company's own token exchange; wrap it to add a signature to what the provider does.
    """


@hookspec(firstresult=True)
def trunkline_translator(context: ServiceContext[Any]) -> Translator | None:
    """Give the `Translator` from requests to the wire format. The first result that is not `None` is used."""


@hookspec(firstresult=True)
def trunkline_response_parser(context: ServiceContext[Any]) -> ResponseParser | None:
    """Give the `ResponseParser` for streams, whole bodies and errors. The first result that is not `None` is used."""


@hookspec(firstresult=True)
def trunkline_transport(context: ServiceContext[Any]) -> Transport | None:
    """Give a `Transport` for a provider that is not reached over HTTP; `None` means the core's own.

    The core's own comes last, so that a wrapper sees the transport that is used, whichever it is.
    """


@hookspec
def trunkline_observer(context: ServiceContext[Any]) -> Observer | None:
    """Give an `Observer` of the service's calls. All that are given are told of each call."""
