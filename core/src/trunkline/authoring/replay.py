"""Prepare the history of a conversation for a model that may not have made it. For translators.

A conversation has parts that only the model that made them accepts (signed reasoning, metadata, hosted calls). It may
also break rules of the next model: a call without a result, a repeated id, roles in another order. `replay` takes the
rules of a wire format and of a model family as data (`ReplayRules`), and returns turns that follow these rules. A
translator only renders the turns:

    for turn in replay(request.messages, RULES, warnings):
        ...  # turn.message, and turn.results: one for each of turn.message.tool_calls, in their order

Changes are reported as warnings of kind `mended`. There is one exception: if the application wrote a part that the
model cannot read, the part is reported as `left_out`, which is lossy.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Literal, TypeVar

import attrs

from trunkline._json import ProviderOptions
from trunkline.authoring.provider import MediaClass
from trunkline.authoring.warnings import Warnings
from trunkline.errors import ConfigurationError, InvalidRequest
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

P = TypeVar("P", bound="Text | Image | Document | Audio | ToolCall")

_ID_TRIES = 100_000
"""How many replacement ids are tried. Nearly all patterns of a known API match one of the first two."""

NO_RESULT = "No result of this call is known."
"""The text of the placeholder result for a call without a result. The placeholder is marked as failed."""

OPENING = "(The conversation goes on.)"
"""The user message that is inserted before an assistant message that may not come first."""

CONTINUED = "OK."
"""The assistant message that is inserted between tool results and a user message that may not follow them."""

GO_ON = "Go on."
"""The user message that is added after an assistant message that may not come last."""

MEDIA_FOLLOW = "The result follows in the next message."
"""The text of a tool result whose media are in the user message after it."""

LEFT_OUT = "(Content that this model cannot get was left out.)"
"""The text in place of content of which no part could be sent. Without it, a model would take an empty tool result for
what the tool had found."""

MADE_BY_MODEL = "(From the answer above:)"
"""The text before media that a model made, in the user message to which they were moved."""


@attrs.frozen(kw_only=True)
class Issuer:
    """A provider and a family of its models whose reasoning a model accepts. If the family is `None`, any family."""

    provider: str
    family: str | None = None


@attrs.frozen(kw_only=True)
class ReplayRules:
    """The histories that a wire format, and a model family that is reached through it, accept.

    `provider` is the name under which the provider's options and metadata are kept. `family` is the family of the
    requested model, or `None` if the provider's families accept each other's data. A part with another `family` loses
    its `provider_metadata`.
    """

    provider: str
    family: str | None = None

    reasoning: Literal["never", "own", "signed"] = "own"
    """Which reasoning is sent back: none (`never`), all reasoning of the same provider and family (`own`), or only the
    part of it that is signed or encrypted (`signed`). Reasoning that an earlier version stored has no family. It counts
    as reasoning of the same family if it is signed and `reasoning` is `signed`, or if it is unsigned and `reasoning` is
    `own`."""

    unknown_family: bool = False
    """Whether the provider's reasoning without a family is always sent back, signed or not."""

    issuers: tuple[Issuer, ...] = ()
    """Other issuers whose reasoning the model accepts, for example the same models at another provider."""

    trailing_reasoning: bool = True
    """Whether reasoning may be the last part of an assistant message. A message with only reasoning is never sent."""

    calls_last: bool = False
    """Whether nothing may follow the tool calls of an assistant message. Parts after a call move before the calls."""

    call_ids: str = r"[A-Za-z0-9_-]{1,64}"
    """The pattern of tool call ids. An id that does not match or that repeats is replaced, also in its result."""

    new_id_prefix: str = "call_"
    new_id_length: int = 29
    """The prefix and the total length of a replacement id. The replacement depends only on the id, so it stays the same
    as the conversation grows, and a provider's prompt cache still matches."""

    tool_names: str = r"[A-Za-z0-9_-]{1,64}"
    """The pattern of tool names. In a name that does not match, `_` replaces all but letters, digits, `_` and `-`."""

    unknown_results: Literal["left_out", "kept"] = "left_out"
    """What happens to a result whose call is not in the messages. Use `kept`, which sends the result in a tool message,
    if the request continues a stored response, since the provider then has the call."""

    blank_text: bool = True
    """Whether a text may consist of white space. An empty text is always left out, unless it has metadata."""

    trailing_space: bool = True
    """Whether the last assistant message, if nothing follows it, may end in white space."""

    answer_media: tuple[MediaClass, ...] = ()
    """The media that an assistant message may contain. Other media move to the user message after it. The translator
    handles audio, and may send its transcript or its id."""

    readable_media: tuple[MediaClass, ...] = (Image, Document, Audio)
    """The media that the model can read at all. If a model made other media, they are left out instead of moved. If the
    application did, the translator leaves them out, with a lossy warning."""

    result_media: tuple[MediaClass, ...] = (Image, Document, Audio)
    """The media that a tool result may contain. Other media move to a user message after the results."""

    system: Literal["anywhere", "first", "not_after_answer"] = "anywhere"
    """Where system messages may stand. With `first`, later system messages move to the front. With `not_after_answer`,
    system messages after an assistant message or a tool result become user messages."""

    one_system: bool = False
    """Whether neighbouring system messages must be merged, because only one is accepted."""

    ends_with_answer: bool = True
    """Whether the last message may be an assistant message, which the model continues."""

    starts_with_user: bool = False
    """Whether the first message after any system messages must be a user message."""

    user_after_results: bool = True
    """Whether a user message may follow tool results."""

    alternates: bool = False
    """Whether neighbouring messages of one role must be merged. A format that has blocks merges them itself."""


