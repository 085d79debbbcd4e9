"""Values that never show themselves, and errors that do not show them either."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping
from functools import lru_cache
from typing import Any, NoReturn, Self
from urllib.parse import quote

MASK = "***"

MIN_SECRET_LENGTH = 6
"""The fewest characters of a secret that is scrubbed; a shorter one would tear words."""


class Secret:
    """A secret string: no `repr`, `str` or format shows the value, and it refuses to be pickled; `reveal` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value. Call it where the bytes are made and keep the result nowhere."""
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


class Headers(Mapping[str, str]):
    """HTTP headers: a mapping whose `repr` shows the names alone, and which refuses to be pickled."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] = {}) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    # Not those of Mapping, which look each name up again.

    def keys(self) -> KeysView[str]:
        return self._values.keys()

    def items(self) -> ItemsView[str, str]:
        return self._values.items()

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name}: {MASK}" for name in self._values) + "}"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("headers cannot be pickled, since they may hold a secret")


def scrub(text: str, secrets: Iterable[str]) -> str:
    """The text with each of `secrets` replaced, in the forms in which servers and proxies echo them.

    Those are the secret as it is, percent-encoded, escaped as in JSON, and in base64; and its beginning, where an
    excerpt has cut it off. Secrets under six characters are left, since they would tear words.
    """
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= MIN_SECRET_LENGTH:
            text = _without(text, secret)
            data = secret.encode("utf-8", "surrogatepass")
            for encoded in (b64encode(data).decode(), urlsafe_b64encode(data).decode()):
                text = _without(text, encoded.rstrip("="))
    return text


def scrub_value(value: Any, secrets: tuple[str, ...]) -> Any:
    """A JSON value with the secrets replaced in all its strings, the names of its members included."""
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, Mapping):
        return {scrub_value(name, secrets): scrub_value(item, secrets) for name, item in value.items()}
    return [scrub_value(item, secrets) for item in value] if isinstance(value, (list, tuple)) else value


def _without(text: str, secret: str) -> str:
    # An excerpt ends anywhere. What is left of a secret by then is one too, but for the few characters at its beginning
    # that all keys of a provider share.
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
    """A pattern for a character as it is, percent-encoded, or escaped as in JSON and in a `repr`."""
    escaped = json.dumps(character)[1:-1]
    spelled = {character, escaped, repr(character)[1:-1], f"\\{character}" if character in "/'" else character}
    encoded = quote(character, safe="", errors="replace")
    percent = encoded if "%" in encoded else f"%{ord(character):02X}"
    patterns = [re.escape(text) for text in sorted(spelled, key=len, reverse=True)]
    return f"(?:{'|'.join(patterns)}|(?i:{percent}){'|[+]' if character == ' ' else ''})"


def clear_traceback_locals(error: BaseException, outer: BaseException | None = None) -> None:
    """Clear the local variables of the frames that an error, its causes and its contexts have left.

    Error reports may show the variables of each frame; ours hold headers and bodies, and so do the HTTP client's. File
    names and lines stay. `outer` is the exception that the application was handling, which is its own.
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
    """Cut the causes of an error off where one of them shows a secret: they are others', and not to be mended."""
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
        told = f"{error} {error!r} {vars(error)!r}"
    except Exception:  # what an error of someone else's says of itself may fail
        return True
    return scrub(told, secrets) != told
