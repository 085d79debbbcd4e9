"""What users, configurations and servers name becomes a part of a URL without changing the rest of it."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote

import pytest
from trunkline.authoring.urls import path_segment, path_segments, query_string, split_url
from trunkline.errors import InvalidRequest

ODD = ["a/b", "a?b=c", "a#b", "a%2Fb", "a b", "a\r\nb: c", "a\x00b", "ä", "a;b", "a:b", "../..", "a\\b", "~"]


@pytest.mark.parametrize("text", ODD)
def test_path_segment_holds_the_whole_text(text: str) -> None:
    segment = path_segment(text)
    assert not set(segment) & set("/?#: \\\r\n\x00")
    assert segment.isascii()
    assert unquote(segment) == text


@pytest.mark.parametrize("text", ["", ".", "..", "a\ud800b"])
def test_text_that_no_path_segment_can_hold_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="the deployment cannot be part of a URL"):
        path_segment(text, "the deployment")


@pytest.mark.parametrize("text", ["models/../admin", "/models", "models/", "a//b", "./a"])
def test_segments_cannot_leave_their_path(text: str) -> None:
    with pytest.raises(InvalidRequest, match="the model cannot be part of a URL"):
        path_segments(text)


def test_slashes_separate_path_segments() -> None:
    assert path_segments("models/a b") == "models/a%20b"


@pytest.mark.parametrize("text", [*ODD, "a&b=c", "a+b"])
def test_query_holds_the_whole_text(text: str) -> None:
    assert parse_qsl(query_string({"limit": "1", "after": text})) == [("limit", "1"), ("after", text)]


def test_lone_surrogate_in_a_query_is_replaced() -> None:
    assert query_string({"after": "a\ud800"}) == "after=a%3F"


@pytest.mark.parametrize(
    ("pasted", "url"),
    [
        ('https://h/a|b"{}?q=[1]', "https://h/a%7Cb%22%7B%7D?q=%5B1%5D"),
        ("https://h/ä%2fb%zz", "https://h/%C3%A4%2fb%25zz"),
    ],
)
def test_characters_that_no_url_contains_are_encoded(pasted: str, url: str) -> None:
    assert split_url(pasted)[0].geturl() == url


MALFORMED = (
    *("https://h/a/../b", "https://h/%2E%2e/b", "https://h/.", "https://h\\@evil.example/", "https://[v1.x]/"),
    *("https://[::1", "https://h:99999", "https://h:１２", "https://\ud800", "https://h/\ud800", "https://h/\x00"),
)


@pytest.mark.parametrize("pasted", MALFORMED)
def test_urls_that_libraries_read_differently_are_refused(pasted: str) -> None:
    with pytest.raises(ValueError, match="a URL"):
        split_url(pasted)
