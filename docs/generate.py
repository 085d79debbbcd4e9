"""Write the generated parts of the documentation: `python docs/generate.py`. `--check` only reports what would change.

A generated part is between two comments, such as `<!-- settings: PROVIDER -->` and `<!-- end settings -->`. A test
fails if this script would change a page.

To put a name into the reference, write `::: trunkline.NAME` on a line of its own, and run this script. To link to a
name of the reference, write `[text][trunkline.NAME]`; the script adds the target at the end of the page.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

from trunkline._config.sources import variable_name
from trunkline._plugins.registry import load_provider
from trunkline.settings import SettingInfo, Settings, setting_infos

DOCS = Path(__file__).parent
BLOCK = re.compile(
    r"(<!-- (?P<kind>settings|common|facts|portability|api|names|tree|commands|bench|batch|load|down|guide|extension): "
    r"(?P<name>[\w.-]+(?: without __init__)?) -->\n)"
    r".*?(<!-- end (?P=kind) -->)",
    re.DOTALL,
)
NEW = re.compile(r"^::: ([\w.]+)\n", re.MULTILINE)
LINKS = re.compile(r"\n*<!-- links -->\n.*?<!-- end links -->\n", re.DOTALL)


def cell(text: str) -> str:
    """Return text as a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def default(info: SettingInfo) -> str:
    """Return the default of a setting as the table shows it."""
    if info.required:
        return "required"
    if info.default is None or info.default in ((), {}, ""):
        return ""
    shown = str(info.default).lower() if isinstance(info.default, bool) else getattr(info.default, "name", info.default)
    return f"`{shown}`"


def table(infos: list[SettingInfo], provider: str) -> str:
    """Return settings as a Markdown table."""
    rows = ["| Setting | Label | Default | Environment | Description |", "|---|---|---|---|---|"]
    for info in infos:
        variables = " ".join(f"`{name}`" for name in (variable_name(provider, info.name), *info.environment))
        secret = " Secret." if info.secret else ""
        cells = (f"`{info.name}`", info.label, default(info), variables, info.description + secret)
        rows.append("| " + " | ".join(map(cell, cells)) + " |")
    return "\n".join(rows) + "\n"


def settings(name: str) -> str:
    """Return the table of the settings that only this provider has, or that have another default here."""
    common = {info.name: info.default for info in setting_infos(Settings)}
    infos = setting_infos(load_provider(name).settings)
    own = [info for info in infos if info.name not in common or info.default != common[info.name]]
    return table(own, name) + "\nThe settings that all providers share are in [Settings](../settings.md).\n"


def common(name: str) -> str:
    """Return the table of the settings that all providers share."""
    return table(list(setting_infos(Settings)), name)


def extension(name: str) -> str:
    """Return the table of the settings of an extension."""
    [found] = entry_points(group="trunkline.extensions", name=name)
    return table(list(setting_infos(found.load().settings)), f"SERVICE_{name}")


def facts(name: str) -> str:
    """Return the table of the facts of the setting `model_facts`. `name` is the path of the class, whose docstring has
    an item for each fact."""
    module, _, cls = name.rpartition(".")
    kind: type = getattr(importlib.import_module(module), cls)
    items = dict(re.findall(r"^ *- `(\w+)`: (.*?)(?=\n *- |\n\n|\n *\Z)", kind.__doc__ or "", re.DOTALL | re.MULTILINE))
    rows = ["| Fact | Value | Meaning |", "|---|---|---|"]
    for fact, hint in get_type_hints(kind).items():
        meaning = re.sub(r"\s+", " ", items[fact]).removesuffix(".").replace("`None`", "`none`")
        rows.append(f"| `{fact}` | {cell(values(hint))} | {cell(meaning)} |")
    return "\n".join(rows) + "\n"


def values(hint: object) -> str:
    """Return in words which values a type has in a configuration."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin in (Union, UnionType):
        kinds = [values(argument) for argument in arguments if argument is not type(None)]
        return ", ".join((*kinds, "or `none`" if type(None) in arguments else "")).removesuffix(", ")
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)}: {values(arguments[0])}"
    if origin in (tuple, frozenset):
        return f"a list: {values(arguments[0])}"
    return {str: "text", bool: "`true` or `false`", int: "a whole number"}[hint]  # type: ignore[index]


def script(path: Path) -> ModuleType:
    """Import a script that is not part of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = script(DOCS / "reference.py")


def portability(name: str) -> str:
    """Return the table of what each provider supports (`all`), or of the replayed conversations (`replays`)."""
    module = script(DOCS / "portability.py")
    table: str = module.replays() if name == "replays" else module.table()
    return table


def down(name: str) -> str:
    """Return the table of what a service does when its provider is down."""
    table: str = script(DOCS / "provider_down.py").table()
    return table


