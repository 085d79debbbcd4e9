"""Replay of a history by the rules of a wire format and a model family: the changes and their warnings."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st
from trunkline import (
    Audio,
    Citation,
    Document,
    Image,
    InvalidRequest,
    Message,
    Opaque,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    system,
    tool_result,
    user,
)
from trunkline.authoring.replay import (
    CONTINUED,
    GO_ON,
    MADE_BY_MODEL,
    MEDIA_FOLLOW,
    NO_RESULT,
    OPENING,
    Issuer,
    ReplayRules,
    Turn,
    lacks_reasoning,
    replay,
)
from trunkline.authoring.warnings import Warnings
from trunkline.errors import ConfigurationError

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 16
RULES = ReplayRules(provider="toy")
OSLO = ToolCall(id="c1", name="weather", arguments={"city": "Oslo"})
ROME = ToolCall(id="c2", name="weather", arguments={"city": "Rome"})


def replayed(messages: list[Message], **rules: Any) -> tuple[list[Turn], list[tuple[str, str, bool, int]]]:
    warnings = Warnings()
    turns = replay(messages, attrs.evolve(RULES, **rules), warnings)
    return turns, [(one.kind, one.subject, one.lossy, one.count) for one in warnings.all()]


def shown(turns: list[Turn]) -> list[tuple[str, tuple[Any, ...], tuple[str, ...]]]:
    """The role, the parts (texts as strings), and the texts of the results of each turn."""
    return [
        (
            turn.message.role,
            tuple(part.text if isinstance(part, Text) else part for part in turn.message.parts),
            tuple(result.text for result in turn.results),
        )
        for turn in turns
    ]


def mended(subject: str, count: int = 1) -> tuple[str, str, bool, int]:
    return ("mended", subject, False, count)


def test_history_that_breaks_no_rule_is_returned_unchanged_without_a_warning() -> None:
    messages = [
        system("Be brief."),
        user("Hello", Image(data=PNG)),
        assistant(Reasoning(text="hm", provider="toy"), "Let me look.", OSLO, ROME),
        tool_result(ROME, "sun"),
        tool_result(OSLO, "rain", is_error=True),
        assistant("Rain and sun."),
        user("Thanks"),
    ]
    turns, warnings = replayed(messages)
    assert warnings == []
    assert [turn.message for turn in turns] == [message for message in messages if message.role != "tool"]
    assert all(any(turn.message is message for message in messages) for turn in turns)
    assert [(one.tool_call_id, one.name, one.text, one.is_error) for one in turns[2].results] == [
        ("c1", "weather", "rain", True),
        ("c2", "weather", "sun", False),
    ]


class TestResults:
    def test_call_without_a_result_gets_a_failed_placeholder_result(self) -> None:
        turns, warnings = replayed([user("a"), assistant(OSLO, ROME), tool_result(OSLO, "rain"), user("never mind")])
        assert [one.text for one in turns[1].results] == ["rain", NO_RESULT]
        assert [one.is_error for one in turns[1].results] == [False, True]
        assert warnings == [mended("tool result")]

    def test_a_result_without_a_call_is_left_out_or_kept_in_its_place(self) -> None:
        messages = [user("a"), tool_result("other", "b"), user("c")]
        turns, warnings = replayed(messages)
        assert (shown(turns), warnings) == (
            [("user", ("a",), ()), ("user", ("c",), ())],
            [mended("tool result")],
        )
        turns, warnings = replayed(messages, unknown_results="kept")
        assert ([turn.message for turn in turns], warnings) == (messages, [])

    def test_a_kept_result_of_a_user_message_comes_before_it_in_a_tool_message(self) -> None:
        other = ToolResult(tool_call_id="other", parts="b")
        turns, warnings = replayed([Message(role="user", parts=[Text(text="a"), other])], unknown_results="kept")
        assert ([turn.message for turn in turns], warnings) == ([Message(role="tool", parts=[other]), user("a")], [])

    def test_reasoning_is_not_last_after_blank_text_is_removed(self) -> None:
        answer = assistant(Reasoning(text="hm", provider="toy"), " ")
        turns, warnings = replayed([user("a"), answer], trailing_space=False, trailing_reasoning=False)
        assert (shown(turns), warnings) == ([("user", ("a",), ())], [mended("messages"), mended("reasoning")])

    def test_late_results_are_moved_to_their_calls(self) -> None:
        turns, warnings = replayed([user("a"), assistant(OSLO), user("b"), tool_result(OSLO, "rain")])
        assert shown(turns) == [("user", ("a",), ()), ("assistant", (OSLO,), ("rain",)), ("user", ("b",), ())]
        assert warnings == [mended("tool result")]

    def test_several_results_of_one_call_are_merged_and_fail_if_one_failed(self) -> None:
        turns, warnings = replayed([assistant(OSLO), tool_result(OSLO, "a"), tool_result(OSLO, "b", is_error=True)])
        [result] = turns[0].results
        assert (result.text, result.is_error, warnings) == ("a\nb", True, [mended("tool result")])

    def test_results_are_taken_out_of_a_user_message(self) -> None:
        turns, warnings = replayed([assistant(OSLO), user(ToolResult(tool_call_id="c1", parts="rain"), "and now?")])
        assert shown(turns) == [("assistant", (OSLO,), ("rain",)), ("user", ("and now?",), ())]
        assert warnings == []

    def test_options_of_a_tool_message_move_to_its_last_result(self) -> None:
        result = ToolResult(tool_call_id="c1", parts="rain", provider_options={"toy": {"b": 2}})
        message = Message(role="tool", parts=result, provider_options={"toy": {"a": 1, "b": 1}})
        turns, _ = replayed([assistant(OSLO), message])
        assert turns[0].results[0].provider_options == {"toy": {"a": 1, "b": 2}}

    def test_tool_message_with_other_parts_and_calls_in_a_user_message_are_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="only ToolResult parts"):
            replayed([Message(role="tool", parts="text")])
        with pytest.raises(InvalidRequest, match="a user message cannot contain a tool call"):
            replayed([user(OSLO)])


class TestIds:
    def test_repeated_ids_are_replaced_in_calls_and_results_and_stay_the_same_later(self) -> None:
        again = attrs.evolve(ROME, id="c1")
        messages = [assistant(OSLO), tool_result(OSLO, "rain"), assistant(again), tool_result(again, "sun")]
        turns, warnings = replayed(messages)
        first, second = turns
        assert first.message.tool_calls[0].id == "c1" == first.results[0].tool_call_id
        assert second.message.tool_calls[0].id == second.results[0].tool_call_id != "c1"
        assert [one.text for turn in turns for one in turn.results] == ["rain", "sun"]
        assert warnings == [mended("tool call id")]
        longer, _ = replayed([*messages, user("next"), assistant(again), tool_result(again, "fog")])
        assert longer[:2] == turns

    def test_two_calls_with_the_same_id_in_one_message_each_get_their_result(self) -> None:
        twin = attrs.evolve(ROME, id="c1")
        turns, _ = replayed([assistant(OSLO, twin), tool_result("c1", "rain"), tool_result("c1", "sun")])
        assert [one.text for one in turns[0].results] == ["rain", "sun"]
        assert len({call.id for call in turns[0].message.tool_calls}) == 2

    @pytest.mark.parametrize("rules", [{"new_id_length": 0}, {"call_ids": "[a-z]{9}"}])
    def test_pattern_that_no_new_id_matches_is_a_configuration_error(self, rules: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match=r"no new tool call id of .* characters was found"):
            replayed([assistant(attrs.evolve(OSLO, id="a b")), tool_result("a b", "r")], **rules)

    @pytest.mark.parametrize("call_id", ["", "a b", "x" * 65, "ümlaut", "c1\n"])
    def test_ids_that_do_not_match_the_pattern_are_replaced(self, call_id: str) -> None:
        rules = {"call_ids": "[a-zA-Z0-9]{9}", "new_id_prefix": "", "new_id_length": 9}
        call = attrs.evolve(OSLO, id=call_id)
        for turns, _ in (
            replayed([assistant(call), tool_result(call, "r")]),
            replayed([assistant(call), tool_result(call, "r")], **rules),
        ):
            new = turns[0].message.tool_calls[0].id
            assert new.isalnum() or new.startswith("call_")
            assert turns[0].results[0].tool_call_id == new != call_id
        assert len(new) == 9


class TestParts:
    def test_arguments_that_are_not_an_object_are_sent_inside_an_object(self) -> None:
        call = ToolCall(id="c1", name="edit", invalid_arguments='{"path": "a')
        turns, warnings = replayed([assistant(call), tool_result(call, "no JSON", is_error=True)])
        assert turns[0].message.tool_calls[0].arguments == {"invalid_arguments": '{"path": "a'}
        assert turns[0].message.tool_calls[0].invalid_arguments is None
        assert warnings == [mended("tool call")]

    def test_names_that_do_not_match_the_pattern_are_changed_in_calls_and_results(self) -> None:
        call = ToolCall(id="c1", name="my tool.v2")
        turns, warnings = replayed([assistant(call), tool_result(call, "r")])
        assert (turns[0].message.tool_calls[0].name, turns[0].results[0].name) == ("my_tool_v2", "my_tool_v2")
        assert warnings == [mended("tool call")]

    @pytest.mark.parametrize(
        ("rules", "part", "kept"),
        [
            ({}, Reasoning(text="a", provider="toy"), True),
            ({}, Reasoning(text="a", provider="other"), False),
            ({}, Reasoning(text="a"), False),
            ({"reasoning": "never"}, Reasoning(text="a", provider="toy"), False),
            ({"reasoning": "signed"}, Reasoning(text="a", provider="toy"), False),
            ({"reasoning": "signed"}, Reasoning(text="a", provider="toy", signature="s"), True),
            ({"reasoning": "signed"}, Reasoning(provider="toy", encrypted="e", redacted=True), True),
            ({"family": "x"}, Reasoning(text="a", provider="toy", family="x"), True),
            ({"family": "x"}, Reasoning(text="a", provider="toy", family="y"), False),
            ({"family": "x"}, Reasoning(text="a", provider="toy"), True),
            ({"family": "x"}, Reasoning(text="a", provider="toy", signature="s"), False),
            ({"family": "x", "reasoning": "signed"}, Reasoning(text="a", provider="toy", signature="s"), True),
            ({"family": "x", "unknown_family": True}, Reasoning(text="a", provider="toy", signature="s"), True),
            ({"family": "x", "unknown_family": True}, Reasoning(text="a", provider="toy", family="y"), False),
            ({"issuers": (Issuer(provider="other"),)}, Reasoning(text="a", provider="other", family="z"), True),
            ({"issuers": (Issuer(provider="other", family="x"),)}, Reasoning(provider="other", family="z"), False),
        ],
    )
    def test_reasoning_is_sent_back_only_to_models_that_accept_it(
        self, rules: dict[str, Any], part: Reasoning, kept: bool
    ) -> None:
        turns, warnings = replayed([user("q"), assistant(part, "yes")], **rules)
        assert (part in turns[1].message.parts) is kept
        assert warnings == ([] if kept else [mended("reasoning")])

    def test_metadata_of_another_family_is_left_out_and_metadata_of_other_providers_stays(self) -> None:
        metadata: Any = {"toy": {"signature": "s"}, "other": {"id": 1}}
        call = attrs.evolve(OSLO, provider_metadata=metadata, family="x")
        for family, expected in (("x", metadata), (None, metadata), ("y", {"other": {"id": 1}})):
            turns, warnings = replayed([assistant(call), tool_result(call, "r")], family=family)
            assert turns[0].message.tool_calls[0].provider_metadata == expected
            assert warnings == ([mended("tool call")] if family == "y" else [])

    def test_opaque_part_of_another_family_is_left_out_and_is_lossy_only_from_the_application(self) -> None:
        part = Opaque(provider="toy", kind="search", data={}, family="x")
        assert part in replayed([assistant(part, "a")], family="x")[0][0].message.parts
        turns, warnings = replayed([user("q", part), assistant(part, "a")], family="y")
        assert shown(turns) == [("user", ("q",), ()), ("assistant", ("a",), ())]
        assert warnings == [("left_out", "opaque part", True, 1), mended("opaque part")]

    def test_empty_texts_and_messages_without_remaining_parts_are_left_out(self) -> None:
        messages = [user("a"), assistant(""), assistant(Reasoning(text="b", provider="toy")), assistant("", "c", " ")]
        turns, warnings = replayed(messages)
        assert shown(turns) == [("user", ("a",), ()), ("assistant", ("c", " "), ())]
        assert warnings == [mended("message", 2), mended("reasoning")]
        turns, warnings = replayed([*messages, user(" \n")], blank_text=False)
        assert shown(turns) == [("user", ("a",), ()), ("assistant", ("c",), ())]
        assert sorted(warnings) == sorted(
            [mended("message", 2), mended("message"), mended("reasoning"), mended("text", 2)]
        )

    def test_empty_text_stays_if_its_metadata_is_sent_back(self) -> None:
        part = Text(text="", provider_metadata={"toy": {"signature": "s"}})
        assert replayed([assistant(part)], blank_text=False)[0][0].message.parts == (part,)

    def test_reasoning_at_the_end_is_left_out_if_the_rules_forbid_it(self) -> None:
        part = Reasoning(text="b", provider="toy")
        assert len(replayed([assistant("a", part)])[0][0].message.parts) == 2
        turns, warnings = replayed([assistant("a", part)], trailing_reasoning=False)
        assert (shown(turns), warnings) == ([("assistant", ("a",), ())], [mended("reasoning")])

    def test_images_made_by_a_model_move_to_the_next_user_message(self) -> None:
        image = Image(data=PNG)
        turns, warnings = replayed([user("draw"), assistant("Here:", image), user("larger")])
        assert shown(turns)[1:] == [("assistant", ("Here:",), ()), ("user", (MADE_BY_MODEL, image, "larger"), ())]
        assert warnings == [mended("image")]
        turns, _ = replayed([user("draw"), assistant(image)])
        assert shown(turns) == [("user", ("draw",), ()), ("user", (MADE_BY_MODEL, image), ())]
        turns, warnings = replayed([assistant(image)], answer_media=(Image,))
        assert (shown(turns), warnings) == ([("assistant", (image,), ())], [])

    def test_media_that_the_model_cannot_read_are_left_out_of_answers_and_do_not_follow_results(self) -> None:
        image = Image(data=PNG)
        rules: dict[str, Any] = {"readable_media": (), "result_media": ()}
        turns, warnings = replayed([user("draw"), assistant("Here:", image), user(image)], **rules)
        assert shown(turns)[1:] == [("assistant", ("Here:",), ()), ("user", (image,), ())]
        assert warnings == [mended("image")]
        turns, warnings = replayed([user("draw"), assistant(OSLO), tool_result(OSLO, [image])], **rules)
        assert turns[1].results[0].parts == (image,)
        assert (len(turns), warnings) == (2, [])

    def test_media_of_results_move_after_all_results_of_the_message(self) -> None:
        image, document = Image(data=PNG), Document(data=b"%PDF-1")
        messages = [
            assistant(OSLO, ROME),
            tool_result(OSLO, [image]),
            tool_result(ROME, [Text(text="text"), document]),
            assistant("done"),
        ]
        turns, warnings = replayed(messages, result_media=(Document,))
        assert shown(turns) == [
            ("assistant", (OSLO, ROME), (MEDIA_FOLLOW, "text")),
            ("user", (image,), ()),
            ("assistant", ("done",), ()),
        ]
        assert warnings == [mended("tool result")]

    def test_audio_is_left_to_the_translator_and_reasoning_in_a_user_message_is_lossy(self) -> None:
        audio = Audio(data=b"ID3", transcript="hi")
        turns, warnings = replayed([user(Reasoning(text="a"), "b"), assistant(audio)])
        assert shown(turns) == [("user", ("b",), ()), ("assistant", (audio,), ())]
        assert warnings == [("left_out", "reasoning", True, 1)]


class TestOrder:
    def test_system_messages_move_to_the_front_or_become_user_messages(self) -> None:
        messages = [system("a"), user("b"), assistant("c"), system("d"), user("e"), system("f")]
        assert [turn.message for turn in replayed(messages)[0]] == messages
        turns, warnings = replayed(messages, system="first")
        assert [turn.message.text for turn in turns] == ["a", "d", "f", "b", "c", "e"]
        assert warnings == [mended("system message")]
        turns, warnings = replayed(messages, system="not_after_answer")
        assert [(turn.message.role, turn.message.text) for turn in turns][3:] == [
            ("user", "d"),
            ("user", "e"),
            ("system", "f"),
        ]
        assert warnings == [mended("system message")]

    def test_a_user_message_is_put_first(self) -> None:
        turns, warnings = replayed([system("a"), assistant("b")], starts_with_user=True)
        assert [turn.message.text for turn in turns] == ["a", OPENING, "b"]
        assert warnings == [mended("messages")]

    def test_an_answer_is_put_between_results_and_a_user_message(self) -> None:
        turns, warnings = replayed([assistant(OSLO), tool_result(OSLO, "r"), user("b")], user_after_results=False)
        assert [turn.message.text for turn in turns] == ["", CONTINUED, "b"]
        assert warnings == [mended("messages")]

    def test_consecutive_messages_of_one_role_are_merged_but_not_across_results(self) -> None:
        messages = [system("a"), system("b"), user("c"), user("d"), assistant(OSLO), tool_result(OSLO, "r")]
        turns, warnings = replayed([*messages, assistant("e"), assistant("f")], alternates=True)
        assert shown(turns) == [
            ("system", ("a", "b"), ()),
            ("user", ("c", "d"), ()),
            ("assistant", (OSLO,), ("r",)),
            ("assistant", ("e", "f"), ()),
        ]
        assert warnings == [mended("messages", 3)]

    def test_white_space_at_the_end_of_the_last_answer_is_removed(self) -> None:
        messages = [user("a "), assistant("b "), user("c "), assistant("d \n")]
        turns, warnings = replayed(messages, trailing_space=False)
        assert [turn.message.text for turn in turns] == ["a ", "b ", "c ", "d"]
        assert warnings == [mended("messages")]
        assert replayed(messages[:3], trailing_space=False)[1] == []

    def test_white_space_before_citations_and_system_messages_at_the_end_is_removed(self) -> None:
        source = Citation(url="u")
        messages = [user("a"), assistant("b ", source), system("s"), system("t")]
        turns, warnings = replayed(messages, trailing_space=False)
        assert shown(turns)[1:] == [("assistant", ("b", source), ()), ("system", ("s",), ()), ("system", ("t",), ())]
        assert warnings == [mended("messages")]
        assert replayed([user("a"), assistant(source)], trailing_space=False)[0][1:] == []

    def test_system_messages_merge_if_only_one_is_accepted(self) -> None:
        messages = [system("a"), system("b"), user("c"), user("d"), system("e")]
        turns, warnings = replayed(messages, system="first", one_system=True)
        assert [turn.message.text for turn in turns] == ["abe", "c", "d"]
        assert warnings == [mended("system message"), mended("system message", 2)]

    def test_reasoning_before_citations_at_the_end_is_left_out_if_it_may_not_come_last(self) -> None:
        reasoning, source = Reasoning(text="a", provider="toy"), Citation(url="u")
        turns, warnings = replayed([user("q"), assistant("b", reasoning, source)], trailing_reasoning=False)
        assert shown(turns)[1:] == [("assistant", ("b",), ())]
        assert warnings == [mended("reasoning")]
        assert shown(replayed([user("q"), assistant("b", source)], trailing_reasoning=False)[0])[1][1] == ("b", source)

    def test_answers_of_which_nothing_can_be_sent_are_left_out(self) -> None:
        reasoning, source = Reasoning(text="a", provider="toy"), Citation(url="u")
        mute = Audio(data=b"RIFF", provider_metadata={"other": {"id": "audio_1"}})
        for parts in ([source], [reasoning, source]):
            assert replayed([user("q"), assistant(*parts)])[0] == [Turn(user("q"))]
        turns, warnings = replayed([user("q"), assistant(source, mute)])
        assert turns == [Turn(user("q"))]
        assert warnings == [("left_out", "audio", True, 1), mended("message")]
        own = attrs.evolve(mute, provider_metadata={"toy": {"id": "audio_1"}})
        for part in (own, attrs.evolve(mute, transcript="t"), Text(text="t")):
            assert shown(replayed([user("q"), assistant(source, part)])[0])[1][0] == "assistant"
        assert replayed([user("q"), assistant(mute)], answer_media=(Audio,))[1] == []

    def test_user_message_that_the_model_cannot_read_gets_a_text_if_an_answer_follows(self) -> None:
        image = Image(data=PNG)
        messages = [user(image), assistant("a"), user(image), assistant("b"), user(image)]
        for rules, places in (({"starts_with_user": True}, [0]), ({"blank_text": False}, [0, 2])):
            turns, warnings = replayed(messages, readable_media=(), **rules)
            assert [place for place, turn in enumerate(turns) if turn.message.text == OPENING] == places
            assert warnings == [mended("messages", len(places))]
            assert replayed(messages, **rules)[1] == []
            assert replayed([user(image), user("a"), assistant("b")], readable_media=(), **rules)[1] == []
        assert replayed(messages, readable_media=())[1] == []
        plain = Document(data=b"a", media_type="text/plain")
        assert replayed([user(plain), assistant("a")], readable_media=(), starts_with_user=True)[1] == []
        options = {"toy": {"cache": True}}
        marked = Message(role="user", parts=(), provider_options=options)
        assert replayed([marked, assistant("a")], starts_with_user=True)[1] == []

    def test_parts_after_a_call_move_before_the_calls_if_calls_must_come_last(self) -> None:
        messages = [assistant(OSLO, "a", ROME, "b"), tool_result(OSLO, "7 C"), tool_result(ROME, "20 C")]

        turns, warnings = replayed(messages, calls_last=True)

        assert shown(turns) == [("assistant", ("a", "b", OSLO, ROME), ("7 C", "20 C"))]
        assert warnings == [mended("tool call")]
        assert replayed(messages)[1] == []
        assert replayed([assistant("a", OSLO, ROME)], calls_last=True)[0][0].message.parts[1:] == (OSLO, ROME)

    def test_tool_loop_lacks_reasoning_if_its_last_call_has_no_reasoning(self) -> None:
        reasoning = Reasoning(text="a", provider="toy")
        for messages, lacks in (
            ([assistant(OSLO), tool_result(OSLO, "r")], True),
            ([assistant(reasoning, OSLO), tool_result(OSLO, "r")], False),
            ([assistant(attrs.evolve(reasoning, provider="x"), OSLO), tool_result(OSLO, "r")], True),
            ([assistant(OSLO), tool_result(OSLO, "r"), user("b")], True),
            ([assistant(OSLO), tool_result(OSLO, "r"), assistant("b"), user("c")], False),
            ([assistant(reasoning, OSLO), tool_result(OSLO, "r"), assistant(ROME), tool_result(ROME, "r")], False),
            ([assistant(OSLO), tool_result(OSLO, "r"), user("b"), assistant(ROME), tool_result(ROME, "r")], True),
            ([user("a")], False),
            ([], False),
        ):
            assert lacks_reasoning(replayed(messages)[0]) is lacks


IDS = st.sampled_from(["", "c1", "c2", "a b", "x" * 70])
ANY_PARTS = st.one_of(
    st.builds(Text, text=st.sampled_from(["", " ", "a", "b "])),
    st.builds(
        Reasoning,
        text=st.sampled_from(["", "r"]),
        provider=st.sampled_from([None, "toy", "other"]),
        family=st.sampled_from([None, "x", "y"]),
        signature=st.sampled_from([None, "s"]),
    ),
    st.builds(
        ToolCall, id=IDS, name=st.sampled_from(["look", "", "a b"]), invalid_arguments=st.sampled_from([None, "{"])
    ),
    st.builds(Image, data=st.just(PNG)),
    st.builds(Citation, url=st.just("u")),
    st.builds(Opaque, provider=st.sampled_from(["toy", "other"]), kind=st.just("k"), data=st.just({})),
)
USER_PARTS = st.one_of(st.builds(Text, text=st.sampled_from(["", " ", "a"])), st.builds(Image, data=st.just(PNG)))
RESULTS = st.builds(
    ToolResult,
    tool_call_id=IDS,
    parts=st.lists(st.one_of(st.builds(Text, text=st.sampled_from(["", "r"])), st.builds(Image, data=st.just(PNG)))),
)
MESSAGES = st.lists(
    st.one_of(
        st.builds(Message, role=st.just("assistant"), parts=st.lists(ANY_PARTS, max_size=4)),
        st.builds(Message, role=st.sampled_from(["user", "system"]), parts=st.lists(USER_PARTS, max_size=2)),
        st.builds(Message, role=st.just("tool"), parts=st.lists(RESULTS, max_size=3)),
    ),
    max_size=8,
)
ANY_RULES = st.builds(
    ReplayRules,
    provider=st.just("toy"),
    family=st.sampled_from([None, "x"]),
    reasoning=st.sampled_from(["never", "own", "signed"]),
    trailing_reasoning=st.booleans(),
    blank_text=st.booleans(),
    trailing_space=st.booleans(),
    answer_media=st.sampled_from([(), (Image,)]),
    readable_media=st.sampled_from([(), (Image, Document, Audio)]),
    result_media=st.sampled_from([(), (Image, Document, Audio)]),
    system=st.sampled_from(["anywhere", "first", "not_after_answer"]),
    starts_with_user=st.booleans(),
    user_after_results=st.booleans(),
    alternates=st.booleans(),
    one_system=st.booleans(),
)


@given(MESSAGES, ANY_RULES)
def test_any_history_follows_any_rules_and_a_second_replay_changes_nothing(
    messages: list[Message], rules: ReplayRules
) -> None:
    warnings = Warnings()
    turns = replay(messages, rules, warnings)
    assert all(warning.kind == "mended" and not warning.lossy for warning in warnings.all())
    ids = [call.id for turn in turns for call in turn.message.tool_calls]
    assert len(ids) == len(set(ids))
    for turn in turns:
        assert [result.tool_call_id for result in turn.results] == [call.id for call in turn.message.tool_calls]
        assert all(call.invalid_arguments is None for call in turn.message.tool_calls)
        if turn.message.role == "assistant":
            assert any(not isinstance(part, Reasoning) for part in turn.message.parts)
    again = [
        message
        for turn in turns
        for message in (turn.message, *(Message(role="tool", parts=result) for result in turn.results))
    ]
    twice = Warnings()
    assert replay(again, rules, twice) == turns
    assert twice.all() == ()


def test_user_message_follows_an_assistant_message_that_cannot_come_last() -> None:
    messages = [user("Count."), assistant("1, 2,")]
    assert replayed(messages)[1] == []
    turns, warnings = replayed(messages, ends_with_answer=False)
    assert shown(turns)[-1] == ("user", (GO_ON,), ())
    assert warnings == [mended("messages")]
    turns, warnings = replayed([user("Rain?"), assistant(OSLO), tool_result(OSLO, "yes")], ends_with_answer=False)
    assert (shown(turns)[-1][2], warnings) == (("yes",), [])
