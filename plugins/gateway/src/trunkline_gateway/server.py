"""The web server: uvicorn, which drains on SIGTERM and reloads on SIGHUP."""

from __future__ import annotations

import asyncio
import logging
import math
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import uvicorn
from anyio.abc import SocketAttribute
from trunkline import ConfigurationError

from trunkline_gateway.background import Background
from trunkline_gateway.connections import protocol_for
from trunkline_gateway.database.connecting import DatabaseError
from trunkline_gateway.encryption import EncryptionError
from trunkline_gateway.gateway import SETTLING, Gateway
from trunkline_gateway.settings import GatewaySettings

logger = logging.getLogger("trunkline_gateway")

_BACKLOG = 2048


class _Server(uvicorn.Server):
    """Ends on SIGTERM and SIGINT without raising the signal again, so that usage is still written; SIGHUP reloads."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, on_start: Callable[[str], None]) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._on_start = on_start
        self._background = Background()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.should_exit or not self.servers:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self._on_start(f"http://{shown}:{port}")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self._drain, signal.SIGINT: self._drain, signal.SIGHUP: self._reload}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _drain(self) -> None:
        if self.should_exit:
            self.force_exit = True  # the second signal
            self._gateway.running.close()
            return
        settings, running = self._gateway.settings, self._gateway.running
        logger.info("draining: %d calls in flight, at most %g s", len(running), settings.drain_timeout)
        self._gateway.start_draining()
        self.should_exit = True
        asyncio.get_running_loop().call_later(settings.drain_timeout, running.close)

    def _reload(self) -> None:
        async def reload() -> None:
            try:
                await self._gateway.reload()
                logger.info("reloaded")
            except (ConfigurationError, DatabaseError, EncryptionError) as error:
                logger.error("not reloaded: %s", error)
            except Exception:  # whatever it is, nobody waits for this task
                logger.exception("not reloaded")

        self._background.start(reload())


@asynccontextmanager
async def listen(settings: GatewaySettings) -> AsyncIterator[list[socket.socket]]:
    """Listen on the address of the settings. Raises `ConfigurationError`."""
    try:
        listener = await anyio.create_tcp_listener(
            local_host=settings.host, local_port=settings.port, backlog=_BACKLOG, reuse_port=False
        )
    except (OSError, UnicodeError) as error:  # a label of a host name that is too long is a UnicodeError
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigurationError(
            f"cannot listen on host {settings.host}, port {settings.port}: {reason}. Choose others: --host, --port"
        ) from None
    async with listener:
        yield [single.extra(SocketAttribute.raw_socket) for single in listener.listeners]


async def serve(gateway: Gateway, sockets: list[socket.socket], on_start: Callable[[str], None]) -> None:
    """Serve an entered gateway until SIGTERM or SIGINT, on sockets that listen. `on_start` gets the address."""
    settings = gateway.settings
    _raise_open_files()
    config = uvicorn.Config(
        gateway.app,
        http=protocol_for(gateway),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Behind a proxy on this machine, its headers say who the client is.
        proxy_headers=settings.public_url is not None,
        timeout_keep_alive=max(1, math.ceil(settings.idle_timeout)),
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout) + SETTLING,
        backlog=_BACKLOG,
    )
    await _Server(config, gateway, on_start).serve(sockets)


def _raise_open_files() -> None:
    """Allow as many open files as the system allows, since each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
