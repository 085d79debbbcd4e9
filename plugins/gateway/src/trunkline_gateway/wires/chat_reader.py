"""Requests of OpenAI's Chat Completions, as the core's requests.

A field that the core has no place for goes into the options of the provider if it speaks this format too. For any
other provider it is left out, and `ignored_fields` names it.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import TypeAlias, cast, get_args

from trunkline import (
    Audio,
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
from trunkline.authoring.json import JSONObject, JSONValue, ProviderOptions, as_count, as_object, as_string
from trunkline.errors import InvalidRequest
from trunkline.fold import decode_arguments
from trunkline.messages import CacheLifetime, Part, ToolResultPart
from trunkline.request import Effort

from trunkline_gateway.problems import invalid
from trunkline_gateway.targets import Target, Wire
from trunkline_gateway.wires.carried import carried_metadata, carried_reasoning, unwrap
from trunkline_gateway.wires.fields import RequestReader, ignored_names, present, shown, without
from trunkline_gateway.wires.openai_fields import READER as _read, missing, unsupported_value, wrong_type

WIRE: Wire = "openai-chat"

CARRIED = "trunkline"
"""The name of the gateway's own data in `extra_content`."""

OWN_AUDIO = "audio-gateway-"
"""How the id of audio begins that has none from the provider, so that it is not sent to one."""

_KNOWN = frozenset(
    {
        "frequency_penalty",
        "function_call",
        "functions",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
        "user",
    }
)
_USUAL: Mapping[str, tuple[object, ...]] = {
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "store": (False,),
}
"""Values that ask for what happens anyway, so that leaving them out loses nothing."""

_EFFORTS = get_args(Effort)
_CACHE_FIELDS = frozenset({"cache_control", "prompt_cache_breakpoint"})
_FUNCTION_FIELDS = frozenset({"name", "description", "parameters", "strict"})
_FORMAT_FIELDS = frozenset({"type", "json_schema", "schema"})
_SCHEMA_FIELDS = frozenset({"name", "description", "schema", "strict"})
_STREAM_FIELDS = frozenset({"include_usage", "include_obfuscation"})
_INNER: Mapping[str, Set[str]] = {
    "tools[]": {"type", "function", "custom", *_CACHE_FIELDS},
    "tools[].function": _FUNCTION_FIELDS,
    "response_format": _FORMAT_FIELDS,
    "response_format.json_schema": _SCHEMA_FIELDS,
    "stream_options": _STREAM_FIELDS,
}
"""The fields inside of the request's objects that are read, or that have no effect."""

_MESSAGE_FIELDS = frozenset({"role", "content", "name"})
_ASSISTANT_FIELDS = _MESSAGE_FIELDS | {
    "annotations",
    "audio",
    "extra_content",
    "function_call",
    "images",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "refusal",
    "tool_calls",
}
_CALL_FIELDS = frozenset({"id", "type", "function", "custom", "index", "extra_content"})


def read_request(body: JSONObject, target: Target) -> ChatRequest:
    """Read a request. Raises `GatewayError` (`problems.invalid`) that names the field, or a core `InvalidRequest`."""
    return _Reader(target).request(body)


def ignored_fields(body: JSONObject, target: Target) -> tuple[str, ...]:
    """Return the fields of a request that do not reach the provider, since only its own format has them.

    Those of messages are not named.
    """
    return () if target.wire == WIRE else ignored_names(body, _KNOWN, _USUAL, _INNER)


def custom_tools(body: JSONObject) -> frozenset[str]:
    """Return the names of the request's custom tools, whose calls have text instead of JSON, for the writers."""
    tools = body.get("tools")
    if not isinstance(tools, list):
        return frozenset()
    custom = (as_object(as_object(tool).get("custom")) for tool in tools if as_object(tool).get("type") == "custom")
    return frozenset(name for tool in custom if isinstance(name := tool.get("name"), str))


def wants_usage(body: JSONObject) -> bool:
    """Whether a stream has to end with a chunk of usage."""
    return as_object(body.get("stream_options")).get("include_usage") is True


