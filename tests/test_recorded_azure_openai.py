"""Recorded traffic of Azure: what only its own plugin knows of it.

That every answer and every error is read right, at any split and as the official client reads it, is shown together
with the other servers of the dialect, by the tests beside this one; they read Azure's with Azure's plugin too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from recorded_counts import assert_counts
from recordings import AZURE, CHAT, RESPONSES, Exchange, chats, parser_for, recorded, report, response_of
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import AuthenticationError, BadRequest, NotFound, RateLimited, RemoteError
from trunkline.fold import fold
from trunkline_azure_openai import AzureAnthropicSettings, AzureOpenAISettings, azure_anthropic, azure_openai
from trunkline_azure_openai.parse import most_severe
from trunkline_azure_openai.urls import CLASSIC_VERSION, surface_of

ERRORS: Mapping[str, tuple[type[RemoteError], int, str | None, float | None]] = {
    "0585cbaaae986cfa": (NotFound, 404, "DeploymentNotFound", None),
    "0aab87884a502f0b": (NotFound, 404, "404", None),
    "5d3cdbc4700da01a": (NotFound, 404, "404", None),
    "5d7972c29910db8a": (RateLimited, 429, "RateLimitReached", 0.0),
    "76efeba77e20d054": (AuthenticationError, 401, "401", None),
    "818a5af505c2a561": (NotFound, 404, "DeploymentNotFound", None),
    "a28598e0ca6b1201": (BadRequest, 422, "Invalid input", None),
}
"""Every recorded error of a chat: class, status, code, and the wait that it asks for."""


def exchanges() -> list[Exchange]:
    return [exchange for exchange in recorded("azure-openai") if exchange.variant in AZURE]


def test_every_recorded_url_is_recognised_and_leads_back_to_itself() -> None:
    counts: Counter[tuple[str, str]] = Counter()
    problems: list[str] = []
    for exchange in exchanges():
        surface = surface_of(exchange.url)
        counts[exchange.variant, surface.kind] += 1
        asked = urlsplit(exchange.url)
        if not exchange.is_success or (surface.kind == "v1" and "/v1/" not in asked.path):
            continue
        rebuilt = urlsplit(surface.url(surface.endpoint or "", surface.deployment))
        version = parse_qs(asked.query).get("api-version") or [CLASSIC_VERSION]
        same_query = parse_qs(rebuilt.query) == ({"api-version": version} if surface.kind != "v1" else {})
        if re.sub("/+", "/", asked.path) != rebuilt.path or asked.netloc != rebuilt.netloc or not same_query:
            problems.append(f"{exchange.id}: {exchange.url} became {rebuilt.geturl()}")
    assert not problems, report(problems)
    # Six requests to `/openai/responses` had no version, and count as v1.
    assert_counts("azure-openai/urls", surfaces=counts)


def objects(exchange: Exchange) -> Iterator[dict[str, Any]]:
    """The JSON objects of a body."""
    if not exchange.streaming:
        yield json.loads(exchange.body)
        return
    for line in exchange.body.splitlines():
        if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
            yield json.loads(line[5:])


def findings(exchange: Exchange) -> dict[str, Any]:
    """What the filters found, taken from the body."""
    found: dict[str, Any] = {}
    for value in objects(exchange):
        if value.get("prompt_filter_results"):
            found["prompt_filter_results"] = value["prompt_filter_results"]
        for choice in value.get("choices") or []:
            if not choice.get("index") and choice.get("content_filter_results"):
                known = found.get("content_filter_results", {})
                found["content_filter_results"] = most_severe(known, choice["content_filter_results"])
        if (value.get("response") or value).get("content_filters"):
            found["content_filters"] = (value.get("response") or value)["content_filters"]
    return found


@pytest.mark.parametrize("scope", [CHAT, RESPONSES])
def test_what_the_filters_found_is_kept(scope: str) -> None:
    problems: list[str] = []
    read = with_findings = 0
    for exchange in chats("azure-openai"):
        if exchange.scope != scope or not exchange.is_success:
            continue
        wanted = findings(exchange)
        read, with_findings = read + 1, with_findings + bool(wanted)
        metadata = response_of(exchange).provider_metadata.get("azure-openai", {})
        kept = {name: metadata.get(name) for name in wanted}
        if kept != wanted:
            problems.append(f"{exchange.id}: {kept}, not {wanted}")
    assert not problems, report(problems)
    assert_counts(f"azure-openai/{scope}", read=read, with_findings=with_findings)


def test_every_recorded_error_has_its_class_code_and_wait() -> None:
    found: dict[str, tuple[type[RemoteError], int | None, str | None, float | None]] = {}
    for exchange in chats("azure-openai"):
        if exchange.status != 200:
            error = parser_for(exchange).error(exchange.wire_response)
            assert isinstance(error, RemoteError)
            assert error.request_id == exchange.headers.get("apim-request-id")
            found[exchange.id] = (type(error), error.status, error.code, error.retry_after)
    assert found == ERRORS


def test_recorded_embeddings_are_read() -> None:
    statuses = Counter[int]()
    for exchange in exchanges():
        if exchange.scope != "embeddings":
            continue
        statuses[exchange.status] += 1
        settings = AzureOpenAISettings(api_url=exchange.url, api_key="REDACTED")  # type: ignore[arg-type]
        context = ServiceContext(name="recorded", provider="azure-openai", settings=settings)
        operation = azure_openai.operations(context).embed
        assert operation is not None
        if exchange.status == 200:
            response = operation.parse(context, exchange.wire_response)
            assert all(len(vector) > 100 for vector in response.embeddings)
            assert response.usage is not None
    assert_counts("azure-openai/embeddings", statuses=statuses)


def test_recorded_answers_of_claude_are_read() -> None:
    found = [exchange for exchange in recorded("other") if exchange.variant == "azure-anthropic"]
    assert len(found) == 10
    for exchange in found:
        settings = AzureAnthropicSettings(api_url=exchange.url, api_key="k")  # type: ignore[arg-type]  # converted
        context = ServiceContext(name="recorded", provider="azure-anthropic", settings=settings)
        # The pasted URL of the endpoint leads back to itself.
        assert f"{settings.root}/v1/messages" == exchange.url
        parser = azure_anthropic.response_parser(context)
        if exchange.streaming:
            framer, events = parser.stream()
            response = fold([event for frame in framer.feed(exchange.body) for event in events.feed(frame)])
        else:
            response = parser.body(exchange.wire_response)
        assert (response.raw_finish_reason,) == exchange.finish_reasons
        assert response.text or response.tool_calls
        assert response.usage is not None
        assert response.usage.output_tokens
