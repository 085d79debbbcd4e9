"""A Ray dataset whose actors share limits, and a provider that counts: `python limited_dataset.py OPTIONS-AS-JSON`.

Writes what the provider has seen to `result.json` in the `folder` of the options. Run it in a network namespace: Ray
listens on every address.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import ray
import trunkline_ray
from limited_workers import ask, provider

CONFIG = {"provider": "openai-compatible", "default_model": "batch", "api_key": {"env": "BATCH_KEY"}}


def main(options: dict[str, Any]) -> None:
    os.environ["BATCH_KEY"] = "k"
    folder = Path(options["folder"])
    with provider(options) as url:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        ray.data.DataContext.get_current().enable_progress_bars = False
        answered = trunkline_ray.map(
            ray.data.range(options["rows"], override_num_blocks=8),
            "[row {id}] label it",
            service="main",
            config={"services": {"main": {**CONFIG, "api_url": url}}},
            journal=folder / "journal",
            actors=options["workers"],
            limits=trunkline_ray.ClusterLimits(
                name="test", folder=folder, period=options["period"], **options["limits"]
            ),
        )
        answered.materialize()
        (folder / "result.json").write_text(json.dumps(ask(url, "/stats")))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
