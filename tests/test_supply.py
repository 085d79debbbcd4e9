"""What the project is built and released with: pinned requirements, the release workflow."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PINNED = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
WORKFLOW = (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")


def normal(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def entries() -> list[str]:
    return re.split(r"\n(?=\S)", PINNED.strip())


def test_every_development_requirement_is_pinned_and_hashed() -> None:
    for entry in entries():
        assert re.match(r"[\w.-]+==[\w.+!]+( ; [^\\]+)? \\\n", entry), entry.splitlines()[0]
        hashes = entry.split("\\\n")[1:]
        assert hashes, entry
        assert all(re.fullmatch(r"\s+--hash=sha256:[0-9a-f]{64}\s*", line) for line in hashes), entry.splitlines()[0]


def test_the_development_requirements_name_no_host_and_none_of_our_own() -> None:
    assert not re.search(r"://|--(extra-)?index|--find-links|^-|@|#", PINNED, re.MULTILINE)
    assert "trunkline" not in PINNED


@pytest.mark.parametrize("group", GROUPS)
def test_the_pinned_requirements_cover_each_dependency_group(group: str) -> None:
    pinned = {normal(entry) for entry in entries()}
    assert {normal(line) for line in GROUPS[group] if isinstance(line, str)} <= pinned


def test_the_pinned_requirements_cover_what_the_distributions_need() -> None:
    pinned = {normal(entry) for entry in entries()}
    for path in [ROOT / "core" / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]:
        needed = {normal(line) for line in tomllib.loads(path.read_text())["project"]["dependencies"]}
        assert {name for name in needed if not name.startswith("trunkline")} <= pinned, path


def test_a_release_is_published_without_a_token_and_with_attestations() -> None:
    jobs = yaml.safe_load(WORKFLOW)["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["environment"] == "release"
    [upload] = [step for step in jobs["publish"]["steps"] if step["uses"].startswith("pypa/gh-action-pypi-publish@")]
    assert upload["with"] == {"attestations": True}
    assert "secrets." not in WORKFLOW
    assert "password" not in WORKFLOW


def test_no_other_job_of_the_release_may_write_or_prove_who_it_is() -> None:
    workflow = yaml.safe_load(WORKFLOW)
    assert workflow["permissions"] == {}
    assert workflow["jobs"]["build"]["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@(v\d+|release/v\d+|[0-9a-f]{40})", step.get("uses", "a/b@v1"))
