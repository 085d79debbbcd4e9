"""The text of an exception that other code raised, whose `__str__` may fail."""

from __future__ import annotations


def exception_text(error: BaseException) -> str:
    """Return the class and the text of an exception. The class may be a plugin's."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__} (its text cannot be shown)"
