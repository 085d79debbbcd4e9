"""Requests and responses of the operations other than chat and embeddings.

Each operation has a request and a response type: reranking documents, transcribing audio, generating speech and images,
and moderating content.
"""

from __future__ import annotations

from trunkline.operations.images import ImageParams, ImageRequest, ImageResponse
from trunkline.operations.moderation import Moderation, ModerationParams, ModerationRequest, ModerationResponse
from trunkline.operations.rerank import RankedDocument, RerankParams, RerankRequest, RerankResponse
from trunkline.operations.speech import SpeechParams, SpeechRequest, SpeechResponse
from trunkline.operations.transcription import (
    TimestampKind,
    TranscribedSegment,
    TranscribedWord,
    TranscriptionParams,
    TranscriptionRequest,
    TranscriptionResponse,
)

__all__ = [
    "ImageParams",
    "ImageRequest",
    "ImageResponse",
    "Moderation",
    "ModerationParams",
    "ModerationRequest",
    "ModerationResponse",
    "RankedDocument",
    "RerankParams",
    "RerankRequest",
    "RerankResponse",
    "SpeechParams",
    "SpeechRequest",
    "SpeechResponse",
    "TimestampKind",
    "TranscribedSegment",
    "TranscribedWord",
    "TranscriptionParams",
    "TranscriptionRequest",
    "TranscriptionResponse",
]
