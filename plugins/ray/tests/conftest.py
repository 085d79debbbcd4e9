"""The tests run where Ray is installed: in the session `tests_ray`."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = ["test_*.py"] if find_spec("ray") is None else []
