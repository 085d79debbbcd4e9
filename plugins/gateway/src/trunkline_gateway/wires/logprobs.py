"""The log probabilities of tokens, as both of OpenAI's APIs write them."""

from __future__ import annotations

import re

from trunkline import TokenLogprob
from trunkline.authoring.json import JSONValue

_ESCAPED = re.compile(r"(?:\\x[0-9a-f]{2})+")
"""A token that has only some bytes of a character, as OpenAI's APIs write it."""


def write_token(token: TokenLogprob) -> dict[str, JSONValue]:
    """Write a token with its alternatives."""
    return {**_fields(token), "top_logprobs": [_fields(each) for each in token.top]}


def _fields(token: TokenLogprob) -> dict[str, JSONValue]:
    # The core does not keep the bytes.
    text = token.token
    if _ESCAPED.fullmatch(text):
        content = bytes.fromhex(text.replace("\\x", ""))
    else:
        content = text.encode("utf-8", "surrogatepass")
    return {"token": text, "bytes": list(content), "logprob": token.logprob}
