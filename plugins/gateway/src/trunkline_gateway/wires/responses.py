"""OpenAI's Responses: requests, responses, streams and errors."""

from __future__ import annotations

from trunkline_gateway.wires.chat import write_error
from trunkline_gateway.wires.responses_reader import custom_tools, ignored_fields, read_request
from trunkline_gateway.wires.responses_writer import StreamWriter, write_response

__all__ = ["StreamWriter", "custom_tools", "ignored_fields", "read_request", "write_error", "write_response"]
