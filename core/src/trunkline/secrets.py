"""Secret values that are never shown, and functions that keep them out of errors."""

from __future__ import annotations

import copy
import re
from base64 import b64decode
from collections import deque
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping
from contextlib import suppress
from typing import Any, ClassVar, NoReturn, Self, TypeAlias, TypeGuard, TypeVar, overload

from trunkline._excerpts import EXCERPT_LIMIT, bounded
from trunkline._masking import MASK, is_words, names_credential
from trunkline._secret_forms import find, needles
from trunkline.errors import ConfigurationError, RemoteError, TrunklineError

_LARGEST_CAUSE = 256 * 1024
"""A cause whose text has more characters is dropped: searching it for secrets would take too long."""

MAX_CAUSES = 8
"""The longest chain of causes that is kept."""


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
    """HTTP headers by name, in any case. `repr` shows only the names, and pickling raises `TypeError`.

    `dict(headers)` gives the values. The class is no `Mapping`, since error trackers show the values of every mapping
    among the local variables of a traceback, whatever its `repr` is.
    """

    __slots__ = ("_values",)

    def __init__(self, values: HeaderValues | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> str:
        return self._values[self._spelling(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._spelling(name) in self._values

    def _spelling(self, name: str) -> str:
        """Return the name as the headers spell it, or unchanged if they lack it."""
        if name in self._values:
            return name
        lower = name.lower()
        return next((known for known in self._values if known.lower() == lower), name)

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
        return self._values.get(self._spelling(name), default)

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


_SEPARATORS = re.compile(r"""[\s,;:="'{}\[\]]+""")
_DATE = re.compile(r"(?<![A-Za-z0-9])\d{5,8}(?![A-Za-z0-9])")


def header_secrets(headers: HeaderValues) -> Iterator[str]:
    """Yield the values of headers that may be secret.

    A header whose name says that it holds a credential is secret whole, and so is its last word, since a server may
    echo a key without its scheme (`Bearer`), each value of a `Cookie`, and each other part that does not consist of
    words, such as a key in a list or in JSON. Another header is secret unless it consists of words, such as the name of
    an application: those would be removed from ordinary text.
    """
    for name, value in headers.items():
        if name.lower() in _PUBLIC_HEADERS:
            continue
        if names_credential(name):
            yield value
            yield value.rpartition(" ")[2]
            if "cookie" in name.lower():
                yield from (pair.partition("=")[2].strip().strip('"') for pair in value.split(";"))
            yield from _parts(value)
            yield from _login(value)
        elif not is_words(value):
            yield value
            if names_credential(value):
                yield from _parts(value)


def _parts(value: str) -> Iterator[str]:
    # A model's name may have a date in it.
    return (part for part in _SEPARATORS.split(value) if not is_words(_DATE.sub("", part)))


def _login(value: str) -> Iterator[str]:
    """Yield the password, and the whole, of `Basic` (RFC 7617), which servers echo decoded."""
    scheme, _, encoded = value.strip().partition(" ")
    if scheme.lower() == "basic":
        with suppress(ValueError):
            login = b64decode(encoded.strip() + "==").decode("utf-8", "replace")
            yield login
            yield login.partition(":")[2]


def without_names(secrets: Iterable[str], *names: str) -> tuple[str, ...]:
    """Leave out a secret that is only a name, such as the key `ollama`, which that server ignores.

    It would be removed from every error about the service.
    """
    return tuple(secret for secret in secrets if secret not in names)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with each of `secrets` replaced by `***`, in every form in which servers and proxies echo it.

    The forms are: plain; escaped in URLs, JSON, HTML, quoted-printable or by a programming language, also several
    times; and base64 (also twice), hexadecimal and decimal bytes, also as a part of a longer text. A secret with
    letters and digits is also found in upper or lower case, with separators, and wrapped in lines. A secret that an
    excerpt cut off is replaced if enough of it is left. Secrets with fewer than six characters are not replaced.
    """
    return _scrub_texts([text], tuple(secrets))[0]


def scrub_value(value: Any, secrets: tuple[str, ...]) -> Any:
    """Return a value with the secrets replaced in all text in it, also in bytes and in the names of object members.

    A secret that is divided between neighbouring texts is replaced too. An object of another kind is `None` if its text
    shows a secret. An error of Trunkline is copied.
    """
    # All texts are searched at once, since an error may have many thousands of them.
    texts: list[str | bytes] = []
    _collect(value, texts)
    return _rebuilt(value, iter(_scrub_texts(texts, secrets)), secrets)


_BETWEEN_TEXTS = b"\x1f"

_T = TypeVar("_T", str, str | bytes)


def _scrub_texts(texts: list[_T], secrets: tuple[str, ...]) -> list[_T]:
    encoded = [text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass") for text in texts]
    spans = find(_BETWEEN_TEXTS.join(encoded), needles(secrets))
    if not spans:
        return texts
    scrubbed: list[Any] = []
    remaining, start = deque(spans), 0
    for text, data in zip(texts, encoded, strict=True):
        end = start + len(data)
        kept: list[bytes] = []
        done = start
        while remaining and remaining[0][0] < end:
            first, last = remaining[0]
            kept += [data[done - start : max(first, done) - start], MASK.encode()]
            done = min(last, end)
            if last > end:  # it goes on in the next text
                remaining[0] = (end + 1, last)
                break
            remaining.popleft()
        if kept:
            whole = b"".join((*kept, data[done - start :]))
            scrubbed.append(whole if isinstance(text, bytes) else whole.decode("utf-8", "surrogatepass"))
        else:
            scrubbed.append(text)
        start = end + 1
    return scrubbed


def _collect(value: object, texts: list[str | bytes]) -> None:
    if isinstance(value, (str, bytes)):
        texts.append(value)
    elif isinstance(value, bytearray):
        texts.append(bytes(value))
    elif _is_number(value):
        texts.append(str(value))
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            _collect(item, texts)
    elif isinstance(value, (dict, Mapping)):
        # The names first, so that the numbers of `{"0": 115, "1": 107}` follow each other.
        for item in (*value, *value.values()):
            _collect(item, texts)


def _is_number(value: object) -> TypeGuard[int]:
    """Whether a value may be a byte of a secret, as in `[115, 107]`, or all of it. Larger ones take long to print."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**40


def _rebuilt(value: Any, texts: Iterator[str | bytes], secrets: tuple[str, ...]) -> Any:
    """Return a copy of a value with the texts that replace those that `_collect` found, in the same order."""
    if isinstance(value, (str, bytes, bytearray)):
        return next(texts)
    if _is_number(value):
        return value if (text := next(texts)) == str(value) else text
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_rebuilt(item, texts, secrets) for item in value]
        return items if isinstance(value, list) else tuple(items) if isinstance(value, tuple) else set(items)
    if isinstance(value, (dict, Mapping)):
        names = [_rebuilt(name, texts, secrets) for name in value]
        return dict(zip(names, [_rebuilt(item, texts, secrets) for item in value.values()], strict=True))
    if isinstance(value, TrunklineError):
        copied = _copied(value)
        return scrub_error(copied, secrets) if isinstance(copied, TrunklineError) else None
    return None if _shows(value, secrets) else value


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
    texts = {
        name: value
        for name, value in fields.items()
        if name != "partial"  # what the model wrote
        if isinstance(value, str) or not (again or value is None or isinstance(value, (bool, int, float)))
    }
    arguments = tuple(arg if _is_data(arg) else _as_text(arg) for arg in error.args)
    texts, error.args = _scrubbed_fields(texts, arguments, secrets)
    fields.update(texts)
    _scrub_causes(error, secrets)
    # The texts of our own classes are made of their fields.
    if type(error).__module__ != TrunklineError.__module__ and _shows(error, secrets, fields=False):
        return _of_own_class(error)
    return error


def scrub_all_again(error: TrunklineError) -> None:
    """Let the next `scrub_error` remove secrets from all fields again, since one got a new container."""
    vars(error).pop("_scrubbed_of", None)


def _scrubbed_fields(
    fields: dict[str, Any], arguments: tuple[Any, ...], secrets: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    # All at once, for speed, or else one by one: some may be large, and the objects of other libraries may do anything.
    both = fields, arguments
    with suppress(Exception):
        if bounded(both, 2 * EXCERPT_LIMIT) is both:
            scrubbed: tuple[dict[str, Any], tuple[Any, ...]] = scrub_value(both, secrets)
            return scrubbed
    return (
        {name: _scrubbed_excerpt(value, secrets) for name, value in fields.items()},
        tuple(_scrubbed_excerpt(argument, secrets) for argument in arguments),
    )


def _scrubbed_excerpt(value: Any, secrets: tuple[str, ...]) -> Any:
    try:
        return scrub_value(bounded(value), secrets)
    except Exception:
        return None


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
    return len(text) > _LARGEST_CAUSE or scrub(text, secrets) != text
