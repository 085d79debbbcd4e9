"""What a run over many rows returns: the result of each row, the progress, and the summary."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Literal, TypeAlias

import attrs

from trunkline._json import JSONValue
from trunkline.errors import RemoteError, TrunklineError
from trunkline.operations import (
    ImageResponse,
    ModerationResponse,
    RerankResponse,
    SpeechResponse,
    TranscriptionResponse,
)
from trunkline.response import ChatResponse, EmbedResponse

Row: TypeAlias = Mapping[str, object]
"""One row of the input: its values by column."""

OperationName: TypeAlias = Literal[
    "chat", "embed", "rerank", "moderate", "transcribe", "generate_speech", "generate_images"
]
"""What is done with each row: the name of the method of `Service`."""

RowResponse: TypeAlias = (
    ChatResponse
    | EmbedResponse
    | RerankResponse
    | ModerationResponse
    | TranscriptionResponse
    | SpeechResponse
    | ImageResponse
)
"""The response to one row. An `EmbedResponse` or a `ModerationResponse` has the results of this row alone."""


@attrs.frozen(kw_only=True)
class RowError:
    """Why a row has no response. `type` is the name of the error's class, such as `BadRequest`.

    `retryable` says whether the same request may succeed later. `status` is the HTTP status, if there was a response.
    """

    type: str
    message: str
    status: int | None = None
    retryable: bool = False

    @classmethod
    def of(cls, error: TrunklineError) -> RowError:
        """Return what is recorded of an error."""
        name = type(error).__name__
        if isinstance(error, RemoteError):
            return cls(type=name, message=str(error), status=error.status, retryable=error.retryable)
        return cls(type=name, message=str(error))


@attrs.frozen(kw_only=True)
class RowResult:
    """The result of one row: a response, or an error.

    `id` is the row's id, and `number` its number in the input, from 1. `response` is `None` in results that were
    recorded without it, and if the row failed, unless the error is an `InvalidAnswer`. `answer` is the value of a call
    with an `answer_type`, and `answer_json` is the same as JSON. `cost` is what the row cost, in USD, if that is known.
    `input` is the row itself, which is recorded for rows that failed.
    """

    id: str
    number: int
    response: RowResponse | None = None
    answer: object = None
    answer_json: JSONValue = attrs.field(default=None, repr=False, eq=False)
    error: RowError | None = None
    cost: Decimal | None = None
    input: Row | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class Progress:
    """The progress of a run. `done`, `failed` and `skipped` count rows.

    `skipped` rows were recorded by an earlier run. `total` is the number of rows of the input; for a text file, it is
    estimated from the part that was read; `None` if it is unknown. `rate` is in rows per second, over the last minute.
    Tokens and `cost` (in USD) are those of this run; `cost` is `None` if it is unknown. `seconds_left` is an
    estimate. `waiting_for` is the error of the service while the run waits for the service to work again.
    """

    done: int
    failed: int
    skipped: int
    total: int | None
    elapsed: float
    rate: float
    input_tokens: int
    output_tokens: int
    cost: Decimal | None
    seconds_left: float | None
    waiting_for: str | None


@attrs.frozen(kw_only=True)
class Summary:
    """How a run ended. The numbers are those of this run; `skipped` rows were recorded by an earlier one.

    `failed` counts the rows that failed in this run, and `failed_before` those of an earlier run that were not tried
    again. `output` and `failures` are the files that were written; `failures` is `None` if no row has failed. `stopped`
    says that the run ended before the end of the input, because it was asked to.
    """

    done: int
    failed: int
    skipped: int
    failed_before: int
    elapsed: float
    input_tokens: int
    output_tokens: int
    cost: Decimal | None
    output: Path | None
    failures: Path | None
    stopped: bool


class MapStopped(TrunklineError):
    """A run ended early, since the service cannot serve: no further row would succeed.

    What was recorded stays recorded, and the same call goes on from there. `map` sets `summary`; it is `None` in
    an error that `RowCalls` raises.
    """

    def __init__(self, message: str, *, cause: TrunklineError | None = None, service: str | None = None) -> None:
        super().__init__(message, service=service)
        self.cause = cause
        """The error of the service, or `None` if the run stopped for another reason, such as a full disk."""
        self.summary: Summary | None = None
        """What the run had done until then."""
