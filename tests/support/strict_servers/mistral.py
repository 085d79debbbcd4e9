"""The requests that Mistral's chat refuses, checked with the validators that Mistral publishes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pydantic

from strict_servers.refusal import Body, Check, Refusal


def sdk_types(body: Body) -> Iterator[Refusal]:
    """Fields that Mistral's SDK does not know. The SDK ignores them, so its result is compared with the body."""
    from mistralai.client import models  # slow to import

    kind = models.ChatCompletionStreamRequest if body.get("stream") else models.ChatCompletionRequest
    try:
        read = kind.model_validate(body).model_dump(mode="json", by_alias=True, exclude_unset=True)
    except pydantic.ValidationError as error:
        yield Refusal(str(error)[:300], "mistralai, client/models/chatcompletionrequest.py")
        return
    if read != body:
        yield Refusal(f"Extra inputs are not permitted: {json.dumps(body)[:300]}", "mistralai, public OpenAPI")


def common(body: Body) -> Iterator[Refusal]:
    """Orders of roles, call ids, and numbers of results that mistral-common refuses."""
    # slow to import
    from mistral_common.exceptions import MistralCommonException
    from mistral_common.protocol.instruct import validator
    from mistral_common.protocol.instruct.request import ChatCompletionRequest

    known = {key: value for key, value in body.items() if key in ChatCompletionRequest.model_fields}
    plain = json.loads(json.dumps(known))
    for message in plain["messages"]:
        content = message.get("content")
        for chunk in content if isinstance(content, list) else ():
            if chunk["type"] == "thinking":
                chunk["thinking"] = "".join(piece["text"] for piece in chunk["thinking"])
                chunk.pop("signature", None)
        if message["role"] == "tool" and isinstance(content, list):
            # mistral-common does not support pictures in results. The API removes them before it validates.
            message["content"] = [chunk for chunk in content if chunk["type"] == "text"] or ""
    thinks = any(isinstance(m.get("content"), list) and "thinking" in str(m["content"]) for m in plain["messages"])
    # The older validator requires ids of nine characters, which the API still requires for some models:
    # nearai/ironclaw#1241 (2026-03). This validator does not support thinking.
    newer, older = validator.MistralRequestValidatorV13, validator.MistralRequestValidatorV5
    for kind in (newer,) if thinks else (older, newer):
        try:
            kind(mode=validator.ValidationMode.serving).validate_request(ChatCompletionRequest.model_validate(plain))
        except (MistralCommonException, pydantic.ValidationError) as error:
            yield Refusal(str(error)[:300], f"mistral-common, {kind.__name__}")


def order(body: Body) -> Iterator[Refusal]:
    """A user message after a result, a system message after an answer, and an assistant message without content."""
    before = None
    for place, message in enumerate(body["messages"]):
        role = message["role"]
        if role == "user" and before == "tool":
            yield Refusal(
                f"messages[{place}]: Unexpected role 'user' after role 'tool'",
                "avante-corp/avante.nvim#2695 (2025-09), NousResearch/hermes-agent#20154 (2026-05)",
            )
        if role == "system" and before in ("assistant", "tool"):
            yield Refusal(f"messages[{place}]: Unexpected role 'system' after role {before!r}", "mistral-common")
        if role == "assistant" and not message.get("content") and not message.get("tool_calls"):
            yield Refusal(
                f"messages[{place}]: Assistant message must have either content or tool_calls, but not none.",
                "OpenHands/OpenHands#8685 (2025-05)",
            )
        before = role
    if before == "assistant" and not body["messages"][-1].get("prefix"):
        yield Refusal(
            "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant",
            "huggingface/smolagents#757 (2025-02)",
        )


CHECKS: tuple[Check, ...] = (sdk_types, common, order)
