"""A griffe extension that gives attrs classes and typed dicts their signatures in the reference."""

from __future__ import annotations

from typing import Any

import griffe

_DECORATORS = {"attrs.frozen", "attrs.define", "trunkline.settings.settings", "settings"}
_FIELDS = {"attrs.field", "setting"}


def _default(value: Any) -> Any:
    """Return the default that an attribute's right-hand side declares, or `None` if the field is required."""
    if not (isinstance(value, griffe.ExprCall) and str(value.function) in _FIELDS):
        return value
    for argument in value.arguments:
        if isinstance(argument, griffe.ExprKeyword):
            if argument.name == "default":
                return argument.value
            if argument.name == "factory":
                return {"dict": "{}"}.get(str(argument.value), "...")
    return None


def _has_fields(cls: griffe.Class) -> bool:
    """Return whether a class takes its annotated attributes as keyword arguments."""
    made_by_attrs = bool(_DECORATORS & {decorator.callable_path for decorator in cls.decorators})
    return made_by_attrs or _is_typed_dict(cls)


def _is_typed_dict(cls: griffe.Class) -> bool:
    return any(str(base) == "TypedDict" for base in cls.bases)


def _describe_instance_attributes(cls: griffe.Class) -> None:
    init = cls.members.get("__init__")
    types = {item.name: item.annotation for item in init.parameters} if isinstance(init, griffe.Function) else {}
    for member in cls.members.values():
        if isinstance(member, griffe.Attribute) and member.labels == {"instance-attribute"}:
            if member.annotation is None:
                member.annotation = types.get(str(member.value))
            member.value = None


class AttrsSignature(griffe.Extension):
    """Adds an `__init__` with a parameter for each field. The keys of the typed dicts here are all optional.

    In other classes, an attribute that `__init__` sets from a parameter gets the type of the parameter. The value that
    is assigned is not shown.
    """

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        if not _has_fields(cls):
            _describe_instance_attributes(cls)
            return
        parameters = [griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)]
        for name, member in cls.members.items():
            if not isinstance(member, griffe.Attribute) or name.startswith("_") or member.annotation is None:
                continue
            if "ClassVar" in str(member.annotation) or "property" in member.labels:
                continue
            parameters.append(
                griffe.Parameter(
                    name,
                    annotation=member.annotation,
                    kind=griffe.ParameterKind.keyword_only,
                    default="..." if _is_typed_dict(cls) else _default(member.value),
                )
            )
        cls.set_member(
            "__init__",
            griffe.Function("__init__", parameters=griffe.Parameters(*parameters), returns="None", parent=cls),
        )
