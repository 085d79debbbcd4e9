"""Write every Python example of the documentation as a module, so that mypy and pyright can check all of them at once.

`python tests/support/typed_examples.py FOLDER` writes the modules and the checkers' configuration; `nox -s typing` then
runs both checkers on the folder. A module is named after its page and line, and each line of the example keeps the
number that it has on the page.

An example may use `await` outside a function, as in `python -m asyncio`. The checkers refuse that, so the part of the
example from there on becomes the body of a function.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Literal

from doc_examples import Example, examples
from trunkline.cli.new_plugin import plugin_files

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("core/*.md"), *ROOT.glob("plugins/*/*.md")])
SCAFFOLDS: tuple[tuple[str, Literal["chat", "wire"]], ...] = (("acme", "chat"), ("bolt", "wire"))
"""The packages of docs/howto/write-a-provider.md: names and flavours for `trunkline new-plugin`."""


def awaits(node: ast.AST) -> bool:
    """Return whether code awaits something outside the functions that it defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return False
    if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
        return True
    if isinstance(node, ast.comprehension) and node.is_async:
        return True
    return any(map(awaits, ast.iter_child_nodes(node)))


def names_in(code: str) -> set[str]:
    """Return the names that code reads."""
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}


def assigned(code: str) -> set[str]:
    """Return the names that code assigns outside the functions and classes that it defines."""
    scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.comprehension)
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(code)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        waiting += [child for child in ast.iter_child_nodes(node) if not isinstance(child, scopes)]
    return names


def setup(example: Example) -> list[str]:
    """Return the statements that an example needs before its first line and does not show.

    These are `import trunkline`, and the assignments in its preamble to names that it uses.
    """
    used = names_in(example.code)
    code = f"{example.before}\n{example.code}"
    statements = [] if re.search(r"^import trunkline$", code, re.MULTILINE) else ["import trunkline"]
    for statement in ast.parse(example.preamble).body:
        if isinstance(statement, ast.Assign) and not awaits(statement):
            targets = {target.id for target in statement.targets if isinstance(target, ast.Name)}
            statements += [ast.unparse(statement)] if targets & used else []
    return statements if "trunkline" in names_in("\n".join([*statements, example.code])) else statements[1:]


def module(example: Example) -> str:
    """Return an example as a module that can be checked."""
    code = f"{example.before.strip()}\n{example.code}" if example.before else example.code
    lines = code.splitlines()
    waiting = [node.lineno for node in ast.parse(code).body if awaits(node)]
    if waiting:
        start = waiting[0] - 1
        shared = assigned("\n".join(lines[:start])) & assigned("\n".join(lines[start:]))
        lines[start:] = [
            "async def example() -> None:",
            *([f"    global {', '.join(sorted(shared))}"] if shared else []),
            *textwrap.indent("\n".join(lines[start:]), "    ").splitlines(),
        ]
        if start and not lines[start - 1]:
            del lines[start - 1]  # the line of the function takes its place, so the numbers stay
    before = setup(example)
    padding = example.line - 1 - len(before) - example.before.count("\n") - any("    global " in one for one in lines)
    return "\n".join(["#"] * padding + before + lines) + "\n"


def main(folder: Path) -> None:
    """Write the modules, the packages that they import, and a configuration for each checker."""
    folder = folder.resolve()  # nox names its folders relative to the project, and pyright to the configuration
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.py"):
        old.unlink()
    packages = [str(ROOT / "docs" / "examples" / "trunkline-acme" / "src")]
    for name, flavour in SCAFFOLDS:
        for path, text in plugin_files(name, flavour).items():
            target = folder / "scaffolded" / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        packages.append(str(folder / "scaffolded" / name / "src"))
    for page in PAGES:
        for example in examples(page, ROOT):
            if example.language == "python" and example.not_run is None:
                name = re.sub(r"\W+", "_", str(page.relative_to(ROOT).with_suffix("")))
                (folder / f"{name}_{example.line}.py").write_text(module(example), encoding="utf-8")
            for path, text in example.files.items():
                if path.endswith(".py"):  # a module that later examples of the page import
                    (folder / path).write_text(text, encoding="utf-8")
    path = ":".join(packages)
    # The options of pyproject.toml: with others, mypy would not use its cache of the core.
    options = ("strict = True", "python_version = 3.11", "warn_unreachable = True")
    mypy = ["[mypy]", *options, f"mypy_path = {path}", "exclude = /scaffolded/"]
    (folder / "mypy.ini").write_text("\n".join(mypy) + "\n", encoding="utf-8")
    pyright = {
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "extraPaths": packages,
        "exclude": ["scaffolded/*/tests"],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(pyright, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
