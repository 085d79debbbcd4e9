"""Read the results of operations other than chat, and check that they fit the request. Pure."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from trunkline.authoring.embeddings import check_vectors
from trunkline.authoring.json import as_number, as_string
from trunkline.errors import InvalidRequest, ProtocolViolation
from trunkline.inputs import Input, parts_of
from trunkline.messages import Image
from trunkline.operations.images import ImageResponse
from trunkline.operations.moderation import Moderation, ModerationRequest, ModerationResponse
from trunkline.operations.rerank import RankedDocument, RerankRequest, RerankResponse
from trunkline.operations.transcription import TranscribedSegment, TranscribedWord
from trunkline.request import EmbedRequest
from trunkline.response import EmbedResponse


def texts_of(inputs: Sequence[Input], *, provider: str) -> list[str]:
    """Return the inputs of a request, for an API that accepts texts only.

    Raises `InvalidRequest` if there is anything else.
    """
    for position, item in enumerate(inputs):
        if not isinstance(item, str):
            what = "an image" if isinstance(item, Image) else "a list"
            raise InvalidRequest(f"inputs[{position}] is {what}, but {provider} takes only texts here")
    return [item for item in inputs if isinstance(item, str)]


def image_data(image: Image, *, provider: str) -> Image:
    """Return the image if it has data. Raises `InvalidRequest` otherwise, for an API that accepts no URL."""
    if image.data is None:
        raise InvalidRequest(
            f"{provider} takes the data of an image and neither a URL nor a file id here: "
            "read the file, and pass Image(data=...)"
        )
    return image


def decode_ranking(items: object, *, provider: str, score: str = "relevance_score") -> tuple[RankedDocument, ...]:
    """Decode a list of objects with an `index` and a score, and return the documents with the highest score first.

    `score` is the name of the field with the score; some servers call it `score`, which is accepted too. Raises
    `ProtocolViolation` for anything else.
    """
    if not isinstance(items, list):
        raise ProtocolViolation("the response has no list of ranked documents", provider=provider)
    found: list[RankedDocument] = []
    names = (score, "score")
    # Servers that write protocol buffers as JSON leave out zeros, but hardly of all documents.
    has_scores = any(name in item for item in items if isinstance(item, dict) for name in names)
    for item in items:
        fields: Mapping[str, Any] = item if isinstance(item, dict) and has_scores else {}
        index = fields.get("index", 0)
        value = as_number(next((fields[name] for name in names if name in fields), 0.0))
        if not fields or type(index) is not int or value is None:
            raise ProtocolViolation("a ranked document has no index or no score", provider=provider)
        found.append(RankedDocument(index, value))
    return tuple(sorted(found, key=lambda document: -document.score))


def decode_times(
    items: object, *, speaker: str = "speaker"
) -> tuple[tuple[TranscribedSegment, ...], tuple[TranscribedWord, ...]]:
    """Decode a list of segments and words of a transcription, with `text` or `word`, `start` and `end` in seconds."""
    segments: list[TranscribedSegment] = []
    words: list[TranscribedWord] = []
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict):
            continue
        start, end = as_number(item.get("start")), as_number(item.get("end"))
        if (word := as_string(item.get("word"))) is not None:
            words.append(TranscribedWord(text=word, start=start, end=end))
        elif (text := as_string(item.get("text"))) is not None:
            name = item.get(speaker)
            said_by = name if isinstance(name, str) else None if name is None else str(name)
            segments.append(TranscribedSegment(text=text, start=start, end=end, speaker=said_by))
    return tuple(segments), tuple(words)


def decode_moderation(item: object, *, provider: str) -> Moderation:
    """Decode a result with `categories` and `category_scores`. Without `flagged`, any category flags the input.

    Raises `ProtocolViolation` if it is no such result. A value that is not a bool is refused, because content that a
    provider flags must not pass as harmless.
    """
    fields: Mapping[str, Any] = item if isinstance(item, dict) else {}
    categories = fields.get("categories")
    scores = fields.get("category_scores")
    if not isinstance(categories, dict):
        raise ProtocolViolation("a moderation result has no categories", provider=provider)
    flagged = fields.get("flagged")
    if not all(value is None or isinstance(value, bool) for value in (flagged, *categories.values())):
        raise ProtocolViolation("a moderation result has a value that is neither true nor false", provider=provider)
    found = {name: value is True for name, value in categories.items()}
    return Moderation(
        flagged=flagged if isinstance(flagged, bool) else any(found.values()),
        categories=found,
        scores={
            name: number
            for name, value in (scores.items() if isinstance(scores, dict) else ())
            if (number := as_number(value)) is not None
        },
    )


def decode_data(value: object, what: str, *, provider: str) -> bytes:
    """Decode base64 of the provider. `what` names it in the error. Raises `ProtocolViolation` if it is none."""
    if isinstance(value, str) and value:
        try:
            return b64decode(value, validate=True)
        except (ValueError, binascii.Error):
            pass
    raise ProtocolViolation(f"{what} is not base64", provider=provider)


def check_result(request: object, response: object) -> None:
    """Check that a response fits its request. The core calls this for the responses of operations.

    Raises `ProtocolViolation` if there is not one vector or one moderation for each input, if documents are ranked
    twice or unknown, or if there is no image.
    """
    if isinstance(request, EmbedRequest) and isinstance(response, EmbedResponse):
        check_vectors(response.embeddings, len(request.inputs))
    elif isinstance(request, RerankRequest) and isinstance(response, RerankResponse):
        _check_ranking(request, response)
    elif isinstance(request, ModerationRequest) and isinstance(response, ModerationResponse):
        found, wanted = len(response.results), len(request.inputs)
        if found != wanted:
            raise ProtocolViolation(
                f"the number of moderation results is {found}, but the number of inputs is {wanted}"
            )
    elif isinstance(response, ImageResponse) and not response.images:
        raise ProtocolViolation("the response has no image")


def _check_ranking(request: RerankRequest, response: RerankResponse) -> None:
    indexes = [document.index for document in response.results]
    if len(set(indexes)) != len(indexes):
        raise ProtocolViolation("a document is ranked twice")
    if any(not 0 <= index < len(request.documents) for index in indexes):
        raise ProtocolViolation(f"a ranked document has an index outside of 0 to {len(request.documents) - 1}")
    if not all(isfinite(document.score) for document in response.results):
        raise ProtocolViolation("a ranked document has a score that is not finite")
    if not indexes:
        raise ProtocolViolation("the response ranks no document")


def has_images(request: EmbedRequest | ModerationRequest) -> bool:
    """Return whether an input of a request is an image or contains one."""
    return any(isinstance(part, Image) for item in request.inputs for part in parts_of(item))
