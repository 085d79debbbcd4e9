"""The class that Ray makes an actor of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
from trunkline.errors import TrunklineError

from trunkline_ray.stage import StageOptions

OpenStage = Callable[[StageOptions], Callable[[pa.Table], Iterator[pa.Table]]]


class TrunklineActor:
    """Opens a stage, and passes blocks to it.

    If the stage cannot be opened, the first block raises the error. Ray would try a constructor that fails several
    times, and then hide its error in an `ActorDiedError`, which `except InvalidRequest` does not catch.
    """

    def __init__(self, open_stage: OpenStage, options: StageOptions) -> None:
        self._error: TrunklineError | None = None
        try:
            self._stage = open_stage(options)
        except TrunklineError as error:
            self._error = error

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield a block with the columns of the answers. Raises what the stage raises."""
        if self._error is not None:
            raise self._error
        yield from self._stage(table)
