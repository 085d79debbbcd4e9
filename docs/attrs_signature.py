"""A griffe extension that shows attrs classes in the reference with the signature that they have at run time."""

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


class AttrsSignature(griffe.Extension):
    """Adds an `__init__` to the classes that attrs makes, with a parameter for each field."""

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        if not _DECORATORS & {decorator.callable_path for decorator in cls.decorators}:
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
                    default=_default(member.value),
                )
            )
        cls.set_member(
            "__init__",
            griffe.Function("__init__", parameters=griffe.Parameters(*parameters), returns="None", parent=cls),
        )
