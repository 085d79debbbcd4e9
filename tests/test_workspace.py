"""The rules of the workspace that a program can check: layout, imports, where `await` stands, what the pages say."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core" / "src" / "trunkline"
PLUGINS = {path.parent.name: path.parent for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))}
DISTRIBUTIONS = {"trunkline": ROOT / "core", **{f"trunkline-{name}": path for name, path in PLUGINS.items()}}

ASYNC_IN_CORE = (
    "_calls/admission.py",
    "_calls/batch_calls.py",
    "_calls/middleware.py",
    "_calls/observed.py",
    "_calls/pipeline.py",
    "_calls/provider_stream.py",
    "_calls/event_reader.py",
    "_calls/response_reader.py",
    "_calls/shared_limits.py",
    "_calls/fetch.py",
    "_calls/model_limits.py",
    "_calls/request_limits.py",
    "_event_loops.py",
    "_http/",
    "batch/mapping.py",
    "batch/provider_batches.py",
    "batch/row_calls.py",
    "batch/rows.py",
    "typed_stream.py",
    "authoring/auth.py",
    "authoring/middleware.py",
    "authoring/polling.py",
    "compose.py",
    "mcp.py",
    "opening.py",
    "provider_service.py",
    "service.py",
    "stream.py",
    "tools/answering.py",
    "tools/functions.py",
    "tools/local_tools.py",
    "tools/runs.py",
    "web.py",
    "cli/",
    "testing/",
)
ASYNC_IN_PLUGINS = (
    "_aiobotocore.py",
    "auth.py",
    "batch_stage.py",
    "limits.py",
    "metrics.py",
    "middleware.py",
    "stage.py",
    "transport.py",
)
ASYNC_IN_GATEWAY = (
    "api/",
    "background.py",
    "calls.py",
    "command.py",
    "console/",
    "database/",
    "embedded_model.py",
    "gateway.py",
    "limits.py",
    "models.py",
    "networks.py",
    "operations.py",
    "redis_limits.py",
    "redis_link.py",
    "running.py",
    "server.py",
    "service_checks.py",
    "service_opening.py",
    "services.py",
    "state.py",
)
"""The gateway is a web application. What it reads and writes of wire formats, and its values, are pure."""
LIBRARIES = {"trunkline-ray"}
"""The distributions that applications import, and that the core does not look for."""
DATA = {"trunkline-smollm2"}
"""The distributions that contain a file for another distribution, whose extra installs them."""
CONVERTER = "OpenAI's form, call trunkline_openai.messages_from(messages), from the package trunkline-openai"
"""The one place where the core names a plugin: the error for a dict says which function converts it to a message."""
PROVIDER_NAMES = re.compile(r"openai|anthropic|bedrock|cohere|mistral|azure|llama_?cpp|ollama|gemini", re.IGNORECASE)


def package(name: str) -> Path:
    return DISTRIBUTIONS[name] / "src" / name.replace("-", "_")


def metadata(name: str) -> dict[str, object]:
    table: dict[str, object] = tomllib.loads((DISTRIBUTIONS[name] / "pyproject.toml").read_text())["project"]
    return table


def version(name: str) -> str:
    source = (package(name) / "__init__.py").read_text(encoding="utf-8")
    [found] = re.findall(r'^__version__ = "(\d+\.\d+\.\d+[\w.]*)"$', source, re.MULTILINE)
    return str(found)


def sources(folder: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(folder).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


# Distributions


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_distribution_has_its_own_pages_licence_and_type_marker(name: str) -> None:
    folder = DISTRIBUTIONS[name]
    assert (folder / "README.md").read_text().startswith(f"# {name if name != 'trunkline' else 'Trunkline'}\n")
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (package(name) / "py.typed").is_file()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_changelog_begins_with_the_version_of_its_distribution(name: str) -> None:
    changelog = (DISTRIBUTIONS[name] / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == version(name)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_changelog_has_the_place_where_fragments_are_inserted(name: str) -> None:
    changelog = (DISTRIBUTIONS[name] / "CHANGELOG.md").read_text(encoding="utf-8")
    before, marker, _ = changelog.partition("\n<!-- towncrier release notes start -->\n")
    assert marker
    assert "## " not in before


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_changelog_fragment_is_named_as_towncrier_reads_it(name: str) -> None:
    types = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]["fragment"]
    pattern = re.compile(rf"(\d+|\+[\w-]+)\.({'|'.join(types)})\.md|README\.md")
    for fragment in (DISTRIBUTIONS[name] / "changelog.d").glob("*"):
        assert pattern.fullmatch(fragment.name), fragment
        assert fragment.read_text(encoding="utf-8").strip(), fragment


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_distribution_names_itself_and_the_pythons_alike(name: str) -> None:
    project, core = metadata(name), metadata("trunkline")
    assert project["name"] == name
    assert project["license"] == ("MIT AND Apache-2.0" if name in DATA else core["license"])
    assert project["requires-python"] == core["requires-python"]
    pythons = [line for line in core["classifiers"] if "Python ::" in line]  # type: ignore[attr-defined]
    assert [line for line in project["classifiers"] if "Python ::" in line] == pythons  # type: ignore[attr-defined]


def test_the_core_has_seven_dependencies_and_an_extra_for_each_plugin() -> None:
    project = metadata("trunkline")
    names = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in project["dependencies"]}  # type: ignore[attr-defined]
    assert names == {"anyio", "attrs", "cattrs", "httpcore2", "httpx2", "idna", "pluggy"}
    extras: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    for plugin in sorted({name.removeprefix("trunkline-") for name in set(DISTRIBUTIONS) - {"trunkline"} - DATA}):
        assert [re.split(r"[^\w-]", line, maxsplit=1)[0] for line in extras[plugin]] == [f"trunkline-{plugin}"]


@pytest.mark.parametrize("name", sorted(set(DISTRIBUTIONS) - {"trunkline"} - LIBRARIES - DATA))
def test_a_plugin_has_entry_points_that_load_and_carry_their_own_name(name: str) -> None:
    from trunkline._plugins.registry import load_provider

    entries: dict[str, dict[str, str]] = metadata(name)["entry-points"]  # type: ignore[assignment]
    for provider in entries.get("trunkline.providers", {}):
        assert load_provider(provider).name == provider
    assert entries


def test_the_workspace_names_every_distribution() -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tools["uv"]["sources"] == {name: {"workspace": True} for name in DISTRIBUTIONS}
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [name for name in DISTRIBUTIONS if f"[`{name}`]" not in changelog] == []


def test_names_of_test_files_are_unique() -> None:
    paths = [path for folder in ("core", "plugins", "tests") for path in (ROOT / folder).rglob("test_*.py")]
    names = [path.name for path in paths if "site-packages" not in path.parts]
    assert sorted(names) == sorted(set(names))


# What the sources may hold


def outside(places: tuple[str, ...], name: str) -> bool:
    return not any(name.startswith(place) if place.endswith("/") else name == place for place in places)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_only_modules_with_io_use_await(name: str) -> None:
    places = {"trunkline": ASYNC_IN_CORE, "trunkline-gateway": ASYNC_IN_GATEWAY}.get(name, ASYNC_IN_PLUGINS)
    awaits = (ast.Await, ast.AsyncFor, ast.AsyncWith)
    found = {
        f"{module}:{node.lineno}"
        for module, tree in sources(package(name))
        if outside(places, module)
        for node in ast.walk(tree)
        if isinstance(node, awaits)
    }
    assert found == set()


@pytest.mark.parametrize(
    ("libraries", "modules"),
    [
        (
            {"httpx2", "httpx"},
            {f"_http/{name}.py" for name in ("own_client", "pool", "tls")},
        ),
        ({"httpcore2"}, {"_http/pool.py", "_http/connection.py", "_http/dialling.py"}),
        ({"aiohttp", "yarl"}, {"_http/aiohttp.py"}),
    ],
)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_an_http_library_is_imported_in_its_transport_alone(name: str, libraries: set[str], modules: set[str]) -> None:
    allowed = modules if name == "trunkline" else set()
    if name == "trunkline-bedrock" and "httpx2" in libraries:
        allowed = {"_aiobotocore.py"}  # limits the requests for credentials that aiobotocore sends with httpx2
    if name == "trunkline-gateway" and "httpx2" in libraries:
        allowed = {"console/oidc.py"}  # asks an OpenID Connect provider
    found = {module for module, tree in sources(package(name)) if imported(tree) & libraries}
    # The kit tries out a client of the application's own.
    assert {path for path in found if not path.startswith("testing/")} == allowed


def docstrings(tree: ast.Module) -> set[int]:
    return {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Identifiers and strings, docstrings left out."""
    prose = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.alias):
            yield node.lineno, node.name


