"""The fault classes, and where one does not apply. The tests are in `trunkline.testing.faults`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import attrs


@attrs.frozen(kw_only=True)
class Facts:
    """What decides whether a class applies to a provider: facts of it, never its author's choice."""

    in_process: bool
    server_sent_events: bool
    checked_frames: bool
    error_events: bool
    fetches: bool
    credentials: bool


@attrs.frozen(kw_only=True)
class FaultClass:
    """A class of the catalogue. `not_applicable` gives the reason for which it does not apply, or `None`."""

    number: int
    slug: str
    title: str
    not_applicable: Callable[[Facts], str | None] = lambda facts: None


def _over_http(facts: Facts) -> str | None:
    return "the transport is inside the process" if facts.in_process else None


def _with_credentials(facts: Facts) -> str | None:
    return _over_http(facts) or (None if facts.credentials else "there are no credentials")


def _sse(facts: Facts) -> str | None:
    return None if facts.server_sent_events else "the framing is not server-sent events"


def _checked(facts: Facts) -> str | None:
    return None if facts.checked_frames else "the framing has no event-stream messages"


def _error_events(facts: Facts) -> str | None:
    return None if facts.error_events else "the wire has no error event"


def _fetching(facts: Facts) -> str | None:
    return None if facts.fetches else "nothing is ever fetched for this provider"


def _class(
    number: int, slug: str, title: str, not_applicable: Callable[[Facts], str | None] = lambda facts: None
) -> FaultClass:
    return FaultClass(number=number, slug=slug, title=title, not_applicable=not_applicable)


FAULTS: tuple[FaultClass, ...] = (
    _class(1, "refused_connection", "refused connection, DNS failure", _over_http),
    _class(2, "connect_black_hole", "connect black hole", _over_http),
    _class(3, "no_headers", "accepted, no header ever", _over_http),
    _class(4, "no_first_chunk", "headers, then no first chunk"),
    _class(5, "stall", "stall between chunks"),
    _class(6, "heartbeats", "heartbeats that beat the idle timer"),
    _class(7, "reset", "reset mid-stream", _over_http),
    _class(8, "truncated", "clean end of file, no terminator"),
    _class(9, "parked_socket", "terminator, then a socket parked or reset", _over_http),
    _class(10, "stale_connection", "stale pooled connection", _over_http),
    _class(11, "http2", "HTTP/2 GOAWAY, RST_STREAM", _over_http),
    _class(12, "content_encoding", "compressed stream, wrong or broken encoding", _over_http),
    _class(13, "splits", "any split of the bytes"),
    _class(14, "spellings", "line endings, comments, byte order mark, several data lines", _sse),
    _class(15, "malformed_json", "malformed JSON in an event"),
    _class(16, "oversized", "oversized event or body"),
    _class(17, "no_stream", "200 with a page or plain JSON where a stream was due"),
    _class(18, "error_event", "error event inside a 200 stream", _error_events),
    _class(19, "bare_error", "bare JSON error outside the framing"),
    _class(20, "event_stream", "event-stream message truncated, bad CRC, exception frames", _checked),
    _class(21, "tool_calls", "tool-call deltas gone wrong"),
    _class(22, "usage", "usage anywhere in the stream"),
    _class(23, "unknown", "unknown event, field or finish value"),
    _class(24, "retry_after", "Retry-After in every form", _over_http),
    _class(25, "retryable_status", "408, 409, 425, 429, 5xx, 529", _over_http),
    _class(26, "storm", "a storm of 429", _over_http),
    _class(27, "early_error", "200 that carries an error before any output"),
    _class(28, "redirect", "redirect on a request with credentials", _over_http),
    _class(29, "url_fetching", "media by URL that points inside", _fetching),
    _class(30, "secrets", "secret in error, log, repr, traceback", _with_credentials),
    _class(31, "cancelled_before_headers", "cancelled before headers"),
    _class(32, "cancelled_mid_stream", "cancelled mid-stream"),
    _class(33, "early_break", "early break"),
    _class(34, "cancelled_in_backoff", "cancelled during backoff"),
    _class(35, "slow_consumer", "slow consumer", _over_http),
    _class(36, "neighbours", "cancelled streams beside whole ones"),
    _class(37, "usage_on_abort", "usage on abort"),
    _class(38, "service_closed", "service closed with streams in flight"),
    _class(39, "fuzzed_bytes", "fuzzed bytes into framers and parsers"),
)
"""The catalogue, in its order."""


def _no_bare_json(facts: Facts) -> str | None:
    return "bytes between frames with a checksum break the framing, which is class 20" if facts.checked_frames else None


TESTS: Mapping[str, Callable[[Facts], str | None]] = {
    "test_fault_19_bare_error_mid_stream": _no_bare_json,
    "test_fault_27_early_error": _error_events,
}
"""Single tests that do not apply where their class does."""


def not_applicable(test: str, facts: Facts) -> str | None:
    """Why a test of the kit does not apply to a provider, or `None`."""
    if test in TESTS:
        return TESTS[test](facts)
    fault = fault_of(test)
    return fault.not_applicable(facts) if fault is not None else None


def fault_of(test: str) -> FaultClass | None:
    """The fault class that a test is of, or `None`."""
    found = re.match(r"test_fault_(\d\d)_", test)
    return FAULTS[int(found[1]) - 1] if found else None
