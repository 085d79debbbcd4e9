"""No public signature of the core has `Any`, but for those listed here with a reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import trunkline

CORE = Path(trunkline.__file__).parent
MODULES = sorted(
    path for folder in (CORE, CORE / "authoring") for path in folder.glob("*.py") if not path.name.startswith("_")
)

JSON = "decoded JSON; the caller checks each value that it takes"
CONTEXT = "each provider has its own class of settings, which the core does not know"
FRAMES = "the type of the frames is an agreement between a provider's own framer and parser"
FIELD = "a field specifier, assigned to a field of any type, as `attrs.field` is"

EXPLAINED = {
    "authoring.json.as_list": JSON,
    "authoring.json.as_object": JSON,
    "authoring.json.as_objects": JSON,
    "authoring.json.decode_object": JSON,
    "authoring.json.append_field": JSON,
    "authoring.json.unknown_fields": JSON,
    "authoring.json.with_options": JSON,
    "authoring.model_facts.model_facts_setting": FIELD,
    "authoring.provider.Auth.sign": "credentials are what the same provider's `acquire` returned",
    "authoring.provider.Operation.build": CONTEXT,
    "authoring.provider.Operation.parse": CONTEXT,
    "authoring.provider.Operation.translation": CONTEXT,
    "authoring.provider.Operation.result": CONTEXT,
    "authoring.provider.Provider.auth": CONTEXT,
    "authoring.provider.Provider.advice": CONTEXT,
    "authoring.provider.Provider.operations": CONTEXT,
    "authoring.provider.Provider.rate_limits": CONTEXT,
    "authoring.provider.Provider.response_parser": CONTEXT,
    "authoring.provider.Provider.translator": CONTEXT,
    "authoring.provider.Provider.transport": CONTEXT,
    "authoring.provider.Provider.trunkline_auth": CONTEXT,
    "authoring.provider.Provider.trunkline_response_parser": CONTEXT,
    "authoring.provider.Provider.trunkline_translator": CONTEXT,
    "authoring.provider.Provider.trunkline_transport": CONTEXT,
    "authoring.provider.ResponseParser.stream": FRAMES,
    "authoring.batches.ResultLines.__init__": JSON,
    "authoring.batches.batch_parser": JSON,
    "authoring.batches.list_parser": JSON,
    "authoring.provider.BatchOperations.response_parser": CONTEXT,
    "authoring.provider.BatchOperations.results": CONTEXT,
    "authoring.provider.BatchOperations.submit": CONTEXT,
    "authoring.provider.BatchOperations.translator": CONTEXT,
    "authoring.repeats.Repeats.__init__": JSON,
    "secrets.scrub_value": JSON,
    "settings.setting": FIELD,
    "authoring.provider.StreamOperation.build": CONTEXT,
    "authoring.provider.StreamOperation.stream": CONTEXT,
    "settings.path_setting": FIELD,
    "settings.url_setting": FIELD,
}


def public(name: str) -> bool:
    return not name.startswith("_") or name in ("__init__", "__call__")


def has_any(annotation: ast.expr | None) -> bool:
    return annotation is not None and any(
        isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(annotation)
    )


def with_any(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    """The public names of a module or class whose signature or type has `Any`."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() if public(node.name):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                arguments += [each for each in (node.args.vararg, node.args.kwarg) if each is not None]
                if has_any(node.returns) or any(has_any(each.annotation) for each in arguments):
                    yield f"{prefix}.{node.name}"
            case ast.ClassDef() if public(node.name):
                yield from with_any(node.body, f"{prefix}.{node.name}")
            case ast.AnnAssign(target=ast.Name(id=name)) if public(name):
                if has_any(node.annotation):
                    yield f"{prefix}.{name}"


def test_no_public_signature_has_any_without_a_reason() -> None:
    found = {
        name
        for path in MODULES
        for name in with_any(
            ast.parse(path.read_text(encoding="utf-8")).body,
            path.relative_to(CORE).with_suffix("").as_posix().replace("/", "."),
        )
    }
    assert found == set(EXPLAINED)
