"""The strict servers refuse what their sources say, and nothing else: each rule has a body that breaks only it."""

from __future__ import annotations

import copy
from typing import Any

import attrs
import pytest
from strict_servers.answers import Said
from strict_servers.families import ALL
from strict_servers.refusal import Check, Refusal
from strict_servers.seal import issuer_of, seal
from strict_servers.server import strict_service
from trunkline import BadRequest

FAMILIES = {family.name: family for family in ALL}
OSLO = '{"city": "Oslo"}'
PARAMETERS = {"type": "object", "properties": {}}


def call(call_id: str = "abcdefgh1", name: str = "weather", arguments: str = OSLO) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def chat(assistant: dict[str, Any] | None = None, *after: dict[str, Any]) -> dict[str, Any]:
    """A body that each server of Chat Completions accepts, or one with other messages."""
    turn = {"role": "assistant", "content": "", "tool_calls": [call()]} if assistant is None else assistant
    result = {"role": "tool", "tool_call_id": "abcdefgh1", "content": "7 C"}
    following = after or ((result,) if turn.get("tool_calls") else ())
    tool = {"type": "function", "function": {"name": "weather", "parameters": dict(PARAMETERS)}}
    messages = [{"role": "user", "content": "Oslo?"}, turn, *following]
    return {"model": "m", "stream": True, "messages": messages, "tools": [tool]}


def kimi(**fields: Any) -> dict[str, Any]:
    return chat({"role": "assistant", "content": "", "reasoning_content": " ", "tool_calls": [call()], **fields})


def openrouter(data: str = seal("gemini-3", "1")) -> dict[str, Any]:
    details = [{"type": "reasoning.encrypted", "data": data, "id": "abcdefgh1"}]
    return chat({"role": "assistant", "content": "", "reasoning_details": details, "tool_calls": [call()]})


def google(signature: str = seal("gemini-3", "1")) -> dict[str, Any]:
    signed = {**call(), "extra_content": {"google": {"thought_signature": signature}}}
    return chat({"role": "assistant", "content": "", "tool_calls": [signed]})


def responses(*items: dict[str, Any]) -> dict[str, Any]:
    """A body that the Responses API accepts, or one with other items after the user's message."""
    default = (
        {"type": "reasoning", "id": "rs_1r1", "summary": [], "encrypted_content": seal("openai", "1r1")},
        {"type": "function_call", "id": "fc_1r1a", "call_id": "call_1", "name": "weather", "arguments": OSLO},
        {"type": "function_call_output", "call_id": "call_1", "output": "7 C"},
    )
    tool = {"type": "function", "name": "weather", "parameters": dict(PARAMETERS), "strict": False}
    asked = {"role": "user", "content": "Oslo?"}
    found = [asked, *(items or default)]
    return {"model": "m", "stream": True, "store": False, "input": found, "tools": [tool]}


def output(call_id: str = "call_1") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": "7 C"}


def function_call(call_id: str = "call_1", **fields: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "weather", "arguments": OSLO, **fields}


