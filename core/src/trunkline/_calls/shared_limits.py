"""The place of one call within limits that several processes share."""

from __future__ import annotations

import anyio

from trunkline._calls.admission import pause_of_error, pause_of_limits, was_refused
from trunkline._calls.options import TimeLimit
from trunkline._masking import quoted
from trunkline.authoring.limits import LONGEST_PAUSE, Lease, SharedLimiter
from trunkline.errors import LimitTimeout, RemoteError
from trunkline.response import RateLimits


class SharedTicket:
    """The leases of one call, one for each request. A `Gate`.

    The first request waits here, too: a call that a middleware answers asks for no lease.
    """

    __slots__ = ("_heeds_provider", "_lease", "_limit", "_limiter", "_service", "_tokens")

    def __init__(
        self, limiter: SharedLimiter, tokens: int, limit: TimeLimit | None, *, service: str, heeds_provider: bool
    ) -> None:
        self._limiter = limiter
        self._tokens = tokens
        self._limit = limit
        self._service = service
        self._heeds_provider = heeds_provider
        self._lease: Lease | None = None

    async def attempt(self) -> None:
        self.end()  # a call that sends several requests has one lease at a time
        limit = self._limit
        left = None if limit is None else max(limit.left, 0.0)
        try:
            with anyio.move_on_after(left):
                self._lease = await self._limiter.acquire(self._tokens, left)
                return
        except LimitTimeout as error:
            error.service = self._service
            raise
        except anyio.get_cancelled_exc_class():
            # The scope of the call has the same deadline, and does not know what the call waited for.
            if limit is None or limit.left > 0:
                raise
        total = 0.0 if limit is None else limit.total
        message = f"not sent within total_timeout ({total:g} s), because of the limits that service "
        message += f"{quoted(self._service)} shares with other processes"
        raise LimitTimeout(message, service=self._service)

    def sent(self) -> None:
        if self._lease is not None:
            self._lease.sent()

    def answered(self, limits: RateLimits | None) -> None:
        if self._lease is not None:
            self._lease.arrived()
        if limits is not None:
            self._pause(pause_of_limits(limits))

    def failed(self, error: RemoteError) -> None:
        if isinstance(error, LimitTimeout):
            self.end()  # of this limit or another one: nothing was sent
            return
        if self._lease is not None:
            self._lease.arrived()
        self.end(0 if was_refused(error) else None)
        self._pause(pause_of_error(error))

    def end(self, tokens: int | None = None) -> None:
        """Give the lease back. `tokens` is what its request used; if that is not known, the estimate stays.

        Ending it again does nothing. It never waits, so that a finalizer may call it.
        """
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.end(tokens)

    def _pause(self, seconds: float) -> None:
        if seconds > 0 and self._heeds_provider:
            self._limiter.pause(min(seconds, LONGEST_PAUSE))
