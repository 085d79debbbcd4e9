"""The examples in the documentation's pages: where they stand, and what each needs to run.

A fence of Python, TOML or shell is an example. A comment just before it says what a reader does not need to see:

- `<!-- preamble … -->`: Python that runs before each example that follows on the page, up to the next preamble.
  `stack` is an `AsyncExitStack` that is closed after the example;
- `<!-- continues -->`: the example before it on the page runs first, as a reader would have done;
- `<!-- file: NAME -->`: the fence is a file, which is there for all examples that follow;
- `<!-- output -->`: the fence is what the example before it prints;
- `<!-- pytest -->`: the example is a test module, which has to pass; `<!-- pytest: -k NAME -->` runs a part of it;
- `<!-- not run: REASON -->`: for what no machine can run.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import attrs

TOKEN = re.compile(
    r"<!--(?P<comment>.*?)-->|^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^ *```$", re.DOTALL | re.MULTILINE
)


@attrs.define(kw_only=True)
class Example:
    """One fence, with what stands around it."""

    where: str
    line: int
    language: str
    code: str
    preamble: str = ""
    before: str = ""
    files: dict[str, str] = attrs.field(factory=dict)
    output: str | None = None
    pytest: str | None = None
    not_run: str | None = None


def examples(page: Path, root: Path) -> Iterator[Example]:
    """The examples of a page, in order."""
    text = page.read_text(encoding="utf-8")
    preamble, files, directives = "", {}, dict[str, str]()
    last: Example | None = None
    found: list[Example] = []
    for token in TOKEN.finditer(text):
        comment = token["comment"]
        if comment is not None:
            name, _, value = comment.strip().partition("\n" if comment.strip().startswith("preamble") else ":")
            if name.strip() == "preamble":
                preamble = textwrap.dedent(value)
            elif name.strip() in ("continues", "file", "output", "pytest", "not run"):
                directives[name.strip()] = value.strip()
            continue
        code = textwrap.dedent(token["code"])
        line = text.count("\n", 0, token.start("code")) + 1
        if "file" in directives:
            files = {**files, directives["file"]: code}
        if "output" in directives and last is not None:
            last.output = code
        example = Example(
            where=f"{page.relative_to(root)}:{line}",
            line=line,
            language=token["language"],
            code=code,
            preamble=preamble,
            files=files,
            before=f"{last.before}\n{last.code}" if "continues" in directives and last is not None else "",
            pytest=directives.get("pytest"),
            not_run=directives.get("not run"),
        )
        found.append(example)
        if example.language == "python":
            last = example
        directives = {}
    yield from found
