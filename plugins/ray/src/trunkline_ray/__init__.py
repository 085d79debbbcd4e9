"""Call an LLM service for each row of a Ray dataset, on many machines.

    dataset = trunkline_ray.map(dataset, "Translate: {text}", service="main", journal="/shared/journal")

Importing this package does not import Ray: its functions import Ray when they need it.
"""

from __future__ import annotations

from trunkline_ray.limits import ClusterLimits
from trunkline_ray.mapping import map

__version__ = "0.1.0"

__all__ = ["ClusterLimits", "map"]
