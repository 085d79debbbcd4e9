"""Gemini streams and bodies in several framings: the kept fields, and the end of a stream."""

from __future__ import annotations

from typing import Any

import pytest
from trunkline import Image, Opaque, Reasoning, Text, TokenLogprob
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.json import dumps
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import RateLimited, RemoteError, ServerError, StreamInterrupted
from trunkline.fold import fold
from trunkline.response import ChatResponse, FinishReason
from trunkline.secrets import Headers, Secret
from trunkline_gemini import GeminiSettings
from trunkline_gemini.parse import GeminiParser

PARSER = GeminiParser(ServiceContext(name="g", provider="gemini", settings=GeminiSettings(api_key=Secret("k"))))


def chunk(*parts: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One `GenerateContentResponse`. `fields` are fields of its candidate."""
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, **fields}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "m", "responseId": "r"}


def text(words: str) -> dict[str, Any]:
    return {"text": words}


def sse(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + dumps(one) + b"\n\n" for one in chunks)


def array(*chunks: dict[str, Any]) -> bytes:
    return b"[" + b"\n,\r\n".join(map(dumps, chunks)) + b"\n]\n"


def lines(*chunks: dict[str, Any]) -> bytes:
    return b"".join(dumps(one) + b"\n" for one in chunks)


FRAMINGS = (sse, array, lines)


def decoded(data: bytes, *cuts: int) -> ChatResponse:
    decoder = StreamDecoder(*PARSER.stream())
    events, start = [], 0
    for cut in (*cuts, len(data)):
        events += decoder.feed(data[start:cut])
        start = cut
    if not decoder.finished:
        events += decoder.finish()
    return fold(events, "gemini")


def streamed(*chunks: dict[str, Any]) -> ChatResponse:
    return decoded(sse(*chunks))


def whole(body: object) -> ChatResponse:
    return PARSER.body(WireResponse(status=200, headers=Headers(), body=dumps(body)))


# Framings


@pytest.mark.parametrize("framing", FRAMINGS)
def test_every_element_is_read_at_any_split(framing: Any) -> None:
    data = framing(chunk(text("Grüß ")), chunk(text('{["Gott"]}')), chunk(text("!"), finish="STOP"))
    for cut in range(len(data)):
        assert decoded(data, cut, min(cut + 1, len(data))).text == 'Grüß {["Gott"]}!'


@pytest.mark.parametrize("framing", FRAMINGS)
def test_cut_off_stream_is_interrupted_in_any_framing(framing: Any) -> None:
    data = framing(chunk(text("one")), chunk(text("two")), chunk(text("three"), finish="STOP"))
    for end in range(data.rindex(b'"finishReason"')):
        with pytest.raises(StreamInterrupted):
            decoded(data[:end])


@pytest.mark.parametrize("framing", FRAMINGS)
def test_error_element_is_raised_in_any_framing(framing: Any) -> None:
    error = {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}
    with pytest.raises(RateLimited):
        decoded(framing(error))


def test_stream_in_place_of_a_body_is_read() -> None:
    chunks = (chunk(text("one ")), chunk(text("two"), finish="STOP"))
    for framing in FRAMINGS:
        body = WireResponse(status=200, headers=Headers(), body=framing(*chunks))
        assert PARSER.body(body).text == "one two"
    with pytest.raises(StreamInterrupted):
        PARSER.body(WireResponse(status=200, headers=Headers(), body=array(chunks[0])))


# Endings


def test_empty_stop_before_the_text_does_not_end_the_response() -> None:
    response = streamed(chunk(finish="STOP"), chunk(finish="STOP"), chunk(text("4")), chunk(text("2"), finish="STOP"))
    assert (response.text, response.finish_reason) == ("42", FinishReason.STOP)
    with pytest.raises(StreamInterrupted):
        streamed(chunk(finish="STOP"), chunk(text("4")))


def test_answer_with_a_stop_but_without_content_is_empty() -> None:
    for response in (streamed(chunk(finish="STOP")), whole(chunk(finish="STOP"))):
        assert (response.parts, response.finish_reason) == ((), FinishReason.STOP)


def test_counts_that_start_again_at_0_do_not_replace_earlier_counts() -> None:
    full = {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 14}
    for later in (
        {"promptTokenCount": 9, "totalTokenCount": 9},
        {**full, "candidatesTokenCount": 0},
        {"trafficType": "X"},
    ):
        first, last = (
            chunk(text("a")) | {"usageMetadata": full},
            chunk(text("b"), finish="STOP") | {"usageMetadata": later},
        )
        usage = streamed(first, last).usage
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.reasoning_tokens) == (9, 5, 14, 2)


def test_corrected_count_replaces_the_earlier_count() -> None:
    first = chunk(text("a")) | {"usageMetadata": {"promptTokenCount": 169, "totalTokenCount": 169}}
    usage = {"promptTokenCount": 79, "candidatesTokenCount": 12, "totalTokenCount": 91}
    response = streamed(first, chunk(text("b"), finish="STOP") | {"usageMetadata": usage})
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.total_tokens) == (79, 91)


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b'data: {"error": "overloaded"}\n\n', ServerError),
        (b'data: {"error_type": "x", "message": "busy", "code": 429}\n\n', RateLimited),
        (b'data: {"detail": "busy"}\n\n', RemoteError),
        (b"event: error\ndata: busy\n\n", RemoteError),
        (b'event: error\ndata: {"message": "busy"}\n\n', RemoteError),
        (b"error: busy\n\n", RemoteError),
        (b':HTTP_STATUS/429\ndata: {"message": "busy"}\n\n', RateLimited),
        (b'[{"error": {"code": 500, "message": "busy"}}]', ServerError),
    ],
)
def test_errors_in_any_form_are_raised_as_the_matching_class(frame: bytes, kind: type[RemoteError]) -> None:
    for before in (b"", sse(chunk(text("a")))):
        with pytest.raises(kind) as caught:
            decoded(before + frame)
        assert not isinstance(caught.value, StreamInterrupted)
        assert "busy" in str(caught.value) or "overloaded" in str(caught.value)


def test_null_error_is_ignored_and_the_next_error_is_raised() -> None:
    error = {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}
    with pytest.raises(RateLimited):
        streamed(chunk(text("a")), {"error": None}, error)
    assert streamed(chunk(text("a")) | {"error": None}, chunk(finish="STOP")).provider_metadata == {}


def test_continuation_has_the_finish_reason_length() -> None:
    response = streamed(chunk(text("a")), chunk(text("b"), finish="CONTINUATION", continuationToken="dG9rZW4="))
    assert (response.finish_reason, response.raw_finish_reason) == (FinishReason.LENGTH, "CONTINUATION")
    assert response.provider_metadata["gemini"]["continuationToken"] == "dG9rZW4="
    assert "continuationToken" in str(response.warnings[0])


def test_first_candidate_is_the_answer_and_other_candidates_are_metadata() -> None:
    def candidates(*words: str, finish: str | None = None) -> dict[str, Any]:
        made = [{"index": at, "content": {"parts": [text(word)]}} for at, word in enumerate(words) if word]
        return {"candidates": [{**one, "finishReason": finish} if finish else one for one in made]}

    response = streamed(
        candidates("a", "x"), candidates("", "y"), candidates("b", "", finish="STOP"), candidates("", "z")
    )
    assert response.text == "ab"
    [other] = response.provider_metadata["gemini"]["candidates"]
    assert [part["text"] for part in other["content"]["parts"]] == ["x", "y", "z"]
    assert [warning.subject for warning in response.warnings] == ["candidates"]


# Nothing vanishes

SOURCES = [{"web": {"uri": "https://a.example", "title": "a"}}, {"maps": {"uri": "https://m.example", "title": "m"}}]
GROUNDING = {
    "webSearchQueries": ["q"],
    "searchEntryPoint": {"renderedContent": "<div>"},
    "groundingChunks": SOURCES,
    "groundingSupports": [
        {"segment": {"endIndex": 6, "text": "Grüß"}, "groundingChunkIndices": [0]},
        {"segment": {"startIndex": 7, "endIndex": 11, "text": "Gott"}, "groundingChunkIndices": [0, 1]},
    ],
}
FIELDS = {
    "safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "LOW"}],
    "groundingMetadata": GROUNDING,
    "urlContextMetadata": {"urlMetadata": [{"retrievedUrl": "https://a.example"}]},
    "avgLogprobs": -0.1,
    "tokenCount": 3,
    "aFieldOfTomorrow": {"a": 1},
}


def both(*chunks: dict[str, Any]) -> tuple[ChatResponse, ChatResponse]:
    """Return the response of a stream, and the response of a body with the parts and fields of all chunks."""
    merged: dict[str, Any] = {}
    parts: list[Any] = []
    for one in chunks:
        [candidate] = one["candidates"]
        parts += candidate["content"]["parts"]
        merged = {**merged, **one, "candidates": [{**merged.get("candidates", [{}])[0], **candidate}]}
    merged["candidates"][0]["content"] = {"role": "model", "parts": parts}
    return streamed(*chunks), whole(merged)


def test_streams_and_bodies_keep_the_same_metadata() -> None:
    last = chunk(text(" Gott"), finish="STOP", **FIELDS) | {"modelStatus": {"modelStage": "STABLE"}, "createTime": "t"}
    last["promptFeedback"] = {"safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}]}
    for response in both(chunk(text("Grüß")) | {"createTime": "t"}, last):
        expected = {**FIELDS, "modelStatus": {"modelStage": "STABLE"}, "createTime": "t"}
        assert response.provider_metadata["gemini"] == {**expected, "promptFeedback": last["promptFeedback"]}


def test_citations_have_their_positions_in_characters() -> None:
    for response in both(chunk(text("Grüß")), chunk(text(" Gott"), finish="STOP", **FIELDS)):
        assert [(one.url, one.start, one.end) for one in response.citations] == [
            ("https://a.example", 0, 4),
            ("https://a.example", 5, 9),
            ("https://m.example", 5, 9),
        ]
        assert (
            response.citations[1].provider_metadata["gemini"]["groundingSupport"] == GROUNDING["groundingSupports"][1]
        )


@pytest.mark.parametrize(
    ("segment", "place"),
    [
        ({"startIndex": 1, "endIndex": 3}, (1, 3)),
        ({"startIndex": 1, "endIndex": 3, "text": "of another part"}, (None, None)),
        ({"startIndex": 1, "endIndex": 99}, (None, None)),
        ({"startIndex": 3, "endIndex": 1}, (None, None)),
        ({"startIndex": "x", "endIndex": None}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_position_that_does_not_fit_the_text_is_none(segment: dict[str, Any], place: tuple[int | None, ...]) -> None:
    grounding = {
        "groundingChunks": SOURCES[:1],
        "groundingSupports": [{"segment": segment, "groundingChunkIndices": [0]}],
    }
    [citation] = whole(chunk(text("abcd"), finish="STOP", groundingMetadata=grounding)).citations
    assert (citation.start, citation.end) == place


def test_positions_in_a_long_text_are_in_characters() -> None:
    words = "aß€🌍" * 3000
    for start, end in ((0, 1), (4000, 4004), (11_998, 12_000)):
        at = len(words[:start].encode())
        segment = {"startIndex": at, "endIndex": at + len(words[start:end].encode()), "text": words[start:end]}
        grounding = {
            "groundingChunks": SOURCES[:1],
            "groundingSupports": [
                {"segment": segment, "groundingChunkIndices": [0]},
                {"segment": {**segment, "endIndex": segment["endIndex"] - 1}, "groundingChunkIndices": [0]},
            ],
        }
        response = whole(chunk(text(words), finish="STOP", groundingMetadata=grounding))
        assert [(one.start, one.end) for one in response.citations] == [(start, end), (None, None)]


def test_citations_refer_to_the_right_sources_of_several_chunks() -> None:
    first = {
        "groundingChunks": SOURCES[:1],
        "groundingSupports": [{"segment": {"endIndex": 1}, "groundingChunkIndices": [0]}],
    }
    new = {
        "groundingChunks": SOURCES[1:],
        "groundingSupports": [{"segment": {"endIndex": 2}, "groundingChunkIndices": [0]}],
    }
    supports = [*first["groundingSupports"], {"segment": {"endIndex": 2}, "groundingChunkIndices": [1]}]
    for later in (new, {"groundingChunks": SOURCES, "groundingSupports": supports}):
        response = streamed(
            chunk(text("ab"), groundingMetadata=first), chunk(text("c"), finish="STOP", groundingMetadata=later)
        )
        assert [(one.title, one.end) for one in response.citations] == [("a", 1), ("m", 2)]
        assert response.provider_metadata["gemini"]["groundingMetadata"]["groundingSupports"] == supports


def test_repeated_sources_of_citation_metadata_are_one_citation() -> None:
    cited = {"citations": [{"startIndex": 0, "endIndex": 2, "uri": "https://b.example", "license": "MIT"}]}
    response = streamed(
        chunk(text("ab"), citationMetadata=cited), chunk(text("c"), finish="STOP", citationMetadata=cited)
    )
    [citation] = response.citations
    assert (citation.url, citation.start, citation.end) == ("https://b.example", 0, 2)
    assert citation.provider_metadata["gemini"]["license"] == "MIT"


def logprobs(*tokens: str) -> dict[str, Any]:
    chosen = [{"token": token, "tokenId": 1, "logProbability": -0.5} for token in tokens]
    top = [{"candidates": [one, {"token": "x", "logProbability": -2}]} for one in chosen]
    return {"chosenCandidates": chosen, "topCandidates": top, "logProbabilitySum": -1}


def test_log_probabilities_of_all_chunks_are_in_the_response() -> None:
    response = streamed(
        chunk(text("a"), logprobsResult=logprobs("a")),
        chunk(text("b")),
        chunk(finish="STOP", logprobsResult=logprobs("b")),
    )
    top = (TokenLogprob(token="a", logprob=-0.5), TokenLogprob(token="x", logprob=-2.0))
    assert response.logprobs[0] == TokenLogprob(token="a", logprob=-0.5, top=top)
    assert [one.token for one in response.logprobs] == ["a", "b"]
    assert response.provider_metadata["gemini"]["logprobsResult"] == {"logProbabilitySum": -1}


def test_log_probabilities_of_a_function_call_are_kept() -> None:
    call = {"functionCall": {"name": "f", "args": {}}}
    response = whole(chunk(call, finish="STOP", logprobsResult=logprobs("f")))
    assert response.logprobs == ()
    assert response.provider_metadata["gemini"]["logprobsResult"] == logprobs("f")


# Parts


def test_draft_pictures_are_opaque_parts() -> None:
    draft = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}, "thought": True, "thoughtSignature": "c2ln"}
    final = {"inlineData": {"mimeType": "image/png", "data": "BBBB"}, "thoughtSignature": "c2ln"}
    for response in both(chunk({"text": "hm", "thought": True}, draft), chunk(final, finish="STOP")):
        thought, opaque, image = response.parts
        assert isinstance(thought, Reasoning)
        assert isinstance(opaque, Opaque)
        assert opaque.data == draft
        assert isinstance(image, Image)
        assert image.provider_metadata == {"gemini": {"thoughtSignature": "c2ln"}}


def test_unknown_fields_of_a_part_are_metadata_of_the_part() -> None:
    parts = (
        {"text": "hm", "thought": True, "thoughtSignature": "c2ln", "partMetadata": {"a": 1}},
        {"text": "a", "partMetadata": {"b": 2}},
        {"inlineData": {"mimeType": "image/png", "data": "AAAA", "displayName": "p.png"}, "partMetadata": {"c": 3}},
        {"fileData": {"mimeType": "image/png", "fileUri": "gs://a/b.png"}},
        {"functionCall": {"name": "f", "args": {}, "new": 4}, "partMetadata": {"d": 5}},
    )
    for response in both(chunk(*parts, finish="STOP")):
        reasoning, words, image, file, call = response.parts
        assert isinstance(reasoning, Reasoning)
        assert (reasoning.signature, reasoning.provider_metadata) == ("c2ln", {"gemini": {"partMetadata": {"a": 1}}})
        assert isinstance(words, Text)
        assert words.provider_metadata == {"gemini": {"partMetadata": {"b": 2}}}
        assert isinstance(image, Image)
        assert image.provider_metadata == {
            "gemini": {"partMetadata": {"c": 3}, "inlineData": {"displayName": "p.png"}},
        }
        assert isinstance(file, Image)
        assert file.url == "gs://a/b.png"
        [same] = response.tool_calls
        assert same is call
        assert same.provider_metadata == {"gemini": {"partMetadata": {"d": 5}, "functionCall": {"new": 4}}}


def test_signature_without_data_is_sent_back_on_an_empty_text() -> None:
    response = streamed(chunk(text("a")), chunk({"thoughtSignature": "c2ln"}, finish="STOP"))
    assert response.text == "a"
    assert response.parts[-1].provider_metadata == {"gemini": {"thoughtSignature": "c2ln"}}  # type: ignore[union-attr]


def test_base64_of_both_alphabets_is_read() -> None:
    for data in ("+/+/+w==", "-_-_-w", "-_-_-w=="):
        [image] = whole(chunk({"inlineData": {"mimeType": "image/png", "data": data}}, finish="STOP")).parts
        assert isinstance(image, Image)
        assert image.data == b"\xfb\xff\xbf\xfb"


# Calls


def piece(path: str, *, more: bool = False, **value: Any) -> dict[str, Any]:
    return {"jsonPath": path, **value, **({"willContinue": True} if more else {})}


def part(*pieces: dict[str, Any], more: bool = True, **fields: Any) -> dict[str, Any]:
    call = {**fields, **({"partialArgs": list(pieces)} if pieces else {}), **({"willContinue": True} if more else {})}
    return {"functionCall": call}


def test_arguments_that_arrive_as_paths_and_values_are_assembled() -> None:
    response = streamed(
        chunk({**part(name="weather", id="c1"), "thoughtSignature": "c2ln"}),
        chunk(part(piece("$.city", stringValue="Os", more=True))),
        chunk(part(piece("$.city", stringValue="l", more=True))),
        chunk(part(piece("$.city", stringValue="o"), piece("$.days", numberValue=3))),
        chunk(
            part(piece("$.place.at[0].lat", numberValue=59.9), piece("$['the unit'][\"x\"]", nullValue="NULL_VALUE"))
        ),
        chunk(part(piece("$.place.at[1].dry", boolValue=False), piece("$.list[0]", stringValue="a"))),
        chunk(part(piece("$.list[1]", stringValue="b"))),
        chunk(part(more=False)),
        chunk(part(name="weather", more=True), part(piece("$.city", stringValue="Rome"), more=False)),
        chunk({"functionCall": {"name": "other", "args": {"a": 1}}}, finish="STOP"),
    )
    first, second, third = response.tool_calls
    assert (first.id, first.name, first.invalid_arguments) == ("c1", "weather", None)
    assert first.arguments == {
        "city": "Oslo",
        "days": 3,
        "place": {"at": [{"lat": 59.9}, {"dry": False}]},
        "the unit": {"x": None},
        "list": ["a", "b"],
    }
    assert first.provider_metadata == {"gemini": {"thoughtSignature": "c2ln"}}
    assert second.arguments == {"city": "Rome"}
    assert (third.name, third.arguments) == ("other", {"a": 1})
    assert response.finish_reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize(
    "chunks",
    [
        (chunk(part(piece("$.city", stringValue="Os", more=True), name="f"), finish="MAX_TOKENS"),),
        (chunk(part(piece("$.city", stringValue="Oslo"), name="f"), finish="CONTINUATION"),),
        (chunk(part(piece("$.city", stringValue="Os", more=True), name="f"), finish="STOP"),),
        (chunk(part(piece("city", stringValue="Oslo"), name="f", more=False), finish="STOP"),),
        (chunk(part(piece("$.a[999]", stringValue="x"), name="f", more=False), finish="STOP"),),
        (
            chunk(
                part(piece("$.a", stringValue="x"), piece("$.a.b", numberValue=1), name="f", more=False), finish="STOP"
            ),
        ),
        (chunk(part({"noPath": 1}, name="f", more=False), finish="STOP"),),
    ],
)
def test_arguments_that_are_cut_off_or_cannot_be_understood_are_invalid(chunks: tuple[dict[str, Any], ...]) -> None:
    response = streamed(*chunks)
    [call] = response.tool_calls
    assert call.invalid_arguments is not None
    assert "invalid_arguments" in {warning.kind for warning in response.warnings}


def test_long_arguments_arrive_in_many_pieces() -> None:
    pieces = [piece("$.text", stringValue="x" * 4, more=True) for _ in range(20_000)]
    # The call is complete although the last piece of a text announces more.
    for end in ((part(more=False),), (part(piece("$.text"), more=False),)):
        response = streamed(chunk(part(*pieces, name="f")), chunk(*end), chunk(finish="STOP"))
        assert response.tool_calls[0].arguments == {"text": "x" * 80_000}


def test_call_without_a_name_does_not_lose_other_parts() -> None:
    for call in ({"functionCall": {"args": {"a": 1}}}, {"functionCall": {"name": "", "args": {"a": 1}}}):
        response = streamed(chunk(text("a"), call), chunk(text("b"), finish="STOP"))
        assert (response.text, response.tool_calls) == ("ab", ())
        assert response.provider_metadata["gemini"]["tool_calls"]
        assert [warning.subject for warning in response.warnings] == ["tool call"]
    assert streamed(chunk({"functionCall": {}}), chunk(text("b"), finish="STOP")).warnings == ()


def test_call_has_the_name_that_the_application_gave_the_tool() -> None:
    [call] = streamed(chunk({"functionCall": {"name": "__2d_plot", "args": {}}}, finish="STOP")).tool_calls
    assert call.name == "2d_plot"
