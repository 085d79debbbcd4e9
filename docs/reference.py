"""The reference as Markdown, made from the source: signatures as they are written, and docstrings.

`docs/generate.py` puts the section of each documented name into its page, so that the page can be read in the checkout
as well as on the site. Nothing here is imported from Trunkline except to find the module of a name.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import attrs

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_FIELDS = {"attrs.field", "setting", "url_setting", "path_setting"}
"""The functions whose arguments give the default of a field."""


@attrs.frozen
class Source:
    """The source of a module."""

    module: ModuleType
    lines: tuple[bytes, ...]
    tree: ast.Module

    def text(self, start: tuple[int, int], end: tuple[int, int]) -> str:
        """Return the text between two positions, each a line and a column in bytes, without its indentation."""
        lines = list(self.lines[start[0] - 1 : end[0]])
        lines[-1] = lines[-1][: end[1]]
        lines[0] = b" " * start[1] + lines[0][start[1] :]
        return textwrap.dedent(b"\n".join(lines).decode()).strip()

    def node(self, node: ast.expr | ast.stmt) -> str:
        """Return the text of a node."""
        return self.text((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))

    def head(self, node: Definition) -> str:
        """Return a definition with its decorators, up to its body."""
        first = node.decorator_list[0] if node.decorator_list else None
        start = (first.lineno, first.col_offset - 1) if first is not None else (node.lineno, node.col_offset)
        body = node.body[0]
        text = self.text(start, (body.lineno, body.col_offset)).removesuffix(":")
        return re.sub(r"  # noqa\b.*", "", text)


@cache
def source(module: str) -> Source:
    """Return the source of a module."""
    imported = import_module(module)
    text = Path(str(imported.__file__)).read_bytes()
    return Source(imported, tuple(text.splitlines()), ast.parse(text))


def locate(name: str) -> tuple[Source, ast.stmt | None]:
    """Return where a public name is defined; the definition of a module is `None`. Raises `LookupError`."""
    try:
        return source(name), None
    except ModuleNotFoundError:
        module, _, last = name.rpartition(".")
    try:
        value = getattr(import_module(module), last)
    except (AttributeError, ModuleNotFoundError):
        raise LookupError(f"{name} does not exist; if it was removed or renamed, do the same in the page") from None
    owners = [getattr(value, "__module__", None) or "", module]
    # The module that assigns a constant is not known to it.
    owners += [other for other in sorted(sys.modules) if other.split(".")[0] == module.split(".")[0]]
    for owner in owners:
        if owner.startswith("trunkline") and vars(sys.modules.get(owner, sys)).get(last) is value:
            found = next((node for node in _statements(source(owner).tree) if last in defined_names(node)), None)
            if found is not None:
                return source(owner), found
    raise LookupError(f"the definition of {name} is not found")


def _statements(tree: ast.Module) -> list[ast.stmt]:
    """Return the statements of a module, and those that only a type checker sees, without overloads."""
    statements = [inner for node in tree.body for inner in (node.body if isinstance(node, ast.If) else [node])]
    return [node for node in statements if not _is_overload(node)]


def _is_overload(node: ast.stmt) -> bool:
    decorators = node.decorator_list if isinstance(node, _FUNCTIONS) else []
    return any(isinstance(decorator, ast.Name) and decorator.id == "overload" for decorator in decorators)


def defined_names(node: ast.stmt) -> list[str]:
    """Return the names that a statement of a module or a class defines."""
    if isinstance(node, Definition):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def section(name: str, *, level: int = 2, init: bool = True) -> str:
    """Return the section of a public name, or of a module with all its public functions, classes and constants.

    `init=False` leaves out how a class is made, for classes that applications never make.
    """
    found, node = locate(name)
    if node is not None:
        return _definition(found, node, name, _comment_after(_statements(found.tree), node), level=level, init=init)
    parts = [f"{_heading(name, name, level)}{_docstring(found.tree, name)}\n"]
    statements = _statements(found.tree)
    for node in statements:
        for own in defined_names(node):
            comment = _comment_after(statements, node)
            if not own.startswith("_") and (isinstance(node, Definition) or comment):
                parts.append(_definition(found, node, f"{name}.{own}", comment, level=level + 1))
    own_names = {own for node in statements for own in defined_names(node)}
    imported = [other for other in getattr(found.module, "__all__", ()) if other not in own_names]
    parts += [section(f"{name}.{other}", level=level + 1) for other in sorted(imported)]
    return "\n".join(parts)


def _heading(name: str, shown: str, level: int) -> str:
    return f'<a id="{name}"></a>\n\n{"#" * level} `{shown}`\n\n'


def _code(name: str, text: str) -> str:
    module, _, last = name.rpartition(".")
    if not text.startswith("@hookspec"):  # a hook is implemented, not imported
        # `ruff format`, which formats the code in pages too, puts two blank lines before a class or function.
        blank = "\n\n" if text.startswith(("@", "class ", "def ", "async ")) else "\n"
        text = f"from {module} import {last}\n{blank}{text}"
    return f"```py\n{text}\n```\n\n"


def _docstring(node: Definition | ast.Module, name: str) -> str:
    text = ast.get_docstring(node)
    if text is None:
        raise LookupError(f"{name} is in the reference, but it has no docstring")
    return text


def _definition(found: Source, node: ast.stmt, name: str, comment: str, *, level: int, init: bool = True) -> str:
    heading = _heading(name, name.rpartition(".")[2], level)
    if isinstance(node, ast.ClassDef):
        return heading + _class(found, node, name, level, init=init)
    if isinstance(node, _FUNCTIONS):
        return heading + _code(name, found.head(node)) + f"{_docstring(node, name)}\n"
    return heading + _code(name, found.node(node)) + f"{comment}\n"


def _class(found: Source, node: ast.ClassDef, name: str, level: int, *, init: bool) -> str:
    inits = [item for item in node.body if isinstance(item, _FUNCTIONS) and item.name == "__init__"]
    own_init = inits[-1] if inits else None
    lines = [f"{found.head(node)}:"]
    if own_init is None:
        lines += [textwrap.indent(field, "    ") for field in _fields(found, node)]
    elif init:
        lines.append(textwrap.indent(_heads(found, inits), "    "))
    code = "\n".join(lines).removesuffix(":")
    parts = [_code(name, code) + f"{_docstring(node, name)}\n"]
    if init and own_init is not None and (text := ast.get_docstring(own_init)):
        parts.append(f"{text}\n")
    if attributes := list(_attributes(found, node, own_init, name)):
        parts.append("\n".join(attributes) + "\n")
    methods: dict[str, list[Definition]] = {}
    inherited = {name for base in getattr(found.module, node.name).__mro__[1:] for name in vars(base)}
    for item in node.body:
        if not isinstance(item, _FUNCTIONS) or item.name.startswith("_") or _is_setter(item):
            continue
        # An inherited method without a docstring does what the base class says.
        if item.name not in inherited or ast.get_docstring(item) is not None:
            methods.setdefault(item.name, []).append(item)
    for method, definitions in methods.items():
        path = f"{name}.{method}"
        heads = _heads(found, definitions)
        heading = _heading(path, f"{node.name}.{method}", level + 1)
        parts.append(f"{heading}```py\n{heads}\n```\n\n{_docstring(definitions[-1], path)}\n")
    return "\n".join(parts)


def _is_setter(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a method sets a property. The docstring of the property says so."""
    return any(ast.unparse(decorator).endswith(".setter") for decorator in method.decorator_list)


