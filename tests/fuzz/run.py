"""Coverage-guided fuzzing with atheris. The targets run one after the other and share the time.

    python tests/fuzz/run.py --seconds 3600            all targets
    python tests/fuzz/run.py --seconds 60 stream-x     only these
    python tests/fuzz/run.py --keep                    add new inputs to the kept corpus, minimised

New inputs are written to the folder `--work`; a failing input is kept there as `crash-…`. If there are recordings in
`../shared`, they are used as seeds. The kept corpus contains nothing derived from them: `--keep` needs a work folder
that was made with `--own-seeds`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
RECORDINGS = ROOT / (os.environ.get("TRUNKLINE_RECORDINGS") or "../shared/recordings") / "open"
LONGEST = 20_000
"""The longest input to try, in bytes. tests/test_fuzz.py counts the longer ones."""


def recorded(kind: str) -> Iterator[bytes]:
    """Yield the bodies of recorded responses of the kind that a target takes."""
    for path in sorted(RECORDINGS.glob("*.jsonl")) if kind in ("streams", "answers") else ():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                data = json.loads(line)
                body = b64decode(data.get("response_body_b64") or "") or (data.get("response_body_text") or "").encode()
                if body and len(body) < LONGEST and bool(data["streaming"]) == (kind == "streams"):
                    yield body


def seed(folder: Path, kind: str, *, own: bool) -> list[bytes]:
    """Write recordings to a folder of inputs, unless `own` is true. Return all seeds."""
    found = [path.read_bytes() for path in sorted((HERE / "seeds" / kind).iterdir())]
    if not own:
        wanted = Random(0).sample(bodies, min(200, len(bodies))) if (bodies := list(recorded(kind))) else []
        for number, body in enumerate(wanted):
            (folder / f"recorded-{number}").write_bytes(body)
        found += wanted
    return found


def fuzz(name: str, folder: Path, arguments: list[str], *, own: bool) -> None:
    """Fuzz one target in this process. Does not return."""
    import atheris

    with atheris.instrument_imports(include=sorted(_packages())):
        from fuzz_targets import targets
    from fuzz_mutation import mutate

    target = targets()[name]
    seeds = seed(folder, target.kind, own=own)

    def mutated(data: bytes, longest: int, number: int) -> bytes:
        random = Random(number)
        if random.random() < 0.6:
            for _ in range(random.choice((1, 1, 2, 4))):
                data = mutate(data, random, random.choice(seeds)) or data
            return data[:longest]
        return bytes(atheris.Mutate(data, longest))

    kept = [path for path in (HERE / "corpus" / name, HERE / "seeds" / target.kind) if path.is_dir()]
    command = [sys.argv[0], *arguments, f"-max_len={LONGEST}", "-timeout=20", "-rss_limit_mb=2048"]
    command += [f"-artifact_prefix={folder.parent}/{name}-", str(folder), *map(str, kept)]
    atheris.Setup(command, target.run, custom_mutator=mutated)
    atheris.Fuzz()


def _packages() -> set[str]:
    from importlib.metadata import entry_points

    return {"trunkline", *(point.module.partition(".")[0] for point in entry_points(group="trunkline.providers"))}


def run(names: list[str], work: Path, seconds: float, *, own: bool) -> int:
    """Run each target in its own process and print executions and coverage. Return the number of failed targets."""
    failed, executions, started = 0, 0, time.monotonic()
    for done, name in enumerate(names):
        share = (seconds - (time.monotonic() - started)) / (len(names) - done)
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--one", name, "--work", str(work), "--seconds", str(max(int(share), 1))]
        ended = subprocess.run([*command, *(["--own-seeds"] if own else [])], capture_output=True, check=False)
        output = ended.stderr.decode("utf-8", "replace") + ended.stdout.decode("utf-8", "replace")
        (work / f"{name}.log").write_text(output, encoding="utf-8")
        progress = re.findall(r"#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+)", output)
        count, coverage, features = max((tuple(map(int, line)) for line in progress), default=(0, 0, 0))
        executions += count
        failed += ended.returncode != 0
        result = "ok" if ended.returncode == 0 else f"FAILED, see {work / (name + '.log')}"
        print(f"{name}: {count} executions, coverage {coverage}, features {features}: {result}", flush=True)
    print(f"{executions} executions of {len(names)} targets in {time.monotonic() - started:.0f} s, {failed} failed")
    return failed


def keep(names: list[str], work: Path, budget: int) -> None:
    """Keep the smallest of the fuzzer's inputs that together take every step that any of them takes."""
    from fuzz_targets import targets

    for name in names:
        folder, kept = work / name, HERE / "corpus" / name
        if any(folder.glob("recorded-*")):
            raise SystemExit(f"{folder} was made with recordings as seeds; make one with --own-seeds")
        known = [path.read_bytes() for path in (HERE / "seeds" / targets()[name].kind).iterdir()]
        taken = set().union(*(_taken(name, data) for data in known))
        found = {path.read_bytes() for place in (kept, folder) if place.is_dir() for path in place.iterdir()}
        chosen, size = [], 0
        for data in sorted(found, key=len):
            if size + len(data) <= budget and not (fresh := _taken(name, data)) <= taken:
                taken |= fresh
                chosen.append(data)
                size += len(data)
        kept.mkdir(parents=True, exist_ok=True)
        for data in chosen:
            (kept / sha256(data).hexdigest()[:12]).write_bytes(data)
        print(f"{name}: {len(chosen)} inputs kept, {size} bytes", flush=True)


def _taken(name: str, data: bytes) -> set[tuple[str, int, int]]:
    """Return the steps from line to line in our packages that an input takes."""
    from fuzz_targets import targets

    steps: set[tuple[str, int, int]] = set()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        file = frame.f_code.co_filename
        if "/trunkline" not in file:
            return None
        before = frame.f_lineno

        def local(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal before
            steps.add((file, before, frame.f_lineno))
            before = frame.f_lineno
            return local

        return local

    sys.settrace(trace)
    try:
        targets()[name].run(data)
    finally:
        sys.settrace(None)
    return steps


def main() -> None:
    """The command line."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("targets", nargs="*", help="the targets to run (default: all)")
    reader.add_argument("--seconds", type=float, default=600, help="the time for all targets together")
    reader.add_argument("--work", type=Path, default=ROOT / ".fuzz", help="the folder for inputs and logs")
    reader.add_argument("--own-seeds", action="store_true", help="do not use recordings as seeds")
    reader.add_argument("--keep", action="store_true", help="add minimised inputs to tests/fuzz/corpus")
    reader.add_argument(
        "--budget", type=int, default=20_000, help="the size limit of the kept inputs of each target, in bytes"
    )
    reader.add_argument("--one", help=argparse.SUPPRESS)
    given = reader.parse_args()
    work = given.work.resolve()
    if given.one:
        folder = work / given.one
        fuzz(given.one, folder, [f"-max_total_time={int(given.seconds)}"], own=given.own_seeds)
    else:
        from fuzz_targets import targets

        names = given.targets or list(targets())
        unknown = set(names) - set(targets())
        if unknown:
            raise SystemExit(f"no target {', '.join(sorted(unknown))}; there are {', '.join(targets())}")
        if given.keep:
            keep(names, work, given.budget)
        else:
            sys.exit(run(names, work, given.seconds, own=given.own_seeds) > 0)


if __name__ == "__main__":
    main()
