"""Secret values that are never shown, and functions that keep them out of errors."""

from __future__ import annotations

import copy
import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import Any, ClassVar, NoReturn, Self, TypeAlias, overload

from trunkline.errors import ConfigurationError, RemoteError, TrunklineError

MASK = "***"

MAX_CAUSES = 8
"""How many causes, one of the other, are kept."""

MIN_SECRET_LENGTH = 6
"""Secrets with fewer characters are not scrubbed: they would match parts of ordinary words."""


class Secret:
    """A secret string. `repr`, `str` and formatting do not show the value, and pickling raises `TypeError`.

    `read` is given if the secret comes from a place where it may change, such as a file. The value is empty if it has
    not been read yet.
    """

    __slots__ = ("_value", "read")

    def __init__(self, value: str, *, read: Callable[[], str] | None = None) -> None:
        self._value = value
        self.read: Callable[[], str] | None = read
        """Returns the current value, if it may change. It may block."""

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

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # like a mapping

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

_CREDENTIAL_NAME = re.compile(
    r"auth(?!or(?!i))|key|token|secret|cookie|credential|signature|session|jwt|bearer|passw|passphrase|\b(?:pw|pwd|pass)\b",
    re.IGNORECASE,
)
"""What the name of a header contains that holds a credential."""

_WORD = re.compile(r"[A-Za-z0-9]{0,4}|(?:[A-Z]?[a-z]{2,}){1,4}|[A-Z]+")


def header_secrets(headers: HeaderValues) -> Iterator[str]:
    """Yield the values of headers that may be secret.

    A header whose name says that it holds a credential is secret whole, and so is its last word, since a server may
    echo a key without its scheme (`Bearer`), and each value of a `Cookie`. Another header is secret unless it consists
    of words, such as the name of an application: those would be removed from ordinary text.
    """
    for name, value in headers.items():
        if name.lower() in _PUBLIC_HEADERS:
            continue
        if _CREDENTIAL_NAME.search(name):
            yield value
            yield value.rpartition(" ")[2]
            if "cookie" in name.lower():
                yield from (pair.partition("=")[2].strip().strip('"') for pair in value.split(";"))
        elif not _is_words(value):
            yield value


def _is_words(value: str) -> bool:
    pieces = re.split(r"[\s,;:./_()-]+", value)
    return all(len(piece) <= _LONGEST_WORD and _WORD.fullmatch(piece) for piece in pieces)


