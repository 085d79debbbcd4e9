"""The Prometheus metrics of a gateway."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from trunkline_gateway.budgets import NANO
from trunkline_gateway.problems import Problem
from trunkline_gateway.usage import CallRecord

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """Counts calls. Labels are services and paths, of which there are few; models and keys are in the usage."""

    def __init__(self, running: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        labels = ("api", "service")
        self._calls = Counter(
            "trunkline_gateway_calls", "Calls that were sent.", (*labels, "outcome"), registry=self._registry
        )
        self._tokens = Counter(
            "trunkline_gateway_tokens", "Tokens of calls.", ("service", "direction"), registry=self._registry
        )
        self._cost = Counter("trunkline_gateway_cost_usd", "Cost of calls.", ("service",), registry=self._registry)
        self._seconds = Histogram(
            "trunkline_gateway_call_seconds", "Duration of calls.", labels, buckets=_SECONDS, registry=self._registry
        )
        self._first = Histogram(
            "trunkline_gateway_first_token_seconds",
            "Time to the first token of streams.",
            labels,
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._problems = Counter(
            "trunkline_gateway_errors", "Errors sent to clients.", ("api", "kind"), registry=self._registry
        )
        gauge = Gauge("trunkline_gateway_calls_in_flight", "Calls that run.", registry=self._registry)
        gauge.set_function(running)

    def count(self, record: CallRecord) -> None:
        """Count a call that has ended."""
        self._calls.labels(record.api, record.service, record.outcome).inc()
        self._tokens.labels(record.service, "input").inc(record.input_tokens)
        self._tokens.labels(record.service, "output").inc(record.output_tokens)
        if record.cost:
            self._cost.labels(record.service).inc(record.cost / NANO)
        if record.outcome != "interrupted":
            self._seconds.labels(record.api, record.service).observe(record.seconds)
        if record.first_token_seconds is not None:
            self._first.labels(record.api, record.service).observe(record.first_token_seconds)

    def count_problem(self, api: str, problem: Problem) -> None:
        """Count an error that a client got instead of an answer."""
        self._problems.labels(api, problem.kind).inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)
