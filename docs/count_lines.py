"""Counts lines of code, without blank lines, comments and docstrings: `python docs/count_lines.py FILE…`."""

from __future__ import annotations

import ast
import sys
import tokenize
from pathlib import Path

NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING}


def lines_of_code(path: Path) -> tuple[int, int]:
    """The lines of a file on which some code stands, and those of them that are no imports."""
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in NO_CODE]
    code = {line for token in tokens if token.string for line in range(token.start[0], token.end[0] + 1)}
    imports: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        lines = range(getattr(node, "lineno", 0), (getattr(node, "end_lineno", None) or 0) + 1)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code -= set(lines)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            imports |= set(lines)
    return len(code), len(code - imports)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        count, without = lines_of_code(Path(name))
        sys.stdout.write(f"{count:5} lines, {without:5} without imports: {name}\n")
