"""The playground: a conversation with a model that streams, and the same call as code."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from trunkline import (
    CallWarning,
    ChatRequest,
    Citation,
    Event,
    Finished,
    Heartbeat,
    Message,
    PartAdded,
    ReasoningDelta,
    ReasoningOptions,
    ResponseStarted,
    StreamClosed,
    TextDelta,
    Tool,
    ToolCallDelta,
    ToolCallStart,
    TrunklineError,
    assistant,
    heartbeats,
    system,
    user,
)
from trunkline.authoring.json import JSONObject, JSONValue, dumps, loads_finite

from trunkline_gateway.calls import AdmittedCall
from trunkline_gateway.console.app import Console
from trunkline_gateway.console.snippets import snippets
from trunkline_gateway.database.sessions import Session
from trunkline_gateway.pricing import cost_of
from trunkline_gateway.problems import GatewayError, Problem, invalid, problem_of
from trunkline_gateway.targets import Target

API = "playground"
"""What the log has for the path of these calls."""

_Write: TypeAlias = Callable[[Mapping[str, JSONValue] | None], Awaitable[None]]
"""Writes an event, or a comment that keeps the connection open."""

_Run: TypeAlias = Callable[[Receive, _Write], Awaitable[None]]

EFFORTS = ("none", "minimal", "low", "medium", "high")


async def show_playground(console: Console, request: Request, session: Session) -> Response:
    """Show the playground."""
    services = console.gateway.services
    usable = [state for state in services.states() if state.error is None]
    models = (f"{state.name}/{state.default_model}" if state.default_model else state.name for state in usable)
    names = [*sorted(services.aliases), *models]
    wanted = request.query_params.get("model", "")
    context = {"names": names, "model": wanted or (names[0] if names else ""), "efforts": EFFORTS}
    return console.render(request, "playground.html", context, session=session)


async def list_models(console: Console, request: Request, session: Session) -> Response:
    """Return the models that the services list, as suggestions."""
    offered = await console.gateway.models.list()
    return console.render(request, "model_options.html", {"names": [item.info.id for item in offered]}, session=session)


async def show_code(console: Console, request: Request, session: Session) -> Response:
    """Return the call as code: Python with Trunkline, curl, and OpenAI's SDK."""
    try:
        body = await _body(request)
        read_request(body, None)
    except (GatewayError, TrunklineError) as error:
        raise HTTPException(400, _message(error)) from None
    return JSONResponse(snippets(body, console.api_base(request)))


async def stream(console: Console, request: Request, session: Session) -> Response:
    """Stream an answer as server-sent events, each a JSON object with a `type`."""
    try:
        body = await _body(request)
        target = console.calls.find_target(None, body.get("model"))
        chat_request = read_request(body, target)
    except (GatewayError, TrunklineError) as error:
        raise HTTPException(400, _message(error)) from None
    call = console.calls.admit(None, target, chat_request, api=API)
    if console.gateway.settings.log_contents:
        call.contents = (dumps(body).decode(), None)
    return _Events(partial(_run, console, call))


def _message(error: Exception) -> str:
    return error.problem.message if isinstance(error, GatewayError) else str(error)


async def _body(request: Request) -> JSONObject:
    try:
        value = loads_finite((await request.body()).decode())
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise invalid("the request has half of a surrogate pair, which is not Unicode text") from None
    except (ValueError, RecursionError):
        raise invalid("the request is not JSON") from None
    if not isinstance(value, dict):
        raise invalid("the request is not a JSON object")
    return value


def read_request(body: JSONObject, target: Target | None) -> ChatRequest:
    """Read the request of the page. Raises `GatewayError` or `InvalidRequest`."""
    messages: list[Message] = []
    text = body.get("system")
    if isinstance(text, str) and text.strip():
        messages.append(system(text))
    turns = body.get("messages")
    for turn in turns if isinstance(turns, list) else ():
        content = turn.get("content") if isinstance(turn, dict) else None
        if isinstance(turn, dict) and isinstance(content, str) and content:
            messages.append(assistant(content) if turn.get("role") == "assistant" else user(content))
    if not any(message.role == "user" for message in messages):
        raise invalid("write a message first", param="messages")
    effort = body.get("reasoning_effort")
    known = next((each for each in EFFORTS if each == effort), None)
    return ChatRequest(
        messages=messages,
        model=None if target is None else target.model,
        tools=_tools(body.get("tools")),
        temperature=_number(body, "temperature"),
        max_output_tokens=_whole(body, "max_tokens"),
        reasoning=None if known is None else ReasoningOptions(effort=known),  # type: ignore[arg-type]  # mypy takes str
    )


