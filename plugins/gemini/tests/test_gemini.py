"""Gemini, held to Trunkline's conformance kit: the samples say what the wire looks like and what it means."""

from __future__ import annotations

from trunkline import ChatRequest, FinishReason, Usage
from trunkline.jsonvalue import dumps
from trunkline.testing import SSE, WEATHER, ProviderTests, Sample, WireFormat, canary


def event(kind: str, **fields: object) -> bytes:
    return SSE.frame(dumps({"type": kind, **fields}), kind)


def error(message: str) -> dict[str, object]:
    return {"type": "error", "error": {"code": "internal", "message": message}}


START = event("start", id="r1", model="m")
USAGE = {"input": 9, "output": 5}
COUNTED = Usage(input_tokens=9, output_tokens=5)

WIRE = WireFormat(
    framing=SSE,
    finish="stop",
    error_body=lambda message: dumps(error(message)),
    error_event=lambda message: SSE.frame(dumps(error(message)), "error"),
    samples=(
        Sample(
            name="text",
            frames=(
                START,
                event("text", text="Grüß "),
                event("text", text="Gott 🌍"),
                event("usage", **USAGE),
                event("end", reason="stop"),
            ),
            body=dumps({"id": "r1", "model": "m", "text": "Grüß Gott 🌍", "usage": USAGE, "reason": "stop"}),
            text="Grüß Gott 🌍",
            usage=COUNTED,
        ),
        Sample(
            name="two tool calls, interleaved",
            request=ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
            frames=(
                START,
                event("call", index=0, id="c0", name="weather"),
                event("call", index=1, id="c1", name="weather"),
                event("call", index=0, arguments='{"city":'),
                event("call", index=1, arguments='{"city":"Ro'),
                event("call", index=0, arguments='"Oslo"}'),
                event("call", index=1, arguments='me"}'),
                event("usage", **USAGE),
                event("end", reason="calls"),
            ),
            body=dumps(
                {
                    "id": "r1",
                    "model": "m",
                    "calls": [
                        {"id": "c0", "name": "weather", "arguments": {"city": "Oslo"}},
                        {"id": "c1", "name": "weather", "arguments": {"city": "Rome"}},
                    ],
                    "usage": USAGE,
                    "reason": "calls",
                }
            ),
            tool_calls=(("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})),
            finish_reason=FinishReason.TOOL_CALLS,
            usage=COUNTED,
        ),
    ),
)


class TestGemini(ProviderTests):
    provider = "gemini"
    settings = {"api_url": "{url}", "api_key": canary("api_key")}
    wire = WIRE
