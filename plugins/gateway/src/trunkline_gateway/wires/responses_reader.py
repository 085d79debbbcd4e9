"""Requests of OpenAI's Responses API, as the core's requests. Pure.

A conversation is a list of items here. Items of the model that follow each other (messages, reasoning, tool calls) are
one message of the core.

Source: the types of the openai SDK 3.57 (`types/responses/response_create_params.py`, `response_input_item_param.py`),
read in November 2026.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar, cast, get_args

import attrs
from trunkline import (
    Audio,
    ChatRequest,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from trunkline.authoring.json import JSONObject, JSONValue, ProviderOptions, as_object
from trunkline.errors import InvalidRequest
from trunkline.fold import decode_arguments
from trunkline.messages import Role, ToolResultPart
from trunkline.request import Effort

from trunkline_gateway.problems import invalid
from trunkline_gateway.targets import Target, Wire
from trunkline_gateway.wires.carried import PREFIX, carried_reasoning, unwrap
from trunkline_gateway.wires.fields import MOST_IGNORED, RequestReader, inner_names, present, without
from trunkline_gateway.wires.openai_fields import READER as _read, missing, unsupported_value, wrong_type

WIRE: Wire = "openai-responses"
"""The name of this wire format. Provider data of unknown origin has it as the name of its provider, so that it is sent
to no provider by mistake."""

GATEWAY_ID = "_gw"
"""What the ids of items contain that the gateway made, and no provider's id does."""

CUSTOM = "custom"
"""The type of a tool whose input is free text."""

INPUT = "input"
"""The argument that holds the free text of a custom tool, as in the core's plugins."""

_NOT_STORED = "the gateway does not store responses; send the whole conversation in input, and set store to false"
_REFUSED = {
    "previous_response_id": _NOT_STORED,
    "conversation": _NOT_STORED,
    "background": "the gateway does not run responses in the background; set background to false, and use stream",
}
_READ = frozenset(
    {
        *("model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning"),
        *("max_output_tokens", "temperature", "top_p", "top_logprobs", "include", "user", "safety_identifier"),
        *("metadata", "prompt_cache_key", "stream", "stream_options", "store"),
        *_REFUSED,
    }
)
"""The fields of a request that are read, or that have no effect."""

_ENCRYPTED_REASONING = "reasoning.encrypted_content"
_LOGPROBS = "message.output_text.logprobs"
_FREE_TEXT: JSONObject = {
    "type": "object",
    "properties": {INPUT: {"type": "string"}},
    "required": [INPUT],
    "additionalProperties": False,
}
_AUDIO_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}
_MODES = ("auto", "none", "required")
_SUMMARIES = ("auto", "concise", "detailed")
_ROLES: Mapping[str, Role] = {"user": "user", "system": "system", "developer": "system", "assistant": "assistant"}
_ANSWERS = re.compile(r".*(_output|_response)")
"""The types of items with which an application answers calls that only the provider understands."""

T = TypeVar("T")


def read_request(body: JSONObject, target: Target) -> ChatRequest:
    """Read a request.

    Raises `GatewayError` that names the field, or a core `InvalidRequest`. Fields that the gateway does not know are
    put into the options of the provider if it speaks this format; otherwise `ignored_fields` names them.
    """
    return _Reader(target, WIRE).request(body)


def ignored_fields(body: JSONObject, target: Target) -> tuple[str, ...]:
    """Return the names of the fields of a request that `read_request` ignores, such as `text.verbosity`."""
    if target.provider_speaking(WIRE) is not None:
        return ()
    names: list[str] = []
    for name, value in _rest(body, _tool_choice_options(body)).items():
        if name in ("text", "reasoning") and isinstance(value, Mapping):
            names += [f"{name}.{inner}" for inner in value]
        elif name == "include" and isinstance(value, list):
            names += [f"include[{each}]" for each in value if isinstance(each, str)]
        elif name != "tool_choice":
            names.append(name)
    names += inner_names(body, {"tools[]": {"type", "name", "description", "parameters", "strict", "format"}})
    return tuple(names[:MOST_IGNORED])


