"""The log probabilities of a response's tokens, which Chat Completions and Responses report in the same form."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_number, as_objects
from trunkline.response import TokenLogprob


def token_logprobs(entries: object) -> tuple[TokenLogprob, ...]:
    """The log probabilities in a list of tokens, with their alternatives. Malformed entries are ignored."""
    return tuple(
        found
        for entry in as_objects(entries)
        if (found := _token(entry, top=_tokens(entry.get("top_logprobs")))) is not None
    )


def _tokens(entries: object) -> tuple[TokenLogprob, ...]:
    return tuple(token for entry in as_objects(entries) if (token := _token(entry)) is not None)


def _token(entry: dict[str, Any], *, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob | None:
    token, logprob = entry.get("token"), as_number(entry.get("logprob"))
    return (
        TokenLogprob(token=token, logprob=logprob, top=top) if isinstance(token, str) and logprob is not None else None
    )
