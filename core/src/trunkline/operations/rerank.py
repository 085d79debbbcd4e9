"""Reranking: sort documents by their relevance to a query."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import attrs

from trunkline._base_errors import InvalidRequest
from trunkline._field_types import COUNT_OR_NONE, OPTIONS, TEXT, TEXT_OR_NONE, FieldTypes
from trunkline._json import JSONValue, ProviderOptions
from trunkline.inputs import as_strings
from trunkline.response import CallWarning, RateLimits, Usage


def _documents(value: str | Iterable[str]) -> tuple[str, ...]:
    return as_strings(value, "documents")


@attrs.frozen(kw_only=True)
class RerankRequest:
    """Documents to sort by their relevance to `query`.

    `documents` accepts an iterable of strings. `top_n` is the number of documents to return, at least 1; by default all
    of them. Raises `InvalidRequest` if there is no document.
    """

    query: str
    documents: tuple[str, ...] = attrs.field(converter=_documents, repr=False)
    model: str | None = None
    top_n: int | None = None
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        _TYPES.check(self)
        if not self.documents:
            raise InvalidRequest("a rerank request needs at least one document")
        if self.top_n is not None and self.top_n < 1:
            raise InvalidRequest(f"RerankRequest.top_n must be at least 1, not {self.top_n}")


_TYPES = FieldTypes({"query": TEXT, "model": TEXT_OR_NONE, "top_n": COUNT_OR_NONE, "provider_options": OPTIONS})


class RerankParams(TypedDict, total=False):
    """The keywords of `Service.rerank`: the fields of a `RerankRequest` but for `query` and `documents`."""

    model: str | None
    top_n: int | None
    provider_options: ProviderOptions


@attrs.frozen
class RankedDocument:
    """A document of a `RerankRequest`: its position among `documents`, from 0, and its relevance to the query.

    A higher `score` is more relevant. For most models it is between 0 and 1; some servers send logits, which may be
    negative. Scores of different models cannot be compared.
    """

    index: int
    score: float


@attrs.frozen(kw_only=True)
class RerankResponse:
    """The response to a `RerankRequest`: `results` has the most relevant document first, each document at most once."""

    results: tuple[RankedDocument, ...]
    model: str | None = None
    provider: str | None = None
    service: str | None = attrs.field(default=None, eq=False)
    usage: Usage | None = None
    warnings: tuple[CallWarning, ...] = ()
    rate_limits: RateLimits | None = attrs.field(default=None, repr=False, eq=False)
    raw: JSONValue = attrs.field(default=None, repr=False, eq=False)
