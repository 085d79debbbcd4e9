"""What is known of the response to one request, to complete the errors that are raised after its headers."""

from __future__ import annotations

from trunkline._urls import redact_url
from trunkline.authoring.http_errors import parse_wait, request_id_from, retry_after
from trunkline.authoring.rate_limits import RateLimitHeaders, read_rate_limits
from trunkline.authoring.wire import WireRequest
from trunkline.errors import ProtocolViolation, RemoteError, RequestTimeout, StreamInterrupted
from trunkline.response import RateLimits
from trunkline.secrets import Headers, scrub_all_again

_OF_THE_RESPONSE = (ProtocolViolation, RequestTimeout, StreamInterrupted)
"""Errors that are not the provider's own: the response could not be read. Their status is the one of the response.

The status of any other error is the one that the provider names in the body, if it names one.
"""


class Answer:
    """The endpoint of a request, and the status and headers of its response once they have arrived.

    `limit_headers` are the names of the provider's headers about rate limits.
    """

    __slots__ = ("_headers", "_limit_headers", "_method", "_status", "_url")

    def __init__(self, wire_request: WireRequest, limit_headers: RateLimitHeaders) -> None:
        self._method, self._url = wire_request.method, wire_request.url
        self._limit_headers = limit_headers
        self._status: int | None = None
        self._headers: Headers | None = None

    def arrived(self, status: int, headers: Headers) -> None:
        """Note the status and the headers."""
        self._status, self._headers = status, headers

    def rate_limits(self) -> RateLimits | None:
        """Return the rate limits that the headers report."""
        return None if self._headers is None else read_rate_limits(self._headers, self._limit_headers)

    def complete(self, error: BaseException) -> None:
        """Add to an error what it does not have: endpoint, request id, status, requested wait and rate limits.

        The error must belong to the caller alone. Secrets must be removed from it afterwards.
        """
        if not isinstance(error, RemoteError):
            return
        error.retry_after = parse_wait(error.retry_after)  # a plugin may have set it to any number, or to a text
        error.endpoint = error.endpoint or f"{self._method} {redact_url(self._url)}"
        if self._headers is None:
            return
        error.request_id = error.request_id or request_id_from(self._headers)
        if error.rate_limits is None and (limits := self.rate_limits()) is not None:
            error.rate_limits = limits
            scrub_all_again(error)
        if isinstance(error, _OF_THE_RESPONSE):
            error.status = error.status or self._status
        elif error.retry_after is None:
            error.retry_after = retry_after(self._headers)