def _rest(body: JSONObject, tool_choice: JSONValue) -> dict[str, JSONValue]:
    """Return what a request has apart from the fields that the gateway reads, in the form of the API."""
    rest: dict[str, JSONValue] = without(body, _READ)
    if rest.get("truncation") == "disabled":  # the default
        del rest["truncation"]
    for name, known in (("text", ("format",)), ("reasoning", _read_reasoning(body))):
        value = body.get(name)
        if isinstance(value, Mapping) and (more := without(value, known)):
            rest[name] = more
    include = body.get("include")
    if isinstance(include, list) and (wanted := [v for v in include if v not in (_ENCRYPTED_REASONING, _LOGPROBS)]):
        rest["include"] = wanted
    if tool_choice is not None:
        rest["tool_choice"] = tool_choice
    return rest


def _read_reasoning(body: JSONObject) -> tuple[str, ...]:
    """Return the fields of `reasoning` that are read: those whose values every provider may have."""
    fields = as_object(body.get("reasoning"))
    known = {"effort": get_args(Effort), "summary": _SUMMARIES, "generate_summary": _SUMMARIES}
    return tuple(name for name, values in known.items() if fields.get(name) in (None, *values))


def _tool_choice_options(body: JSONObject) -> JSONValue:
    """Return the tool choice if only a provider of this format can be asked for it."""
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") not in ("function", CUSTOM):
        return choice
    return None


