"""What an actor reports to Ray's metrics.

Ray adds the actor and its machine to each metric, and serves all of them to Prometheus under the prefix `ray_`, where
`ray[default]` is installed.

| Metric | Kind | Meaning |
|---|---|---|
| `trunkline_rows_done` | counter | rows that the service answered |
| `trunkline_rows_failed` | counter | rows that ended with an error |
| `trunkline_rows_recorded` | counter | rows whose result was taken from the journal |
| `trunkline_rows_in_flight` | gauge | rows that the actor works on |
| `trunkline_requests` | counter | requests that were sent |
| `trunkline_retries` | counter | of these, the requests beyond the first one for the same rows |
| `trunkline_requests_waiting` | gauge | requests that wait for the limits of the cluster |
| `trunkline_input_tokens`, `trunkline_output_tokens` | counter | tokens that the provider reported |

Each has the tag `service`: the name of the service in the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import attrs
from trunkline.authoring.limits import Lease, SharedLimiter
from trunkline.batch import RowCalls, RowResult

if TYPE_CHECKING:
    from ray.util.metrics import Counter, Gauge


@attrs.define
class _Rows:
    """Rows that are called together."""

    is_sent: bool = False


_rows: ContextVar[_Rows | None] = ContextVar("trunkline_ray_rows", default=None)


class StageMetrics:
    """The metrics of one actor. Use it in one event loop.

    It is also a `SharedLimiter`, so that it counts each request: pass it to `trunkline.limit`. `limiter` is the one
    that it asks; without it, requests do not wait.
    """

    def __init__(self, service: str, limiter: SharedLimiter | None = None) -> None:
        self._limiter = limiter
        self._tags = {"service": service}
        self._running = self._waiting = 0
        self._tokens = 0, 0
        self._done = self._counter("rows_done", "Rows that the service answered.")
        self._failed = self._counter("rows_failed", "Rows that ended with an error.")
        self._recorded = self._counter("rows_recorded", "Rows whose result was taken from the journal.")
        self._requests = self._counter("requests", "Requests that were sent.")
        self._retries = self._counter("retries", "Requests beyond the first one for the same rows.")
        self._input_tokens = self._counter("input_tokens", "Tokens of input that the provider reported.")
        self._output_tokens = self._counter("output_tokens", "Tokens of output that the provider reported.")
        self._rows_in_flight = self._gauge("rows_in_flight", "Rows that the actor works on.")
        self._requests_waiting = self._gauge("requests_waiting", "Requests that wait for the limits of the cluster.")

    def _counter(self, name: str, description: str) -> Counter:
        from ray.util.metrics import Counter

        counter = Counter(f"trunkline_{name}", description, ("service",))
        counter.set_default_tags(self._tags)
        return counter

    def _gauge(self, name: str, description: str) -> Gauge:
        from ray.util.metrics import Gauge

        gauge = Gauge(f"trunkline_{name}", description, ("service",))
        gauge.set_default_tags(self._tags)
        return gauge

    @contextmanager
    def calling(self, number: int) -> Iterator[None]:
        """Count rows as in flight while they are called for. Requests within are those of these rows."""
        self._add_running(number)
        token = _rows.set(_Rows())
        try:
            yield
        finally:
            _rows.reset(token)
            self._add_running(-number)

    def _add_running(self, number: int) -> None:
        self._running += number
        self._rows_in_flight.set(self._running)

    def called(self, results: Sequence[RowResult], calls: RowCalls) -> None:
        """Count the results of rows, and the tokens that `calls` has counted since the last time."""
        failed = sum(result.error is not None for result in results)
        before = self._tokens
        self._tokens = calls.input_tokens, calls.output_tokens
        for counter, number in (
            (self._done, len(results) - failed),
            (self._failed, failed),
            (self._input_tokens, self._tokens[0] - before[0]),
            (self._output_tokens, self._tokens[1] - before[1]),
        ):
            if number:
                counter.inc(number)

    def recorded(self) -> None:
        """Count a row whose result was taken from the journal."""
        self._recorded.inc()

    # As a `SharedLimiter`

    @property
    def tokens_per_minute(self) -> int | None:
        """The limit of tokens."""
        return None if self._limiter is None else self._limiter.tokens_per_minute

    async def acquire(self, tokens: int, timeout: float | None) -> Lease:
        """Wait for the limiter, and return a lease that counts the request when it is sent."""
        if self._limiter is None:
            return _CountedLease(self, None)
        self._add_waiting(1)
        try:
            return _CountedLease(self, await self._limiter.acquire(tokens, timeout))
        finally:
            self._add_waiting(-1)

    def pause(self, seconds: float) -> None:
        """Pause the limiter."""
        if self._limiter is not None:
            self._limiter.pause(seconds)

    def _add_waiting(self, number: int) -> None:
        self._waiting += number
        self._requests_waiting.set(self._waiting)

    def _sent(self) -> None:
        self._requests.inc()
        rows = _rows.get()
        if rows is not None and rows.is_sent:
            self._retries.inc()
        elif rows is not None:
            rows.is_sent = True


@attrs.frozen
class _CountedLease:
    """A lease whose request is counted when it is sent."""

    _metrics: StageMetrics
    _lease: Lease | None

    def sent(self) -> None:
        self._metrics._sent()
        if self._lease is not None:
            self._lease.sent()

    def arrived(self) -> None:
        if self._lease is not None:
            self._lease.arrived()

    def end(self, tokens: int | None) -> None:
        if self._lease is not None:
            self._lease.end(tokens)
