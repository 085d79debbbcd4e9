"""What the project is built, checked and released with: pinned requirements, workflows, hooks, issue forms."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PINNED = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
WORKFLOWS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml")}
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


# Versions

PROJECTS = {
    path.parent.name: tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    for path in [ROOT / "core" / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
}


def requirements_of_others(project: dict[str, Any]) -> list[Requirement]:
    """What a distribution requires, its extras included, but for the distributions of this repository."""
    extras = project.get("optional-dependencies", {}).values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    return [found for found in map(Requirement, lines) if not found.name.startswith("trunkline")]


def lowest(requirement: Requirement) -> Version | None:
    return next((Version(part.version) for part in requirement.specifier if part.operator == ">="), None)


@pytest.mark.parametrize("name", PROJECTS)
def test_each_requirement_of_a_distribution_has_a_lowest_version(name: str) -> None:
    assert [str(found) for found in requirements_of_others(PROJECTS[name]) if lowest(found) is None] == []


def test_the_lowest_version_of_a_requirement_is_the_same_everywhere() -> None:
    """So that one environment with the lowest versions tests all of them."""
    development = [Requirement(line) for group in GROUPS.values() for line in group if isinstance(line, str)]
    bounds: dict[str, set[Version]] = {}
    for found in (requirement for project in PROJECTS.values() for requirement in requirements_of_others(project)):
        bounds.setdefault(found.name, set()).add(lowest(found) or Version("0"))
    for found in development:
        if found.name in bounds and (bound := lowest(found)) is not None:
            bounds[found.name].add(bound)
    assert {name: versions for name, versions in bounds.items() if len(versions) > 1} == {}


def test_the_pinned_versions_are_in_the_ranges_of_the_distributions() -> None:
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", PINNED, re.MULTILINE))
    for project in PROJECTS.values():
        for found in requirements_of_others(project):
            pin = pins.get(normal(found.name))
            assert pin is None or found.specifier.contains(pin), f"{found} does not allow the pinned {pin}"


def test_the_lowest_and_the_newest_versions_are_tested_every_night() -> None:
    matrix = yaml.safe_load(WORKFLOWS["nightly.yml"])["jobs"]["requirements"]["strategy"]["matrix"]["include"]
    pythons = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECTS["core"]["classifiers"]))
    assert matrix == [
        {"session": "tests_lowest", "python": pythons[0]},
        {"session": "tests_newest", "python": pythons[-1]},
    ]
    sessions = set(re.findall(r"^def (\w+)\(session: nox\.Session", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    assert {entry["session"] for entry in matrix} <= sessions


def test_each_distribution_supports_the_same_pythons() -> None:
    supported = {tuple(line for line in project["classifiers"] if "Python ::" in line) for project in PROJECTS.values()}
    assert len(supported) == 1


# Releases


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


# Pull requests


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_uses_actions_by_version_or_hash_and_names_no_package_index(name: str) -> None:
    for job in yaml.safe_load(WORKFLOWS[name])["jobs"].values():
        for step in job["steps"]:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+@(v\d+|release/v\d+|[0-9a-f]{40})", step.get("uses", "a/b@v1"))
            assert step.get("with", {}).get("persist-credentials", False) is False
    assert "index-url" not in WORKFLOWS[name]


def test_pull_requests_run_without_secrets_and_may_only_read() -> None:
    workflow = yaml.safe_load(WORKFLOWS["ci.yml"])
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request" in workflow[True]  # YAML 1.1 reads the key `on` as true
    assert not re.search(r"pull_request_target|secrets\.|id-token", WORKFLOWS["ci.yml"])


def test_pull_requests_are_tested_on_linux_and_macos_with_each_supported_python() -> None:
    matrix = yaml.safe_load(WORKFLOWS["ci.yml"])["jobs"]["tests"]["strategy"]["matrix"]
    project = tomllib.loads((ROOT / "core" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pythons = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert matrix == {"os": ["ubuntu-latest", "macos-latest"], "python": pythons}


def test_pull_requests_run_only_sessions_that_exist() -> None:
    sessions = set(re.findall(r"^def (\w+)\(session: nox\.Session", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    named = {
        name for words in re.findall(r"nox -s ([\w ]+)$", WORKFLOWS["ci.yml"], re.MULTILINE) for name in words.split()
    }
    assert named
    assert named <= sessions


def test_pre_commit_runs_the_ruff_that_the_project_pins() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    pin = [requirement for requirement in GROUPS["lint"] if requirement.startswith("ruff==")]
    assert [hook["additional_dependencies"] for hook in hooks if hook["id"].startswith("ruff")] == [pin] * 2


FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("path", [path for path in FORMS if path.name != "config.yml"], ids=lambda path: path.stem)
def test_issue_form_has_what_github_requires(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
