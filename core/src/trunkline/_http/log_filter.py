"""Keep secrets out of the log records of httpx and httpcore.

httpx logs the URL of each request at INFO, and httpcore logs headers at DEBUG. Either may hold a secret: a key in the
query, the target of a redirect, a cookie. An application that turns these loggers on must still not find our secrets in
its logs, but must find its own requests unchanged.

So each logger of the libraries gets a filter, once for the process. The filter changes a record only if the context
variable `sending` is set, which the transport sets around each call into the library on our behalf. A context variable
belongs to a task, so requests that the application sends at the same time in other tasks are not affected. While a body
is read, records hold no headers and no URL, and the variable is not touched for each chunk. Only the record of a broken
body quotes what the server sent: that text is removed from the application's own records too.

The loggers are listed by name because a filter on a parent logger does not see the records of its children.
"""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar

from trunkline._urls import redact_url

sending: ContextVar[bool] = ContextVar("trunkline_sending", default=False)
"""Whether this task is inside the HTTP library for one of our calls."""

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"]+", re.IGNORECASE)

_DETAIL = re.compile(r" (?:return_value|exception)=.*", re.DOTALL)


def _without_secrets(record: logging.LogRecord) -> bool:
    # The message is formatted here, since the secret is usually in `record.args`.
    if sending.get():
        text = _URL.sub(lambda found: redact_url(found[0]), record.getMessage())
        record.msg, record.args = _DETAIL.sub("", text), ()
    elif str(record.msg).startswith("receive_response_body.failed"):
        record.msg, record.args = _DETAIL.sub("", record.getMessage()), ()
    return True


def guard_logs(library: str) -> None:
    """Filter the loggers of `httpx2` or `httpx`, and of the `httpcore` below it. Repeated calls have no effect."""
    core = library.replace("httpx", "httpcore")
    for name in (library, *(f"{core}.{part}" for part in ("connection", "http11", "http2", "proxy", "socks"))):
        logger = logging.getLogger(name)
        if _without_secrets not in logger.filters:
            logger.addFilter(_without_secrets)
