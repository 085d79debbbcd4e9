"""Trunkline, Chat Completions."""

from trunkline import Service

from clients import _trunkline
from clients._trunkline import call, stream

__all__ = ["call", "connect", "stream"]


def connect(origin: str) -> Service:
    return _trunkline.connect("openai-compatible", api_url=origin + "/v1", api_key="REDACTED")
