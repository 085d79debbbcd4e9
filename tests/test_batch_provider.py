"""The provider that measures batch work: what it counts, and that its faults happen as they are set."""

from __future__ import annotations

import base64
import json
import struct
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import RemoteDisconnected
from pathlib import Path
from typing import Any

import pytest
from server_process import server_process

FILE = Path(__file__).parent / "batch" / "provider.py"
TEXT = "[row 17] Is the river wide?"
ANSWER = "[row 17] 8265b997"  # the CRC-32 of TEXT


@pytest.fixture
def url() -> Iterator[str]:
    with server_process(sys.executable, str(FILE)) as url:
        yield url


def post(url: str, value: object) -> Any:
    request = urllib.request.Request(url, json.dumps(value).encode(), {"authorization": "Bearer k"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def chat(url: str, text: str = TEXT) -> str:
    value = {"model": "batch", "messages": [{"role": "user", "content": text}]}
    answer: str = post(f"{url}/chat/completions", value)["choices"][0]["message"]["content"]
    return answer


def refusal(url: str, text: str = TEXT) -> urllib.error.HTTPError:
    with pytest.raises(urllib.error.HTTPError) as caught:
        chat(url, text)
    caught.value.close()
    return caught.value


def stats(url: str) -> Any:
    with urllib.request.urlopen(f"{url}/stats") as response:
        return json.load(response)


def test_answers_repeat_the_row_and_a_checksum_of_the_prompt(url: str) -> None:
    assert chat(url) == ANSWER
    assert chat(url, TEXT + "?") != ANSWER


def test_embeddings_are_the_same_as_floats_and_as_base64(url: str) -> None:
    texts = {"model": "batch", "input": ["[row 1] a", "[row 2] b"]}
    floats = [item["embedding"] for item in post(f"{url}/embeddings", texts)["data"]]
    packed = post(f"{url}/embeddings", {**texts, "encoding_format": "base64"})["data"]
    assert [list(struct.unpack("<8f", base64.b64decode(item["embedding"]))) for item in packed] == floats
    assert floats[0] != floats[1]
    assert stats(url)["rows"] == 2


def test_repeated_requests_are_counted_for_each_row(url: str) -> None:
    for text in (TEXT, TEXT, "[row b/3] x", "[row b/3] x", "[row b/3] x", "[row 4] x"):
        chat(url, text)
    found = stats(url)
    assert (found["rows"], found["accepted"], found["repeated"], found["most_for_a_row"]) == (3, 6, 3, 3)
    with urllib.request.urlopen(f"{url}/repeated") as response:
        assert json.load(response) == {"17": 2, "b/3": 3}
    post(f"{url}/reset", {})
    assert stats(url)["accepted"] == 0


def test_refused_requests_are_not_counted_as_repeated(url: str) -> None:
    post(f"{url}/control", {"rate_limited": 1, "retry_after": 7.5, "most_faults": 2})
    assert [refusal(url).headers["retry-after"], refusal(url).code] == ["7.500", 429]
    assert chat(url) == ANSWER
    found = stats(url)
    assert (found["accepted"], found["repeated"], found["injected"], found["early"]) == (1, 0, 2, 2)
    assert found["statuses"]["429"] == 2


def test_bad_rows_always_get_status_400(url: str) -> None:
    post(f"{url}/control", {"bad": 1})
    assert [refusal(url).code for _ in range(4)] == [400] * 4


def test_another_key_gets_status_401(url: str) -> None:
    post(f"{url}/control", {"key": "other"})
    assert refusal(url).code == 401


@pytest.mark.parametrize("kind", ["503", "reset"])
def test_an_outage_begins_after_as_many_rows_as_set(url: str, kind: str) -> None:
    post(f"{url}/control", {"outage": 60, "outage_after": 2, "outage_kind": kind})
    for number in range(2):
        chat(url, f"[row {number}] x")
    if kind == "503":
        assert refusal(url).code == 503
    else:
        with pytest.raises((ConnectionError, RemoteDisconnected, urllib.error.URLError)):
            chat(url)


def test_the_limit_is_enforced_over_each_window_and_measured(url: str) -> None:
    post(f"{url}/control", {"requests_per_minute": 3})
    for number in range(3):
        chat(url, f"[row {number}] x")
    assert 58 < float(refusal(url).headers["retry-after"]) <= 60
    assert stats(url)["busiest"] == {"window": 60.0, "arrived": 4, "accepted": 3, "tokens": 3 * (2 + 4 + 5)}
    post(f"{url}/control", {"requests_per_minute": 0, "tokens_per_minute": 40})
    assert refusal(url).code == 429
