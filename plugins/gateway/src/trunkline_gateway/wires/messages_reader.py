"""Requests of Anthropic's Messages, as the core's requests.

A field that the core has no place for goes into the options of the provider if it speaks this format too. For any
other provider it is left out, and `ignored_fields` names it.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import cast, get_args

import attrs
from trunkline import (
    ChatRequest,
    Citation,
    Document,
    Image,
    Message,
    Opaque,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from trunkline.authoring.json import JSONObject, JSONValue, ProviderOptions, as_object, as_objects, as_string
from trunkline.errors import InvalidRequest
from trunkline.messages import CacheLifetime, Part, ToolResultPart
from trunkline.request import Effort

from trunkline_gateway.problems import GatewayError, invalid
from trunkline_gateway.targets import Target, Wire
from trunkline_gateway.wires.carried import carried_metadata, carried_reasoning, unwrap
from trunkline_gateway.wires.fields import (
    FieldReader,
    RequestReader,
    ignored_names,
    join,
    present,
    shown,
    type_name,
    without,
)

WIRE: Wire = "anthropic-messages"

_KNOWN = frozenset(
    {
        "cache_control",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "output_format",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
_USUAL: Mapping[str, tuple[object, ...]] = {
    "service_tier": ("auto", "standard_only"),
    "speed": ("standard",),
}
"""Values that ask for what happens anyway, so that leaving them out loses nothing."""

_EFFORTS = get_args(Effort)
_TEXT_FIELDS = frozenset({"type", "text"})
_MEDIA_FIELDS = frozenset({"type", "source"})
_DOCUMENT_FIELDS = _MEDIA_FIELDS | {"title"}
_RESULT_FIELDS = frozenset({"type", "tool_use_id", "content", "is_error"})
_CALL_FIELDS = frozenset({"type", "id", "name", "input", "cache_control"})
_THINKING_FIELDS = frozenset({"type", "thinking", "signature"})
_REDACTED_FIELDS = frozenset({"type", "data"})
_TOOL_FIELDS = frozenset({"type", "name", "description", "input_schema", "strict"})
_INNER: Mapping[str, Set[str]] = {
    "tools[]": _TOOL_FIELDS | {"cache_control"},
    "output_config": {"effort", "format"},
    "thinking": {"type", "budget_tokens", "display"},
    "metadata": {"user_id"},
}
"""The fields inside of the request's objects that are read, or that have no effect."""


def read_request(body: JSONObject, target: Target, *, betas: str = "") -> ChatRequest:
    """Read a request. Raises `GatewayError` (`problems.invalid`) that names the field, or a core `InvalidRequest`.

    `betas` is the client's header `anthropic-beta`: features for a provider that speaks this format too.
    """
    return _Reader(target).request(body, betas, needs_limit=True)


def read_count_request(body: JSONObject, target: Target, *, betas: str = "") -> ChatRequest:
    """Read a request to count tokens, which needs no `max_tokens`. See `read_request`."""
    return _Reader(target).request(body, betas, needs_limit=False)


def ignored_fields(body: JSONObject, target: Target) -> tuple[str, ...]:
    """Return the fields of a request that do not reach the provider, since only its own format has them.

    Those of messages are not named.
    """
    same = target.provider_speaking(WIRE) is not None
    return () if same else ignored_names(body, _KNOWN, _USUAL, _INNER)


