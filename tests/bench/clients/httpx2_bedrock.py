"""httpx2 by hand, Converse, with a bearer token."""

from clients import _httpx2, _raw
from payloads import MODEL

_made = _httpx2.client(
    f"/model/{MODEL}/converse",
    f"/model/{MODEL}/converse-stream",
    _raw.BEARER,
    _raw.BEDROCK,
    _raw.BEDROCK,
    _raw.bedrock_answer,
    _raw.bedrock,
)
connect, call, stream = _made.connect, _made.call, _made.stream