class _Reader(RequestReader):
    def request(self, body: JSONObject) -> ChatRequest:
        for name, why in _REFUSED.items():
            if body.get(name) not in (None, False):
                raise invalid(f"{name} is not supported: {why}", param=name, code="unsupported_parameter")
        if self._own is None and body.get("prompt") is not None:
            message = "prompt is not supported: this service does not have the provider's stored prompts; send input"
            raise invalid(message, param="prompt", code="unsupported_parameter")
        fields = present(body)
        _read.flag(fields, "stream")
        conversation = _Conversation(self._target)
        if (instructions := _read.text(fields, "instructions")) is not None:
            conversation.add("system", Text(text=instructions))
        conversation.read(fields)
        tools = _with_unique_names([self._tool(at, tool) for at, tool in _read.objects(fields, "tools")])
        tools, choice = self._tool_choice(fields, tools)
        rest = _rest(body, _tool_choice_options(body))
        return ChatRequest(
            messages=conversation.messages(),
            model=self._target.model,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=_read.flag(fields, "parallel_tool_calls"),
            response_format=_response_format(fields),
            reasoning=self._reasoning_options(fields),
            max_output_tokens=_read.integer(fields, "max_output_tokens", least=0),
            temperature=_read.number(fields, "temperature"),
            top_p=_read.number(fields, "top_p"),
            logprobs=True if _LOGPROBS in _read.texts(fields, "include") else None,
            top_logprobs=_read.integer(fields, "top_logprobs", least=0),
            cache_key=_read.text(fields, "prompt_cache_key"),
            user_id=_read.text(fields, "safety_identifier") or _read.text(fields, "user"),
            metadata=_read.text_values(fields, "metadata"),
            provider_options=self._options(rest),
        )

    def _tool(self, at: str, fields: JSONObject) -> Tool:
        kind = _read.required_text(fields, "type", at)
        if kind == "function":
            tool = Tool(
                name=_read.required_text(fields, "name", at),
                description=_read.text(fields, "description", at),
                strict=_read.flag(fields, "strict", at),
                provider_options=self._rest(fields, {"type", "name", "description", "parameters", "strict"}),
            )
            parameters = _read.optional_object(fields, "parameters", at)
            return tool if parameters is None else attrs.evolve(tool, parameters=parameters)
        if kind == CUSTOM:
            return self._custom_tool(at, fields)
        if self._own is not None:
            name = fields.get("server_label", fields.get("name", kind))
            return Tool(name=name if isinstance(name, str) else kind, provider_options={self._own: fields})
        message = (
            f"{at}.type is {kind!r}, which the service of {self._target.name!r} does not offer; use tools of"
            " the type function or custom"
        )
        raise invalid(message, param=f"{at}.type", code="unsupported_value")

    def _custom_tool(self, at: str, fields: JSONObject) -> Tool:
        name, description = _read.required_text(fields, "name", at), _read.text(fields, "description", at)
        if self._own is not None:
            options = self._rest(fields, {"name", "description"})
            return Tool(name=name, description=description, provider_options=options)
        # For other providers, the tool is a function with one string. The writers make free text of it again.
        form = fields.get("format")
        if isinstance(form, Mapping) and isinstance(form.get("definition"), str):
            rule = f"The input must follow this {form.get('syntax', 'lark')} grammar:\n{form['definition']}"
            description = rule if description is None else f"{description}\n\n{rule}"
        return Tool(name=name, description=description, parameters=_FREE_TEXT, provider_options={WIRE: fields})

    def _tool_choice(self, fields: JSONObject, tools: list[Tool]) -> tuple[list[Tool], ToolChoice | None]:
        choice = fields.get("tool_choice")
        if choice is None:
            return tools, None
        if isinstance(choice, str):
            if choice not in _MODES:
                raise unsupported_value("tool_choice", choice, _MODES)
            if choice == "required" and not tools:
                raise invalid("tool_choice is 'required', but there are no tools", param="tool_choice")
            return tools, ToolChoice(mode=choice) if choice != "auto" or tools else None  # type: ignore[arg-type]
        fields = _read.object(choice, "tool_choice", "a string or an object")
        kind = _read.required_text(fields, "type", "tool_choice")
        if kind in ("function", CUSTOM):
            name = _read.required_text(fields, "name", "tool_choice")
            if name not in [tool.name for tool in tools]:
                raise invalid(f"tool_choice names {name!r}, which is not one of the tools", param="tool_choice.name")
            return tools, ToolChoice.tool(name)
        if self._own is not None:
            return tools, None  # `_rest` has it
        if kind == "allowed_tools":
            return self._allowed_tools(fields, tools)
        raise unsupported_value("tool_choice.type", kind, ("function", CUSTOM, "allowed_tools"))

    def _reasoning_options(self, fields: JSONObject) -> ReasoningOptions | None:
        at, given = "reasoning", _read.optional_object(fields, "reasoning") or {}
        known = _read_reasoning(fields) if self._own is not None else given  # `_rest` has the others
        found = {name: _read.text(given, name, at) for name in ("effort", "summary", "generate_summary")}
        effort, summary, older = (value if name in known else None for name, value in found.items())
        if effort is None and summary is None and older is None:
            return None
        return _made(
            at,
            lambda: ReasoningOptions(effort=cast("Effort | None", effort), summary=summary or older),  # type: ignore[arg-type]
        )

    @staticmethod
    def _allowed_tools(fields: JSONObject, tools: list[Tool]) -> tuple[list[Tool], ToolChoice | None]:
        names = {_read.required_text(each, "name", at) for at, each in _read.objects(fields, "tools", "tool_choice")}
        mode = _read.text(fields, "mode", "tool_choice") or "auto"
        if mode not in ("auto", "required"):
            raise unsupported_value("tool_choice.mode", mode, ("auto", "required"))
        allowed = [tool for tool in tools if tool.name in names]
        if not allowed:
            raise invalid("tool_choice.tools names none of the tools", param="tool_choice.tools")
        return allowed, ToolChoice(mode=mode)  # type: ignore[arg-type]  # checked just above


def _with_unique_names(tools: Sequence[Tool]) -> list[Tool]:
    """Number the tools of the provider whose names repeat: such a name is made up here."""
    used = {tool.name for tool in tools if _is_named(tool)}
    found: list[Tool] = []
    for tool in tools:
        name, number = tool.name, 1
        while not _is_named(tool) and name in used:
            number += 1
            name = f"{tool.name}_{number}"
        used.add(name)
        found.append(tool if name == tool.name else attrs.evolve(tool, name=name))
    return found


def _is_named(tool: Tool) -> bool:
    return all(options.get("type") in (None, "function", CUSTOM) for options in tool.provider_options.values())


def _response_format(fields: JSONObject) -> ResponseFormat | None:
    at, text = "text.format", _read.optional_object(fields, "text") or {}
    form = _read.optional_object(text, "format", "text")
    if form is None:
        return None
    match _read.required_text(form, "type", at):
        case "text":
            return None
        case "json_object":
            return ResponseFormat(type="json")
        case "json_schema":
            return ResponseFormat(
                schema=_read.required_object(form, "schema", at),
                name=_read.required_text(form, "name", at),
                description=_read.text(form, "description", at),
                strict=_read.flag(form, "strict", at),
            )
        case kind:
            raise unsupported_value(f"{at}.type", kind, ("text", "json_object", "json_schema"))