class _Reader(RequestReader):
    """Reads one request. Tool results need the names of the calls before them."""

    def __init__(self, target: Target) -> None:
        super().__init__(target, WIRE)
        self._same = self._own is not None
        self._provider = target.provider
        self._tool_names: dict[str, str] = {}

    def request(self, body: JSONObject, betas: str, *, needs_limit: bool) -> ChatRequest:
        fields = present(body)
        _read.flag(fields, "stream")
        more: dict[str, JSONValue] = {}
        if self._same and not fields.keys() <= _KNOWN:
            more = without(fields, _KNOWN)
        if betas and (features := _features(betas)):
            more["betas"] = features
        limit = self._limit(fields, more, needed=needs_limit)
        tools = self._tools(fields)
        choice, parallel = self._tool_choice(fields, tools)
        config = _read.optional_object(fields, "output_config") or {}
        form = self._format(fields, config, more)
        reasoning = self._reasoning_options(fields, config, more)
        if self._same and config.keys() - {"effort", "format"}:
            rest = {name: config[name] for name in config.keys() - {"effort", "format"}}
            more["output_config"] = {**as_object(more.get("output_config")), **rest}
        return ChatRequest(
            messages=(*self._system(fields), *self._messages(fields)),
            model=self._target.model,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=parallel,
            response_format=form,
            reasoning=reasoning,
            max_output_tokens=limit,
            temperature=_read.number(fields, "temperature"),
            top_p=_read.number(fields, "top_p"),
            top_k=_read.integer(fields, "top_k"),
            stop=_read.texts(fields, "stop_sequences"),
            cache=self._cache(fields, more),
            user_id=self._user_id(fields, more),
            provider_options=self._options(more),
        )

    def _marked(self, at: str, fields: JSONObject, known: Set[str]) -> tuple[CacheLifetime | None, ProviderOptions]:
        """The cache breakpoint of a block or a tool, and the options of the provider."""
        control = _read.optional_object(fields, "cache_control", at)
        if control is None:
            return None, self._rest(fields, known)
        if self._same and not control.keys() <= {"type", "ttl"}:
            return None, self._rest(fields, known)
        return _lifetime(control), self._rest(fields, known | {"cache_control"})

    # Options

    def _limit(self, fields: JSONObject, more: dict[str, JSONValue], *, needed: bool) -> int | None:
        limit = _read.integer(fields, "max_tokens", least=0)
        if limit is None and needed:
            raise _missing("max_tokens")
        if limit == 0:  # fills the cache without an answer
            if not self._same:
                raise invalid("'max_tokens' must be at least 1.", param="max_tokens")
            more["max_tokens"] = 0
            return None
        return limit

    def _cache(self, fields: JSONObject, more: dict[str, JSONValue]) -> CacheLifetime | None:
        control = _read.optional_object(fields, "cache_control")
        if control is None:
            return None
        if self._same:
            more["cache_control"] = control
            return None
        return _lifetime(control)

    def _user_id(self, fields: JSONObject, more: dict[str, JSONValue]) -> str | None:
        metadata = _read.optional_object(fields, "metadata") or {}
        if self._same and metadata.keys() - {"user_id"}:
            more["metadata"] = {name: metadata[name] for name in metadata.keys() - {"user_id"}}
        return _read.text(metadata, "user_id", "metadata")

    def _format(self, fields: JSONObject, config: JSONObject, more: dict[str, JSONValue]) -> ResponseFormat | None:
        at, form = "output_config.format", _read.optional_object(config, "format", "output_config")
        if form is None:
            at, form = "output_format", _read.optional_object(fields, "output_format")  # of an older beta version
        if form is None:
            return None
        kind = _read.required_text(form, "type", at)
        if kind == "json_schema":
            return ResponseFormat(schema=_read.required_object(form, "schema", at))
        if not self._same:
            raise _unsupported_value(f"{at}.type", kind, ("json_schema",))
        more["output_config"] = {"format": form}
        return None

    def _reasoning_options(
        self, fields: JSONObject, config: JSONObject, more: dict[str, JSONValue]
    ) -> ReasoningOptions | None:
        thinking, effort = _read.optional_object(fields, "thinking"), _read.text(config, "effort", "output_config")
        if effort is not None and effort not in _EFFORTS:
            if not self._same:
                raise _unsupported_value("output_config.effort", effort, _EFFORTS)
            _pass_effort(effort, more)
            effort = None
        level = cast("Effort | None", effort)
        kind = None if thinking is None else _read.required_text(thinking, "type", "thinking")
        if thinking is None or kind == "disabled":
            if effort is not None and self._same:
                # It holds for the whole answer, and does not turn thinking on.
                _pass_effort(effort, more)
                level = None
            if kind == "disabled":
                return ReasoningOptions(effort="none")
            return None if level is None else ReasoningOptions(effort=level)
        display, read = thinking.get("display"), {"type", "display"}
        budget = None
        if kind == "enabled":
            budget, read = _read.integer(thinking, "budget_tokens", "thinking", least=1), read | {"budget_tokens"}
            if budget is None:
                raise _missing("thinking.budget_tokens")
        elif kind != "adaptive" and not self._same:
            raise _unsupported_value("thinking.type", str(kind), ("enabled", "adaptive", "disabled"))
        options = ReasoningOptions(max_tokens=budget, effort=level, summary="auto" if display == "summarized" else None)
        is_whole = kind in ("enabled", "adaptive") and thinking.keys() <= read and display in (None, "summarized")
        if self._same and (not is_whole or options == ReasoningOptions()):
            more["thinking"] = thinking
            if options == ReasoningOptions():
                return None
        # Effort is high if a request does not say it (Anthropic's documentation of `effort`, 2026-11).
        return ReasoningOptions(effort="high") if options == ReasoningOptions() else options

    def _tools(self, fields: JSONObject) -> tuple[Tool, ...]:
        names: set[str] = set()
        return tuple(self._tool(at, tool, names) for at, tool in _read.objects(fields, "tools"))

    def _tool(self, at: str, tool: JSONObject, names: set[str]) -> Tool:
        kind = _read.text(tool, "type", at) or "custom"
        if kind == "custom":
            cache, options = self._marked(at, tool, _TOOL_FIELDS)
            name = _read.required_text(tool, "name", at)
            _add_name(name, at, names)
            return Tool(
                name=name,
                description=_read.text(tool, "description", at),
                parameters=_read.required_object(tool, "input_schema", at),
                strict=_read.flag(tool, "strict", at),
                cache=cache,
                provider_options=options,
            )
        if not self._same:
            raise invalid(
                f"'{at}.type': the tool {shown(kind)} is Anthropic's own, and the model {shown(self._target.name)} "
                "does not have it. Use a tool with an 'input_schema' instead.",
                param=f"{at}.type",
                code="unsupported",
            )
        # A tool that Anthropic defines. The core wants a name for it, and a set of MCP tools has none.
        name = as_string(tool.get("name")) or f"{kind} {as_string(tool.get('mcp_server_name')) or at}"
        _add_name(name, at, names)
        return Tool(name=name, provider_options=self._options(tool))

    def _tool_choice(self, fields: JSONObject, tools: tuple[Tool, ...]) -> tuple[ToolChoice | None, bool | None]:
        at, choice = "tool_choice", _read.optional_object(fields, "tool_choice")
        if choice is None:
            return None, None
        kind = _read.required_text(choice, "type", at)
        parallel = False if _read.flag(choice, "disable_parallel_tool_use", at) else None
        if kind in ("auto", "none"):
            return ToolChoice(mode=kind), parallel  # type: ignore[arg-type]  # checked just above
        if kind == "any":
            if not tools:
                raise invalid("'tool_choice' is 'any', but there are no 'tools'.", param=at)
            return ToolChoice(mode="required"), parallel
        if kind != "tool":
            raise _unsupported_value(f"{at}.type", kind, ("auto", "any", "tool", "none"))
        name = _read.required_text(choice, "name", at)
        if all(tool.name != name for tool in tools):
            raise invalid(f"'tool_choice' names the tool {shown(name)}, which is not in 'tools'.", param=f"{at}.name")
        return ToolChoice.tool(name), parallel

    # Messages

    def _system(self, fields: JSONObject) -> Iterator[Message]:
        system = fields.get("system")
        if system is None or system == "" or system == []:
            return
        parts = tuple(part for at, block in _blocks(fields, "system") for part in self._input(at, block))
        yield Message(role="system", parts=parts)

    def _messages(self, fields: JSONObject) -> tuple[Message, ...]:
        if "messages" not in fields:
            raise _missing("messages")
        messages = tuple(
            message for at, given in _read.objects(fields, "messages") for message in self._message(at, given)
        )
        if not messages:
            raise invalid("'messages' must have at least one message.", param="messages")
        return messages

    def _message(self, at: str, fields: JSONObject) -> Iterator[Message]:
        role = _read.required_text(fields, "role", at)
        if fields.get("content") is None:
            raise _missing(f"{at}.content")
        if role == "user":
            yield from self._user(at, fields)
        elif role == "assistant":
            yield self._assistant(at, fields)
        elif role == "system":
            parts = tuple(part for where, block in _blocks(fields, "content", at) for part in self._input(where, block))
            yield Message(role="system", parts=parts, provider_options=self._options({"role": "system"}))
        else:
            raise _unsupported_value(f"{at}.role", role, ("user", "assistant", "system"))

    def _user(self, at: str, fields: JSONObject) -> Iterator[Message]:
        """A user message, before and after the tool results in it."""
        parts: list[Part] = []
        is_empty = True
        for where, block in _blocks(fields, "content", at):
            if block.get("type") != "tool_result":
                parts += self._input(where, block)
                continue
            is_empty = False
            if parts:
                yield Message(role="user", parts=tuple(parts))
                parts = []
            yield Message(role="tool", parts=(self._result(where, block),))
        if parts or is_empty:
            yield Message(role="user", parts=tuple(parts))

    def _result(self, at: str, block: JSONObject) -> ToolResult:
        call_id = _read.required_text(block, "tool_use_id", at)
        cache, options = self._marked(at, block, _RESULT_FIELDS)
        parts = [
            part
            for where, item in _blocks(block, "content", at)
            for part in self._input(where, item)
            if not (isinstance(part, Text) and not part.text)
        ]
        return ToolResult(
            tool_call_id=call_id,
            name=self._tool_names.get(call_id),
            parts=cast("tuple[ToolResultPart, ...]", tuple(parts)),
            is_error=_read.flag(block, "is_error", at) or False,
            cache=cache,
            provider_options=options,
        )

    def _input(self, at: str, block: JSONObject) -> Iterator[Part]:
        """A block of a user message, a system prompt or a tool result."""
        kind = _read.required_text(block, "type", at)
        if kind == "text":
            cache, options = self._marked(at, block, _TEXT_FIELDS)
            yield Text(text=_read.required_text(block, "text", at), cache=cache, provider_options=options)
        elif kind == "image" or kind == "document":
            try:
                yield from self._image(at, block) if kind == "image" else self._document(at, block)
            except InvalidRequest as error:
                raise invalid(f"'{at}' cannot be read: {error}", param=at) from None
        elif self._own is not None:
            yield Opaque(provider=self._own, kind=kind, data=dict(block))
        elif kind == "search_result":
            found = "\n".join(
                _read.required_text(item, "text", where) for where, item in _read.objects(block, "content", at)
            )
            cache, _ = self._marked(at, block, frozenset())
            heading = [text for name in ("title", "source") if (text := _read.text(block, name, at))]
            yield Text(text="\n".join([*heading, found]), cache=cache)
        else:
            raise _unsupported_value(f"{at}.type", kind, ("text", "image", "document", "search_result", "tool_result"))

    def _image(self, at: str, block: JSONObject) -> Iterator[Part]:
        cache, options = self._marked(at, block, _MEDIA_FIELDS)
        source = _read.required_object(block, "source", at)
        at = f"{at}.source"
        kind = _read.required_text(source, "type", at)
        if kind == "base64":
            yield Image(
                data=_decoded(source, at),
                media_type=_read.text(source, "media_type", at),
                cache=cache,
                provider_options=options,
            )
        elif kind == "url":
            yield Image(url=_read.required_text(source, "url", at), cache=cache, provider_options=options)
        elif kind == "file":
            yield Image(file_id=_read.required_text(source, "file_id", at), cache=cache, provider_options=options)
        else:
            yield self._own_block(f"{at}.type", block, kind, ("base64", "url", "file"))

    def _document(self, at: str, block: JSONObject) -> Iterator[Part]:
        cache, options = self._marked(at, block, _DOCUMENT_FIELDS)
        title = _read.text(block, "title", at)
        if not self._same and (context := _read.text(block, "context", at)):
            yield Text(text=context)
        source = _read.required_object(block, "source", at)
        at = f"{at}.source"
        kind = _read.required_text(source, "type", at)
        if kind == "base64":
            yield Document(
                data=_decoded(source, at),
                media_type=_read.text(source, "media_type", at) or "application/pdf",
                name=title,
                cache=cache,
                provider_options=options,
            )
        elif kind == "text":
            yield Document(
                data=_encoded(_read.required_text(source, "data", at), f"{at}.data"),
                media_type=_read.text(source, "media_type", at) or "text/plain",
                name=title,
                cache=cache,
                provider_options=options,
            )
        elif kind == "url":
            yield Document(
                url=_read.required_text(source, "url", at), name=title, cache=cache, provider_options=options
            )
        elif kind == "file":
            yield Document(
                file_id=_read.required_text(source, "file_id", at), name=title, cache=cache, provider_options=options
            )
        elif kind == "content" and not self._same:
            if title:
                yield Text(text=title)
            for where, item in _blocks(source, "content", at):
                yield from self._input(where, item)
        else:
            yield self._own_block(f"{at}.type", block, kind, ("base64", "text", "url", "content", "file"))

    def _own_block(self, at: str, block: JSONObject, kind: str, supported: Iterable[str]) -> Opaque:
        """A block that only Anthropic's API understands."""
        if self._own is None:
            raise _unsupported_value(at, kind, supported)
        return Opaque(provider=self._own, kind=str(block["type"]), data=dict(block))

    def _assistant(self, at: str, fields: JSONObject) -> Message:
        parts: list[Part] = []
        blocks = list(_blocks(fields, "content", at))
        carried = _carried_calls(blocks)
        length = 0
        last_text: int | None = None  # where the text is that the block before was for
        for where, block in blocks:
            kind = _read.required_text(block, "type", where)
            before, last_text = last_text, None
            if kind == "text":
                text = _read.required_text(block, "text", where)
                last_text = len(parts)
                parts += self._answer(where, block, text, length)
                length += len(text)
            elif kind == "thinking":
                parts.append(self._thinking(where, block))
            elif kind == "redacted_thinking":
                found = self._redacted(where, block)
                if isinstance(found, Mapping):
                    at_text = None if before is None or found.get("alone") is True else parts[before]
                    text_part = _with_carried(at_text if isinstance(at_text, Text) else None, found)
                    if before is None or at_text is None:
                        parts.append(text_part)
                    else:
                        parts[before] = text_part
                elif found is not None:
                    parts.append(found)
            elif kind == "tool_use":
                parts.append(self._call(where, block, carried))
            elif kind in ("image", "document"):
                parts += self._input(where, block)
            else:
                # Another provider's model gets the conversation without the blocks that only Anthropic understands.
                provider = self._own or WIRE
                parts.append(Opaque(provider=provider, kind=kind, data=dict(block)))
        return Message(role="assistant", parts=tuple(parts))

    def _answer(self, at: str, block: JSONObject, text: str, start: int) -> Iterator[Part]:
        cache, options = self._marked(at, block, _TEXT_FIELDS | {"citations"})
        citations = as_objects(block.get("citations"))
        metadata: ProviderOptions = self._options({"citations": citations}) if citations else {}
        yield Text(text=text, cache=cache, provider_options=options, provider_metadata=metadata)
        for citation in citations:
            url = as_string(citation.get("url")) or as_string(citation.get("source")) or ""
            yield Citation(
                url=url if url.startswith(("http://", "https://")) else None,
                title=as_string(citation.get("title")) or as_string(citation.get("document_title")) or None,
                cited_text=as_string(citation.get("cited_text")) or None,
                start=start,
                end=start + len(text),
                provider_metadata=self._options(citation),
            )

    def _thinking(self, at: str, block: JSONObject) -> Reasoning:
        text, signature = _read.required_text(block, "thinking", at), _read.text(block, "signature", at) or None
        wrapped = unwrap(signature) if signature is not None else None
        if wrapped is not None:
            return carried_reasoning(wrapped, text)
        # A signature that another provider made says nothing to this one.
        provider = self._provider if self._same or signature is None else None
        return Reasoning(
            text=text,
            provider=provider,
            signature=signature,
            provider_metadata=self._rest(block, _THINKING_FIELDS),
        )

    def _redacted(self, at: str, block: JSONObject) -> Part | JSONObject | None:
        """Encrypted thinking, or the data that a `redacted_thinking` of this gateway carries."""
        data = _read.required_text(block, "data", at)
        fields = unwrap(data)
        if fields is None:
            return Reasoning(
                provider=self._own,
                encrypted=data,
                redacted=True,
                provider_metadata=self._rest(block, _REDACTED_FIELDS),
            )
        carries = fields.get("carries")
        if carries == "call":
            return None  # see `_carried_calls`
        if carries == "text":
            return fields
        if carries == "opaque":
            kind, content, provider = fields.get("kind"), fields.get("content"), as_string(fields["provider"])
            if not isinstance(kind, str) or not isinstance(content, dict) or provider is None:
                return None
            return Opaque(
                provider=provider,
                kind=kind,
                data=content,
                family=as_string(fields["family"]),
                awaits_answer=fields.get("awaits_answer") is True,
            )
        return carried_reasoning(fields, as_string(fields.get("text")) or "")

    def _call(self, at: str, block: JSONObject, carried: Mapping[str, JSONObject]) -> ToolCall:
        call_id, name = _read.required_text(block, "id", at), _read.required_text(block, "name", at)
        self._tool_names[call_id] = name
        fields = carried.get(call_id)
        metadata = self._rest(block, _CALL_FIELDS)
        return ToolCall(
            id=call_id,
            name=name,
            arguments=_read.required_object(block, "input", at),
            family=None if fields is None else as_string(fields["family"]),
            provider_options=self._rest(block, block.keys() - {"cache_control"}),
            provider_metadata=metadata if fields is None else {**metadata, **carried_metadata(fields)},
        )


