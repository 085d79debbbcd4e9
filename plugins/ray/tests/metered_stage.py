"""The stage in an actor of Ray, and what Prometheus would scrape: `python metered_stage.py OPTIONS-AS-JSON`.

Writes the metrics, and what the provider has seen, to `result.json` in the `folder` of the options. Run it in a network
namespace: Ray listens on every address.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from limited_dataset import CONFIG
from limited_workers import ask, provider
from prometheus_client.parser import text_string_to_metric_families
from trunkline_ray import ClusterLimits
from trunkline_ray.stage import Stage, StageOptions

PORT = 9151


@ray.remote(num_cpus=0)
class Host:
    """An actor that outlives its rows, unlike those of a dataset."""

    def __init__(self, options: StageOptions) -> None:
        self._stage = Stage(options)

    def run(self, table: pa.Table) -> int:
        return sum(piece.num_rows for piece in self._stage(table))


def scrape() -> tuple[Counter[str], set[str]]:
    """Return the sums of our metrics, and their services."""
    found: Counter[str] = Counter()
    services: set[str] = set()
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics") as answer:
        for family in text_string_to_metric_families(answer.read().decode()):
            for sample in family.samples:
                if sample.name.startswith("ray_trunkline_"):
                    found[sample.name.removeprefix("ray_trunkline_").removesuffix("_total")] += int(sample.value)
                    services.add(sample.labels["service"])
    return found, services


def main(options: dict[str, Any]) -> None:
    os.environ["BATCH_KEY"] = "k"
    folder, rows = Path(options["folder"]), options["rows"]
    with provider(options) as url:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _metrics_export_port=PORT,
            _system_config={"metrics_report_interval_ms": 200},
        )
        stage = StageOptions(
            run="run",
            config={"services": {"main": {**CONFIG, "api_url": url}}},
            service="main",
            journal=str(folder / "journal"),
            operation="chat",
            request="[row {id}] label it",
            system=None,
            params={},
            id_column="id",
            answer_type=None,
            answer_retries=0,
            concurrency=16,
            rows_per_request=1,
            retry_failed=False,
            patience=60.0,
            prefix="",
            limits=ClusterLimits(name="test", folder=folder, **options["limits"]),
        )
        host = Host.remote(stage)
        table = pa.table({"id": list(range(rows))})
        assert ray.get([host.run.remote(table), host.run.remote(table)]) == [rows, rows]
        stats = ask(url, "/stats")
        until = time.monotonic() + 60
        metrics, services = scrape()
        while (metrics["rows_recorded"], metrics["requests"]) != (rows, stats["requests"]) or metrics["rows_in_flight"]:
            assert time.monotonic() < until, metrics
            time.sleep(0.1)
            metrics, services = scrape()
        (folder / "result.json").write_text(json.dumps({**stats, "metrics": metrics, "services": sorted(services)}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
