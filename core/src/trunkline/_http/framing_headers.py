"""Accept a response that states the length of its body more than once, where HTTP defines what that means.

Gateways send `Transfer-Encoding: chunked` with the `Content-Length` of the server behind them, or `Content-Length`
twice. h11 accepts both; aiohttp refuses them, and the response would be lost with its status.

They are also what an attacker sends who wants two programs to disagree where a response ends. So only unmistakable
fields are changed, and the connection of such a response must not be used again (RFC 9112, section 6.3).
"""

from __future__ import annotations

import re

_FIELD = re.compile(rb"^(content-length|transfer-encoding):[ \t]*([^\r\n]*?)[ \t]*\r?\n", re.IGNORECASE | re.MULTILINE)
_COMMA = re.compile(rb"[ \t]*,[ \t]*")
_FOLDED = re.compile(rb"\n[ \t]")


def with_one_length(head: bytes) -> bytes:
    """Return the head of a response in which its length is stated once. Without such a form, return it unchanged.

    Of `Transfer-Encoding: chunked` and `Content-Length`, the first counts. Equal values of `Content-Length` count once.
    """
    fields = _FIELD.findall(head)
    if not fields or (len(fields) == 1 and b"," not in fields[0][1]):
        return head
    lengths = {length for name, value in fields if name.lower() == b"content-length" for length in _COMMA.split(value)}
    codings = [value.lower() for name, value in fields if name.lower() == b"transfer-encoding"]
    is_clear = len(lengths) == 1 and all(map(bytes.isdigit, lengths)) and codings in ([], [b"chunked"])
    if not is_clear or _FOLDED.search(head) or not head.startswith(b"HTTP/1.1 "):
        return head
    status_line, _, rest = head.partition(b"\n")
    kept = b"Transfer-Encoding: chunked" if codings else b"Content-Length: " + lengths.pop()
    return status_line + b"\n" + kept + b"\r\n" + _FIELD.sub(b"", rest)
