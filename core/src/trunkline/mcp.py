"""The tools of an MCP server, as tools of a run. The application opens the session, with the official SDK.

Nothing is imported from the SDK, which takes a second: its objects are used as the application passes them.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, Protocol, cast
from urllib.parse import unquote, urlsplit

from trunkline._excerpts import cut
from trunkline._field_types import type_name
from trunkline._json import dumps
from trunkline._masking import quoted, without_keys
from trunkline.errors import CallError, InvalidRequest
from trunkline.messages import Audio, Document, Image, Text, ToolCall, ToolResult, ToolResultPart
from trunkline.tools import LocalTool

_LONGEST_NAME = 64
"""The longest name of a tool that all providers accept."""
_HASH_LENGTH = 8
"""The number of characters of the hash at the end of a changed name."""
_PROBLEM_LIMIT = 1000
"""The longest text of an error, in characters."""
_PROBLEMS = 3
"""How many problems of a malformed result are named."""


class MCPSession(Protocol):
    """What `mcp_tools` uses of a session: a `ClientSession` or a `Client` of the package `mcp`, from version 2 on."""

    def call_tool(self, name: str, arguments: dict[str, object] | None = None) -> Awaitable[object]:
        """Call a tool, and return its `CallToolResult`."""
        ...

    @property
    def list_tools(self) -> Callable[..., Awaitable[object]]:
        """List a page of the tools."""
        ...


async def mcp_tools(session: MCPSession, *, prefix: str = "") -> tuple[LocalTool, ...]:
    """Return the tools of an MCP session, for `run_tools`.

    `session` is an open `ClientSession` or `Client` of the package `mcp` (extra `mcp`). It has to stay open while the
    tools run. `prefix` is put before each name, so that the tools of two servers do not have the same names. Characters
    that providers do not accept in a name are replaced by `_`. If a name is too long, or would then be the same as that
    of another tool, it is cut to 55 characters, and a hash of the original name is added.

    The tools are those that the server has at the moment. If it says that they have changed, call `mcp_tools` again.

    Text, images, audio and the contents of resources in a result are sent to the model as parts, links to resources as
    JSON, and structured content as JSON if there is no text. A result that the server marks as an error is sent to the
    model with anything that looks like a key removed. It does not end the run, even with `on_tool_error="raise"`.
    Errors of the protocol and of the connection are exceptions. Cancelling a call leaves the session usable. A call
    waits for as long as the session does: open it with `read_timeout_seconds` if a server may hang.

    Raises what the session raises, and `InvalidRequest` if the session is one of version 1 of the package, or if the
    schema of a tool cannot be sent.
    """
    found = await _listed(session)
    names = _names([tool.name for tool in found], prefix)
    return tuple(_tool(session, tool, name) for tool, name in zip(found, names, strict=True))


async def _listed(session: MCPSession) -> list[Any]:
    """Return the tools of all pages. A tool is on two pages if the list changes between them."""
    page = cast("Any", await session.list_tools())
    if not hasattr(page, "next_cursor"):
        raise InvalidRequest(f"mcp_tools needs a session of the package mcp, version 2 or later, not {_kind(session)}")
    tools = {tool.name: tool for tool in page.tools}
    seen: set[str] = set()
    # Servers written in Go send an empty cursor with the last page.
    while (cursor := page.next_cursor) and cursor not in seen:
        seen.add(cursor)
        if hasattr(session, "session"):  # a `Client`
            page = cast("Any", await session.list_tools(cursor=cursor))
        else:
            from mcp_types import PaginatedRequestParams  # which the session has imported already

            page = cast("Any", await session.list_tools(params=PaginatedRequestParams(cursor=cursor)))
        tools |= {tool.name: tool for tool in page.tools}
    return list(tools.values())


def _kind(session: object) -> str:
    return f"{type(session).__module__}.{type_name(session)}"


def _names(given: Sequence[str], prefix: str) -> list[str]:
    """Return names that all providers accept and that differ. They do not depend on the order of the tools."""
    accepted = [_accepted(prefix + name) for name in given]
    count = Counter(accepted)
    names: list[str] = []
    for original, name in zip(given, accepted, strict=True):
        if not name or len(name) > _LONGEST_NAME or (count[name] > 1 and _accepted(original) != original):
            ending = sha256(original.encode(errors="surrogatepass")).hexdigest()[:_HASH_LENGTH]
            name = f"{name[: _LONGEST_NAME - _HASH_LENGTH - 1]}_{ending}"
        names.append(name)
    return names


def _accepted(name: str) -> str:
    return re.sub("[^A-Za-z0-9_-]", "_", name)


def _tool(session: MCPSession, found: Any, name: str) -> LocalTool:
    try:
        return LocalTool(
            name=name,
            description=found.description or found.title,
            parameters=found.input_schema,
            run=partial(_call, session, found.name),
        )
    except InvalidRequest as error:
        raise InvalidRequest(f"tool {quoted(found.name)} of an MCP session cannot be sent: {error}") from None


async def _call(session: MCPSession, name: str, call: ToolCall) -> ToolResult:
    try:
        result = cast("Any", await session.call_tool(name, dict(call.arguments)))
    except Exception as error:  # of the SDK, of its HTTP client, or of pydantic for a malformed result
        explained = _explained(error)
        if explained is None:
            raise
        raise CallError(cut(explained, _PROBLEM_LIMIT)) from error
    parts = [_part(block) for block in result.content]
    if result.structured_content is not None and not any(isinstance(part, Text) and part.text for part in parts):
        parts.append(Text(text=dumps(result.structured_content).decode()))
    if result.is_error:
        parts = [Text(text=without_keys(part.text)) if isinstance(part, Text) else part for part in parts]
        if not any(isinstance(part, Text) and part.text for part in parts):
            parts.append(Text(text="the tool failed, and its server did not say why"))
    return ToolResult(tool_call_id=call.id, name=call.name, parts=parts, is_error=result.is_error)


def _explained(error: Exception) -> str | None:
    """Return a better text for an exception of the SDK, if its own does not say what is wrong."""
    library = type(error).__module__.partition(".")[0]
    if library == "pydantic_core":  # its text has four lines for each possible type
        problems = cast("Any", error).errors(include_url=False, include_context=False, include_input=False)
        named = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems[:_PROBLEMS])
        more = f" and {len(problems) - _PROBLEMS} more" if len(problems) > _PROBLEMS else ""
        return f"the MCP server sent a result that does not follow the protocol: {named}{more}"
    answered = getattr(error, "error", None) if library == "mcp" else None  # that of JSON-RPC
    details = getattr(answered, "data", None)
    if details is None:
        return None
    text = details if isinstance(details, str) else dumps(details).decode()
    return f"the MCP server answered with an error: {error}: {text}"


def _part(block: Any) -> ToolResultPart:
    match block.type:
        case "text":
            return Text(text=block.text)
        case "image":
            return _media(block.data, block.mime_type, Image)
        case "audio":
            return _media(block.data, block.mime_type, Audio)
        case "resource":
            return _resource(block.resource)
        case _:  # a link, which the model may name in a call
            link = block.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"meta"})
            return Text(text=dumps(link).decode())


def _resource(resource: Any) -> ToolResultPart:
    text = getattr(resource, "text", None)
    if text is not None:
        return Text(text=text)
    path = urlsplit(resource.uri).path or resource.uri
    return _media(resource.blob, resource.mime_type, Document, unquote(path.rstrip("/").rpartition("/")[2]) or None)


_URL_ALPHABET = str.maketrans("-_", "+/")
_TEXT = re.compile(r"text/.+|application/(?:.+\+)?(?:json|xml|yaml)|image/svg\+xml")
"""Media types of text. No provider accepts SVG as an image."""


def _media(
    encoded: str, given: str | None, kind: type[Image | Audio | Document], name: str | None = None
) -> ToolResultPart:
    """Return the part for base64 data. A broken one becomes a text: providers would refuse the whole conversation."""
    media_type = (given or "").partition(";")[0].strip().lower() or None
    encoded = "".join(encoded.split()).rstrip("=").translate(_URL_ALPHABET)
    what = f"{name or 'data'} ({media_type})" if media_type else name or "data"
    try:
        data = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        return Text(text=f"{what} cannot be shown: the MCP server did not send valid base64")
    if not data:
        return Text(text=f"{what} is empty")
    if media_type is not None and _TEXT.fullmatch(media_type):
        try:
            return Text(text=data.decode())
        except UnicodeDecodeError:
            pass
    # Many servers send a wrong type, such as `png`, or `image/png` for a JPEG, which providers refuse.
    media_type = Document(data=data).media_type or (media_type if "/" in (media_type or "") else None)
    group = (media_type or "").partition("/")[0]
    if group == "image" or (media_type is None and kind is Image):
        return Image(data=data, media_type=media_type)
    if group == "audio" or (media_type is None and kind is Audio):
        return Audio(data=data, media_type=media_type)
    return Document(data=data, media_type=media_type, name=name)
