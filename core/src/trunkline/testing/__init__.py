"""What authors of plugins and applications test with. Needs the extra: `pip install 'trunkline[testing]'`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trunkline.testing.recordings import RecordingMismatch
    from trunkline.testing.server import Exchange, LoopbackServer, serve
    from trunkline.testing.tapes import Player, Recorder, record, replay

__all__ = ["Exchange", "LoopbackServer", "Player", "Recorder", "RecordingMismatch", "record", "replay", "serve"]

_HOMES = {
    "RecordingMismatch": "recordings",
    "Exchange": "server",
    "LoopbackServer": "server",
    "serve": "server",
    "Player": "tapes",
    "Recorder": "tapes",
    "record": "tapes",
    "replay": "tapes",
}


def __getattr__(name: str) -> object:
    # pytest imports the plugin in this package at each start, where nothing else of it is needed.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
