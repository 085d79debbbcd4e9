"""The requests of Anthropic's SDK, as an oracle of ours at every place that serves the Messages API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest

MODEL = "claude-sonnet-4-6"
REQUEST = ChatRequest(messages="Hi", model=MODEL, max_output_tokens=9)
FIELDS: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}
COUNTED: dict[str, Any] = {name: FIELDS[name] for name in ("model", "messages")}
"""The same request in the words of the SDK, and what of it is counted."""

VERSIONS = ("anthropic-version", "anthropic-beta", "content-type")


def sent_by(call: Callable[[httpx2.Client], object]) -> httpx2.Request:
    """Return the request that the SDK sends. `call` makes a client of the SDK and calls it."""
    caught: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        caught.append(request)
        return httpx2.Response(400, json={"error": {"message": "caught"}})

    with pytest.raises(Exception, match="caught"):
        call(httpx2.Client(transport=httpx2.MockTransport(handle)))
    [request] = caught
    return request


def assert_same(ours: WireRequest, theirs: httpx2.Request, headers: Iterable[str] = ()) -> None:
    """Compare the method, the URL, the body, the headers about versions, and further headers."""
    # The SDK leaves some characters of a path as they are that we encode. A server reads both as the same.
    assert (ours.method, unquote(ours.url)) == (theirs.method, unquote(str(theirs.url)))
    body = theirs.read()
    assert (json.loads(ours.body) if ours.body else None) == (json.loads(body) if body else None)
    names = (*(VERSIONS if body else VERSIONS[:2]), *headers)
    assert {name: ours.headers.get(name) for name in names} == {name: theirs.headers.get(name) for name in names}