def _number(body: JSONObject, name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise invalid(f"{name} must be a number", param=name)
    return value


def _whole(body: JSONObject, name: str) -> int | None:
    value = _number(body, name)
    if value is not None and value != int(value):
        raise invalid(f"{name} must be a whole number", param=name)
    return None if value is None else int(value)


def _tools(value: JSONValue) -> list[Tool]:
    if value is None:
        return []
    found = []
    for item in value if isinstance(value, list) else (None,):
        function = item.get("function", item) if isinstance(item, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise invalid("tools must be a JSON array of objects, each with a name and parameters", param="tools")
        parameters = function.get("parameters")
        found.append(
            Tool(
                name=str(function["name"]),
                description=str(function.get("description") or ""),
                parameters=parameters if isinstance(parameters, dict) else {"type": "object", "properties": {}},
            )
        )
    return found


class _Events(Response):
    """A stream of server-sent events, which sees that the browser has gone."""

    media_type = "text/event-stream"

    def __init__(self, run: _Run) -> None:
        super().__init__(headers={"x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._run = run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})

        async def write(event: Mapping[str, JSONValue] | None) -> None:
            content = b": keep-alive\n\n" if event is None else b"data: " + dumps(dict(event)) + b"\n\n"
            await send({"type": "http.response.body", "body": content, "more_body": True})

        await self._run(receive, write)
        await send({"type": "http.response.body", "body": b""})


async def _run(console: Console, call: AdmittedCall[ChatRequest], receive: Receive, write: _Write) -> None:
    started = time.monotonic()
    try:
        async with call:
            await _stream(console, call, receive, write, started)
    except StreamClosed:
        return  # the browser has gone
    except Exception as error:  # whatever it is, the administrator sees it in the conversation
        await write({"type": "error", "message": _explain(error, problem_of(error))})


def _explain(error: Exception, problem: Problem) -> str:
    # An administrator sees what the provider said. Trunkline keeps secrets out of the texts of its errors.
    text = str(error) if isinstance(error, TrunklineError) else problem.message
    advice = getattr(error, "advice", None)
    return f"{text}. {advice}" if isinstance(advice, str) and advice not in text else text


async def _stream(
    console: Console, call: AdmittedCall[ChatRequest], receive: Receive, write: _Write, started: float
) -> None:
    async with call.use_service() as service:
        call.stream = answer = service.stream(call.request)
        with call.running.scope:
            async with heartbeats(answer, console.gateway.settings.heartbeat, receive=receive) as events:
                async for event in events:
                    if isinstance(event, Heartbeat):
                        await write(None)
                        continue
                    if isinstance(event, (TextDelta, ReasoningDelta)):
                        call.running.output_characters += len(event.text)
                    shown = describe(event)
                    if shown is None:
                        continue
                    if call.first_token_at is None and not isinstance(event, (ResponseStarted, Finished)):
                        call.first_token_at = time.monotonic()
                    await write(shown)
        if call.running.is_cancelled:
            await write({"type": "error", "message": "An administrator has cancelled the call."})
            return
        response = answer.response
        usage = response.usage
        if console.gateway.settings.log_contents:
            call.contents = (call.contents[0], dumps({"text": response.text, "reasoning": response.reasoning}).decode())
        first = call.first_token_at
        cost = await anyio.to_thread.run_sync(cost_of, response, call.target)
        await write(
            {
                "type": "end",
                "id": call.id,
                "reason": None if response.finish_reason is None else response.finish_reason.value,
                "input_tokens": None if usage is None else usage.input_tokens,
                "output_tokens": None if usage is None else usage.output_tokens,
                "reasoning_tokens": None if usage is None else usage.reasoning_tokens,
                "cache_read_tokens": None if usage is None else usage.cache_read_tokens,
                "cost": cost,
                "seconds": time.monotonic() - started,
                "first_token_seconds": None if first is None else first - started,
            }
        )


def describe(event: Event) -> dict[str, JSONValue] | None:
    """Return what the page shows of an event, or `None` for one that it does not show."""
    match event:
        case ResponseStarted():
            return {
                "type": "start",
                "model": event.model,
                "service": event.service,
                "provider": event.provider,
                "warnings": _warnings(event.warnings),
            }
        case TextDelta():
            return {"type": "text", "index": event.index, "text": event.text}
        case ReasoningDelta():
            return {"type": "reasoning", "index": event.index, "text": event.text}
        case ToolCallStart():
            return {"type": "tool", "index": event.index, "name": event.name}
        case ToolCallDelta():
            return {"type": "arguments", "index": event.index, "text": event.arguments}
        case Citation():
            return {"type": "part", "text": "citation"}
        case PartAdded():
            return {"type": "part", "text": type(event.part).__name__.lower()}
        case Finished():
            return {"type": "warnings", "warnings": _warnings(event.warnings)} if event.warnings else None
    return None


def _warnings(warnings: tuple[CallWarning, ...]) -> list[JSONValue]:
    return [str(warning) for warning in warnings]


def routes(console: Console) -> list[Route]:
    """Return the routes of these pages."""
    return [
        console.page("/playground", show_playground),
        console.page("/playground/models", list_models),
        console.page("/playground/code", show_code, methods=("POST",)),
        console.page("/playground/stream", stream, methods=("POST",)),
    ]
