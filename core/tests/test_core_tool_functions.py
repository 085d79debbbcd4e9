"""What `tool` reads of a function: its schema, its descriptions, and how arguments are converted."""

from __future__ import annotations

import datetime
import enum
import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict, cast

import anyio
import attrs
import msgspec
import pydantic
import pytest
from trunkline import ChatRequest, FunctionTool, InvalidRequest, LocalTool, Tool, ToolCall, tool
from trunkline.storage import from_json, to_json


class Unit(enum.Enum):
    METRIC = "metric"
    IMPERIAL = "imperial"


@attrs.define
class Point:
    x: float
    y: float = 0.0


class Area(TypedDict):
    corners: list[Point]


class Size(msgspec.Struct):
    width: int


@dataclass
class Circle:
    radius: int


@dataclass
class Square:
    side: int


class User(pydantic.BaseModel):
    name: str
    age: int = 0


@pydantic.dataclasses.dataclass
class Age:
    years: int

    @pydantic.field_validator("years")
    @classmethod
    def is_positive(cls, years: int) -> int:
        if years < 0:
            raise ValueError("negative")
        return years


@dataclass
class Tree:
    age: Age


def run(tool: LocalTool, **arguments: Any) -> object:
    async def main() -> object:
        return await tool.run(ToolCall(id="1", name=tool.name, arguments=arguments))

    return anyio.run(main)


def test_arguments_are_converted_to_their_types() -> None:
    @tool
    def f(day: datetime.date, unit: Unit, area: Area, size: Size, points: list[Point] | None = None) -> object:
        return day, unit, area, size, points

    found = run(f, day="2026-11-27", unit="metric", area={"corners": [{"x": 1}]}, size={"width": 2})
    assert found == (datetime.date(2026, 11, 27), Unit.METRIC, {"corners": [Point(1.0)]}, Size(2), None)


def test_an_argument_that_is_left_out_has_the_default_of_the_function() -> None:
    things: list[str] = ["a"]

    @tool
    def f(kind: Literal["a", "b"] = "a", count: int = 3, things: list[str] = things) -> object:
        return kind, count, things

    assert run(f) == ("a", 3, ["a"])
    assert f.parameters.get("required", []) == []
    properties = f.parameters["properties"]
    assert isinstance(properties, dict)
    assert properties["count"] == {"type": "integer", "default": 3}
    assert "default" not in properties["things"]


def test_a_number_is_not_made_of_a_text() -> None:
    @tool
    def f(count: int) -> object:
        return count

    with pytest.raises(Exception, match=r"Expected `int`, got `str` - at `\$\.count`"):
        run(f, count="5")


def test_pydantic_models_are_checked_by_pydantic() -> None:
    @tool
    def f(users: list[User], owner: User | None = None) -> object:
        """Save users.

        Args:
            users: The users.
        """
        return users, owner

    assert run(f, users=[{"name": "Ada"}]) == ([User(name="Ada")], None)
    with pytest.raises(Exception, match=r"users\.0\.age: Input should be a valid integer"):
        run(f, users=[{"name": "Ada", "age": "3"}])
    with pytest.raises(Exception, match="more: Extra inputs are not permitted"):
        run(f, users=[], more=1)
    properties = f.parameters["properties"]
    assert isinstance(properties, dict)
    assert properties["users"]["description"] == "The users."
    assert f.parameters["additionalProperties"] is False


def test_validator_of_a_pydantic_class_within_a_dataclass_runs() -> None:
    @tool
    def f(tree: Tree) -> object:
        return tree

    assert run(f, tree={"age": {"years": 3}}) == Tree(Age(3))
    with pytest.raises(Exception, match=r"tree\.age\.years: Value error, negative"):
        run(f, tree={"age": {"years": -3}})


def test_a_union_of_classes_is_checked_by_pydantic() -> None:
    @tool
    def f(shape: Circle | Square) -> object:
        return shape

    assert run(f, shape={"side": 2}) == Square(2)


GOOGLE = """Find a place.

    Looks in the database.

    Args:
        name: What it is called.
        limit: How many to return.
    """
NUMPY = """Find a place.

    Looks in the database.

    Parameters
    ----------
    name : str
        What it is called.
    limit : int
        How many to return.
    """
REST = """Find a place.

    Looks in the database.

    :param name: What it is called.
    :param limit: How many to return.
    """


def test_restrictions_of_pydantic_and_of_msgspec_are_checked() -> None:
    @tool
    def book(
        seats: Annotated[int, pydantic.Field(ge=1, description="How many.")],
        row: Annotated[int, msgspec.Meta(ge=3, description="Which row.")] = 3,
    ) -> tuple[int, int]:
        return seats, row

    properties = cast("dict[str, dict[str, object]]", book.parameters["properties"])
    assert (properties["seats"]["minimum"], properties["seats"]["description"]) == (1, "How many.")
    assert (properties["row"]["minimum"], properties["row"]["description"]) == (3, "Which row.")
    assert run(book, seats=1, row=4) == (1, 4)
    for wrong in ({"seats": 0}, {"seats": 1, "row": 2}):
        with pytest.raises(Exception, match="greater than or equal"):
            run(book, **wrong)


