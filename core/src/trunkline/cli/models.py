"""`trunkline models`: lists the models that a service offers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from trunkline.cli.selection import SelectedService, ServiceOptions, select_service
from trunkline.cli.terminal import print_json, print_table
from trunkline.response import ModelInfo

_NO_OPTIONS = ServiceOptions()


def models(
    *,
    target: ServiceOptions = _NO_OPTIONS,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """List the models that a service offers.

    Parameters
    ----------
    json
        Write a JSON array, with everything that the provider sends about each model.
    """
    import anyio

    models = anyio.run(_list, select_service(target))
    if json:
        rows = [
            {"id": model.id, "name": model.name, "created": model.created, "raw": dict(model.raw)} for model in models
        ]
        print_json(rows, indent=2)
    else:
        print_table(
            ("model", "name", "created"), [(model.id, model.name or "", _day(model.created)) for model in models]
        )
    return 0


async def _list(selected: SelectedService) -> tuple[ModelInfo, ...]:
    from trunkline.opening import open_service

    async with open_service(selected.settings, name=selected.name) as service:
        return await service.list_models()


def _day(created: int | None) -> str:
    try:
        return datetime.fromtimestamp(created, UTC).date().isoformat() if created else ""
    except (ValueError, OverflowError, OSError):
        return ""
