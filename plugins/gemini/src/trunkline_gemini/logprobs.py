"""The log probabilities of an answer's tokens, from `logprobsResult`."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_list, as_number, as_object, as_objects, as_string
from trunkline.response import TokenLogprob


def logprobs_from(result: dict[str, Any]) -> tuple[TokenLogprob, ...]:
    """Return the chosen tokens, each with the most likely alternatives. Tokens without a probability are left out.

    `tokenId`, the number of a token in the model's vocabulary, is not kept.
    """
    likeliest = [
        tuple(filter(None, map(_token, as_objects(as_object(item).get("candidates")))))
        for item in as_list(result.get("topCandidates"))
    ]
    found = []
    for position, chosen in enumerate(as_objects(result.get("chosenCandidates"))):
        top = likeliest[position] if position < len(likeliest) else ()
        token = _token(chosen, top)
        if token is not None:
            found.append(token)
    return tuple(found)


def _token(item: dict[str, Any], top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob | None:
    # Proto JSON leaves out a probability of 0.
    token, logprob = as_string(item.get("token")), as_number(item.get("logProbability", 0.0))
    return TokenLogprob(token=token, logprob=logprob, top=top) if token is not None and logprob is not None else None
