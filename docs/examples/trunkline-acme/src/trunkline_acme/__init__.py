"""Acme's gateway for language models: short-lived tokens of Acme's own, for any provider that Trunkline has.

The gateway speaks the Chat Completions dialect, so `openai-compatible` does all but the authentication, and this
extension puts Acme's in the place of the provider's:

    trunkline.open_service("openai-compatible", api_url=…, extensions=["acme"])
"""

from __future__ import annotations

from trunkline_acme.extension import Acme, extension

__version__ = "0.1.0"

__all__ = ["Acme", "__version__", "extension"]