def test_the_core_knows_no_provider_by_name() -> None:
    found = {
        f"{module}:{line}: {word}"
        for module, tree in sources(CORE)
        for line, word in words(tree)
        if PROVIDER_NAMES.search(word.replace(CONVERTER, ""))
    }
    assert found == set()


def test_the_public_names_are_the_same_to_editors_and_at_run_time() -> None:
    import trunkline

    _, tree = next(source for source in sources(CORE) if source[0] == "__init__.py")
    seen = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen - {None} == set(trunkline.__all__) - {"__version__"}
    assert all(hasattr(trunkline, name) for name in trunkline.__all__)


# What an import costs


def modules_after(code: str) -> set[str]:
    program = f"import sys, json\n{code}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(ran.stdout))


HEAVY = {
    "httpx",
    "httpx2",
    "aiohttp",
    "httpcore2",
    "anyio",
    "cattrs",
    "openai",
    "xllamacpp",
    "rich",
    "cyclopts",
    "tomlkit",
}


def plugin_packages() -> set[str]:
    return {name.replace("-", "_") for name in DISTRIBUTIONS if name != "trunkline"}


def test_importing_trunkline_imports_no_http_client_and_no_plugin() -> None:
    loaded = modules_after("import trunkline")
    assert loaded & (HEAVY | plugin_packages()) == set()


