"""Show text of others, such as a server, so that it controls no terminal, hides nothing and forges no line of a log."""

from __future__ import annotations

import re

_CONTROL = "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f"
"""C0 except newline and tab, DEL, and C1: some terminals treat U+009B as the start of an escape sequence."""

_DIRECTION = "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"
"""What changes the order of the text around it (Unicode, UAX #9). Letters of Arabic and Hebrew need none of these."""

_INVISIBLE = (
    "\\xad\\u115f\\u1160\\u17b4\\u17b5\\u180e\\u200b\\u2028\\u2029\\u2060-\\u2065\\u206a-\\u206f\\u3164\\ufeff\\uffa0"
    "\\ufff0-\\ufffb"
    "\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a\\U000e0000-\\U000e00ff\\U000e01f0-\\U000e0fff"
)
"""Characters without width, in which text could be hidden.

ZWNJ, ZWJ (U+200C and U+200D) and the variation selectors are not here: Persian, Hindi and emoji are written with them.
"""

_FLAG = "|".join(
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f"
    for region in ("gbeng", "gbsct", "gbwls")
)
"""The flags of England, Scotland and Wales, the only emoji with tag characters (Unicode, UTS #51)."""

_JOINER = "\\u200c\\u200d"
_SELECTOR = "\\u034f\\u180b-\\u180d\\u180f\\ufe00-\\ufe0f\\U000e0100-\\U000e01ef"
"""Variation selectors, and the grapheme joiner. A letter has at most one; text could be hidden in a row of them.

A joiner may follow a selector, as in the emoji of a burning heart. Neither follows a joiner.
"""

_UNSAFE = re.compile(
    f"({_FLAG})|\\r(?=\\n)|[{_CONTROL}{_DIRECTION}{_INVISIBLE}\\ud800-\\udfff]"
    f"|(?<=[{_SELECTOR}{_JOINER}])[{_SELECTOR}]|(?<=[{_JOINER}])[{_JOINER}]"
)
_UNFINISHED = re.compile("(?:\r|[\ud800-\udbff]|\U0001f3f4[\U000e0061-\U000e007a]{0,5})\\Z")
"""The end of a piece of text whose meaning depends on the next piece."""

_LAST_IGNORABLE = re.compile(f"[{_SELECTOR}{_JOINER}]\\Z")
"""The end of a piece of text that decides whether the start of the next piece is escaped."""

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def _escaped(found: re.Match[str]) -> str:
    if found[1]:
        return found[1]
    if found[0] == "\r" and found.string[found.end() : found.end() + 1] == "\n":
        return ""  # a line break of Windows
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _joined(found: re.Match[str]) -> str:
    return found[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def visible(text: str) -> str:
    """Return text in which everything that controls a terminal or is invisible is escaped, as in `\\x1b` or `\\u202e`.

    Newlines and tabs remain. So does all ordinary text, such as Arabic, Hebrew, Hindi and emoji.
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escaped, _PAIR.sub(_joined, text))


def one_line(text: str) -> str:
    """Return `visible` text in which line breaks and tabs are escaped too: a name cannot pretend to be another line."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


class TextPieces:
    """Joins text that arrives in pieces, such as the answer of a model, and makes it `visible` for a terminal."""

    def __init__(self, *, escaped: bool) -> None:
        self._escaped = escaped
        self._kept = ""
        self._last = ""

    def feed(self, text: str) -> str:
        """Return what can be written of the text so far. The rest is half a character or a part of a flag."""
        text = _PAIR.sub(_joined, self._kept + text)
        unfinished = _UNFINISHED.search(text)
        self._kept = unfinished[0] if unfinished else ""
        return self._visible(text.removesuffix(self._kept))

    def finish(self) -> str:
        """Return the rest."""
        rest, self._kept = self._kept, ""
        return self._visible(rest)

    def _visible(self, text: str) -> str:
        if not (text and self._escaped):
            return text
        # The first character of a text is never escaped for what precedes it, so the prefix keeps its length.
        shown = visible(self._last + text)[len(self._last) :]
        last = _LAST_IGNORABLE.search(text)
        self._last = last[0] if last else ""
        return shown
