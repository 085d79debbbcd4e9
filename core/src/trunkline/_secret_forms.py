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

An excerpt may cut a secret off at both ends, so a part of a form is enough: 12 characters and a third of the form, or
64 characters. The text is searched for short probes of each form, so close together that every such part contains one.
Around a probe, as much of the form is taken as the text has.
"""

from __future__ import annotations

import re
from base64 import b16encode, b64encode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from html.entities import html5
from typing import NamedTuple
from urllib.parse import quote_from_bytes

from trunkline._masking import is_words

MIN_SECRET_LENGTH = 6
"""Secrets with fewer characters are not searched for: they would match parts of ordinary words."""

_PROBE = MIN_SECRET_LENGTH

_PART = 12
"""The fewest characters of a longer form that are enough."""

_LONG_PART = 64
"""So many characters are always enough. This also bounds the time for a text that nearly matches again and again."""

_SHORTEST_ENCODING = 8
"""The shortest encoding to search for, in letters and digits."""

_SAME_PROBES = 8
"""How many places of a probe in one form are kept. A secret that repeats itself would have it at every place."""

_MAX_LAYERS = 5
"""How often escape sequences are decoded. One layer decodes any number of repetitions of one kind, such as `%2525`."""

Span = tuple[int, int]
"""The start and the end of a part of a text, in bytes."""


# Encodings of a secret. Each encodes groups of bytes. A text around the secret shifts it within the groups, so there is
# one form for each position in a group.


def _decimal(data: bytes) -> bytes:
    return ",".join(map(str, data)).encode()


def _padded_decimal(data: bytes) -> bytes:
    return b"".join(b"%03d" % byte for byte in data)


def _hex_prefixed(data: bytes) -> bytes:
    return b"".join(b"0x%02x" % byte for byte in data)


_ENCODINGS: tuple[tuple[Callable[[bytes], bytes], int], ...] = (
    (b64encode, 3),  # RFC 4648, section 4; the alphabet for URLs (section 5) has the same letters and digits
    (b16encode, 1),  # RFC 4648, section 8, also with separators
    (_hex_prefixed, 1),  # bytes in C, Go and JavaScript
    (_decimal, 1),  # bytes in JSON, Python and Java
    (_padded_decimal, 1),
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
    if (escaped := quote_from_bytes(data, safe="").encode()) != data:
        yield from _aligned(b64encode, 3, escaped)
    for once in {*_aligned(b64encode, 3, data), *_aligned(urlsafe_b64encode, 3, data)}:
        yield from _aligned(b64encode, 3, once)


_LETTERS_AND_DIGITS = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_OTHER_BYTES = bytes(set(range(256)) - set(_LETTERS_AND_DIGITS))
_LOWER = bytes(range(256)).lower()
_DIGIT, _LETTER = re.compile(rb"[0-9]"), re.compile(rb"[a-z]")


def _reduced(data: bytes) -> bytes:
    return data.translate(_LOWER, _OTHER_BYTES)


class _Form(NamedTuple):
    """A form of a secret, and how many of its characters are enough."""

    data: bytes
    enough: int
    shows: Callable[[bytes, int, bytes], bool]
    """Whether a part of that length shows the secret. The arguments are the form, the part's offset, and the part."""
    padded: bool = False
    """Whether `=` may follow, as in base64."""


Probes = dict[bytes, list[tuple[_Form, int]]]
"""The forms that contain a probe, each with the offset of the probe."""


class Needles(NamedTuple):
    """What to search for in each layer of a text."""

    exact: Probes
    reduced: Probes


