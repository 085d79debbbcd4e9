"""httpx2 by hand, Messages."""

from clients import _httpx2, _raw

_made = _httpx2.client(
    "/v1/messages",
    "/v1/messages",
    _raw.KEYED,
    _raw.ANTHROPIC,
    {**_raw.ANTHROPIC, "stream": True},
    _raw.anthropic_answer,
    _raw.anthropic,
)
connect, call, stream = _made.connect, _made.call, _made.stream
