"""The text of an exception that other code raised."""

from __future__ import annotations


def exception_text(error: BaseException) -> str:
    """Return the class and the text of an exception. The class may be a plugin's, whose `__str__` may fail."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__} (its text cannot be shown)"


def first_line(error: Exception) -> str:
    """Return the first line of an exception's text that is not blank, or the name of its class."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