class _Reader(RequestReader):
    """Reads one request. Tool results need the names of the calls before them."""

    def __init__(self, target: Target) -> None:
        super().__init__(target, WIRE)
        self._same = self._own is not None
        self._provider = target.provider
        self._tool_names: dict[str, str] = {}
        self._function_calls: dict[str, str] = {}

    def request(self, body: JSONObject) -> ChatRequest:
        fields = present(body)
        if fields.get("n", 1) != 1:
            raise invalid("Only one choice can be asked for: 'n' must be 1.", param="n", code="unsupported_value")
        for name, instead in (("functions", "tools"), ("function_call", "tool_choice")):
            if name in fields:
                raise invalid(f"'{name}' is no longer supported. Use '{instead}'.", param=name, code="unsupported")
        is_stream = _read.flag(fields, "stream")
        stream_options = _read.optional_object(fields, "stream_options") or {}
        more: dict[str, JSONValue] = {}
        if self._same and not fields.keys() <= _KNOWN:
            more = without(fields, _KNOWN)
        if self._same and is_stream and not stream_options.keys() <= _STREAM_FIELDS:
            more["stream_options"] = {**stream_options, "include_usage": True}  # by which the gateway counts
        tools = self._tools(fields)
        tools, choice = self._tool_choice(fields, tools, more)
        return ChatRequest(
            messages=self._messages(fields),
            model=self._target.model,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=_read.flag(fields, "parallel_tool_calls"),
            response_format=self._response_format(fields, more),
            reasoning=self._reasoning_options(fields, more),
            max_output_tokens=self._max_tokens(fields),
            temperature=_read.number(fields, "temperature"),
            top_p=_read.number(fields, "top_p"),
            top_k=_read.integer(fields, "top_k"),
            stop=_stop(fields),
            seed=_read.integer(fields, "seed"),
            frequency_penalty=_read.number(fields, "frequency_penalty"),
            presence_penalty=_read.number(fields, "presence_penalty"),
            logprobs=_read.flag(fields, "logprobs"),
            top_logprobs=_read.integer(fields, "top_logprobs", least=0),
            cache_key=_read.text(fields, "prompt_cache_key"),
            user_id=_read.text(fields, "safety_identifier") or _read.text(fields, "user"),
            metadata=_read.text_values(fields, "metadata"),
            provider_options=self._options(more),
        )

    @staticmethod
    def _max_tokens(fields: JSONObject) -> int | None:
        name = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
        return _read.integer(fields, name, least=1)

    def _reasoning_options(self, fields: JSONObject, more: dict[str, JSONValue]) -> ReasoningOptions | None:
        effort = _read.text(fields, "reasoning_effort")
        if effort is None:
            return None
        if effort not in _EFFORTS and self._same:
            more["reasoning_effort"] = effort
            return None
        if effort not in _EFFORTS:
            raise unsupported_value("reasoning_effort", effort, _EFFORTS)
        return ReasoningOptions(effort=cast("Effort", effort))

    def _response_format(self, fields: JSONObject, more: dict[str, JSONValue]) -> ResponseFormat | None:
        form = _read.optional_object(fields, "response_format")
        if form is None:
            return None
        at = "response_format"
        kind = _read.required_text(form, "type", at)
        inner = as_object(form.get("json_schema"))
        if self._same and not (form.keys() <= _FORMAT_FIELDS and inner.keys() <= _SCHEMA_FIELDS):
            more[at] = fields[at]
            return None
        if kind == "text":
            return None
        if kind == "json_object":
            schema = form.get("schema")  # llama.cpp and others take a schema here
            return ResponseFormat(schema=_schema(schema, f"{at}.schema")) if schema else ResponseFormat(type="json")
        if kind != "json_schema":
            if self._same:
                more[at] = fields[at]
                return None
            raise unsupported_value(f"{at}.type", kind, ("text", "json_object", "json_schema"))
        given = _read.required_object(form, "json_schema", at)
        at = f"{at}.json_schema"
        return ResponseFormat(
            schema=_schema(given.get("schema", {}), f"{at}.schema"),
            name=_read.required_text(given, "name", at),
            description=_read.text(given, "description", at),
            strict=_read.flag(given, "strict", at),
        )

    def _tools(self, fields: JSONObject) -> tuple[Tool, ...]:
        tools: dict[str, Tool] = {}
        for at, tool in _read.objects(fields, "tools"):
            read = self._tool(at, tool)
            if tools.setdefault(read.name, read) is not read:
                raise invalid(f"'{at}' has the same name as a tool before it: {shown(read.name)}.", param=at)
        return tuple(tools.values())

    def _tool(self, at: str, tool: JSONObject) -> Tool:
        kind = "function" if "type" not in tool and "function" in tool else _read.required_text(tool, "type", at)
        if kind == "function":
            function = _read.required_object(tool, "function", at)
            inner = f"{at}.function"
            name = _read.required_text(function, "name", inner)
            description = _read.text(function, "description", inner)
            strict = _read.flag(function, "strict", inner)
            # A function with fields that are not known passes as it is.
            options = self._rest(tool, {"type", "function"} if function.keys() <= _FUNCTION_FIELDS else {"type"})
            cache = None if self._same else _lifetime(tool)
            if not function.get("parameters"):
                return Tool(name=name, description=description, strict=strict, cache=cache, provider_options=options)
            parameters = _schema(function["parameters"], f"{inner}.parameters")
            return Tool(
                name=name,
                description=description,
                parameters=parameters,
                strict=strict,
                cache=cache,
                provider_options=options,
            )
        if kind == "custom":
            custom = _read.required_object(tool, "custom", at)
            return Tool(
                name=_read.required_text(custom, "name", f"{at}.custom"),
                description=_with_grammar(custom, f"{at}.custom"),
                parameters=_CUSTOM_PARAMETERS,
                provider_options=self._options(tool),
            )
        if self._same:
            # A tool that the provider runs itself. The core wants a name for it.
            return Tool(name=as_string(tool.get("name")) or kind, provider_options=self._options(tool))
        raise unsupported_value(f"{at}.type", kind, ("function", "custom"))

    def _tool_choice(
        self, fields: JSONObject, tools: tuple[Tool, ...], more: dict[str, JSONValue]
    ) -> tuple[tuple[Tool, ...], ToolChoice | None]:
        at, value = "tool_choice", fields.get("tool_choice")
        if value is None:
            return tools, None
        if isinstance(value, str):
            if value == "any":  # Mistral's word
                value = "required"
            if value not in ("none", "auto", "required"):
                raise unsupported_value(at, value, ("none", "auto", "required"))
            if value == "required" and not tools:
                raise invalid("'tool_choice' is 'required', but there are no 'tools'.", param=at)
            return tools, ToolChoice(mode=value)  # type: ignore[arg-type]  # checked just above
        choice = _read.object(value, at, "a string or an object")
        kind = _read.required_text(choice, "type", at)
        if kind in ("function", "custom"):
            name = _read.required_text(_read.required_object(choice, kind, at), "name", f"{at}.{kind}")
            if all(tool.name != name for tool in tools):
                raise invalid(f"'tool_choice' names the tool {shown(name)}, which is not in 'tools'.", param=at)
            return tools, ToolChoice.tool(name)
        if kind != "allowed_tools":
            if self._same:
                more[at] = value
                return tools, None
            raise unsupported_value(f"{at}.type", kind, ("function", "custom", "allowed_tools"))
        allowed = _read.required_object(choice, "allowed_tools", at)
        at = f"{at}.allowed_tools"
        mode = _read.required_text(allowed, "mode", at)
        if mode not in ("auto", "required"):
            raise unsupported_value(f"{at}.mode", mode, ("auto", "required"))
        names = {self._allowed_name(where, tool) for where, tool in _read.objects(allowed, "tools", at)}
        if unknown := sorted(names.difference(tool.name for tool in tools)):
            raise invalid(
                f"'{at}.tools' has the tool {shown(unknown[0])}, which is not in 'tools'.", param=f"{at}.tools"
            )
        if self._same:
            more["tool_choice"] = value  # which keeps the cached prompt valid
            return tools, None
        tools = tuple(tool for tool in tools if tool.name in names)
        return tools, ToolChoice(mode=mode if tools else "auto")  # type: ignore[arg-type]  # checked above

    @staticmethod
    def _allowed_name(at: str, tool: JSONObject) -> str:
        kind = _read.required_text(tool, "type", at)
        if kind in ("function", "custom"):
            return _read.required_text(_read.required_object(tool, kind, at), "name", f"{at}.{kind}")
        return as_string(tool.get("name")) or kind

    def _messages(self, fields: JSONObject) -> tuple[Message, ...]:
        if "messages" not in fields:
            raise missing("messages")
        messages = tuple(self._message(at, message) for at, message in _read.objects(fields, "messages"))
        if not messages:
            raise invalid("'messages' must have at least one message.", param="messages", code="empty_array")
        return messages

    def _message(self, at: str, fields: JSONObject) -> Message:
        role = fields.get("role")
        if role == "user" or role == "system" or role == "developer":
            return Message(
                role="user" if role == "user" else "system",
                parts=self._content(at, fields, _INPUT_PARTS),
                name=_read.text(fields, "name", at),
                provider_options=self._rest(fields, _MESSAGE_FIELDS),
            )
        if role == "assistant":
            return self._assistant(at, fields)
        if role == "tool":
            call_id = _read.required_text(fields, "tool_call_id", at)
            return self._tool_result(at, fields, call_id, self._tool_names.get(call_id))
        if role == "function":
            name = _read.required_text(fields, "name", at)
            if name not in self._function_calls:
                raise invalid(f"'{at}' is the result of a function that was not called before it.", param=at)
            return self._tool_result(at, fields, self._function_calls[name], name)
        if not isinstance(role, str):
            raise wrong_type(f"{at}.role", "a string", role)
        raise unsupported_value(f"{at}.role", role, ("system", "developer", "user", "assistant", "tool", "function"))

    def _tool_result(self, at: str, fields: JSONObject, call_id: str, name: str | None) -> Message:
        result = ToolResult(
            tool_call_id=call_id,
            name=name,
            parts=cast("tuple[ToolResultPart, ...]", self._content(at, fields, _INPUT_PARTS)),
            provider_options=self._rest(fields, _MESSAGE_FIELDS | {"tool_call_id"}),
        )
        return Message(role="tool", parts=(result,))

    def _content(self, at: str, fields: JSONObject, kinds: Mapping[str, PartReader]) -> tuple[Part, ...]:
        content = fields.get("content")
        if isinstance(content, str):
            return (Text(text=content),)
        if content is None:
            raise missing(f"{at}.content")
        if not isinstance(content, list):
            raise wrong_type(f"{at}.content", "a string or an array of objects", content)
        return tuple(self._part(where, part, kinds) for where, part in _read.objects(fields, "content", at))

    def _part(self, at: str, fields: JSONObject, kinds: Mapping[str, PartReader]) -> Part:
        kind = _read.required_text(fields, "type", at)
        read = kinds.get(kind)
        if read is None or (self._same and _has_web_address(fields)):
            if self._own is not None and kind not in _ANSWER_PARTS.keys() - {"file"}:
                return Opaque(provider=self._own, kind=kind, data=fields)
            raise unsupported_value(f"{at}.type", kind, kinds)
        options = self._rest(fields, {"type", kind, "index"})
        payload, inner = fields.get(kind), _INNER_FIELDS.get(kind)
        if self._same and inner and isinstance(payload, dict) and not payload.keys() <= inner:
            # Options replace whole fields of a part, so a field with an unknown one inside is kept as it is.
            options = self._options({**as_object(options.get(self._provider or "")), kind: payload})
        if kind == "thinking" and kind in kinds:
            return self._thinking(at, fields)
        try:
            return read(at, fields, options, None if self._same else _lifetime(fields))
        except InvalidRequest as error:
            raise invalid(f"'{at}' cannot be read: {error}", param=at) from None
        except (binascii.Error, ValueError):
            raise invalid(f"'{at}.{kind}' has data that is not base64.", param=f"{at}.{kind}") from None

    def _thinking(self, at: str, fields: JSONObject) -> Reasoning:
        """Reasoning among the content, as Mistral has it."""
        value = fields.get("thinking")
        items = value if isinstance(value, list) else [value]
        texts = [item if isinstance(item, str) else as_string(as_object(item).get("text")) for item in items]
        signature = _read.text(fields, "signature", at)
        return Reasoning(
            text="".join(text for text in texts if text is not None),
            provider=self._provider,
            signature=signature if self._same else None,
        )

    def _assistant(self, at: str, fields: JSONObject) -> Message:
        parts: list[Part] = []
        if not fields.keys() <= _PLAIN_ASSISTANT:
            parts += self._reasoning(at, fields)
        content = fields.get("content")
        extra = as_object(fields.get("extra_content"))
        if content is not None and content != "":
            parts += self._content(at, fields, _ANSWER_PARTS)
        if extra:
            parts = self._with_extra(parts, extra)
        if refusal := _read.text(fields, "refusal", at):
            parts.append(Text(text=refusal, refusal=True))
        if not fields.keys() <= _PLAIN_ASSISTANT:
            parts += self._additions(at, fields)
        parts += [self._tool_call(where, call) for where, call in _read.objects(fields, "tool_calls", at)]
        if "function_call" in fields:
            parts.append(self._function_call(at, _read.required_object(fields, "function_call", at)))
        return Message(
            role="assistant",
            parts=tuple(parts),
            name=_read.text(fields, "name", at),
            provider_options=self._rest(fields, _ASSISTANT_FIELDS),
        )

    def _reasoning(self, at: str, fields: JSONObject) -> Iterator[Reasoning]:
        text = _read.text(fields, "reasoning_content", at) or _read.text(fields, "reasoning", at) or ""
        own: list[JSONValue] = []
        position, carried = 0, False
        for _, detail in _read.objects(fields, "reasoning_details", at):
            data = detail.get("data")
            wrapped = unwrap(data) if isinstance(data, str) else None
            if wrapped is None:
                own.append(dict(detail))
                continue
            part, carried = carried_reasoning(wrapped, as_string(wrapped.get("text")) or ""), True
            found = as_count(wrapped.get("at"))
            if found is None or found < position or not text.startswith(part.text, found):
                position = len(text)  # the client changed the text, so what it belongs to is not known
            else:
                if found > position:
                    yield Reasoning(text=text[position:found], provider=self._provider)
                position = found + len(part.text)
            yield part
        if own:
            yield self._detailed(text[position:] if carried else text, own)
        elif position < len(text):
            yield Reasoning(text=text[position:], provider=self._provider)

    def _detailed(self, text: str, details: list[JSONValue]) -> Reasoning:
        """Reasoning with the details of a server that speaks this format, such as OpenRouter."""
        objects = [as_object(detail) for detail in details]
        text = text or "".join(as_string(one.get("text")) or as_string(one.get("summary")) or "" for one in objects)
        if not self._same:  # whoever signed it was not this provider
            return Reasoning(text=text, provider=self._provider)
        return Reasoning(
            text=text,
            provider=self._provider,
            signature=_last(objects, "signature"),
            encrypted=_last(objects, "data"),
            provider_metadata=self._options({"reasoning_details": details}),
        )

    def _with_extra(self, parts: list[Part], extra: JSONObject) -> list[Part]:
        """Put back what `extra_content` has: the metadata of texts, and parts that only the provider understands."""
        carried = as_string(extra.get(CARRIED))
        own = {name: value for name, value in extra.items() if name != CARRIED}
        fields = unwrap(carried) if carried is not None else None
        if fields is not None and isinstance(entries := fields.get("parts"), list):
            parts = _restored(parts, entries, fields)
        if own and self._same:
            metadata = self._options({"extra_content": own})
            at = next((at for at in reversed(range(len(parts))) if isinstance(parts[at], Text)), None)
            if at is None:
                return [*parts, Text(text="", provider_metadata=metadata)]
            text = cast("Text", parts[at])
            parts[at] = Text(
                text=text.text, family=text.family, provider_options=text.provider_options, provider_metadata=metadata
            )
        return parts

    def _additions(self, at: str, fields: JSONObject) -> Iterator[Part]:
        for _, item in _read.objects(fields, "annotations", at):
            citation = as_object(item.get("url_citation"))
            if item.get("type") == "url_citation" and citation:
                yield Citation(
                    url=as_string(citation.get("url")),
                    title=as_string(citation.get("title")),
                    cited_text=as_string(citation.get("content")),
                    start=as_count(citation.get("start_index")),
                    end=as_count(citation.get("end_index")),
                )
            elif self._own is not None:
                kind = "annotation." + (as_string(item.get("type")) or "unknown")
                yield Opaque(provider=self._own, kind=kind, data=dict(item))
        for where, image in _read.objects(fields, "images", at):
            yield self._part(where, image, {"image_url": _image})
        audio = _read.optional_object(fields, "audio", at)
        if audio is not None:
            where = f"{at}.audio"
            transcript, audio_id = _read.text(audio, "transcript", where), _read.text(audio, "id", where)
            own = audio_id is not None and not audio_id.startswith(OWN_AUDIO)
            metadata = self._options({"id": audio_id}) if own else {}
            try:
                data = b64decode(_read.text(audio, "data", where) or "", validate=True)
            except (binascii.Error, ValueError):
                raise invalid(f"'{where}.data' is not base64.", param=f"{where}.data") from None
            if data or transcript or metadata:
                yield Audio(data=data, transcript=transcript, provider_metadata=metadata)

    def _tool_call(self, at: str, fields: JSONObject) -> ToolCall:
        call_id = _read.required_text(fields, "id", at)
        kind = fields.get("type", "function")
        if kind == "custom":
            body = _read.required_object(fields, "custom", at)
            text: str | None = _read.required_text(body, "input", f"{at}.custom")
        else:
            kind = kind if self._same and isinstance(kind, str) else "function"
            body = _read.required_object(fields, "function", at)
            text = None
        name = self._tool_names[call_id] = _read.required_text(body, "name", f"{at}.{kind}")
        family, metadata = self._call_metadata(fields)
        if text is not None:
            typed: JSONObject = {**as_object(metadata.get(self._provider or "")), "type": "custom"}
            own = self._options(typed)
            return ToolCall(
                id=call_id,
                name=name,
                arguments={"input": text},
                family=family,
                provider_options=self._rest(fields, _CALL_FIELDS),
                provider_metadata={**metadata, **own},
            )
        if kind != "function":
            other: JSONObject = {**as_object(metadata.get(self._provider or "")), "type": str(kind)}
            metadata = {**metadata, **self._options(other)}
        given = body.get("arguments", "")
        if not isinstance(given, str):
            raise wrong_type(f"{at}.function.arguments", "a string", given)
        arguments, invalid_arguments = decode_arguments(given)
        return ToolCall(
            id=call_id,
            name=name,
            arguments=arguments,
            invalid_arguments=invalid_arguments,
            family=family,
            provider_options=self._rest(fields, _CALL_FIELDS),
            provider_metadata=metadata,
        )

    def _call_metadata(self, fields: JSONObject) -> tuple[str | None, ProviderOptions]:
        extra = as_object(fields.get("extra_content"))
        if not extra:
            return None, {}
        carried = as_string(extra.get(CARRIED))
        wrapped = unwrap(carried) if carried is not None else None
        if wrapped is not None:
            return as_string(wrapped["family"]), carried_metadata(wrapped)
        return None, self._options({"extra_content": extra})

    def _function_call(self, at: str, fields: JSONObject) -> ToolCall:
        where = f"{at}.function_call"
        name = _read.required_text(fields, "name", where)
        given = _read.text(fields, "arguments", where) or ""
        arguments, invalid_arguments = decode_arguments(given)
        call_id = self._function_calls[name] = f"function_call_{at[len('messages[') : -1]}"
        return ToolCall(id=call_id, name=name, arguments=arguments, invalid_arguments=invalid_arguments)


