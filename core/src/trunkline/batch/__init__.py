"""Call a service for many rows: label, evaluate or embed a file, and go on after a crash where the run ended.

Applications call `map`, `read_results` and `cancel_batches`. `RowCalls`, `Journal` and the functions for rows and
records are for programs that spread the work over several processes.
"""

from __future__ import annotations

from trunkline.batch.journal import Journal, read_records
from trunkline.batch.mapping import map
from trunkline.batch.provider_batches import cancel_batches
from trunkline.batch.records import record_of, result_of
from trunkline.batch.results import (
    MapStopped,
    OperationName,
    Progress,
    Row,
    RowError,
    RowResponse,
    RowResult,
    Summary,
)
from trunkline.batch.row_calls import Interrupted, NumberedRow, RowCalls
from trunkline.batch.rows import RowSource, read_rows
from trunkline.batch.run_files import read_results
from trunkline.batch.templates import RequestFunction, RowRequests, row_requests

__all__ = [
    "Interrupted",
    "Journal",
    "MapStopped",
    "NumberedRow",
    "OperationName",
    "Progress",
    "RequestFunction",
    "Row",
    "RowCalls",
    "RowError",
    "RowRequests",
    "RowResponse",
    "RowResult",
    "RowSource",
    "Summary",
    "cancel_batches",
    "map",
    "read_records",
    "read_results",
    "read_rows",
    "record_of",
    "result_of",
    "row_requests",
]
