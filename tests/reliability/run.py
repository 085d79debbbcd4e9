"""Run every measurement of reliability and print the results: `python tests/reliability/run.py --size ci`.

They run one after another, each in its own process. The exit status is 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MEASUREMENTS = (
    "truncation",
    "cancellation",
    "neighbours",
    "storm",
    "fallback",
    "slow_consumer",
    "soak",
    "chaos",
    "peers",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/reliability/run.py")
    parser.add_argument("--size", choices=("smoke", "ci", "full"), default="ci")
    parser.add_argument("--json", type=Path, help="write the figures to this folder, one file for each measurement")
    arguments = parser.parse_args()
    failed = []
    for name in MEASUREMENTS:
        command = [sys.executable, str(HERE / f"{name}.py"), "--size", arguments.size]
        if arguments.json is not None:
            arguments.json.mkdir(parents=True, exist_ok=True)
            command += ["--json", str(arguments.json / f"{name}.json")]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print(f"broken promises: {', '.join(failed)}" if failed else "every promise is kept")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
