"""httpx2 by hand, Chat Completions."""

from clients import _httpx2, _raw

_made = _httpx2.client(
    "/v1/chat/completions",
    "/v1/chat/completions",
    _raw.BEARER,
    _raw.CHAT,
    _raw.CHAT_STREAM,
    _raw.chat_answer,
    _raw.chat,
)
connect, call, stream = _made.connect, _made.call, _made.stream
