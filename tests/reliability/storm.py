"""Measure a storm of 429: many callers of one service while the provider answers 429 for some time.

`python tests/reliability/storm.py` runs 500 callers through 30 seconds, on asyncio and trio, with three variants of
`Retry-After`: `honest` names the end of the storm, `short` is far too short, `none` is missing. It prints a line for
each and then all figures as JSON. It fails if a promise is broken: while the provider answers 429, there are at most
1.2 requests per call; at least 99 % of the calls succeed; with an honest `Retry-After` all calls succeed, with at most
two requests each.

`--callers 60 --storm 1` takes seconds. `--provider` selects another wire format of `wires.py`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import anyio
from trunkline import TrunklineError
from trunkline.testing import Exchange, serve
from wires import WIRES, Wire

Figures: TypeAlias = dict[str, str | int | float | None]

VARIANTS = ("honest", "short", "none")
BACKENDS = ("asyncio", "trio")
_CALLER = re.compile(rb"caller \d+")


class Storm:
    """The provider: it answers 429 until `ends`, by the event loop's clock, and counts the requests."""

    def __init__(self, wire: Wire, variant: str, seconds: float) -> None:
        self.ends = anyio.current_time() + seconds
        self.during = 0
        self.by_caller: Counter[bytes] = Counter()
        self.returned: list[float] = []
        self._variant = variant
        self._wire = wire

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        self.by_caller.update(_CALLER.findall(exchange.request.body))
        left = self.ends - anyio.current_time()
        if left <= 0:
            self.returned.append(-left)
            await exchange.start(headers=self._wire.headers)
            await exchange.chunk(b"".join(self._wire.stream(["hi"])))
            return await exchange.end()
        self.during += 1
        asked = {"honest": {"retry-after-ms": f"{left * 1000 + 1:.0f}"}, "short": {"retry-after": "1"}, "none": {}}
        headers = {"content-type": "application/json", **asked[self._variant]}
        return await exchange.respond(b'{"error":{"message":"slow down"}}', status=429, headers=headers)


async def run(provider: str, variant: str, callers: int, seconds: float, total_timeout: float) -> Figures:
    """The figures of one storm."""
    wire = WIRES[provider]
    storm = Storm(wire, variant, seconds)
    succeeded, errors = 0, Counter[str]()
    settings = {"total_timeout": total_timeout, "http_library": "auto"}
    async with serve(storm.handle) as server, wire.open(server.url, **settings) as service:

        async def call(number: int) -> None:
            nonlocal succeeded
            try:
                async with service.stream(f"caller {number}") as stream:
                    async for _ in stream:
                        pass
                succeeded += 1
            except TrunklineError as error:
                errors[str(error)] += 1

        async with anyio.create_task_group() as tasks:
            for number in range(callers):
                tasks.start_soon(call, number)
    returned = sorted(storm.returned)
    busiest = max(Counter(int(at * 10) for at in returned).values(), default=0)
    for error, times in errors.most_common(3):
        print(f"  {times} × {error}", file=sys.stderr)
    return {
        "calls": callers,
        "storm_seconds": seconds,
        "requests_during": storm.during,
        "requests_during_per_call": round(storm.during / callers, 3),
        "succeeded": succeeded,
        "most_requests_of_a_call": max(storm.by_caller.values(), default=0),
        "first_return_seconds": round(returned[0], 3) if returned else None,
        "median_return_seconds": round(returned[len(returned) // 2], 3) if returned else None,
        "last_return_seconds": round(returned[-1], 3) if returned else None,
        "most_returns_in_100_ms": busiest,
    }


def kept(variant: str, figures: Figures) -> bool:
    """Whether the promises hold."""
    calls, during, succeeded = (int(figures[name] or 0) for name in ("calls", "requests_during", "succeeded"))
    if variant == "honest" and (succeeded < calls or int(figures["most_requests_of_a_call"] or 0) > 2):
        return False
    return during <= 1.2 * calls and succeeded >= 0.99 * calls


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--callers", type=int, default=500)
    parser.add_argument("--storm", type=float, default=30.0, help="seconds for which the provider answers 429")
    parser.add_argument("--total-timeout", type=float, default=90.0, help="the service's setting, in seconds")
    parser.add_argument("--provider", choices=tuple(WIRES), default="openai-compatible")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="the kind of Retry-After; all by default")
    parser.add_argument("--backend", choices=BACKENDS, action="append", help="both by default")
    options = parser.parse_args(arguments)
    results: list[Figures] = []
    for backend in options.backend or BACKENDS:
        for variant in options.variant or VARIANTS:
            asked = (options.provider, variant, options.callers, options.storm, options.total_timeout)
            figures = anyio.run(run, *asked, backend=backend)
            kept_all = kept(variant, figures)
            results.append({"backend": backend, "retry_after": variant, **figures, "kept": kept_all})
            print(
                f"{backend}, Retry-After {variant}: {figures['requests_during']} requests during the storm for "
                f"{figures['calls']} calls ({figures['requests_during_per_call']} per call), {figures['succeeded']} "
                f"succeeded, at most {figures['most_requests_of_a_call']} requests per call, back within "
                f"{figures['first_return_seconds']} to {figures['last_return_seconds']} s: "
                f"{'kept' if kept_all else 'BROKEN'}"
            )
    print(json.dumps(results, indent=1))
    return 0 if all(result["kept"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