@attrs.frozen
class Turn:
    """A message of the conversation as the model may see it, and the results of its tool calls.

    `results` has one result for each of `message.tool_calls`, in their order; ids match and names are set. A result
    whose call is not in the messages (`ReplayRules.unknown_results`) is in a message with the role `tool`.
    """

    message: Message
    results: tuple[ToolResult, ...] = ()


def replay(messages: Iterable[Message], rules: ReplayRules, warnings: Warnings) -> list[Turn]:
    """Return the turns of a conversation, changed to follow `rules`. Adds warnings about the changes.

    Raises `InvalidRequest` for messages that no provider could accept: a tool call outside an assistant message, or
    anything but results in a tool message. Raises `ConfigurationError` if no replacement id matches `rules.call_ids`.
    """
    pairs = _paired(messages, rules, warnings)
    mender = _Mender(rules, warnings)
    turns: list[Turn] = []
    for pair in pairs:
        turns += mender.turns(pair)
    return _in_order(_with_moved_media(turns, mender.moved), rules, warnings)


def lacks_reasoning(turns: Sequence[Turn]) -> bool:
    """Return whether the answer continues a tool loop that began without reasoning.

    This is the case if tool results come last, and neither the first nor the last of the assistant messages that called
    the tools begins with reasoning. Models that require reasoning on such turns have to continue without it. A user
    message after the results makes no difference, since a format of blocks sends both in one message.
    """
    calling: list[Turn] = []
    for turn in reversed(turns):
        if turn.results:
            calling.append(turn)
        elif turn.message.role == "assistant" or (calling and turn.message.role == "user"):
            break
    return bool(calling) and not any(_begins_with_reasoning(turn) for turn in (calling[0], calling[-1]))


def _begins_with_reasoning(turn: Turn) -> bool:
    parts = (part for part in turn.message.parts if not isinstance(part, Opaque))
    return isinstance(next(parts, None), Reasoning)


# Results


@attrs.define
class _Pair:
    """A message without its tool results, and the results of each of its tool calls."""

    message: Message
    results: list[list[ToolResult]] = attrs.field(factory=list)


