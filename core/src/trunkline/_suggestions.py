"""Suggest the name that was meant, for errors about a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

import attrs


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that is most like `name`, or `None` if none is. Case and `_` or `-` do not matter."""
    plain = {_plain(known): known for known in names}
    wanted = _plain(name)
    # The last word of a name is its noun: `model` means `default_model` rather than `model_facts`.
    ends = [known for known in plain if known.endswith(f"-{wanted}")] if wanted and wanted not in plain else []
    close = difflib.get_close_matches(wanted, ends, n=1, cutoff=0) or difflib.get_close_matches(wanted, plain, n=1)
    # A name that was not written to its end, such as `azure` for `azure-openai`, may have less than half the letters.
    close = close or [known for known in plain if len(wanted) > 2 and known.startswith(wanted)]
    if not close and len(wanted) > 3:  # a typo in the last word, such as `modle`
        last = difflib.get_close_matches(wanted, {known.rpartition("-")[2] for known in plain}, n=1, cutoff=0.75)
        close = difflib.get_close_matches(
            wanted, [known for known in plain if known.endswith(f"-{''.join(last)}")], 1, 0
        )
    return plain[close[0]] if close else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean 'region'?`, or `;` if no name is near. A message goes on with the names after it."""
    found = nearest(name, names)
    return f"; did you mean {found!r}?" if found is not None else ";"


def check_keywords(
    keywords: Mapping[str, object], request: type[attrs.AttrsInstance], call: str, others: Iterable[str] = ()
) -> None:
    """Raise `TypeError` for a keyword of a call that is not a field of its request. `others` are its other keywords."""
    if not keywords:
        return
    names = [field.name for field in attrs.fields(request)]
    for name in keywords:
        if name not in names:
            raise TypeError(f"{call} has no keyword {name!r}{keyword_hint(name, [*others, *names[1:]])}")


def keyword_hint(name: str, names: Iterable[str]) -> str:
    """Return what to add to the error about an unknown keyword."""
    names = list(names)
    found = nearest(name, names)
    return f"; did you mean {found!r}?" if found else f"; the keywords are {', '.join(names)}"


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-")
