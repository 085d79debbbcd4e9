"""`CallLog`, the observer that writes the lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from trunkline import (
    Call,
    ChatResponse,
    ConfigurationError,
    Observer,
    ServiceContext,
    Settings,
    TrunklineError,
    Usage,
    hookimpl,
)

Fields: TypeAlias = Mapping[str, str | int | float]
WriteLine: TypeAlias = Callable[[bool, Fields], None]
"""Writes a line with its fields: as a warning if the first argument is true."""

_CANCELLATIONS = ("CancelledError", "Cancelled", "GeneratorExit")
"""The names of the exceptions that cancel a call on asyncio and on trio, and that close a coroutine."""


def line_writer(library: str, name: str) -> WriteLine:
    """Return the function that gives lines to the logger `name` of a library.

    Raises `ConfigurationError` if the library is not installed.
    """
    if library == "structlog":
        try:
            import structlog
        except ImportError:
            raise ConfigurationError(
                "the extension 'logging' writes to structlog, which is not installed: "
                "pip install 'trunkline-logging[structlog]'",
                setting="library",
            ) from None
        structured = structlog.get_logger(name)

        def write_structured(failed: bool, fields: Fields) -> None:
            (structured.warning if failed else structured.info)("call", **fields)

        return write_structured

    logger = logging.getLogger(name)

    def write(failed: bool, fields: Fields) -> None:
        level = logging.WARNING if failed else logging.INFO
        if logger.isEnabledFor(level):
            text = " ".join(map(_pair, fields.items()))
            record = logger.makeRecord(logger.name, level, __file__, 0, "%s", (text,), None)
            # Handlers that write JSON take the fields from the record; others write the text. With `extra`, a field
            # that the application's own records have too, such as `service`, would be an error.
            for name, value in fields.items():
                record.__dict__.setdefault(name, value)
            logger.handle(record)

    return write


def _pair(item: tuple[str, str | int | float]) -> str:
    name, value = item
    text = str(value)
    plain = text and all(character.isprintable() and character not in ' "=' for character in text)
    return f"{name}={text}" if plain else f"{name}={text!r}"


def _hops(call: Call) -> str | None:
    # A `limit` has a single member, and often the name of the service that it limits.
    hops = [f"{hop.service}:{hop.number}" for hop in call.hops if hop.kind != "limit"]
    return "/".join(hops) or None


class CallLog(Observer):
    """Writes a line for each call to the provider, when it has ended."""

    def __init__(self, write: WriteLine) -> None:
        self._write = write
        self._running: dict[Call, _Running] = {}

    @hookimpl
    def trunkline_observer(self, context: ServiceContext[Settings]) -> Observer:
        """Return the observer of a service."""
        return self

    def started(self, call: Call, context: ServiceContext[Settings], operation: str, request: object) -> None:
        """Take the time and the model of a call."""
        model = getattr(request, "model", "")
        self._running[call] = _Running(context.settings.default_model if model is None else _text(model))

    def retried(self, call: Call, error: TrunklineError, delay: float) -> None:
        """Count a retry."""
        self._running[call].retries += 1

    def finished(self, call: Call, response: object) -> None:
        """Write the line of a call that succeeded."""
        self._end(call, "finished", response)

    def abandoned(self, call: Call, partial: ChatResponse) -> None:
        """Write the line of a stream that was left before its end."""
        self._end(call, "abandoned", partial)

    def failed(self, call: Call, error: BaseException) -> None:
        """Write the line of a call that failed or was cancelled."""
        name = type(error).__name__
        if name in _CANCELLATIONS:
            self._end(call, "cancelled", None)
        else:
            self._end(call, "failed", getattr(error, "partial", None), name)

    def _end(self, call: Call, outcome: str, response: object, error: str | None = None) -> None:
        running = self._running.pop(call)
        context, label = call.context, call.state.get("label")
        cost = getattr(call.state.get("trunkline-prices.cost"), "total", None)  # of the extension `prices`
        fields: dict[str, str | int | float | None] = {
            "call": call.number,
            "service": context.name,
            "provider": context.provider,
            "operation": call.operation,
            "model": running.model,
            "label": label if isinstance(label, str) else None,
            "hops": _hops(call),
            "outcome": outcome,
            "duration": round(time.monotonic() - running.since, 6),
            "retries": running.retries,
            "error": error,
            "cost_usd": None if cost is None else float(cost),
        }
        fields["model"] = _text(getattr(response, "model", None)) or running.model
        usage = getattr(response, "usage", None)
        if isinstance(usage, Usage):
            fields |= {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cache_read_tokens": usage.cache_read_tokens,
                "reasoning_tokens": usage.reasoning_tokens,
            }
        if isinstance(response, ChatResponse) and outcome == "finished":
            fields["finish_reason"] = str(response.finish_reason)
        self._write(outcome == "failed", {name: value for name, value in fields.items() if value is not None})


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


class _Running:
    """A call that has not ended yet."""

    __slots__ = ("model", "retries", "since")

    def __init__(self, model: str | None) -> None:
        self.model = model
        self.retries = 0
        self.since = time.monotonic()
