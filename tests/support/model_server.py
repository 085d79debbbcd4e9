"""A provider for the documentation's examples: it reads real requests and answers by a few plain rules.

It speaks Chat Completions, Anthropic's Messages, Cohere's and Ollama's chat, Converse, embeddings and lists of models.
What it answers follows from the request: a tool is called with the cities that the question names, the answer after a
tool's result quotes the result, an answer with a schema fits it. An example that sends less than it says gets another
answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import attrs
from trunkline.testing import Exchange

CITIES = ("Oslo", "Rome", "Lima")
WORDS = {"city": "Rome", "country": "Italy", "name": "Rome", "sentiment": "positive"}


@attrs.frozen(kw_only=True)
class Asked:
    """What a request asks, whatever its wire format."""

    text: str = ""
    tools: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    schema: Any = None
    reasoning: bool = False


def instance(schema: dict[str, Any], name: str = "", root: dict[str, Any] | None = None) -> Any:
    """A value that fits the schema. References have to be to the definitions of the root."""
    root = root or schema
    if "$ref" in schema:
        return instance(root["$defs"][schema["$ref"].rpartition("/")[2]], name, root)
    if "anyOf" in schema:
        return instance(schema["anyOf"][0], name, root)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {key: instance(value, key, root) for key, value in schema.get("properties", {}).items()}
        case "array":
            return [instance(schema.get("items", {}), name, root)]
        case "integer":
            return 2748109
        case "number":
            return 41.9
        case "boolean":
            return True
    return WORDS.get(name, "something")


def answer(asked: Asked) -> list[tuple[str, Any]]:
    """The blocks of the answer: reasoning, text, or calls of tools."""
    blocks: list[tuple[str, Any]] = []
    if asked.reasoning:
        blocks.append(("reasoning", "Short waves scatter most."))
    if asked.results and asked.schema is None:
        blocks.append(("text", "The tool says: " + " ".join(asked.results)))
    elif asked.tools and not asked.results:
        cities = [city for city in CITIES if city in asked.text] or ["Oslo"]
        tools = [tool for tool in asked.tools if tool in asked.text] or asked.tools[:1]
        calls = [(tool, {"city": city}) for tool in tools for city in cities]
        blocks += [("tool", (f"call_{number}", *call)) for number, call in enumerate(calls)]
    elif asked.schema is not None:
        blocks.append(("text", json.dumps(instance(asked.schema))))
    elif asked.media:
        blocks.append(("text", "You sent: " + ", ".join(asked.media)))
    else:
        blocks.append(("text", "Because air scatters blue light more than red."))
    return blocks


def pieces(text: str) -> list[str]:
    """The text in the pieces that a stream would have."""
    return re.findall(r"\S+\s*", text) or [text]


def _texts(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or [] if isinstance(part, dict))


# Chat Completions


def chat_asked(body: dict[str, Any]) -> Asked:
    messages = body["messages"]
    last = messages[-1]
    results = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        results.insert(0, _texts(message["content"]))
    content = last.get("content")
    kinds = [part["type"] for part in content if part["type"] != "text"] if isinstance(content, list) else []
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    tools = (
        () if body.get("tool_choice") == "none" else tuple(tool["function"]["name"] for tool in body.get("tools", ()))
    )
    return Asked(
        text=_texts(content),
        tools=tools,
        results=tuple(results),
        media=tuple(kinds),
        schema=schema,
        reasoning=bool(body.get("reasoning_effort")),
    )


def chat_stream(body: dict[str, Any]) -> Iterator[bytes]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return sse({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": body["model"], "choices": [choice]})

    reason, position = "stop", 0
    yield chunk({"role": "assistant", "content": ""})
    for kind, value in answer(chat_asked(body)):
        if kind == "text":
            yield from (chunk({"content": piece}) for piece in pieces(value))
        elif kind == "tool":
            call_id, name, arguments = value
            head = {"index": position, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
            yield chunk({"tool_calls": [head]})
            for piece in pieces(json.dumps(arguments)):
                yield chunk({"tool_calls": [{"index": position, "function": {"arguments": piece}}]})
            reason, position = "tool_calls", position + 1
    yield chunk({}, reason)
    if (body.get("stream_options") or {}).get("include_usage"):
        yield sse({"id": "chatcmpl-1", "model": body["model"], "choices": [], "usage": CHAT_USAGE})
    yield b"data: [DONE]\n\n"


CHAT_USAGE = {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21}


def chat_body(body: dict[str, Any]) -> dict[str, Any]:
    blocks = answer(chat_asked(body))
    message: dict[str, Any] = {"role": "assistant", "content": "".join(v for k, v in blocks if k == "text") or None}
    calls = [
        {"id": value[0], "type": "function", "function": {"name": value[1], "arguments": json.dumps(value[2])}}
        for kind, value in blocks
        if kind == "tool"
    ]
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return {"id": "chatcmpl-1", "model": body["model"], "choices": [choice], "usage": CHAT_USAGE}


# Anthropic's Messages


def messages_asked(body: dict[str, Any]) -> Asked:
    content = body["messages"][-1]["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    schema = (body.get("output_config") or {}).get("format", {}).get("schema")
    return Asked(
        text=_texts(blocks),
        tools=tuple(tool["name"] for tool in body.get("tools", ()) if "input_schema" in tool),
        results=tuple(_texts(block.get("content")) for block in blocks if block["type"] == "tool_result"),
        media=tuple(block["type"] for block in blocks if block["type"] in ("image", "document")),
        schema=schema,
        reasoning=(body.get("thinking") or {}).get("type") in ("adaptive", "enabled"),
    )


def messages_blocks(body: dict[str, Any]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for kind, value in answer(messages_asked(body)):
        if kind == "text":
            blocks.append({"type": "text", "text": value})
        elif kind == "reasoning":
            blocks.append({"type": "thinking", "thinking": value, "signature": "c2lnbmVk"})
        else:
            blocks.append({"type": "tool_use", "id": value[0], "name": value[1], "input": value[2]})
    return blocks


def messages_body(body: dict[str, Any]) -> dict[str, Any]:
    blocks = messages_blocks(body)
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": blocks,
        "stop_reason": "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn",
        "usage": {"input_tokens": 12, "output_tokens": 9, **messages_cached(body)},
    }


def messages_cached(body: dict[str, Any]) -> dict[str, int]:
    """What was read from the prompt cache, or written to it: the words of the system prompt."""
    if "cache_control" not in json.dumps(body):
        return {}
    words = len(_texts(body.get("system")).split())
    again = any(message["role"] == "assistant" for message in body["messages"])
    return {"cache_read_input_tokens": words * again, "cache_creation_input_tokens": words * (not again)}


def messages_stream(body: dict[str, Any]) -> Iterator[bytes]:
    whole = messages_body(body)
    yield named({"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}})
    for index, block in enumerate(whole["content"]):
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
        yield named({"type": "content_block_start", "index": index, "content_block": {**block, **empty[block["type"]]}})
        for delta in _deltas(block):
            yield named({"type": "content_block_delta", "index": index, "delta": delta})
        yield named({"type": "content_block_stop", "index": index})
    yield named({"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"]}, "usage": whole["usage"]})
    yield named({"type": "message_stop"})


def _deltas(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        yield from ({"type": "text_delta", "text": piece} for piece in pieces(block["text"]))
    elif block["type"] == "thinking":
        yield from ({"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"]))
        yield {"type": "signature_delta", "signature": block["signature"]}
    else:
        for piece in pieces(json.dumps(block["input"])):
            yield {"type": "input_json_delta", "partial_json": piece}


# The others


def cohere_body(body: dict[str, Any]) -> dict[str, Any]:
    text = "It is Dock Seven."
    citations = [
        {
            "start": 6,
            "end": 16,
            "text": text[6:16],
            "type": "TEXT_CONTENT",
            "sources": [{"type": "document", "id": document.get("id", "doc:0"), "document": document["data"]}],
        }
        for document in body.get("documents", ())
    ]
    message = {"role": "assistant", "content": [{"type": "text", "text": text}], "citations": citations}
    usage = {"tokens": {"input_tokens": 12, "output_tokens": 9}}
    return {"id": "1", "finish_reason": "COMPLETE", "message": message, "usage": usage}


def ollama_body(body: dict[str, Any]) -> dict[str, Any]:
    # It is a stream of one line as well.
    last = body["messages"][-1]
    asked = Asked(
        text=last["content"],
        tools=tuple(tool["function"]["name"] for tool in body.get("tools", ())),
        results=(last["content"],) if last["role"] == "tool" else (),
        media=("image",) * len(last.get("images", ())),
        schema=body.get("format"),
        reasoning=bool(body.get("think")),
    )
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    for kind, value in answer(asked):
        if kind == "tool":
            message.setdefault("tool_calls", []).append({"function": {"name": value[1], "arguments": value[2]}})
        else:
            message["thinking" if kind == "reasoning" else "content"] = value
    counts = {"prompt_eval_count": 12, "eval_count": 9}
    return {"model": body["model"], "message": message, "done": True, "done_reason": "stop", **counts}


def converse_body(body: dict[str, Any]) -> dict[str, Any]:
    text = answer(Asked(text=_texts(body["messages"][-1]["content"])))[0][1]
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 12, "outputTokens": 9, "totalTokens": 21},
        "metrics": {"latencyMs": 1},
    }


def gemini_body(body: dict[str, Any]) -> dict[str, Any]:
    text = answer(Asked(text=_texts(body["contents"][-1]["parts"])))[0][1]
    return {
        "responseId": "1",
        "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 12, "candidatesTokenCount": 9, "totalTokenCount": 21},
    }


def embeddings_body(body: dict[str, Any]) -> dict[str, Any]:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    data = [{"index": index, "embedding": [float(len(text)), 0.5]} for index, text in enumerate(texts)]
    return {"object": "list", "model": body["model"], "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}}


def cohere_embeddings(body: dict[str, Any]) -> dict[str, Any]:
    vectors = [[float(len(text)), 0.5] for text in body.get("texts", ())]
    return {"id": "1", "embeddings": {"float": vectors}, "meta": {"billed_units": {"input_tokens": 3}}}


MODELS = {"object": "list", "data": [{"id": "gpt-5.4-mini", "object": "model", "created": 1, "owned_by": "openai"}]}


def sse(data: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def named(data: dict[str, Any]) -> bytes:
    """A server-sent event with its type as its name."""
    return b"event: " + data["type"].encode() + b"\n" + sse(data)


STREAMED = {"/chat/completions": (chat_stream, chat_body), "/messages": (messages_stream, messages_body)}
WHOLE = {
    "/messages/count_tokens": lambda body: {"input_tokens": 12},
    "/v2/chat": cohere_body,
    "/api/chat": ollama_body,
    "/converse": converse_body,
    ":generateContent": gemini_body,
    "/embeddings": embeddings_body,
    "/v2/embed": cohere_embeddings,
}


async def model(exchange: Exchange) -> None:
    """Answer one request."""
    path = exchange.request.target.partition("?")[0]
    if exchange.request.method == "GET" and path.endswith("/models"):
        await exchange.respond(json.dumps(MODELS).encode())
        return
    body = json.loads(exchange.request.body or b"{}")
    for end, whole in WHOLE.items():
        if path.endswith(end):
            await exchange.respond(json.dumps(whole(body)).encode())
            return
    for end, (stream, whole) in STREAMED.items():
        if path.endswith(end) and body.get("stream"):
            await exchange.start()
            for data in stream(body):
                await exchange.chunk(data)
            await exchange.end()
            return
        if path.endswith(end):
            await exchange.respond(json.dumps(whole(body)).encode())
            return
    await exchange.respond(json.dumps({"error": {"message": f"no such path: {path}"}}).encode(), status=404)