class _Conversation(RequestReader):
    """Collects the messages of the input."""

    def __init__(self, target: Target) -> None:
        super().__init__(target, WIRE)
        self._messages: list[tuple[Role, list[Part], ProviderOptions]] = []
        self._names: dict[str, str] = {}
        # Whether the last item was a message of the model, and whether it had an id.
        self._after_message = False
        self._had_id = False

    def messages(self) -> tuple[Message, ...]:
        return tuple(
            Message(role=role, parts=parts, provider_options=options)
            for role, parts, options in self._messages
            if parts
        )

    def add(self, role: Role, *parts: Part, options: ProviderOptions | None = None) -> None:
        self._messages.append((role, list(parts), options or {}))

    def read(self, request: JSONObject) -> None:
        value = request.get("input")
        if value is None:
            raise missing("input")
        if isinstance(value, str):
            self.add("user", Text(text=value))
        elif isinstance(value, list):
            for at, item in _read.objects(request, "input"):
                self._item(at, item)
        else:
            raise wrong_type("input", "a string or an array of objects", value)
        if not any(parts for _, parts, _ in self._messages):
            raise invalid("input has no content", param="input")

    def _item(self, at: str, fields: JSONObject) -> None:
        kind = "message" if "type" not in fields and "role" in fields else _read.text(fields, "type", at)
        after_message, self._after_message = self._after_message, False
        match kind:
            case "message":
                self._message(at, fields, after_message)
            case "function_call":
                arguments, invalid_text = decode_arguments(_read.required_text(fields, "arguments", at))
                self._call(at, fields, arguments, invalid_text, {"arguments"})
            case "custom_tool_call":
                text = _read.required_text(fields, "input", at)
                self._call(at, fields, {INPUT: text}, None, {"input"}, type=CUSTOM)
            case "function_call_output" | "custom_tool_call_output":
                self._result(at, fields)
            case "reasoning":
                self._reasoning(at, fields)
            case "item_reference" | None if "id" in fields:
                raise invalid(f"{at} refers to a stored item. {_NOT_STORED.capitalize()}", param=at)
            case "image_generation_call" if self._own is None and isinstance(fields.get("result"), str):
                self._assistant().append(_made(f"{at}.result", lambda: _generated_image(at, fields)))
            case str():
                # Without a provider of this format, replaying the conversation leaves it out with a warning.
                part = Opaque(provider=self._own or WIRE, kind=kind, data=fields)
                if _ANSWERS.fullmatch(kind):
                    self.add("tool", part)
                else:
                    self._assistant().append(part)
            case None:
                raise missing(f"{at}.type")

    def _assistant(self) -> list[Part]:
        """Return the parts of the last message if the model wrote it, else those of a new one."""
        if not self._messages or self._messages[-1][0] != "assistant":
            self.add("assistant")
        return self._messages[-1][1]

    def _message(self, at: str, fields: JSONObject, after_message: bool) -> None:
        name = _read.required_text(fields, "role", at)
        role = _ROLES.get(name)
        if role is None:
            raise unsupported_value(f"{at}.role", name, _ROLES)
        parts = self._content(at, fields, "content")
        if role != "assistant":
            self.add(role, *parts, options=self._rest(fields, {"type", "role", "content", "id", "status"}))
            return
        item_id = _item_id(fields)
        # The ids of a response keep its messages apart. Messages without an id were separate ones.
        has_id = fields.get("id") is not None
        if after_message and not (has_id and self._had_id):
            self.add("assistant")
        metadata = without(fields, ("type", "role", "content", "id"))
        if item_id is not None:
            metadata["id"] = item_id
        elif metadata.get("phase") is None:
            metadata = {}
        kept = self._options(metadata)
        self._assistant().extend(
            attrs.evolve(part, provider_metadata=kept) if isinstance(part, Text) and kept else part for part in parts
        )
        self._after_message, self._had_id = True, has_id

    def _call(
        self,
        at: str,
        fields: JSONObject,
        arguments: JSONObject,
        invalid_text: str | None,
        known: set[str],
        **marks: str,
    ) -> None:
        call_id, name = (_read.required_text(fields, field, at) for field in ("call_id", "name"))
        self._names[call_id] = name
        metadata: dict[str, JSONValue] = {**marks, **without(fields, {"type", "call_id", "name", "id", *known})}
        if (item_id := _item_id(fields)) is not None:
            metadata["id"] = item_id
        call = _made(
            at,
            lambda: ToolCall(
                id=call_id,
                name=name,
                arguments=arguments,
                invalid_arguments=invalid_text,
                provider_metadata=self._options(metadata),
            ),
        )
        self._assistant().append(call)

    def _result(self, at: str, fields: JSONObject) -> None:
        call_id = _read.required_text(fields, "call_id", at)
        result = ToolResult(
            tool_call_id=call_id,
            name=self._names.get(call_id),
            parts=cast("tuple[ToolResultPart, ...]", self._content(at, fields, "output")),
            provider_options=self._rest(fields, {"type", "call_id", "output", "id", "status", "name"}),
        )
        self.add("tool", result)

    def _reasoning(self, at: str, fields: JSONObject) -> None:
        texts = [
            _read.required_text(part, "text", where)
            for name in ("summary", "content")
            for where, part in _read.objects(fields, name, at)
        ]
        text, encrypted = "\n\n".join(texts), _read.text(fields, "encrypted_content", at)
        if encrypted is None or not encrypted.startswith(PREFIX):
            metadata = without(fields, ("type", "encrypted_content", "id"))
            if (item_id := _item_id(fields)) is not None:
                metadata["id"] = item_id
            self._assistant().append(
                Reasoning(
                    text=text,
                    provider=self._own or WIRE,
                    encrypted=encrypted,
                    provider_metadata=self._options(metadata),
                )
            )
            return
        carried = unwrap(encrypted)
        if carried is None:
            at = f"{at}.encrypted_content"
            raise invalid(f"{at} is not what the gateway sent; send it back unchanged, or leave the item out", param=at)
        if isinstance(carried.get("parts"), list):
            _made(at, lambda: self._restore(cast("list[JSONValue]", carried["parts"])))
        else:
            self._assistant().append(_made(at, lambda: _carried_part(carried, text)))

    def _restore(self, carried: list[JSONValue]) -> None:
        """Give the texts and calls of the last response the metadata that was carried for them."""
        entries = [each for each in carried if isinstance(each, dict)]
        calls = {call_id: each for each in entries if isinstance(call_id := each.get("call"), str)}
        texts = [each for each in entries if isinstance(each.get("text"), str)]
        for parts, position in reversed(self._turn()):
            part = parts[position]
            found: JSONObject | None = None
            if isinstance(part, ToolCall):
                found = calls.get(part.id)
            elif isinstance(part, Text) and texts:
                # Texts are carried in their order, with their first characters.
                entry = texts.pop()
                found = entry if part.text.startswith(str(entry["text"])) else None
            if found is not None and isinstance(part, (ToolCall, Text)):
                family, added = cast("str | None", found.get("family")), found.get("metadata")
                metadata = {**part.provider_metadata, **(added if isinstance(added, dict) else {})}
                parts[position] = attrs.evolve(part, family=family, provider_metadata=metadata)

    def _turn(self) -> list[tuple[list[Part], int]]:
        """Return the places of the parts that the model wrote since the last other message."""
        found: list[tuple[list[Part], int]] = []
        for role, parts, _ in reversed(self._messages):
            if role != "assistant":
                break
            found = [*((parts, position) for position in range(len(parts))), *found]
        return found

    # Content

    def _content(self, at: str, fields: JSONObject, name: str) -> list[Part]:
        content = fields.get(name)
        if isinstance(content, str):
            return [Text(text=content)]
        if content is None:
            raise missing(f"{at}.{name}")
        if not isinstance(content, list):
            raise wrong_type(f"{at}.{name}", "a string or an array of objects", content)
        return [self._part(where, part) for where, part in _read.objects(fields, name, at)]

    def _part(self, at: str, fields: JSONObject) -> Part:
        kind = _read.required_text(fields, "type", at)
        read = _PARTS.get(kind)
        if read is None:
            raise unsupported_value(f"{at}.type", kind, _PARTS)
        part, known = _made(at, lambda: read(at, fields))
        rest = without(fields, {*known, "type"})
        if rest.pop("prompt_cache_breakpoint", None) is not None and isinstance(part, (Text, Image, Document)):
            part = attrs.evolve(part, cache="auto")
        if not self._options(rest) or not isinstance(part, (Text, Image, Document, Audio)):
            return part
        return attrs.evolve(part, provider_options=self._options(rest))