def text_message(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


THINKING = {"type": "thinking", "thinking": "hm", "signature": seal("claude", "1")}


def use(call_id: str = "toolu_1", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "weather", "input": {}, **fields}


def used(call_id: str = "toolu_1", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": "7 C", **fields}


def claude(
    turn: list[dict[str, Any]] | None = None, answer: list[dict[str, Any]] | None = None, **fields: Any
) -> dict[str, Any]:
    """A body that Claude accepts, or one with another turn, another answer to it, or other fields."""
    messages = [
        {"role": "user", "content": "Oslo?"},
        {"role": "assistant", "content": [THINKING, use()] if turn is None else turn},
        {"role": "user", "content": [used()] if answer is None else answer},
    ]
    tool = {"name": "weather", "input_schema": dict(PARAMETERS)}
    return {"model": "m", "max_tokens": 4000, "stream": True, "messages": messages, "tools": [tool], **fields}


ENABLED = {"type": "enabled", "budget_tokens": 2000}
TEXT = {"type": "text", "text": "hm"}
SIGNED = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": seal("claude", "1")}}}
UNSIGNED = {"reasoningContent": {"reasoningText": {"text": "hm"}}}


def tool_use(call_id: str = "tooluse_1") -> dict[str, Any]:
    return {"toolUse": {"toolUseId": call_id, "name": "weather", "input": {}}}


def tool_used(call_id: str = "tooluse_1", text: str = "7 C") -> dict[str, Any]:
    return {"toolResult": {"toolUseId": call_id, "content": [{"text": text}]}}


def converse(
    turn: list[dict[str, Any]] | None = None, answer: list[dict[str, Any]] | None = None, **fields: Any
) -> dict[str, Any]:
    """A body that each family of Bedrock accepts, or one with another turn, another answer to it, or other fields."""
    messages = [
        {"role": "user", "content": [{"text": "Oslo?"}]},
        {"role": "assistant", "content": [tool_use()] if turn is None else turn},
        {"role": "user", "content": [tool_used()] if answer is None else answer},
    ]
    tools = {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": dict(PARAMETERS)}}}]}
    return {"messages": messages, "toolConfig": tools, **fields}


def function(name: str = "weather", **fields: Any) -> dict[str, Any]:
    return {"functionCall": {"id": "c1", "name": name, "args": {}}, "thoughtSignature": seal("gemini-3", "1"), **fields}


def functioned(name: str = "weather") -> dict[str, Any]:
    return {"functionResponse": {"id": "c1", "name": name, "response": {"output": "7 C"}}}


def gemini(
    turn: list[dict[str, Any]] | None = None, answer: list[dict[str, Any]] | None = None, **fields: Any
) -> dict[str, Any]:
    """A body that Gemini 3 accepts, or one with another turn, another answer to it, or other fields."""
    contents = [
        {"role": "user", "parts": [{"text": "Oslo?"}]},
        {"role": "model", "parts": [function()] if turn is None else turn},
        {"role": "user", "parts": [functioned()] if answer is None else answer},
    ]
    return {"contents": contents, **fields}


def cohere(turn: dict[str, Any] | None = None, *after: dict[str, Any]) -> dict[str, Any]:
    """A body that Cohere accepts, or one with other messages after the user's."""
    body = chat({"role": "assistant", "tool_calls": [call()]} if turn is None else turn, *after)
    return {"model": "m", "messages": body["messages"]}


def ollama(**fields: Any) -> dict[str, Any]:
    """A body that Ollama accepts, or one whose assistant message has other fields."""
    turn = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {}}}]}
    return {"model": "m", "messages": [{"role": "user", "content": "Oslo?"}, {**turn, **fields}]}


ACCEPTED: dict[str, dict[str, Any]] = {
    "OpenAI (chat)": chat(),
    "Azure (chat)": chat(),
    "DeepSeek": kimi(reasoning_content=""),
    "Kimi": kimi(),
    "Groq (gpt-oss)": chat(),
    "Cerebras (gpt-oss)": chat(),
    "xAI": chat(),
    "OpenRouter (Gemini 3)": openrouter(),
    "Gemini 3 (chat)": google(),
    "Perplexity": chat(),
    "Mistral (chat)": chat(),
    "llama.cpp (Devstral)": chat(),
    "llama.cpp (Qwen)": chat(),
    "vLLM (Qwen)": chat(),
    "OpenAI (responses)": responses(),
    "Azure (responses)": responses(function_call(), output()),
    "Claude": claude(thinking=ENABLED),
    "Claude (adaptive)": claude(),
    "Kimi (Anthropic's API)": claude(),
    "DeepSeek (Anthropic's API)": claude(),
    "Bedrock (Claude)": converse([SIGNED, tool_use()], additionalModelRequestFields={"thinking": ENABLED}),
    "Bedrock (Nova)": converse(),
    "Bedrock (DeepSeek)": {"messages": [{"role": "user", "content": [{"text": "Oslo?"}]}]},
    "Bedrock (gpt-oss)": converse([UNSIGNED, tool_use()]),
    "Bedrock (Llama)": converse(),
    "Bedrock (Mistral)": converse(),
    "Gemini 2.5": gemini([function(thoughtSignature=seal("gemini-2.5", "1"))]),
    "Gemini 3": gemini(),
    "Gemini 3 (images)": gemini(),
    "Mistral": chat(),
    "Cohere": cohere(),
    "Ollama (Qwen)": ollama(),
}

