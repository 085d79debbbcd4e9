"""Write the records of a journal as a table."""

from __future__ import annotations

import os


def export(journal: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Write the records of a journal as a CSV or Parquet file, by the suffix of `output`."""
    raise NotImplementedError
