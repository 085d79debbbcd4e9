"""`trunkline map`: sends one request for each row of a file, and writes the answers to another file."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from importlib.util import find_spec
from typing import Annotated, cast

import anyio
import anyio.abc
import attrs
from cyclopts import Parameter

from trunkline._json import loads_finite
from trunkline._masking import listed
from trunkline._suggestions import did_you_mean
from trunkline._visible_text import one_line
from trunkline.batch import MapStopped, OperationName, Summary, cancel_batches, map as map_rows
from trunkline.cli.failures import FAILED, CommandError
from trunkline.cli.map_display import MapDisplay, summary_fields
from trunkline.cli.python_files import load_json_file, load_object
from trunkline.cli.selection import ComposedService, SelectedService, ServiceOptions, assignments, select_service
from trunkline.cli.terminal import DIM, print_json, print_note
from trunkline.operations import ImageRequest, ModerationRequest, RerankRequest, SpeechRequest, TranscriptionRequest
from trunkline.request import ChatRequest, EmbedRequest, ReasoningOptions, ResponseFormat
from trunkline.storage import from_json

_NO_OPTIONS = ServiceOptions()

_REQUESTS: Mapping[OperationName, type[attrs.AttrsInstance]] = {
    "chat": ChatRequest,
    "embed": EmbedRequest,
    "rerank": RerankRequest,
    "moderate": ModerationRequest,
    "transcribe": TranscriptionRequest,
    "generate_speech": SpeechRequest,
    "generate_images": ImageRequest,
}


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class RowOptions:
    """The options of `map` that say what is sent for a row."""

    prompt: str | None = None
    """What is sent for a row, with the names of columns in braces. Default: the row's column `prompt` or `messages`."""

    request: str | None = None
    """Instead of a prompt, a function of yours that takes a row and returns the request, as FILE.py:FUNCTION."""

    system: str | None = None
    """Instructions for each chat (a system message). May contain columns in braces."""

    operation: OperationName = "chat"
    """What is done with each row."""

    id_column: str | None = None
    """The column with the row's id, which must be unique. Default: `id` if the rows have it, else the row's number."""

    limit_rows: int | None = None
    """Use only the first rows of the input, as a test."""


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class FieldOptions:
    """The options of `map` that are fields of every request."""

    model: Annotated[str | None, Parameter(alias="-m")] = None
    """The model. Default: the service's default_model."""

    max_output_tokens: int | None = None
    """The longest answer to a row, in tokens, including reasoning."""

    temperature: float | None = None
    """The sampling temperature; 0 gives the most predictable answers."""

    param: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """Another field of the request, as name=value; a value that is JSON is read as JSON. May be repeated."""

    answer_type: str | None = None
    """A class of yours that the answers must fit, as FILE.py:CLASS. They are validated, and stored as JSON."""

    answer_retries: int = 0
    """How often the model is asked again if its answer does not fit --answer-type."""

    schema: str | None = None
    """A file with a JSON Schema for the answers. The provider enforces it; the answers are stored as text."""


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class PaceOptions:
    """The options of `map` that say how fast it sends requests, and what happens when they fail."""

    concurrency: int = 16
    """How many requests are in flight at the same time."""

    requests_per_minute: int | None = None
    """The most requests in a minute, including retries."""

    tokens_per_minute: int | None = None
    """The most tokens in a minute, of input and output together."""

    patience: float = 900.0
    """How many seconds to wait for a service that is down, before the run ends. It can be continued later."""

    rows_per_request: int = 1
    """How many rows are sent in one request, for `embed` and `moderate`."""

    retry_failed: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """Send the rows again that failed in an earlier run."""

    provider_batches: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """Submit the rows of a chat as batches of the provider: half the price, but it may take a day."""

    cancel_batches: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """Only cancel the batches that an earlier run has submitted for OUTPUT. The next run collects what has ended."""


_NO_ROW_OPTIONS = RowOptions()
_NO_FIELDS = FieldOptions()
_USUAL_PACE = PaceOptions()


