"""Batches: many requests that a provider answers within a day, at a lower price. See `Service.submit_batch`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import attrs

from trunkline._json import JSONObject
from trunkline.errors import TrunklineError
from trunkline.response import CallWarning, ChatResponse

BatchStatus: TypeAlias = Literal["running", "cancelling", "completed", "cancelled", "expired", "failed"]
"""The state of a batch, in words that mean the same for every provider; see `Batch.status`."""


@attrs.frozen(kw_only=True)
class BatchCounts:
    """How many requests a batch has, and how many have ended. `None` means that the provider did not report it.

    `failed` counts every request that ended without a response: with an error, cancelled or expired.
    """

    total: int | None = None
    succeeded: int | None = None
    failed: int | None = None


@attrs.frozen(kw_only=True)
class BatchedRequest:
    """What is known of one request of a batch: its id, and the warnings of its translation.

    `family` is the family of the model, as for the parts of a response.
    """

    id: str
    warnings: tuple[CallWarning, ...] = ()
    family: str | None = None


@attrs.frozen(kw_only=True)
class Batch:
    """A batch, as the provider last reported it. `Service.get_batch` returns its present state.

    `to_json` and `from_json` store a batch, so that another process can ask for its results later. `raw` is not stored.

    `status` is one of:

    - `running`: the provider has accepted the batch and works on it
    - `cancelling`: the batch is being cancelled; requests that were running may still complete
    - `completed`: every request has ended, some perhaps with an error
    - `cancelled`, `expired`: the batch ended early; there are results of the requests that completed before
    - `failed`: the provider refused or dropped the batch as a whole; `message` says why

    `raw_status` is the state in the provider's words. `created` and `expires` are in seconds since the epoch: the
    provider ends a batch that has not completed when it expires. `requests` has what the service knows of each request,
    in the order of submission; it is empty for a batch that was not submitted by this service. `raw` is the object that
    the provider sent, without results that it contains.
    """

    id: str
    status: BatchStatus
    raw_status: str | None = None
    counts: BatchCounts = attrs.field(factory=BatchCounts)
    created: int | None = None
    expires: int | None = None
    message: str | None = None
    requests: tuple[BatchedRequest, ...] = attrs.field(default=(), repr=lambda value: f"<{len(value)} requests>")
    provider: str | None = None
    service: str | None = None
    raw: JSONObject = attrs.field(factory=dict, repr=False, eq=False)

    @property
    def ended(self) -> bool:
        """Whether the batch has ended, so that `Service.batch_results` returns its results."""
        return self.status not in ("running", "cancelling")


class BatchResults:
    """The results of a batch: pairs of a request's id and its `ChatResponse`, or the error that it ended with.

    The pairs come in the provider's order, which need not be that of the requests; `dict(results)` finds them by id.
    Each response is read when the iteration reaches it, so only the provider's file is in memory as a whole. Results
    can be iterated more than once.

    A result that cannot be read, such as a broken line, does not hide the others. If as many requests are without a
    result as results cannot be read, these requests have a `ProtocolViolation` each. Otherwise the iteration raises the
    `ProtocolViolation` after the last pair.
    """

    def __init__(self, read: Callable[[], Iterator[tuple[str, ChatResponse | TrunklineError]]], batch: Batch) -> None:
        self._read = read
        self.batch: Batch = batch
        """The batch, as it ended."""

    def __iter__(self) -> Iterator[tuple[str, ChatResponse | TrunklineError]]:
        return self._read()

    def __repr__(self) -> str:
        return f"<BatchResults of {self.batch.id!r}>"
