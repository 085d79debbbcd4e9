"""Where the tests cut a recorded stream in two.

The cost of every split grows with the square of a stream's length. So only a few streams are cut at every place: the
shortest ones that together have the most features. The others are cut at sampled places. With the option
`--exhaustive`, every short stream is cut at every place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from random import Random

from recordings import Exchange

SHORT = 4096
"""The longest stream, in bytes, that is cut at every place."""

_LINE_END = re.compile(rb"\r?\n")


def cut_at_every_place(streams: Iterable[Exchange], most: int | None) -> set[str]:
    """Return the ids of the streams to cut at every place: all short ones, or a choice of at most `most`.

    The choice takes the shortest first, and only those that have a new feature: a tag or a finish reason.
    """
    chosen: set[str] = set()
    seen: set[str] = set()
    for exchange in sorted(streams, key=lambda exchange: (len(exchange.body), exchange.id)):
        features = exchange.tags.union(exchange.finish_reasons)
        if len(exchange.body) > SHORT or len(chosen) == most:
            break
        if most is None or not features <= seen:
            chosen.add(exchange.id)
            seen |= features
    return chosen


def sampled_places(body: bytes, random: Random, number: int) -> Iterator[int]:
    """Choose `number` places in a stream, and those just before, within and after the end of one of its lines."""
    places = range(1, len(body))
    yield from random.sample(places, min(number, len(places)))
    if ends := [found.end() for found in _LINE_END.finditer(body)]:
        end = random.choice(ends)
        yield from (at for at in (end - 1, end, end + 1) if at in places)
