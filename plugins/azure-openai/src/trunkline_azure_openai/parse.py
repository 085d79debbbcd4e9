"""Answers of Azure: the dialect's, with what the content filters found. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline.authoring.json import as_object, as_objects, as_string
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import RemoteError
from trunkline.messages import Citation
from trunkline_openai.errors import error_from_response
from trunkline_openai.parse import ChatParser
from trunkline_openai.responses_parse import ResponsesParser

from trunkline_azure_openai.errors import error_from_body

_SEVERITIES = ("safe", "low", "medium", "high")


class AzureParser(ChatParser):
    """Reads one answer. Each chunk has findings for its own text; those for the whole answer are the gravest."""

    def keep(self, key: str, value: Any) -> None:
        """A field that nothing else reads, for the response's metadata."""
        if key == "content_filter_results" and isinstance(value, dict):
            known = self.metadata.get(key)
            if known == value:
                return
            value = gravest(known, value) if isinstance(known, dict) else dict(value)
        super().keep(key, value)

    def sources(self) -> list[Citation]:
        """The citations beside the answer; those of the service's own data stand in the message's `context`."""
        return super().sources() + [
            Citation(
                url=as_string(item.get("url")),
                title=as_string(item.get("title")) or as_string(item.get("filepath")),
                cited_text=as_string(item.get("content")),
            )
            for item in as_objects(as_object(self.metadata.get("context")).get("citations"))
        ]

    @staticmethod
    def error(
        body: object, *, provider: str, status: int | None = None, headers: Mapping[str, str] = {}
    ) -> RemoteError:
        """The error that a decoded body tells of."""
        return error_from_body(body, provider=provider, status=status, headers=headers)


class AzureResponsesParser(ResponsesParser):
    """Reads the answers of the Responses API."""

    def __init__(self, context: ServiceContext[Any]) -> None:
        super().__init__(context)
        self._name = context.provider

    def error(self, wire_response: WireResponse) -> RemoteError:
        """The error that a response with an error status tells of."""
        return error_from_response(wire_response, provider=self._name, read=error_from_body)


def gravest(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Of two sets of findings the graver for each category: the first, with what is graver in the second."""
    for category, found in second.items():
        if category not in first or _gravity(found) > _gravity(first[category]):
            first[category] = found
    return first


def _gravity(found: Any) -> tuple[bool, bool, int]:
    if not isinstance(found, dict):
        return (False, False, -2)
    severity = found.get("severity")
    rank = _SEVERITIES.index(severity) if severity in _SEVERITIES else -1
    return (found.get("filtered") is True, found.get("detected") is True, rank)
