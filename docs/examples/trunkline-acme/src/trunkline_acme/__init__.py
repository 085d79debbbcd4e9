"""Acme's gateway for language models: authenticate any Trunkline provider with Acme's short-lived tokens.

The gateway has a Chat Completions API, so the provider `openai-compatible` does everything except authentication. This
extension replaces the provider's authentication with Acme's:

    trunkline.open_service("openai-compatible", api_url=…, extensions=[{"name": "acme", "token_url": …}])
"""

from __future__ import annotations

from trunkline_acme.extension import AcmeSettings, acme

__version__ = "0.1.0"

__all__ = ["AcmeSettings", "__version__", "acme"]
