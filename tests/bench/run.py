"""Compare Trunkline with a hand-written HTTP client and with other libraries: `nox -s bench`.

    python tests/bench/run.py                          all measures; Trunkline and the hand-written clients
    python tests/bench/run.py --peers                  other libraries too, each in its own environment
    python tests/bench/run.py -m chunk,first -r 9      two measures, nine rounds
    python tests/bench/run.py --show out/bench.json    print earlier results

A sample is a fresh process. A round takes one sample of each client. The order rotates from round to round, so that a
slow moment of the machine affects all clients. The report has the median and the range of the samples, and two ratios
to the hand-written client of the same wire format. The first compares the lowest samples, because other programs on the
machine can only make a sample slower. The second is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

import peers  # noqa: E402
import report  # noqa: E402

FLOORS = {"chat": "httpx2_chat", "anthropic": "httpx2_anthropic", "bedrock": "httpx2_bedrock"}
OURS = {"chat": "trunkline_chat", "anthropic": "trunkline_anthropic", "bedrock": "trunkline_bedrock"}
FAST = {wire: f"{name}_fast" for wire, name in OURS.items()}

#   name: (measure in sample.py, its arguments, wire formats, rounds)
MEASURES: dict[str, tuple[str, dict[str, Any], tuple[str, ...], int]] = {
    "cold": ("cold", {}, ("chat", "anthropic", "bedrock"), 7),
    "call": ("call", {}, ("chat", "anthropic", "bedrock"), 5),
    "first": ("first", {}, ("chat",), 5),
    "chunk": ("chunk", {}, ("chat", "anthropic", "bedrock"), 5),
    "chunk_32": ("chunk", {"how": "b32"}, ("chat", "anthropic", "bedrock"), 5),
    "chunk_paced": ("chunk", {"how": "g1", "texts": 400, "streams": 3}, ("chat",), 5),
    "own": ("own", {}, ("chat", "anthropic", "bedrock"), 5),
    "idle": ("idle", {}, ("chat",), 3),
    **{f"together_{n}": ("together", {"streams": n}, ("chat",), 3) for n in (1, 10, 50, 200)},
    "together_1000": ("together", {"streams": 1000}, ("chat",), 2),
}


def sample(python: str, client: str, measure: str, origin: str, timeout: float) -> dict[str, Any]:
    """One sample, or its error."""
    name, arguments, _, _ = MEASURES[measure]
    command = [python, str(HERE / "sample.py"), client, name, origin, json.dumps(arguments)]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": ""}
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {timeout:g} s"}
    try:
        found: dict[str, Any] = json.loads(ended.stdout.strip().rpartition("\n")[2])
    except ValueError:
        return {"error": ended.stderr.strip().rpartition("\n")[2][:200] or "no output"}
    return found


def clients(with_peers: list[str]) -> dict[str, tuple[str, str]]:
    """The wire format and the Python of each client."""
    found = {name: (wire, sys.executable) for wire, name in (*FLOORS.items(), *OURS.items(), *FAST.items())}
    for name in with_peers:
        found[name] = (peers.PEERS[name].wire, str(peers.python(name)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--measures", default=",".join(MEASURES))
    parser.add_argument("-c", "--clients", default="", help="only these clients")
    parser.add_argument("-r", "--rounds", type=int, help="rounds of every measure")
    parser.add_argument("-t", "--timeout", type=float, default=300, help="seconds before a sample counts as failed")
    parser.add_argument("-o", "--out", type=Path, default=HERE / "out" / "bench.json")
    parser.add_argument(
        "--peers", nargs="*", metavar="NAME", help=f"some of {', '.join(peers.PEERS)}; all without NAME"
    )
    parser.add_argument("--show", type=Path, metavar="JSON", help="print the results in this file")
    options = parser.parse_args()
    if options.show:
        print(report.table(json.loads(options.show.read_text())))
        return
    chosen = clients((options.peers or list(peers.PEERS)) if options.peers is not None else [])
    if options.clients:
        chosen = {name: chosen[name] for name in options.clients.split(",")}
    result: dict[str, Any] = {
        "python": platform.python_version(),
        "versions": report.versions(),
        "clients": {name: {"wire": wire} for name, (wire, _) in chosen.items()},
        "floors": FLOORS,
        "samples": {},
    }
    server = subprocess.Popen([sys.executable, str(HERE / "provider.py")], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        origin = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        for measure in options.measures.split(","):
            wires, rounds = MEASURES[measure][2], options.rounds or MEASURES[measure][3]
            names = [name for name, (wire, _) in chosen.items() if wire in wires]
            if measure == "own":  # the other libraries cannot run without their transport
                names = [name for name in names if name in (*FLOORS.values(), *OURS.values())]
            samples: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            result["samples"][measure] = samples
            for turn in range(rounds):
                shift = turn % max(len(names), 1)
                for name in names[shift:] + names[:shift]:
                    taken = sample(chosen[name][1], name, measure, origin, options.timeout)
                    samples[name].append(taken)
                    shown = {key: round(value) for key, value in taken.items() if isinstance(value, float)}
                    print(
                        f"{time.strftime('%H:%M:%S')} {measure} {name} {taken.get('error') or shown}", file=sys.stderr
                    )
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(result, indent=1))
    finally:
        server.terminate()
        server.wait()
    print(report.table(result))
    options.out.with_suffix(".md").write_text(report.table(result))
    options.out.with_suffix(".svg").write_text(report.plot(result))


if __name__ == "__main__":
    main()
