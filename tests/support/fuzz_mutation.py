"""Structured mutation: what is broken in an input is a value, a field or an event, and not its framing.

Bytes are read as a stream of server-sent events, as an AWS event stream or as JSON, changed, and written again. What is
none of these is left to the mutation of bytes.
"""

from __future__ import annotations

import json
import struct
from random import Random
from typing import Any
from zlib import crc32

HOSTILE: tuple[str, ...] = (
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1e400",
    "-1e400",
    "1e308",
    "NaN",
    "-Infinity",
    "2.5",
    "9" * 300,
    "-" + "9" * 30,
    "9" * 5000,
    '""',
    '"x"',
    '"\\ud800"',
    '"\\u0000"',
    '"error"',
    '"data:image/png;base64,AAA"',
    '"data:;base64,\\ud800"',
    '"{"',
    '"{}"',
    '"<think>"',
    '"</think>"',
    '"' + "a " * 600 + '"',
    '"1300"',
    "[]",
    "[null]",
    "[[]]",
    '["x"]',
    "[{}]",
    "{}",
    '{"":{}}',
    '{"type":"text"}',
    '{"error":{"message":"m","code":1e400}}',
    '{"a":NaN}',
    '{"a":1,"a":2}',
    "[" * 60 + "]" * 60,
    "[" * 900 + "]" * 900,
    '{"a":' * 400 + "1" + "}" * 400,
)
"""JSON texts in place of what is due."""


class Raw:
    """A JSON text that stands for itself in a tree: the numbers that Python would not write among them."""

    def __init__(self, text: str) -> None:
        self.text = text


def written(tree: Any) -> bytes:
    """The tree as JSON text."""
    return _text(tree).encode("utf-8", "surrogatepass")


def _text(tree: Any) -> str:
    if isinstance(tree, Raw):
        return tree.text
    if isinstance(tree, dict):
        return "{" + ",".join(f"{json.dumps(str(key))}:{_text(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(_text(item) for item in tree) + "]"
    return json.dumps(tree)


def places(tree: Any, *, most: int = 2000) -> list[tuple[Any, Any]]:
    """Every place in a tree: what holds it, and its key or index."""
    found: list[tuple[Any, Any]] = []
    stack = [tree]
    while stack and len(found) < most:
        node = stack.pop()
        keys: Any = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in list(keys):
            found.append((node, key))
            stack.append(node[key])
    return found


def mutate_tree(tree: Any, random: Random, others: list[Any] | None = None) -> Any:
    """The tree with one to three of its values replaced, removed, doubled or moved."""
    root = [tree]
    for _ in range(random.choice((1, 1, 2, 3))):
        holder, key = random.choice(places(root))
        action = random.random()
        if action < 0.55 or holder is root:
            holder[key] = Raw(random.choice(HOSTILE))
        elif action < 0.7:
            del holder[key]
        elif action < 0.8:
            source, other = random.choice(places([others or [None], root]))
            holder[key] = json_copy(source[other])
        elif action < 0.9:
            holder[key] = [holder[key], json_copy(holder[key])] if random.random() < 0.5 else {"x": holder[key]}
        elif isinstance(holder, dict):
            holder[random.choice(("type", "index", "id", "error", "message", "delta", "content", "text"))] = holder.pop(
                key
            )
        else:
            holder.insert(key, json_copy(holder[key]))
    return root[0]


def json_copy(tree: Any) -> Any:
    """A copy whose parts are its own."""
    if isinstance(tree, dict):
        return {key: json_copy(value) for key, value in tree.items()}
    return [json_copy(item) for item in tree] if isinstance(tree, list) else tree


# Events: a name and data, which is a tree where it is JSON