_LONGEST_WORD = 20


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with each of `secrets` replaced by `***`, in every form in which servers and proxies echo it.

    The forms are: plain, percent-encoded, escaped as in JSON or in HTML, and base64, also as a part of a longer text in
    base64; and the first part of a secret that an excerpt cut off. Secrets shorter than `MIN_SECRET_LENGTH` are not
    replaced.
    """
    return _scrubbed(text, _forms(tuple(secrets)))


def scrub_value(value: Any, secrets: tuple[str, ...]) -> Any:
    """Return a value with the secrets replaced in all text in it, also in bytes and in the names of object members.

    An object of another kind is `None` if its text shows a secret. An error of Trunkline is copied.
    """
    return _scrubbed_value(value, _forms(secrets), secrets)


class _Form:
    """One form of a secret: plain, or in base64.

    An excerpt may cut a secret off anywhere, and its first part must not show either. The first 12 characters (or a
    third, if that is more) must match before anything is replaced: shorter prefixes, such as `sk-proj-`, are shared by
    all keys of a provider and occur in ordinary error messages.
    """

    def __init__(self, secret: str) -> None:
        length = len(secret.rstrip("=")) if len(secret) % 4 == 0 else len(secret)  # base64 may lack its padding
        shortest = max(12, length // 3)
        self.head = secret[: min(shortest, length)]
        self._tail = secret[len(self.head) :]
        self._has_space = " " in self.head  # a form encodes it as `+`

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("".join(map(_spellings, self.head)))

    def removed_from(self, text: str, *, escaped: bool) -> str:
        """Return the text without this form. `escaped` says whether the text may spell characters in other ways."""
        if not (escaped or self._has_space or self.head in text):
            return text
        kept, position = [], 0
        for found in self._pattern.finditer(text):
            if found.start() < position:
                continue
            end = found.end()
            for character in self._tail:
                more = re.compile(_spellings(character)).match(text, end)
                if more is None:
                    break
                end = more.end()
            kept += [text[position : found.start()], MASK]
            position = end
        return "".join([*kept, text[position:]]) if kept else text


@lru_cache(maxsize=128)
def _forms(secrets: tuple[str, ...]) -> tuple[_Form, ...]:
    """Return the forms of all secrets, those of the longest one first."""
    long_enough = (secret for secret in set(secrets) if len(secret) >= MIN_SECRET_LENGTH)
    return tuple(form for secret in sorted(long_enough, key=len, reverse=True) for form in _forms_of(secret))


@lru_cache(maxsize=128)
def _forms_of(secret: str) -> tuple[_Form, ...]:
    """Return a secret plain and in base64: alone, and as it looks inside of a longer text, such as `Bearer` and it."""
    data = secret.encode("utf-8", "surrogatepass")
    forms = [secret]
    for encode in (b64encode, urlsafe_b64encode):
        forms.append(encode(data).decode())
        for skipped in (1, 2):  # the bytes of the longer text before the secret, modulo 3
            # Only the characters that encode no bits of what surrounds the secret are the same in every text.
            inner = data[3 - skipped :]
            aligned = encode(inner[: len(inner) - len(inner) % 3]).decode()
            if len(aligned) >= MIN_SECRET_LENGTH + 2:
                forms.append(aligned)
    return tuple(map(_Form, dict.fromkeys(forms)))


def _scrubbed(text: str, forms: tuple[_Form, ...]) -> str:
    # This runs for each string in the body of an error. Most strings are short or contain no secret, so a pattern is
    # only used for a text that contains the first part of a secret, or an escape sequence that may spell it.
    if len(text) < MIN_SECRET_LENGTH:
        return text
    escaped = "%" in text or "\\" in text or "&" in text
    for form in forms:
        text = form.removed_from(text, escaped=escaped)
    return text


def _scrubbed_value(value: Any, forms: tuple[_Form, ...], secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return _scrubbed(value, forms)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {
            _scrubbed_value(name, forms, secrets): _scrubbed_value(item, forms, secrets) for name, item in value.items()
        }
    if isinstance(value, list):
        return [_scrubbed_value(item, forms, secrets) for item in value]
    if isinstance(value, (tuple, set, frozenset)):
        items = [_scrubbed_value(item, forms, secrets) for item in value]
        return tuple(items) if isinstance(value, tuple) else set(items)
    if isinstance(value, (bytes, bytearray)):
        return _scrubbed(value.decode("utf-8", "surrogateescape"), forms).encode("utf-8", "surrogateescape")
    if isinstance(value, TrunklineError):
        copied = _copied(value)
        return scrub_error(copied, secrets) if isinstance(copied, TrunklineError) else None
    return None if _shows(value, secrets) else value


@lru_cache(maxsize=512)
def _spellings(character: str) -> str:
    """Return a pattern that matches a character in every way in which texts spell it.

    They are: plain, percent-encoded (also twice), escaped as in JSON (also in JSON inside of JSON) and in a `repr`, and
    as an HTML entity. Each alternative begins with a plain character, so that the search can skip to one of them.
    """
    plain = {character, html.escape(character), repr(character)[1:-1]}
    patterns: list[str] = []
    short = json.dumps(character, ensure_ascii=False)[1:-1].removeprefix("\\")
    if not short.isalnum() or short != character:  # an escape of one character, such as `\"` and `\n`
        patterns.append(rf"\\\\{{0,6}}{re.escape(short)}")
    # Not by the codec for UTF-16: Python would load it from a file, which fails when no file can be opened.
    code = ord(character)
    high, low = divmod(code - 0x10000, 0x400)
    units = f"{code:04x}" if code < 0x10000 else f"{0xD800 + high:04x}{0xDC00 + low:04x}"
    escapes = (_hex(units[start : start + 4]) for start in range(0, len(units), 4))
    patterns.append("".join(rf"\\\\{{0,3}}u{escape}" for escape in escapes))
    encoded = character.encode("utf-8", "surrogatepass").hex()
    patterns.append("".join(f"%(?:25){{0,2}}{_hex(encoded[start : start + 2])}" for start in range(0, len(encoded), 2)))
    patterns.append(f"&(?:amp;)?#(?:0{{0,4}}{ord(character)}|[xX]0{{0,4}}{_hex(f'{ord(character):x}')});")
    # The longest spelling of a `&` or a `%` has to come first: the others are the first part of it.
    patterns += [re.escape(text) for text in sorted(plain, key=len, reverse=True)]
    if character == " ":
        patterns.append("[+]")
    return f"(?:{'|'.join(patterns)})"


def _hex(digits: str) -> str:
    # Both cases are written out: with a flag for it, the regular expression could not skip to its first character.
    return re.sub(r"[a-f]", lambda digit: f"[{digit[0]}{digit[0].upper()}]", digits)


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
    # anyio looks for its own cancellation in the contexts of one that other libraries have replaced, also twice.
    context, error.__context__ = error.__context__, None
    last = error
    for _ in range(MAX_CAUSES):
        if context is None or type(context) is not type(error):
            break
        with suppress(Exception):
            last.__context__ = type(context)(*context.args)
            last = last.__context__
        context = context.__context__
    if error.__cause__ is not None:
        error.__cause__, error.__suppress_context__ = None, False
    if isinstance(error, BaseExceptionGroup):
        for single in error.exceptions:
            _cut(single)


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
    if isinstance(copied, ConfigurationError):
        copied.errors = tuple(_single(single, depth + 1) for single in copied.errors)
    return copied


def _single(error: ConfigurationError, depth: int) -> ConfigurationError:
    copied = _copied(error, depth)
    return copied if isinstance(copied, ConfigurationError) else ConfigurationError(str(error))


def scrub_error(error: TrunklineError, secrets: tuple[str, ...]) -> TrunklineError:
    """Remove secrets from an error's message, fields and notes, and drop the causes that show one.

    The error must belong to the caller alone: see `without_traceback`. The result is the same object, unless a class of
    a plugin shows a secret that is not in the error's fields. Then it is an error of the class of Trunkline below it.
    """
    fields = vars(error)
    # An error passes several borders. The containers in it, such as a large body, are scrubbed at the first one only.
    # The hash tells whether more secrets are known since then, or other ones, if the error is from another service.
    known = hash(secrets)
    again = fields.get("_scrubbed_of") == known
    fields["_scrubbed_of"] = known
    if isinstance(error, RemoteError):
        # A plugin may have made the error with another exception or with bytes.
        error.message = _as_text(fields.get("message")) or _as_text(*error.args[:1]) or type(error).__name__
        error.args = (error.message,)
    for name, value in fields.items():
        if name == "partial" or (again and not isinstance(value, str)):  # `partial` is what the model wrote
            continue
        try:
            fields[name] = scrub_value(value, secrets)
        except Exception:  # a value may be nested deeply if `nesting_limit` is off; other objects may do anything
            fields[name] = None
    error.args = tuple(scrub_value(arg if _is_data(arg) else _as_text(arg), secrets) for arg in error.args)
    _scrub_causes(error, secrets)
    return _of_own_class(error) if _shows(error, secrets, fields=False) else error


def _is_data(value: object) -> bool:
    return value is None or isinstance(value, (str, bool, int, float, list, tuple, dict, set, frozenset))


def _as_text(value: object = None) -> str:
    if value is None:
        return ""
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "backslashreplace")
    try:
        return str(value)
    except Exception:  # the `__str__` of another library
        return type(value).__name__


def _of_own_class(error: TrunklineError) -> TrunklineError:
    """Return an error with the same message and fields, of the nearest class of `trunkline.errors`."""
    own = next(cls for cls in type(error).__mro__ if cls.__module__ == TrunklineError.__module__)
    if own is type(error):
        return error
    made: TrunklineError = own(_as_text(*error.args[:1]) or type(error).__name__)
    for name in (*vars(made), "__notes__"):
        if name in vars(error):
            setattr(made, name, vars(error)[name])
    made.__cause__ = error.__cause__
    return made


def _scrub_causes(error: BaseException, secrets: tuple[str, ...]) -> None:
    current = error
    while (cause := current.__cause__) is not None:
        if isinstance(cause, TrunklineError):
            current.__cause__ = scrub_error(cause, secrets)
            return
        # The text of another library's exception cannot be scrubbed reliably.
        if _shows(cause, secrets):
            current.__cause__ = None
            return
        current = cause


def _shows_below(error: BaseException, secrets: tuple[str, ...]) -> bool:
    return _shows(error, secrets) or (error.__cause__ is not None and _shows_below(error.__cause__, secrets))


def _shows(value: object, secrets: tuple[str, ...], *, fields: bool = True) -> bool:
    if isinstance(value, BaseExceptionGroup) and any(_shows_below(single, secrets) for single in value.exceptions):
        return True
    try:
        text = f"{value} {value!r} {getattr(value, '__dict__', '') if fields else ''!r}"
    except Exception:  # another library's __str__ or __repr__ may fail; assume the worst
        return True
    return scrub(text, secrets) != text