def _paired(messages: Iterable[Message], rules: ReplayRules, warnings: Warnings) -> list[_Pair]:
    """Assign each result to a call with its id: the first call without a result in the nearest message before it."""
    pairs: list[_Pair] = []
    open_calls: dict[str, list[tuple[_Pair, int]]] = {}
    for message in messages:
        if message.role == "tool":
            if unknown := _give(message, pairs, open_calls, rules, warnings):
                pairs.append(_Pair(attrs.evolve(message, parts=unknown)))
            continue
        calls: list[ToolCall] = []
        has_results = False
        for part in message.parts:
            if isinstance(part, ToolCall):
                calls.append(part)
            elif isinstance(part, ToolResult):
                has_results = True
        if has_results:
            if unknown := _give(message, pairs, open_calls, rules, warnings):
                pairs.append(_Pair(Message(role="tool", parts=unknown)))
            rest = [part for part in message.parts if not isinstance(part, ToolResult)]
            if not rest:
                continue
            message = attrs.evolve(message, parts=rest)
        pair = _Pair(message)
        pairs.append(pair)
        if not calls:
            continue
        if message.role != "assistant":
            raise InvalidRequest(f"a {message.role} message cannot contain a tool call; only an assistant message can")
        fresh: dict[str, list[tuple[_Pair, int]]] = {}
        for position, call in enumerate(calls):
            pair.results.append([])
            fresh.setdefault(call.id, []).append((pair, position))
        open_calls.update(fresh)
    return pairs


def _give(
    message: Message,
    pairs: list[_Pair],
    open_calls: dict[str, list[tuple[_Pair, int]]],
    rules: ReplayRules,
    warnings: Warnings,
) -> list[ToolResult]:
    """Give the results of a message to their calls, and return the results without a call that are kept."""
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    if message.role == "tool":
        if len(results) < len(message.parts):
            raise InvalidRequest("a tool message may contain only ToolResult parts")
        if results and (options := message.provider_options.get(rules.provider)):
            own = results[-1].provider_options.get(rules.provider, {})
            merged = {**results[-1].provider_options, rules.provider: {**options, **own}}
            results[-1] = attrs.evolve(results[-1], provider_options=merged)
    unknown: list[ToolResult] = []
    for result in results:
        calls = open_calls.get(result.tool_call_id)
        if calls is not None:
            pair, position = next((call for call in calls if not call[0].results[call[1]]), calls[-1])
            if pair.results[position]:
                cause = "several results of one call were merged"
                warnings.mended("tool result", cause)
            if pairs[-1] is not pair:
                cause = "results were moved next to their calls; other messages stood between them"
                warnings.mended("tool result", cause)
            pair.results[position].append(result)
        elif rules.unknown_results == "kept":
            unknown.append(result)
        else:
            cause = "no tool call before this result has the id"
            problem = f"{cause} {result.tool_call_id!r}; the result was left out. Keep calls and results together"
            warnings.mended("tool result", problem, cause=cause)
    return unknown


# Parts


