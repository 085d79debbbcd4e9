"""`map`: a stage of a Ray dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from trunkline.batch import OperationName, RequestFunction, row_requests
from trunkline.batch.batch_state import MOST_ROWS
from trunkline.batch.row_calls import check_options
from trunkline.errors import InvalidRequest

from trunkline_ray.actor import TrunklineActor
from trunkline_ray.batch_stage import BatchStage
from trunkline_ray.configuration import check_no_secrets, with_absolute_paths
from trunkline_ray.limits import ClusterLimits, start_limiter
from trunkline_ray.stage import Stage, StageOptions

if TYPE_CHECKING:
    from ray.data import Dataset

BLOCKS_AT_ONCE = 4
"""How many blocks an actor works on at once, so that the slow rows at the end of a block do not leave it idle."""


def map(  # noqa: A001
    dataset: Dataset,
    request: str | RequestFunction | None = None,
    *,
    service: str,
    journal: str | os.PathLike[str],
    config: str | os.PathLike[str] | Mapping[str, object] = "trunkline.toml",
    id_column: str = "id",
    system: str | None = None,
    operation: OperationName = "chat",
    params: Mapping[str, object] | None = None,
    answer_type: object = None,
    answer_retries: int = 0,
    concurrency: int = 16,
    actors: int | tuple[int, int] = 1,
    limits: ClusterLimits | None = None,
    rows_per_request: int = 1,
    retry_failed: bool = False,
    provider_batches: bool = False,
    patience: float = 900.0,
    prefix: str = "",
    ray_options: Mapping[str, object] | None = None,
) -> Dataset:
    """Return a dataset with the answers of a service to each row, in additional columns.

    Like every stage of Ray Data, it runs when the dataset is consumed. Each actor records each answer in `journal`
    before it passes the answer on. So a worker that Ray starts again, and a job that you run again, take recorded
    answers from there; for each process that was killed, at most `concurrency` requests are sent again.

    - `request`, `system`, `operation`, `params`, `answer_type`, `answer_retries`, `rows_per_request`, `retry_failed`
      and `patience` are those of `trunkline.batch.map`.
    - `service` is the name of a service in `config`: a configuration file that every machine has, or a mapping of the
      same form, whose secrets must be references. Relative paths are relative to the folder of this process.
    - `journal` is a folder that all machines share. It belongs to one dataset and one kind of request.
    - `id_column` is the column with the ids of the rows: texts or whole numbers, which must be unique.
    - `actors` is the number of actors, or the smallest and the largest number. Each has its own service, and keeps
      `concurrency` requests in flight.
    - `limits` are limits of requests, tokens and concurrency that all actors share, retries included. Without them, the
      limits of the service in `config` hold for each actor.
    - `provider_batches` submits the rows of a chat in batches of the provider, for half the price and answered within a
      day or so. There is one actor then, and `concurrency` is how many parts of 50,000 rows it works on at once. What
      was submitted before a job died is collected by the next one.
    - `prefix` comes before the names of the new columns, for a dataset that has such columns already.
    - `ray_options` are further options of `Dataset.map_batches`. By default, an actor takes no CPU (`num_cpus=0`).

    The new columns are `response_text` and others of the operation, `response_model`, `response_input_tokens`,
    `response_output_tokens`, `response_json` (the whole response, as `trunkline.storage` stores it), `error_type`,
    `error_message`, `error_status` and `error_retryable`. A row that failed has an error, and no response.

    Raises `InvalidRequest` for wrong arguments, and `ConfigurationError` if the mapping contains a secret, or if
    `limits` are in use with other values. The job ends with `MapStopped` if the service cannot serve, for example
    because the key is wrong, or if it is down for longer than `patience`; with `InvalidRequest` if a row has no id,
    or `journal` has the answers to other requests; and with `ConfigurationError` if `config` is wrong. Ray raises these
    errors with its own class `RayTaskError` added, so `except MapStopped` catches them.
    """
    from ray.data import ActorPoolStrategy

    row_requests(operation, request, system=system, params=params)
    check_options(
        operation, concurrency=concurrency, rows_per_request=rows_per_request, provider_batches=provider_batches
    )
    if provider_batches and actors != 1:
        raise InvalidRequest("with provider_batches, actors must be 1: one actor can wait for all batches")
    if provider_batches and limits is not None:
        raise InvalidRequest(
            "with provider_batches, limits must be None: the provider itself decides when it answers the requests"
        )
    if isinstance(config, Mapping):
        check_no_secrets(config)
    options = StageOptions(
        run=uuid4().hex[:12],
        config=with_absolute_paths(config) if isinstance(config, Mapping) else str(Path(config).absolute()),
        service=service,
        journal=str(Path(journal).absolute()),
        operation=operation,
        request=request,
        system=system,
        params=dict(params or {}),
        id_column=id_column,
        answer_type=answer_type,
        answer_retries=answer_retries,
        concurrency=concurrency,
        rows_per_request=rows_per_request,
        retry_failed=retry_failed,
        patience=patience,
        prefix=prefix,
        limits=limits,
    )
    if limits is not None:
        start_limiter(limits)
    smallest, largest = (actors, actors) if isinstance(actors, int) else actors
    pool = ActorPoolStrategy(
        min_size=smallest,
        max_size=largest,
        max_concurrent_calls_per_actor=concurrency if provider_batches else BLOCKS_AT_ONCE,
        enable_true_multi_threading=True,
    )
    given: dict[str, Any] = {"num_cpus": 0, **(ray_options or {})}
    return cast(
        "Dataset",
        dataset.map_batches(
            TrunklineActor,
            fn_constructor_kwargs={"open_stage": BatchStage if provider_batches else Stage, "options": options},
            batch_size=MOST_ROWS if provider_batches else None,
            batch_format="pyarrow",
            udf_modifying_row_count=False,
            compute=pool,
            **given,
        ),
    )
