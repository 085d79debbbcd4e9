"""What authors of plugins test with. Needs the extra: `pip install 'trunkline[testing]'`."""

from __future__ import annotations

from trunkline.testing.server import Exchange, LoopbackServer, serve

__all__ = ["Exchange", "LoopbackServer", "serve"]
