"""Make a request from each row: by a template, by a function of the application, or from the row's own columns."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from string import Formatter
from typing import TypeAlias, cast, get_args

import attrs

from trunkline._exception_text import exception_text
from trunkline._files import UnreadableFile, read_file
from trunkline._json import JSONValue, dumps
from trunkline._masking import listed
from trunkline._suggestions import did_you_mean
from trunkline.batch.results import OperationName, Row
from trunkline.batch.stable_text import stable_text
from trunkline.errors import InvalidRequest, TrunklineError
from trunkline.messages import Audio, Message, assistant, system, user
from trunkline.operations import RerankRequest
from trunkline.storage import messages_from_json

RequestFunction: TypeAlias = Callable[[Row], object]
"""A function that makes the request of a row: what the method of the service takes as its first argument."""

OPERATIONS: tuple[OperationName, ...] = get_args(OperationName)

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "chat": ("messages", "prompt"),
    "embed": ("input", "text"),
    "moderate": ("input", "text"),
    "rerank": ("query",),
    "transcribe": ("audio",),
    "generate_speech": ("text",),
    "generate_images": ("prompt",),
}
"""The columns that hold what is sent, if there is no template: the first one that a row has."""

MAX_AUDIO = 100 * 1024 * 1024
"""The largest recording that is read, in bytes."""


class Template:
    """A text with the names of columns in braces: `Label this text: {text}`. Two braces stand for one.

    Raises `InvalidRequest` for a text that is no template.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces: list[tuple[str, str | None]] = []
        try:
            for literal, column, spec, conversion in Formatter().parse(text):
                if column is not None and (spec or conversion or not column.strip()):
                    raise ValueError("only the name of a column may stand in braces")
                self._pieces.append((literal, column))
        except ValueError as error:
            raise InvalidRequest(
                f"the template cannot be read: {error}; a column is written as {{name}}, and a brace as {{{{ or }}}}"
            ) from None

    def fill(self, row: Row) -> str:
        """Return the text for a row. Raises `InvalidRequest` if the row has no such column."""
        return "".join(
            literal if column is None else literal + _shown(_value(row, column)) for literal, column in self._pieces
        )


def _value(row: Row, column: str) -> object:
    try:
        return row[column]
    except KeyError:
        hint = did_you_mean(column, row)
        raise InvalidRequest(f"the row has no column {column!r}{hint} its columns are {listed(row)}") from None


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return dumps(value).decode()
    except (TypeError, ValueError, RecursionError):
        return str(value)  # such as a date of a Parquet file


@attrs.frozen(kw_only=True)
class RowRequests:
    """How the requests of a run are made. `row_requests` makes one.

    `params` are the fields of every request, such as `model`. `identity` has the operation, and hashes of the template,
    the system prompt and the parameters. A later run with another identity makes other requests.
    """

    operation: OperationName
    build: RequestFunction = attrs.field(repr=False)
    params: Mapping[str, object] = attrs.field(repr=False)
    identity: Mapping[str, str]

    def request(self, row: Row) -> object:
        """Return the request of a row. Raises `InvalidRequest` if there is none."""
        try:
            return self.build(row)
        except TrunklineError:
            raise
        except Exception as error:  # of the application's function
            raise InvalidRequest(f"the function that makes the request failed: {exception_text(error)}") from error


def row_requests(
    operation: OperationName = "chat",
    request: str | RequestFunction | None = None,
    *,
    system: str | None = None,
    params: Mapping[str, object] | None = None,
) -> RowRequests:
    """Return how the requests of a run are made.

    `request` is a template, a function, or `None` for the row's own columns: `messages` or `prompt` for chat, `input`
    or `text` for embeddings and moderation, `query` and `documents` for reranking, `audio` (the name of a file) for
    transcription, `text` for speech, `prompt` for images. `system` is a template for the instructions of a chat.

    Raises `InvalidRequest` for an unknown operation or a template that cannot be read.
    """
    if operation not in OPERATIONS:
        raise InvalidRequest(f"operation must be one of {', '.join(OPERATIONS)}, not {operation!r}")
    if system is not None and operation != "chat":
        raise InvalidRequest(f"system is for chats, not for {operation}")
    if request is not None and not isinstance(request, str) and not callable(request):
        raise InvalidRequest(
            f"request must be a template, a function that takes a row, or None, not {type(request).__name__}"
        )
    if inspect.iscoroutinefunction(request):
        raise InvalidRequest("request must be an ordinary function; an async function cannot make the request of a row")
    if isinstance(request, str):
        build = _from_text(operation, Template(request).fill)
    elif request is None:
        build = _from_columns(operation)
    else:
        build = _from_function(request)
    if system is not None:
        build = _with_system(build, Template(system))
    given = dict(params or {})
    identity = {
        "operation": operation,
        "request": request if isinstance(request, str) else _name(request),
        "system": system or "",
        "params": stable_text(given),
    }
    return RowRequests(
        operation=operation,
        build=build,
        params=given,
        identity={
            name: text
            if name == "operation"
            else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            for name, text in identity.items()
        },
    )