class _Mender:
    """Changes the parts of messages, one message after the other."""

    def __init__(self, rules: ReplayRules, warnings: Warnings) -> None:
        self._rules = rules
        self._warnings = warnings
        self._used: set[str] = set()
        self.moved: dict[int, list[Part]] = {}
        """The media that come after a turn, by the `id` of the turn's message."""

    def turns(self, pair: _Pair) -> list[Turn]:
        """Return the turn of a message, or nothing if no part of the message is left."""
        message = pair.message
        if message.role == "tool":
            return [Turn(message)]
        by_model = message.role == "assistant"
        moved: list[Part] = []
        parts: list[Part] = []
        for part in message.parts:
            if type(part) is Text and part.family is None and part.text.strip():  # nearly all parts
                parts.append(part)
            else:
                parts += self._part(part, message, moved)
        if by_model:
            parts = _without_trailing_reasoning(self._with_calls_last(parts), self._rules, self._warnings)
            parts = self._without_lost(parts)
        if not parts and not moved and (by_model or message.parts):
            if by_model or all(isinstance(part, Text) for part in message.parts):
                self._warnings.mended(
                    "message", f"{message.role} messages without content that can be sent were left out"
                )
            return []
        if len(parts) != len(message.parts) or any(map(operator.is_not, parts, message.parts)):
            message = attrs.evolve(message, parts=tuple(parts))
        results: list[ToolResult] = []
        if pair.results:
            for call, found in zip(message.tool_calls, pair.results, strict=True):
                results.append(self._result(call, found, moved))
        if moved:
            self.moved[id(message)] = moved
        return [Turn(message, tuple(results))]

    def _part(self, part: Part, message: Message, moved: list[Part]) -> Iterable[Part]:
        by_model = message.role == "assistant"
        if isinstance(part, Text):
            return self._text(part, by_model)
        if isinstance(part, ToolCall):
            return (self._call(part),)
        if isinstance(part, Reasoning):
            return self._reasoning(part, message.role)
        if isinstance(part, Opaque):
            return self._opaque(part, by_model=by_model)
        if isinstance(part, (Image, Document)) and by_model and not isinstance(part, self._rules.answer_media):
            if not isinstance(part, self._rules.readable_media):
                self._warnings.mended(
                    type(part).__name__.lower(), "left out of the model's answer, since this model cannot read it"
                )
                return ()
            self._warnings.mended(
                type(part).__name__.lower(), "it was moved from the model's answer to a user message after it"
            )
            moved += [self._own(part)] if moved else [Text(text=MADE_BY_MODEL), self._own(part)]
            return ()
        return (self._own(part),) if isinstance(part, (Image, Document, Audio)) else (part,)

    def _own(self, part: P) -> P:
        """Return the part without the provider's metadata if a model of another family made it."""
        rules = self._rules
        if part.family in (None, rules.family) or rules.family is None or rules.provider not in part.provider_metadata:
            return part
        self._warnings.mended(_name(part), "signatures and other metadata from another model family were left out")
        rest = {name: data for name, data in part.provider_metadata.items() if name != rules.provider}
        return attrs.evolve(part, provider_metadata=rest)

    def _text(self, part: Text, by_model: bool) -> Iterable[Text]:
        part = self._own(part)
        if part.text.strip() or (self._rules.blank_text and (part.text or not by_model)):
            return (part,)
        if part.provider_metadata.get(self._rules.provider) or part.provider_options.get(self._rules.provider):
            return (part,)
        if part.text:
            self._warnings.mended("text", "a blank text was left out")
        return ()

    def _reasoning(self, part: Reasoning, role: str) -> Iterable[Reasoning]:
        if role != "assistant":
            why = f"a {role} message cannot contain reasoning"
            self._warnings.add("left_out", "reasoning", why, lossy=True)
            return ()
        rules = self._rules
        if rules.reasoning == "never":
            why = "this model does not accept it"
        elif not self._is_accepted(part):
            why = "it comes from another provider or family of models"
        elif rules.reasoning == "signed" and part.signature is None and part.encrypted is None:
            why = "it has no signature"
        else:
            return (part,)
        self._warnings.mended("reasoning", f"reasoning in the history was left out: {why}")
        return ()

    def _is_accepted(self, part: Reasoning) -> bool:
        rules = self._rules
        if part.provider == rules.provider:
            if rules.family is None or part.family == rules.family or (rules.unknown_family and part.family is None):
                return True
            if part.family is None:
                signed = part.signature is not None or part.encrypted is not None
                return signed == (rules.reasoning == "signed")
        return any(
            part.provider == issuer.provider and issuer.family in (None, part.family) for issuer in rules.issuers
        )

    def _opaque(self, part: Opaque, *, by_model: bool) -> Iterable[Opaque]:
        family = self._rules.family
        if part.provider == self._rules.provider and (family is None or part.family in (None, family)):
            return (part,)
        maker = part.provider if part.provider != self._rules.provider else f"{part.provider} ({part.family})"
        why = f"only {maker} understands it; left out"
        self._warnings.add("mended" if by_model else "left_out", "opaque part", why, lossy=not by_model)
        return ()

    def _call(self, call: ToolCall) -> ToolCall:
        own = self._own(call)
        call_id, name = self._id(call.id), call.name
        if re.fullmatch(self._rules.tool_names, name) is None:
            name = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "unnamed"
            if re.fullmatch(self._rules.tool_names, name) is None:
                name = f"_{name}"[:64]  # it may have to begin with a letter
            self._warnings.mended("tool call", f"the name {call.name!r} is not accepted; sent as {name!r}")
        if call.invalid_arguments is None:
            return own if call_id == call.id and name == call.name else attrs.evolve(own, id=call_id, name=name)
        why = "arguments that are not a JSON object were wrapped in one, under the key 'invalid_arguments'"
        self._warnings.mended("tool call", why)
        arguments = {"invalid_arguments": call.invalid_arguments}
        return attrs.evolve(own, id=call_id, name=name, arguments=arguments, invalid_arguments=None)

    def _id(self, call_id: str) -> str:
        found, number = call_id, 0
        while found in self._used or re.fullmatch(self._rules.call_ids, found) is None:
            number += 1
            if number > _ID_TRIES:  # a pattern from a configuration may match no id
                raise ConfigurationError(
                    f"no new tool call id of {self._rules.new_id_length} characters was found that matches the pattern "
                    f"{self._rules.call_ids!r}; change the pattern or the length of the ids"
                )
            digest = sha256(f"{number}:{call_id}".encode("utf-8", "surrogatepass")).hexdigest()
            found = (self._rules.new_id_prefix + digest)[: self._rules.new_id_length]
        if number:
            self._warnings.mended("tool call id", "repeated or unaccepted ids were replaced")
        self._used.add(found)
        return found

    def _without_lost(self, parts: list[Part]) -> list[Part]:
        """Return the parts of an answer, or nothing if translators can send none of them.

        They cannot send a citation without its text, nor audio without a transcript and the provider's own metadata.
        """
        if not parts or not all(isinstance(part, (Citation, Reasoning)) or self._is_mute(part) for part in parts):
            return parts
        if any(isinstance(part, Audio) for part in parts):
            why = "a spoken answer without a transcript can be sent back only to the provider that made it"
            self._warnings.add("left_out", "audio", why, lossy=True)
        return []

    def _is_mute(self, part: Part) -> bool:
        rules = self._rules
        return (
            isinstance(part, Audio)
            and not isinstance(part, rules.answer_media)
            and not part.transcript
            and not part.provider_metadata.get(rules.provider)
        )

    def _with_calls_last(self, parts: list[Part]) -> list[Part]:
        calls = [part for part in parts if isinstance(part, ToolCall)]
        if not calls or not self._rules.calls_last or parts[-len(calls) :] == calls:
            return parts
        self._warnings.mended("tool call", "parts that followed the calls of an answer were moved before them")
        return [*(part for part in parts if not isinstance(part, ToolCall)), *calls]

    def _result(self, call: ToolCall, found: list[ToolResult], moved: list[Part]) -> ToolResult:
        if not found:
            self._warnings.mended("tool result", "a placeholder result was added for a call without a result")
            return ToolResult(tool_call_id=call.id, name=call.name, parts=NO_RESULT, is_error=True)
        parts: list[ToolResultPart] = []
        media: list[Part] = []
        for part in (part for result in found for part in result.parts):
            if isinstance(part, Opaque):
                parts += self._opaque(part, by_model=False)
            elif isinstance(part, (Image, Document, Audio)) and self._moves(part):
                media.append(self._own(part))
            elif not isinstance(part, Text) or part.text.strip() or (self._rules.blank_text and len(found) == 1):
                parts.append(self._own(part))
        if media:
            self._warnings.mended("tool result", "its media were moved to a user message after it")
            moved += media
            if not any(isinstance(part, Text) and part.text.strip() for part in parts):
                parts = [Text(text=MEDIA_FOLLOW), *parts]
        if not parts and (note := left_out_note(part for result in found for part in result.parts)):
            parts.append(Text(text=note))
        options: ProviderOptions = {}
        for result in found:
            options = {**options, **result.provider_options}
        return ToolResult(
            tool_call_id=call.id,
            name=call.name,
            parts=parts,
            is_error=any(result.is_error for result in found),
            cache=next((result.cache for result in reversed(found) if result.cache is not None), None),
            provider_options=options,
        )

    def _moves(self, part: Image | Document | Audio) -> bool:
        """Return whether media of a tool result have to follow it. The translator leaves unreadable media out."""
        return not isinstance(part, self._rules.result_media) and isinstance(part, self._rules.readable_media)


