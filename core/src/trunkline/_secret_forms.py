"""Find secrets in text, in every form in which servers, proxies and libraries repeat them.

A text is not compared with each spelling of a secret: there are too many, and they can be nested. Instead, the text is
decoded in layers, and each layer is searched twice:

- as it is, for the secret itself;
- reduced to its letters and digits, all in lower case, for the secret and its encodings, reduced in the same way. This
  finds them in any case, with any separators, and wrapped in lines. Only text that cannot be
  ordinary words is searched for in this way: encodings, and secrets with both letters and digits.

The layers are the text, the text with its escape sequences decoded (again, while that changes it), and the last of
these with quoted-printable decoded. What is found in a layer is mapped back to the text. The time is linear in the
length of the text.

An excerpt may cut a secret off, so a window of a secret is enough: its first or last 12 characters, or a third if that
is more. Shorter prefixes, such as `sk-proj-`, are shared by all keys of a provider and occur in ordinary messages.
"""

from __future__ import annotations

import re
from base64 import b16encode, b64encode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from html.entities import html5
from typing import NamedTuple

MIN_SECRET_LENGTH = 6
"""Secrets with fewer characters are not searched for: they would match parts of ordinary words."""

_WINDOW = 12
"""The shortest part of a longer secret that is enough, in characters."""

_SHORTEST_ENCODING = 8
"""The shortest encoding to search for, in letters and digits."""

_GRAM = 4
_STRIDE = _SHORTEST_ENCODING - _GRAM + 1
"""Every window has at least `_SHORTEST_ENCODING` characters, so it contains one of the parts at this distance."""

_MOST_LAYERS = 5
"""How often escape sequences are decoded. One layer decodes any number of repetitions of one kind, such as `%2525`."""

Span = tuple[int, int]
"""The start and the end of a part of a text, in bytes."""


# Encodings of a secret. Each encodes groups of bytes. A text around the secret shifts it within the groups, so there is
# one form for each position in a group.


def _decimal(data: bytes) -> bytes:
    return ",".join(map(str, data)).encode()


def _hex_prefixed(data: bytes) -> bytes:
    return b"".join(b"0x%02x" % byte for byte in data)


_ENCODINGS: tuple[tuple[Callable[[bytes], bytes], int], ...] = (
    (b64encode, 3),  # RFC 4648, section 4; the alphabet for URLs (section 5) has the same letters and digits
    (b16encode, 1),  # RFC 4648, section 8, also with separators
    (_hex_prefixed, 1),  # bytes in C, Go and JavaScript
    (_decimal, 1),  # bytes in JSON, Python and Java
)


def _aligned(encode: Callable[[bytes], bytes], group: int, data: bytes) -> Iterator[bytes]:
    """Yield the encoding of `data` at each position in a group, without what depends on the text around it."""
    yield encode(data)
    for skipped in range(group):
        inner = data[(group - skipped) % group :]
        yield encode(inner[: len(inner) - len(inner) % group])


def _encodings(data: bytes) -> Iterator[bytes]:
    for encode, group in _ENCODINGS:
        yield from _aligned(encode, group, data)
    for once in {*_aligned(b64encode, 3, data), *_aligned(urlsafe_b64encode, 3, data)}:
        yield from _aligned(b64encode, 3, once)


_LETTERS_AND_DIGITS = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_OTHER_BYTES = bytes(set(range(256)) - set(_LETTERS_AND_DIGITS))
_LOWER = bytes(range(256)).lower()
_DIGIT, _LETTER = re.compile(rb"[0-9]"), re.compile(rb"[a-z]")


def _reduced(data: bytes) -> bytes:
    return data.translate(_LOWER, _OTHER_BYTES)


class _Needle(NamedTuple):
    """A form of a secret, and the window of it that must be found before more of it is compared."""

    form: bytes
    start: int
    window: bytes
    padded: bool = False
    """Whether `=` may follow, as in base64."""


class Needles(NamedTuple):
    """What to search for in each layer of a text."""

    exact: dict[bytes, _Needle]
    reduced: dict[bytes, _Needle]
    grams: frozenset[bytes]
    """Each part of `_GRAM` characters of the windows in `reduced`."""


