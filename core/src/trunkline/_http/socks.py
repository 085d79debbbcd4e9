"""The lengths of a SOCKS5 proxy's replies (RFC 1928 and 1929). Pure.

httpcore2 reads each reply with one read, and takes what arrives for all of it. TCP may deliver a reply in pieces.
"""

from __future__ import annotations

_IPV4, _NAME, _IPV6 = 1, 3, 4


def is_message(data: bytes) -> bool:
    """Whether this is a message to a SOCKS proxy, and not the request behind it.

    A message begins with the version: 5, or 1 for the login.
    """
    return data[:1] in (b"\x05", b"\x01")


def is_incomplete(reply: bytes, message: bytes) -> bool:
    """Whether a reply to `message` is only the beginning of one. A reply that is not valid is not incomplete."""
    if reply[:1] != message[:1]:
        return False  # of another version, or no SOCKS
    # The message that offers methods has as many bytes after its second byte as that says. The one that asks for a
    # connection has 1 for its command there, and more bytes.
    if message[:1] == b"\x01" or len(message) == 2 + message[1]:
        return len(reply) < 2
    if len(reply) < 5:
        return reply[3:4] in (b"", b"\x01", b"\x03", b"\x04")
    lengths = {_IPV4: 10, _NAME: 7 + reply[4], _IPV6: 22}
    return len(reply) < lengths.get(reply[3], 0)