def _without_trailing_reasoning(parts: list[Part], rules: ReplayRules, warnings: Warnings) -> list[Part]:
    end = len(parts)
    while end and isinstance(parts[end - 1], (Reasoning, Citation)):
        end -= 1
    if not any(isinstance(part, Reasoning) for part in parts[end:]):
        end = len(parts)
    if end == len(parts) or (end and rules.trailing_reasoning):
        return parts
    warnings.mended("reasoning", "reasoning in the history was left out: nothing follows it")
    return parts[:end]


def _name(part: Part) -> str:
    return "tool call" if isinstance(part, ToolCall) else type(part).__name__.lower()


def left_out_note(parts: Iterable[Part]) -> str:
    """Return what to send in place of the parts of a tool result or user message if a translator can send none of them.

    It is empty if nothing was lost, because there are only blank texts.
    """
    return "" if all(isinstance(part, (Text, Citation)) for part in parts) else LEFT_OUT


def join_texts(texts: Iterable[str]) -> str:
    """Join the texts of a system or user message, for an API that accepts only one.

    A text begins a new line, unless there is white space before it or at its start: `Be brief.` and `Be kind.` are two
    sentences, `Be ` and `brief.` are one.
    """
    pieces: list[str] = []
    for text in filter(None, texts):
        if pieces and not (pieces[-1][-1].isspace() or text[0].isspace()):
            pieces.append("\n")
        pieces.append(text)
    return "".join(pieces)


