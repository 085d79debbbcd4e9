"""A conversation as the `input` items of the Responses API. Pure.

Responses of this provider are sent back as the items that they were: in their order, with their ids, `phase` and
encrypted reasoning. Two rules of the API decide what is sent:

- A reasoning item must be followed by another item of its turn. Reasoning at the end of a turn is therefore removed.
- An item with an id must come with the reasoning that precedes it. If reasoning cannot be sent, the rest of its turn is
  sent without ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from typing import Any

from trunkline.authoring.json import JSONObject, ProviderOptions, with_options
from trunkline.authoring.warnings import Warnings
from trunkline.errors import InvalidRequest
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

CALL_ID_LIMIT = 64
"""The longest `call_id` that the API accepts, in characters. A longer id of another provider is sent as a hash."""

ERROR_PREFIX = "Error: "
"""Precedes the result of a tool that failed, because the API cannot mark it."""

_SUFFIXES = {"application/pdf": "pdf", "text/plain": "txt", "text/markdown": "md"}


class InputItems:
    """Collects the items of a conversation, with warnings for content that the API does not accept.

    - `stored`: the provider stores its responses (`store`), so reasoning can be sent by its id alone.
    - `continued`: the request continues a stored response, which may contain the calls of results in this request.
    - `takes_reasoning`: the model accepts reasoning in the input.
    - `custom_tools`: the names of the tools whose input is free text.
    """

    def __init__(
        self,
        provider: str,
        warnings: Warnings,
        *,
        stored: bool = False,
        continued: bool = False,
        takes_reasoning: bool = True,
        custom_tools: Collection[str] = (),
    ) -> None:
        self.items: list[dict[str, Any]] = []
        self._warnings = warnings
        self._provider = provider
        self._stored = stored
        self._continued = continued
        self._takes_reasoning = takes_reasoning
        self._custom_tools = custom_tools
        # The ids of the calls so far, and whether each is a custom tool's.
        self._calls: dict[str, bool] = {}
        self._keep_ids = True
        # The message item that the next text is added to.
        self._open: dict[str, Any] | None = None

    def add(self, message: Message) -> None:
        """Add a message. Raises `InvalidRequest` for a part that its role cannot have."""
        if message.role != "assistant":
            self._end_turn()
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

    def finish(self) -> list[dict[str, Any]]:
        """Return the items, after the last message."""
        self._end_turn()
        return self.items

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
        role = "developer" if message.role == "system" else "user"
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, (ToolResult, Opaque)):
                self._add_content(role, content)
                content = []
                if isinstance(part, ToolResult):
                    self._add_tool_result(part)
                else:
                    self._add_opaque(part, by_model=False)
            elif message.role == "tool":
                raise InvalidRequest("a tool message can contain only ToolResult parts")
            elif isinstance(part, (Text, Image, Document, Audio)):
                content.extend(self._content(part))
            elif isinstance(part, ToolCall):
                raise InvalidRequest(
                    f"a {message.role} message cannot contain a tool call; only an assistant message can"
                )
            elif isinstance(part, Reasoning):
                self._warnings.add(
                    "left_out", "reasoning", f"a {message.role} message cannot contain reasoning", lossy=True
                )
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
        elif isinstance(part, Image):
            data = {"type": "input_image", "detail": part.detail or "auto", **self._image_source(part)}
        elif isinstance(part, Document):
            data = {"type": "input_file", **self._file_source(part)}
        else:
            return self._audio(part)
        return [with_options(data, part.provider_options, self._provider)]

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
        if result.tool_call_id not in self._calls and not self._continued:
            self._warnings.add(
                "left_out",
                "tool result",
                f"no tool call {result.tool_call_id!r} comes before this result; keep the two together",
                lossy=False,
                cause="no tool call",
            )
            return
        content = [data for part in result.parts for data in self._result_content(part)]
        if result.is_error:
            self._warnings.add(
                "changed",
                "tool result",
                "the API cannot mark a result as failed, so its text was prefixed with 'Error: '",
                lossy=False,
            )
        output: str | list[dict[str, Any]]
        if all(data.keys() == {"type", "text"} for data in content):
            output = (ERROR_PREFIX if result.is_error else "") + "".join(data["text"] for data in content)
        else:
            output = [{"type": "input_text", "text": ERROR_PREFIX.strip()}, *content] if result.is_error else content
        kind = "custom_tool_call_output" if self._calls.get(result.tool_call_id) else "function_call_output"
        self.items.append({"type": kind, "call_id": _call_id(result.tool_call_id), "output": output, **options})

    def _result_content(self, part: ToolResultPart) -> list[dict[str, Any]]:
        if not isinstance(part, Opaque):
            return self._content(part)
        if part.provider == self._provider:
            return [dict(part.data)]
        self._warn_foreign(part, lossy=True)
        return []

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
            self._add_opaque(part, by_model=True)
        elif isinstance(part, ToolResult):
            self._add_tool_result(part)
        elif isinstance(part, Audio):
            for data in self._audio(part, by_model=True):
                self._add_text(Text(text=data["text"]))
        else:
            kind = type(part).__name__.lower()
            self._warnings.add("left_out", kind, "an assistant message cannot contain media here", lossy=True)

    def _add_text(self, part: Text) -> None:
        metadata = self._options(part.provider_metadata)
        options = self._options(part.provider_options)
        item_id, phase = metadata.get("id"), metadata.get("phase")
        item: dict[str, Any]
        if not isinstance(item_id, str) or not self._keep_ids:
            self._add_plain_text(part, phase, options)
            return
        if self._open is None or self._open.get("id") != item_id:
            status = metadata.get("status")
            item = {
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
            why = "a refusal from another provider was sent as plain text"
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
        kind = "custom_tool_call" if custom else "function_call"
        item: dict[str, Any] = {"type": kind, "call_id": _call_id(call.id), "name": call.name}
        self._calls[call.id] = custom
        if custom:
            text = call.arguments.get("input")
            item["input"] = text if isinstance(text, str) else call.arguments_json
        else:
            item["arguments"] = call.arguments_json
        names = ("id", "namespace", "caller") if custom else ("id", "status", "namespace", "caller")
        item.update({name: metadata[name] for name in names if name in metadata and (name != "id" or self._keep_ids)})
        self.items.append(with_options(item, call.provider_options, self._provider))

    def _add_reasoning(self, part: Reasoning) -> None:
        metadata = self._options(part.provider_metadata)
        content = metadata.get("content")
        if part.provider != self._provider:
            self._leave_out_reasoning("it comes from another provider")
            return
        if not self._takes_reasoning:
            self._leave_out_reasoning("this model does not accept reasoning")
            return
        if part.encrypted is None and not content and not (self._stored and metadata.get("id")):
            self._leave_out_reasoning("it has no encrypted content, and the provider did not store it")
            return
        item: dict[str, Any] = {"type": "reasoning"}
        if metadata.get("id") is not None:
            item["id"] = metadata["id"]
        summary = metadata.get("summary")
        if summary is None:
            summary = [{"type": "summary_text", "text": part.text}] if part.text and not content else []
        item["summary"] = summary
        if content:
            item["content"] = content
        if part.encrypted is not None:
            item["encrypted_content"] = part.encrypted
        self.items.append(with_options(item, part.provider_options, self._provider))

    def _leave_out_reasoning(self, why: str) -> None:
        self._keep_ids = False
        self._warnings.add("left_out", "reasoning", f"reasoning of the history was not sent: {why}", lossy=False)

    def _add_opaque(self, part: Opaque, *, by_model: bool) -> None:
        if part.provider == self._provider:
            self.items.append(dict(part.data))
        else:
            self._warn_foreign(part, lossy=not by_model)

    def _warn_foreign(self, part: Opaque, *, lossy: bool) -> None:
        why = f"only {part.provider} understands it; not sent"
        self._warnings.add("left_out", "opaque part", why, lossy=lossy)

    def _end_turn(self) -> None:
        self._open = None
        self._keep_ids = True
        while self.items and self.items[-1].get("type") == "reasoning":
            self.items.pop()
            self._leave_out_reasoning("the API does not accept reasoning that nothing follows")
            self._keep_ids = True


def _call_id(call_id: str) -> str:
    if len(call_id) <= CALL_ID_LIMIT:
        return call_id
    return f"call_{hashlib.sha256(call_id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
