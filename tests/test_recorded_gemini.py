"""Recorded traffic of Gemini: every answer at any split, beside what Google's own types find in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any, cast
from urllib.parse import urlsplit

from google.genai import types
from recorded_counts import assert_counts
from recorded_provider import ANSWER, ERROR, RecordedTests
from recordings import Exchange
from trunkline import Reasoning, tool_result
from trunkline.authoring.json import loads
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, FinishReason
from trunkline_gemini.parse import REASONS

METHODS = ("generateContent", "streamGenerateContent")


def method(exchange: Exchange) -> str:
    return urlsplit(exchange.url).path.rpartition(":")[2]


# Google's own types


def chunks_of(exchange: Exchange) -> list[dict[str, Any]]:
    if not exchange.body.startswith(b"data:"):
        body = json.loads(exchange.body)
        return body if isinstance(body, list) else [body]
    lines = exchange.body.decode().splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data:")]


def parts_of(exchange: Exchange) -> list[tuple[str, str, str | None]]:
    """What Google's types find: each part's kind, its text, and its signature."""
    found = []
    for chunk in chunks_of(exchange):
        # Its numbers for enumerations are a proxy's.
        for candidate in chunk.get("candidates", ())[:1]:
            wire = (candidate.get("content") or {}).get("parts") or []
            # Some recordings have signatures that were replaced by a text that is not base64.
            plain = [{key: value for key, value in part.items() if key != "thoughtSignature"} for part in wire]
            for part, signature in zip(
                types.Content.model_validate({"parts": plain}).parts or (),
                (part.get("thoughtSignature") for part in wire),
                strict=True,
            ):
                if part.function_call is not None:
                    sent = json.dumps([part.function_call.name, part.function_call.args or {}], sort_keys=True)
                    found.append(("call", sent, signature))
                elif part.text is not None:
                    found.append(("thought" if part.thought else "text", part.text, signature))
                else:
                    found.append(("other", "", signature))
    return found


def usage_of(exchange: Exchange) -> tuple[int | None, ...]:
    sent = [chunk["usageMetadata"] for chunk in chunks_of(exchange) if chunk.get("usageMetadata")]
    if not sent:
        return (None,) * 4
    usage = types.GenerateContentResponseUsageMetadata.model_validate(
        {key: value for key, value in sent[-1].items() if isinstance(value, int) and key != "trafficType"}
    )
    return (
        usage.prompt_token_count,
        usage.thoughts_token_count,
        usage.cached_content_token_count,
        usage.total_token_count,
    )


class TestGemini(RecordedTests):
    provider = "gemini"
    files = ("gemini",)
    settings = {"api_key": "REDACTED"}
    piece = 600

    @classmethod
    def kind(cls, exchange: Exchange) -> str:
        if method(exchange) not in METHODS:
            return urlsplit(exchange.url).path.strip("/").split("/")[1].partition(":")[0]
        return ANSWER if exchange.is_success else ERROR

    def is_stream(self, exchange: Exchange) -> bool:
        """Without `alt=sse` a stream is a JSON array, which is read although this provider never asks for it."""
        return exchange.body.startswith((b"data:", b"["))

    def reason(self, exchange: Exchange, response: ChatResponse) -> tuple[FinishReason, str | None]:
        """Some recordings tell no reason, or that of each choice."""
        expected = REASONS.get(response.raw_finish_reason or "", FinishReason.OTHER)
        if response.tool_calls and expected is FinishReason.STOP:
            expected = FinishReason.TOOL_CALLS
        return expected, (exchange.finish_reasons or (response.raw_finish_reason,))[0]

    def cut_off(self, exchange: Exchange, random: Random) -> Iterator[bytes]:
        end = exchange.body.rindex(b'"finishReason"')
        yield from (exchange.body[:at] for at in (end, *(random.randrange(end) for _ in range(self.cuts))))

    def ours(self, exchange: Exchange) -> tuple[object, ...]:
        """Texts, calls, and usage without what a hosted tool's prompt cost."""
        response = self.response_of(exchange)
        calls = [json.dumps([call.name, call.arguments], sort_keys=True) for call in response.tool_calls]
        usage = response.usage
        if usage is None:
            return response.text, response.reasoning, calls, (None,) * 4
        fresh = usage.input_tokens and usage.input_tokens - cast("int", usage.raw.get("toolUsePromptTokenCount", 0))
        counts = (fresh, usage.reasoning_tokens, usage.cache_read_tokens, usage.total_tokens)
        return response.text, response.reasoning, calls, counts

    def theirs(self, exchange: Exchange) -> tuple[object, ...]:
        parts = parts_of(exchange)

        def texts(kind: str) -> list[str]:
            return [text for found, text, _ in parts if found == kind]

        return "".join(texts("text")), "".join(texts("thought")), texts("call"), usage_of(exchange)

    def test_every_answer_can_be_sent_back_with_its_signatures(self) -> None:
        signed = 0
        for exchange in self.answers():
            response = self.response_of(exchange)
            if all(isinstance(part, Reasoning) for part in response.parts):
                continue  # an answer of nothing but thoughts is not sent back
            results = [tool_result(call, "done") for call in response.tool_calls]
            request = ChatRequest(messages="hi", model="gemini-2.5-pro").with_messages(response.message, *results)
            translation = self.steps().translator.translate(request, stream=False)
            assert not translation.warnings, exchange.id
            contents = loads(translation.wire_request.body)["contents"]
            sent = sorted(signature for _, _, signature in parts_of(exchange) if signature)
            back = sorted(
                part["thoughtSignature"] for turn in contents for part in turn["parts"] if "thoughtSignature" in part
            )
            assert back == sent, exchange.id
            signed += bool(sent)
        assert_counts("gemini/gemini", signed=signed)
