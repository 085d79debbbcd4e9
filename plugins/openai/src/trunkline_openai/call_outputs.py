"""Answers to the calls of the Responses API that run in your program, for the handlers of `run_tools`.

Source: the types of the openai SDK 3.54 (`types/responses/response_input_item_param.py`), read in November 2026. Each
answer repeats what the API wants back: the id of the call, its `caller` if it has one, and for a shell call the
`max_output_length`, which "should be passed back with the raw output" (`FunctionShellCallOutput` in OpenAI's OpenAPI
description).
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from trunkline.authoring.json import JSONObject, JSONValue, as_object
from trunkline.errors import InvalidRequest
from trunkline.messages import Image, Opaque

from trunkline_openai.responses_items import awaited_id


@attrs.frozen(kw_only=True)
class CommandResult:
    """What one command of a `shell_call` wrote, and its exit code: `None` if it was ended after `timeout_ms`."""

    exit_code: int | None
    stdout: str = attrs.field(default="", repr=False)
    stderr: str = attrs.field(default="", repr=False)


def shell_output(call: Opaque, results: Iterable[CommandResult]) -> Opaque:
    """Answer a `shell_call` with the results of its commands, in their order.

    The call's `max_output_length` is passed back with the output. Raises `InvalidRequest` if `call` is of another kind,
    has no id, or is run by the provider.
    """
    output: list[JSONValue] = []
    for each in results:
        outcome: JSONObject = {"type": "timeout"}
        if each.exit_code is not None:
            outcome = {"type": "exit", "exit_code": each.exit_code}
        output.append({"stdout": each.stdout, "stderr": each.stderr, "outcome": outcome})
    limit = as_object(call.data.get("action")).get("max_output_length")
    fields: JSONObject = {} if limit is None else {"max_output_length": limit}
    return _answer(call, "shell_call", "shell_call_output", {"output": output, **fields})


def local_shell_output(call: Opaque, output: str) -> Opaque:
    """Answer a `local_shell_call` with what its command wrote.

    Raises `InvalidRequest` if `call` is of another kind, or has no id.
    """
    return _answer(call, "local_shell_call", "local_shell_call_output", {"output": output}, id_field="id")


def apply_patch_output(call: Opaque, *, failed: bool = False, log: str | None = None) -> Opaque:
    """Answer an `apply_patch_call`. `log` is text for the model: what was done, or why the patch could not be applied.

    Raises `InvalidRequest` if `call` is of another kind, or has no id.
    """
    fields: JSONObject = {"status": "failed" if failed else "completed"}
    if log is not None:
        fields = {**fields, "output": log}
    return _answer(call, "apply_patch_call", "apply_patch_call_output", fields)


def computer_output(call: Opaque, screenshot: Image, *, acknowledge_safety_checks: bool = False) -> Opaque:
    """Answer a `computer_call` with a screenshot, taken after its actions.

    The API refuses the answer to a call that has `pending_safety_checks`, unless they are acknowledged. Show them to a
    person before you pass `acknowledge_safety_checks=True`.

    Raises `InvalidRequest` if `call` is of another kind, or has no id.
    """
    if screenshot.file_id is not None:
        source: JSONObject = {"file_id": screenshot.file_id}
    elif screenshot.url is not None:
        source = {"image_url": screenshot.url}
    else:
        source = {"image_url": f"data:{screenshot.media_type or 'image/png'};base64,{screenshot.base64}"}
    fields: JSONObject = {"output": {"type": "computer_screenshot", **source}}
    checks = call.data.get("pending_safety_checks")
    if acknowledge_safety_checks and checks:
        fields = {**fields, "acknowledged_safety_checks": checks}
    return _answer(call, "computer_call", "computer_call_output", fields)


def mcp_approval(call: Opaque, approve: bool, reason: str | None = None) -> Opaque:
    """Answer an `mcp_approval_request`: whether the provider may run the tool of the MCP server.

    Raises `InvalidRequest` if `call` is of another kind, or has no id.
    """
    fields: JSONObject = {"approve": approve}
    if reason is not None:
        fields = {**fields, "reason": reason}
    kind = "mcp_approval_request"
    return _answer(call, kind, "mcp_approval_response", fields, id_field="approval_request_id")


def _answer(call: Opaque, kind: str, answer: str, fields: JSONObject, *, id_field: str = "call_id") -> Opaque:
    if call.kind != kind:
        raise InvalidRequest(f"a part of the kind {answer!r} answers a {kind!r}, not a {call.kind!r}")
    awaited = awaited_id(kind, call.data)
    if awaited is None:
        raise InvalidRequest(f"this {kind!r} has no id, or the provider runs it")
    caller = call.data.get("caller")
    data = {"type": answer, id_field: awaited, **fields, **({} if caller is None else {"caller": caller})}
    return Opaque(provider=call.provider, kind=answer, data=data)
