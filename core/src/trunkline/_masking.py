"""Decide whether a text that a user wrote may be a secret in the wrong place, such as a key in `max_retries`."""

from __future__ import annotations

import re

MASK = "***"

_WORD = re.compile(r"[A-Za-z0-9]{0,4}|(?:[A-Z]?[a-z]{2,}){1,4}|[A-Z]+")
_LONGEST_WORD = 20
_LONGEST_PHRASE = 60
_DATE = re.compile(r"(?:19|20)[0-9]{6}(?:[0-9]{6})?(?![0-9])")
_NUMBER = re.compile(r"[+-]?[0-9.,:_-]{1,12}[A-Za-z]{0,2}")
_PATH = re.compile(r"[/~]|\.{1,2}/|[A-Za-z]:[\\/]")


def is_words(text: str) -> bool:
    """Whether a text consists of words, such as the name of an application, and so is no secret."""
    pieces = re.split(r"[\s,;:./_()-]+", text)
    return all(len(piece) <= _LONGEST_WORD and _WORD.fullmatch(piece) for piece in pieces)


def may_be_secret(text: str) -> bool:
    """Whether a message should not quote a text: it is neither made of words, nor a short number, nor a path."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return False
    return len(text) > _LONGEST_PHRASE or not is_words(text) or looks_like_key(text)


def looks_like_key(text: str) -> bool:
    """Whether a text has a part of random letters and digits, unlike the names of models and of files with dates."""
    return bool(re.match(r"sk-[\w-]{16}", text)) or any(
        re.search("[0-9]", part)
        and re.search("[A-Za-z]", part)
        and (len(part) >= 16 or (len(part) >= 12 and re.search("[a-z]", part) and re.search("[A-Z]", part)))
        for part in re.split(r"[^A-Za-z0-9]+", _DATE.sub("", text))
    )


def shown_name(name: str) -> str:
    """Return a name in quotes, or only its length if it may be a secret in the place of a name."""
    if may_be_secret(name) and not _PATH.match(name):
        return f"{MASK!r} ({len(name)} characters that look like a secret)"
    return repr(name)
