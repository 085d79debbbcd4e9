"""The private parts of aiobotocore that this plugin relies on, all in one place.

Each part has a test in `tests/test_bedrock_private_names.py` that holds it against the installed version, and
`pyproject.toml` caps the range of versions to those that were tried. Importing this module imports aiobotocore and
botocore, which blocks for up to a second: import it in a worker thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import httpx2
from aiobotocore.httpxsession import HttpxSession  # type: ignore[import-untyped]
from botocore.exceptions import ReadTimeoutError  # type: ignore[import-untyped]
from trunkline.errors import ProtocolViolation

DEBUG_LOGGERS = (
    "aiobotocore.credentials",
    "aiobotocore.regions",
    "aiobotocore.tokens",
    "aiobotocore.utils",
)
"""The loggers that at DEBUG write requests and responses of the token services, with the secrets in them.

aiobotocore's other modules use botocore's loggers.
"""


RESPONSE_LIMIT = 1024 * 1024
"""The largest response that is read from a service that provides credentials, in bytes. Credentials have a few KB."""

REQUEST_SECONDS = 60.0
"""How long a request to such a service may take, in seconds.

The timeouts of aiobotocore apply to each read, so a server that sends a byte now and then would never reach them.
"""


class _LimitedStream(httpx2.AsyncByteStream):
    """The body of a response, which raises `ProtocolViolation` if it is larger than `RESPONSE_LIMIT`."""

    def __init__(self, response: httpx2.Response) -> None:
        self._host = response.url.host
        self._stream: Any = response.stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        chunks = aiter(self._stream)
        async for chunk in chunks:
            size += len(chunk)
            if size > RESPONSE_LIMIT:
                break
            yield chunk
        if size > RESPONSE_LIMIT:
            await self._stream.aclose()
            with suppress(Exception):
                async for _ in chunks:  # ends the generators inside, which the garbage collector would have to end
                    pass
            raise ProtocolViolation(
                f"fetching AWS credentials failed: the response of {self._host} is larger than {RESPONSE_LIMIT} bytes"
            )

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _limit_response(response: httpx2.Response) -> None:
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":  # a small body could become a very large one
        raise ProtocolViolation(
            f"fetching AWS credentials failed: the response of {response.url.host} is compressed ({encoding}), which "
            f"the request did not allow"
        )
    response.stream = _LimitedStream(response)


async def _send(session: Any, request: Any) -> Any:
    try:
        with anyio.fail_after(REQUEST_SECONDS):
            return await HttpxSession.send(session, request)
    except TimeoutError as error:
        raise ReadTimeoutError(endpoint_url=request.url, error=error) from None


async def _prepare_request(request: httpx2.Request) -> None:
    request.headers["accept-encoding"] = "identity"
    # Names of aiobotocore's own for the request target: the first for direct connections, the second for a proxy,
    # where plain HTTP needs the absolute form.
    request.extensions.pop("target", None)
    if request.url.scheme == "https":
        request.extensions.pop("aiobotocore_raw_proxy_target", None)


def _make_client(session: Any) -> Any:
    client = HttpxSession._make_async_client(session)
    client.event_hooks = {"request": [_prepare_request], "response": [_limit_response]}
    return client


class LimitedSession(HttpxSession):  # type: ignore[misc]  # aiobotocore has no types
    """The HTTP session that runs on asyncio and trio, with limits and with request targets in origin form.

    It reads at most `RESPONSE_LIMIT` bytes of a response, and a request takes at most `REQUEST_SECONDS`.

    The origin form is `GET /path`. aiobotocore sends the absolute form (`GET http://host/path`) to every server, so
    that S3's odd paths stay as they are. That form is meant for proxies, and some metadata and token services refuse
    it.
    """

    _make_async_client = _make_client  # pyright: ignore[reportAssignmentType]  # the name of `self` differs
    send = _send  # pyright: ignore[reportAssignmentType]


def limit_metadata_sessions(resolver: Any) -> None:
    """Make the sessions for the container's and the instance's metadata service work as a `LimitedSession`.

    These two providers create HTTP sessions of their own, which no setting reaches.
    """
    for provider in resolver.providers:
        for attribute in ("_role_fetcher", "_fetcher"):
            session = getattr(getattr(provider, attribute, None), "_session", None)
            if isinstance(session, HttpxSession):
                session._make_async_client = partial(_make_client, session)
                session.send = partial(_send, session)
