"""The history of a conversation as the Responses API accepts it: the rules for `replay`, and what goes together. Pure.

Output items refer to each other in ways that other APIs do not have:

- An item that follows reasoning is refused without it ("Item 'fc_1' of type 'function_call' was provided without its
  required 'reasoning' item"), and reasoning without the item that follows it. The id is what ties them: an item without
  its id needs no reasoning. So where reasoning is missing, whoever removed it, items lose their ids, and items that
  consist of little but an id are left out. (https://github.com/0xPlaygrounds/rig/issues/751,
  https://github.com/vercel/ai/issues/7099, and `openai_send_reasoning_ids` in the documentation of pydantic-ai 2.68)
- A call that the application answers with an item is refused without its answer, and an answer without its call.
- A generated image is found by its id, even if its data are sent, so it has to be stored at the provider
  (pydantic-ai 2.68, `_responses_model.py`). Otherwise its data are sent in a user message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import attrs
from trunkline.authoring.json import JSONObject, as_string
from trunkline.authoring.replay import ReplayRules, Turn, replay
from trunkline.authoring.warnings import Warnings
from trunkline.messages import (
    Citation,
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
from trunkline_openai.responses_items import IMAGE, answered_id, awaited_id, image_item, input_item

_CALLS = ("function_call", "custom_tool_call")
_RESULTS = ("function_call_output", "custom_tool_call_output")

P = TypeVar("P", bound="Text | ToolCall")


@attrs.frozen(kw_only=True)
class HistoryOptions:
    """What the request says about its history.

    - `provider`: the name under which its parts are known.
    - `stored`: the provider stores its responses (`store`), so items can be sent by their ids.
    - `continued`: the request continues a stored response, which may contain the calls of results in this request.
    """

    provider: str
    stored: bool = False
    continued: bool = False


def takes_no_reasoning(facts: ModelFacts) -> bool:
    """Whether a model is known never to reason. It refuses reasoning in the input, and to be asked for it."""
    return facts.reasons == "never" and facts.family is not None


def rules(options: HistoryOptions, facts: ModelFacts) -> ReplayRules:
    """What the API accepts as the history for a model."""
    return ReplayRules(
        provider=options.provider,
        family=facts.family,
        reasoning="never" if takes_no_reasoning(facts) else "own",
        # types/responses/response_input_item_param.py of openai 3.54: nothing may precede the end of a turn but an item
        # that is not reasoning; a `call_id` has at most 64 characters.
        trailing_reasoning=False,
        call_ids=r"[!-~]{1,64}",
        unknown_results="kept" if options.continued else "left_out",
        answer_media=(),
    )


def turns(
    messages: Iterable[Message], options: HistoryOptions, facts: ModelFacts, warnings: Warnings
) -> Sequence[Turn]:
    """The turns of a conversation, changed so that the API accepts them. Adds warnings about the changes."""
    messages = [separate for message in messages for separate in _separated(message, options.provider)]
    history = _History(options, facts, warnings, messages)
    return replay(map(history.message, messages), rules(options, facts), warnings)


def _separated(message: Message, provider: str) -> Iterable[Message]:
    """The message in pieces with one role each.

    In a tool message, an item such as a `shell_call_output` becomes a user message. In a response, the result of a
    call that the provider itself has run becomes a tool message.
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
    """Changes what `replay` does not know: items that go together."""

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
        # The ids of the items so far: "Duplicate item found with id" (https://github.com/earendil-works/pi/issues/5151).
        self._used: set[str] = set()
        self._calls = {call.id for message in messages for call in message.tool_calls}

    def message(self, message: Message) -> Message:
        """The message with items that are complete."""
        by_model = message.role == "assistant"
        parts = [mended for part in message.parts for mended in self._part(part)]
        if by_model:
            parts = self._paired(parts)
        if len(parts) == len(message.parts) and all(new is old for new, old in zip(parts, message.parts, strict=True)):
            return message
        return attrs.evolve(message, parts=tuple(parts))

    def _mended(self, subject: str, why: str) -> None:
        self._warnings.add("mended", subject, why, lossy=False)

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
        if kind in _CALLS:
            self._mended("tool call", "a call without a name was left out")
            return ()
        if kind == IMAGE and not self._options.stored:
            self._mended("image", "a call of the image tool was left out, because the provider did not store it")
            return ()
        answered = answered_id(kind, data)
        if kind in _RESULTS and answered in self._calls:  # written by the application
            return (ToolResult(tool_call_id=answered or "", parts=_result_parts(data.get("output"), part)),)
        awaited = awaited_id(kind, data)
        if awaited is not None and awaited not in self._answered:
            self._mended("opaque part", f"a {kind} without its answer was left out")
            return ()
        known = self._options.continued or kind == "mcp_call" or answered is None
        if not known and answered not in self._awaited:
            self._mended("opaque part", f"a {kind} without its call was left out")
            return ()
        sent = input_item(data)
        return (part if sent is data else attrs.evolve(part, data=sent),)

    # Items and their reasoning

    def _paired(self, parts: list[Part]) -> list[Part]:
        """The parts of a response without the ids and items that need reasoning which is missing, or that repeat."""
        paired = takes_no_reasoning(self._facts)
        missing = self._facts.reasons == "always" and bool(parts)
        kept: list[Part] = []
        open_id: object = None  # that of the message which the next text continues
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
        """An item, if the reasoning before it is not missing and its id does not repeat."""
        item_id = as_string(part.data.get("id"))
        if item_id is None or not part.kind.endswith("_call"):
            return (part,)
        repeats = not self._is_new(item_id)
        if not missing and not repeats:
            return (part,)
        why = "its id repeats" if repeats else "the reasoning before it is missing"
        self._mended("opaque part", f"a {part.kind} was left out, because {why}")
        return ()

    def _is_new(self, item_id: str) -> bool:
        new = item_id not in self._used
        self._used.add(item_id)
        return new

    def _reasoning(self, part: Reasoning) -> Reasoning | None:
        """Reasoning of this provider that can be sent, or `None`. Parts without a family are from an older version."""
        if not self._is_own(part):
            return None
        family, metadata = self._facts.family, self._metadata(part)
        stored = self._options.stored and metadata.get("id")
        if takes_no_reasoning(self._facts):
            why = "this model does not accept it"
        elif family is not None and part.family not in (None, family):
            why = "it comes from another family of models"
        elif part.encrypted is None and not metadata.get("content") and not stored:
            why = "it has no encrypted content, and the provider did not store it"
        elif (item_id := as_string(metadata.get("id"))) is not None and not self._is_new(item_id):
            why = "its id repeats"
        else:
            return part if family is None or part.family is not None else attrs.evolve(part, family=family)
        self._mended("reasoning", f"reasoning in the history was left out: {why}")
        return None

    def _with_id(self, part: P, fits: bool) -> P:
        """The part with the id of its item, if that `fits`, has the form of OpenAI's ids and does not repeat."""
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
