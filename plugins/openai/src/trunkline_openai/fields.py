"""Fields of a decoded answer, taken for what they should be, whatever they are."""

from __future__ import annotations

from typing import Any

from trunkline.response import TokenLogprob


def excerpt(data: bytes) -> str:
    """The beginning of some bytes, for an error."""
    text = " ".join(data[:200].decode("utf-8", "replace").split())
    return repr(text[:80] + ("…" if len(text) > 80 else "")) if text else "it is empty"


def items(value: Any) -> list[Any]:
    """The items of a list; none for anything else."""
    return value if isinstance(value, list) else []


def string(value: Any) -> str | None:
    """A string, or `None`."""
    return value if isinstance(value, str) else None


def integer(value: Any) -> int | None:
    """A whole number, or `None`."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def detail_text(detail: dict[str, Any]) -> str:
    """The readable text of one of OpenRouter's reasoning details."""
    for key in ("text", "summary"):
        if isinstance(detail.get(key), str):
            return str(detail[key])
    return ""


def thinking_text(item: dict[str, Any]) -> str:
    """The text of a content part of reasoning, in Mistral's form or plain."""
    value = item.get("thinking", item.get("text"))
    if isinstance(value, str):
        return value
    return "".join(
        piece if isinstance(piece, str) else str(piece["text"])
        for piece in items(value)
        if isinstance(piece, str) or (isinstance(piece, dict) and isinstance(piece.get("text"), str))
    )


def logprobs(logprobs: dict[str, Any], key: str) -> tuple[TokenLogprob, ...]:
    """The log probabilities of tokens; an entry that is none is passed over."""
    return tuple(found for entry in items(logprobs.get(key)) if (found := _token(entry)) is not None)


def _token(entry: Any, *, alternative: bool = False) -> TokenLogprob | None:
    if not isinstance(entry, dict):
        return None
    token, logprob = entry.get("token"), entry.get("logprob")
    if not isinstance(token, str) or not isinstance(logprob, (int, float)) or isinstance(logprob, bool):
        return None
    top: tuple[TokenLogprob, ...] = ()
    if not alternative:
        others = items(entry.get("top_logprobs"))
        top = tuple(found for other in others if (found := _token(other, alternative=True)) is not None)
    try:
        return TokenLogprob(token=token, logprob=float(logprob), top=top)
    except OverflowError:  # a whole number beyond any float
        return None
