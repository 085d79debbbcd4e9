"""Call an LLM service for each row of a Ray dataset, on many machines.

Importing this package does not import Ray: its modules import Ray when they need it.
"""

from __future__ import annotations

__version__ = "0.1.0"
