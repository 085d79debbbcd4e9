"""Describe a web page that came in place of a response of an API."""

from __future__ import annotations

import re

WEB_PAGE = "an HTML page"
"""How the description of a web page begins."""

BLANK = "\ufeff \t\r\n"
"""What may stand before the beginning of a text: a byte-order mark and the white space of JSON."""

_TITLE = re.compile(r"<title[^>]{0,100}>([^<]{1,300})</title", re.IGNORECASE)


def describe_page(text: str) -> str | None:
    """Return `an HTML page, 'Welcome'` for the beginning of a page with this title, or `None` for any other text."""
    if not text.lstrip(BLANK).startswith("<"):
        return None
    title = _TITLE.search(text)
    return f"{WEB_PAGE}, {title[1].strip()!r}" if title else WEB_PAGE
