"""Trunkline over aiohttp, Chat Completions."""

from clients import _trunkline
from clients._trunkline import call, stream
from trunkline import Service

__all__ = ["call", "connect", "stream"]


def connect(origin: str) -> Service:
    return _trunkline.connect("openai-compatible", api_url=origin + "/v1", api_key="REDACTED", http_library="aiohttp")
