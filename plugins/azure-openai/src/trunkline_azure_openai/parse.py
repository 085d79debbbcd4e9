"""Responses of Azure: OpenAI's, with the results of the content filters. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import JSONValue, as_object, as_objects, as_string
from trunkline.errors import RemoteError
from trunkline.messages import Citation
from trunkline.secrets import Headers, HeaderValues
from trunkline_openai.parse import ChatParser
from trunkline_openai.responses_parse import ResponsesParser

from trunkline_azure_openai.errors import error_from_body

_SEVERITIES = ("safe", "low", "medium", "high")


class AzureParser(ChatParser):
    """Reads one response.

    The content filters report on the text of each chunk. The response keeps the most severe result of each category.
    """

    def keep(self, key: str, value: Any) -> None:
        """Keep a field that nothing else reads, for `provider_metadata`."""
        if key == "content_filter_results" and isinstance(value, dict):
            known = self.metadata.get(key)
            if known == value:
                return
            value = most_severe(known, value) if isinstance(known, dict) else dict(value)
        super().keep(key, value)

    def sources(self) -> list[Citation]:
        """The citations beside the message. Those of "your own data" are in its field `context`."""
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
        body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
    ) -> RemoteError:
        """The error that a decoded body describes. It never raises."""
        return error_from_body(body, provider=provider, status=status, headers=headers)


class AzureResponsesParser(ResponsesParser):
    """The `ResponseParser` of one service with the Responses API."""

    @staticmethod
    def read_error(
        body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
    ) -> RemoteError:
        """The error that a decoded body describes. It never raises."""
        return error_from_body(body, provider=provider, status=status, headers=headers)


def most_severe(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The more severe of two results for each category. `first` is changed and returned."""
    for category, found in second.items():
        if category not in first or _severity(found) > _severity(first[category]):
            first[category] = found
    return first


def _severity(found: Any) -> tuple[bool, bool, int]:
    if not isinstance(found, dict):
        return (False, False, -2)
    severity = found.get("severity")
    rank = _SEVERITIES.index(severity) if severity in _SEVERITIES else -1
    return (found.get("filtered") is True, found.get("detected") is True, rank)