# Order


def _with_moved_media(turns: list[Turn], moved: dict[int, list[Part]]) -> list[Turn]:
    """Move the media that were taken out of a turn to the user message after it, which is created if needed."""
    if not moved:
        return turns
    placed: list[Turn] = []
    media: list[Part] = []
    for turn in turns:
        if media and turn.message.role != "tool":
            if turn.message.role == "user":
                turn = attrs.evolve(turn, message=attrs.evolve(turn.message, parts=(*media, *turn.message.parts)))
            else:
                placed.append(Turn(Message(role="user", parts=media)))
            media = []
        media = moved.get(id(turn.message), media)
        if turn.message.parts or id(turn.message) not in moved:
            placed.append(turn)
    return [*placed, Turn(Message(role="user", parts=media))] if media else placed


def _in_order(turns: list[Turn], rules: ReplayRules, warnings: Warnings) -> list[Turn]:
    if rules.system == "first":
        front = [turn for turn in turns if turn.message.role == "system"]
        if front != turns[: len(front)]:
            warnings.mended(
                "system message", "a system message in the middle of the conversation was moved to its beginning"
            )
            turns = [*front, *(turn for turn in turns if turn.message.role != "system")]
    if not rules.trailing_space:
        turns = _stripped(turns, rules, warnings)
    ordered: list[Turn] = []
    for turn in turns:
        role, before = turn.message.role, ordered[-1] if ordered else None
        if role == "system" and rules.system == "not_after_answer" and before and before.message.role == "assistant":
            warnings.mended(
                "system message", "may not follow an answer or a tool result; it was sent as a user message"
            )
            turn = Turn(attrs.evolve(turn.message, role="user"))
            role = "user"
        if role == "assistant" and rules.starts_with_user and all(one.message.role == "system" for one in ordered):
            warnings.mended("messages", f"a user message must come first; {OPENING!r} was inserted")
            ordered.append(Turn(Message(role="user", parts=OPENING)))
        elif role == "assistant" and before and _is_lost(before.message, rules, is_first=_is_first(ordered)):
            warnings.mended(
                "messages", f"a user message before an answer must have content that can be sent; {OPENING!r} was added"
            )
            parts = [part for part in before.message.parts if not isinstance(part, Text)]
            ordered[-1] = attrs.evolve(before, message=attrs.evolve(before.message, parts=(*parts, Text(text=OPENING))))
        elif role == "user" and before and before.results and not rules.user_after_results:
            warnings.mended(
                "messages", f"no user message may follow a tool result; the answer {CONTINUED!r} was inserted"
            )
            ordered.append(Turn(Message(role="assistant", parts=CONTINUED)))
        elif before and _merges(role, rules) and role == before.message.role and not before.results:
            if rules.alternates:
                warnings.mended("messages", "neighbouring messages of one role were merged, since roles must alternate")
            else:
                why = "neighbouring system messages were merged, since only one is accepted"
                warnings.mended("system message", why)
            ordered[-1] = Turn(_merged(before.message, turn.message), turn.results)
            continue
        ordered.append(turn)
    if ordered and ordered[-1].message.role == "assistant" and not (rules.ends_with_answer or ordered[-1].results):
        warnings.mended("messages", f"an assistant message may not come last; {GO_ON!r} was added")
        ordered.append(Turn(Message(role="user", parts=GO_ON)))
    return ordered


