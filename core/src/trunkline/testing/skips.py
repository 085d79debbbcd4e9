"""The check of the tests that a subclass of one of the kit's classes skips."""

from __future__ import annotations

from collections.abc import Mapping


def check_subclass(subclass: type, kit: type, skips: Mapping[str, str]) -> None:
    """Raise `TypeError` if a subclass replaces a test of the kit, or skips an unknown test or one without a reason."""
    standard = {name for name in dir(kit) if name.startswith("test_")}
    for name in standard & vars(subclass).keys():
        raise TypeError(f"{subclass.__name__}.{name} replaces a test of the kit; to skip that test, add it to 'skips'")
    for name, reason in skips.items():
        if name not in standard:
            raise TypeError(f"{subclass.__name__}.skips names {name!r}, which is not a test of the kit")
        if not reason.strip():
            raise TypeError(f"{subclass.__name__}.skips has no reason for {name}")
