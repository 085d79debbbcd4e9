"""Check the wheels and source archives in a folder: `check_archives.py FOLDER`. Exits with 1 where one is wrong."""

from __future__ import annotations

import json
import re
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "trunkline": ROOT / "core",
    **{f"trunkline-{path.parent.name}": path.parent for path in ROOT.glob("plugins/*/pyproject.toml")},
}
ALLOWED = (".py", "/py.typed", ".json", ".toml", ".txt", ".md", ".tmpl", ".html", ".css", ".js", ".svg", ".gguf")
LIBRARIES = {"trunkline-ray"}
"""The distributions that applications import, and that the core does not look for."""
DATA = {"trunkline-smollm2"}
"""The distributions that contain a file for another distribution, whose extra installs them."""
LARGEST = 100_000_000
"""The bytes of the largest file that PyPI takes."""
CORE_DEPENDENCIES = {"anyio", "attrs", "cattrs", "httpcore2", "httpx2", "idna", "pluggy"}


def base_requirements(metadata: Message) -> set[str]:
    """The names that are required without any extra."""
    lines = metadata.get_all("Requires-Dist") or []
    return {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line}


def extras(metadata: Message) -> dict[str, set[str]]:
    """The names that each extra requires."""
    found: dict[str, set[str]] = {name: set() for name in metadata.get_all("Provides-Extra") or []}
    for line in metadata.get_all("Requires-Dist") or []:
        marker = re.search(r"extra == ['\"]([\w.-]+)['\"]", line)
        if marker:
            found[marker[1]].add(re.split(r"[^\w.-]", line, maxsplit=1)[0])
    return found


def check_metadata(name: str, metadata: Message, entry_points: str) -> Iterator[str]:
    """What is wrong with a wheel's metadata."""
    readme = (FOLDERS[name] / "README.md").read_text(encoding="utf-8")
    if str(metadata.get_payload()).strip() != readme.strip():
        yield "its description is not its README.md"
    licence = "MIT AND Apache-2.0" if name in DATA else "MIT"
    for field, value in {"Requires-Python": ">=3.11", "License-Expression": licence}.items():
        if metadata[field] != value:
            yield f"{field} is {metadata[field]!r}, not {value!r}"
    if not metadata["Summary"]:
        yield "it has no summary"
    if name == "trunkline":
        if base_requirements(metadata) != CORE_DEPENDENCIES:
            yield f"it requires {sorted(base_requirements(metadata))}, not {sorted(CORE_DEPENDENCIES)}"
        for plugin in sorted(set(FOLDERS) - {"trunkline"} - DATA):
            if extras(metadata).get(plugin.removeprefix("trunkline-")) != {plugin}:
                yield f"its extra {plugin.removeprefix('trunkline-')!r} does not name {plugin} alone"
    elif name in DATA:
        if base_requirements(metadata):
            yield f"it requires {sorted(base_requirements(metadata))}, though it is only a file"
    else:
        if "trunkline" not in base_requirements(metadata):
            yield "it does not require trunkline"
        if name not in LIBRARIES and not re.search(
            r"^\[trunkline\.(providers|extensions|commands)\]$", entry_points, re.MULTILINE
        ):
            yield "it has no entry point in a group of trunkline"


def check_wheel(name: str, wheel: Path) -> Iterator[str]:
    """What is wrong with a wheel."""
    package = name.replace("-", "_")
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
        files = archive.namelist()
        info = next(file.split("/")[0] for file in files if ".dist-info/" in file)
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
        points = f"{info}/entry_points.txt"
        entry_points = archive.read(points).decode() if points in files else ""
        init = archive.read(f"{package}/__init__.py").decode()
    licences = ("LICENSE", "LICENSE-MODEL") if name in DATA else ("LICENSE",)
    for wanted in (f"{package}/py.typed", *(f"{info}/licenses/{licence}" for licence in licences)):
        if wanted not in files:
            yield f"it lacks {wanted}"
    models = [file for file in files if file.endswith(".gguf")]
    if len(models) != (name in DATA):
        yield f"it has {len(models)} models"
    if wheel.stat().st_size > LARGEST:
        yield f"it has {wheel.stat().st_size} bytes, more than the package index takes"
    outside = [file for file in files if file.split("/")[0] not in (package, info)]
    if outside:
        yield f"it would install {outside} beside its package"
    # Whatever runs by itself: a .pth file runs when Python starts, a script or a binary when its name is typed.
    for entry in entries:
        if not entry.filename.endswith(ALLOWED) and entry.filename.split("/")[0] != info:
            yield f"it has {entry.filename}, which is neither Python nor a type marker"
        if entry.external_attr >> 16 & 0o111:
            yield f"{entry.filename} is executable"
    if f'__version__ = "{metadata["Version"]}"' not in init:
        yield f"its version {metadata['Version']} is not its package's"
    yield from check_metadata(name, metadata, entry_points)


def check_source_archive(name: str, archive_path: Path) -> Iterator[str]:
    """What is wrong with a source archive."""
    with tarfile.open(archive_path) as archive:
        top = archive_path.name.removesuffix(".tar.gz")
        if any(file.endswith(".gguf") for file in archive.getnames()):
            yield "it has a model, which only the wheel should have"
        for wanted in ("README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"):
            if f"{top}/{wanted}" not in archive.getnames():
                yield f"it lacks {wanted}"
                continue
            member = archive.extractfile(f"{top}/{wanted}")
            version = top.rpartition("-")[2]
            if wanted == "CHANGELOG.md" and member and f"## {version}" not in member.read().decode():
                yield f"its changelog has no section for {version}"


def check_materials(name: str, path: Path) -> Iterator[str]:
    """What is wrong with a distribution's bill of materials."""
    if not path.is_file():
        yield "there is none"
        return
    bill = json.loads(path.read_text(encoding="utf-8"))
    if bill["bomFormat"] != "CycloneDX" or bill["metadata"]["component"]["name"] != name:
        yield f"it is no CycloneDX bill of {name}"
    components = bill.get("components", [])  # missing if nothing is required
    listed = {component["name"].replace("_", "-").lower() for component in components}
    project = tomllib.loads((FOLDERS[name] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in project["dependencies"]:
        required = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        if not required.startswith("trunkline") and required not in listed:
            yield f"it lacks {required}"
    if not all(component.get("version") for component in components):
        yield "it has a component without a version"


def main(folder: Path) -> int:
    """Check everything, print what is wrong, and give the exit status."""
    problems = []
    for name in FOLDERS:
        stem = name.replace("-", "_")
        wheels, sources = sorted(folder.glob(f"{stem}-*.whl")), sorted(folder.glob(f"{stem}-*.tar.gz"))
        if (len(wheels), len(sources)) != (1, 1):
            problems.append(f"{name}: {len(wheels)} wheels and {len(sources)} source archives, not one of each")
            continue
        bill = folder / f"{name}.cdx.json"
        problems += [f"{bill.name}: {problem}" for problem in check_materials(name, bill)]
        problems += [f"{wheels[0].name}: {problem}" for problem in check_wheel(name, wheels[0])]
        problems += [f"{sources[0].name}: {problem}" for problem in check_source_archive(name, sources[0])]
    print(
        "\n".join(problems)
        or f"{len(FOLDERS)} distributions, each with a wheel, a source archive and a bill of materials: all right"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
