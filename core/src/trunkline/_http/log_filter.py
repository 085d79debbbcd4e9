"""Keep secrets out of what the HTTP library logs."""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar

from trunkline._urls import redact_url

sending: ContextVar[bool] = ContextVar("trunkline_sending", default=False)
"""Whether this task is inside the HTTP library on behalf of a call of ours."""

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"]+", re.IGNORECASE)

_DETAIL = re.compile(r" (?:return_value|exception)=.*", re.DOTALL)


def _without_secrets(record: logging.LogRecord) -> bool:
    # The HTTP library logs URLs with their queries and, at DEBUG, the answer's headers: a redirect's target, say.
    if sending.get():
        text = _URL.sub(lambda found: redact_url(found[0]), record.getMessage())
        record.msg, record.args = _DETAIL.sub("", text), ()
    return True


def guard_logs(library: str) -> None:
    """Keep secrets out of what an HTTP library logs of our own requests; the application's are left as they are."""
    core = library.replace("httpx", "httpcore")
    for name in (library, *(f"{core}.{part}" for part in ("connection", "http11", "http2", "proxy", "socks"))):
        logger = logging.getLogger(name)
        if _without_secrets not in logger.filters:
            logger.addFilter(_without_secrets)
