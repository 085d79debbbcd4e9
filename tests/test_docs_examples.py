"""Runs every example of the documentation against a loopback server or the embedded model.

`support/doc_examples.py` describes the comments that control an example, and `support/model_server.py` the server's
responses. A Python block may use `await` at the top level, as in `python -m asyncio`. It runs on asyncio, and with the
option `--exhaustive` on trio too, with `trunkline` imported. If it defines `main` without calling it, the test calls
it. No example connects beyond loopback.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from types import CodeType
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trunkline
from doc_examples import Example, examples
from gateway_process import gateway_process
from model_server import model
from trunkline.testing import serve

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("core/*.md"), *ROOT.glob("plugins/*/*.md")])
EXAMPLES = [example for page in PAGES for example in examples(page, ROOT)]
PLACEHOLDERS = (
    "https://RESOURCE.openai.azure.com",
    "https://RESOURCE.services.ai.azure.com",
    "http://127.0.0.1:8080",
    "localhost:8080",
)
"""URLs that stand for the reader's own; an example gets the test's server in their place."""


def of(language: str, *, tests: bool = False) -> list[Any]:
    chosen = [item for item in EXAMPLES if item.language == language and (item.pytest is not None) is tests]
    return [pytest.param(item, id=item.where) for item in chosen]


@pytest.fixture
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        assert host in ("127.0.0.1", "localhost", b"127.0.0.1", None), f"an example reaches for {host!r}"
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _loopback_only: None) -> Path:
    """A folder of the example's own, and an environment without the services of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(
            ("TRUNKLINE_", "OPENAI_", "ANTHROPIC_", "AWS_", "AZURE_", "COHERE_", "CO_", "MISTRAL_", "OLLAMA_")
        ):
            monkeypatch.delenv(name)
    # Where the command line remembers which configuration files are trusted.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@contextlib.asynccontextmanager
async def surroundings(example: Example, folder: Path) -> AsyncIterator[str]:
    """The files of the page, and the server with the settings that lead to it. Gives the server's URL."""
    for name, text in example.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    async with serve(model) as server:
        before = dict(os.environ)
        names = (
            "OPENAI",
            "OPENAI_COMPATIBLE",
            "ANTHROPIC",
            "ANTHROPIC_AWS",
            "ANTHROPIC_GOOGLE_CLOUD",
            "BEDROCK",
            "COHERE",
            "GEMINI",
            "MISTRAL",
            "AZURE_OPENAI",
            "FAST",
            "OLLAMA",
            "VERTEX",
        )
        os.environ.update(
            {f"TRUNKLINE_{name}_API_URL": server.url for name in names}
            | {
                f"{name}_API_KEY": "a-key-for-tests"
                for name in ("OPENAI", "ANTHROPIC", "COHERE", "GEMINI", "MISTRAL", "AZURE_OPENAI", "ANTHROPIC_FOUNDRY")
            }
            | {
                "OPENAI_BASE_URL": f"{server.url}/v1",
                "TRUNKLINE_ANTHROPIC_AWS_API_KEY": "a-key-for-tests",
                "TRUNKLINE_ANTHROPIC_GOOGLE_CLOUD_ACCESS_TOKEN": "a-token-for-tests",
                "TRUNKLINE_BEDROCK_API_KEY": "a-key-for-tests",
                "TRUNKLINE_BEDROCK_AWS_REGION": "us-east-1",
                "TRUNKLINE_VERTEX_API_KEY": "a-key-for-tests",
                "TRUNKLINE_LLAMACPP_OUTPUT_TOKEN_LIMIT": "24",
            }
        )
        try:
            yield server.url
        finally:
            for name in set(os.environ) - set(before):
                del os.environ[name]


def placed(code: str, url: str) -> str:
    for placeholder in PLACEHOLDERS:
        code = code.replace(placeholder, url)
    return code


