"""Reranking, transcription, speech, images and moderation: the methods of a service, and what the core checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from trunkline import (
    Audio,
    Image,
    ImageRequest,
    ImageResponse,
    InvalidRequest,
    Moderation,
    ModerationResponse,
    PluginError,
    ProtocolViolation,
    RankedDocument,
    RemoteError,
    RerankRequest,
    RerankResponse,
    SpeechResponse,
    TranscriptionResponse,
    UnsupportedOperation,
    UnsupportedRequest,
    fallback,
)
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.multipart import UploadedFile, encode_form, form_fields, media_file
from trunkline.authoring.provider import Operation, Operations, ServiceContext, Translation
from trunkline.authoring.results import decode_data, decode_moderation, decode_ranking, decode_times, texts_of
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.testing import Exchange, serve


def _build(path: str) -> Callable[[ServiceContext[Any], Any], Translation]:
    def build(context: ServiceContext[Any], request: Any) -> Translation:
        warnings = Warnings()
        warnings.unsupported(request, supported={"documents", "top_n", "images"})
        wire_request = WireRequest(url=f"{context.settings.url}{path}", body=dumps({"model": request.model}))
        return Translation(wire_request=wire_request, warnings=warnings.all())

    return build


def _ranked(context: ServiceContext[Any], answer: WireResponse) -> RerankResponse:
    return RerankResponse(results=decode_ranking(loads(answer.body), provider=context.provider))


def _transcribed(context: ServiceContext[Any], answer: WireResponse) -> TranscriptionResponse:
    return TranscriptionResponse(text=loads(answer.body))


def _spoken(context: ServiceContext[Any], answer: WireResponse) -> SpeechResponse:
    return SpeechResponse(audio=Audio(data=answer.body, media_type=answer.headers["content-type"]))


def _drawn(context: ServiceContext[Any], answer: WireResponse) -> ImageResponse:
    return ImageResponse(images=tuple(Image(url=url) for url in loads(answer.body)))


def _moderated(context: ServiceContext[Any], answer: WireResponse) -> ModerationResponse:
    results = (decode_moderation(item, provider=context.provider) for item in loads(answer.body))
    return ModerationResponse(results=tuple(results))


OPERATIONS = Operations(
    rerank=Operation(build=_build("/rerank"), parse=_ranked),
    transcribe=Operation(build=_build("/transcribe"), parse=_transcribed),
    generate_speech=Operation(build=_build("/speech"), parse=_spoken),
    generate_images=Operation(build=_build("/images"), parse=_drawn),
    moderate=Operation(build=_build("/moderate"), parse=_moderated),
)
WITH_OPERATIONS = {"operations": lambda context: OPERATIONS}


def answering(body: bytes, content_type: str = "application/json") -> Callable[[Exchange], Any]:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(body, headers={"content-type": content_type})

    return script


CALLS: dict[str, tuple[Callable[[Any], Any], bytes]] = {
    "rerank": (lambda service: service.rerank("q", ["a", "b"]), b'[{"index": 1, "relevance_score": 0.5}]'),
    "transcribe": (lambda service: service.transcribe(Audio(data=b"x")), b'"text"'),
    "generate_speech": (lambda service: service.generate_speech("text"), b"RIFF"),
    "generate_images": (lambda service: service.generate_images("a cat"), b'["https://x"]'),
    "moderate": (lambda service: service.moderate("text"), b'[{"categories": {"hate": true}}]'),
}


@pytest.mark.anyio
@pytest.mark.each_stack
@pytest.mark.parametrize("name", CALLS)
async def test_an_operation_is_sent_and_its_response_says_who_answered(name: str, toy: Any) -> None:
    call, body = CALLS[name]
    async with serve(answering(body)) as server, toy(server.url, WITH_OPERATIONS) as service:
        response = await call(service)
        assert (response.provider, response.service, response.warnings) == ("toy", "toy", ())
        [sent] = server.requests
        assert loads(sent.body) == {"model": "toy-1"}
        assert sent.headers["authorization"] == "Bearer toy-secret-key"


@pytest.mark.anyio
@pytest.mark.parametrize("name", CALLS)
async def test_a_provider_without_the_operation_says_so(name: str, toy: Any) -> None:
    async with toy("http://127.0.0.1:9") as service:
        with pytest.raises(UnsupportedOperation, match=name):
            await CALLS[name][0](service)


@pytest.mark.anyio
async def test_a_composed_service_passes_operations_on(toy: Any) -> None:
    async def failing(exchange: Exchange) -> None:
        await exchange.respond(b'{"error": "gone"}', status=500)

    call, body = CALLS["rerank"]
    async with serve(failing) as bad, serve(answering(body)) as good:
        first, second = toy(bad.url, WITH_OPERATIONS, name="first"), toy(good.url, WITH_OPERATIONS, name="second")
        async with fallback(first, second) as service:
            assert (await call(service)).service == "second"


@pytest.mark.anyio
async def test_keywords_replace_the_fields_of_a_request(toy: Any) -> None:
    async with serve(answering(CALLS["rerank"][1])) as server, toy(server.url, WITH_OPERATIONS) as service:
        await service.rerank(RerankRequest(query="q", documents=["a", "b"], model="m1"), model="m2")
        assert loads(server.requests[0].body) == {"model": "m2"}
        with pytest.raises(TypeError, match="topn"):
            await service.rerank("q", ["a"], topn=1)
        with pytest.raises(InvalidRequest, match="at least one document") as caught:
            await service.rerank("q")
        assert caught.value.service == "toy"


@pytest.mark.anyio
async def test_documents_beside_a_request_replace_those_of_the_request(toy: Any) -> None:
    request = RerankRequest(query="q", documents=["a"])
    async with serve(answering(CALLS["rerank"][1])) as server, toy(server.url, WITH_OPERATIONS) as service:
        # The ranking has the index 1, which only the new list has.
        assert (await service.rerank(request, ["a", "b"])).results == (RankedDocument(1, 0.5),)
        with pytest.raises(InvalidRequest, match="at least one document"):
            await service.rerank(request, [])


@pytest.mark.anyio
@pytest.mark.parametrize("name", CALLS)
async def test_an_empty_name_of_a_model_means_the_default(name: str, toy: Any) -> None:
    calls: dict[str, Callable[[Any], Any]] = {
        "rerank": lambda service: service.rerank("q", ["a", "b"], model=""),
        "transcribe": lambda service: service.transcribe(Audio(data=b"x"), model=""),
        "generate_speech": lambda service: service.generate_speech("text", model=""),
        "generate_images": lambda service: service.generate_images("a cat", model=""),
        "moderate": lambda service: service.moderate("text", model=""),
    }
    async with serve(answering(CALLS[name][1])) as server, toy(server.url, WITH_OPERATIONS) as service:
        await calls[name](service)
        assert loads(server.requests[0].body) == {"model": "toy-1"}


@pytest.mark.anyio
async def test_warnings_of_another_type_are_a_plugin_error(toy: Any) -> None:
    def parse(context: ServiceContext[Any], answer: WireResponse) -> RerankResponse:
        warnings: Any = ("a text",)
        return RerankResponse(results=(RankedDocument(0, 1.0),), warnings=warnings)

    operations = Operations(rerank=Operation(build=_build("/rerank"), parse=parse))
    async with serve(answering(b"[]")) as server:
        async with toy(server.url, {"operations": lambda context: operations}) as service:
            with pytest.raises(PluginError, match="an operation of"):
                await service.rerank("q", ["a"])


@pytest.mark.anyio
async def test_a_field_that_is_lost_is_a_warning_and_an_error_if_strict(toy: Any) -> None:
    body = CALLS["generate_images"][1]
    async with serve(answering(body)) as server:
        async with toy(server.url, WITH_OPERATIONS) as service:
            response = await service.generate_images("a cat", size="2K")
            assert [warning.subject for warning in response.warnings] == ["size"]
        async with toy(server.url, WITH_OPERATIONS, strict=True) as service:
            with pytest.raises(UnsupportedRequest, match="size"):
                await service.generate_images("a cat", size="2K")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "ranking",
    [
        b"[]",
        b'[{"index": 2, "relevance_score": 1}]',
        b'[{"index": -1, "relevance_score": 1}]',
        b'[{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 2}]',
        b'[{"index": "0", "relevance_score": 1}]',
        b'[{"index": 0, "relevance_score": "1"}]',
        b'[{"index": 0, "relevance_score": NaN}]',
        b'[{"index": true, "relevance_score": 1}]',
        b"[{}]",
        b"[0]",
        b"{}",
    ],
)
async def test_a_ranking_that_does_not_fit_the_documents_is_a_violation(ranking: bytes, toy: Any) -> None:
    async with serve(answering(ranking)) as server, toy(server.url, WITH_OPERATIONS, max_retries=0) as service:
        with pytest.raises(ProtocolViolation):
            await service.rerank("q", ["a", "b"])


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["moderate", "generate_images"])
async def test_a_response_without_a_result_for_each_input_is_a_violation(name: str, toy: Any) -> None:
    async with serve(answering(b"[]")) as server, toy(server.url, WITH_OPERATIONS, max_retries=0) as service:
        with pytest.raises(ProtocolViolation, match=r"number of moderation|no image"):
            await CALLS[name][0](service)


@pytest.mark.anyio
@pytest.mark.parametrize("data", [b"\xff\xfb" + b"[{" * 400_000, b"ID3" + bytes(range(256)) * 100])
async def test_brackets_in_audio_are_not_taken_for_nested_json(data: bytes, toy: Any) -> None:
    async with serve(answering(data, "audio/mpeg")) as server, toy(server.url, WITH_OPERATIONS) as service:
        assert (await service.generate_speech("text")).audio == Audio(data=data, media_type="audio/mpeg")


@pytest.mark.anyio
@pytest.mark.parametrize("data", [b"[" * 400, b" \n[" + b"{" * 400_000])
async def test_nested_json_that_is_called_audio_is_refused(data: bytes, toy: Any) -> None:
    async with serve(answering(data, "audio/mpeg")) as server, toy(server.url, WITH_OPERATIONS) as service:
        with pytest.raises(ProtocolViolation, match=r"nest|more than"):
            await service.generate_speech("text")


@pytest.mark.anyio
async def test_the_body_limit_holds_for_audio(toy: Any) -> None:
    settings = {"body_limit": 1000, "max_retries": 0}
    async with serve(answering(b"x" * 1001, "audio/mpeg")) as server:
        async with toy(server.url, WITH_OPERATIONS, **settings) as service:
            with pytest.raises(ProtocolViolation, match="body_limit"):
                await service.generate_speech("text")


@pytest.mark.anyio
async def test_an_error_status_is_the_error_of_the_provider(toy: Any) -> None:
    async def missing(exchange: Exchange) -> None:
        await exchange.respond(b'{"error": "no such endpoint"}', status=404)

    async with serve(missing) as server, toy(server.url, WITH_OPERATIONS, max_retries=0) as service:
        with pytest.raises(RemoteError) as caught:
            await service.moderate("text")
        assert caught.value.status == 404


# The helpers for plugins


def test_a_ranking_has_the_most_relevant_document_first() -> None:
    items = [
        {"index": 0, "relevance_score": -3},
        {"index": 2, "relevance_score": 0.5},
        {"relevance_score": 0.1, "x": 1},
    ]
    ranked = (RankedDocument(2, 0.5), RankedDocument(0, 0.1), RankedDocument(0, -3.0))
    assert decode_ranking(items, provider="toy") == ranked


def test_a_ranking_may_call_its_scores_score() -> None:
    items = [{"index": 0, "score": 0.1}, {"index": 1, "score": 0.9}]
    assert decode_ranking(items, provider="toy") == (RankedDocument(1, 0.9), RankedDocument(0, 0.1))
    with pytest.raises(ProtocolViolation, match="no score"):
        decode_ranking([{"index": 0, "logit": 0.1}, {"index": 1, "logit": 0.9}], provider="toy")


def test_times_of_segments_and_words() -> None:
    items = [
        {"text": "Hello there.", "start": 0, "end": 1.5, "speaker": "A"},
        {"word": "Hello", "start": 0.0, "end": 0.5},
        {"text": "x", "start": None, "end": "1", "speaker": 2},
        7,
        {},
    ]
    segments, words = decode_times(items)
    assert [(segment.text, segment.start, segment.end, segment.speaker) for segment in segments] == [
        ("Hello there.", 0.0, 1.5, "A"),
        ("x", None, None, "2"),
    ]
    assert [(word.text, word.start, word.end) for word in words] == [("Hello", 0.0, 0.5)]
    assert decode_times("x") == ((), ())


def test_moderation_without_a_flag_is_flagged_by_any_category() -> None:
    item: dict[str, Any] = {"categories": {"a": False, "b": True}, "category_scores": {"a": 0.25, "b": "?"}}
    assert decode_moderation(item, provider="toy") == Moderation(
        flagged=True, categories={"a": False, "b": True}, scores={"a": 0.25}
    )
    assert decode_moderation({**item, "flagged": False}, provider="toy").flagged is False
    wrong_flags = ({"categories": {"a": 1}}, {"categories": {}, "flagged": "true"}, {"categories": {}, "flagged": 1})
    for wrong in (None, {}, {"categories": []}, *wrong_flags):
        with pytest.raises(ProtocolViolation):
            decode_moderation(wrong, provider="toy")


@pytest.mark.parametrize("value", [None, "", "?", 7, "YWJ"])
def test_data_that_is_not_base64_is_a_violation(value: Any) -> None:
    assert decode_data("YWJj", "it", provider="toy") == b"abc"
    with pytest.raises(ProtocolViolation, match="it is not base64"):
        decode_data(value, "it", provider="toy")


def test_an_api_for_texts_refuses_images() -> None:
    assert texts_of(("a", "b"), provider="toy") == ["a", "b"]
    for wrong in (Image(url="https://x"), ("a", Image(url="https://x"))):
        with pytest.raises(InvalidRequest, match=r"inputs\[1\]"):
            texts_of(("a", wrong), provider="toy")


def test_a_form_has_its_fields_in_order() -> None:
    content_type, body = encode_form([("a", "x"), ("b", UploadedFile("f.wav", b"\r\n--\x00", "audio/wav")), ("a", "y")])
    boundary = content_type.removeprefix("multipart/form-data; boundary=").encode()
    assert body.split(b"--" + boundary) == [
        b"",
        b'\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n',
        b'\r\nContent-Disposition: form-data; name="b"; filename="f.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        b"\r\n--\x00\r\n",
        b'\r\nContent-Disposition: form-data; name="a"\r\n\r\ny\r\n',
        b"--\r\n",
    ]
    assert encode_form([("a", "ü")]) == encode_form([("a", "ü")])
    assert encode_form([("a", "x")])[0] != encode_form([("a", "y")])[0]


def test_the_boundary_of_a_form_does_not_occur_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # No file contains the hash of a form with it, so the hashes are replaced.
    hashes = iter(["a" * 64, "a" * 64, "b" * 64])
    monkeypatch.setattr("trunkline.authoring.multipart._digest", lambda data: next(hashes)[:32])
    content_type, _ = encode_form([("f", UploadedFile("f", b"-" + b"a" * 40))])
    assert content_type.endswith("b" * 32)


def test_names_in_a_form_cannot_break_out_of_their_quotes() -> None:
    _, body = encode_form([('a"\r\nX: y', UploadedFile('f"\r\n', b"", "audio/wav\r\nX: y"))])
    head, *_ = body.partition(b"\r\n\r\n")
    assert head.count(b"\r\n") == 2
    assert b'name="a%22%0D%0AX: y"; filename="f%22%0D%0A"' in head


def test_half_an_emoji_in_a_form_is_replaced() -> None:
    file = UploadedFile("a\ud83d.wav", b"x", "audio/\ud83d")
    _, body = encode_form([("prompt", "a\ud83d b"), ("file", file)])
    assert b"\r\n\r\na? b\r\n" in body
    assert b'filename="a?.wav"\r\nContent-Type: audio/?\r\n' in body


def test_json_values_as_fields_of_a_form() -> None:
    fields = {"a": [1, True], "b": {"c": "d", "e": [0.5]}, "f": None, "g": False, "h": "x"}
    assert form_fields(fields) == [
        *(("a[]", "1"), ("a[]", "true"), ("b[c]", "d"), ("b[e][]", "0.5"), ("g", "false"), ("h", "x")),
    ]


def test_the_name_of_a_file_has_the_extension_of_its_type() -> None:
    assert media_file(Audio(data=b"ID3")) == UploadedFile("file.mp3", b"ID3", "audio/mpeg")
    assert media_file(Image(data=b"x"), "image") == UploadedFile("image", b"x")
    with pytest.raises(InvalidRequest, match=r"Audio\(data=...\)"):
        media_file(Audio(url="https://x"))


def test_a_mask_needs_an_image() -> None:
    with pytest.raises(InvalidRequest, match="mask"):
        ImageRequest(prompt="x", mask=Image(url="https://x"))