def guide(name: str) -> str:
    """Return what the Mattermost guide says and what we do: the fields of forms (`service`), or its `statements`."""
    path = DOCS.parent / "tests" / "support" / "mattermost_guide.toml"
    parts = []
    for section in tomllib.loads(path.read_text(encoding="utf-8"))[name]:
        lines = [f"### {section['title']}", ""]
        if name == "service":
            if section["provider"]:
                lines += [f"Provider: `{section['provider']}`.", ""]
            if "note" in section:
                lines += [section["note"], ""]
            lines += ["| Field | Required | Setting | Trunkline | Test |", "|---|---|---|---|---|"]
        else:
            lines += ["| The guide says | Trunkline | Test |", "|---|---|---|"]
        for row in section["rows"]:
            if name == "service":
                setting = f"`{row['setting']}`" if row["setting"] else "—"
                cells = [row["label"], "yes" if row["required"] else "no", setting]
            else:
                cells = [row["says"]]
            lines.append("| " + " | ".join(map(cell, (*cells, row["ours"], f"`{row['test']}`"))) + " |")
        parts.append("\n".join((*lines, "", f"Source: {section['source']}.", "")))
    return "\n" + "\n".join(parts) + "\n"


def bench(name: str) -> str:
    """Return a table of the measurements in benchmark.json."""
    report = script(DOCS.parent / "tests" / "bench" / "report.py")
    part: str = getattr(report, name)(json.loads((DOCS / "benchmark.json").read_text(encoding="utf-8")))
    return "\n" + part + "\n"


def batch(name: str) -> str:
    """Return a table of the measurements in batch-figures.json."""
    report = script(DOCS.parent / "tests" / "batch" / "report.py")
    part: str = report.named(json.loads((DOCS / "batch-figures.json").read_text(encoding="utf-8")), name)
    return "\n" + part + "\n\n"


def load(name: str) -> str:
    """Return a table of the measurements in gateway-figures.json."""
    report = script(DOCS.parent / "tests" / "gateway" / "load" / "load_report.py")
    part: str = report.TABLES[name](json.loads((DOCS / "gateway-figures.json").read_text(encoding="utf-8")))
    return "\n" + part + "\n\n"


def api(name: str) -> str:
    """Return the section of the reference about a name. `NAME without __init__` leaves out how a class is made."""
    name, _, without = name.partition(" ")
    section: str = reference.section(name, init=not without)
    return f"\n{section}\n"


def names(module: str) -> str:
    """Return the sections of the reference about all public names of a module."""
    return "".join(api(f"{module}.{name}") for name in sorted(importlib.import_module(module).__all__))


def tree(module: str) -> str:
    """Return the tree of class names from a module's docstring."""
    text = importlib.import_module(module).__doc__ or ""
    lines = [re.split(r"(?<=\w)  ", line)[0] for line in text.split("\n\n")[1].splitlines() if line]
    return "\n```text\n" + "\n".join(lines) + "\n```\n\n"


def commands(name: str) -> str:
    """Return a section for each command, with a table of its options."""
    from trunkline.cli import BUILT_IN, _assemble

    parts = [""]
    for command, summary in BUILT_IN.items():
        rows = ["| Option | Default | Description |", "|---|---|---|"]
        for argument in _assemble(command)[command].assemble_argument_collection(parse_docstring=True):
            if argument.show:
                shown = argument.field_info.default
                preset = (
                    "" if shown in (None, False, ()) or not isinstance(shown, (bool, int, float, str)) else f"`{shown}`"
                )
                options = " ".join(f"`{option}`" for option in argument.names)
                rows.append("| " + " | ".join(map(cell, (options, preset, argument.parameter.help or ""))) + " |")
        parts.append(f"## `{name} {command}`\n\n{summary}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts) + "\n"


MAKERS: dict[str, Callable[[str], str]] = {
    "api": api,
    "bench": bench,
    "batch": batch,
    "load": load,
    "down": down,
    "guide": guide,
    "settings": settings,
    "extension": extension,
    "common": common,
    "facts": facts,
    "portability": portability,
    "names": names,
    "tree": tree,
    "commands": commands,
}


def generated(text: str) -> str:
    """Return a page with its generated parts up to date, except for the targets of its links."""
    text = NEW.sub(r"<!-- api: \1 -->\n<!-- end api -->\n", text)
    return BLOCK.sub(lambda found: found[1] + MAKERS[found["kind"]](found["name"]) + found[4], text)


def linked(page: Path, text: str, known: dict[str, tuple[Path, str]]) -> str:
    """Return a page with the targets of its links to the reference."""
    text = LINKS.sub("\n", text)
    targets = reference.links(page, text, known)
    return f"{text.rstrip()}\n\n<!-- links -->\n\n{targets}\n<!-- end links -->\n" if targets else text


def main(check: bool) -> int:
    """Write the pages, or report which ones would change. Returns the exit code."""
    pages = {page: page.read_text(encoding="utf-8") for page in sorted(DOCS.rglob("*.md"))}
    made = {}
    for page, text in pages.items():
        try:
            made[page] = generated(text)
        except LookupError as error:
            raise LookupError(f"{page}: {error}") from error
    known = reference.places(made.items())
    stale = []
    for page, text in made.items():
        final = linked(page, text, known)
        if final != pages[page]:
            stale.append(page.relative_to(DOCS))
            if not check:
                page.write_text(final, encoding="utf-8")
    for path in stale:
        print(f"{'stale' if check else 'written'}: {path}")  # noqa: T201
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
