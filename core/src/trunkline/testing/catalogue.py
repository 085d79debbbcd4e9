"""The fault classes, and the reasons why a class does not apply. The tests are in `trunkline.testing.faults`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import attrs


@attrs.frozen(kw_only=True)
class Facts:
    """Facts about a provider that decide which classes apply to it. The kit finds them; authors cannot set them."""

    in_process: bool
    server_sent_events: bool
    checked_frames: bool
    error_events: bool
    fetches: bool
    credentials: bool
    embeds: bool
    secret_settings: bool
    routes: bool


@attrs.frozen(kw_only=True)
class FaultClass:
    """A class of faults. `not_applicable` returns the reason why it does not apply to a provider, or `None`."""

    number: int
    slug: str
    title: str
    not_applicable: Callable[[Facts], str | None] = lambda facts: None


def _over_http(facts: Facts) -> str | None:
    return "the model runs inside the process, without HTTP" if facts.in_process else None


def _with_credentials(facts: Facts) -> str | None:
    return _over_http(facts) or (None if facts.credentials else "the provider needs no credentials")


def _sse(facts: Facts) -> str | None:
    return None if facts.server_sent_events else "the framing is not server-sent events"


def _checked(facts: Facts) -> str | None:
    return None if facts.checked_frames else "the framing has no binary event-stream messages"


def _error_events(facts: Facts) -> str | None:
    return None if facts.error_events else "the wire format has no error events"


def _fetching(facts: Facts) -> str | None:
    return None if facts.fetches else "the plugin never fetches media for this provider"


def _embedding(facts: Facts) -> str | None:
    return None if facts.embeds else "the provider has no embeddings"


def _class(
    number: int, slug: str, title: str, not_applicable: Callable[[Facts], str | None] = lambda facts: None
) -> FaultClass:
    return FaultClass(number=number, slug=slug, title=title, not_applicable=not_applicable)


FAULTS: tuple[FaultClass, ...] = (
    _class(1, "refused_connection", "refused connection, failed DNS lookup", _over_http),
    _class(2, "connect_black_hole", "connection attempt without any answer", _over_http),
    _class(3, "no_headers", "connection accepted, headers never sent", _over_http),
    _class(4, "no_first_chunk", "headers sent, first chunk never sent"),
    _class(5, "stall", "stream stalls between two chunks"),
    _class(6, "heartbeats", "heartbeats without end, but no events"),
    _class(7, "reset", "connection reset mid-stream", _over_http),
    _class(8, "truncated", "body ends cleanly without the terminator"),
    _class(9, "parked_socket", "socket left open or reset after the terminator", _over_http),
    _class(10, "stale_connection", "stale connection in the pool", _over_http),
    _class(11, "http2", "HTTP/2 GOAWAY and RST_STREAM", _over_http),
    _class(12, "content_encoding", "compressed body, wrong or broken encoding", _over_http),
    _class(13, "splits", "stream split at any byte"),
    _class(14, "spellings", "unusual line endings, comments, byte order mark, several data lines", _sse),
    _class(15, "malformed_json", "malformed JSON in an event"),
    _class(16, "oversized", "oversized event or body"),
    _class(17, "no_stream", "status 200 with an HTML page or plain JSON instead of a stream"),
    _class(18, "error_event", "error event in a stream with status 200", _error_events),
    _class(19, "bare_error", "bare JSON error outside the framing"),
    _class(20, "event_stream", "binary event-stream message cut off, wrong checksum, exception frames", _checked),
    _class(21, "tool_calls", "irregular tool-call deltas"),
    _class(22, "usage", "usage anywhere in the stream"),
    _class(23, "unknown", "unknown event, field or finish reason"),
    _class(24, "retry_after", "Retry-After in every form", _over_http),
    _class(25, "retryable_status", "status 408, 409, 425, 429, 5xx or 529", _over_http),
    _class(26, "storm", "many callers get 429 at once", _over_http),
    _class(27, "early_error", "status 200 with an error before any output"),
    _class(28, "redirect", "redirect of a request with credentials", _over_http),
    _class(29, "url_fetching", "media URL that points into the internal network", _fetching),
    _class(30, "secrets", "secret in an error, log, repr or traceback", _with_credentials),
    _class(31, "cancelled_before_headers", "cancelled before the headers"),
    _class(32, "cancelled_mid_stream", "cancelled mid-stream"),
    _class(33, "early_break", "early break from a stream"),
    _class(34, "cancelled_in_backoff", "cancelled during backoff"),
    _class(35, "slow_consumer", "slow consumer", _over_http),
    _class(36, "neighbours", "cancelled streams while others run"),
    _class(37, "usage_on_abort", "usage of an interrupted stream"),
    _class(38, "service_closed", "service closed while streams are open"),
    _class(39, "fuzzed_bytes", "random bytes fed to framers and parsers"),
    _class(40, "cancelled_read", "a cancelled read of a stream, which is then read on"),
    _class(41, "service_down", "many callers of a service that answers 503", _over_http),
    _class(42, "shared_error", "the same error object raised to several calls"),
    _class(43, "hanging", "call that hangs, whatever part of it"),
    _class(44, "event_loops", "service used in several event loops, and in threads"),
    _class(45, "sent_once", "reused connection closed after it took a request, without retries", _over_http),
    _class(48, "wrong_key", "key with a line break, or with characters that no header can hold", _with_credentials),
    _class(49, "secrets_below", "a secret in notes, causes and exceptions of other libraries"),
    _class(50, "repeated_frames", "events in an impossible order"),
    _class(51, "abandoned", "early break from a stream, as observers see it"),
    _class(53, "silent_ending", "stream or body that ends properly but contains no answer"),
    _class(56, "another_framing", "JSON array, or JSON lines, instead of a stream"),
    _class(58, "odd_tool_calls", "tool call without a name, or with null as its arguments"),
    _class(60, "unknown_fields_kept", "fields of a body or a stream that the parser does not know"),
    _class(61, "foreign_signatures", "history with signatures of another provider or family of models"),
    _class(62, "tools_without_reasoning", "history with tool calls but without their reasoning"),
    _class(63, "signatures", "signatures that the next request needs"),
    _class(64, "results", "history with missing, doubled and misplaced tool results"),
    _class(65, "ids", "history with tool call ids that repeat or are not accepted"),
    _class(66, "arguments", "history with arguments of tool calls that are not a JSON object"),
    _class(67, "texts", "history with blank texts, and with roles in any order"),
    _class(69, "schemas", "schema of a tool without an object at its root"),
    _class(77, "cut_error_body", "error status whose body is cut off, reset, stalled or garbled", _over_http),
    _class(78, "slow_limits", "limits met slowly: headers that drip, interim responses without end", _over_http),
    _class(80, "raw", "odd statuses, and names and cursors that no URL can hold", _over_http),
    _class(83, "embeddings", "embeddings that are missing, doubled, misnumbered, or not numbers", _embedding),
)
"""The catalogue, ordered by number."""

_BY_NUMBER = {fault.number: fault for fault in FAULTS}


def _no_bare_json(facts: Facts) -> str | None:
    return (
        "the frames have checksums, so bytes between them break the framing, which is class 20"
        if facts.checked_frames
        else None
    )


def _secret_settings(facts: Facts) -> str | None:
    return None if facts.secret_settings else "the provider has no secret settings"


def _routes(facts: Facts) -> str | None:
    return None if facts.routes else "the test class has no `routes` for a token exchange"


TESTS: Mapping[str, Callable[[Facts], str | None]] = {
    "test_fault_19_bare_error_mid_stream": _no_bare_json,
    "test_fault_27_early_error": _error_events,
    "test_each_secret_setting_is_sent": _secret_settings,
    "test_hung_token_exchange_ends": _routes,
    "test_cancelled_token_exchange_is_repeated": _routes,
}
"""Tests that may not apply to a provider although their class does."""


def not_applicable(test: str, facts: Facts) -> str | None:
    """Return the reason why a test of the kit does not apply to a provider, or `None`."""
    if test in TESTS:
        return TESTS[test](facts)
    fault = fault_of(test)
    return fault.not_applicable(facts) if fault is not None else None


def fault_of(test: str) -> FaultClass | None:
    """Return the fault class of a test, or `None`."""
    found = re.match(r"test_fault_(\d\d)_", test)
    return _BY_NUMBER[int(found[1])] if found else None
