"""Secret values that are never shown, and functions that keep them out of errors."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping
from functools import lru_cache
from typing import Any, NoReturn, Self, TypeAlias, overload
from urllib.parse import quote

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


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with each of `secrets` replaced by `***`, in every form in which servers and proxies echo it.

    The forms are: plain, percent-encoded, escaped as in JSON, and base64; also the first part of a secret that an
    excerpt cut off. Secrets shorter than `MIN_SECRET_LENGTH` are not replaced.
    """
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= MIN_SECRET_LENGTH:
            text = _without(text, secret)
            data = secret.encode("utf-8", "surrogatepass")
            for encoded in (b64encode(data).decode(), urlsafe_b64encode(data).decode()):
                text = _without(text, encoded.rstrip("="))
    return text


def scrub_value(value: Any, secrets: tuple[str, ...]) -> Any:
    """Return a JSON value with the secrets replaced in all strings, including the names of object members."""
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, Mapping):
        return {scrub_value(name, secrets): scrub_value(item, secrets) for name, item in value.items()}
    return [scrub_value(item, secrets) for item in value] if isinstance(value, (list, tuple)) else value


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


def clear_traceback_locals(error: BaseException, outer: BaseException | None = None) -> None:
    """Clear the local variables in the tracebacks of an error, its causes and its contexts.

    Error reporters may show the local variables of each frame. Our frames and the HTTP client's hold headers and
    bodies. File names and line numbers stay. `outer` is the exception that the application was handling when it called
    us; its traceback is left alone.
    """
    import traceback

    seen: set[int] = set() if outer is None else {id(outer)}
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if current.__traceback__ is not None:
            traceback.clear_frames(current.__traceback__)
        waiting += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions


def drop_secret_causes(error: BaseException, secrets: tuple[str, ...]) -> None:
    """Remove each cause and context of `error` that shows a secret.

    These exceptions were raised by other libraries, so their messages cannot be scrubbed reliably.
    """
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        seen.add(id(current))
        for link in ("__cause__", "__context__"):
            linked: BaseException | None = getattr(current, link)
            if linked is None or id(linked) in seen:
                continue
            if _shows(linked, secrets):
                setattr(current, link, None)
            else:
                waiting.append(linked)


def _shows(error: BaseException, secrets: tuple[str, ...]) -> bool:
    try:
        text = f"{error} {error!r} {vars(error)!r}"
    except Exception:  # another library's __str__ or __repr__ may fail; assume the worst
        return True
    return scrub(text, secrets) != text
