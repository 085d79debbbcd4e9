"""The private parts of aiobotocore that this plugin relies on, all in one place.

Each part has a test in `tests/test_bedrock_private_names.py` that holds it against the installed version, and
`pyproject.toml` caps the range of versions to those that were tried. Importing this module imports aiobotocore and
botocore, which blocks for up to a second: import it in a worker thread.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from aiobotocore.httpxsession import HttpxSession  # type: ignore[import-untyped]

DEBUG_LOGGERS = (
    "aiobotocore.credentials",
    "aiobotocore.regions",
    "aiobotocore.tokens",
    "aiobotocore.utils",
)
"""The loggers that at DEBUG write requests and responses of the token services, with the secrets in them.

aiobotocore's other modules use botocore's loggers.
"""


async def _use_origin_form(request: Any) -> None:
    # Names of aiobotocore's own for the request target: the first for direct connections, the second for a proxy,
    # where plain HTTP needs the absolute form.
    request.extensions.pop("target", None)
    if request.url.scheme == "https":
        request.extensions.pop("aiobotocore_raw_proxy_target", None)


def _make_client(session: Any) -> Any:
    client = HttpxSession._make_async_client(session)
    client.event_hooks = {"request": [_use_origin_form]}
    return client


class OriginFormSession(HttpxSession):  # type: ignore[misc]  # aiobotocore has no types
    """The HTTP session that runs on asyncio and trio, with request targets in origin form (`GET /path`).

    aiobotocore sends the absolute form (`GET http://host/path`) to every server, so that S3's odd paths stay as they
    are. That form is meant for proxies, and some metadata and token services refuse it.
    """

    _make_async_client = _make_client  # pyright: ignore[reportAssignmentType]  # the name of `self` differs


def use_origin_form_for_metadata(resolver: Any) -> None:
    """Send the requests to the container's and the instance's metadata service in origin form too.

    These two providers create HTTP sessions of their own, which no setting reaches.
    """
    for provider in resolver.providers:
        for attribute in ("_role_fetcher", "_fetcher"):
            session = getattr(getattr(provider, attribute, None), "_session", None)
            if isinstance(session, HttpxSession):
                session._make_async_client = partial(_make_client, session)