_PLAIN_ASSISTANT = frozenset({"role", "content", "name", "refusal", "tool_calls", "function_call"})
_CUSTOM_PARAMETERS: JSONObject = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
"""The arguments of a custom tool for providers that have only functions: its text."""


def _with_grammar(custom: JSONObject, at: str) -> str | None:
    description = _read.text(custom, "description", at)
    grammar = as_object(as_object(custom.get("format")).get("grammar"))
    definition, syntax = as_string(grammar.get("definition")), as_string(grammar.get("syntax"))
    if definition is None:
        return description
    rule = f"The input must follow this grammar ({syntax or 'lark'}):\n{definition}"
    return rule if description is None else f"{description}\n\n{rule}"


def _restored(parts: list[Part], entries: Sequence[object], fields: JSONObject) -> list[Part]:
    """Cut the text of an answer into its parts again, at the offsets that `chat.StreamWriter` wrote.

    If the client changed the text, so that the offsets do not fit, the text stays whole.
    """
    provider, family = as_string(fields["provider"]), as_string(fields["family"])
    before = [part for part in parts if not isinstance(part, Text)]
    text = "".join(part.text for part in parts if isinstance(part, Text))
    found: list[Part] = []
    position = 0
    for entry in map(as_object, entries):
        at, length = as_count(entry.get("at")), as_count(entry.get("length")) or 0
        if at is None or at < position or at + length > len(text):
            continue
        if at > position:
            found.append(Text(text=text[position:at]))
        position = at + length
        kind, data, metadata = entry.get("kind"), entry.get("data"), as_object(entry.get("metadata"))
        if isinstance(kind, str) and isinstance(data, dict) and provider is not None:
            awaits = entry.get("awaits_answer") is True
            found.append(Opaque(provider=provider, kind=kind, data=data, family=family, awaits_answer=awaits))
        elif all(isinstance(value, dict) for value in metadata.values()):
            found.append(Text(text=text[at:position], family=family, provider_metadata=metadata))
    if position < len(text):
        found.append(Text(text=text[position:]))
    return [*before, *found]


