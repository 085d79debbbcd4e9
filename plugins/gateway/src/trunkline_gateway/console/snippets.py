"""A call of the playground as code: Python with Trunkline, curl, and OpenAI's SDK. Pure."""

from __future__ import annotations

import json
import shlex

from trunkline.authoring.json import JSONObject, JSONValue

KEY_VARIABLE = "GATEWAY_KEY"
"""The environment variable that the code takes the key from."""


def snippets(body: JSONObject, api_base: str) -> dict[str, str]:
    """Return the code of a call, by the language."""
    return {
        "python": _trunkline(body, api_base),
        "curl": _curl(body, api_base),
        "openai": _openai(body, api_base),
    }


def _model(body: JSONObject) -> str:
    model = body.get("model")
    return model if isinstance(model, str) else ""


def _turns(body: JSONObject) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    system = body.get("system")
    if isinstance(system, str) and system.strip():
        found.append(("system", system))
    turns = body.get("messages")
    found += [
        ("assistant" if turn.get("role") == "assistant" else "user", str(turn["content"]))
        for turn in (turns if isinstance(turns, list) else ())
        if isinstance(turn, dict) and isinstance(turn.get("content"), str) and turn["content"]
    ]
    return found


def _tools(body: JSONObject) -> list[JSONValue]:
    tools = body.get("tools")
    return [
        item if "function" in item else {"type": "function", "function": item}
        for item in (tools if isinstance(tools, list) else ())
        if isinstance(item, dict)
    ]


def _openai_body(body: JSONObject) -> dict[str, JSONValue]:
    messages: list[JSONValue] = [{"role": role, "content": text} for role, text in _turns(body)]
    wanted: dict[str, JSONValue] = {"model": _model(body), "messages": messages}
    for name, field in (("temperature", "temperature"), ("max_tokens", "max_completion_tokens")):
        if body.get(name) is not None:
            wanted[field] = body[name]
    if body.get("reasoning_effort"):
        wanted["reasoning_effort"] = body["reasoning_effort"]
    if _tools(body):
        wanted["tools"] = _tools(body)
    return wanted


def _python_value(value: JSONValue, depth: int) -> str:
    """Write a value as Python, over several lines if it is long."""
    whole = repr(value)
    if not isinstance(value, (list, dict)) or len(whole) + 4 * depth <= 90:
        return whole
    inner, outer = "    " * (depth + 1), "    " * depth
    if isinstance(value, dict):
        items = [f"{key!r}: {_python_value(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + "".join(f"{inner}{item},\n" for item in items) + outer + "}"
    return "[\n" + "".join(f"{inner}{_python_value(item, depth + 1)},\n" for item in value) + outer + "]"


def _openai(body: JSONObject, api_base: str) -> str:
    arguments = "".join(f"    {name}={_python_value(value, 1)},\n" for name, value in _openai_body(body).items())
    return (
        "import os\n\n"
        "from openai import OpenAI\n\n"
        f"client = OpenAI(base_url={api_base + '/v1'!r}, api_key=os.environ[{KEY_VARIABLE!r}])\n"
        "stream = client.chat.completions.create(\n"
        f"{arguments}"
        "    stream=True,\n"
        ")\n"
        "for chunk in stream:\n"
        "    if chunk.choices:\n"
        '        print(chunk.choices[0].delta.content or "", end="", flush=True)\n'
    )


def _curl(body: JSONObject, api_base: str) -> str:
    content = json.dumps({**_openai_body(body), "stream": True}, indent=2, ensure_ascii=False)
    return (
        f"curl -N {shlex.quote(api_base + '/v1/chat/completions')} \\\n"
        f'  -H "Authorization: Bearer ${KEY_VARIABLE}" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(content)}\n"
    )


def _trunkline(body: JSONObject, api_base: str) -> str:
    turns = _turns(body)
    names = [name for name in ("assistant", "system", "user") if any(role == name for role, _ in turns)]
    imports = ["import asyncio", "import os", ""]
    if len(turns) == 1 and turns[0][0] == "user":
        messages = repr(turns[0][1])
        imports.append("import trunkline")
    else:
        messages = "[\n" + "".join(f"            {role}({text!r}),\n" for role, text in turns) + "        ]"
        imports += ["import trunkline", f"from trunkline import {', '.join(names)}"]
    options: list[str] = []
    for name, field in (("temperature", "temperature"), ("max_tokens", "max_output_tokens")):
        if body.get(name) is not None:
            options.append(f"{field}={body[name]!r}")
    if body.get("reasoning_effort"):
        options.append(f"reasoning=trunkline.ReasoningOptions(effort={body['reasoning_effort']!r})")
    if _tools(body):
        tools = []
        for tool in _tools(body):
            function = tool.get("function") if isinstance(tool, dict) else None
            if isinstance(function, dict):
                fields = ", ".join(
                    f"{name}={function[name]!r}" for name in ("name", "description", "parameters") if name in function
                )
                tools.append(f"trunkline.Tool({fields})")
        options.append(f"tools=[{', '.join(tools)}]")
    arguments = "".join(f"        {item},\n" for item in (messages, *options))
    return (
        "\n".join(imports) + "\n\n\n"
        "async def main() -> None:\n"
        "    service = trunkline.open_service(\n"
        '        "openai-compatible",\n'
        f"        api_url={api_base + '/v1'!r},\n"
        f"        api_key=os.environ[{KEY_VARIABLE!r}],\n"
        f"        default_model={_model(body)!r},\n"
        "    )\n"
        "    async with service, service.stream(\n"
        f"{arguments}"
        "    ) as stream:\n"
        "        async for text in stream.text:\n"
        '            print(text, end="", flush=True)\n\n\n'
        "asyncio.run(main())\n"
    )
