"""The Responses API's rules for the conversation history: the rules for `replay`, and items that need each other. Pure.

Unlike in other APIs, output items depend on each other:

- An item that follows reasoning is refused without this reasoning ("Item 'fc_1' of type 'function_call' was provided
  without its required 'reasoning' item"), and reasoning is refused without the item after it. The API links the two by
  the item's id: an item without an id needs no reasoning. So if reasoning is missing, for whatever reason, the ids of
  the items after it are removed. Items that are useless without an id are left out.
  (https://github.com/0xPlaygrounds/rig/issues/751,
  https://github.com/vercel/ai/issues/7099, and `openai_send_reasoning_ids` in the documentation of pydantic-ai 2.68)
- A call that the application answers with an item is refused without this answer, and the answer without its call.
- The API looks up a generated image by its id, even if the request contains the data, so the provider must have stored
  the image (pydantic-ai 2.68, `_responses_model.py`). Otherwise the data are sent in a user message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import attrs
from trunkline.authoring.json import JSONObject, as_string
from trunkline.authoring.provider import MediaClass
from trunkline.authoring.replay import ReplayRules, Turn, replay
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
    Role,
    Text,
    ToolCall,
    ToolResult,
    ToolResultPart,
)

from trunkline_openai.model_facts import ModelFacts
from trunkline_openai.responses_items import CALLS, IMAGE, answered_id, awaited_id, image_item, input_item

_RESULTS = ("function_call_output", "custom_tool_call_output")

P = TypeVar("P", bound="Text | ToolCall")


@attrs.frozen(kw_only=True)
class HistoryOptions:
    """The options of a request that affect its history.

    - `provider`: the provider's name in parts and metadata.
    - `stored`: the provider stores its responses (`store`), so items can be sent with their ids.
    - `continued`: the request continues a stored response, which may contain the calls of results in this request.
    - `family`: the family of the model. Models of one family accept each other's reasoning.
    - `readable_media`: the kinds of media that the server accepts in messages.
    """

    provider: str
    family: str | None = None
    readable_media: tuple[MediaClass, ...] = (Image, Document, Audio)
    stored: bool = False
    continued: bool = False


def takes_no_reasoning(facts: ModelFacts) -> bool:
    """Whether a model is known never to reason. Such a model refuses reasoning input and options."""
    return facts.reasons == "never" and facts.family is not None


def rules(options: HistoryOptions, facts: ModelFacts) -> ReplayRules:
    """The API's rules for the conversation history that is sent to a model."""
    return ReplayRules(
        provider=options.provider,
        family=options.family,
        readable_media=options.readable_media,
        reasoning="never" if takes_no_reasoning(facts) else "own",
        # types/responses/response_input_item_param.py of openai 3.54: the last item of a turn must not be reasoning,
        # and a `call_id` has at most 64 characters.
        trailing_reasoning=False,
        call_ids=r"[!-~]{1,64}",
        unknown_results="kept" if options.continued else "left_out",
        answer_media=(),
    )


def turns(
    messages: Iterable[Message], options: HistoryOptions, facts: ModelFacts, warnings: Warnings
) -> Sequence[Turn]:
    """Return the turns of a conversation, changed so that the API accepts them. Adds warnings about the changes."""
    messages = [separate for message in messages for separate in _separated(message, options.provider)]
    history = _History(options, facts, warnings, messages)
    return replay(map(history.message, messages), rules(options, facts), warnings)


def _separated(message: Message, provider: str) -> Iterable[Message]:
    """Split a message into messages with one role each.

    An item in a tool message, such as a `shell_call_output`, becomes a user message. The result of a call that the
    provider ran, which is part of the response, becomes a tool message.
    """
    pieces: list[tuple[Role, list[Part]]] = []
    for part in message.parts:
        role, own = message.role, isinstance(part, Opaque) and part.provider == provider
        if isinstance(part, Opaque) and role == "tool":
            role = "user"
        elif isinstance(part, Opaque) and own and role == "assistant" and part.kind in _RESULTS:
            call_id = answered_id(part.kind, part.data) or ""
            role, part = "tool", ToolResult(tool_call_id=call_id, parts=_result_parts(part.data.get("output"), part))
        if not pieces or pieces[-1][0] != role:
            pieces.append((role, []))
        pieces[-1][1].append(part)
    if len(pieces) < 2 and all(role == message.role for role, _ in pieces):
        return (message,)
    return [
        attrs.evolve(message, parts=tuple(parts)) if role == message.role else Message(role=role, parts=parts)
        for role, parts in pieces
    ]


