"""The models that the gateway offers: the aliases, and what each service lists."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import attrs
from trunkline import ModelInfo, TrunklineError

from trunkline_gateway.problems import GatewayError

if TYPE_CHECKING:
    from trunkline_gateway.services import Services

KEPT = 300.0
"""The seconds for which the list of a service is kept."""

KEPT_AFTER_FAILURE = 30.0
"""The seconds for which the last list of a service is kept that could not be asked again."""

LONGEST = 10.0
"""The seconds that a service gets to list its models."""


@attrs.frozen(kw_only=True)
class OfferedModel:
    """A model as clients name it. `names` are what the scopes of keys may say."""

    info: ModelInfo
    service: str
    names: tuple[str, ...]


class Models:
    """The lists of all services, each kept for five minutes. A service that cannot list has its `default_model`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        # Until when each list is kept.
        self._kept: dict[str, tuple[float, tuple[ModelInfo, ...]]] = {}
        self._generation = 0

    async def list(self) -> list[OfferedModel]:
        """Return the models of all services, and the aliases."""
        states = [state for state in self._services.states() if state.error is None]
        lists: dict[str, tuple[ModelInfo, ...]] = {}

        async def ask(name: str) -> None:
            lists[name] = await self.of_service(name)

        async with anyio.create_task_group() as tasks:
            for state in states:
                tasks.start_soon(ask, state.name)
        offered = []
        for alias in sorted(self._services.aliases):
            try:
                target = self._services.resolve(alias)
            except GatewayError:  # its service was deleted
                continue
            names = (alias, f"{target.service}/{target.model or ''}")
            offered.append(OfferedModel(info=ModelInfo(id=alias), service=target.service, names=names))
        for state in states:
            models = {info.id: info for info in lists[state.name]}
            if state.default_model is not None:
                models.setdefault(state.default_model, ModelInfo(id=state.default_model))
            for model, info in models.items():
                name = f"{state.name}/{model}"
                offered.append(OfferedModel(info=attrs.evolve(info, id=name), service=state.name, names=(name,)))
        return offered

    async def of_service(self, name: str) -> tuple[ModelInfo, ...]:
        """Return what a service lists. If it cannot be asked now, that is what it listed last, or nothing."""
        kept = self._kept.get(name)
        if kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        models: tuple[ModelInfo, ...] = () if kept is None else kept[1]
        seconds = KEPT_AFTER_FAILURE
        generation = self._generation
        try:
            with anyio.move_on_after(LONGEST):
                async with self._services.use(name) as service:
                    models, seconds = await service.list_models(), KEPT
        except (TrunklineError, GatewayError):  # the latter if it was deleted just now
            pass
        if generation == self._generation:  # otherwise the list may be that of the old settings
            self._kept[name] = (time.monotonic() + seconds, models)
        return models

    def forget(self) -> None:
        """Ask again, since services have changed."""
        self._generation += 1
        self._kept.clear()
