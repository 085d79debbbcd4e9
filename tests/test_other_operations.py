"""Rerank, transcription, speech, images, moderation and embedded images, against the providers' official clients.

No recording and no official client confirms: images and embedded images on Bedrock (the bodies are those of AWS's
documentation; botocore passes any body on), the rerank endpoint of compatible servers (recorded, but no client has it),
and how Gemini reads instructions for speech.
"""

from __future__ import annotations

import io
import json
import wave
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import attrs
import form_clients as clients
import pytest
import trunkline
from official_clients import Sent
from recordings import Exchange, recorded
from trunkline._plugins.registry import load_provider, open_steps
from trunkline.authoring.provider import Operations, ServiceContext, Translation
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import (
    ContentFiltered,
    InvalidRequest,
    ProtocolViolation,
    ServerError,
    TrunklineError,
    UnsupportedOperation,
)
from trunkline.messages import Audio, Image
from trunkline.operations import (
    ImageRequest,
    ModerationRequest,
    RankedDocument,
    RerankRequest,
    SpeechRequest,
    TranscribedSegment,
    TranscribedWord,
    TranscriptionRequest,
)
from trunkline.request import EmbedRequest
from trunkline.secrets import Secret
from trunkline.testing import Exchange as ServedExchange, serve

PNG = Image(data=b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
JPEG = Image(data=b"\xff\xd8\xff" + b"\r\n--" * 10)
WAV = Audio(data=b"RIFF\x00\x00\x00\x00WAVE" + bytes(range(256)))
URL = clients.ROOT

SETTINGS: dict[str, dict[str, Any]] = {
    "openai": {"api_url": f"{URL}/v1", "api_key": Secret("k")},
    "openai-compatible": {"api_url": f"{URL}/v1"},
    "azure-openai": {"api_url": URL, "api_version": "2024-10-21", "api_key": Secret("k")},
    "cohere": {"api_url": URL, "api_key": Secret("k")},
    "mistral": {"api_url": URL, "api_key": Secret("k")},
    "gemini": {"api_url": URL, "api_key": Secret("k")},
    "bedrock": {
        "api_url": URL,
        "aws_region": "us-east-1",
        "aws_access_key_id": "k",
        "aws_secret_access_key": Secret("k"),
    },
}


@cache
def opened(name: str, **more: Any) -> tuple[ServiceContext[Any], Operations]:
    provider = load_provider(name)
    context = ServiceContext(name="s", provider=name, settings=provider.settings(**SETTINGS[name], **more))
    return context, open_steps(provider, context).operations


def translation(name: str, operation: str, request: Any) -> Translation:
    context, operations = opened(name)
    found = getattr(operations, operation)
    assert found is not None, f"{name} has no {operation}"
    return found.translation(context, request)  # type: ignore[no-any-return]


def body_of(made: Translation) -> Any:
    return json.loads(made.wire_request.body)


def warned(made: Translation) -> list[tuple[str, str, bool]]:
    return [(warning.kind, warning.subject, warning.lossy) for warning in made.warnings]


def parsed(name: str, operation: str, body: Any, **headers: str) -> Any:
    context, operations = opened(name)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    all_headers = {"content-type": "application/json"} | {
        key.replace("_", "-"): value for key, value in headers.items()
    }
    return getattr(operations, operation).parse(context, WireResponse(status=200, headers=all_headers, body=data))


FILE = ("a.wav", WAV.data, "audio/wav")
PICTURE, PHOTO = ("a.png", PNG.data, "image/png"), ("a.jpg", JPEG.data, "image/jpeg")
MODEL = "gpt-4o"

CASES: list[tuple[str, str, str, Any, Callable[[list[Sent]], Any], Callable[[Any], object]]] = [
    (
        "rerank",
        "cohere",
        "rerank",
        RerankRequest(query="q", documents=["a", "b"], model="rerank-v4.0", top_n=1),
        clients.cohere,
        lambda client: client.rerank(query="q", documents=["a", "b"], model="rerank-v4.0", top_n=1),
    ),
    (
        "rerank with an option",
        "cohere",
        "rerank",
        RerankRequest(query="q", documents=["a"], model="m", provider_options={"cohere": {"max_tokens_per_doc": 100}}),
        clients.cohere,
        lambda client: client.rerank(query="q", documents=["a"], model="m", max_tokens_per_doc=100),
    ),
    (
        "transcription",
        "openai",
        "transcribe",
        TranscriptionRequest(audio=WAV, model="m"),
        clients.openai,
        lambda client: client.audio.transcriptions.create(file=FILE, model="m"),
    ),
    (
        "transcription with everything",
        "openai",
        "transcribe",
        TranscriptionRequest(
            audio=WAV,
            model="whisper-1",
            language="de",
            prompt="Grüße",
            timestamps=["word", "segment"],
            temperature=0.5,
            provider_options={"openai": {"include": ["logprobs"], "chunking_strategy": {"type": "server_vad"}}},
        ),
        clients.openai,
        lambda client: client.audio.transcriptions.create(
            file=FILE,
            model="whisper-1",
            language="de",
            prompt="Grüße",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
            temperature=0.5,
            include=["logprobs"],
            chunking_strategy={"type": "server_vad"},
        ),
    ),
    (
        "transcription with speakers",
        "openai",
        "transcribe",
        TranscriptionRequest(audio=WAV, model="gpt-4o-transcribe-diarize", diarize=True),
        clients.openai,
        lambda client: client.audio.transcriptions.create(
            file=FILE, model="gpt-4o-transcribe-diarize", response_format="diarized_json", chunking_strategy="auto"
        ),
    ),
    (
        "transcription on Azure",
        "azure-openai",
        "transcribe",
        TranscriptionRequest(audio=WAV, model="m"),
        clients.azure,
        lambda client: client.audio.transcriptions.create(file=FILE, model="m"),
    ),
    (
        "transcription",
        "mistral",
        "transcribe",
        TranscriptionRequest(audio=WAV, model="m", language="de", temperature=0.5, timestamps="word", diarize=True),
        clients.mistral,
        lambda client: client.audio.transcriptions.complete(
            file={"file_name": "a.wav", "content": WAV.data, "content_type": "audio/wav"},
            model="m",
            language="de",
            temperature=0.5,
            timestamp_granularities=["word"],
            diarize=True,
        ),
    ),
    (
        "transcription of a URL",
        "mistral",
        "transcribe",
        TranscriptionRequest(
            audio=Audio(url="https://a/b.mp3"),
            model="m",
            provider_options={"mistral": {"context_bias": ["Ä", "b"], "speaker_references": {"Ann": "x"}}},
        ),
        clients.mistral,
        lambda client: client.audio.transcriptions.complete(
            file_url="https://a/b.mp3", model="m", context_bias=["Ä", "b"], speaker_references={"Ann": "x"}
        ),
    ),
    (
        "transcription",
        "cohere",
        "transcribe",
        TranscriptionRequest(audio=WAV, model="m", language="en", temperature=0.5),
        clients.cohere,
        lambda client: client.audio.transcriptions.create(file=FILE, model="m", language="en", temperature=0.5),
    ),
    (
        "speech",
        "openai",
        "generate_speech",
        SpeechRequest(text="Hi", model="m", voice="alloy", format="wav", speed=1.5, instructions="Slowly."),
        clients.openai,
        lambda client: client.audio.speech.create(
            input="Hi", model="m", voice="alloy", response_format="wav", speed=1.5, instructions="Slowly."
        ),
    ),
    (
        "speech on Azure",
        "azure-openai",
        "generate_speech",
        SpeechRequest(text="Hi", model="m", voice="alloy"),
        clients.azure,
        lambda client: client.audio.speech.create(input="Hi", model="m", voice="alloy"),
    ),
    (
        "speech",
        "mistral",
        "generate_speech",
        SpeechRequest(text="Hi", model="m", voice="v", format="mp3"),
        clients.mistral,
        lambda client: client.audio.speech.complete(input="Hi", model="m", voice_id="v", response_format="mp3"),
    ),
    (
        "speech",
        "gemini",
        "generate_speech",
        SpeechRequest(text="Hi", model="gemini-2.5-flash-preview-tts", voice="Kore"),
        clients.gemini,
        lambda client: client.models.generate_content(
            model="gemini-2.5-flash-preview-tts",
            contents="Hi",
            config={
                "response_modalities": ["AUDIO"],
                "speech_config": {"voice_config": {"prebuilt_voice_config": {"voice_name": "Kore"}}},
            },
        ),
    ),
    (
        "images",
        "openai",
        "generate_images",
        ImageRequest(
            prompt="a cat",
            model="gpt-image-2",
            count=2,
            size="1024x1024",
            quality="low",
            format="webp",
            provider_options={"openai": {"background": "opaque"}},
        ),
        clients.openai,
        lambda client: client.images.generate(
            prompt="a cat",
            model="gpt-image-2",
            n=2,
            size="1024x1024",
            quality="low",
            output_format="webp",
            background="opaque",
        ),
    ),
    (
        "an edited image",
        "openai",
        "generate_images",
        ImageRequest(prompt="a hat", model="m", images=PNG, mask=PNG, size="1024x1024", count=1),
        clients.openai,
        lambda client: client.images.edit(
            image=PICTURE, mask=PICTURE, prompt="a hat", model="m", size="1024x1024", n=1
        ),
    ),
    (
        "several images to edit",
        "openai",
        "generate_images",
        ImageRequest(prompt="a hat", model="m", images=[PNG, JPEG]),
        clients.openai,
        lambda client: client.images.edit(image=[PICTURE, PHOTO], prompt="a hat", model="m"),
    ),
    (
        "images on Azure",
        "azure-openai",
        "generate_images",
        ImageRequest(prompt="a cat", model="m"),
        clients.azure,
        lambda client: client.images.generate(prompt="a cat", model="m"),
    ),
    (
        "an image",
        "gemini",
        "generate_images",
        ImageRequest(
            prompt="a cat", model="gemini-3.1-flash-image", images=PNG, size="2K", aspect_ratio="16:9", seed=7
        ),
        clients.gemini,
        lambda client: client.models.generate_content(
            model="gemini-3.1-flash-image",
            contents=[
                {
                    "role": "user",
                    "parts": [{"inline_data": {"mime_type": "image/png", "data": PNG.data}}, {"text": "a cat"}],
                }
            ],
            config={
                "response_modalities": ["IMAGE"],
                "image_config": {"image_size": "2K", "aspect_ratio": "16:9"},
                "seed": 7,
            },
        ),
    ),
    (
        "moderation of texts",
        "openai",
        "moderate",
        ModerationRequest(inputs=["a", "b"], model="omni-moderation-latest"),
        clients.openai,
        lambda client: client.moderations.create(input=["a", "b"], model="omni-moderation-latest"),
    ),
    (
        "moderation of an image",
        "openai",
        "moderate",
        ModerationRequest(inputs=[["a caption", Image(url="https://a/b.png")]], model="m"),
        clients.openai,
        lambda client: client.moderations.create(
            input=[
                {"type": "text", "text": "a caption"},
                {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
            ],
            model="m",
        ),
    ),
    (
        "moderation",
        "mistral",
        "moderate",
        ModerationRequest(inputs=["a", "b"], model="m"),
        clients.mistral,
        lambda client: client.classifiers.moderate(inputs=["a", "b"], model="m"),
    ),
    (
        "embedded images",
        "cohere",
        "embed",
        EmbedRequest(inputs=[PNG, JPEG], model="embed-v4.0"),
        clients.cohere,
        lambda client: client.embed(
            images=[data_url(PNG), data_url(JPEG)],
            input_type="image",
            model="embed-v4.0",
            embedding_types=["float"],
        ),
    ),
    (
        "embedded captions",
        "cohere",
        "embed",
        EmbedRequest(inputs=["a", ["b", PNG]], model="embed-v4.0", input_type="query", dimensions=256),
        clients.cohere,
        lambda client: client.embed(
            inputs=[
                {"content": [{"type": "text", "text": "a"}]},
                {
                    "content": [
                        {"type": "text", "text": "b"},
                        {"type": "image_url", "image_url": {"url": data_url(PNG)}},
                    ]
                },
            ],
            input_type="search_query",
            output_dimension=256,
            model="embed-v4.0",
            embedding_types=["float"],
        ),
    ),
    (
        "embedded query",
        "gemini",
        "embed",
        EmbedRequest(inputs="a", model="gemini-embedding-001", input_type="query"),
        clients.gemini,
        lambda client: client.models.embed_content(
            model="gemini-embedding-001",
            contents=[{"parts": [{"text": "a"}]}],
            config={"task_type": "RETRIEVAL_QUERY"},
        ),
    ),
]


def data_url(image: Image) -> str:
    return f"data:{image.media_type};base64,{image.base64}"


@pytest.mark.parametrize(
    ("provider", "operation", "request_", "client", "call"),
    [pytest.param(*case[1:], id=f"{case[1]}: {case[0]}") for case in CASES],
)
def test_the_official_client_sends_the_same_request(
    provider: str, operation: str, request_: Any, client: Callable[[list[Sent]], Any], call: Callable[[Any], object]
) -> None:
    sent: list[Sent] = []
    made = translation(provider, operation, request_)
    clients.check(made.wire_request, clients.sent_by(client(sent), call, sent))
    assert made.warnings == ()


@pytest.mark.parametrize(
    "case", [case for case in CASES if case[2] != "embed"], ids=lambda case: f"{case[1]}: {case[0]}"
)
def test_a_request_is_the_same_each_time(case: Any) -> None:
    _, provider, operation, request, _, _ = case
    assert translation(provider, operation, request) == translation(provider, operation, request)


# What a provider cannot do


@pytest.mark.parametrize(
    ("provider", "operation", "request_", "warnings"),
    [
        (
            "openai",
            "generate_images",
            ImageRequest(prompt="x", model="m", aspect_ratio="1:1", seed=1),
            [("unsupported", "aspect_ratio", True), ("unsupported", "seed", True)],
        ),
        (
            "openai",
            "transcribe",
            TranscriptionRequest(audio=WAV, model="m", diarize=True, timestamps="word"),
            [("changed", "timestamps", True)],
        ),
        (
            "openai",
            "embed",
            EmbedRequest(inputs="x", model="m", input_type="query"),
            [("unsupported", "input_type", False)],
        ),
        (
            "cohere",
            "transcribe",
            TranscriptionRequest(audio=WAV, model="m", language="en", prompt="x", timestamps="word", diarize=False),
            [("unsupported", "prompt", True), ("unsupported", "timestamps", True)],
        ),
        (
            "mistral",
            "generate_speech",
            SpeechRequest(text="x", model="m", speed=2, instructions="y"),
            [("unsupported", "speed", True), ("unsupported", "instructions", True)],
        ),
        (
            "mistral",
            "transcribe",
            TranscriptionRequest(audio=WAV, model="m", prompt="x"),
            [("unsupported", "prompt", True)],
        ),
        (
            "gemini",
            "generate_speech",
            SpeechRequest(text="x", model="m", speed=2, format="mp3", instructions="Slowly"),
            [("unsupported", "speed", True), ("changed", "format", True), ("emulated", "instructions", False)],
        ),
        (
            "gemini",
            "generate_images",
            ImageRequest(prompt="x", model="m", count=2, size="1024x1024", quality="high", images=PNG, mask=PNG),
            [
                ("unsupported", "mask", True),
                ("unsupported", "quality", True),
                ("unsupported", "count", True),
                ("unsupported", "size", True),
            ],
        ),
        (
            "gemini",
            "embed",
            EmbedRequest(inputs="x", model="gemini-embedding-2", input_type="query"),
            [("unsupported", "input_type", False)],
        ),
        (
            "bedrock",
            "generate_images",
            ImageRequest(prompt="x", model="stability.sd3-5-large-v1:0", count=2, size="1x1"),
            [("unsupported", "size", True), ("unsupported", "count", True)],
        ),
        (
            "bedrock",
            "embed",
            EmbedRequest(inputs="x", model="amazon.titan-embed-text-v1", dimensions=256, input_type="query"),
            [("unsupported", "input_type", False), ("unsupported", "dimensions", True)],
        ),
    ],
)
def test_what_a_provider_lacks_is_a_warning(
    provider: str, operation: str, request_: Any, warnings: list[tuple[str, str, bool]]
) -> None:
    assert warned(translation(provider, operation, request_)) == warnings


@pytest.mark.parametrize(
    ("provider", "operation", "request_", "words"),
    [
        ("openai", "moderate", ModerationRequest(inputs=["x", PNG], model="m"), "one call for each"),
        ("openai", "moderate", ModerationRequest(inputs=Image(file_id="f"), model="m"), "file id"),
        ("openai", "embed", EmbedRequest(inputs=PNG, model="m"), "only texts"),
        ("openai", "transcribe", TranscriptionRequest(audio=Audio(url="https://x"), model="m"), "neither a URL"),
        ("openai", "generate_images", ImageRequest(prompt="x", images=Image(url="https://x")), "neither a URL"),
        ("mistral", "moderate", ModerationRequest(inputs=PNG, model="m"), "only texts"),
        ("cohere", "transcribe", TranscriptionRequest(audio=WAV, model="m"), "set language"),
        ("cohere", "embed", EmbedRequest(inputs=Image(url="https://x"), model="m"), "neither a URL"),
        (
            "bedrock",
            "embed",
            EmbedRequest(inputs=["x", "y"], model="amazon.nova-2-multimodal-embeddings-v1:0"),
            "one input",
        ),
        (
            "bedrock",
            "embed",
            EmbedRequest(inputs=[["x", PNG]], model="amazon.nova-2-multimodal-embeddings-v1:0"),
            "together",
        ),
        ("bedrock", "embed", EmbedRequest(inputs=PNG, model="amazon.titan-embed-text-v2:0"), "texts"),
        ("bedrock", "embed", EmbedRequest(inputs=[[PNG, PNG]], model="amazon.titan-embed-image-v1"), "one image"),
        (
            "bedrock",
            "generate_images",
            ImageRequest(prompt="x", model="amazon.nova-canvas-v1:0", size="2K"),
            "1024x1024",
        ),
    ],
)
def test_what_cannot_be_sent_is_an_invalid_request(provider: str, operation: str, request_: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        translation(provider, operation, request_)


@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("rerank", RerankRequest(query="q", documents="d", model="amazon.nova-lite-v1:0")),
        ("generate_images", ImageRequest(prompt="x", model="amazon.nova-lite-v1:0")),
        ("embed", EmbedRequest(inputs="x", model="amazon.nova-lite-v1:0")),
    ],
)
def test_a_model_of_bedrock_that_does_something_else_is_named(operation: str, request_: Any) -> None:
    with pytest.raises(UnsupportedOperation, match="nova-lite"):
        translation("bedrock", operation, request_)


# Bedrock: bodies after AWS's documentation


@pytest.mark.parametrize(
    ("operation", "request_", "wanted"),
    [
        (
            "rerank",
            RerankRequest(query="q", documents=["a", "b"], model="cohere.rerank-v3-5:0", top_n=1),
            {"query": "q", "documents": ["a", "b"], "top_n": 1, "api_version": 2},
        ),
        (
            "rerank",
            RerankRequest(query="q", documents=["a"], model="amazon.rerank-v1:0"),
            {"query": "q", "documents": ["a"]},
        ),
        (
            "embed",
            EmbedRequest(inputs=PNG, model="us.cohere.embed-v4:0", dimensions=512),
            {"images": [data_url(PNG)], "input_type": "image", "embedding_types": ["float"], "output_dimension": 512},
        ),
        (
            "embed",
            EmbedRequest(inputs=[["a", PNG]], model="amazon.titan-embed-image-v1", dimensions=256),
            {"inputText": "a", "inputImage": PNG.base64, "embeddingConfig": {"outputEmbeddingLength": 256}},
        ),
        (
            "embed",
            EmbedRequest(inputs=JPEG, model="amazon.nova-2-multimodal-embeddings-v1:0", dimensions=1024),
            {
                "taskType": "SINGLE_EMBEDDING",
                "singleEmbeddingParams": {
                    "embeddingPurpose": "GENERIC_INDEX",
                    "embeddingDimension": 1024,
                    "image": {"format": "jpeg", "source": {"bytes": JPEG.base64}},
                },
            },
        ),
        (
            "embed",
            EmbedRequest(inputs="a", model="amazon.nova-2-multimodal-embeddings-v1:0", input_type="query"),
            {
                "taskType": "SINGLE_EMBEDDING",
                "singleEmbeddingParams": {
                    "embeddingPurpose": "GENERIC_RETRIEVAL",
                    "text": {"truncationMode": "NONE", "value": "a"},
                },
            },
        ),
        (
            "generate_images",
            ImageRequest(
                prompt="a cat", model="amazon.nova-canvas-v1:0", size="512x1024", count=2, seed=7, quality="premium"
            ),
            {
                "taskType": "TEXT_IMAGE",
                "textToImageParams": {"text": "a cat"},
                "imageGenerationConfig": {
                    "numberOfImages": 2,
                    "width": 512,
                    "height": 1024,
                    "quality": "premium",
                    "seed": 7,
                },
            },
        ),
        (
            "generate_images",
            ImageRequest(prompt="a cat", model="amazon.titan-image-generator-v2:0", images=[PNG]),
            {"taskType": "IMAGE_VARIATION", "imageVariationParams": {"images": [PNG.base64], "text": "a cat"}},
        ),
        (
            "generate_images",
            ImageRequest(prompt="a cat", model="amazon.nova-canvas-v1:0", images=PNG, mask=JPEG),
            {
                "taskType": "INPAINTING",
                "inPaintingParams": {"image": PNG.base64, "maskImage": JPEG.base64, "text": "a cat"},
            },
        ),
        (
            "generate_images",
            ImageRequest(
                prompt="a cat",
                model="us.stability.stable-image-core-v1:1",
                aspect_ratio="16:9",
                format="png",
                images=PNG,
            ),
            {
                "prompt": "a cat",
                "mode": "image-to-image",
                "image": PNG.base64,
                "aspect_ratio": "16:9",
                "output_format": "png",
            },
        ),
    ],
)
def test_a_model_of_bedrock_gets_the_body_of_its_family(operation: str, request_: Any, wanted: Any) -> None:
    made = translation("bedrock", operation, request_)
    assert body_of(made) == wanted
    assert urlsplit(made.wire_request.url).path.endswith("/invoke")


def test_images_of_gemini_embedding_are_parts_of_a_content() -> None:
    # The client puts several contents of this model into one request of its own, so it is no oracle here.
    body = body_of(translation("gemini", "embed", EmbedRequest(inputs=["a", ["b", PNG]], model="gemini-embedding-2")))
    assert [one["content"] for one in body["requests"]] == [
        {"parts": [{"text": "a"}]},
        {"parts": [{"text": "b"}, {"inlineData": {"mimeType": "image/png", "data": PNG.base64}}]},
    ]


def test_a_compatible_server_reranks_with_the_fields_of_cohere() -> None:
    made = translation("openai-compatible", "rerank", RerankRequest(query="q", documents=["a"], model="m", top_n=1))
    assert urlsplit(made.wire_request.url).path == "/v1/rerank"
    assert body_of(made) == {"model": "m", "query": "q", "documents": ["a"], "top_n": 1}


@pytest.mark.parametrize(
    ("profile", "offered"),
    [
        ("generic", {"rerank", "transcribe", "generate_speech", "generate_images", "moderate"}),
        ("groq", {"transcribe", "generate_speech"}),
        ("deepseek", set()),
    ],
)
def test_a_profile_says_which_operations_a_server_has(profile: str, offered: set[str]) -> None:
    _, operations = opened("openai-compatible", profile=profile)
    names = {field.name for field in attrs.fields(Operations)} - {"list_models", "embed", "count_tokens", "model_info"}
    assert {name for name in names if getattr(operations, name) is not None} == offered


# Responses


def test_speech_of_openai_is_the_body() -> None:
    response = parsed("openai", "generate_speech", b"ID3\x00", content_type="audio/mpeg")
    assert response.audio == Audio(data=b"ID3\x00", media_type="audio/mpeg")
    # Some servers send no type of audio.
    octets = parsed("openai", "generate_speech", b"ID3\x00", content_type="application/octet-stream")
    assert octets.audio == response.audio
    with pytest.raises(ProtocolViolation):
        parsed("openai", "generate_speech", b"", content_type="audio/mpeg")
    with pytest.raises(TrunklineError, match="no such voice"):
        parsed("openai", "generate_speech", {"error": {"message": "no such voice"}})


@pytest.mark.parametrize("provider", ["openai", "openai-compatible", "azure-openai"])
@pytest.mark.parametrize(
    ("body", "media_type", "kind", "words"),
    [
        (b"<html><title>Log in</title>", "text/html", ProtocolViolation, "an HTML page, 'Log in'"),
        (b"no such model", "text/plain; charset=utf-8", ProtocolViolation, "not JSON: 'no such model'"),
        (b"data: {}", "text/event-stream", ProtocolViolation, "no audio"),
        (b'{"error": {"message": "no such voice"}}', "application/octet-stream", ServerError, "no such voice"),
        (b' {"error": {"message": "no such voice"}}', "audio/mpeg", ServerError, "no such voice"),
        (b'{"error": {"message": "no such voice"}}', "text/plain", ServerError, "no such voice"),
        (b'{"audio": "AAAA"}', "application/json", ProtocolViolation, "JSON, not audio"),
        (b"", "audio/mpeg", ProtocolViolation, "no audio"),
    ],
)
def test_a_text_is_not_speech(provider: str, body: bytes, media_type: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        parsed(provider, "generate_speech", body, content_type=media_type)


def test_samples_that_begin_with_a_brace_are_speech() -> None:
    data = b"{" + bytes(range(256))
    assert parsed("openai", "generate_speech", data, content_type="application/octet-stream").audio.data == data


def test_json_that_is_called_a_text_is_read_as_json() -> None:
    with pytest.raises(ServerError, match="no such model"):
        parsed("openai", "transcribe", b'{"error": {"message": "no such model"}}', content_type="text/plain")
    assert parsed("openai", "transcribe", b'{"text": "Hi"}', content_type="text/plain").text == "Hi"
    assert parsed("openai", "transcribe", b"WEBVTT\n", content_type="text/vtt; charset=utf-8").text == "WEBVTT"


def test_an_image_may_have_empty_data_beside_its_url() -> None:
    [image] = parsed("openai", "generate_images", {"data": [{"b64_json": "", "url": "https://a/b.png"}]}).images
    assert image.url == "https://a/b.png"


def test_a_transcription_in_another_format_is_its_text() -> None:
    response = parsed("openai", "transcribe", b"WEBVTT\n\n", content_type="text/plain; charset=utf-8")
    assert response.text == "WEBVTT\n"


def test_times_of_words_and_segments() -> None:
    body = {
        "text": "Hi there.",
        "language": "english",
        "duration": 1.5,
        "words": [{"word": "Hi", "start": 0.0, "end": 0.5}],
        "segments": [{"id": 0, "text": " Hi there.", "start": 0.0, "end": 1.5}],
    }
    response = parsed("openai", "transcribe", body)
    assert response.words == (TranscribedWord(text="Hi", start=0.0, end=0.5),)
    assert response.segments == (TranscribedSegment(text=" Hi there.", start=0.0, end=1.5),)
    assert (response.language, response.duration) == ("english", 1.5)


def test_samples_of_gemini_become_a_wav_file() -> None:
    samples = bytes(range(200)) * 2
    part = {"inlineData": {"mimeType": "audio/L16;codec=pcm;rate=16000", "data": b64encode(samples).decode()}}
    body = {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}], "modelVersion": "m"}
    response = parsed("gemini", "generate_speech", body)
    assert response.audio.media_type == "audio/wav"
    with wave.open(io.BytesIO(response.audio.data)) as read:
        assert (read.getframerate(), read.getnchannels(), read.getsampwidth()) == (16000, 1, 2)
        assert read.readframes(1000) == samples
    assert "data" not in response.raw["candidates"][0]["content"]["parts"][0]["inlineData"]


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ({"candidates": [{"finishReason": "IMAGE_SAFETY", "finishMessage": "No."}]}, ContentFiltered, "IMAGE_SAFETY"),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, ContentFiltered, "SAFETY"),
        ({"candidates": [{"finishReason": "OTHER", "index": 0}]}, ServerError, "OTHER"),
        (
            {"candidates": [{"content": {"parts": [{"text": "I cannot."}]}, "finishReason": "STOP"}]},
            ServerError,
            "I cannot",
        ),
    ],
)
@pytest.mark.parametrize("operation", ["generate_speech", "generate_images"])
def test_gemini_says_why_there_is_nothing(operation: str, body: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        parsed("gemini", operation, body)


def test_a_draft_of_gemini_is_not_the_image() -> None:
    def part(data: str, **more: Any) -> dict[str, Any]:
        return {"inlineData": {"mimeType": "image/png", "data": data}, **more}

    parts = [part("AAAA", thought=True), {"text": "Here:"}, part(PNG.base64)]
    response = parsed("gemini", "generate_images", {"candidates": [{"content": {"parts": parts}}]})
    assert [image.data for image in response.images] == [PNG.data]


def test_images_of_bedrock() -> None:
    assert parsed("bedrock", "generate_images", {"images": [PNG.base64]}).images == (PNG,)
    some = {"images": [PNG.base64], "error": "One image was blocked."}
    assert [warning.lossy for warning in parsed("bedrock", "generate_images", some).warnings] == [True]
    for refused in ({"images": [], "error": "blocked"}, {"finish_reasons": ["Filter reason: prompt"]}):
        with pytest.raises(ContentFiltered, match=r"blocked|Filter"):
            parsed("bedrock", "generate_images", refused)


@pytest.mark.parametrize(
    "body",
    [
        {"embeddings": [{"embeddingType": "TEXT", "embedding": [1, 2]}]},  # Nova
        {"embedding": [1, 2], "inputTextTokenCount": 1},  # Titan
        {"embeddings": {"float": [[1, 2]]}},  # Cohere
    ],
)
def test_vectors_of_the_families_of_bedrock(body: Any) -> None:
    assert parsed("bedrock", "embed", body).embeddings == ((1.0, 2.0),)


@pytest.mark.parametrize(
    ("provider", "operation", "bodies"),
    [
        ("openai", "transcribe", [{}, {"text": 5}, []]),
        ("openai", "generate_images", [{}, {"data": "x"}, {"data": [{}]}, {"data": [{"b64_json": "?"}]}]),
        ("openai", "moderate", [{}, {"results": {}}, {"results": [{}]}]),
        ("openai-compatible", "rerank", [{}, {"results": {}}, {"results": [{"index": 0}]}][:2]),
        ("cohere", "rerank", [{}, {"results": [7]}]),
        ("cohere", "transcribe", [{}]),
        ("mistral", "generate_speech", [{}, {"audio_data": ""}, {"audio_data": "?"}]),
        ("gemini", "generate_images", [[], {"candidates": [{"content": {"parts": [{"inlineData": {"data": "?"}}]}}]}]),
        ("bedrock", "rerank", [{}, []]),
        ("bedrock", "generate_images", [{"images": ["?"]}]),
    ],
)
def test_another_body_is_a_violation(provider: str, operation: str, bodies: list[Any]) -> None:
    for body in bodies:
        with pytest.raises(ProtocolViolation):
            parsed(provider, operation, body)
            pytest.fail(f"{provider} accepts {body}")


JUNK: tuple[Any, ...] = (None, True, -1, 1e300, "", "x", [], {}, [[]], [None], {"x": {}}, "\ud800")
"""What stands in the place of each value of a response, one at a time."""

WHOLE: dict[tuple[str, str], Any] = {
    ("openai-compatible", "rerank"): {"results": [{"index": 0, "relevance_score": 0.5}], "usage": {"total_tokens": 1}},
    ("cohere", "rerank"): {"results": [{"index": 0, "relevance_score": 0.5}], "meta": {"billed_units": {"x": 1}}},
    ("bedrock", "rerank"): {"results": [{"index": 0, "relevance_score": 0.5}]},
    ("openai", "transcribe"): {
        "text": "x",
        "duration": 1.5,
        "language": "en",
        "segments": [{"text": "x", "start": 0, "end": 1, "speaker": "A"}],
        "words": [{"word": "x", "start": 0, "end": 1}],
        "languages": [{"language": "en"}],
        "usage": {"input_tokens": 1},
    },
    ("mistral", "transcribe"): {"text": "x", "segments": [{"text": "x", "start": 0, "end": 1, "speaker_id": "s"}]},
    ("cohere", "transcribe"): {"text": "x", "meta": {"tokens": {"input_tokens": 1}}},
    ("mistral", "generate_speech"): {"audio_data": "SUQz"},
    ("gemini", "generate_speech"): {
        "candidates": [
            {"content": {"parts": [{"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "AAAA"}}]}},
        ],
        "usageMetadata": {"promptTokenCount": 1},
    },
    ("openai", "generate_images"): {
        "data": [{"b64_json": "AAAA", "revised_prompt": "x"}, {"url": "https://x"}],
        "output_format": "png",
        "usage": {"input_tokens": 1},
    },
    ("gemini", "generate_images"): {
        "candidates": [
            {"content": {"parts": [{"text": "x"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}},
        ],
        "promptFeedback": {"blockReason": "x"},
    },
    ("bedrock", "generate_images"): {"images": ["AAAA"], "error": "x", "finish_reasons": [None, "x"]},
    ("openai", "moderate"): {
        "results": [{"flagged": True, "categories": {"a": True}, "category_scores": {"a": 0.5}}],
        "model": "m",
    },
    ("mistral", "moderate"): {"results": [{"categories": {"a": True}, "category_scores": {"a": 0.5}}]},
    ("bedrock", "embed"): {"embeddings": [{"embeddingType": "TEXT", "embedding": [1, 2]}], "inputTextTokenCount": 1},
}


def replaced(value: Any, junk: Any) -> Iterator[Any]:
    """Yield copies of a JSON value, each with one value in it replaced."""
    yield junk
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from ({**value, name: changed} for changed in replaced(inner, junk))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from ([*value[:at], changed, *value[at + 1 :]] for changed in replaced(inner, junk))


@pytest.mark.parametrize(("provider", "operation"), WHOLE)
def test_a_response_with_a_wrong_value_is_read_or_refused(provider: str, operation: str) -> None:
    whole = WHOLE[provider, operation]
    parsed(provider, operation, whole)
    for junk in JUNK:
        for body in replaced(whole, junk):
            try:
                response = parsed(provider, operation, body)
            except TrunklineError:
                continue
            assert isinstance(response.raw, (dict, list)), body


# Calls of a service


def served(name: str) -> Any:
    """What a server answers with for an operation, for any provider."""
    return {
        "rerank": {"results": [{"index": 0, "relevance_score": 0.5}]},
        "transcribe": {"text": "x"},
        "moderate": {"results": [{"categories": {"a": True}}]},
        "generate_images": {
            "data": [{"b64_json": PNG.base64}],
            "images": [PNG.base64],
            "candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": PNG.base64}}]}}],
        },
        "generate_speech": {
            "audio_data": "SUQz",
            "candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "audio/wav", "data": "SUQz"}}]}}],
        },
    }[name]


SERVICE_CALLS: dict[str, Callable[[Any], Any]] = {
    "rerank": lambda service: service.rerank("q", ["d"], model="cohere.rerank-v3-5:0"),
    "transcribe": lambda service: service.transcribe(WAV, model="m", language="en"),
    "generate_speech": lambda service: service.generate_speech("x", model="m"),
    "generate_images": lambda service: service.generate_images("x", model="amazon.nova-canvas-v1:0"),
    "moderate": lambda service: service.moderate("x", model="m"),
}
AUTHENTICATED = {
    "openai": ("authorization", "Bearer key-for-tests"),
    "azure-openai": ("api-key", "key-for-tests"),
    "cohere": ("authorization", "Bearer key-for-tests"),
    "mistral": ("authorization", "Bearer key-for-tests"),
    "gemini": ("x-goog-api-key", "key-for-tests"),
    "bedrock": ("authorization", "AWS4-HMAC-SHA256 Credential=key-for-tests/"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("provider", AUTHENTICATED)
async def test_each_operation_is_sent_with_the_credentials_of_the_service(provider: str) -> None:
    _, operations = opened(provider)
    names = [name for name in SERVICE_CALLS if getattr(operations, name) is not None]
    current = ""

    async def answer(exchange: ServedExchange) -> None:
        if current == "generate_speech" and provider in ("openai", "azure-openai"):
            await exchange.respond(b"ID3", headers={"content-type": "audio/mpeg"})
        else:
            await exchange.respond(json.dumps(served(current)).encode())

    async with serve(answer) as server:
        given = {
            name: server.url + value.removeprefix(URL) if name == "api_url" else value
            for name, value in SETTINGS[provider].items()
        }
        for secret in ("api_key", "aws_access_key_id", "aws_secret_access_key"):
            if secret in given:
                given[secret] = "key-for-tests"
        async with trunkline.open_service(provider, **given) as service:
            for name in names:
                current = name
                response = await SERVICE_CALLS[name](service)
                assert (response.provider, response.service) == (provider, provider)
    assert len(server.requests) == len(names) >= 2
    header, start = AUTHENTICATED[provider]
    for request in server.requests:
        assert request.headers[header].startswith(start)


# Recorded traffic

PATHS = {
    "/rerank": "rerank",
    "/audio/transcriptions": "transcribe",
    "/audio/translations": "transcribe",
    "/audio/speech": "generate_speech",
    "/images/generations": "generate_images",
    "/moderations": "moderate",
}
FILES = {
    "openai": "openai",
    "openrouter": "openai-compatible",
    "other": "openai-compatible",
    "cohere": "cohere",
    "mistral": "mistral",
}


def exchanges(operation: str) -> Iterator[tuple[str, Exchange]]:
    """The recorded successes of an operation, with the provider that reads them."""
    for file, provider in FILES.items():
        for exchange in recorded(file):
            path = urlsplit(exchange.url).path
            if exchange.status == 200 and not exchange.streaming and PATHS.get(_end(path)) == operation:
                yield provider, exchange


def _end(path: str) -> str:
    return next((end for end in PATHS if path.endswith(end)), "")


def read(provider: str, operation: str, exchange: Exchange) -> Any:
    context, operations = opened(provider)
    return getattr(operations, operation).parse(context, exchange.wire_response)


def test_recorded_rankings_are_what_cohere_finds_in_them() -> None:
    from cohere.types import RerankResponse

    count = 0
    for provider, exchange in exchanges("rerank"):
        body = json.loads(exchange.body)
        if body.get("results") == []:  # asked for with top_n: 0
            continue
        count += 1
        found = read(provider, "rerank", exchange)
        items = body.get("results", body.get("data"))
        theirs = RerankResponse.model_validate({"id": "", "results": items}).results
        assert found.results == tuple(RankedDocument(item.index, item.relevance_score) for item in theirs)
        assert (found.usage is None) is (exchange.variant == "bedrock")
    assert count == 16


def test_the_recorded_ranking_of_bedrock() -> None:
    [exchange] = [exchange for exchange in recorded("bedrock-invoke") if "rerank" in exchange.url]
    results = read("bedrock", "rerank", exchange).results
    assert [(item.index, item.score) for item in results] == [(2, 0.8742601), (0, 0.1728413), (4, 0.10793502)]


def test_recorded_transcriptions_are_what_openai_and_mistral_find_in_them() -> None:
    from mistralai.client.models import TranscriptionResponse
    from openai.types.audio import Transcription, TranscriptionDiarized, TranscriptionVerbose

    counts: dict[str, int] = {}
    for provider, exchange in exchanges("transcribe"):
        counts[provider] = counts.get(provider, 0) + 1
        found, body = read(provider, "transcribe", exchange), json.loads(exchange.body)
        if provider == "mistral":
            theirs: Any = TranscriptionResponse.model_validate(body)
            said = [(item.text, item.start, item.end, item.speaker_id) for item in theirs.segments or ()]
        elif any("speaker" in item for item in body.get("segments", ())):
            theirs = TranscriptionDiarized.model_validate(body)
            said = [(item.text, item.start, item.end, item.speaker) for item in theirs.segments]
        else:
            theirs = (TranscriptionVerbose if "language" in body else Transcription).model_validate(body)
            said = [(item.text, item.start, item.end, None) for item in getattr(theirs, "segments", None) or ()]
        assert found.text == (theirs.text.strip() if provider == "cohere" else theirs.text)
        assert [(item.text, item.start, item.end, item.speaker or None) for item in found.segments] == said
        assert found.language == getattr(theirs, "language", None)
        assert found.duration == body.get("duration")
        usage = body.get("usage") or {}
        if found.usage is not None:
            assert found.usage.input_tokens == usage.get("input_tokens", usage.get("prompt_tokens"))
            assert found.usage.total_tokens == usage.get("total_tokens")
    assert counts == {"openai": 14, "openai-compatible": 1, "cohere": 1, "mistral": 3}


def test_recorded_speech_is_audio() -> None:
    found = {
        provider: read(provider, "generate_speech", exchange) for provider, exchange in exchanges("generate_speech")
    }
    assert {name: response.audio.media_type for name, response in found.items()} == {
        "openai-compatible": "audio/mpeg",
        "mistral": "audio/mpeg",
    }
    assert found["mistral"].raw == {}


def test_recorded_moderations_are_what_openai_and_mistral_find_in_them() -> None:
    from mistralai.client.models import ModerationResponse
    from openai.types import ModerationCreateResponse

    count = 0
    for provider, exchange in exchanges("moderate"):
        count += 1
        found, body = read(provider, "moderate", exchange), json.loads(exchange.body)
        if provider == "mistral":
            for ours, theirs in zip(found.results, ModerationResponse.model_validate(body).results, strict=True):
                assert (ours.categories, ours.scores) == (theirs.categories, theirs.category_scores)
                assert ours.flagged is False
            assert found.usage.input_tokens == 13
            continue
        for ours, item in zip(found.results, ModerationCreateResponse.construct(**body).results, strict=True):
            known = item.to_dict()
            assert (ours.flagged, ours.categories, ours.scores) == (
                item.flagged,
                known["categories"],
                known["category_scores"],
            )
    assert count == 8


def test_recorded_images_are_what_openai_finds_in_them() -> None:
    from openai.types import ImagesResponse

    count = 0
    for provider, exchange in exchanges("generate_images"):
        count += 1
        found = read(provider, "generate_images", exchange)
        theirs = ImagesResponse.model_validate({"created": 0, "data": json.loads(exchange.body)["data"]})
        for ours, item in zip(found.images, theirs.data or (), strict=True):
            assert ours.url == item.url
            assert ours.data == (b64decode(item.b64_json) if item.b64_json else None)
            about = ours.provider_metadata.get(provider, {})
            assert about.get("revised_prompt") == item.revised_prompt
    assert count == 4


def test_the_recorded_media_of_gemini() -> None:
    found: dict[str, Any] = {}
    for exchange in recorded("gemini"):
        if exchange.id == "79e0854162a9963b":
            [image] = read("gemini", "generate_images", exchange).images
            found["image"] = (image.data, image.media_type)
        if exchange.id == "3427fd0b5677fb78":
            with pytest.raises(ServerError, match="OTHER"):
                read("gemini", "generate_speech", exchange)
            found["speech"] = None
    assert found == {"image": (b"xyz", "image/png"), "speech": None}


def test_the_errors_of_recorded_operations_are_typed() -> None:
    count = 0
    for file, provider in FILES.items():
        for exchange in recorded(file):
            if exchange.status >= 400 and _end(urlsplit(exchange.url).path):
                count += 1
                context, _ = opened(provider)
                parser = load_provider(provider).response_parser(context)
                assert parser.error(exchange.wire_response).message
    assert count == 7


def test_wire_requests_of_forms_name_their_boundary() -> None:
    made: WireRequest = translation("openai", "transcribe", TranscriptionRequest(audio=WAV, model="m")).wire_request
    boundary = made.headers["content-type"].partition("boundary=")[2]
    assert made.body.startswith(f"--{boundary}\r\n".encode())
