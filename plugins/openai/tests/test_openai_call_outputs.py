"""The answers to calls that run in the program, as the types of OpenAI's own SDK describe them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai.types.responses.response_input_item_param as sdk
import pytest
from strict_types import strict_adapter
from trunkline import Image, InvalidRequest, Opaque
from trunkline_openai.call_outputs import (
    CommandResult,
    apply_patch_output,
    computer_output,
    local_shell_output,
    mcp_approval,
    shell_output,
)


def call(kind: str, **data: Any) -> Opaque:
    return Opaque(provider="azure-openai", kind=kind, data={"type": kind, **data}, awaits_answer=True)


PROGRAM = {"type": "program", "caller_id": "prog_1"}
CHECKS = [{"id": "sc_1", "code": "malicious_instructions", "message": "Look."}]
SHELL = call("shell_call", id="sh_1", call_id="c", action={"commands": ["ls"], "max_output_length": 9}, caller=PROGRAM)
PLAIN_SHELL = call("shell_call", call_id="c", action={"commands": ["ls"], "max_output_length": None}, caller=None)
LOCAL_SHELL = call("local_shell_call", id="lsh_1", call_id="c", action={"type": "exec", "command": ["ls"], "env": {}})
PATCH = call("apply_patch_call", call_id="c", operation={"type": "delete_file", "path": "a"}, caller={"type": "direct"})
COMPUTER = call("computer_call", id="cu_1", call_id="c", pending_safety_checks=CHECKS, actions=[])
APPROVAL = call("mcp_approval_request", id="mcpr_1", name="book", server_label="travel", arguments="{}")
PNG = Image(data=b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("answer", "shape", "expected"),
    [
        (
            shell_output(SHELL, [CommandResult(exit_code=1, stdout="a", stderr="b"), CommandResult(exit_code=None)]),
            sdk.ShellCallOutput,
            {
                "type": "shell_call_output",
                "call_id": "c",
                "output": [
                    {"stdout": "a", "stderr": "b", "outcome": {"type": "exit", "exit_code": 1}},
                    {"stdout": "", "stderr": "", "outcome": {"type": "timeout"}},
                ],
                "max_output_length": 9,
                "caller": PROGRAM,
            },
        ),
        (
            shell_output(PLAIN_SHELL, []),
            sdk.ShellCallOutput,
            {"type": "shell_call_output", "call_id": "c", "output": []},
        ),
        (
            local_shell_output(LOCAL_SHELL, "a.txt"),
            sdk.LocalShellCallOutput,
            {"type": "local_shell_call_output", "id": "c", "output": "a.txt"},
        ),
        (
            apply_patch_output(PATCH),
            sdk.ApplyPatchCallOutput,
            {"type": "apply_patch_call_output", "call_id": "c", "status": "completed", "caller": {"type": "direct"}},
        ),
        (
            apply_patch_output(PATCH, failed=True, log="no file a"),
            sdk.ApplyPatchCallOutput,
            {
                "type": "apply_patch_call_output",
                "call_id": "c",
                "status": "failed",
                "output": "no file a",
                "caller": {"type": "direct"},
            },
        ),
        (
            computer_output(COMPUTER, PNG),
            sdk.ComputerCallOutput,
            {
                "type": "computer_call_output",
                "call_id": "c",
                "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,iVBORw0KGgo="},
            },
        ),
        (
            computer_output(COMPUTER, Image(url="https://x/a.png"), acknowledge_safety_checks=True),
            sdk.ComputerCallOutput,
            {
                "type": "computer_call_output",
                "call_id": "c",
                "output": {"type": "computer_screenshot", "image_url": "https://x/a.png"},
                "acknowledged_safety_checks": CHECKS,
            },
        ),
        (
            computer_output(COMPUTER, Image(file_id="file-1")),
            sdk.ComputerCallOutput,
            {
                "type": "computer_call_output",
                "call_id": "c",
                "output": {"type": "computer_screenshot", "file_id": "file-1"},
            },
        ),
        (
            mcp_approval(APPROVAL, True),
            sdk.McpApprovalResponse,
            {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
        ),
        (
            mcp_approval(APPROVAL, False, "not in May"),
            sdk.McpApprovalResponse,
            {
                "type": "mcp_approval_response",
                "approval_request_id": "mcpr_1",
                "approve": False,
                "reason": "not in May",
            },
        ),
    ],
)
def test_answers_are_as_the_sdk_describes_them(answer: Opaque, shape: Any, expected: dict[str, Any]) -> None:
    assert answer.data == expected
    assert (answer.provider, answer.kind, answer.awaits_answer) == ("azure-openai", expected["type"], False)
    strict_adapter(shape).validate_python(expected)


@pytest.mark.parametrize(
    "answer",
    [
        lambda part: shell_output(part, []),
        lambda part: local_shell_output(part, ""),
        apply_patch_output,
        lambda part: computer_output(part, PNG),
        lambda part: mcp_approval(part, True),
    ],
)
def test_an_answer_to_another_part_is_refused(answer: Callable[[Opaque], Opaque]) -> None:
    with pytest.raises(InvalidRequest, match="not a 'web_search_call'"):
        answer(call("web_search_call", id="ws_1"))


def test_a_call_that_the_provider_runs_is_not_answered() -> None:
    hosted = call("shell_call", call_id="c", environment={"type": "container_reference"})
    with pytest.raises(InvalidRequest, match="has no id, or the provider runs it"):
        shell_output(hosted, [])