def test_restrictions_of_pydantic_in_a_dataclass_are_checked() -> None:
    @dataclass
    class Order:
        seats: Annotated[int, pydantic.Field(ge=1)]

    def book(order: Any) -> int:
        return int(order.seats)

    book.__annotations__["order"] = Order
    made = tool(book)
    assert run(made, order={"seats": 2}) == 2
    with pytest.raises(Exception, match="greater than or equal to 1"):
        run(made, order={"seats": 0})


def test_a_default_that_json_does_not_have_is_left_out_of_the_schema() -> None:
    @tool
    def limit(most: float = float("inf")) -> float:
        return most

    assert limit.parameters["properties"] == {"most": {"type": "number"}}
    assert run(limit) == float("inf")


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, REST], ids=["Google", "NumPy", "reST"])
def test_descriptions_come_from_the_docstring(docstring: str) -> None:
    def find(name: str, limit: int = 5) -> str:
        return name * limit

    find.__doc__ = docstring
    made = tool(find)
    assert made.description == "Find a place.\n\nLooks in the database."
    properties = made.parameters["properties"]
    assert isinstance(properties, dict)
    assert [each["description"] for each in properties.values()] == ["What it is called.", "How many to return."]


def test_a_partial_hides_the_arguments_that_it_gives() -> None:
    def find(database: str, name: str, *, limit: int) -> str:
        """Find."""
        return f"{database} {name} {limit}"

    made = tool(functools.partial(find, "db", limit=2), name="search")
    assert (made.name, made.description) == ("search", "Find.")
    assert made.parameters["properties"] == {"name": {"type": "string"}}
    assert run(made, name="x") == "db x 2"


def test_arguments_may_be_positional_only() -> None:
    @tool
    def f(a: int, b: int = 2, /, c: int = 3) -> object:
        return a, b, c

    assert run(f, a=1, c=5) == (1, 2, 5)


def test_a_function_without_arguments_has_an_object_without_properties() -> None:
    @tool
    def now() -> str:
        return "noon"

    assert now.parameters == {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    assert now.description is None
    assert (now(), run(now)) == ("noon", "noon")


class Shelf:
    def __init__(self, name: str) -> None:
        self.name = name

    @tool(name="lend", strict=True)
    async def lend_book(self, title: str) -> str:
        """Lend a book."""
        return f"{title} from {self.name}"


def test_a_tool_of_a_method_belongs_to_an_object() -> None:
    shelf = Shelf("A")
    made: FunctionTool[..., Any] = shelf.lend_book
    assert (made.name, made.description, made.strict) == ("lend", "Lend a book.", True)
    assert run(made, title="Emma") == "Emma from A"
    assert shelf.lend_book == made
    with pytest.raises(InvalidRequest, match="tool 'lend' is a method: pass the tool of an object"):
        run(Shelf.lend_book, title="Emma")


def no_annotation(x) -> None: ...  # type: ignore[no-untyped-def]
def any_arguments(*args: int) -> None: ...
def no_schema(x: Callable[[], int]) -> None: ...
def unknown_type(x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (no_annotation, "argument 'x' of tool 'no_annotation' needs an annotation"),
        (any_arguments, "tool 'any_arguments' takes any arguments"),
        (no_schema, "tool 'no_schema' has an argument without a JSON Schema"),
        (unknown_type, "the annotations of tool 'unknown_type' cannot be read: name 'Missing' is not defined"),
        (5, "a tool is made from a function, not from int"),
        (Shelf, "a tool is made from a function, not from the class Shelf"),
        (lambda: 5, "not every provider accepts '<lambda>' as the name of a tool"),
    ],
    ids=["no annotation", "*args", "no schema", "unknown type", "no function", "a class", "a lambda"],
)
def test_a_function_that_cannot_be_a_tool_is_refused(function: Any, problem: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        tool(function)
    assert str(caught.value).startswith(problem)


def test_a_request_with_a_tool_of_a_function_is_stored_without_the_function() -> None:
    @tool
    def now() -> str:
        """Tell the time."""
        return "noon"

    request = ChatRequest(messages="?", tools=[now])
    [stored] = from_json(ChatRequest, to_json(request)).tools
    assert stored == Tool(name="now", description="Tell the time.", parameters=now.parameters)
    assert to_json(now) == to_json(stored)


def test_without_the_extra_the_error_names_it() -> None:
    code = """
import sys
sys.modules["msgspec"] = None
import trunkline
try:
    trunkline.tool(lambda: None)
except trunkline.ConfigurationError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "making a tool from a function needs: pip install 'trunkline[tools]'\n"
