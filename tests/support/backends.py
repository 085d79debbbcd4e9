"""The backends of a test, asyncio and trio, where it does not run on both."""

from __future__ import annotations

import pytest

one_backend = pytest.mark.parametrize("anyio_backend", ["asyncio", pytest.param("trio", marks=pytest.mark.exhaustive)])
"""Run a test on asyncio, and on trio only with `--exhaustive`: for slow tests whose result the backend cannot change.

`tests/README.md` lists them.
"""