def map(  # noqa: A001  # the name of the command
    input: Annotated[str, Parameter(allow_leading_hyphen=True)],  # noqa: A002  # shown as INPUT
    output: str,
    /,
    *,
    target: ServiceOptions = _NO_OPTIONS,
    rows: RowOptions = _NO_ROW_OPTIONS,
    fields: FieldOptions = _NO_FIELDS,
    pace: PaceOptions = _USUAL_PACE,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Send one request for each row of a file, and write the answers to another file as they come.

    A run that was interrupted goes on with the same command. Rows that fail are written to a file of their own. Ctrl-C
    finishes the requests in flight and stops; a second Ctrl-C stops at once.

    Parameters
    ----------
    input
        The rows: a file that ends in .jsonl, .csv or .parquet, or `-` for JSON lines from a pipe.
    output
        Where the answers are written: a file that ends in .jsonl, .csv or .parquet.
    json
        At the end, write a summary to stdout as a JSON object.
    """
    if rows.prompt is not None and rows.request is not None:
        raise CommandError("--prompt and --request both say what is sent for a row; leave one out")
    if fields.schema is not None and fields.answer_type is not None:
        raise CommandError("--schema and --answer-type both say what the answers must fit; leave one out")
    if rows.limit_rows is not None and rows.limit_rows < 1:
        raise CommandError("--limit-rows takes a number from 1")
    params = _params(fields, rows.operation)
    request = rows.prompt if rows.request is None else _function(rows.request)
    answer_type = None if fields.answer_type is None else load_object("--answer-type", fields.answer_type)
    selected = select_service(target)
    if pace.cancel_batches:
        return anyio.run(_cancel, selected, output)
    if "model" not in params and selected.without_model and rows.request is None:
        of = "" if selected.without_model == (selected.name,) else f" of {listed(selected.without_model)}"
        raise CommandError(f"{selected.origin}: no model is given; use --model, or set default_model{of}")
    if not json and target.provider is None and target.service is None:
        print_note(one_line(f"[{selected.origin}]"), style=DIM)

    async def run(stop: anyio.Event, display: MapDisplay) -> Summary:
        async with selected.open() as service:
            return await map_rows(
                service,
                input,
                request,
                output,
                system=rows.system,
                operation=rows.operation,
                id_column=rows.id_column,
                answer_type=answer_type,
                answer_retries=fields.answer_retries,
                concurrency=pace.concurrency,
                requests_per_minute=pace.requests_per_minute,
                tokens_per_minute=pace.tokens_per_minute,
                rows_per_request=pace.rows_per_request,
                limit_rows=rows.limit_rows,
                patience=pace.patience,
                retry_failed=pace.retry_failed,
                provider_batches=pace.provider_batches,
                on_result=display.count,
                on_progress=display.show,
                stop=stop,
                cost=_cost_function(batch=pace.provider_batches),
                params=params,
            )

    return anyio.run(_run, run, MapDisplay(batches=pace.provider_batches), json)


async def _cancel(selected: SelectedService | ComposedService, output: str) -> int:
    async with selected.open() as service:
        cancelled = await cancel_batches(service, output)
    print_note(f"Cancelled {len(cancelled)} {'batch' if len(cancelled) == 1 else 'batches'}.")
    return 0


async def _run(run: Callable[[anyio.Event, MapDisplay], Awaitable[Summary]], display: MapDisplay, as_json: bool) -> int:
    """Run until the end or a signal, show what happened, and return the exit status."""
    stop = anyio.Event()
    summary: Summary | None = None
    failure: Exception | None = None
    scope = anyio.CancelScope()
    signals = _Signals(stop, display, scope)
    with display, scope:
        async with anyio.create_task_group() as tasks:
            await tasks.start(signals.watch)
            try:
                summary = await run(stop, display)
            except Exception as error:  # raised below, out of the task group
                failure = error
                summary = error.summary if isinstance(error, MapStopped) else None
            tasks.cancel_scope.cancel()
    if summary is not None:
        display.summarize(summary, stopped=summary.stopped or failure is not None)
        if as_json:
            print_json(summary_fields(summary), indent=2)
    elif failure is None:
        print_note("Stopped. The same command goes on; requests that were in flight are sent again.")
    if failure is not None:
        raise failure
    if signals.received is not None and (summary is None or summary.stopped):
        return 128 + signals.received  # as a shell reports a process that a signal has ended
    complete = summary is not None and not (summary.failed or summary.failed_before or summary.stopped)
    return 0 if complete else FAILED


class _Signals:
    """Stops the run at Ctrl-C or SIGTERM when the requests in flight have finished, and at a second Ctrl-C at once."""

    def __init__(self, stop: anyio.Event, display: MapDisplay, scope: anyio.CancelScope) -> None:
        self._stop = stop
        self._display = display
        self._scope = scope
        self.received: int | None = None
        """The number of the first signal."""

    async def watch(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Wait for signals. Where asyncio has no handlers for them (Windows), Ctrl-C stops at once."""
        if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
            task_status.started()
            return
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if self.received is not None and number == signal.SIGINT:
                    self._scope.cancel()
                    return
                if self.received is None:
                    self.received = int(number)
                    self._display.stopping()
                    self._stop.set()


def _function(reference: str) -> Callable[..., object]:
    found = load_object("--request", reference)
    if not callable(found):
        raise CommandError(f"--request: {reference} is not a function, but a {type(found).__name__}")
    return found


def _params(options: FieldOptions, operation: OperationName) -> dict[str, object]:
    """Return the fields of every request. Raises `CommandError` for one that the operation does not have."""
    given: dict[str, object] = {
        "model": options.model,
        "max_output_tokens": options.max_output_tokens,
        "temperature": options.temperature,
    }
    params = {name: value for name, value in given.items() if value is not None}
    known = [field.name for field in attrs.fields(_REQUESTS[operation])]
    for name, text in assignments(options.param, "--param").items():
        if name in params:
            raise CommandError(f"--param {name} and --{name.replace('_', '-')} are the same; leave one out")
        params[name] = _param(name, text)
    if options.schema is not None:
        schema = load_json_file("--schema", options.schema)
        if not isinstance(schema, dict):
            raise CommandError("--schema: a JSON Schema is an object")
        params["response_format"] = ResponseFormat(schema=schema)
    for name in params:
        if name not in known:
            # The first field is what a row is made into.
            raise CommandError(
                f"{operation} has no field {name}{did_you_mean(name, known[1:])} it has {listed(known[1:])}"
            )
    return params


def _param(name: str, text: str) -> object:
    try:
        value = loads_finite(text)
    except (ValueError, RecursionError):
        return text
    return from_json(ReasoningOptions, value) if name == "reasoning" and isinstance(value, dict) else value


def _cost_function(*, batch: bool) -> Callable[[object], Decimal | None] | None:
    """Return what calculates the cost of a response, if `trunkline-prices` is installed."""
    if find_spec("trunkline_prices") is None:
        return None
    # The core imports no plugin; this one is optional.
    prices = importlib.import_module("trunkline_prices")
    prices.load_prices()

    def cost(response: object) -> Decimal | None:
        return cast("Decimal | None", prices.cost(response, batch=batch).total)

    return cost
