"""The service of the first start: the embedded model, if `trunkline-llamacpp` is installed."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points

from trunkline import ConfigurationError, TrunklineError

from trunkline_gateway.database.sessions import SessionStore
from trunkline_gateway.problems import GatewayError
from trunkline_gateway.services import Services

PROVIDER = "llamacpp"
"""The provider that needs neither a key nor a server."""

logger = logging.getLogger("trunkline_gateway")


async def add_embedded_model(services: Services, sessions: SessionStore) -> None:
    """Add a service of the embedded model at the first start, so that the console has something to talk to."""
    is_installed = bool(entry_points(group="trunkline.providers", name=PROVIDER))
    if services.read_only or services.states() or not is_installed:
        return
    if not await sessions.set_value("embedded_model", "added", only_if_absent=True):
        return  # an administrator has deleted it
    try:
        await services.save(PROVIDER, {"provider": PROVIDER}, {})
    except ConfigurationError as error:
        logger.info("the embedded model was not added: %s", error)


async def missing_model(services: Services) -> str | None:
    """Return why a service of the embedded model has no model, and how to install one, or `None`. Loads no model."""
    for state in services.states():
        if state.provider == PROVIDER and state.error is None:
            try:
                async with services.use(state.name) as service:
                    await service.list_models()
            except ConfigurationError as error:
                return str(error)
            except (TrunklineError, GatewayError) as error:  # of an extension, for example
                logger.debug("service %s: its model could not be looked for: %s", state.name, type(error).__name__)
    return None
