"""The HTTP stage of `ray.data.llm`: `python ray_llm.py URL IN OUT CONCURRENCY`. OUT becomes a folder of JSON lines.

A batch is sent one request after another, and an actor has four batches in flight. So it takes CONCURRENCY / 4 actors.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray.data.llm import HttpRequestProcessorConfig, build_processor


def preprocess(row: dict[str, Any]) -> dict[str, Any]:
    content = f"[row {row['id']}] {row['text']}"
    return {"id": row["id"], "payload": {"model": "batch", "messages": [{"role": "user", "content": content}]}}


def postprocess(row: dict[str, Any]) -> dict[str, Any]:
    response = row["http_response"]
    choices = response.get("choices")
    text = None if choices is None or len(choices) == 0 else choices[0]["message"]["content"]
    return {"id": row["id"], "response_text": text}


def main(url: str, source: str, output: str, concurrency: int) -> None:
    ray.init(include_dashboard=False, num_cpus=2)
    config = HttpRequestProcessorConfig(
        url=f"{url}/chat/completions",
        headers={"authorization": "Bearer REDACTED"},
        concurrency=max(1, concurrency // 4),
        batch_size=64,
        max_retries=5,
        base_retry_wait_time_in_s=0.5,
        http_request_stage={"num_cpus": 0.01},
    )
    processor = build_processor(config, preprocess=preprocess, postprocess=postprocess)
    processor(ray.data.read_json(source, lines=True)).write_json(output)


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))
