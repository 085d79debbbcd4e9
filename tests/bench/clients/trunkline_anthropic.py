"""Trunkline, Messages."""

from trunkline import Service

from clients import _trunkline
from clients._trunkline import call, stream

__all__ = ["call", "connect", "stream"]


def connect(origin: str) -> Service:
    return _trunkline.connect("anthropic", api_url=origin, api_key="REDACTED")