def _features(header: str) -> list[JSONValue]:
    names = dict.fromkeys(name.strip() for name in header.split(","))
    return [name for name in names if name and name.isascii() and name.isprintable()]


def _add_name(name: str, at: str, names: set[str]) -> None:
    if name in names:
        raise invalid(f"'{at}.name': another tool has the name {shown(name)} too.", param=f"{at}.name")
    names.add(name)


def _pass_effort(effort: str, more: dict[str, JSONValue]) -> None:
    more["output_config"] = {**as_object(more.get("output_config")), "effort": effort}


def _carried_calls(blocks: Iterable[tuple[str, JSONObject]]) -> Mapping[str, JSONObject]:
    """The metadata of tool calls in a message, by the ids of the calls."""
    carried: dict[str, JSONObject] = {}
    for _, block in blocks:
        data = block.get("data") if block.get("type") == "redacted_thinking" else None
        fields = unwrap(data) if isinstance(data, str) else None
        if fields is not None and fields.get("carries") == "call" and isinstance(call := fields.get("call"), str):
            carried[call] = fields
    return carried


def _with_carried(text: Text | None, fields: JSONObject) -> Text:
    """A text with the metadata that a `redacted_thinking` carries for it. `None` stands for a text without a block."""
    family, metadata = as_string(fields["family"]), carried_metadata(fields)
    if text is None:
        return Text(text="", family=family, provider_metadata=metadata)
    return attrs.evolve(text, family=family, provider_metadata={**text.provider_metadata, **metadata})