@lru_cache(maxsize=128)
def needles(secrets: tuple[str, ...]) -> Needles:
    """Return what to search for to find each of `secrets` that is long enough."""
    exact: Probes = {}
    reduced: Probes = {}
    wanted = {secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH}
    for secret in wanted:
        scheme, _, key = secret.rpartition(" ")
        if scheme.isalpha() and key in wanted:
            continue  # the value of a header, `Bearer KEY`
        data = secret.encode("utf-8", "surrogatepass")
        # A secret may itself look like an escape sequence, and forms (HTML) write a space as `+`.
        for form in dict.fromkeys((data, _fully_decoded(data), data.replace(b" ", b"+"))):
            # A secret that is base64 may be repeated without its padding.
            whole = len(form.rstrip(b"=")) if len(form) % 4 == 0 else len(form)
            _add(exact, _Form(form, _enough(whole), _no_middle_words))
        plain = _reduced(data)
        if len(plain) >= _PART and _DIGIT.search(plain) and _LETTER.search(plain):
            _add(reduced, _Form(plain, _enough(len(plain)), _with_digit))
        rule = _start_or_most if is_words(secret) else _any
        for form in dict.fromkeys(map(_reduced, _encodings(data))):
            if len(form) >= _SHORTEST_ENCODING:
                enough = max(_SHORTEST_ENCODING, _enough(len(data)) * len(form) // len(data))
                _add(reduced, _Form(form, min(enough, len(form)), rule, padded=True))
    return Needles(exact, reduced)


def _enough(length: int) -> int:
    return length if length < _PART else min(max(_PART, length // 3), _LONG_PART)


def _any(form: bytes, offset: int, part: bytes) -> bool:
    return True


def _start_or_most(form: bytes, offset: int, part: bytes) -> bool:
    # Words from the middle of a secret, such as the domain in a URL, also occur elsewhere.
    return offset == 0 or 5 * len(part) >= 4 * len(form)


def _no_middle_words(form: bytes, offset: int, part: bytes) -> bool:
    return _start_or_most(form, offset, part) or not is_words(part.decode("latin-1"))


def _with_digit(form: bytes, offset: int, part: bytes) -> bool:
    return _DIGIT.search(part) is not None


def _add(probes: Probes, form: _Form) -> None:
    # Every part of `enough` characters contains one of the probes at this distance.
    places: dict[bytes, list[int]] = {}
    for offset in range(0, len(form.data) - _PROBE + 1, max(1, form.enough - _PROBE + 1)):
        places.setdefault(form.data[offset : offset + _PROBE], []).append(offset)
    for probe, offsets in places.items():
        probes.setdefault(probe, []).extend((form, offset) for offset in offsets[:_SAME_PROBES])


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
    for _ in range(_MAX_LAYERS):
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
    for _ in range(_MAX_LAYERS):
        data = _ESCAPE.sub(_decode_escape, data)
    return data


def find(data: bytes, wanted: Needles) -> list[Span]:
    """Return where a text in UTF-8 contains a secret: parts that do not overlap, in their order."""
    spans: list[Span] = []
    for text, layer in _layers(data):
        found = [span for span, _ in _occurrences(text, wanted.exact)]
        reduced = _reduced(text)
        parts = list(_occurrences(reduced, wanted.reduced))
        if parts:
            places = [place for place, byte in enumerate(text) if byte in _LETTERS_AND_DIGITS]
            for (start, end), padded in parts:
                last = places[end - 1] + 1
                while padded and text[last : last + 1] == b"=":
                    last += 1
                found.append((places[start], last))
        spans += found if layer is None else map(layer.source_span, found)
    return _merged(_whole_characters(data, span) for span in spans) if spans else spans


def _occurrences(text: bytes, probes: Probes) -> Iterator[tuple[Span, bool]]:
    """Yield where a text contains enough of a form, and whether padding may follow."""
    ends: dict[bytes, int] = {}  # where the last part of a form ended: it is not searched again
    for at in [at for at in range(len(text) - _PROBE + 1) if text[at : at + _PROBE] in probes]:
        for form, offset in probes[text[at : at + _PROBE]]:
            done = ends.get(form.data, 0)
            if at < done:
                continue
            start, end = _extended(text, at, form.data, offset, done)
            if end - start >= form.enough and form.shows(form.data, offset - (at - start), text[start:end]):
                ends[form.data] = end
                yield (start, end), form.padded


def _extended(text: bytes, at: int, form: bytes, offset: int, done: int) -> Span:
    """Return the longest part of a text around a probe that a form also has around it, but not before `done`."""
    before = offset
    start = at
    while before > 0 and start > done and text[start - 1] == form[before - 1]:
        start, before = start - 1, before - 1
    if before > 0 and text[start : start + 1].isspace():
        start += 1
    after, end = offset + _PROBE, at + _PROBE
    while after < len(form) and end < len(text) and text[end] == form[after]:
        end, after = end + 1, after + 1
    return start, end


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
