"""Trunkline over aiohttp, Converse, with a bearer token."""

from clients import _trunkline
from clients._trunkline import call, stream
from trunkline import Service

__all__ = ["call", "connect", "stream"]


def connect(origin: str) -> Service:
    return _trunkline.connect(
        "bedrock", api_url=origin, aws_region="us-east-1", api_key="REDACTED", http_library="aiohttp"
    )