def _lifetime(control: JSONObject) -> CacheLifetime:
    return "1h" if control.get("ttl") == "1h" else "5m"


def _decoded(source: JSONObject, at: str) -> bytes:
    try:
        return b64decode(_read.required_text(source, "data", at), validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"'{at}.data' is not base64.", param=f"{at}.data") from None


def _encoded(text: str, at: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise invalid(f"'{at}' has half of a surrogate pair, which is not Unicode text.", param=at) from None


def _blocks(fields: JSONObject, name: str, at: str = "") -> Iterator[tuple[str, JSONObject]]:
    """The blocks of a field that may also be a string."""
    content = fields.get(name)
    if isinstance(content, str):
        yield join(at, name), {"type": "text", "text": content}
        return
    if content is not None and not isinstance(content, list):
        raise _wrong_type(join(at, name), "a string or an array of objects", content)
    yield from _read.objects(fields, name, at)


# Anthropic's API names a place as in `messages.0.content.1.text`.


def _wrong_type(at: str, expected: str, value: object) -> GatewayError:
    return invalid(f"'{at}' must be {expected}, not {type_name(value)}.", param=at)


def _out_of_range(at: str, expected: str, code: str) -> GatewayError:
    return invalid(f"'{at}' must be {expected}.", param=at)


def _missing(at: str) -> GatewayError:
    return invalid(f"The field '{at}' is missing.", param=at)


def _unsupported_value(at: str, value: str, supported: Iterable[str]) -> GatewayError:
    names = ", ".join(f"'{one}'" for one in supported)
    return invalid(f"'{at}' is {shown(value)}, but it must be one of {names}.", param=at)


_read = FieldReader(wrong_type=_wrong_type, missing=_missing, out_of_range=_out_of_range, place="{}.{}")