PartReader: TypeAlias = Callable[[str, JSONObject, ProviderOptions, "CacheLifetime | None"], Part]
"""Reads a part, given its place, its fields, the options of the provider and the part's cache breakpoint."""


def _text_part(at: str, fields: JSONObject, options: ProviderOptions, cache: CacheLifetime | None) -> Part:
    return Text(text=_read.required_text(fields, "text", at), cache=cache, provider_options=options)


def _refusal(at: str, fields: JSONObject, options: ProviderOptions, cache: CacheLifetime | None) -> Part:
    return Text(text=_read.required_text(fields, "refusal", at), refusal=True, cache=cache, provider_options=options)


def _image(at: str, fields: JSONObject, options: ProviderOptions, cache: CacheLifetime | None) -> Part:
    value = fields.get("image_url")
    if isinstance(value, str):
        return Image(url=value, cache=cache, provider_options=options)
    image = _read.required_object(fields, "image_url", at)
    at = f"{at}.image_url"
    return Image(
        url=_read.required_text(image, "url", at),
        detail=_read.text(image, "detail", at),
        cache=cache,
        provider_options=options,
    )


def _audio(at: str, fields: JSONObject, options: ProviderOptions, cache: CacheLifetime | None) -> Part:
    audio = _read.required_object(fields, "input_audio", at)
    at = f"{at}.input_audio"
    form = _read.required_text(audio, "format", at)
    if not (form.isascii() and form.replace("-", "").isalnum()):
        raise unsupported_value(f"{at}.format", form, ("wav", "mp3"))
    return Audio(
        data=b64decode(_read.required_text(audio, "data", at), validate=True),
        media_type="audio/mpeg" if form == "mp3" else f"audio/{form.lower()}",
        provider_options=options,
    )


