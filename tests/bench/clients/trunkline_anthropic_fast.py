"""Trunkline over aiohttp, Messages."""

from clients import _trunkline
from clients._trunkline import call, stream
from trunkline import Service

__all__ = ["call", "connect", "stream"]


def connect(origin: str) -> Service:
    return _trunkline.connect("anthropic", api_url=origin, api_key="REDACTED", http_library="aiohttp")
