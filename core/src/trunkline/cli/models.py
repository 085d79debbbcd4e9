"""`trunkline models`: lists the models that a service offers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from trunkline.cli.selection import ComposedService, SelectedService, ServiceOptions, select_service
from trunkline.cli.terminal import print_json, print_table
from trunkline.response import ModelInfo

_NO_OPTIONS = ServiceOptions()


def models(
    *,
    target: ServiceOptions = _NO_OPTIONS,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """List the models that a service offers, with the limits and capabilities that the provider reports.

    Parameters
    ----------
    json
        Write a JSON array, with everything that the provider sends about each model.
    """
    import anyio

    models = anyio.run(_list, select_service(target))
    if json:
        print_json([_row(model) for model in models], indent=2)
    else:
        columns: list[tuple[str, Callable[[ModelInfo], str]]] = [
            ("model", lambda model: model.id),
            ("name", lambda model: model.name or ""),
            ("created", lambda model: _day(model.created)),
        ]
        # Many providers do not report these.
        optional: list[tuple[str, Callable[[ModelInfo], str]]] = [
            ("context window", lambda model: _number(model.context_window)),
            ("output limit", lambda model: _number(model.output_token_limit)),
            ("capabilities", lambda model: ", ".join(sorted(model.capabilities))),
        ]
        columns += [column for column in optional if any(map(column[1], models))]
        print_table([title for title, _ in columns], [[show(model) for _, show in columns] for model in models])
    return 0


def _row(model: ModelInfo) -> dict[str, object]:
    return {
        "id": model.id,
        "name": model.name,
        "created": model.created,
        "context_window": model.context_window,
        "output_token_limit": model.output_token_limit,
        "capabilities": sorted(model.capabilities),
        "raw": dict(model.raw),
    }


def _number(value: int | None) -> str:
    return f"{value:,}" if value is not None else ""


async def _list(selected: SelectedService | ComposedService) -> tuple[ModelInfo, ...]:
    async with selected.open() as service:
        return await service.list_models()


def _day(created: int | None) -> str:
    try:
        return datetime.fromtimestamp(created, UTC).date().isoformat() if created else ""
    except (ValueError, OverflowError, OSError):
        return ""