def _tree(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return Raw(data.decode("utf-8", "surrogateescape"))


def _data(tree: Any) -> bytes:
    return tree.text.encode("utf-8", "surrogatepass") if isinstance(tree, Raw) else written(tree)


def read_sse(data: bytes) -> list[tuple[bytes, Any]] | None:
    """The events of a stream of server-sent events; `None` for what is none."""
    if b"data:" not in data:
        return None
    events = []
    for block in data.replace(b"\r\n", b"\n").split(b"\n\n"):
        name, lines = b"", []
        for line in block.split(b"\n"):
            if line.startswith(b"event:"):
                name = line[6:].strip()
            elif line.startswith(b"data:"):
                lines.append(line[5:].strip())
        if lines:
            events.append((name, _tree(b"\n".join(lines))))
    return events or None


def write_sse(events: list[tuple[bytes, Any]]) -> bytes:
    """The events as bytes."""
    return b"".join(
        (b"event: %s\n" % name if name else b"") + b"data: %s\n\n" % _data(tree).replace(b"\n", b"")
        for name, tree in events
    )


def message(headers: list[tuple[bytes, bytes]], payload: bytes) -> bytes:
    """A message of an AWS event stream; all of its headers are texts."""
    packed = b"".join(
        bytes([len(name) % 256]) + name[:255] + b"\x07" + struct.pack("!H", len(value)) + value
        for name, value in headers
    )
    prelude = struct.pack("!II", len(packed) + len(payload) + 16, len(packed))
    whole = prelude + struct.pack("!I", crc32(prelude)) + packed + payload
    return whole + struct.pack("!I", crc32(whole))


def event(name: bytes, payload: bytes, kind: bytes = b"event") -> bytes:
    """An event or an exception of an AWS event stream."""
    return message([(b":%s-type" % kind, name), (b":message-type", kind)], payload)


def read_messages(data: bytes) -> list[tuple[list[tuple[bytes, bytes]], Any]] | None:
    """The messages of an AWS event stream, up to the first that cannot be read; `None` where that is the first."""
    found = []
    at = 0
    while len(data) - at >= 16:
        total, length = struct.unpack_from("!II", data, at)
        if total < 16 + length or total > len(data) - at:
            break
        headers, place, end = [], at + 12, at + 12 + length
        while place < end:
            size = data[place]
            name = data[place + 1 : place + 1 + size]
            place += 1 + size
            if place + 3 > end or data[place] != 7:
                return found or None
            (size,) = struct.unpack_from("!H", data, place + 1)
            headers.append((name, data[place + 3 : place + 3 + size]))
            place += 3 + size
        found.append((headers, _tree(data[end : at + total - 4])))
        at += total
    return found or None


def write_messages(messages: list[tuple[list[tuple[bytes, bytes]], Any]]) -> bytes:
    """The messages as bytes."""
    return b"".join(message(headers, _data(tree)) for headers, tree in messages)


def _mutate_list(events: list[Any], random: Random, others: list[Any]) -> None:
    """Whole events dropped, doubled, moved, or taken from another input."""
    at, action = random.randrange(len(events)), random.random()
    if action < 0.25 and len(events) > 1:
        del events[at]
    elif action < 0.5:
        events.insert(random.randrange(len(events) + 1), events[at])
    elif action < 0.75:
        events.insert(random.randrange(len(events) + 1), events.pop(at))
    elif others:
        events.insert(random.randrange(len(events) + 1), random.choice(others))


def mutate(data: bytes, random: Random, other: bytes = b"") -> bytes | None:
    """The input with something in it broken; `None` for what has no structure that is known. `other` lends parts."""
    try:
        messages = read_messages(data)
        if messages is not None:
            return _mutate_messages(messages, random, read_messages(other) or [])
        events = read_sse(data)
        if events is not None:
            return _mutate_sse(events, random, read_sse(other) or [])
        tree = _tree(data)
        return None if isinstance(tree, Raw) else written(mutate_tree(tree, random, [_tree(other)]))
    except RecursionError:  # what is nested deeply already is not taken apart again
        return None


def _mutate_sse(events: list[tuple[bytes, Any]], random: Random, others: list[tuple[bytes, Any]]) -> bytes:
    if random.random() < 0.3:
        _mutate_list(events, random, others)
    else:
        at = random.randrange(len(events))
        name, tree = events[at]
        events[at] = name, mutate_tree(json_copy(tree), random, [tree for _, tree in events])
    return write_sse(events)


def _mutate_messages(messages: list[Any], random: Random, others: list[Any]) -> bytes:
    action = random.random()
    at = random.randrange(len(messages))
    headers, tree = messages[at]
    if action < 0.25:
        _mutate_list(messages, random, others)
    elif action < 0.35 and headers:
        place = random.randrange(len(headers))
        name, value = headers[place]
        odd = random.choice((b"", b"\xff", b"exception", b"error", b"event", b"x" * 300, value[:-1]))
        headers[place] = (name, odd) if random.random() < 0.7 else (odd[:255], value)
    else:
        messages[at] = headers, mutate_tree(json_copy(tree), random, [tree for _, tree in messages])
    return write_messages(messages)
