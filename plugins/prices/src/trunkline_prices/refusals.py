"""Whether a call that failed costs nothing."""

from __future__ import annotations

from trunkline import (
    CallError,
    ConnectTimeout,
    InvalidAnswer,
    ProtocolViolation,
    RemoteError,
    RequestTimeout,
    ServiceClosed,
    StreamClosed,
    StreamInterrupted,
)

_MAY_COST = (InvalidAnswer, ProtocolViolation, RequestTimeout, StreamInterrupted, StreamClosed, ServiceClosed)


def was_refused(error: BaseException) -> bool:
    """Whether a call of which nothing arrived costs nothing: it was not sent, or the provider answered with an error.

    A provider may charge for a call that timed out, whose stream broke off, whose answer could not be read, or that was
    cancelled. It does charge for an answer that does not fit its type. A connection that failed before the response
    started counts as not sent: nearly always, none could be made.
    """
    if isinstance(error, _MAY_COST):
        return isinstance(error, ConnectTimeout)
    return isinstance(error, (CallError, RemoteError))