def _heads(found: Source, definitions: list[Definition]) -> str:
    """Return the head of a method. Of an overloaded one, return those of the overloads."""
    overloads = [item for item in definitions if any(ast.unparse(name) == "overload" for name in item.decorator_list)]
    return "\n\n".join(found.head(item) for item in overloads or definitions)


def _fields(found: Source, node: ast.ClassDef) -> Iterator[str]:
    """Yield the fields of a class as they are written, without what only the class itself needs."""
    for item in node.body:
        names = defined_names(item)
        if isinstance(item, Definition) or not names or names[0].startswith("_"):
            continue
        if isinstance(item, ast.AnnAssign):
            value = _default(item.value)
            default = f" = {found.node(value) if isinstance(value, ast.expr) else value}" if value is not None else ""
            yield f"{names[0]}: {found.node(item.annotation)}{default}"
        elif isinstance(item, ast.Assign):
            yield found.node(item)


def _default(value: ast.expr | None) -> ast.expr | str | None:
    """Return the default that the right-hand side of a field declares; `None` if the field is required."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) in _FIELDS:
        arguments = {argument.arg: argument.value for argument in value.keywords}
        if "factory" in arguments:
            return {"dict": "{}"}.get(ast.unparse(arguments["factory"]), "...")
        value = arguments.get("default")
    return "..." if isinstance(value, ast.Name) and value.id.startswith("_") else value


def _attributes(
    found: Source, node: ast.ClassDef, init: ast.FunctionDef | ast.AsyncFunctionDef | None, name: str
) -> Iterator[str]:
    """Yield an item for each attribute that has a docstring: those of the class, and those that `__init__` sets."""
    arguments = [*init.args.args, *init.args.kwonlyargs] if init is not None else []
    types = {item.arg: found.node(item.annotation) for item in arguments if item.annotation is not None}
    for body in (node.body, init.body if init is not None else []):
        for item in body:
            if not (comment := _comment_after(body, item)) or isinstance(item, Definition):
                continue
            targets = item.targets if isinstance(item, ast.Assign) else [getattr(item, "target", None)]
            target = targets[0]
            attribute = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "_")
            if attribute.startswith("_"):
                continue
            kind = found.node(item.annotation) if isinstance(item, ast.AnnAssign) else ""
            if isinstance(item, ast.Assign) and isinstance(item.value, ast.Name):
                kind = types.get(item.value.id, "")
            shown = f"{attribute}: {' '.join(kind.split())}" if kind else attribute
            text = textwrap.indent(comment, "  ").strip()
            yield f'- <a id="{name}.{attribute}"></a>`{shown}`: {text}'


def _comment_after(body: list[ast.stmt], node: ast.stmt) -> str:
    """Return the docstring that follows an assignment; empty if there is none."""
    following = body[body.index(node) + 1 :][:1]
    for item in following:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(item, ast.Expr):
            value = getattr(item.value, "value", None)
            return inspect.cleandoc(value) if isinstance(value, str) else ""
    return ""


ANCHOR = re.compile(r'<a id="([\w.]+)"></a>')
REFERENCE = re.compile(r"\]\[(trunkline[\w.]*)\]")


def places(pages: Iterable[tuple[Path, str]]) -> dict[str, tuple[Path, str]]:
    """Return the page and the anchor of each documented name, also under the name of the module that defines it."""
    found = {name: (page, name) for page, text in pages for name in ANCHOR.findall(text)}
    for name in list(found):
        if len(name.split(".")) == 2:
            try:
                where, _ = locate(name)
            except LookupError:
                continue
            found.setdefault(f"{where.module.__name__}.{name.rpartition('.')[2]}", found[name])
    return found


def links(page: Path, text: str, known: dict[str, tuple[Path, str]]) -> str:
    """Return the definitions of a page's links to documented names. Raises `LookupError` for a name without a place."""
    lines = []
    for name in sorted(set(REFERENCE.findall(text))):
        if name not in known:
            raise LookupError(f"{page}: the reference has no {name}")
        target, anchor = known[name]
        path = "" if target == page else Path(os.path.relpath(target, page.parent)).as_posix()
        lines.append(f"[{name}]: {path}#{anchor}\n")
    return "".join(lines)
