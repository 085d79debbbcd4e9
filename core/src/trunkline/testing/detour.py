"""Leads a provider whose transport is not HTTP to a loopback server, so that its wire can be tested on real sockets."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

import attrs

from trunkline._http.httpx2 import HTTPTransport
from trunkline.authoring.provider import ByteStream, ServiceContext, Timeouts, Transport, hookimpl
from trunkline.authoring.wire import WireRequest


class _ToServer(HTTPTransport):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, wire_request: WireRequest, timeouts: Timeouts) -> AbstractAsyncContextManager[ByteStream]:
        """Send to the server, whatever the request's own host."""
        path = urlsplit(wire_request.url).path
        return super().send(attrs.evolve(wire_request, url=self._url + path), timeouts)


class Detour:
    """An extension that puts HTTP to the server at `url` in the place of a provider's own transport."""

    def __init__(self, url: str) -> None:
        self._url = url

    @hookimpl(tryfirst=True)
    def trunkline_transport(self, context: ServiceContext[Any]) -> Transport:
        """Implements the hook."""
        return _ToServer(self._url)