@lru_cache(maxsize=128)
def needles(secrets: tuple[str, ...]) -> Needles:
    """Return what to search for to find each of `secrets` that is long enough."""
    long_enough = sorted({secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH}, key=len)
    # By their windows. The first form that has a window is the longest one.
    exact: dict[bytes, _Needle] = {}
    reduced: dict[bytes, _Needle] = {}
    encoded: set[str] = set()
    for secret in long_enough:
        data = secret.encode("utf-8", "surrogatepass")
        # A secret may itself look like an escape sequence, and forms (HTML) write a space as `+`.
        for form in (data, _fully_decoded(data), data.replace(b" ", b"+")):
            needle = _head(form)
            exact.setdefault(needle.window, needle)
        plain = _reduced(data)
        if len(plain) >= _WINDOW and _DIGIT.search(plain) and _LETTER.search(plain):
            for needle in _windows_with_digit(plain):
                reduced.setdefault(needle.window, needle)
        if not encoded.isdisjoint(secret.split()):
            continue  # `Bearer KEY`: the encoding of the whole contains that of the key
        encoded.add(secret)
        for form in map(_reduced, _encodings(data)):
            if len(form) >= _SHORTEST_ENCODING:
                needle = _head(form)._replace(padded=True)
                reduced.setdefault(needle.window, needle)
    grams = {window[at : at + _GRAM] for window in reduced for at in range(len(window) - _GRAM + 1)}
    return Needles(exact, reduced, frozenset(grams))


