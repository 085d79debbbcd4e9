"""Recorded traffic of Ollama's own API: every answer at any split, beside what Ollama's own types find in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from random import Random
from urllib.parse import urlsplit

import ollama
from recorded_counts import assert_counts
from recorded_provider import ANSWER, ERROR, RecordedTests
from recordings import Exchange, recorded
from trunkline.errors import NotFound, RemoteError
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, FinishReason
from trunkline_ollama.operations import parse_embeddings
from trunkline_ollama.parse import REASONS

CHAT = "/api/chat"
NOT_OLLAMA = "cabaf73915d73f7c"
"""An answer in the Chat Completions dialect; the URL is a guess."""


class TestOllama(RecordedTests):
    provider = "ollama"
    files = ("ollama",)
    piece = 600

    @classmethod
    def kind(cls, exchange: Exchange) -> str:
        path = urlsplit(exchange.url).path
        if path != CHAT:
            return path
        if exchange.id == NOT_OLLAMA:
            return "another dialect"
        return ANSWER if exchange.is_success else ERROR

    def reason(self, exchange: Exchange, response: ChatResponse) -> tuple[FinishReason, str]:
        [word] = exchange.finish_reasons
        reason = REASONS.get(word, FinishReason.OTHER)
        return FinishReason.TOOL_CALLS if response.tool_calls and reason is FinishReason.STOP else reason, word

    def cut_off(self, exchange: Exchange, random: Random) -> Iterator[bytes]:
        body = exchange.body.rstrip()
        first, last = body[: body.index(b"\n") + 1], body[body.rindex(b"\n") + 1 :]
        yield from (body[: random.randrange(len(body) - len(last))] for _ in range(self.cuts))
        # In the last line `"done":true` may stand already.
        yield from (first + last[:at] for at in range(len(last)))

    def error_problems(self, exchange: Exchange, error: RemoteError) -> Iterator[str]:
        if (type(error), error.message) != (NotFound, "model 'nonexistent-model:latest' not found"):
            yield repr(error)

    def ours(self, exchange: Exchange) -> tuple[object, ...]:
        response = self.response_of(exchange)
        usage = response.usage
        return (
            response.text,
            response.reasoning,
            [(call.name, call.arguments) for call in response.tool_calls],
            (response.model, usage and usage.input_tokens, usage and usage.output_tokens),
        )

    def theirs(self, exchange: Exchange) -> tuple[object, ...]:
        chunks = [ollama.ChatResponse.model_validate_json(line) for line in exchange.body.splitlines() if line.strip()]
        messages, last = [chunk.message for chunk in chunks], chunks[-1]
        calls = [call.function for message in messages for call in message.tool_calls or ()]
        return (
            "".join(message.content or "" for message in messages),
            "".join(message.thinking or "" for message in messages),
            [(call.name, dict(call.arguments)) for call in calls],
            (last.model, last.prompt_eval_count, last.eval_count),
        )

    def test_the_answers_hold_reasoning_calls_and_usage(self) -> None:
        responses = [self.response_of(exchange) for exchange in self.answers()]
        assert_counts(
            "ollama/ollama",
            with_reasoning=sum(bool(response.reasoning) for response in responses),
            calls=sum(len(response.tool_calls) for response in responses),
            without_usage=sum(response.usage is None for response in responses),
            finish_reasons=Counter(response.finish_reason for response in responses),
        )

    def test_no_two_answers_share_the_ids_of_their_calls(self) -> None:
        made = [call.id for exchange in self.answers() for call in self.response_of(exchange).tool_calls]
        # The recordings' own ids were taken out and numbered anew in each.
        ours = [call_id for call_id in made if "REDACTED" not in call_id]
        assert len(set(ours)) == len(ours)

    def test_every_answer_can_be_sent_back(self) -> None:
        for exchange in self.answers():
            response = self.response_of(exchange)
            request = ChatRequest(messages="hi", model="m").with_messages(response.message)
            translation = self.steps().translator.translate(request, stream=False)
            # A call whose result is not in the conversation gets one.
            kinds = {"mended", "changed"} if response.tool_calls else set[str]()
            assert {warning.kind for warning in translation.warnings} <= kinds, exchange.id
            sent = json.loads(translation.wire_request.body)["messages"][1]
            assert sent["content"] == response.text
            assert sent.get("thinking", "") == response.reasoning
            assert len(sent.get("tool_calls", ())) == len(response.tool_calls)

    def test_the_recorded_embedding_is_read(self) -> None:
        [exchange] = [exchange for exchange in recorded("ollama") if urlsplit(exchange.url).path == "/api/embed"]
        response = parse_embeddings(self.context(), exchange.wire_response)
        [vector] = response.embeddings
        assert (len(vector), response.model) == (768, "nomic-embed-text")
        assert response.usage is not None
        assert response.usage.input_tokens == 9
