"""A job with trunkline_ray: `python trunkline_ray_job.py URL IN OUT CONCURRENCY ACTORS [NAME=VALUE ...]`.

OUT becomes a folder of JSON lines; the journals are in the folder `OUT.journal`. CONCURRENCY is that of all actors.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
import trunkline_ray


def main(url: str, source: str, output: str, concurrency: int, actors: int, more: dict[str, Any]) -> None:
    ray.init(include_dashboard=False, num_cpus=2)
    settings = {"provider": "openai-compatible", "api_url": url, "default_model": "batch"}
    dataset = trunkline_ray.map(
        ray.data.read_json(source, lines=True),
        "[row {id}] {text}",
        service="main",
        config={"services": {"main": settings}},
        journal=f"{output}.journal",
        id_column="id",
        concurrency=max(1, concurrency // actors),
        actors=actors,
        **more,
    )
    dataset.write_json(output)


if __name__ == "__main__":
    named = (pair.split("=") for pair in sys.argv[6:])
    main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]), {name: int(value) for name, value in named})