def test_listing_what_is_installed_imports_no_plugin() -> None:
    loaded = modules_after(
        "from trunkline._plugins.registry import PROVIDERS, installed\nassert len(installed(PROVIDERS)) > 1"
    )
    assert loaded & (plugin_packages() | {"httpx", "httpx2", "aiohttp", "openai", "xllamacpp"}) == set()


def test_loading_one_provider_imports_its_plugin_and_no_other() -> None:
    loaded = modules_after("from trunkline._plugins.registry import load_provider\nload_provider('openai')")
    assert loaded & (plugin_packages() | {"httpx", "httpx2", "aiohttp", "openai", "xllamacpp"}) == {"trunkline_openai"}


# Pages


def commands(page: str) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.splitlines()]


def test_ci_runs_the_test_command_of_the_readme_and_requires_the_recordings() -> None:
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    [command] = [line for line in commands("README.md") if line.endswith("nox")]
    assert lines == [
        "set -euo pipefail",
        'cd "$(dirname "${BASH_SOURCE[0]}")/.."',
        "export TRUNKLINE_REQUIRE_RECORDINGS=1",
        'if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then',
        "    apt-get update -qq",
        "    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends"
        " chromium postgresql redis-server >/dev/null",
        "fi",
        command,
        ".venv/bin/nox -s isolated docs smoke tests_ray tests_gateway tests_more",
    ]


def test_the_readme_has_one_command_for_the_demo_and_one_for_the_tests() -> None:
    demo, tests = [line for line in commands("README.md") if "nox" in line]
    assert demo == f"{tests} -s demo"


@pytest.mark.parametrize(("page", "example"), [("README.md", "embedding.py"), ("CONTRIBUTING.md", "third_party.py")])
def test_the_python_on_a_page_is_what_the_type_checkers_check(page: str, example: str) -> None:
    assert blocks(page, "python") == [(ROOT / "tests" / "typing" / example).read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_python_in_the_readme_of_a_distribution_compiles(name: str) -> None:
    page = (DISTRIBUTIONS[name] / "README.md").relative_to(ROOT).as_posix()
    for block in blocks(page, "python"):
        compile(block, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/index.md"])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []


def test_the_readme_lists_every_provider_that_is_here() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in PLUGINS:
        entries: dict[str, dict[str, str]] = metadata(f"trunkline-{name}").get("entry-points", {})  # type: ignore[assignment]
        for provider in entries.get("trunkline.providers", {}):
            assert f"| `{provider}` | `trunkline-{name}` |" in text


def test_the_architecture_names_every_module_of_the_core() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for path in CORE.iterdir():
        if path.suffix == ".py":
            assert f"`{path.name}`" in page


def test_contributing_lists_every_session_of_the_noxfile() -> None:
    sessions = re.findall(r"^@nox\.session.*\n(?:@.*\n)*def (\w+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    assert sessions
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [name for name in sessions if f"`{name}`" not in page] == []


def test_the_tests_of_the_core_run_once_for_each_framing(request: pytest.FixtureRequest) -> None:
    """The root `conftest.py` names conformance classes that exist; `TRANSPORT_ONCE` has one for each framing."""
    conftest = next(
        plugin
        for plugin in request.config.pluginmanager.get_plugins()
        if getattr(plugin, "__file__", None) == str(ROOT / "conftest.py")
    )
    pages = {path: path.read_text(encoding="utf-8") for path in ROOT.glob("plugins/*/tests/test_*_conformance.py")}
    plugins = [
        path.parts[-3]
        for path, text in pages.items()
        if set(re.findall(r"^class (\w+)", text, re.MULTILINE)) & conftest.TRANSPORT_ONCE
    ]
    assert len(plugins) == len(conftest.TRANSPORT_ONCE)
    classes = set(re.findall(r"^class (\w+)", "\n".join(pages.values()), re.MULTILINE))
    assert classes >= conftest.SAME_STREAM_PARSER

    def framers(plugin: str) -> set[str]:
        parsers = (PLUGINS[plugin] / "src").rglob("*parse.py")
        return {
            name for path in parsers for name in re.findall(r"return (\w+Framer)\(\)", path.read_text(encoding="utf-8"))
        }

    assert set().union(*map(framers, plugins)) == set().union(*map(framers, PLUGINS))
