"""Runs every measurement of reliability and prints the figures: `python tests/reliability/run.py --size ci`.

Each runs in a process of its own, one after another. Ends with status 1 where a promise is not kept.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
STORM = {"smoke": ("--callers", "30", "--storm", "1"), "ci": ("--callers", "60", "--storm", "2"), "full": ()}
"""`storm.py` has arguments of its own, and prints its figures."""

MEASUREMENTS = ("truncation", "cancellation", "neighbours", "storm", "slow_consumer", "soak", "peers")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/reliability/run.py")
    parser.add_argument("--size", choices=("smoke", "ci", "full"), default="ci")
    parser.add_argument("--json", type=Path, help="a folder for the figures, a file a measurement")
    arguments = parser.parse_args()
    failed = []
    for name in MEASUREMENTS:
        command = [sys.executable, str(HERE / f"{name}.py")]
        command += STORM[arguments.size] if name == "storm" else ("--size", arguments.size)
        if arguments.json is not None and name != "storm":
            arguments.json.mkdir(parents=True, exist_ok=True)
            command += ["--json", str(arguments.json / f"{name}.json")]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print(json.dumps({"not kept": failed}) if failed else "every promise is kept")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
