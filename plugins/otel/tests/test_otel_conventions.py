"""The telemetry has the names, types, levels and buckets of the conventions' registry.

`conventions.json` is derived from the registry at the commit that `conventions.py` names: the attributes of the spans
and metrics that the package makes, with their types, stability and requirement levels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trunkline
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from trunkline import ChatRequest, Image, ReasoningOptions, ResponseFormat, Tool, ToolCall, system, tool_result, user
from trunkline.authoring.provider import CallGroup
from trunkline_otel import conventions
from trunkline_otel.tracer import service_attributes

from .conftest import Open, Recorder
from .test_otel_spans import failing

pytestmark = pytest.mark.anyio

REGISTRY: dict[str, Any] = json.loads(Path(__file__).with_name("conventions.json").read_text(encoding="utf-8"))
ATTRIBUTES: dict[str, Any] = REGISTRY["attributes"]
METRICS: dict[str, Any] = REGISTRY["metrics"]
SPANS = {operation: span for span in REGISTRY["spans"].values() for operation in span["operations"]}
TYPES = {"string": str, "int": int, "double": float, "boolean": bool, "any": str}
OWN = "trunkline."
FULL = ChatRequest(
    messages=(system("Be brief."), user("Look.", Image(data=b"\x89PNG\r\n\x1a\n"))),
    tools=(Tool(name="look", description="Looks."),),
    temperature=1,
    top_p=0.5,
    top_k=3,
    frequency_penalty=0.5,
    presence_penalty=0.5,
    max_output_tokens=100,
    stop=("END",),
    seed=7,
    response_format=ResponseFormat(type="json"),
    reasoning=ReasoningOptions(effort="low"),
)


def check_value(name: str, value: object) -> None:
    """Check the type of an attribute, and that a value that the registry could have a name for has that name."""
    kind = ATTRIBUTES[name]["type"]
    if kind == "string[]":
        assert isinstance(value, tuple), name
        assert all(type(item) is str for item in value), name
    else:
        assert type(value) is TYPES[kind], name
    values = ATTRIBUTES[name].get("values")
    if values is not None and str(value).replace("-", "_") in values:
        assert value in values, name


def check_attributes(attributes: dict[str, object], levels: dict[str, str], *, own: bool) -> None:
    named = {name: value for name, value in attributes.items() if not (own and name.startswith(OWN))}
    assert set(named) <= set(levels)
    for name, value in named.items():
        check_value(name, value)
    assert {name for name, level in levels.items() if level == "required"} <= set(named)
    if "server.address" in named:
        assert "server.port" in named


def check_span(span: ReadableSpan, *, content: bool) -> None:
    attributes = dict(span.attributes or {})
    wanted = SPANS[str(attributes["gen_ai.operation.name"])]
    assert span.kind is SpanKind[wanted["kind"].upper()]
    check_attributes(attributes, wanted["attributes"], own=True)
    opt_in = {name for name, level in wanted["attributes"].items() if level == "opt_in"}
    assert content or not opt_in & set(attributes)
    for event in span.events:
        assert event.name.startswith(OWN)
    assert ("error.type" in attributes) == (not span.status.is_unset)


def test_table_and_registry_are_of_one_commit() -> None:
    assert REGISTRY["commit"] == conventions.COMMIT


def test_names_in_the_table_are_in_the_registry() -> None:
    metrics = [value for value in vars(conventions).values() if isinstance(value, conventions.Histogram)]
    values = set(ATTRIBUTES["gen_ai.operation.name"]["values"])
    words = {conventions.COMMIT, conventions.FUNCTION, conventions.TOOL_ERROR, *values}
    names = [
        value
        for name, value in vars(conventions).items()
        if name.isupper() and isinstance(value, str) and value not in words and not value.startswith(OWN)
    ]
    assert set(names) <= set(ATTRIBUTES)
    assert {metric.name for metric in metrics} == set(METRICS)
    for metric in metrics:
        assert (metric.unit, list(metric.buckets)) == (METRICS[metric.name]["unit"], METRICS[metric.name]["buckets"])


def test_names_of_providers_are_in_the_registry() -> None:
    known = set(ATTRIBUTES["gen_ai.provider.name"]["values"])
    assert {*conventions.PROVIDERS.values(), *conventions.HOSTS.values()} <= known


@pytest.mark.parametrize("content", [False, True])
async def test_spans_and_metrics_follow_the_registry(opened: Open, recorder: Recorder, content: bool) -> None:
    async with opened(content=content) as (service, _):
        await service.chat(FULL)
        async with service.stream(FULL) as stream:
            await stream.finish()
        async with service.stream(FULL) as stream:
            await anext(stream)
        await service.embed("sky", dimensions=2)
        group = CallGroup("run_tools", "painter")
        async with service._in_group(group).stream(FULL) as stream:
            await stream.finish()
        for fails in (False, True):

            async def look(call: ToolCall, fails: bool = fails) -> object:
                return tool_result(call, "blue", is_error=fails)

            call = ToolCall(id="call-1", name="look", arguments={"where": "up"})
            await stream._run_locally("execute_tool", call, look, object)
        group.end(None)
    async with opened(failing(429)) as (service, _):
        for call_it in (service.chat, service.embed):
            with pytest.raises(trunkline.RateLimited):
                await call_it("Hi")  # type: ignore[operator]
    assert len(recorder.spans) == 10
    for span in recorder.spans:
        check_span(span, content=content)
    assert set(recorder.metrics) == set(METRICS)
    for name, metric in recorder.metrics.items():
        assert metric.unit == METRICS[name]["unit"]
        for point in metric.data.data_points:
            assert list(point.explicit_bounds) == METRICS[name]["buckets"]
            check_attributes(dict(point.attributes), METRICS[name]["attributes"], own=False)


@pytest.mark.parametrize(
    ("provider", "url", "name"),
    [
        ("openai", "https://api.openai.com/v1", "openai"),
        ("azure-openai", "https://acme.openai.azure.com", "azure.ai.openai"),
        ("bedrock", None, "aws.bedrock"),
        ("gemini", "https://generativelanguage.googleapis.com", "gcp.gemini"),
        ("mistral", "https://api.mistral.ai", "mistral_ai"),
        ("openai-compatible", "https://api.groq.com/openai/v1", "groq"),
        ("openai-compatible", "http://user:password@[::1]:8080/v1", "openai-compatible"),
        ("acme", "http://localhost:x/", "acme"),
    ],
)
def test_provider_has_the_name_of_the_conventions(provider: str, url: str | None, name: str) -> None:
    class Settings:
        api_url = url

    context: Any = trunkline.ServiceContext(name="main", provider=provider, settings=Settings())  # type: ignore[type-var]
    found = service_attributes(context)
    assert found["gen_ai.provider.name"] == name
    assert "password" not in str(found)
    if provider == "openai-compatible" and "8080" in str(url):
        assert (found["server.address"], found["server.port"]) == ("::1", 8080)
