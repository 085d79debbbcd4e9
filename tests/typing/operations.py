"""The operations other than chat, as an application calls them. Checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import assert_type

import trunkline


async def use(service: trunkline.Service, image: trunkline.Image, audio: trunkline.Audio) -> None:
    """Call each operation."""
    ranking = await service.rerank("query", ["a", "b"], model="m", top_n=1)
    assert_type(ranking, trunkline.RerankResponse)
    assert_type(ranking.results[0].score, float)
    await service.rerank(trunkline.RerankRequest(query="query", documents=["a"]), top_n=1)
    text = await service.transcribe(audio, timestamps=["word", "segment"], language="en")
    assert_type(text, trunkline.TranscriptionResponse)
    assert_type(text.words[0].start, float | None)
    await service.transcribe(audio, timestamps="word", diarize=True)
    speech = await service.generate_speech("text", voice="v", speed=1.5)
    assert_type(speech.audio, trunkline.Audio)
    images = await service.generate_images("prompt", images=image, mask=image, count=2)
    assert_type(images.images, tuple[trunkline.Image, ...])
    moderation = await service.moderate(["a", image, ["a caption", image]])
    assert_type(moderation.results[0].flagged, bool)
    embeddings = await service.embed(["a", image, ("a caption", image)], input_type="query")
    assert_type(embeddings.embeddings, tuple[tuple[float, ...], ...])
    await service.embed("a")
    await service.embed(["a", "b"])
    await service.embed(image)
    await service.embed(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await service.transcribe(audio, timestamps="letter")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
