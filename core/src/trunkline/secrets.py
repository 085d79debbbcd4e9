"""Secret values that are never shown, and functions that keep them out of errors."""

from __future__ import annotations

import copy
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, NoReturn, Self, TypeAlias, overload
from urllib.parse import quote

from trunkline.errors import ConfigurationError, RemoteError, TrunklineError

MASK = "***"

MIN_SECRET_LENGTH = 6
"""Secrets with fewer characters are not scrubbed: they would match parts of ordinary words."""


class Secret:
    """A secret string. `repr`, `str` and formatting do not show the value, and pickling raises `TypeError`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value. Call this only where the request is built, and do not store the result."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")


class Headers:
    """HTTP headers by name. `repr` shows only the names, and pickling raises `TypeError`.

    `dict(headers)` gives the values. The class is no `Mapping`, since error trackers show the values of every mapping
    among the local variables of a traceback, whatever its `repr` is.
    """

    __slots__ = ("_values",)

    def __init__(self, values: HeaderValues | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Headers):
            return self._values == other._values
        return self._values == other if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # like a mapping

    @overload
    def get(self, name: str) -> str | None: ...

    @overload
    def get(self, name: str, default: str) -> str: ...

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of a header, or `default` if there is none."""
        return self._values.get(name, default)

    def keys(self) -> KeysView[str]:
        """Return the names."""
        return self._values.keys()

    def items(self) -> ItemsView[str, str]:
        """Return the names and values."""
        return self._values.items()

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name}: {MASK}" for name in self._values) + "}"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("headers cannot be pickled, since they may hold a secret")


HeaderValues: TypeAlias = Mapping[str, str] | Headers
"""Headers as functions accept them: a mapping from names to values, or `Headers`."""


_PUBLIC_HEADERS = ("accept", "accept-encoding", "connection", "content-type", "user-agent")


