"""An extension that sends the requests of an in-process provider to a loopback server, to test it on real sockets."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

import attrs

from trunkline._http.httpx2 import HTTPTransport
from trunkline.authoring.provider import ByteStream, SendOptions, ServiceContext, Transport, hookimpl
from trunkline.authoring.wire import WireRequest


class _ToServer(HTTPTransport):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, wire_request: WireRequest, options: SendOptions) -> AbstractAsyncContextManager[ByteStream]:
        """Send the request to the server, whatever its own host is."""
        path = urlsplit(wire_request.url).path
        return super().send(attrs.evolve(wire_request, url=self._url + path), options)


class Detour:
    """An extension that replaces a provider's own transport by HTTP to the server at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url

    @hookimpl(tryfirst=True)
    def trunkline_transport(self, context: ServiceContext[Any]) -> Transport:
        """Implements the hook."""
        return _ToServer(self._url)