def _head(form: bytes) -> _Needle:
    # A secret that is base64 may be repeated without its padding.
    length = len(form.rstrip(b"=")) if len(form) % 4 == 0 else len(form)
    return _Needle(form, 0, form[: min(max(_WINDOW, len(form) // 3), length)])


def _windows_with_digit(form: bytes) -> Iterator[_Needle]:
    """Yield the first and the last window of a form, each so long that it contains a digit, so it is no words."""
    size = max(_WINDOW, len(form) // 3)
    head = next(end for end in range(size, len(form) + 1) if end == len(form) or _DIGIT.search(form, 0, end))
    tail = next(start for start in range(len(form) - size, -1, -1) if start == 0 or _DIGIT.search(form, start))
    yield _Needle(form, 0, form[:head])
    yield _Needle(form, tail, form[tail:])


# Escape sequences. A repeated escape, such as `%2525`, `\\\\u` or `&amp;amp;`, is decoded in one step.

_ESCAPE = re.compile(
    rb"%(?:25)*(?:([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4}))"  # RFC 3986, section 2.1; `%u` is JavaScript's `escape`
    rb"|\\++(?:u([Dd][89ABab][0-9A-Fa-f]{2})\\+u([Dd][C-Fc-f][0-9A-Fa-f]{2})"  # RFC 8259, section 7: two UTF-16 units
    rb"|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}|U([0-9A-Fa-f]{8})"  # RFC 8259; JavaScript and Rust; Python
    rb"|x([0-9A-Fa-f]{2})|([0-3][0-7]{2})|([^\\]))?"  # `repr` of bytes; C; one character, as in `\/`
    rb"|&(?:amp;)*(?:#0*([0-9]{1,7});?|#[xX]0*([0-9A-Fa-f]{1,6});?|([A-Za-z]{2,8});|amp|lt|gt|quot)"  # HTML 13.5
)
_QUOTED_PRINTABLE = re.compile(rb"=(?:([0-9A-Fa-f]{2})|[ \t]*\r?\n)")  # RFC 2045, section 6.7

_CONTROLS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}
_WITHOUT_SEMICOLON = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"'}


def _character(code: int) -> bytes:
    return chr(code).encode("utf-8", "surrogatepass") if code <= 0x10FFFF else b"?"


def _decode_escape(found: re.Match[bytes]) -> bytes:
    kind, text = found.lastindex, found[0]
    match kind:
        case 1 | 8:
            return bytes((int(found[kind], 16),))
        case 2 | 5 | 6 | 7 | 12:
            return _character(int(found[kind], 16))
        case 4:
            return _character(0x10000 + ((int(found[3], 16) & 0x3FF) << 10) + (int(found[4], 16) & 0x3FF))
        case 9:
            return bytes((int(found[9], 8),))
        case 10:
            return _CONTROLS.get(found[10], found[10])
        case 11:
            return _character(int(found[11]))
        case 13:
            character = html5.get(f"{found[13].decode()};")
            return text if character is None else character.encode()
        case _:
            return b"\\" if text[:1] == b"\\" else _WITHOUT_SEMICOLON[text.rpartition(b"&")[2].rpartition(b";")[2]]


def _decode_quoted(found: re.Match[bytes]) -> bytes:
    return b"" if found[1] is None else bytes((int(found[1], 16),))


class _Layer:
    """A text in which sequences were decoded, with the places of what they became."""

    __slots__ = ("_ends", "_source_ends", "_source_starts", "_starts", "below", "data")

    def __init__(
        self,
        source: bytes,
        below: _Layer | None,
        pattern: re.Pattern[bytes],
        decode: Callable[[re.Match[bytes]], bytes],
    ) -> None:
        self.below = below
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._source_starts: list[int] = []
        self._source_ends: list[int] = []
        pieces: list[bytes] = []
        copied = size = 0
        for found in pattern.finditer(source):
            start, end = found.span()
            character = decode(found)
            size += start - copied
            self._starts.append(size)
            size += len(character)
            self._ends.append(size)
            self._source_starts.append(start)
            self._source_ends.append(end)
            pieces += (source[copied:start], character)
            copied = end
        self.data = b"".join((*pieces, source[copied:])) if pieces else source

    def source_span(self, span: Span) -> Span:
        """Return the part of the original text that a part of this layer was decoded from."""
        start, last = self._source(span[0])[0], self._source(span[1] - 1)[1]
        return (start, last) if self.below is None else self.below.source_span((start, last))

    def _source(self, position: int) -> Span:
        index = bisect_right(self._starts, position) - 1
        # A sequence that decodes to nothing shares its place with the next one.
        if index < 0:
            return position, position + 1
        if position < self._ends[index]:
            return self._source_starts[index], self._source_ends[index]
        start = self._source_ends[index] + position - self._ends[index]
        return start, start + 1


def _layers(data: bytes) -> Iterator[tuple[bytes, _Layer | None]]:
    yield data, None
    layer: _Layer | None = None
    for _ in range(_MOST_LAYERS):
        if b"%" not in data and b"\\" not in data and b"&" not in data:
            break
        decoded = _Layer(data, layer, _ESCAPE, _decode_escape)
        if decoded.data == data:
            break
        data, layer = decoded.data, decoded
        yield data, layer
    if b"=" in data and _QUOTED_PRINTABLE.search(data):
        layer = _Layer(data, layer, _QUOTED_PRINTABLE, _decode_quoted)
        yield layer.data, layer


def _fully_decoded(data: bytes) -> bytes:
    for _ in range(_MOST_LAYERS):
        data = _ESCAPE.sub(_decode_escape, data)
    return data


def find(data: bytes, wanted: Needles) -> list[Span]:
    """Return where a text in UTF-8 contains a secret: parts that do not overlap, in their order."""
    spans: list[Span] = []
    for text, layer in _layers(data):
        found: list[Span] = []
        for window in [window for window in wanted.exact if window in text]:
            found += _occurrences(text, wanted.exact[window])
        reduced = _reduced(text)
        # Five secrets have about 75 windows. Looking for each takes 20 µs in a short text, and a look at its parts one.
        parts = [reduced[at : at + _GRAM] for at in range(0, len(reduced), _STRIDE)]
        windows = [] if wanted.grams.isdisjoint(parts) else [window for window in wanted.reduced if window in reduced]
        if windows:
            places = [place for place, byte in enumerate(text) if byte in _LETTERS_AND_DIGITS]
            for needle in map(wanted.reduced.__getitem__, windows):
                for start, end in _occurrences(reduced, needle):
                    last = places[end - 1] + 1
                    while needle.padded and text[last : last + 1] == b"=":
                        last += 1
                    found.append((places[start], last))
        spans += found if layer is None else map(layer.source_span, found)
    return _merged(_whole_characters(data, span) for span in spans) if spans else spans


def _occurrences(text: bytes, needle: _Needle) -> Iterator[Span]:
    form, window = needle.form, needle.window
    done, position = 0, text.find(window)
    while position >= 0:
        start, offset = position, needle.start
        while offset > 0 and start > done and text[start - 1] == form[offset - 1]:
            start, offset = start - 1, offset - 1
        end, offset = position + len(window), needle.start + len(window)
        while offset < len(form) and end < len(text) and text[end] == form[offset]:
            end, offset = end + 1, offset + 1
        yield start, end
        done, position = end, text.find(window, end)


def _whole_characters(data: bytes, span: Span) -> Span:
    """Return a span that splits no character of UTF-8, whose bytes after the first are 10xxxxxx."""
    start, end = span
    while start > 0 and start < len(data) and data[start] & 0xC0 == 0x80:
        start -= 1
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    return start, end


def _merged(spans: Iterable[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
