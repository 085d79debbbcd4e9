"""Mask what may be a secret in the wrong place: a text that a user wrote, such as a key in `max_retries`."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "***"

_WORD = re.compile(r"[A-Za-z0-9]{0,4}|(?:[A-Z]?[a-z]{2,}){1,4}|[A-Z]+")
_LONGEST_WORD = 20
_LONGEST_PHRASE = 60
_DATE = re.compile(r"(?:19|20)[0-9]{6}(?:[0-9]{6})?(?![0-9])")
_NUMBER = re.compile(r"[+-]?[0-9.,:_-]{1,12}[A-Za-z]{0,2}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,59}")
_PATH = re.compile(r"[/~]|\.{1,2}/|[A-Za-z]:[\\/]")


_CREDENTIAL_NAME = re.compile(
    r"auth(?!or(?!i))|key|token|secret|cookie|cred|signature|session|jwt|bearer|passw|passphrase|pwd|(?<![a-z0-9])(?:pw|pass)(?![a-z0-9])",
    re.IGNORECASE,
)


def names_credential(name: str) -> bool:
    """Whether the name of a header or of a parameter in a URL says that its value is a credential."""
    return _CREDENTIAL_NAME.search(name) is not None


def is_words(text: str) -> bool:
    """Whether a text consists of words, such as the name of an application, and so is no secret."""
    pieces = re.split(r"[\s,;:./_()-]+", text)
    return all(len(piece) <= _LONGEST_WORD and _WORD.fullmatch(piece) for piece in pieces)


def without_dates(text: str) -> str:
    """Return a text without the dates in it, such as those in the names of models."""
    return _DATE.sub("", text)


def may_be_secret(text: str) -> bool:
    """Whether a message should not quote a text: it is neither made of words, nor a short number, nor a path."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return False
    return len(text) > _LONGEST_PHRASE or not is_words(without_dates(text)) or looks_like_key(text)


_SHAPE = r"""
    (?<![A-Za-z0-9])(?i:sk)[-_][A-Za-z0-9_-]{16,}
    | eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*  # a JSON web token
    | (?<![A-Za-z0-9])[0-9A-Fa-f]{8}(?:[-_][0-9A-Fa-f]{4}){3}[-_][0-9A-Fa-f]{12}(?![A-Za-z0-9])  # a UUID
    | (?<![A-Za-z0-9])(?:AKIA|ASIA|AIza)[A-Za-z0-9_-]{16,}
"""
_HAS_SHAPE = re.compile(_SHAPE, re.VERBOSE)
_CANDIDATE = re.compile(
    rf"""
    (?P<shape>{_SHAPE})
    # The secret key of AWS is 40 characters of base64.
    | (?<![A-Za-z0-9/+=])(?P<base64>[A-Za-z0-9/+]{{40}})(?![A-Za-z0-9/+=])
    | [A-Za-z0-9][A-Za-z0-9_+-]*={{0,2}}
    """,
    re.VERBOSE,
)
_CAMEL_CASE = re.compile("[a-z]{0,20}(?:[A-Z][a-z]{1,19})*|[A-Z]{0,20}")
_LONGEST_NAME = 24
"""The most letters that a name has without a digit, a separator or a new word in it."""


_KEY_ID = re.compile(r"(?:AKIA|ASIA)[A-Z0-9]{16}")


def is_key_id(text: str) -> bool:
    """Whether a text is the id of a key pair. Messages mask it, but it is no secret."""
    return _KEY_ID.fullmatch(text) is not None


def key_parts(text: str) -> tuple[str, ...]:
    """Return the parts of a text that look like keys, unlike the names of models and of files with dates."""
    return tuple(found[0] for found in _CANDIDATE.finditer(text) if _is_key(found))


def looks_like_key(text: str) -> bool:
    """Whether a part of a text looks like a key."""
    return any(map(_is_key, _CANDIDATE.finditer(text)))


def without_keys(text: str) -> str:
    """Return a text with `***` in place of the parts that look like keys."""
    return _CANDIDATE.sub(lambda found: MASK if _is_key(found) else found[0], text)


def without_name(text: str, name: str | None) -> str:
    """Return a text with `***` in place of the parts of a name that look like keys: nobody names a service so."""
    for part in key_parts(name or ""):
        text = text.replace(part, MASK)
    return text


def _is_key(found: re.Match[str]) -> bool:
    if found["shape"]:
        return True
    if found["base64"] and all(re.search(kind, found[0]) for kind in ("[a-z]", "[A-Z]", "[0-9]")):
        return True
    return bool(_HAS_SHAPE.search(found[0])) or any(
        map(_is_random, re.split(r"[^A-Za-z0-9]+", without_dates(found[0])))
    )


def _is_random(part: str) -> bool:
    if part.isalpha():
        is_name = _CAMEL_CASE.fullmatch(part) and (part.isupper() or 3 * sum(map(str.isupper, part)) <= len(part))
        return len(part) >= _LONGEST_NAME and not is_name
    if part.isdigit():
        return False
    return len(part) >= 16 or (len(part) >= 12 and part != part.lower() and part != part.upper())


def is_name(text: str) -> bool:
    """Whether a text is an ordinary name, such as that of a variable, and does not look like a key."""
    return _NAME.fullmatch(text) is not None and not looks_like_key(text)


def masked(name: str) -> str:
    """Return a name in one line, or `***` if it may be a secret. Only random parts of a path are hidden."""
    return MASK if may_be_secret(name) and not _PATH.match(name) else listed([name])


def listed(names: Iterable[str]) -> str:
    """Return names that exist, each in one line and without the parts that look like keys, with commas between them."""
    shown = map(without_keys, names)
    return ", ".join(name if name.isprintable() else repr(name)[1:-1] for name in shown)


def quoted(name: str) -> str:
    """Return a name in quotes, or only its length if it may be a secret in the place of a name."""
    if may_be_secret(name) and not _PATH.match(name):
        return f"{MASK!r} ({len(name)} characters that look like a secret)"
    return repr(without_keys(name))


def quoted_name(name: str) -> str:
    """Return the name of a plugin in quotes. Unlike `quoted`, it shows ordinary names, such as "OpenAI Compatible"."""
    is_shown = len(name) <= _LONGEST_PHRASE and all(map(is_name, name.split(" ")))
    return repr(name) if is_shown else quoted(name)
