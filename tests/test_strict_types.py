"""The oracle of the requests to OpenAI, Azure and Anthropic refuses what their types do not have."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import Any, Literal, NotRequired, Required

import pydantic
import pytest
from strict_types import strict_adapter
from typing_extensions import TypedDict


class Item(TypedDict, total=False):
    kind: Required[Literal["item"]]
    inner: Iterable[Item]
    file: str | PathLike[str]


class Request(TypedDict):
    items: Iterable[Item]
    limit: NotRequired[int]


@pytest.mark.parametrize(
    "body",
    [
        {"items": []},
        {"items": [{"kind": "item", "inner": [{"kind": "item"}]}], "limit": 3},
        {"items": [{"kind": "item", "file": "name"}]},
    ],
)
def test_what_a_type_describes_is_accepted(body: dict[str, Any]) -> None:
    assert strict_adapter(Request).validate_python(body) == body


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"items": [], "more": 1},
        {"items": [], "limit": "3"},
        {"items": [{"kind": "another"}]},
        {"items": [{"inner": []}]},
        {"items": [{"kind": "item", "inner": [{"kind": "item", "more": 1}]}]},
        {"items": [{"kind": "item", "file": 7}]},
    ],
)
def test_what_a_type_does_not_describe_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        strict_adapter(Request).validate_python(body)
