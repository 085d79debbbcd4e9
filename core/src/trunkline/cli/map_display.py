"""Shows the progress of `trunkline map` on stderr, and its summary."""

from __future__ import annotations

import itertools
import shlex
import sys
import time
from collections import Counter
from contextlib import ExitStack
from types import TracebackType

from trunkline._visible_text import one_line
from trunkline.batch import Progress, RowResult, Summary
from trunkline.cli.terminal import DIM, live_lines, print_note

INTERVAL = 30.0
"""Seconds between two lines of progress, if stderr is not a terminal."""

REFRESH = 0.2
"""Seconds between two changes of the line on a terminal."""

KINDS_SHOWN = 5
"""How many kinds of errors the summary names."""


class MapDisplay:
    """The progress of a run: one line that changes in place on a terminal, or a line every 30 s.

    `batches` says that the rows are submitted as batches of the provider.
    Enter it as a context for the time of the run. Give each result to `count`, and each progress to `show`.
    """

    def __init__(self, *, batches: bool = False) -> None:
        self._batches = batches
        self._stack = ExitStack()
        self._shown = 0.0
        self._waiting: str | None = None
        self._stopping = False
        self._last: Progress | None = None
        self._errors: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def __enter__(self) -> MapDisplay:
        self._draw = self._stack.enter_context(live_lines(sys.stderr))
        self._shown = time.monotonic() if self._draw is None else 0.0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def count(self, result: RowResult) -> None:
        """Count an error by its kind, for the summary."""
        if result.error is not None:
            self._errors[result.error.type] += 1
            self._examples.setdefault(result.error.type, result.error.message)

    def show(self, progress: Progress) -> None:
        """Show the progress, unless it was shown a moment ago."""
        now = time.monotonic()
        changed = (progress.waiting_for is None) != (self._waiting is None)
        self._last, self._waiting = progress, progress.waiting_for
        if changed or now - self._shown >= (INTERVAL if self._draw is None else REFRESH):
            self._shown = now
            self._write(progress)

    def stopping(self) -> None:
        """Say that the run stops: when the requests in flight have finished, or now if it waits for batches."""
        self._stopping = True
        if self._batches:
            print_note("Stopping. The batches go on at the provider, and the same command collects them.")
        else:
            print_note("Finishing the requests in flight. Press Ctrl-C again to stop at once.")
        if self._last is not None and self._draw is not None:
            self._write(self._last)

    def _write(self, progress: Progress) -> None:
        line = one_line(progress_line(progress, stopping=self._stopping))
        if self._draw is not None:
            self._draw(line)
        else:
            print_note(line)

    def summarize(self, summary: Summary, *, stopped: bool) -> None:
        """Print what the run has done, and what to do about what is left. `stopped` says that rows are left."""
        print_note(one_line(summary_line(summary, stopped=stopped)))
        for kind, count in self._errors.most_common(KINDS_SHOWN):
            print_note(one_line(f"  {count:,} × {kind}: {_shortened(self._examples[kind])}"), style=DIM)
        if summary.failed or summary.failed_before:
            before = f" ({summary.failed_before:,} in earlier runs)" if summary.failed_before else ""
            rows = summary.failed + summary.failed_before
            where = f" in {shlex.quote(str(summary.failures))}" if summary.failures is not None else ""
            print_note(
                one_line(f"{_rows(rows)} failed{before}; the errors are{where}. --retry-failed sends them again.")
            )
        if stopped:
            print_note("The same command goes on from here.")


def progress_line(progress: Progress, *, stopping: bool = False) -> str:
    """Return the progress in one line."""
    count = progress.done + progress.failed + progress.skipped
    rows = f"{count:,} of {progress.total:,} rows" if progress.total is not None else _rows(count)
    share = f" ({min(count / progress.total, 1):.0%})" if progress.total else ""
    facts = [
        f"{rows}{share}",
        f"{progress.failed:,} failed" if progress.failed else "",
        f"{progress.rate:,.{0 if progress.rate >= 10 else 1}f}/s" if progress.rate else "",
        _tokens(progress.input_tokens, progress.output_tokens),
        f"${progress.cost:,.2f}" if progress.cost is not None else "",
    ]
    if progress.waiting_for is not None:
        facts.append(f"waiting: {progress.waiting_for}")
    elif stopping:
        facts.append("stopping")
    elif progress.seconds_left is not None:
        facts.append(f"{duration(progress.seconds_left)} left")
    return " · ".join(fact for fact in facts if fact)


def summary_line(summary: Summary, *, stopped: bool = False) -> str:
    """Return what a run has done in one line."""
    before = summary.skipped - summary.failed_before
    facts = [
        f"{'Stopped' if stopped else 'Done'}: {_rows(summary.done)} in {duration(summary.elapsed)}",
        f"{before:,} done before" if before > 0 else "",
        _tokens(summary.input_tokens, summary.output_tokens),
        f"${summary.cost:,.4f}" if summary.cost is not None else "",
        str(summary.output) if summary.output is not None else "",
    ]
    return " · ".join(fact for fact in facts if fact)


def summary_fields(summary: Summary) -> dict[str, object]:
    """Return the summary for JSON. The cost is a text, since a number of JSON would lose digits."""
    return {
        "done": summary.done,
        "failed": summary.failed,
        "failed_before": summary.failed_before,
        "skipped": summary.skipped,
        "stopped": summary.stopped,
        "seconds": round(summary.elapsed, 3),
        "input_tokens": summary.input_tokens,
        "output_tokens": summary.output_tokens,
        "cost": None if summary.cost is None else str(summary.cost),
        "output": None if summary.output is None else str(summary.output),
        "failures": None if summary.failures is None else str(summary.failures),
    }


def duration(seconds: float) -> str:
    """Return a duration with its two largest units: `0.4 s`, `3 min 20 s`, `2 h 5 min`, `1 d 3 h`."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    for (size, name), (smaller, part) in itertools.pairwise(units):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name} {rest} {part}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def _tokens(sent: int, received: int) -> str:
    return f"tokens: {_short(sent)} in, {_short(received)} out" if sent or received else ""


def _short(count: int) -> str:
    for least, unit, letter in ((10**9, 10**9, "G"), (10**6, 10**6, "M"), (10_000, 1_000, "k")):
        if count >= least:
            return f"{count / unit:.1f}{letter}"
    return f"{count:,}"


def _shortened(text: str, limit: int = 160) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
