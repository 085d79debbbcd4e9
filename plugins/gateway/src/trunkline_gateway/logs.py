"""The gateway's log: one line for each call, without messages, answers and keys."""

from __future__ import annotations

import json
import logging
from typing import Literal

from trunkline_gateway.usage import CallRecord

calls = logging.getLogger("trunkline_gateway.calls")


def log_call(record: CallRecord) -> None:
    """Log a call that has ended."""
    if calls.isEnabledFor(logging.INFO):
        calls.info("%s %s", record.api, record.outcome, extra={"call": fields(record)})


def fields(record: CallRecord) -> dict[str, object]:
    """Return what is logged of a call."""
    return {
        "request_id": f"req_{record.id}",
        "key": record.key_name,
        "api": record.api,
        "service": record.service,
        "model": record.model,
        "outcome": record.outcome,
        "status": record.status,
        "seconds": round(record.seconds, 4),
        "first_token_seconds": record.first_token_seconds and round(record.first_token_seconds, 4),
        "input_tokens": record.input_tokens,
        "output_tokens": record.output_tokens,
        "cost_nano_usd": record.cost,
        "error": record.error,
    }


class _Formatter(logging.Formatter):
    def __init__(self, as_json: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        call: dict[str, object] = getattr(record, "call", {})
        if self._as_json:
            line: dict[str, object] = {
                "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
                **call,
            }
            if record.exc_info:
                line["exception"] = self.formatException(record.exc_info)
            return json.dumps(line, ensure_ascii=True)
        # A name may contain a line break, which would look like a line of the log; as JSON it does not.
        more = " ".join(
            f"{name}={json.dumps(value)}" for name, value in call.items() if value is not None and name != "outcome"
        )
        first, *rest = super().format(record).split("\n")
        return "\n".join([f"{first} {more}".rstrip(), *(f"    {line}" for line in rest)])


def configure(form: Literal["text", "json"]) -> None:
    """Write the logs of the gateway, of the core and of the web server to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(form == "json"))
    logging.getLogger("coredis").setLevel(logging.CRITICAL)  # the limiter says when the server is lost and back
    for name in ("trunkline_gateway", "trunkline", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        # The web server warns of each wrong request, which anybody may send for ever.
        logger.setLevel(logging.INFO if name != "uvicorn.error" else logging.ERROR)
