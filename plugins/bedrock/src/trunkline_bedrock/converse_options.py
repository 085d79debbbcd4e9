"""Options of Converse in requests for another API. Pure.

A conversation, and the tools of an application, can go from Converse to another API of the same provider. Their options
under the provider's name then still mean blocks of Converse, and other APIs refuse unknown fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import attrs
from trunkline.authoring.json import JSONObject
from trunkline.authoring.warnings import Warnings
from trunkline.messages import Citation, Message, Opaque, Part, ToolResult
from trunkline.request import ChatRequest, Tool

_OPTIONS: Mapping[str, bool] = {
    "cachePoint": False,
    "guardContent": True,
    "toolAddition": True,
    "toolRemoval": True,
}
"""The options of messages, parts and tools that are blocks of Converse, and whether the answer may depend on them."""

_TOOLS = ("systemTool", "toolSpec")
"""The options of tools that replace the whole tool."""

T = TypeVar("T", bound=Message | Part | Tool)


def without_converse_options(request: ChatRequest, provider: str, warnings: Warnings) -> ChatRequest:
    """Return the request without the blocks of Converse among the options of its messages, parts and tools.

    The options of the request itself stay: they are fields of the body that the caller wants for this call.
    """
    if not any(_owners(request, provider)):
        return request
    messages = tuple(_message(message, provider, warnings) for message in request.messages)
    tools = tuple(_left(tool, provider, warnings) for tool in request.tools if not _is_hosted(tool, provider))
    choice = request.tool_choice
    if len(tools) < len(request.tools):
        warnings.add("left_out", "tools", "only Converse has Bedrock's own tools; left out", lossy=True)
        if not tools or (choice is not None and choice.name not in (None, *(tool.name for tool in tools))):
            choice = None
    return attrs.evolve(request, messages=messages, tools=tools, tool_choice=choice)


def _owners(request: ChatRequest, provider: str) -> Iterable[JSONObject]:
    for message in request.messages:
        yield _options_of(message, provider)
        for part in message.parts:
            yield _options_of(part, provider)
            if isinstance(part, ToolResult):
                yield from (_options_of(inner, provider) for inner in part.parts)
    yield from (_options_of(tool, provider) for tool in request.tools)


def _options_of(owner: Message | Part | Tool, provider: str) -> JSONObject:
    return {} if isinstance(owner, Opaque | Citation) else owner.provider_options.get(provider) or {}


def _is_hosted(tool: Tool, provider: str) -> bool:
    options = _options_of(tool, provider)
    return any(name in options for name in _TOOLS)


def _message(message: Message, provider: str, warnings: Warnings) -> Message:
    parts = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            part = attrs.evolve(part, parts=tuple(_left(inner, provider, warnings) for inner in part.parts))
        parts.append(_left(part, provider, warnings))
    return _left(attrs.evolve(message, parts=tuple(parts)), provider, warnings)


def _left(owner: T, provider: str, warnings: Warnings) -> T:
    options = _options_of(owner, provider)
    found = [name for name in _OPTIONS if name in options]
    if not found or isinstance(owner, Opaque | Citation):
        return owner
    for name in found:
        warnings.add("left_out", name, "only Converse has this option; left out", lossy=_OPTIONS[name])
    kept = {name: value for name, value in options.items() if name not in _OPTIONS}
    return attrs.evolve(owner, provider_options={**owner.provider_options, provider: kept})
