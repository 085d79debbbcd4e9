"""Describe a web page that came in place of a response of an API."""

from __future__ import annotations

import re

WEB_PAGE = "an HTML page"
"""How the description of a web page begins."""

PAGE_SEARCHED = 4096
"""How much of a response is decoded to describe the page, in bytes."""

BLANK = "\ufeff \t\r\n"
"""What may stand before the beginning of a text: a byte-order mark and the white space of JSON."""

# Gateways and AWS send errors in XML, which say what is wrong.
_XML_ERROR = re.compile(r"<(?:\?xml(?!.*<html)|Error(?:Response)?\b)", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]{0,100}>([^<]{1,300})</title", re.IGNORECASE)


def describe_page(text: str) -> str | None:
    """Return `an HTML page, 'Welcome'` for the beginning of a page with this title, or `None` for any other text."""
    start = text.lstrip(BLANK)
    if not start.startswith("<") or _XML_ERROR.match(start):
        return None
    title = _TITLE.search(text)
    return f"{WEB_PAGE}, {title[1].strip()!r}" if title else WEB_PAGE
