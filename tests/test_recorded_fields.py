"""No field of a recorded response is lost: each is in the parsed response, or is listed with a reason.

`support/recorded_fields.py` replaces the value of each field with a planted value, and looks for the planted value in
the response of the provider's parser. `support/silent_fields.toml` is the list. Bodies and streams of each provider are
tested separately, so a field that is kept in a body must be kept in a stream too.

Errors, embeddings and lists of models are covered by other tests of the recordings.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import cast

import pytest
from json_fields import array_pieces, body_pieces, fields, line_pieces, rewritten
from recorded_counts import assert_counts
from recorded_fields import (
    NAMES,
    Fate,
    Recording,
    Trial,
    findings,
    recordings_of,
    silent_fields,
    try_field,
)
from recordings import Exchange, report
from trunkline.authoring.provider import ResponseParser
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.messages import Text
from trunkline.response import ChatResponse, FinishReason


def kind_of(streamed: bool) -> str:
    return "streams" if streamed else "bodies"


@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize("streamed", [False, True], ids=kind_of)
def test_every_field_is_in_the_response_or_listed_as_silent(provider: str, streamed: bool) -> None:
    found = findings(provider, streamed)
    fates = Counter(finding.fate for finding in found)
    recordings = sum(recording.streamed is streamed for recording in recordings_of(provider))
    counts = ", ".join(f"{fate} {fates[fate]}" for fate in Fate if fates[fate])
    print(f"{provider}, {recordings} {kind_of(streamed)} with {len(found)} fields: {counts}")
    lost = [str(finding) for finding in found if finding.fate in (Fate.VANISHED, Fate.PARTLY)]
    assert not lost, report(lost)
    assert_counts(f"fields/{provider} {kind_of(streamed)}", recordings=recordings, seen=len(found))


def test_every_entry_of_the_list_is_used() -> None:
    used = {
        entry
        for provider in NAMES
        for streamed in (False, True)
        for one in findings(provider, streamed)
        for entry in one.used
    }
    listed = {(entry.why, field) for entry in silent_fields() for field in entry.fields}
    assert listed - used == set(), "these fields are in the response, or in no recording: remove them from the list"
    assert all(entry.why and set(entry.only) <= set(NAMES) for entry in silent_fields())
    assert {entry.kind for entry in silent_fields()} == {"nothing", "repeats", "latest"}


# The walk itself


class Toy:
    """A parser that keeps some fields."""

    def body(self, wire_response: WireResponse) -> ChatResponse:
        data = json.loads(wire_response.body)
        if data["kind"] != "answer":
            raise ProtocolViolation("another kind")
        return ChatResponse(
            parts=(Text(text=data["text"]),),
            finish_reason=FinishReason.STOP if data["reason"] == "end" else FinishReason.OTHER,
            provider_metadata={"toy": {"tier": data["tier"], "found": data["found"][-1]}},
            raw=data,
        )


BODY = {
    "kind": "answer",
    "text": "Hello",
    "reason": "end",
    "tier": 3,
    "found": ["one", "two"],
    "copy": "ello",
    "cost": 0.5,
    "cached": False,
    "note": None,
}


def tried(path: str) -> Trial:
    body = json.dumps(BODY).encode()
    exchange = Exchange(
        id="toy",
        method="POST",
        url="http://localhost",
        variant="toy",
        status=200,
        headers={},
        body=body,
        streaming=False,
        finish_reasons=(),
        chunk_lengths=(),
        tags=frozenset(),
        notes=frozenset(),
    )
    recording = Recording(exchange, cast("ResponseParser", Toy()), "toy", False, "toy", body_pieces(body))
    return try_field(recording, path, [value for place, value in fields(recording.pieces) if place == path])


@pytest.mark.parametrize(
    ("path", "fate"),
    [
        ("text", Fate.TYPED),
        ("tier", Fate.METADATA),
        ("kind", Fate.READ),
        ("reason", Fate.READ),
        ("found[]", Fate.PARTLY),
        ("cost", Fate.VANISHED),
        ("cached", Fate.VANISHED),
        ("copy", Fate.VANISHED),
        ("note", Fate.EMPTY),
    ],
)
def test_field_is_found_only_if_its_planted_value_is_in_the_response(path: str, fate: Fate) -> None:
    assert tried(path).fate is fate


def test_kinds_of_entries_are_checked() -> None:
    assert (tried("copy").repeated, tried("cost").repeated) == (True, False)
    assert (tried("found[]").latest, tried("cost").latest) == (True, False)


def test_path_contains_the_kind_of_an_object() -> None:
    value = {
        "choices": [{"index": 0, "delta": {"text": "a"}}, {"index": 1, "delta": {"text": "b"}}],
        "content": [{"type": "tool_use", "input": {"city": [{"deep": 1}], "type": "x"}}, {"toolUse": {"name": "n"}}],
        "none": [],
    }
    assert fields(body_pieces(json.dumps(value).encode())) == [
        ("choices[].index", 0),
        ("choices[].delta.text", "a"),
        ("choices[others].index", 1),
        ("choices[others].delta.text", "b"),
        ("content[]<tool_use>.type", "tool_use"),
        ("content[]<tool_use>.input.**", 1),
        ("content[]<tool_use>.input.**", "x"),
        ("content[]<toolUse>.toolUse.name", "n"),
        ("none", []),
    ]


def test_recording_without_changes_stays_identical() -> None:
    events = b'event: a\r\ndata:{"type":"a","n":1.0}\r\n\r\n: comment\n\ndata:[DONE]\n\n'
    assert rewritten(line_pieces(events), lambda _, value: value) == events
    assert fields(line_pieces(events)) == [("<a>.type", "a"), ("<a>.n", 1.0)]
    lines = b'{"a":"\xc3\xa9"}\n{"a":null}\n'
    assert rewritten(line_pieces(lines), lambda _, value: value) == lines
    array = b'[{"a":1},\n{"a":2}]'
    assert rewritten(array_pieces(array), lambda _, value: value) == array
