"""What an annotation contains, to choose the library that makes its JSON Schema and checks its values."""

from __future__ import annotations

import typing

_PACKAGES = frozenset({"pydantic", "annotated_types"})
"""The packages whose metadata in annotations only pydantic understands."""


def has_pydantic(annotation: object) -> bool:
    """Return whether an annotation is a class of pydantic, or contains one, or metadata such as `Field(gt=0)`.

    `msgspec` would neither run its validators nor check such restrictions.
    """
    return _has_pydantic(annotation, {})


def _has_pydantic(annotation: object, seen: dict[int, object]) -> bool:
    if id(annotation) in seen:
        return False
    # Kept alive: annotations that are written as text are evaluated here, and the next one could get a freed id.
    seen[id(annotation)] = annotation
    if hasattr(annotation, "__pydantic_core_schema__") or hasattr(annotation, "__pydantic_fields__"):
        return True
    metadata = getattr(annotation, "__metadata__", ())  # of `Annotated`
    if any(type(each).__module__.partition(".")[0] in _PACKAGES for each in metadata):
        return True
    inner = list(typing.get_args(annotation))
    if isinstance(annotation, type) and annotation.__module__ != "builtins":
        try:
            inner += typing.get_type_hints(annotation, include_extras=True).values()
        except Exception:  # text may raise anything; the library, which evaluates it too, reports it
            return False
    return any(_has_pydantic(each, seen) for each in inner)