def _name(request: RequestFunction | None) -> str:
    return "" if request is None else str(getattr(request, "__qualname__", type(request).__qualname__))


def _from_function(function: RequestFunction) -> RequestFunction:
    """Let a function yield messages, too. They are kept, since a row may be sent several times."""

    def build(row: Row) -> object:
        value = function(row)
        return tuple(value) if isinstance(value, Iterator) else value

    return build


def _from_text(operation: OperationName, fill: Callable[[Row], str]) -> RequestFunction:
    if operation == "rerank":
        return lambda row: RerankRequest(query=fill(row), documents=cast("Iterable[str]", _value(row, "documents")))
    if operation == "transcribe":
        return lambda row: _audio(fill(row))
    return fill


def _from_columns(operation: OperationName) -> RequestFunction:
    columns = _COLUMNS[operation]

    def build(row: Row) -> object:
        column = next((name for name in columns if row.get(name) is not None), None)
        if column is None:
            raise InvalidRequest(
                f"the row has no column {' or '.join(map(repr, columns))}; give a template. "
                f"Its columns are {listed(row)}"
            )
        value = row[column]
        if column == "messages":
            return _messages(value)
        if operation == "rerank":
            return RerankRequest(query=cast(str, value), documents=cast("Iterable[str]", _value(row, "documents")))
        if operation == "transcribe":
            return _audio(cast(str, value))
        return value if operation == "embed" or isinstance(value, str) else _shown(value)

    return build


def _with_system(build: RequestFunction, instructions: Template) -> RequestFunction:
    def with_system(row: Row) -> object:
        request = build(row)
        messages: Iterable[Message]
        if isinstance(request, str):
            messages = (user(request),)
        elif isinstance(request, Message):
            messages = (request,)
        elif isinstance(request, (list, tuple)):
            messages = cast("Iterable[Message]", request)
        else:
            raise InvalidRequest(f"system does not go with a request of type {type(request).__name__}")
        return (system(instructions.fill(row)), *messages)

    return with_system


_ROLES: Mapping[str, Callable[[str], Message]] = {
    "system": system,
    "developer": system,
    "user": user,
    "assistant": assistant,
}


def _messages(value: object) -> tuple[Message, ...]:
    """Return the messages in a column: with a role and a text each, or stored by `trunkline.storage`."""
    if not isinstance(value, (list, tuple)):
        raise InvalidRequest(f"the column 'messages' must be a list of messages, not {type(value).__name__}")
    messages: list[Message] = []
    for number, item in enumerate(value):
        role = item.get("role") if isinstance(item, Mapping) else None
        content = item.get("content") if isinstance(item, Mapping) else None
        if isinstance(item, Mapping) and "parts" in item:
            messages += messages_from_json([cast(JSONValue, item)])
        elif role in _ROLES and isinstance(content, str):
            messages.append(_ROLES[cast(str, role)](content))
        else:
            raise InvalidRequest(
                f"messages[{number}] needs a role (system, user or assistant) and a text as content, or the form of "
                "trunkline.storage; for other conversations, pass a function that makes the request"
            )
    return tuple(messages)


def _audio(path: object) -> Audio:
    if not isinstance(path, str):
        raise InvalidRequest(f"the recording must be the name of a file, not {type(path).__name__}")
    try:
        return Audio(data=read_file(path, MAX_AUDIO))
    except UnreadableFile as error:
        raise InvalidRequest(f"the recording {path!r} {error}") from None
