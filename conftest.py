"""What holds for all tests of the workspace."""

from __future__ import annotations

from hypothesis import settings

# A loaded machine makes an example slow, not wrong: speed is shown by the benchmark.
settings.register_profile("trunkline", deadline=None)
settings.load_profile("trunkline")
