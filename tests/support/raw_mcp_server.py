"""An MCP server over stdio that sends what the official SDK's server does not: malformed results, an empty cursor."""

from __future__ import annotations

import json
import sys
from typing import Any

RESULTS: dict[str, dict[str, Any]] = {
    "no_list": {"content": "text"},
    "nothing": {},
    "unknown_type": {"content": [{"type": "video", "data": "x"}]},
}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            info = {"serverInfo": {"name": "raw", "version": "1"}, "capabilities": {"tools": {}}}
            return {"result": {"protocolVersion": "2025-06-18", **info}}
        case "tools/list" if "cursor" in params:
            return {"error": {"code": -32602, "message": "invalid cursor"}}
        case "tools/list":
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in RESULTS]
            return {"result": {"tools": tools, "nextCursor": ""}}
        case "tools/call":
            return {"result": RESULTS[params["name"]]}
        case _:
            return {"error": {"code": -32601, "message": "Method not found"}}


if __name__ == "__main__":
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            reply = {"jsonrpc": "2.0", "id": message["id"], **answer(message["method"], message.get("params") or {})}
            print(json.dumps(reply), flush=True)
