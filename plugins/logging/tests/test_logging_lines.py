"""The lines of the extension `logging`, and the rules that all extensions follow."""

from __future__ import annotations

import json
import logging
import sys
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import structlog
import trunkline
from trunkline.testing import Exchange, ExtensionTests, serve
from trunkline_logging import LoggingSettings

KEY = "sk-canary/Ab+9=Zz0-key"
USAGE = {"prompt_tokens": 12, "completion_tokens": 9, "total_tokens": 21}


class TestLogging(ExtensionTests):
    def extension(self) -> object:
        return LoggingSettings()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def frame(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + json.dumps({"model": "m-0603", "choices": [choice], "usage": USAGE}).encode() + b"\n\n"


class Answers:
    """Gives the statuses one after another, then 200."""

    def __init__(self, *statuses: int, hangs: bool = False) -> None:
        self.statuses = list(statuses)
        self.hangs = hangs

    async def __call__(self, exchange: Exchange) -> None:
        status = self.statuses.pop(0) if self.statuses else 200
        if self.hangs:
            exchange.keep_alive = False
            await anyio.sleep_forever()
        elif status != 200:
            body = {"error": {"message": f"Question-canary {KEY}"}}
            await exchange.respond(json.dumps(body).encode(), status=status, headers={"retry-after": "0"})
        elif json.loads(exchange.request.body).get("stream"):
            await exchange.start(headers={"content-type": "text/event-stream"})
            await exchange.chunk(frame({"content": "Answer-canary"}))
            await exchange.chunk(frame({}, "stop") + b"data: [DONE]\n\n")
            await exchange.end()
        else:
            message = {"role": "assistant", "content": "Answer-canary"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            await exchange.respond(json.dumps({"model": "m-0603", "choices": [choice], "usage": USAGE}).encode())


async def lines(caplog: pytest.LogCaptureFixture, answers: Answers, use: Any, **settings: Any) -> list[Any]:
    """Return the records of the calls that `use` makes with a service."""
    caplog.set_level(logging.INFO, "trunkline.calls")
    values = {"api_key": KEY, "default_model": "m", "max_retries": 2, "extensions": ["logging"], **settings}
    async with serve(answers) as server:
        async with trunkline.open_service("openai-compatible", api_url=server.url, **values) as service:
            await use(service)
    assert "canary" not in caplog.text
    return [record for record in caplog.records if record.name == "trunkline.calls"]


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_call_is_one_line(caplog: pytest.LogCaptureFixture, method: str) -> None:
    async def use(service: trunkline.Service) -> None:
        if method == "chat":
            await service.chat("Question-canary")
        else:
            async with service.stream("Question-canary") as stream:
                await stream.finish()

    [record] = await lines(caplog, Answers(503), use)
    assert record.levelno == logging.INFO
    fields = dict(pair.split("=", 1) for pair in record.getMessage().split(" "))
    assert float(fields.pop("duration")) == record.duration >= 0
    assert int(fields.pop("call")) == record.call > 0
    assert fields == {
        "service": "openai-compatible",
        "provider": "openai-compatible",
        "operation": method,
        "model": "m-0603",
        "outcome": "finished",
        "retries": "1",
        "input_tokens": "12",
        "output_tokens": "9",
        "finish_reason": "stop",
    }
    assert record.input_tokens == 12


class Prices(trunkline.Observer):
    """Tells what a call costs, as the extension `prices` does."""

    @trunkline.hookimpl(tryfirst=True)
    def trunkline_observer(self, context: object) -> trunkline.Observer:
        return self

    def finished(self, call: trunkline.Call, response: object) -> None:
        call.state["trunkline-prices.cost"] = SimpleNamespace(total=Decimal("0.25"))


@pytest.mark.anyio
async def test_line_has_the_label_and_the_cost(caplog: pytest.LogCaptureFixture) -> None:
    async def use(service: trunkline.Service) -> None:
        await service.with_options(state={"label": "customer-7"}).chat("Question-canary")

    [record] = await lines(caplog, Answers(), use, extensions=["logging", Prices()])
    assert (record.label, record.cost_usd) == ("customer-7", 0.25)


@pytest.mark.anyio
async def test_lines_of_a_composed_service_name_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trunkline.calls")
    values: Any = {"api_key": KEY, "default_model": "m", "extensions": ["logging"]}
    async with serve(Answers(503)) as server:
        first, second, third = (
            trunkline.open_service("openai-compatible", name=name, api_url=server.url, **values) for name in "abc"
        )
        inner = trunkline.balance(second, third, name="inner")
        composed = trunkline.fallback(first, inner, name="main")
        async with trunkline.limit(composed, concurrency=2, name="main") as service:
            await service.chat("Question-canary")
    records: list[Any] = [record for record in caplog.records if record.name == "trunkline.calls"]
    assert [record.hops for record in records] == ["main:1", "main:2/inner:1"]


@pytest.mark.anyio
async def test_failed_call_is_a_warning_with_the_class_of_the_error(caplog: pytest.LogCaptureFixture) -> None:
    async def use(service: trunkline.Service) -> None:
        with pytest.raises(trunkline.AuthenticationError):
            await service.chat("Question-canary")

    [record] = await lines(caplog, Answers(401, 401), use)
    assert (record.levelno, record.outcome, record.error) == (logging.WARNING, "failed", "AuthenticationError")
    assert record.model == "m"


@pytest.mark.anyio
async def test_stream_that_is_left_is_abandoned(caplog: pytest.LogCaptureFixture) -> None:
    async def use(service: trunkline.Service) -> None:
        async with service.stream("Question-canary") as stream:
            await anext(stream)

    [record] = await lines(caplog, Answers(), use)
    assert (record.levelno, record.outcome) == (logging.INFO, "abandoned")


@pytest.mark.anyio
async def test_cancelled_call_is_one_line_without_error(caplog: pytest.LogCaptureFixture) -> None:
    async def use(service: trunkline.Service) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.chat, "Question-canary")
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

    [record] = await lines(caplog, Answers(hangs=True), use)
    assert (record.levelno, record.outcome) == (logging.INFO, "cancelled")
    assert not hasattr(record, "error")


@pytest.mark.anyio
async def test_line_of_another_operation_has_the_model_and_the_usage(caplog: pytest.LogCaptureFixture) -> None:
    async def use(service: trunkline.Service) -> None:
        await service.rerank("Question-canary", ["Question-canary"])

    async def rerank(exchange: Exchange) -> None:
        usage = b'"usage": {"prompt_tokens": 7, "total_tokens": 7}'
        await exchange.respond(b'{"results": [{"index": 0, "relevance_score": 1}], ' + usage + b"}")

    [record] = await lines(caplog, rerank, use)  # type: ignore[arg-type]
    assert (record.operation, record.model, record.input_tokens) == ("rerank", "m", 7)


@pytest.mark.anyio
async def test_line_goes_to_the_logger_of_the_setting(caplog: pytest.LogCaptureFixture) -> None:
    async def use(service: trunkline.Service) -> None:
        await service.embed("Question-canary")

    async def embed(exchange: Exchange) -> None:
        await exchange.respond(b'{"data": [{"index": 0, "embedding": [1.0]}]}')

    caplog.set_level(logging.INFO, "acme")
    extensions = [{"name": "logging", "logger": "acme.calls"}]
    await lines(caplog, embed, use, extensions=extensions)  # type: ignore[arg-type]
    assert [record.name for record in caplog.records if hasattr(record, "outcome")] == ["acme.calls"]


@pytest.mark.anyio
async def test_structlog_gets_the_fields_as_keywords(caplog: pytest.LogCaptureFixture) -> None:
    async def use(service: trunkline.Service) -> None:
        await service.chat("Question-canary")
        with pytest.raises(trunkline.BadRequest):
            await service.chat("Question-canary")

    with structlog.testing.capture_logs() as events:
        extensions = [{"name": "logging", "library": "structlog"}]
        assert await lines(caplog, Answers(200, 400), use, extensions=extensions) == []
    first, second = events
    assert (first["event"], first["log_level"], first["input_tokens"]) == ("call", "info", 12)
    assert (second["log_level"], second["error"]) == ("warning", "BadRequest")


def test_missing_structlog_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "structlog", None)
    from trunkline_logging.call_log import line_writer

    with pytest.raises(trunkline.ConfigurationError, match=r"pip install 'trunkline-logging\[structlog\]'"):
        line_writer("structlog", "trunkline.calls")


def test_value_that_would_break_a_line_is_quoted(caplog: pytest.LogCaptureFixture) -> None:
    from trunkline_logging.call_log import line_writer

    caplog.set_level(logging.INFO, "trunkline.calls")
    line_writer("logging", "trunkline.calls")(False, {"service": "a b\nc", "model": "m"})
    assert caplog.messages == ["service='a b\\nc' model=m"]


def test_fields_that_records_of_the_application_have_too_are_in_the_text(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trunkline_logging.call_log import line_writer

    def make_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = logging.LogRecord(*args, **kwargs)
        record.__dict__["service"] = "shop"
        return record

    monkeypatch.setattr(logging, "_logRecordFactory", make_record)
    caplog.set_level(logging.INFO, "trunkline.calls")
    line_writer("logging", "trunkline.calls")(False, {"service": "main", "model": "m"})
    [record] = caplog.records
    assert record.getMessage() == "service=main model=m"
    assert (record.__dict__["service"], record.__dict__["model"]) == ("shop", "m")
