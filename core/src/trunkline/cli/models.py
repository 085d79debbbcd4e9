"""`trunkline models`: the models that a service offers."""

from __future__ import annotations

import json as jsonlib
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from trunkline.cli.selection import SelectedService, ServiceOptions, select_service
from trunkline.cli.terminal import print_table
from trunkline.response import ModelInfo

_NOWHERE = ServiceOptions()


def models(
    *,
    target: ServiceOptions = _NOWHERE,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """List the models that a service offers.

    Parameters
    ----------
    json
        Write a JSON array, with all that the provider tells of each model.
    """
    import anyio

    found = anyio.run(_list, select_service(target))
    if json:
        told = [
            {"id": model.id, "name": model.name, "created": model.created, "raw": dict(model.raw)} for model in found
        ]
        print(jsonlib.dumps(told, indent=2))
    else:
        print_table(
            ("model", "name", "created"), [(model.id, model.name or "", _day(model.created)) for model in found]
        )
    return 0


async def _list(chosen: SelectedService) -> tuple[ModelInfo, ...]:
    from trunkline.opening import open_service

    async with open_service(chosen.settings, name=chosen.name) as service:
        return await service.list_models()


def _day(created: int | None) -> str:
    try:
        return datetime.fromtimestamp(created, UTC).date().isoformat() if created else ""
    except (ValueError, OverflowError, OSError):
        return ""