def _merges(role: str, rules: ReplayRules) -> bool:
    return rules.alternates or (rules.one_system and role == "system")


def _is_first(ordered: list[Turn]) -> bool:
    return all(turn.message.role == "system" for turn in ordered[:-1])


def _is_lost(message: Message, rules: ReplayRules, *, is_first: bool) -> bool:
    """Return whether translators can send no part of a user message, although the format requires its content."""
    if message.role != "user" or message.provider_options.get(rules.provider):
        return False
    return (not rules.blank_text or (is_first and rules.starts_with_user)) and not any(
        part.text if isinstance(part, Text) else not _is_unreadable(part, rules) for part in message.parts
    )


def _is_unreadable(part: Part, rules: ReplayRules) -> bool:
    is_text = isinstance(part, Document) and (part.media_type or "").startswith("text/")
    return isinstance(part, (Image, Document, Audio)) and not isinstance(part, rules.readable_media) and not is_text


def _merged(first: Message, second: Message) -> Message:
    options = {**first.provider_options, **second.provider_options}
    return attrs.evolve(first, parts=(*first.parts, *second.parts), provider_options=options)


def _stripped(turns: list[Turn], rules: ReplayRules, warnings: Warnings) -> list[Turn]:
    """Remove the white space at the end of the last assistant message, if nothing follows it."""
    end = len(turns)
    while end and turns[end - 1].message.role == "system":  # a format may have its place elsewhere
        end -= 1
    turns, systems = turns[:end], turns[end:]
    while turns and turns[-1].message.role == "assistant" and not turns[-1].results:
        parts = list(turns[-1].message.parts)
        while parts and isinstance(parts[-1], Citation):  # translators send a citation with its text
            parts.pop()
        if not parts:
            break
        citations, last = turns[-1].message.parts[len(parts) :], parts.pop()
        if not isinstance(last, Text) or last.text == last.text.rstrip():
            break
        warnings.mended("messages", "white space at the end of the last assistant message was removed")
        if last.text.strip():
            rest = [*parts, attrs.evolve(last, text=last.text.rstrip()), *citations]
        else:
            rest = _without_trailing_reasoning(parts, rules, warnings)
        turns = [*turns[:-1], Turn(attrs.evolve(turns[-1].message, parts=tuple(rest)))] if rest else turns[:-1]
    return [*turns, *systems]
