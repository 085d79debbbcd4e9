"""Print the wheel of a distribution, and those of its dependencies that are built here: `wheels_for.py FOLDER NAME`.

The name may have extras: `trunkline[gateway,llamacpp]`. They follow the path of its wheel, as installers take them.
"""

from __future__ import annotations

import re
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path


def parse(requirement: str) -> tuple[str, frozenset[str]]:
    """The name in a requirement, and its extras."""
    found = re.match(r"([\w.-]+)\s*(?:\[([\w.,\s-]+)\])?", requirement)
    assert found is not None, requirement
    return found[1], frozenset(re.findall(r"[\w.-]+", found[2] or ""))


def requirements(wheel: Path, extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    """What a wheel requires: the names, each with its extras."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    declared = metadata.get_all("Requires-Dist") or []
    wanted = {None, *extras}
    found = {line: re.search(r"extra == ['\"]([\w.-]+)['\"]", line) for line in declared}
    return [parse(line) for line, extra in found.items() if (extra and extra[1]) in wanted]


def wheels(folder: Path, requirement: str) -> dict[str, Path]:
    """The wheels by distribution name: the required one, and the local ones that it requires, at any depth."""
    built = {path.name.split("-")[0].replace("_", "-"): path for path in folder.glob("*.whl")}
    found: dict[str, Path] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    wanted = [parse(requirement)]
    while wanted:
        current = wanted.pop()
        name, extras = current
        if name in built and current not in seen:
            seen.add(current)
            found[name] = built[name]
            wanted.extend(requirements(built[name], extras))
    return found


def main(folder: Path, requirement: str) -> None:
    """Print the paths, the required one first."""
    name, extras = parse(requirement)
    for each, path in wheels(folder, requirement).items():
        print(f"{path}[{','.join(sorted(extras))}]" if extras and each == name else path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
