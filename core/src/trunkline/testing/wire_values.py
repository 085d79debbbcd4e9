"""Find values in a wire request: how often they occur, in which order, and beside which others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from trunkline._json import JSONValue
from trunkline.authoring.wire import WireRequest

Path: TypeAlias = tuple[str | int, ...]


@attrs.frozen
class Leaf:
    """A string, number, boolean or null of a request, or the name of a field, with its place."""

    path: Path
    value: JSONValue


def decoded_body(body: bytes) -> JSONValue:
    """Return the decoded JSON of a body, or the text of a body that is not JSON."""
    try:
        value: JSONValue = json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    return value


def leaves(wire_request: WireRequest) -> list[Leaf]:
    """Return the values of a request in order: of its URL, its headers and its body."""
    url = urlsplit(wire_request.url)
    found = [Leaf(("URL", at), unquote(step)) for at, step in enumerate(url.path.split("/")) if step]
    found += [Leaf(("URL", f"?{name}"), value) for name, value in parse_qsl(url.query, keep_blank_values=True)]
    found += [Leaf(("headers", name), str(value)) for name, value in wire_request.headers.items()]
    return [*found, *json_leaves(decoded_body(wire_request.body))]


def json_leaves(value: JSONValue, path: Path = ()) -> Iterator[Leaf]:
    """Yield the values and the names of fields of a JSON value, in order."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield Leaf((*path, f"{name}:"), name)
            yield from json_leaves(item, (*path, name))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from json_leaves(item, (*path, at))
    else:
        yield Leaf(path, value)


def places(found: Iterable[Leaf], sought: JSONValue) -> list[Path]:
    """Return the place of a value, once for each time that it occurs. A text may be a part of a longer one."""
    if isinstance(sought, str):
        return [
            (*leaf.path, match.start())
            for leaf in found
            if isinstance(leaf.value, str)
            for match in re.finditer(re.escape(sought), leaf.value)
        ]
    return [leaf.path for leaf in found if leaf.value == sought and not isinstance(leaf.value, bool)]


def is_before(first: Path, second: Path) -> bool:
    """Whether the first of two places is earlier in a list or a text, or no list or text contains both."""
    one, other = next((pair for pair in zip(first, second, strict=False) if pair[0] != pair[1]), (0, 1))
    return not isinstance(one, int) or not isinstance(other, int) or one < other


def beside(found: Sequence[Leaf], sought: str, others: Iterable[str]) -> set[str]:
    """Return the texts in the largest object or list that contains the text `sought` once, and none of the `others`."""
    [place] = places(found, sought)
    apart = [path for other in others for path in places(found, other)]
    sizes = (size for size in range(len(place)) if all(path[:size] != place[:size] for path in apart))
    size = next(sizes, len(place))
    return {leaf.value for leaf in found if leaf.path[:size] == place[:size] and isinstance(leaf.value, str)}