class _History:
    """Changes items that need each other, which `replay` does not know."""

    def __init__(
        self, options: HistoryOptions, facts: ModelFacts, warnings: Warnings, messages: Sequence[Message]
    ) -> None:
        self._options = options
        self._facts = facts
        self._warnings = warnings
        parts = [part for message in messages for part in message.parts]
        items = [part for part in parts if isinstance(part, Opaque) and self._is_own(part)]
        self._awaited = {awaited_id(item.kind, item.data) for item in items}
        self._answered = {answered_id(item.kind, item.data) for item in items}
        # The ids of earlier items: "Duplicate item found with id" (https://github.com/earendil-works/pi/issues/5151).
        self._used: set[str] = set()
        self._calls = {call.id for message in messages for call in message.tool_calls}

    def message(self, message: Message) -> Message:
        """Return the message without items that the API would refuse."""
        by_model = message.role == "assistant"
        parts = [mended for part in message.parts for mended in self._part(part)]
        if by_model:
            parts = self._paired(parts)
        if len(parts) == len(message.parts) and all(new is old for new, old in zip(parts, message.parts, strict=True)):
            return message
        return attrs.evolve(message, parts=tuple(parts))

    def _is_own(self, part: Part) -> bool:
        return isinstance(part, (Opaque, Reasoning)) and part.provider == self._options.provider

    def _metadata(self, part: Image | Text | ToolCall | Reasoning) -> JSONObject:
        return part.provider_metadata.get(self._options.provider) or {}

    def _part(self, part: Part) -> Iterable[Part]:
        if isinstance(part, Opaque) and self._is_own(part):
            return self._item(part)
        if isinstance(part, Image) and self._options.stored:
            item = image_item(part, self._metadata(part))
            if item is not None:
                return (Opaque(provider=self._options.provider, kind=IMAGE, data=item, family=part.family),)
        return (part,)

    def _item(self, part: Opaque) -> Iterable[Part]:
        kind, data = part.kind, part.data
        if kind in CALLS:
            self._warnings.mended("tool call", "a call without a name was left out")
            return ()
        if kind == IMAGE and not self._options.stored:
            self._warnings.mended(
                "image", "a call of the image tool was left out, because the provider did not store the image"
            )
            return ()
        answered = answered_id(kind, data)
        if kind in _RESULTS and answered in self._calls:  # written by the application
            return (ToolResult(tool_call_id=answered or "", parts=_result_parts(data.get("output"), part)),)
        awaited = awaited_id(kind, data)
        if awaited is not None and awaited not in self._answered:
            self._warnings.mended("opaque part", f"a {kind} without its answer was left out")
            return ()
        known = self._options.continued or kind == "mcp_call" or answered is None
        if not known and answered not in self._awaited:
            self._warnings.mended("opaque part", f"a {kind} without its call was left out")
            return ()
        sent = input_item(data)
        return (part if sent is data else attrs.evolve(part, data=sent),)

    # Items and their reasoning

    def _paired(self, parts: list[Part]) -> list[Part]:
        """Remove ids and items that repeat, or that need reasoning which is missing."""
        paired = takes_no_reasoning(self._facts)
        missing = self._facts.reasons == "always" and bool(parts)
        kept: list[Part] = []
        open_id: object = None  # the id of the message that the next text continues
        for part in parts:
            if isinstance(part, Reasoning):
                own = self._reasoning(part)
                if own is not None:
                    paired, missing = True, False
                    kept.append(own)
                elif self._is_own(part):
                    paired, missing = False, True
                else:
                    kept.append(part)
            elif isinstance(part, Text):
                refused = part.refusal and not missing
                fits = paired or refused
                if fits and open_id is not None and self._metadata(part).get("id") == open_id:
                    kept.append(part)
                    continue
                kept.append(self._with_id(part, fits))
                open_id = self._metadata(kept[-1]).get("id") if isinstance(kept[-1], Text) else None
                continue
            elif isinstance(part, ToolCall):
                kept.append(self._with_id(part, paired))
            elif isinstance(part, Opaque) and self._is_own(part):
                kept += self._hosted(part, missing)
            else:
                kept.append(part)
            if not isinstance(part, Citation):
                open_id = None
        return kept

    def _hosted(self, part: Opaque, missing: bool) -> Iterable[Opaque]:
        """Return the item, unless the reasoning before it is missing or its id repeats."""
        item_id = as_string(part.data.get("id"))
        if item_id is None or not part.kind.endswith("_call"):
            return (part,)
        repeats = not self._is_new(item_id)
        if not missing and not repeats:
            return (part,)
        why = "its id repeats" if repeats else "the reasoning before it is missing"
        self._warnings.mended("opaque part", f"a {part.kind} was left out, because {why}")
        return ()

    def _is_new(self, item_id: str) -> bool:
        new = item_id not in self._used
        self._used.add(item_id)
        return new

    def _reasoning(self, part: Reasoning) -> Reasoning | None:
        """Return the reasoning if it can be sent to this model. Reasoning without a family is from an older version."""
        if not self._is_own(part):
            return None
        family, metadata = self._options.family, self._metadata(part)
        stored = self._options.stored and metadata.get("id")
        if takes_no_reasoning(self._facts):
            why = "this model does not accept it"
        elif family is not None and part.family not in (None, family):
            why = "it comes from another model family"
        elif part.encrypted is None and not metadata.get("content") and not stored:
            why = "it has no encrypted content, and the provider did not store it"
        elif (item_id := as_string(metadata.get("id"))) is not None and not self._is_new(item_id):
            why = "its id repeats"
        else:
            return part if family is None or part.family is not None else attrs.evolve(part, family=family)
        self._warnings.mended("reasoning", f"reasoning in the history was left out: {why}")
        return None

    def _with_id(self, part: P, fits: bool) -> P:
        """Return the part. Its item's id is removed unless it `fits`, has the form of OpenAI's ids, and is new."""
        metadata = self._metadata(part)
        if "id" not in metadata:
            return part
        item_id = metadata["id"]
        custom = metadata.get("type") == "custom"
        # "Expected an ID that begins with 'msg'": https://github.com/nodetool-ai/nodetool/issues/4252, 2026-07
        prefix = "msg" if isinstance(part, Text) else "ctc" if custom else "fc"
        if fits and isinstance(item_id, str) and item_id.startswith(prefix) and self._is_new(item_id):
            return part
        rest = {name: value for name, value in metadata.items() if name != "id"}
        return attrs.evolve(part, provider_metadata={**part.provider_metadata, self._options.provider: rest})


def _result_parts(output: object, item: Opaque) -> Sequence[ToolResultPart]:
    if isinstance(output, str):
        return (Text(text=output),)
    parts = output if isinstance(output, list) else []
    return [
        Opaque(provider=item.provider, kind=as_string(part.get("type")) or "unknown", data=part, family=item.family)
        for part in parts
        if isinstance(part, dict)
    ]
