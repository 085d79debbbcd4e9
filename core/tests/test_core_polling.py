"""Polled APIs: a job is submitted, its state is asked for, and its result is the response of the call."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import attrs
import pytest
from trunkline.authoring.auth import NoAuth
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.polling import Job, JobState, PollingTransport
from trunkline.authoring.provider import Operation, SendOptions, ServiceContext
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import (
    AuthenticationError,
    CallError,
    ChunkTimeout,
    FirstChunkTimeout,
    NotFound,
    PluginError,
    ProtocolViolation,
    RemoteError,
    ServiceClosed,
    StreamInterrupted,
    TotalTimeout,
    TrunklineError,
    UnexpectedRedirect,
)
from trunkline.service import Service
from trunkline.testing import Exchange, LoopbackServer, serve

from .conftest import ToyParser, ToySettings

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]

SIGNED = "Bearer toy-secret-key"
STREAM = b'{"open": true}\n{"text": "sl"}\n{"text": "ow"}\n{"done": true}\n'


def status(job: Job) -> WireRequest:
    return WireRequest(method="GET", url=loads(job.response.body)["job"])


def state(wire_response: WireResponse) -> JobState:
    return JobState(loads(wire_response.body)["state"])


def result(job: Job, wire_response: WireResponse) -> WireRequest:
    return WireRequest(method="GET", url=f"{status(job).url}/result")


def cancel(job: Job) -> WireRequest:
    return WireRequest(method="DELETE", url=status(job).url)


class JobParser(ToyParser):
    def body(self, wire_response: WireResponse) -> Any:
        if loads(wire_response.body).get("state") == "failed":
            raise RemoteError("the job failed")
        return super().body(wire_response)


class Jobs:
    """An API with jobs. `asked` is set at the first request for a state."""

    def __init__(self, *states: str, **answers: Callable[[Exchange], Awaitable[None]]) -> None:
        self.states = list(states)
        self.answers = answers
        self.seen: list[str] = []
        self.unsigned: list[str] = []
        self.asked = anyio.Event()
        self.cancelled = anyio.Event()
        self.jobs = 0

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        kind = {"POST": "submit", "DELETE": "cancel"}.get(request.method, "status")
        kind = "result" if request.target.endswith("/result") else kind
        self.seen.append(kind)
        if request.headers.get("authorization") != SIGNED or request.headers.get("x-team") != "search":
            self.unsigned.append(kind)
        if kind in self.answers:
            await self.answers[kind](exchange)
        elif kind == "submit":
            self.jobs += 1
            await exchange.respond(dumps({"job": f"http://{request.headers['host']}/jobs/{self.jobs}"}), status=202)
        elif kind == "status":
            found = self.states.pop(0) if self.states else "running"
            # With a long wait, the client is still waiting when the test goes on.
            wait = {} if self.states or found != "running" else {"retry-after": "3600"}
            await exchange.respond(dumps({"state": found, "text": "the status"}), headers=wait)
            self.asked.set()
        elif kind == "result":
            await exchange.respond(dumps({"text": "slow"}))
        else:
            await exchange.respond(b"{}")
        if kind == "cancel":
            self.cancelled.set()


async def never(exchange: Exchange) -> None:
    await exchange.hung_up()


def refused(code: int) -> Callable[[Exchange], Awaitable[None]]:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(b"refused", status=code)

    return answer


@pytest.fixture
def open_jobs(toy: Any) -> Callable[..., Service]:
    def make(server: LoopbackServer, transport: dict[str, Any] | None = None, **values: Any) -> Service:
        functions: dict[str, Any] = {
            "status": status,
            "state": state,
            "result": result,
            "cancel": cancel,
            "interval": 0,
            **(transport or {}),
        }
        provider = {
            "transport": lambda context: PollingTransport(context, **functions),
            "response_parser": lambda context: JobParser(),
        }
        service: Service = toy(server.url, provider=provider, headers={"x-team": "search"}, **values)
        return service

    return make


async def test_result_of_a_job_is_the_response(open_jobs: Any) -> None:
    jobs = Jobs("running", "running", "done")
    async with serve(jobs) as server, open_jobs(server) as service:
        assert (await service.chat("hi")).text == "slow"
        assert server.accepted == 1
    assert jobs.seen == ["submit", "status", "status", "status", "result"]


async def test_every_follow_up_is_signed_and_has_the_headers_of_the_settings(open_jobs: Any) -> None:
    jobs = Jobs("running", "done", result=refused(404))
    async with serve(jobs) as server, open_jobs(server) as service:
        with pytest.raises(NotFound):
            await service.chat("hi")
    assert (jobs.seen, jobs.unsigned) == (["submit", "status", "status", "result", "cancel"], [])


async def test_status_answer_is_the_response_without_a_request_for_the_result(open_jobs: Any) -> None:
    jobs = Jobs("running", "done")
    async with serve(jobs) as server, open_jobs(server, {"result": None}) as service:
        assert (await service.chat("hi")).text == "the status"
    assert jobs.seen == ["submit", "status", "status"]


async def test_answer_to_the_first_request_may_be_the_result(open_jobs: Any) -> None:
    async def at_once(exchange: Exchange) -> None:
        await exchange.respond(b'{"text": "fast"}')

    jobs = Jobs(submit=at_once)
    async with serve(jobs) as server, open_jobs(server, {"status": lambda job: None}) as service:
        assert (await service.chat("hi")).text == "fast"
    assert jobs.seen == ["submit"]


async def test_result_is_streamed(open_jobs: Any) -> None:
    async def streamed(exchange: Exchange) -> None:
        await exchange.respond(STREAM)

    jobs = Jobs("running", "done", result=streamed)
    async with serve(jobs) as server, open_jobs(server) as service, service.stream("hi") as stream:
        assert [text async for text in stream.text] == ["sl", "ow"]
    assert jobs.seen == ["submit", "status", "status", "result"]


async def test_request_that_submits_no_job_is_sent_as_usual(open_jobs: Any) -> None:
    async def models(exchange: Exchange) -> None:
        await exchange.respond(b'{"models": ["toy-1"], "next": null}')

    async with serve(models) as server, open_jobs(server) as service:
        assert [model.id for model in await service.list_models()] == ["toy-1"]
    assert len(server.requests) == 1


async def test_own_operation_is_polled(open_jobs: Any) -> None:
    async with serve(Jobs("done")) as server, open_jobs(server) as service:
        operation: Operation[bytes, bytes] = Operation(
            build=lambda context, value: WireRequest(url=f"{server.url}/render", body=value),
            parse=lambda context, wire_response: wire_response.body,
        )
        assert loads(await service.run(operation, b"{}")) == {"text": "slow"}


# Waiting


@pytest.mark.parametrize(("header", "wait"), [("7", 7.0), ("0", 0.5)])
async def test_wait_is_the_longer_of_interval_and_retry_after(
    open_jobs: Any, monkeypatch: pytest.MonkeyPatch, header: str, wait: float
) -> None:
    async def running(exchange: Exchange) -> None:
        more = {"retry-after": header} if exchange.number == 2 else {}
        await exchange.respond(dumps({"state": "running" if exchange.number < 4 else "done"}), headers=more)

    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("trunkline.authoring.polling.sleep", sleep)
    async with serve(Jobs(status=running)) as server, open_jobs(server, {"interval": 0.5}) as service:
        await service.chat("hi")
    assert waits == [0.5, wait, 0.5]


# Leaving: the job is cancelled


async def test_cancelled_call_cancels_the_job(open_jobs: Any) -> None:
    jobs = Jobs("running")
    async with serve(jobs) as server, open_jobs(server) as service:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.chat, "hi")
            await jobs.asked.wait()
            tasks.cancel_scope.cancel()
        assert jobs.cancelled.is_set()
    assert (jobs.seen, jobs.unsigned) == (["submit", "status", "cancel"], [])


async def test_cancelled_stream_cancels_the_job(open_jobs: Any) -> None:
    async def enter(service: Service) -> None:
        async with service.stream("hi"):
            raise AssertionError("the job has no result")

    jobs = Jobs("running")
    async with serve(jobs) as server, open_jobs(server) as service:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(enter, service)
            await jobs.asked.wait()
            tasks.cancel_scope.cancel()
        assert jobs.cancelled.is_set()
    assert jobs.seen == ["submit", "status", "cancel"]


async def test_closed_service_cancels_its_jobs(open_jobs: Any) -> None:
    async def call(service: Service) -> None:
        with pytest.raises(ServiceClosed):
            await service.chat("hi")

    jobs = Jobs("running")
    async with serve(jobs) as server, open_jobs(server) as service:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, service)
            await jobs.asked.wait()
            await service.aclose()
            assert jobs.cancelled.is_set()


@pytest.mark.parametrize(
    ("limits", "kind", "streamed"),
    [
        ({"first_chunk_timeout": 0.4, "connect_timeout": 0.1}, FirstChunkTimeout, False),
        ({"first_chunk_timeout": 0.4, "connect_timeout": 0.1}, FirstChunkTimeout, True),
        ({"total_timeout": 0.5}, TotalTimeout, False),
    ],
)
async def test_timeout_cancels_the_job(
    open_jobs: Any, limits: dict[str, float], kind: type[TrunklineError], streamed: bool
) -> None:
    jobs = Jobs("running")
    async with serve(jobs) as server, open_jobs(server, max_retries=0, **limits) as service:
        with pytest.raises(kind):
            if streamed:
                async with service.stream("hi"):
                    pass
            else:
                await service.chat("hi")
    assert jobs.seen == ["submit", "status", "cancel"]


async def test_stream_of_a_result_that_is_left_early_cancels_the_job(open_jobs: Any) -> None:
    async def first_half(exchange: Exchange) -> None:
        await exchange.start(headers={})
        await exchange.chunk(STREAM[:33])
        await exchange.hung_up()

    jobs = Jobs("done", result=first_half)
    async with serve(jobs) as server, open_jobs(server) as service:
        async with service.stream("hi") as stream:
            async for text in stream.text:
                assert text == "sl"
                break
        assert jobs.cancelled.is_set()
    assert (jobs.seen, jobs.unsigned) == (["submit", "status", "result", "cancel"], [])


async def test_cancel_request_that_hangs_ends(
    open_jobs: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trunkline.authoring.polling.CANCEL_LIMIT", 0.05)
    jobs = Jobs("running", cancel=never)
    async with serve(jobs) as server, open_jobs(server) as service:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.chat, "hi")
            await jobs.asked.wait()
            tasks.cancel_scope.cancel()
    assert "service 'toy': a job was not cancelled: there was no response within 0.05 s" in caplog.messages


def broken_cancel(job: Job) -> WireRequest:
    raise KeyError("toy-secret-key")


@pytest.mark.parametrize(
    ("transport", "answers", "logged"),
    [
        ({"cancel": None}, {}, []),
        ({}, {"cancel": refused(404)}, []),
        ({}, {"cancel": refused(403)}, ["service 'toy': a job was not cancelled: status 403"]),
        ({"cancel": broken_cancel}, {}, ["service 'toy': a job was not cancelled: KeyError"]),
    ],
)
async def test_job_that_cannot_be_cancelled_does_not_change_the_outcome(
    open_jobs: Any, caplog: pytest.LogCaptureFixture, transport: Any, answers: Any, logged: list[str]
) -> None:
    caplog.set_level(logging.WARNING, "trunkline")
    jobs = Jobs(status=refused(404), **answers)
    async with serve(jobs) as server, open_jobs(server, transport) as service:
        with pytest.raises(NotFound):
            await service.chat("hi")
    assert caplog.messages == logged


# Failures


async def test_failed_job_raises_the_error_of_the_parser(open_jobs: Any) -> None:
    jobs = Jobs("running", "failed")
    async with serve(jobs) as server, open_jobs(server, max_retries=0) as service:
        with pytest.raises(RemoteError, match="the job failed"):
            await service.chat("hi")
    assert jobs.seen == ["submit", "status", "status"]


async def test_failed_job_of_a_stream_raises_the_error_of_the_parser(open_jobs: Any) -> None:
    jobs = Jobs("failed")
    async with serve(jobs) as server, open_jobs(server, max_retries=0) as service:
        with pytest.raises(RemoteError, match="the job failed"):
            async with service.stream("hi"):
                pass
    assert jobs.seen == ["submit", "status"]


async def test_lost_job_raises_the_error_of_the_status(open_jobs: Any) -> None:
    async with serve(Jobs("running", status=refused(404))) as server, open_jobs(server) as service:
        with pytest.raises(NotFound, match="refused") as caught:
            await service.chat("hi")
    assert caught.value.status == 404


async def test_refused_job_raises_the_error_of_the_status(open_jobs: Any) -> None:
    jobs = Jobs(submit=refused(404))
    async with serve(jobs) as server, open_jobs(server) as service:
        with pytest.raises(NotFound, match="refused"):
            await service.chat("hi")
    assert jobs.seen == ["submit"]


@pytest.mark.parametrize(("code", "error"), [(303, UnexpectedRedirect), (401, AuthenticationError)])
async def test_refused_status_request_raises_the_error_of_its_status(
    open_jobs: Any, code: int, error: type[TrunklineError]
) -> None:
    async with serve(Jobs(status=refused(code))) as server, open_jobs(server) as service:
        with pytest.raises(error):
            await service.chat("hi")


async def test_retry_submits_a_new_job_and_cancels_the_old_one(open_jobs: Any) -> None:
    async def once(exchange: Exchange) -> None:
        if exchange.request.target == "/jobs/1":
            await exchange.respond(b"busy", status=503, headers={"retry-after-ms": "1"})
        else:
            await exchange.respond(b'{"state": "done"}')

    jobs = Jobs(status=once)
    async with serve(jobs) as server, open_jobs(server) as service:
        assert (await service.chat("hi")).text == "slow"
    assert jobs.seen == ["submit", "status", "cancel", "submit", "status", "result"]


async def test_status_request_on_a_closed_connection_cancels_the_job(open_jobs: Any) -> None:
    async def reset(exchange: Exchange) -> None:
        await exchange.reset()

    jobs = Jobs(status=reset)
    async with serve(jobs) as server, open_jobs(server, max_retries=0) as service:
        with pytest.raises(RemoteError):
            await service.chat("hi")
    assert jobs.seen[-1] == "cancel"
    assert jobs.seen.count("submit") == 1


async def test_status_that_breaks_off_is_an_error(open_jobs: Any) -> None:
    async def breaks_off(exchange: Exchange) -> None:
        await exchange.start(headers={})
        await exchange.chunk(b'{"state":')
        await exchange.hang_up()

    jobs = Jobs(status=breaks_off)
    async with serve(jobs) as server, open_jobs(server, max_retries=0) as service:
        with pytest.raises(StreamInterrupted):
            await service.chat("hi")
    assert jobs.seen == ["submit", "status", "cancel"]


async def test_status_that_stalls_is_a_chunk_timeout(open_jobs: Any) -> None:
    async def stalls(exchange: Exchange) -> None:
        await exchange.start(headers={})
        await exchange.chunk(b'{"state":')
        await exchange.hung_up()

    async with serve(Jobs(status=stalls)) as server:
        async with open_jobs(server, max_retries=0, chunk_timeout=0.05) as service:
            with pytest.raises(ChunkTimeout):
                await service.chat("hi")


@pytest.mark.parametrize("body", [b"x" * 101, b"[" * 50])
async def test_limits_of_bodies_apply_to_a_status(open_jobs: Any, body: bytes) -> None:
    async def large(exchange: Exchange) -> None:
        await exchange.respond(body)

    async with serve(Jobs(status=large)) as server:
        async with open_jobs(server, max_retries=0, body_limit=100, nesting_limit=20) as service:
            with pytest.raises(ProtocolViolation, match=r"body_limit|nesting_limit"):
                await service.chat("hi")


@pytest.mark.parametrize(
    ("function", "seen"),
    [
        ("status", ["submit", "cancel"]),
        ("state", ["submit", "status", "cancel"]),
        ("result", ["submit", "status", "cancel"]),
    ],
)
async def test_failing_function_is_a_plugin_error_and_cancels_the_job(
    function: str, seen: list[str], open_jobs: Any
) -> None:
    def broken(*given: object) -> Any:
        raise KeyError("phase")

    jobs = Jobs("done")
    async with serve(jobs) as server, open_jobs(server, {function: broken}) as service:
        with pytest.raises(PluginError, match="the transport of toy failed: KeyError"):
            await service.chat("hi")
    assert jobs.seen == seen


# Credentials


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{other}/jobs/1", "https://127.0.0.1:{port}/jobs/1", "http://localhost:{port}/1", "/jobs/1"],
)
async def test_follow_up_to_another_server_is_not_sent(open_jobs: Any, url: str) -> None:
    async def stolen(exchange: Exchange) -> None:
        raise AssertionError(exchange.request)

    async with serve(stolen) as other, serve(Jobs()) as server:
        target = url.format(other=other.port, port=server.port)
        transport = {"status": lambda job: WireRequest(method="GET", url=f"{target}?token=a")}
        async with open_jobs(server, transport, max_retries=0) as service:
            with pytest.raises(ProtocolViolation, match="a further request of the call leads to") as caught:
                await service.chat("hi")
    assert "token" not in str(caught.value)
    assert other.requests == []
    assert [request.method for request in server.requests] == ["POST", "DELETE"]


async def test_login_in_the_url_is_sent_with_each_follow_up(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        logins.append(exchange.request.headers.get("authorization"))
        await jobs(exchange)

    logins: list[str | None] = []
    jobs = Jobs("done")
    functions: dict[str, Any] = {"status": status, "state": state, "result": result, "interval": 0}
    async with serve(handler) as server:
        provider = {
            "transport": lambda context: PollingTransport(context, **functions),
            "auth": lambda context: NoAuth(),
        }
        async with toy(server.url.replace("//", "//user:word@"), provider=provider) as service:
            assert (await service.chat("hi")).text == "slow"
    assert logins == ["Basic dXNlcjp3b3Jk"] * 3


async def test_each_request_is_signed_anew(open_jobs: Any, toy: Any) -> None:
    class Counting(NoAuth):
        def __init__(self) -> None:
            self.signed = 0

        def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
            self.signed += 1
            return wire_request.with_headers({"x-signature": f"{wire_request.method} {self.signed}"})

    async def handler(exchange: Exchange) -> None:
        signatures.append(exchange.request.headers["x-signature"])
        await jobs(exchange)

    signatures: list[str] = []
    jobs = Jobs("running", "done")
    functions: dict[str, Any] = {"status": status, "state": state, "result": result, "interval": 0}
    provider = {
        "transport": lambda context: PollingTransport(context, **functions),
        "auth": lambda context: Counting(),
    }
    async with serve(handler) as server, toy(server.url, provider=provider) as service:
        await service.chat("hi")
    assert signatures == ["POST 1", "GET 2", "GET 3", "GET 4"]


# Alone


async def test_inner_transport_is_opened_and_used(open_jobs: Any) -> None:
    class Inner:
        def __init__(self, context: ServiceContext[ToySettings]) -> None:
            self.context = context

        async def __aenter__(self) -> object:
            seen.append("opened")
            return self

        async def __aexit__(self, *exc_info: object) -> None:
            seen.append("closed")

        def send(self, wire_request: WireRequest, options: SendOptions) -> Any:
            seen.append((wire_request.method, options.resend))
            assert self.context.transport is not None
            return self.context.transport.send(wire_request, options)

    seen: list[object] = []

    def transport(context: ServiceContext[ToySettings]) -> PollingTransport:
        return PollingTransport(context, status=status, state=state, interval=0, inner=Inner(context))

    async with serve(Jobs("done")) as server, open_jobs(server, max_retries=0) as service:
        service._provider = attrs.evolve(service._provider, transport=transport)
        assert (await service.chat("hi")).text == "the status"
    # A request for a state may be sent twice, even if the call must not be retried.
    assert seen == ["opened", ("POST", False), ("GET", True), "closed"]


async def test_context_of_no_service_is_an_error() -> None:
    context = ServiceContext(name="toy", provider="toy", settings=ToySettings(url="http://x.example"))
    transport = PollingTransport(context, status=status, state=state)
    with pytest.raises(CallError, match="does not belong to an open service"):
        transport.send(WireRequest(url="http://x.example"), SendOptions())
