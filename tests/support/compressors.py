"""The packages with which the tests' servers compress what the standard library cannot before Python 3.14."""

import sys

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["brotli", "zstd"]
