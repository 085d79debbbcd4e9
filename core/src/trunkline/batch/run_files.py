"""The files of a run: the journal of responses, that of failures, and the state, which says what the run is.

For an output `answers.jsonl`, they are `answers.jsonl` itself, `answers.failed.jsonl` and `answers.jsonl.state.jsonl`.
An output of another format, such as `answers.csv`, is made from the journal `answers.csv.journal.jsonl` when the run
ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from trunkline.answers import answer_type_of
from trunkline.batch.batch_state import has_open_batches
from trunkline.batch.journal import DAMAGED, Journal, read_ids, read_records
from trunkline.batch.records import record_of, result_of
from trunkline.batch.results import RowResult
from trunkline.batch.row_ids import Recorded, RowIds
from trunkline.errors import InvalidRequest

LINES = (".jsonl", ".ndjson")
"""The suffixes of outputs that are themselves the journal."""

_USELESS = "first_rows_failed"
"""The kind of the state's record for a run that stopped since its first rows all failed."""

TABLES = (".csv", ".parquet")
"""The suffixes of outputs that are made from the journal."""


@attrs.frozen
class RunPaths:
    """The names of the files of a run."""

    output: Path
    journal: Path
    failures: Path
    state: Path

    @classmethod
    def of(cls, output: str | os.PathLike[str]) -> RunPaths:
        """Return the files that belong to an output. Raises `InvalidRequest` for an unknown suffix."""
        path = Path(output)
        suffix = path.suffix.lower()
        if suffix not in (*LINES, *TABLES):
            raise InvalidRequest(
                f"the output {str(path)!r} must end in {', '.join((*LINES, *TABLES))}, which says its format"
            )
        journal = path if suffix in LINES else path.with_name(path.name + ".journal.jsonl")
        return cls(
            output=path,
            journal=journal,
            # `labels.csv` and `labels.jsonl` have failures of their own.
            failures=path.with_name((path.stem if suffix == ".jsonl" else path.name) + ".failed.jsonl"),
            state=path.with_name(path.name + ".state.jsonl"),
        )


class RunFiles:
    """The open files of a run.

    `load` adds what earlier runs have recorded to `ids`. It may take seconds, so call it in a worker thread.
    """

    def __init__(self, paths: RunPaths, ids: RowIds) -> None:
        self.paths: RunPaths = paths
        self._ids = ids
        self.recorded_before: int = 0
        """How many responses earlier runs have recorded."""
        self.failed_before: int = 0
        """How many rows failed in earlier runs, and are not tried again."""
        self.has_batches: bool = False
        """Whether provider batches of earlier runs are not collected yet."""
        self._open: list[Journal] = []
        try:
            self._check_table()
            self.state: Journal = self._journal(paths.state)
            self._responses = self._journal(paths.journal)
            self._failures = self._journal(paths.failures)
        except BaseException:
            self.close()
            raise

    def _check_table(self) -> None:
        """Raise `InvalidRequest` for a table that is not made from the journal, and would be overwritten."""
        output = self.paths.output
        is_made = self.paths.journal == output or self.paths.journal.exists()
        if not is_made and output.exists() and output.stat().st_size:
            raise InvalidRequest(
                f"the file {str(output)!r} exists, and is not an output of an earlier run, whose responses would be in "
                f"{self.paths.journal.name!r}; choose another name, or delete it"
            )

    def _journal(self, path: Path) -> Journal:
        journal = Journal.open(path)
        self._open.append(journal)
        return journal

    def load(self, identity: Mapping[str, str], *, retry_failed: bool) -> None:
        """Read what is recorded, and check that it belongs to the same requests.

        Raises `InvalidRequest` if the output has responses to other requests, or if the state is damaged. If there are
        only failures, they are forgotten: the run that recorded them probably stopped since its first rows all failed,
        and what made them fail has been corrected. Failures of provider batches stay, since a batch has many rows.
        """
        damaged = self.paths.state.with_name(self.paths.state.name + DAMAGED)
        if damaged.exists():
            raise InvalidRequest(
                f"lines of {str(self.paths.state)!r} were damaged, and were moved to {str(damaged)!r}. If they record "
                "a batch, its rows would be submitted again: look for such a batch at the provider, and cancel it. "
                f"Then delete {str(damaged)!r} to go on"
            )
        self.recorded_before = self._ids.add(read_ids(self.paths.journal), Recorded.RESPONSE)
        known = next((record for record in read_records(self.paths.state) if record.get("kind") == "requests"), None)
        changed = [] if known is None else [name for name, text in identity.items() if known.get(name) != text]
        self.has_batches = has_open_batches(self.paths.state)
        if changed and (self.recorded_before or self.has_batches):
            raise InvalidRequest(
                f"{str(self.paths.output)!r} has the results of other requests: {', '.join(map(_named, changed))} "
                f"changed; choose another output, or delete its files: {self._names()}"
            )
        if changed:
            self.state.clear()
        if known is None or changed:
            self.state.append({"kind": "requests", **identity})
        was_useless = any(record.get("kind") == _USELESS for record in read_records(self.paths.state))
        if was_useless:  # only a run without batches is
            self.state.clear()
            self.state.append({"kind": "requests", **identity})
        if retry_failed or changed or was_useless:
            self._failures.clear()
        self.failed_before = self._ids.add(read_ids(self.paths.failures), Recorded.FAILURE)

    def _names(self) -> str:
        """Return the names of the files that a new start must not find."""
        paths = self.paths
        found = dict.fromkeys((paths.output, paths.journal, paths.failures, paths.state))  # two may be the same
        return ", ".join(repr(path.name) for path in found if path.exists() and path.stat().st_size)

    def record(self, result: RowResult) -> None:
        """Record a result. Raises `OSError` if that fails."""
        (self._responses if result.error is None else self._failures).append(record_of(result))

    def mark_useless(self) -> None:
        """Note that the first rows all failed, so that the next run sends them again. Raises `OSError`."""
        self.state.append({"kind": _USELESS})

    def sync(self) -> None:
        """Wait until all results are on the disk."""
        for journal in (self._responses, self._failures):
            journal.sync()

    def close(self) -> None:
        """Close the files. Those without content are removed, but for the output."""
        while self._open:
            journal = self._open.pop()
            try:
                if journal.path != self.paths.journal and not journal.size:
                    journal.path.unlink(missing_ok=True)
            finally:
                journal.close()


def _named(aspect: str) -> str:
    names = {
        "request": "the request",
        "params": "the model or another parameter",
        "id_column": "the column of the ids",
    }
    return names.get(aspect, aspect)


def read_results(output: str | os.PathLike[str], *, answer_type: object = None) -> Iterator[RowResult]:
    """Yield the results that are recorded for an output of `map`: the responses, then the failures.

    `answer` is a value of `answer_type`, or JSON without that. The run may still be going on.

    Raises `InvalidRequest` if there is no such output, or if an answer does not fit `answer_type`.
    """
    paths = RunPaths.of(output)
    restore = None if answer_type is None else answer_type_of(answer_type).restore
    for record in read_records(paths.journal):
        result = result_of(record)
        yield result if restore is None else attrs.evolve(result, answer=restore(result.answer_json))
    if paths.failures.exists():
        yield from map(result_of, read_records(paths.failures))
