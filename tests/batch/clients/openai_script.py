"""What a careful user writes by hand with the openai SDK: `python openai_script.py URL IN OUT CONCURRENCY`.

Bounded concurrency, the retries of the SDK, an output of a line for each answer, and another run that leaves out the
rows of the output.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from openai import AsyncOpenAI


async def main(url: str, source: Path, output: Path, concurrency: int) -> None:
    done = set()
    if output.exists():
        done = {json.loads(line)["id"] for line in output.read_text(encoding="utf-8").splitlines()}
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    client = AsyncOpenAI(base_url=url, api_key="REDACTED", max_retries=5)
    semaphore = asyncio.Semaphore(concurrency)
    failed = 0

    with output.open("a", encoding="utf-8") as file:

        async def label(row: dict[str, str]) -> None:
            nonlocal failed
            async with semaphore:
                prompt = f"[row {row['id']}] {row['text']}"
                messages = [{"role": "user", "content": prompt}]
                try:
                    answer = await client.chat.completions.create(model="batch", messages=messages)  # type: ignore[arg-type]
                except Exception as error:
                    failed += 1
                    print(f"row {row['id']}: {error!r}", file=sys.stderr)
                    return
                file.write(json.dumps({"id": row["id"], "text": answer.choices[0].message.content}) + "\n")
                file.flush()

        await asyncio.gather(*(label(row) for row in rows if row["id"] not in done))
    print(f"{failed} failed")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
