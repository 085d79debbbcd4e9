"""The service of the first start: the embedded model, if `trunkline-llamacpp` is installed."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points

from trunkline import ConfigurationError

from trunkline_gateway.database.sessions import SessionStore
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