def _carried_part(carried: JSONObject, text: str) -> Part:
    """Return the reasoning, or the part of another provider, that an item of reasoning carries."""
    fields = cast("dict[str, Any]", carried)  # the part's class checks the types
    if "kind" in fields:
        return Opaque(
            provider=fields["provider"],
            kind=fields["kind"],
            data=fields.get("data", {}),
            family=fields["family"],
            awaits_answer=fields.get("awaits_answer", False),
        )
    return carried_reasoning(carried, text)


def _generated_image(at: str, fields: JSONObject) -> Image:
    """Return an image of an earlier answer. The provider that made it may be another."""
    result = _read.required_text(fields, "result", at)
    if result.startswith(("https://", "http://")):
        return Image(url=result)
    return Image(data=b64decode(result, validate=True))


def _text(at: str, fields: JSONObject) -> tuple[Part, Collection[str]]:
    return Text(text=_read.required_text(fields, "text", at)), ("text", "annotations", "logprobs")


def _refusal(at: str, fields: JSONObject) -> tuple[Part, Collection[str]]:
    return Text(text=_read.required_text(fields, "refusal", at), refusal=True), ("refusal",)


def _image(at: str, fields: JSONObject) -> tuple[Part, Collection[str]]:
    url, file_id = _read.text(fields, "image_url", at), _read.text(fields, "file_id", at)
    if (url is None) == (file_id is None):
        raise invalid(f"{at} must have either image_url or file_id", param=at)
    detail = _read.text(fields, "detail", at)
    image = Image(url=url, file_id=file_id, detail=None if detail == "auto" else detail)
    return image, ("image_url", "file_id", "detail")


