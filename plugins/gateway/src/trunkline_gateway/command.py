"""The commands `trunkline serve` and `trunkline gateway`."""

from __future__ import annotations

import cyclopts

app = cyclopts.App(help="Administer the gateway: migrations of its database, and keys.")


def serve() -> int:
    """Serve the configured services to OpenAI and Anthropic clients, with a console in the browser."""
    raise NotImplementedError