def _has_web_address(fields: JSONObject) -> bool:
    """Whether a file is given by its address, which some servers take in place of the data."""
    data = as_object(fields.get("file")).get("file_data")
    return isinstance(data, str) and data[:8].lower().startswith(("https://", "http://"))


def _file(at: str, fields: JSONObject, options: ProviderOptions, cache: CacheLifetime | None) -> Part:
    file = _read.required_object(fields, "file", at)
    at = f"{at}.file"
    name, file_id, data = (_read.text(file, key, at) for key in ("filename", "file_id", "file_data"))
    if (file_id is None) == (data is None):
        raise invalid(f"'{at}' must have either 'file_id' or 'file_data'.", param=at)
    if data is not None and data[:5].lower() != "data:" and not _has_web_address(fields):
        return Document(data=b64decode(data, validate=True), name=name, cache=cache, provider_options=options)
    return Document(url=data, file_id=file_id, name=name, cache=cache, provider_options=options)


_INPUT_PARTS: Mapping[str, PartReader] = {
    "text": _text_part,
    "image_url": _image,
    "input_audio": _audio,
    "file": _file,
}
_ANSWER_PARTS: Mapping[str, PartReader] = {**_INPUT_PARTS, "refusal": _refusal, "thinking": _text_part}
_INNER_FIELDS: Mapping[str, Set[str]] = {
    "image_url": {"url", "detail"},
    "input_audio": {"data", "format"},
    "file": {"file_id", "filename", "file_data"},
}


def _lifetime(fields: JSONObject) -> CacheLifetime | None:
    """The cache breakpoint of a part or a tool, in OpenAI's words or in those of OpenRouter."""
    if fields.keys().isdisjoint(_CACHE_FIELDS):
        return None
    if "prompt_cache_breakpoint" in fields:
        return "auto"
    lifetime = as_object(fields["cache_control"]).get("ttl")
    return "1h" if lifetime == "1h" else "5m"


def _last(objects: list[dict[str, JSONValue]], name: str) -> str | None:
    return next((value for one in reversed(objects) if isinstance(value := one.get(name), str)), None)


def _stop(fields: JSONObject) -> tuple[str, ...]:
    value = fields.get("stop")
    return (value,) if isinstance(value, str) else _read.texts(fields, "stop", "a string or an array of strings")


def _schema(value: object, at: str) -> JSONObject:
    if not isinstance(value, dict):
        raise wrong_type(at, "an object", value)
    return value
