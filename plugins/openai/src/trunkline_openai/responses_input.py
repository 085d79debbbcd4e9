"""Turns of a conversation as the `input` items of the Responses API. Pure.

`responses_history` has changed the turns so that the API accepts them. Responses of this provider are sent back as
their original items: in the same order, with ids, `phase`, encrypted reasoning and fields that this plugin does not
know. OpenAI's documentation appends `response.output` to the next input in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from trunkline.authoring.json import JSONObject, ProviderOptions, with_options
from trunkline.authoring.replay import Turn, left_out_note
from trunkline.authoring.warnings import Warnings
from trunkline.messages import (
    Audio,
    Citation,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    ToolResultPart,
)

from trunkline_openai.caching import marked
from trunkline_openai.features import RESPONSES_FEATURES
from trunkline_openai.history import decoded_text
from trunkline_openai.responses_items import OUTPUT_ONLY

ERROR_PREFIX = "Error: "
"""Precedes the result of a tool that failed, because the API cannot mark it."""

_SUFFIXES = {"application/pdf": "pdf", "text/plain": "txt", "text/markdown": "md"}

# "Unknown parameter: 'input[1].status'": https://github.com/BerriAI/litellm/issues/13420, 2025-08
_REASONING_OUTPUT_ONLY = OUTPUT_ONLY | {"status", "summary", "content"}


class InputItems:
    """Collects the items of a conversation, with warnings for content that the API does not accept.

    `custom_tools` are the names of the tools whose input is free text. With `breakpoints`, items of parts that have a
    cache breakpoint get a mark (`trunkline_openai.caching`). `takes` are the features that the server supports.
    """

    def __init__(
        self,
        provider: str,
        warnings: Warnings,
        *,
        custom_tools: Collection[str] = (),
        breakpoints: bool = False,
        takes: frozenset[str] = RESPONSES_FEATURES,
    ) -> None:
        self.items: list[dict[str, Any]] = []
        self._warnings = warnings
        self._provider = provider
        self._custom_tools = custom_tools
        self._breakpoints = breakpoints
        self._takes = takes
        # The ids of earlier calls of custom tools.
        self._custom_calls: set[str] = set()
        # The message item that the next text is added to.
        self._open: dict[str, Any] | None = None

    def add(self, turn: Turn) -> None:
        """Add a message and the results of its tool calls."""
        message = turn.message
        self._open = None
        if message.name is not None:
            self._warnings.add(
                "left_out",
                "message name",
                "names of participants are not supported by the Responses API; ignored",
                lossy=True,
            )
        options = self._options(message.provider_options)
        first = len(self.items)
        if message.role == "assistant":
            self._add_assistant(message)
            self._apply(options, first, lambda item: item.get("role") == "assistant")
        else:
            self._add_input(message)
            self._apply(options, first, lambda item: True)
        for result in turn.results:
            self._add_tool_result(result)

    def _apply(self, options: JSONObject, first: int, fits: Callable[[dict[str, Any]], bool]) -> None:
        if not options:
            return
        fitting = [item for item in self.items[first:] if fits(item)]
        for item in fitting:
            item.update(options)
        if not fitting:
            self._warnings.add(
                "left_out", "provider_options", "the message became no item that could have its options", lossy=True
            )

    def _options(self, options: ProviderOptions) -> JSONObject:
        return options.get(self._provider) or {}

    # System, user and tool messages

    def _add_input(self, message: Message) -> None:
        system = "developer" if "developer_role" in self._takes else "system"
        role = system if message.role == "system" else "user"
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, (ToolResult, Opaque)):
                self._add_content(role, content)
                content = []
                if isinstance(part, ToolResult):
                    self._add_tool_result(part)
                else:
                    self.items.append(dict(part.data))
            elif isinstance(part, (Text, Image, Document, Audio)):
                content.extend(self._content(part))
        self._add_content(role, content)

    def _add_content(self, role: str, content: list[dict[str, Any]]) -> None:
        if not content:
            return
        plain = len(content) == 1 and content[0].keys() == {"type", "text"} and content[0]["type"] == "input_text"
        self.items.append({"role": role, "content": content[0]["text"] if plain else content})

    def _content(self, part: Text | Image | Document | Audio) -> list[dict[str, Any]]:
        data: dict[str, Any]
        if isinstance(part, Text):
            data = {"type": "input_text", "text": part.text}
        elif isinstance(part, Audio):
            return self._audio(part)
        elif (obstacle := self._obstacle(part)) is not None:
            self._warnings.add("left_out", type(part).__name__.lower(), obstacle, lossy=True)
            return []
        elif isinstance(part, Image):
            data = {"type": "input_image", "detail": part.detail or "auto", **self._image_source(part)}
        elif part.data is not None and "document_data" not in self._takes:
            data = {"type": "input_text", "text": self._document_text(part, part.data)}
        else:
            data = {"type": "input_file", **self._file_source(part)}
        return [self._cached(with_options(data, part.provider_options, self._provider), part)]

    def _obstacle(self, part: Image | Document) -> str | None:
        """Why the server does not accept an image or a document, or `None` if it does."""
        if part.file_id is not None:
            return None if "document_file_id" in self._takes else "this server does not accept ids of files"
        if isinstance(part, Image):
            if part.url is not None and "image_url" not in self._takes and "image_data" in self._takes:
                return "this server does not accept URLs of images; pass the bytes"
            accepted = "image_url" if part.url is not None else "image_data"
            return None if accepted in self._takes else "this server does not accept images"
        if part.url is not None:
            return None if "document_url" in self._takes else "this server does not accept URLs of documents"
        if "document_data" in self._takes or (part.media_type or "").startswith("text/"):
            return None
        return "this server does not accept documents; send their text"

    def _document_text(self, part: Document, data: bytes) -> str:
        why = "a text document was sent as text, preceded by its name"
        self._warnings.add("emulated", "document", why, lossy=False)
        text = decoded_text(data, self._warnings)
        return f"{part.name}\n\n{text}" if part.name else text

    def _cached(self, data: dict[str, Any], part: Part) -> dict[str, Any]:
        return marked(data, part) if self._breakpoints else data

    def _audio(self, part: Audio, *, by_model: bool = False) -> list[dict[str, Any]]:
        if part.transcript is None:
            why = "the Responses API does not accept audio; set a transcript, or use Chat Completions"
            self._warnings.add("left_out", "audio", why, lossy=True)
            return []
        self._warnings.add(
            "emulated",
            "audio",
            "the Responses API does not accept audio; its transcript was sent instead",
            lossy=not by_model,
        )
        return [{"type": "input_text", "text": part.transcript}]

    def _image_source(self, part: Image) -> dict[str, Any]:
        if part.file_id is not None:
            return {"file_id": part.file_id}
        return {"image_url": part.url if part.url is not None else self._data_url(part, "image/png")}

    def _file_source(self, part: Document) -> dict[str, Any]:
        if part.file_id is not None:
            return {"file_id": part.file_id}
        if part.url is not None:
            if part.name is not None:
                self._warnings.add(
                    "left_out", "document name", "the Responses API does not accept a name with a URL", lossy=True
                )
            return {"file_url": part.url}
        name = part.name or f"document.{_SUFFIXES.get(part.media_type or 'application/pdf', 'bin')}"
        return {"filename": name, "file_data": self._data_url(part, "application/pdf")}

    def _data_url(self, part: Image | Document, fallback: str) -> str:
        if part.media_type is None:
            kind = type(part).__name__.lower()
            self._warnings.add(
                "changed", kind, f"its media type is unknown, so it was sent as {fallback}; set media_type", lossy=False
            )
        return f"data:{part.media_type or fallback};base64,{part.base64}"

    def _add_tool_result(self, result: ToolResult) -> None:
        options = self._options(result.provider_options)
        content = [data for part in result.parts for data in self._result_content(part)]
        if not content and (note := left_out_note(result.parts)):
            content = [{"type": "input_text", "text": note}]
        if content:
            content[-1] = self._cached(content[-1], result)
        if result.is_error:
            self._warnings.add(
                "changed",
                "tool result",
                "the API cannot mark a result as failed, so its text was prefixed with 'Error: '",
                lossy=False,
            )
        output: str | list[dict[str, Any]]
        if all(data.keys() == {"type", "text"} for data in content):
            output = (ERROR_PREFIX if result.is_error else "") + "\n".join(
                data["text"] for data in content if data["text"]
            )
        else:
            output = [{"type": "input_text", "text": ERROR_PREFIX.strip()}, *content] if result.is_error else content
        # The call may be in a stored response that the request continues.
        custom = result.tool_call_id in self._custom_calls or result.name in self._custom_tools
        kind = "custom_tool_call_output" if custom else "function_call_output"
        self.items.append({"type": kind, "call_id": result.tool_call_id, "output": output, **options})

    def _result_content(self, part: ToolResultPart) -> list[dict[str, Any]]:
        return [dict(part.data)] if isinstance(part, Opaque) else self._content(part)

    # Assistant messages

    def _add_assistant(self, message: Message) -> None:
        for part in message.parts:
            if isinstance(part, Citation):
                continue
            if not isinstance(part, (Text, Audio)):
                self._open = None
            self._add_assistant_part(part)

    def _add_assistant_part(self, part: Part) -> None:
        if isinstance(part, Text):
            self._add_text(part)
        elif isinstance(part, ToolCall):
            self._add_call(part)
        elif isinstance(part, Reasoning):
            self._add_reasoning(part)
        elif isinstance(part, Opaque):
            self.items.append(dict(part.data))
        elif isinstance(part, Audio):
            for data in self._audio(part, by_model=True):
                self._add_text(Text(text=data["text"]))

    def _add_text(self, part: Text) -> None:
        metadata = self._options(part.provider_metadata)
        options = self._options(part.provider_options)
        item_id, phase = metadata.get("id"), metadata.get("phase")
        if not isinstance(item_id, str):
            self._add_plain_text(part, phase, options)
            return
        if self._open is None or self._open.get("id") != item_id:
            status = metadata.get("status")
            item: dict[str, Any] = {
                "type": "message",
                "id": item_id,
                "role": "assistant",
                "status": status if status in ("completed", "incomplete") else "completed",
                "content": [],
            }
            if phase is not None:
                item["phase"] = phase
            self.items.append(item)
            self._open = item
        item = self._open
        if part.refusal:
            item["content"].append({"type": "refusal", "refusal": part.text})
        else:
            item["content"].append({"type": "output_text", "text": part.text, "annotations": []})
        item.update(options)

    def _add_plain_text(self, part: Text, phase: object, options: JSONObject) -> None:
        """Add text without an id of this provider. The API accepts a message without an id only as a string."""
        if part.refusal:
            why = "a refusal was sent as plain text"
            self._warnings.add("changed", "refusal", why, lossy=False)
        if not part.text and not options:
            return
        if self._open is None or "id" in self._open or self._open.get("phase") != phase or options:
            # The type is optional at OpenAI. llama.cpp requires it in an assistant's message.
            self._open = {"type": "message", "role": "assistant", "content": ""}
            if phase is not None:
                self._open["phase"] = phase
            self.items.append(self._open)
        self._open["content"] += part.text
        self._open.update(options)

    def _add_call(self, call: ToolCall) -> None:
        metadata = self._options(call.provider_metadata)
        custom = metadata.get("type") == "custom" or call.name in self._custom_tools
        item: dict[str, Any] = {"call_id": call.id, "name": call.name}
        if custom:
            self._custom_calls.add(call.id)
            text = call.arguments.get("input")
            item |= {"type": "custom_tool_call", "input": text if isinstance(text, str) else call.arguments_json}
        else:
            item |= {"type": "function_call", "arguments": call.arguments_json}
        known = item.keys() | OUTPUT_ONLY
        item.update({name: value for name, value in metadata.items() if name not in known})
        self.items.append(with_options(item, call.provider_options, self._provider))

    def _add_reasoning(self, part: Reasoning) -> None:
        metadata = self._options(part.provider_metadata)
        content, summary = metadata.get("content"), metadata.get("summary")
        if summary is None:
            summary = [{"type": "summary_text", "text": part.text}] if part.text and not content else []
        item: dict[str, Any] = {
            "type": "reasoning",
            **{name: value for name, value in metadata.items() if name not in _REASONING_OUTPUT_ONLY},
            "summary": summary,
        }
        if content:
            item["content"] = content
        if part.encrypted is not None:
            item["encrypted_content"] = part.encrypted
        self.items.append(with_options(item, part.provider_options, self._provider))
