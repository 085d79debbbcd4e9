"""Print the wheel of a distribution, and those of its dependencies that are built here: `wheels_for.py FOLDER NAME`."""

from __future__ import annotations

import re
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path


def requirements(wheel: Path) -> set[str]:
    """The names that a wheel requires without any extra."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    declared = metadata.get_all("Requires-Dist") or []
    return {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in declared if "extra ==" not in line}


def wheels(folder: Path, name: str) -> dict[str, Path]:
    """The wheels by distribution name: the one called `name`, and the local ones that it requires, at any depth."""
    built = {path.name.split("-")[0].replace("_", "-"): path for path in folder.glob("*.whl")}
    found: dict[str, Path] = {}
    wanted = [name]
    while wanted:
        current = wanted.pop()
        if current in built and current not in found:
            found[current] = built[current]
            wanted.extend(requirements(built[current]))
    return found


if __name__ == "__main__":
    print("\n".join(str(path) for path in wheels(Path(sys.argv[1]), sys.argv[2]).values()))
