"""Fault class 80: invalid names, cursors and statuses."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

import attrs
import pytest

from trunkline.authoring.wire import WireRequest
from trunkline.errors import CallError, ConfigurationError, PluginError, RemoteError, TrunklineError
from trunkline.testing.case import ProviderCase
from trunkline.testing.server import Exchange

NAMES = ("a?b=c&d", "a#b", "a%2Fb", "a b", "a\r\nx: y", "a\x00b", "ä", "a;b", "..", "../../admin", "a/../b", "a\ud800")
"""Names of models that would change a URL if they became a part of it as they are."""

CURSORS = ("a&limit=1", "a#b", "a%20b", "a+b", "a b", "a?b", "a\r\nb", "ä", "../x")
"""Cursors that would change a query if they became a part of it as they are."""

METHODS = ("chat", "stream", "embed", "count_tokens")

STATUSES = ("000", "099", "101", "204", "205", "299", "304", "600", "999", "1000", "abc")


class HostileFaults(ProviderCase):
    """The tests of class 80."""

    @pytest.mark.parametrize("method", METHODS)
    async def test_fault_80_raw_names(self, method: str) -> None:
        """A model's name changes no other part of the URL. A name that no URL can hold is a `CallError`."""
        async with self.serve(self.fails(400)) as server, self.service(server.url, max_retries=0) as service:
            expected: tuple[list[str], str] | None = None
            for name in ("plain", *NAMES):
                before = len(server.requests)
                try:
                    if method == "embed":
                        await service.embed("text", model=name)
                    elif method == "count_tokens":
                        await service.count_tokens("text", model=name)
                    else:
                        request = attrs.evolve(self.sample_text.request, model=name)
                        await (service.chat(request) if method == "chat" else self.read(service, request))
                except (RemoteError, CallError):
                    pass
                if len(server.requests) == before:
                    continue  # refused, or this operation does not exist
                found = server.requests[-1].target
                path, query = [unquote(part) for part in found.partition("?")[0].split("/")], found.partition("?")[2]
                assert not {".", ".."} & set(path), f"{name!r} changed the path: {found}"
                if expected is None:
                    expected = path, query
                elif "/" not in name:
                    assert path == [part.replace("plain", name) for part in expected[0]], f"{name!r} changed {found}"
                    assert query == expected[1], f"{name!r} changed the query: {found}"

    def test_fault_80_raw_cursors(self) -> None:
        """The cursor of a page of models changes no other part of the URL."""
        operation = self.open_steps().operations.list_models
        if operation is None:
            pytest.skip("n/a: the provider has no list_models")
        plain = _parts(operation.translation(self.context(), "x:plain").wire_request)
        for cursor in CURSORS:
            path, query = _parts(operation.translation(self.context(), f"x:{cursor}").wire_request)
            assert path == plain[0], f"{cursor!r} changed the path"
            wanted = [(name, value.replace("plain", cursor)) for name, value in plain[1]]
            assert query == wanted, f"{cursor!r} changed the query"

    @pytest.mark.parametrize("status", STATUSES)
    async def test_fault_80_raw_statuses(self, status: str) -> None:
        """An odd status is an error of Trunkline, with and without a body."""
        for body in (b"", b"odd"):

            async def script(exchange: Exchange, body: bytes = body) -> None:
                await exchange.raw(
                    b"HTTP/1.1 %s \xff\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)
                )
                await exchange.hang_up()

            async with self.serve(script) as server, self.service(server.url, max_retries=0) as service:
                for method in ("chat", "stream"):
                    with pytest.raises(TrunklineError) as caught:
                        await self.ask(service, method)
                    assert not isinstance(caught.value, (PluginError, ConfigurationError)), caught.value


def _parts(wire_request: WireRequest) -> tuple[str, list[tuple[str, str]]]:
    url = urlsplit(wire_request.url)
    assert not url.fragment
    return url.path, parse_qsl(url.query, keep_blank_values=True)