def _file(at: str, fields: JSONObject) -> tuple[Part, Collection[str]]:
    data, url, file_id = (_read.text(fields, name, at) for name in ("file_data", "file_url", "file_id"))
    if sum(source is not None for source in (data, url, file_id)) != 1:
        raise invalid(f"{at} must have one of file_data, file_url and file_id", param=at)
    name = _read.text(fields, "filename", at)
    if data is not None and not data.startswith("data:"):
        document = Document(data=b64decode(data, validate=True), name=name)
    else:
        document = Document(url=data if url is None else url, file_id=file_id, name=name)
    return document, ("file_data", "file_url", "file_id", "filename")


def _audio(at: str, fields: JSONObject) -> tuple[Part, Collection[str]]:
    audio = _read.required_object(fields, "input_audio", at)
    at = f"{at}.input_audio"
    form = _read.required_text(audio, "format", at)
    if form not in _AUDIO_TYPES:
        raise unsupported_value(f"{at}.format", form, _AUDIO_TYPES)
    data = b64decode(_read.required_text(audio, "data", at), validate=True)
    return Audio(data=data, media_type=_AUDIO_TYPES[form]), ("input_audio",)


_PARTS: Mapping[str, Callable[[str, JSONObject], tuple[Part, Collection[str]]]] = {
    "input_text": _text,
    "output_text": _text,
    "text": _text,
    "refusal": _refusal,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _audio,
}


def _item_id(fields: JSONObject) -> str | None:
    """Return the id that the provider gave to an item. The gateway's own ids mean nothing to a provider."""
    item_id = fields.get("id")
    return item_id if isinstance(item_id, str) and GATEWAY_ID not in item_id else None


def _made(at: str, make: Callable[[], T]) -> T:
    """Make a value. The error of a value that cannot be gets its position."""
    try:
        return make()
    except InvalidRequest as error:
        raise invalid(f"{at}: {error}", param=at) from None
    except ValueError as error:
        raise invalid(f"{at} has data that is not base64: {error}", param=at) from None
