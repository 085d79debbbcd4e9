"""OpenAI's Responses: requests, responses and streams. Its errors are those of Chat Completions."""

from __future__ import annotations

from trunkline_gateway.wires.responses_reader import ignored_fields, read_request
from trunkline_gateway.wires.responses_writer import StreamWriter, write_response

__all__ = ["StreamWriter", "ignored_fields", "read_request", "write_response"]