def compiled(source: str, name: str) -> CodeType:
    # Without `dont_inherit`, the example would have the `from __future__ import annotations` of this module.
    return compile(source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def is_async(code: CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_COROUTINE)


def innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def run(code: CodeType, namespace: dict[str, Any]) -> None:
    """Run a piece, with `await` at its top or, in a thread of its own, a whole program that starts its own loop."""
    if is_async(code):
        await eval(code, namespace)
    else:
        await anyio.to_thread.run_sync(exec, code, namespace)


@pytest.mark.parametrize("backend", ["asyncio", pytest.param("trio", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("example", of("python"))
def test_python_runs(example: Example, backend: str, folder: Path) -> None:
    if example.not_run is not None:
        pytest.skip(example.not_run)
    source = "\n" * (example.line - 1) + example.code
    if backend == "trio" and ("asyncio" in example.code + example.before + example.preamble):
        pytest.skip("the example is for asyncio")
    if (
        backend == "trio"
        and "llamacpp" in example.code
        and "await" in example.code
        and "model_path" not in example.code
    ):
        pytest.skip("one load of the model is enough")

    async def main() -> str:
        printed = io.StringIO()
        async with contextlib.AsyncExitStack() as stack:
            url = await stack.enter_async_context(surroundings(example, folder))
            namespace: dict[str, Any] = {"__name__": "__main__", "trunkline": trunkline, "stack": stack}
            await run(compiled(placed(example.preamble, url), f"{example.where} (preamble)"), namespace)
            with contextlib.redirect_stdout(io.StringIO()):
                await run(compiled(placed(example.before, url), f"{example.where} (before)"), namespace)
            with contextlib.redirect_stdout(printed):
                await run(compiled(placed(source, url), example.where), namespace)
                if inspect.iscoroutinefunction(namespace.get("main")) and "run(main" not in example.code:
                    await namespace["main"]()
        return printed.getvalue()

    try:
        printed = anyio.run(main, backend=backend)
    except BaseExceptionGroup as group:  # the server's task group wraps what the example raised
        raise innermost(group) from group
    if example.output is not None:
        assert printed.rstrip() == example.output.rstrip()


@pytest.mark.parametrize("example", of("python", tests=True))
def test_test_modules_pass(example: Example, folder: Path) -> None:
    async def prepare() -> None:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(surroundings(example, folder))
            await run(compiled(example.preamble, f"{example.where} (preamble)"), {"stack": stack})

    anyio.run(prepare)
    (folder / "test_example.py").write_text(example.code, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"]
    command += shlex.split(example.pytest or "")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folder.glob("*/src")))}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", of("toml"))
def test_configuration_is_accepted(example: Example) -> None:
    """Each file of services opens; names that a provider does not know are errors."""
    table = tomllib.loads(example.code)
    if "services" not in table or example.not_run is not None:
        pytest.skip(example.not_run or "no services in it")
    environ = dict.fromkeys(re.findall(r'env = "(\w+)"', example.code), "a-key-for-tests")
    environ |= {"OPENAI_API_KEY": "k", "AZURE_OPENAI_API_KEY": "k"}
    for service in table["services"].values():
        if "fallback" in service or "balance" in service:
            continue
        service.setdefault("provider", "openai-compatible")
        if service["provider"] == "openai-compatible":
            service.setdefault("api_url", "http://127.0.0.1:8080")
    assert set(trunkline.open_services(table, environ=environ)) == set(table["services"])


def extras_of_the_core() -> set[str]:
    project = tomllib.loads((ROOT / "core" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["optional-dependencies"])


def sessions() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    return {item.name for item in tree.body if isinstance(item, ast.FunctionDef) and item.decorator_list}


@pytest.mark.parametrize("example", of("sh"))
def test_shell_runs(
    example: Example, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`trunkline …` is run, `trunkline serve` until it serves; of other commands the names are checked."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    if example.not_run is not None:
        pytest.skip(example.not_run)
    distributions = {"trunkline", *(f"trunkline-{path.parent.name}" for path in ROOT.glob("plugins/*/pyproject.toml"))}

    async def main() -> None:
        exported: dict[str, str] = {}
        async with surroundings(example, folder) as url:
            for line in re.split(r"\n| && ", placed(example.code, url).replace("\\\n", " ")):
                words = shlex.split(line, comments=True)
                if words[:1] == ["export"]:
                    exported |= dict(word.split("=", 1) for word in words[1:])
                if words[:2] == ["trunkline", "serve"]:
                    with gateway_process(folder / "gateway", *words[2:], environment=exported) as gateway:
                        assert await anyio.to_thread.run_sync(gateway.stop) == 0, (line, gateway.log.read_text())
                elif words[:1] == ["trunkline"]:
                    from trunkline.cli import main as command

                    assert await anyio.to_thread.run_sync(command, words[1:]) == 0, (line, capfd.readouterr())
                for word in words if "pip" in line and "install" in words else ():
                    name = re.split(r"[\[=<>]", word)[0]
                    assert not name.startswith("trunkline") or name in distributions, f"no such distribution: {name}"
                for wanted in re.findall(r"nox -s ([\w.-]+)", line):
                    assert wanted in sessions(), f"no such session: {wanted}"
                for extras in re.findall(r"trunkline\[([\w,-]+)\]", line):
                    assert set(extras.split(",")) <= extras_of_the_core(), f"no such extra: {extras}"

    anyio.run(main)