RESULT = {"role": "tool", "tool_call_id": "abcdefgh1", "content": "7 C"}
USER = {"role": "user", "content": "Hm"}
SYSTEM = {"role": "system", "content": "Hm"}
BLANK = {"text": " "}
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}


def changed(body: dict[str, Any], path: tuple[str | int, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A copy of the body, and the schema in it at this path."""
    found: Any = copy.deepcopy(body)
    body = found
    for step in path:
        found = found[step]
    return body, found


def without_type(body: dict[str, Any], *path: str | int) -> dict[str, Any]:
    """The body, with a schema that has no `type` at its root."""
    body, schema = changed(body, path)
    del schema["type"]
    return body


def with_union(body: dict[str, Any], *path: str | int) -> dict[str, Any]:
    """The body, with a schema that is a union at its root."""
    body, schema = changed(body, path)
    schema["anyOf"] = [{"required": ["city"]}, {"required": ["place"]}]
    return body


def with_call(**fields: Any) -> dict[str, Any]:
    return chat({"role": "assistant", "content": "", "tool_calls": [call(**fields)]})


SCHEMA_IN_CHAT = ("tools", 0, "function", "parameters")

REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    # Chat Completions
    ("OpenAI (chat)", "Extra inputs are not permitted", kimi()),
    ("OpenAI (chat)", "Invalid 'messages': empty array", {**chat(), "messages": []}),
    ("OpenAI (chat)", "must be followed by tool messages", chat(None, USER)),
    ("OpenAI (chat)", "must be a response to a preceding message", chat(text_message("Hi."), RESULT)),
    ("OpenAI (chat)", "Duplicate value for 'tool_call_id'", chat(None, RESULT, RESULT)),
    ("OpenAI (chat)", "duplicate tool_call_id", chat({**text_message(""), "tool_calls": [call(), call()]}, RESULT)),
    ("OpenAI (chat)", "not 1 to 40", with_call(call_id="c" * 41)),
    ("OpenAI (chat)", "not 1 to 40", with_call(call_id="")),
    ("OpenAI (chat)", "Invalid function name", with_call(name="the weather")),
    ("OpenAI (chat)", "schema must be a JSON Schema of 'type: \"object\"'", without_type(chat(), *SCHEMA_IN_CHAT)),
    ("OpenAI (chat)", "'oneOf'/'anyOf'/'allOf'", with_union(chat(), *SCHEMA_IN_CHAT)),
    ("OpenAI (chat)", "expected a string, got null", chat({"role": "assistant", "content": None})),
    ("OpenAI (chat)", "'messages[1].tool_calls': empty array", chat({**text_message("Hi."), "tool_calls": []})),
    ("Azure (chat)", "must be followed by tool messages", chat(None, USER)),
    ("DeepSeek", "reasoning_content is missing", chat()),
    (
        "DeepSeek",
        "unknown variant `image_url`",
        chat(text_message("Hi."), {**USER, "content": [{"type": "image_url"}]}),
    ),
    ("DeepSeek", "property 'annotations' is unsupported", kimi(annotations=[])),
    ("Kimi", "reasoning_content is missing", kimi(reasoning_content="")),
    ("Kimi", "must not be empty", chat(text_message(""), USER)),
    ("Groq (gpt-oss)", "property 'reasoning_content' is unsupported", kimi()),
    ("Groq (gpt-oss)", "role 'developer' is unsupported", chat(text_message("Hi."), {**USER, "role": "developer"})),
    ("Cerebras (gpt-oss)", "property 'reasoning_content' is unsupported", kimi()),
    ("xAI", "at least one content element", chat({**text_message(""), "content": None, "tool_calls": [call()]})),
    ("xAI", "at least one non-empty content element", chat(text_message(""), USER)),
    ("OpenRouter (Gemini 3)", "missing a thought_signature", chat()),
    ("OpenRouter (Gemini 3)", "Thought signature is not valid", openrouter(seal("claude", "1"))),
    ("Gemini 3 (chat)", "missing a thought_signature", chat()),
    ("Gemini 3 (chat)", "Thought signature is not valid", google(seal("openai", "1"))),
    ("llama.cpp (Qwen)", "Failed to parse tool call arguments", with_call(arguments='{"city": "Os')),
    ("llama.cpp (Qwen)", "unknown variant `file`", chat(text_message("Hi."), {**USER, "content": [{"type": "file"}]})),
    ("llama.cpp (Qwen)", "Expected 'content' or 'tool_calls'", chat({"role": "assistant"}, USER)),
    ("llama.cpp (Qwen)", "must be at the beginning", chat(text_message("Hi."), SYSTEM)),
    ("llama.cpp (Qwen)", "No user query", {**chat(), "messages": [text_message("Hi.")]}),
    ("Mistral (chat)", "Unexpected role 'user' after role 'tool'", chat(None, RESULT, USER)),
    ("Perplexity", "should alternate", chat(text_message("Hi."), USER, USER)),
    ("Perplexity", "should alternate", chat(None, RESULT, USER)),
    ("Perplexity", "should alternate", chat(text_message("Hi."), SYSTEM, USER)),
    ("llama.cpp (Devstral)", "must alternate", chat(text_message("Hi."), USER, USER)),
    ("llama.cpp (Devstral)", "must alternate", chat(None, RESULT, USER)),
    ("llama.cpp (Devstral)", "Only user, assistant and tool", chat(text_message("Hi."), SYSTEM)),
    ("vLLM (Qwen)", "Failed to parse tool call arguments", with_call(arguments="null")),
    # Responses
    ("OpenAI (responses)", "Extra inputs are not permitted", {**responses(), "stop": ["x"]}),
    ("OpenAI (responses)", "No tool output found", responses(function_call())),
    ("OpenAI (responses)", "No tool call found", responses(output())),
    ("OpenAI (responses)", "comes before its call", responses(output(), function_call())),
    (
        "OpenAI (responses)",
        "Duplicate item found with call_id",
        responses(function_call(), output(), function_call(), output()),
    ),
    (
        "OpenAI (responses)",
        "Duplicate item found with id",
        responses(function_call(id="fc_1"), output(), function_call("call_2", id="fc_1"), output("call_2")),
    ),
    ("OpenAI (responses)", "begins with 'fc'", responses(function_call(id="call_1"), output())),
    ("OpenAI (responses)", "maximum length 64", responses(function_call("c" * 65), output("c" * 65))),
    ("OpenAI (responses)", "required following item", responses(responses()["input"][1], USER)),
    ("OpenAI (responses)", "without its required 'reasoning' item", responses(*responses()["input"][2:])),
    (
        "OpenAI (responses)",
        "could not be verified",
        {
            **responses(),
            "input": [
                USER,
                {**responses()["input"][1], "encrypted_content": seal("azure", "1")},
                *responses()["input"][2:],
            ],
        },
    ),
    (
        "OpenAI (responses)",
        "Items are not persisted",
        responses({"type": "reasoning", "id": "rs_1", "summary": []}, function_call(), output()),
    ),
    ("OpenAI (responses)", "Invalid 'name'", responses(function_call(name="the weather"), output())),
    ("OpenAI (responses)", "schema must be a JSON Schema", without_type(responses(), "tools", 0, "parameters")),
    ("OpenAI (responses)", "'oneOf'/'anyOf'/'allOf'", with_union(responses(), "tools", 0, "parameters")),
    ("Azure (responses)", "could not be verified", responses()),
    # Anthropic
    ("Claude", "Extra inputs are not permitted", claude(stop=["x"])),
    ("Claude", 'first message must use the "user" role', {**claude(), "messages": [text_message("Hi."), USER]}),
    ("Claude", "`tool_use` ids were found without `tool_result` blocks", claude(None, [TEXT])),
    ("Claude", "immediately after", claude([use(), TEXT])),
    ("Claude", "unexpected `tool_use_id`", claude([TEXT], [used()])),
    ("Claude", "must have a single result", claude(None, [used(), used()])),
    ("Claude", "tool_result blocks must come first", claude(None, [TEXT, used()])),
    ("Claude", "ids must be unique", claude([use(), use()], [used()])),
    ("Claude", "tool_use.id: String should match", claude([use("a b")], [used("a b")])),
    ("Claude", "tool_use.name: String should match", claude([use(name="the weather")])),
    ("Claude", "must have non-empty content", claude([], [TEXT])),
    ("Claude", "non-whitespace text", claude(None, [used(), {"type": "text", "text": "\n"}])),
    ("Claude", "non-whitespace text", claude(None, [used(content=[{"type": "text", "text": ""}])])),
    ("Claude", "system: text content blocks", claude(system=[{"type": "text", "text": ""}])),
    ("Claude", "trailing whitespace", {**claude(), "messages": [USER, text_message("Hi ")]}),
    ("Claude", "Invalid `signature`", claude([{**THINKING, "signature": seal("gemini-3", "1")}, use()])),
    ("Claude", "cannot be `thinking`", claude([THINKING], [TEXT])),
    ("Claude", "Expected `thinking`", claude([use()], thinking=ENABLED)),
    ("Claude", "must be greater than", claude(thinking={**ENABLED, "budget_tokens": 5000})),
    ("Claude", "does not support oneOf", with_union(claude(), "tools", 0, "input_schema")),
    ("Claude", "input_schema.type: Field required", without_type(claude(), "tools", 0, "input_schema")),
    (
        "Claude (adaptive)",
        "does not support assistant message prefill",
        {**claude(), "messages": [USER, text_message("H")]},
    ),
    ("Kimi (Anthropic's API)", "reasoning_content is missing", claude([use()])),
    ("DeepSeek (Anthropic's API)", "reasoning_content is missing", claude([use()])),
    # Bedrock
    ("Bedrock (Nova)", "unknown members", converse(stop=["x"])),
    ("Bedrock (Nova)", "exactly one of its members", converse([{**tool_use(), "text": "hm"}])),
    ("Bedrock (Nova)", "does not match", converse([tool_use("a b")], [tool_used("a b")])),
    ("Bedrock (Nova)", "must start with a user message", {**converse(), "messages": converse()["messages"][1:]}),
    (
        "Bedrock (Nova)",
        "must alternate",
        {**converse(), "messages": [*converse()["messages"], converse()["messages"][0]]},
    ),
    ("Bedrock (Nova)", "content field in the Message object", converse([], [{"text": "hm"}])),
    ("Bedrock (Nova)", "is blank", converse([BLANK, tool_use()])),
    ("Bedrock (Nova)", "is blank", converse(None, [tool_used(text=" ")])),
    ("Bedrock (Nova)", "is blank", converse(system=[BLANK])),
    ("Bedrock (Nova)", "ToolResultBlock", converse(None, [{"toolResult": {"toolUseId": "tooluse_1", "content": []}}])),
    ("Bedrock (Nova)", "Expected toolResult blocks", converse(None, [{"text": "hm"}])),
    ("Bedrock (Nova)", "exceeds the number of toolUse blocks", converse([{"text": "hm"}])),
    (
        "Bedrock (Nova)",
        "toolUse blocks at messages.1.content contain duplicate Ids",
        converse([tool_use(), tool_use()]),
    ),
    (
        "Bedrock (Nova)",
        "toolResult blocks at messages.2.content contain duplicate Ids",
        converse(None, [tool_used()] * 2),
    ),
    ("Bedrock (Nova)", "toolConfig field must be defined", {"messages": converse()["messages"]}),
    (
        "Bedrock (Nova)",
        "inputSchema.json.type must be",
        without_type(converse(), "toolConfig", "tools", 0, "toolSpec", "inputSchema", "json"),
    ),
    (
        "Bedrock (Nova)",
        "duplicate document names",
        converse(
            [{"text": "hm"}],
            [{"text": "hm"}, *[{"document": {"name": "a", "format": "pdf", "source": {"bytes": "JVBERg=="}}}] * 2],
        ),
    ),
    (
        "Bedrock (Nova)",
        "text is required next to a document",
        converse([{"text": "hm"}], [{"document": {"name": "a", "format": "pdf", "source": {"bytes": "JVBERg=="}}}]),
    ),
    ("Bedrock (Nova)", "cannot contain reasoning content", converse([UNSIGNED, tool_use()])),
    ("Bedrock (DeepSeek)", "doesn't support tool use", converse()),
    ("Bedrock (DeepSeek)", "cannot contain reasoning content", converse([UNSIGNED, tool_use()])),
    ("Bedrock (gpt-oss)", "reasoningText.signature field", converse([SIGNED, tool_use()])),
    ("Bedrock (Llama)", "cannot be provided in the same turn", converse(None, [tool_used(), {"text": "hm"}])),
    ("Bedrock (Mistral)", "cannot be provided in the same turn", converse(None, [tool_used(), {"text": "hm"}])),
    ("Bedrock (Claude)", "Invalid `signature`", converse([UNSIGNED, tool_use()])),
    ("Bedrock (Claude)", "immediately after", converse([tool_use(), {"text": "hm"}])),
    ("Bedrock (Claude)", "cannot be `thinking`", converse([SIGNED], [{"text": "hm"}])),
    ("Bedrock (Claude)", "tool_use.id: String should match", converse([tool_use("a.b")], [tool_used("a.b")])),
    ("Bedrock (Claude)", "Expected `thinking`", converse(additionalModelRequestFields={"thinking": ENABLED})),
    # Gemini
    ("Gemini 3", "Unknown name 'stop'", gemini(stop=["x"])),
    ("Gemini 3", "Extra inputs are not permitted", gemini(generationConfig={"stop": "x"})),
    ("Gemini 3", "contents is not specified", {"contents": []}),
    ("Gemini 3", "contents.parts must not be empty", gemini([], [{"text": "hm"}])),
    ("Gemini 3", "required oneof field 'data'", gemini([{"text": ""}], [{"text": "hm"}])),
    ("Gemini 3", "start with a user turn", {"contents": gemini()["contents"][1:]}),
    (
        "Gemini 3",
        "function call turn comes immediately after",
        {
            "contents": [
                gemini()["contents"][0],
                {"role": "model", "parts": [{"text": "hm"}]},
                *gemini()["contents"][1:],
            ]
        },
    ),
    ("Gemini 3", "number of function response parts", gemini(None, [{"text": "hm"}])),
    ("Gemini 3", "names of responses differ", gemini(None, [functioned("rain")])),
    (
        "Gemini 3",
        "ids of responses differ",
        gemini(None, [{"functionResponse": {**functioned()["functionResponse"], "id": "c2"}}]),
    ),
    ("Gemini 3", "function response turn comes immediately after", gemini([{"text": "hm"}])),
    ("Gemini 3", "only function responses", gemini(None, [functioned(), {"text": "hm"}])),
    ("Gemini 3", "Invalid function name", gemini([function("the weather")], [functioned("the weather")])),
    ("Gemini 3", "valid role", {"contents": [{"role": "assistant", "parts": [{"text": "hm"}]}]}),
    ("Gemini 3", "Corrupted thought signature", gemini([function(thoughtSignature=seal("gemini-2.5", "1"))])),
    ("Gemini 3", "missing a thought_signature", gemini([{"functionCall": function()["functionCall"]}])),
    ("Gemini 3 (images)", "Image part is missing", gemini([PICTURE], [{"text": "Bluer."}])),
    ("Gemini 2.5", "Corrupted thought signature", gemini()),
    (
        "Gemini 2.5",
        "Multimodal function responses",
        gemini(
            [{"functionCall": function()["functionCall"]}],
            [{"functionResponse": {**functioned()["functionResponse"], "parts": [PICTURE]}}],
        ),
    ),
    # Mistral, Cohere, Ollama
    ("Mistral", "Extra inputs are not permitted", {**chat(), "seed": 7}),
    (
        "Mistral",
        "Tool call id was",
        chat({**text_message(""), "tool_calls": [call("call_1")]}, {**RESULT, "tool_call_id": "call_1"}),
    ),
    ("Mistral", "number of function calls and responses", chat(None, RESULT, RESULT)),
    ("Mistral", "Unexpected role 'user' after role 'tool'", chat(None, RESULT, USER)),
    ("Mistral", "Unexpected role 'system' after role 'assistant'", chat(text_message("Hi."), SYSTEM)),
    ("Mistral", "must have either content or tool_calls", chat(text_message(""), USER)),
    ("Mistral", "Expected last role User or Tool", chat(text_message("Hi."))),
    ("Cohere", "unknown fields ['name']", cohere({**text_message("Hi."), "name": "x"}, USER)),
    (
        "Cohere",
        "validation errors",
        cohere(text_message("Hi."), {**USER, "role": "user", "content": [{"type": "file"}]}),
    ),
    ("Cohere", "must be followed by tool", cohere(None, USER)),
    ("Cohere", "not found", cohere(text_message("Hi."), RESULT)),
    ("Cohere", "must be set and differ", cohere({"role": "assistant", "tool_calls": [call(), call()]}, RESULT, RESULT)),
    ("Cohere", "must have a message", cohere(text_message(""), USER)),
    ("Ollama (Qwen)", "cannot unmarshal string", ollama(tool_calls=[call()])),
    ("Ollama (Qwen)", "cannot unmarshal array", ollama(content=[{"type": "text", "text": "hm"}])),
    ("Ollama (Qwen)", "invalid role", ollama(role="developer")),
    ("Ollama (Qwen)", "thinking is not a string", ollama(thinking=["hm"])),
    ("Ollama (Qwen)", "illegal base64", ollama(images=["data:image/png;base64,iVBORw0KGgo="])),
]


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_body_that_keeps_the_rules_is_accepted(name: str) -> None:
    assert FAMILIES[name].refusals(copy.deepcopy(ACCEPTED[name])) == []


@pytest.mark.parametrize(("name", "words", "body"), REFUSED, ids=[f"{name}: {words}" for name, words, _ in REFUSED])
def test_a_body_that_breaks_a_rule_is_refused(name: str, words: str, body: dict[str, Any]) -> None:
    assert words in "\n".join(map(str, FAMILIES[name].refusals(copy.deepcopy(body))))


def test_every_family_has_a_body_that_it_accepts_and_one_that_it_refuses() -> None:
    assert FAMILIES.keys() == ACCEPTED.keys() == {name for name, _, _ in REFUSED} | {"Azure (chat)"}


def test_every_check_refuses_one_of_the_bodies() -> None:
    silent = []
    for family in ALL:
        bodies = [copy.deepcopy(body) for name, _, body in REFUSED if FAMILIES[name].wire == family.wire]
        silent += [f"{family.name}: {check.__qualname__}" for check in family.checks if not _refuses(check, bodies)]
    assert silent == []


def _refuses(check: Check, bodies: list[dict[str, Any]]) -> bool:
    return any(list(check(body)) for body in bodies)


def test_a_seal_names_its_issuer_and_another_value_has_none() -> None:
    assert issuer_of(seal("claude", "1")) == "claude"
    assert [issuer_of(value) for value in (None, "", "c2lnbmVk", "not base64!", seal("a", "b")[:-4])] == [None] * 5


ONE_OF_EACH_WIRE = {family.wire: family.name for family in ALL}


@pytest.mark.parametrize("name", ONE_OF_EACH_WIRE.values())
@pytest.mark.anyio
async def test_a_refusal_reaches_the_application_as_a_bad_request(name: str) -> None:
    async with strict_service(FAMILIES[name]) as (service, strict):
        strict.says = Said(text="Hello!")
        async with service.stream("Hi") as stream:
            assert (await stream.finish()).text == "Hello!"
        strict.family = attrs.evolve(FAMILIES[name], checks=(lambda body: [Refusal("no such history", "a test")],))
        with pytest.raises(BadRequest, match="no such history"):
            await service.chat("Hi")