def header_secrets(headers: HeaderValues) -> Iterator[str]:
    """Yield the values of headers that may be secret."""
    for name, value in headers.items():
        if name.lower() not in _PUBLIC_HEADERS:
            yield value
            yield value.rpartition(" ")[2]  # a server may echo the key without its scheme (`Bearer`)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with each of `secrets` replaced by `***`, in every form in which servers and proxies echo it.

    The forms are: plain, percent-encoded, escaped as in JSON, and base64, also as a part of a longer text in base64;
    and the first part of a secret that an excerpt cut off. Secrets shorter than `MIN_SECRET_LENGTH` are not replaced.
    """
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= MIN_SECRET_LENGTH:
            text = _without(text, secret)
            for encoded in _base64_forms(secret):
                text = _without(text, encoded)
    return text


def _base64_forms(secret: str) -> Iterator[str]:
    """Yield a secret in base64, alone and as it looks inside of a longer text, such as `Bearer` and the secret."""
    data = secret.encode("utf-8", "surrogatepass")
    for encode in (b64encode, urlsafe_b64encode):
        encoded = encode(data).decode()
        yield encoded
        yield encoded.rstrip("=")
        for skipped in (1, 2):  # the bytes of the longer text before the secret, modulo 3
            # Only the characters that encode no bits of what surrounds the secret are the same in every text.
            inner = data[3 - skipped :]
            aligned = encode(inner[: len(inner) - len(inner) % 3]).decode()
            if len(aligned) >= MIN_SECRET_LENGTH + 2:
                yield aligned


def scrub_value(value: Any, secrets: tuple[str, ...]) -> Any:
    """Return a JSON value with the secrets replaced in all strings, including the names of object members."""
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, Mapping):
        return {scrub_value(name, secrets): scrub_value(item, secrets) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(scrub_value(item, secrets) for item in value)
    return [scrub_value(item, secrets) for item in value] if isinstance(value, list) else value


def _without(text: str, secret: str) -> str:
    # An excerpt may cut a secret off anywhere, and its first part must not show either. The first 12 characters (or a
    # third, if that is more) must match before anything is replaced: shorter prefixes, such as `sk-proj-`, are shared
    # by all keys of a provider and occur in ordinary error messages.
    shortest = max(12, len(secret) // 3)
    kept, position = [], 0
    for found in re.finditer("".join(map(_spellings, secret[:shortest])), text):
        if found.start() < position:
            continue
        end = found.end()
        for character in secret[shortest:]:
            more = re.compile(_spellings(character)).match(text, end)
            if more is None:
                break
            end = more.end()
        kept += [text[position : found.start()], MASK]
        position = end
    return "".join([*kept, text[position:]]) if kept else text


@lru_cache(maxsize=512)
def _spellings(character: str) -> str:
    """Return a pattern that matches a character plain, percent-encoded, or escaped as in JSON and in a `repr`."""
    escaped = json.dumps(character)[1:-1]
    spelled = {character, escaped, repr(character)[1:-1], f"\\{character}" if character in "/'" else character}
    encoded = quote(character, safe="", errors="replace")
    percent = encoded if "%" in encoded else f"%{ord(character):02X}"
    patterns = [re.escape(text) for text in sorted(spelled, key=len, reverse=True)]
    return f"(?:{'|'.join(patterns)}|(?i:{percent}){'|[+]' if character == ' ' else ''})"


def without_traceback(error: BaseException) -> BaseException:
    """Return the exception to raise in place of `error`, without the traceback that led to it.

    An error of Trunkline is copied, with its attributes, notes and causes: its object may be shared by several calls.
    Any other exception stays the same object. Raise the result after the `except` block that caught `error`.
    """
    if isinstance(error, TrunklineError):
        copied = _copied(error)
        return copied if copied is not None else TrunklineError(str(error))
    _cut(error)
    return error


def _cut(error: BaseException) -> None:
    error.__traceback__ = None
    # anyio looks for its own cancellation in the contexts of a cancellation that another library has replaced.
    context, error.__context__ = error.__context__, None
    if type(context) is type(error):
        with suppress(Exception):
            error.__context__ = type(context)(*context.args)
    if error.__cause__ is not None:
        error.__cause__, error.__suppress_context__ = None, False
    if isinstance(error, BaseExceptionGroup):
        for single in error.exceptions:
            _cut(single)


MAX_CAUSES = 8
"""How many causes, one of the other, a copy of an error keeps."""


def _copied(error: BaseException, depth: int = 0) -> BaseException | None:
    """Return a copy without traceback and context, or `None` for an exception that cannot be copied."""
    if depth > MAX_CAUSES:
        return None
    try:
        if isinstance(error, BaseExceptionGroup):
            singles = (_copied(single, depth + 1) for single in error.exceptions)
            copied: BaseException = error.derive([single for single in singles if single is not None])
        else:
            copied = copy.copy(error)
        if copied is error or not isinstance(copied, BaseException):
            return None
        if error.__cause__ is not None:
            copied.__cause__ = _copied(error.__cause__, depth + 1)
    except Exception:  # the class of another library may need other arguments than `args`
        return None
    return copied


def scrub_error(error: TrunklineError, secrets: tuple[str, ...]) -> None:
    """Remove secrets from an error's message, fields and notes, and drop the causes that show one.

    The error must belong to the caller alone: see `without_traceback`.
    """
    fields = vars(error)
    for name, value in fields.items():
        if isinstance(value, (str, list, tuple, dict)):
            try:
                fields[name] = scrub_value(value, secrets)
            except RecursionError:  # a body may be nested deeply if `nesting_limit` is off
                fields[name] = None
    error.args = tuple(scrub_value(arg, secrets) for arg in error.args)
    if isinstance(error, RemoteError):
        error.message = error.message or type(error).__name__
        error.args = (error.message,)
    elif isinstance(error, ConfigurationError):
        for single in error.errors:
            scrub_error(single, secrets)
    current: BaseException = error
    while (cause := current.__cause__) is not None:
        if isinstance(cause, TrunklineError):
            scrub_error(cause, secrets)
            return
        # The text of another library's exception cannot be scrubbed reliably.
        if _shows(cause, secrets):
            current.__cause__ = None
            return
        current = cause


def _shows_below(error: BaseException, secrets: tuple[str, ...]) -> bool:
    return _shows(error, secrets) or (error.__cause__ is not None and _shows_below(error.__cause__, secrets))


def _shows(error: BaseException, secrets: tuple[str, ...]) -> bool:
    if isinstance(error, BaseExceptionGroup) and any(_shows_below(single, secrets) for single in error.exceptions):
        return True
    try:
        text = f"{error} {error!r} {vars(error)!r}"
    except Exception:  # another library's __str__ or __repr__ may fail; assume the worst
        return True
    return scrub(text, secrets) != text
