"""What looks like a key in the user's own texts, such as arguments and configuration files. No command repeats it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from trunkline._masking import key_parts

_hidden: set[str] = set()


@contextmanager
def hiding(arguments: Sequence[str]) -> Iterator[None]:
    """Hide the keys in the arguments of a command, and those that `hide` adds during the block."""
    before = set(_hidden)
    hide(arguments)
    hide([word[2:] for word in arguments if word.startswith("-")])  # `-sVALUE` is `-s VALUE`
    try:
        yield
    finally:
        _hidden.clear()
        _hidden.update(before)


def hide(value: object) -> None:
    """Hide from now on what looks like a key in a text, or in the texts of a list or a table."""
    if isinstance(value, str):
        for part in key_parts(value):
            # Names of settings have no hyphens, and variables are named after them. A host is sent in lower case.
            for form in (part, part.replace("-", "_")):
                _hidden.update((form, form.lower(), form.upper()))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            hide(name)
            hide(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            hide(item)


def without_hidden(text: str) -> str:
    """Return a text with `***` in place of what is hidden, in all forms in which programs repeat texts."""
    if not _hidden or not text:
        return text
    from trunkline.secrets import scrub

    return scrub(text, sorted(_hidden))
