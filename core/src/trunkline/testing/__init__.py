"""Test tools for plugins and applications. They need the extra `testing`: `pip install 'trunkline[testing]'`.

Plugin authors subclass `ProviderTests`, the conformance kit, `AuthTests` for an `Auth` that fetches tokens, and
`ExtensionTests` for an extension. All run against the scripted server that `serve` starts.
Applications `record` their exchanges with a provider once and `replay` them in their tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trunkline.testing.auth import AuthTests
    from trunkline.testing.conformance import ProviderTests
    from trunkline.testing.extensions import ExtensionTests
    from trunkline.testing.http2 import HTTP2Exchange, HTTP2Server, serve_http2
    from trunkline.testing.recordings import RecordingMismatch
    from trunkline.testing.server import Exchange, LoopbackServer, black_hole, closed_port, serve
    from trunkline.testing.tapes import Player, Recorder, record, replay
    from trunkline.testing.wireformat import (
        EMBED_DIMENSIONS,
        EMBED_TEXTS,
        JSON_LINES,
        NAMED_SSE,
        SSE,
        TOOL_HISTORY,
        WEATHER,
        Framing,
        Sample,
        Step,
        WireFormat,
        canary,
    )

__all__ = [
    "EMBED_DIMENSIONS",
    "EMBED_TEXTS",
    "JSON_LINES",
    "NAMED_SSE",
    "SSE",
    "TOOL_HISTORY",
    "WEATHER",
    "AuthTests",
    "Exchange",
    "ExtensionTests",
    "Framing",
    "HTTP2Exchange",
    "HTTP2Server",
    "LoopbackServer",
    "Player",
    "ProviderTests",
    "Recorder",
    "RecordingMismatch",
    "Sample",
    "Step",
    "WireFormat",
    "black_hole",
    "canary",
    "closed_port",
    "record",
    "replay",
    "serve",
    "serve_http2",
]

_HOMES = {
    "auth": ("AuthTests",),
    "conformance": ("ProviderTests",),
    "extensions": ("ExtensionTests",),
    "http2": ("HTTP2Exchange", "HTTP2Server", "serve_http2"),
    "recordings": ("RecordingMismatch",),
    "server": ("Exchange", "LoopbackServer", "black_hole", "closed_port", "serve"),
    "tapes": ("Player", "Recorder", "record", "replay"),
    "wireformat": (
        "EMBED_DIMENSIONS",
        "EMBED_TEXTS",
        "JSON_LINES",
        "NAMED_SSE",
        "SSE",
        "TOOL_HISTORY",
        "WEATHER",
        "Framing",
        "Sample",
        "Step",
        "WireFormat",
        "canary",
    ),
}


def __getattr__(name: str) -> object:
    # Names are imported on first use: pytest imports this package at every start, for its pytest plugin alone.
    for module, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
