"""Budgets around calls: refused before, charged after, whatever becomes of the call."""

from __future__ import annotations

import functools
import gc
import logging
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, nullcontext
from decimal import Decimal
from typing import Any

import anyio
import attrs
import pytest
from trunkline import (
    Audio,
    Call,
    CallError,
    ChatRequest,
    ChatResponse,
    ConfigurationError,
    Event,
    Finished,
    Middleware,
    Observer,
    ProviderService,
    RankedDocument,
    RateLimited,
    RemoteError,
    RerankResponse,
    Service,
    ServiceClosed,
    ServiceContext,
    Settings,
    StreamClosed,
    Text,
    TextDelta,
    TotalTimeout,
    TrunklineError,
    Usage,
    fallback,
    hookimpl,
    user,
)
from trunkline._config.sources import make_settings
from trunkline._http.choice import HTTPTransports
from trunkline.authoring.middleware import ChatProceed, EventMiddleware, RunProceed, StreamProceed
from trunkline.authoring.provider import Auth
from trunkline.authoring.wire import WireRequest
from trunkline.testing import serve
from trunkline.testing.extension_toy import Answer, toy_provider
from trunkline_prices import (
    BudgetExceeded,
    Charge,
    Cost,
    Prices,
    PricesSettings,
    UnknownPrice,
    cost,
    middleware,
    prices_of,
)
from trunkline_prices.extension import made_for

pytestmark = pytest.mark.anyio

PRICES = {"m": {"input": 1_000_000, "output": 1_000_000}}  # a dollar for each token
COST = Decimal(5)  # two tokens and three
ASK = ChatRequest(messages="Hi", max_output_tokens=3)
# The estimate of the request is 6 tokens: 4 for a message, 1 for its text, and a tenth of both.
RESERVED = Decimal(9)


@asynccontextmanager
async def toy_service(
    *extensions: object, answer: Answer | None = None, **changes: Any
) -> AsyncIterator[ProviderService]:
    provider = toy_provider("toy")
    async with serve(answer or Answer()) as server:
        values = {"default_model": "m", "max_retries": 0, "extensions": extensions, "api_url": server.url, **changes}
        settings = make_settings("toy", provider, arguments=values, environ={})
        async with ProviderService("toy", provider, settings, transports=HTTPTransports(None)) as service:
            yield service


def extension(**settings: Any) -> Prices:
    on_charge = settings.pop("on_charge", None)
    return Prices(PricesSettings(prices=PRICES, **settings), on_charge=on_charge)


Make = Callable[[Service], Awaitable[object]]


async def chat(service: Service) -> ChatResponse:
    return await service.chat(ASK)


async def stream(service: Service) -> ChatResponse:
    async with service.stream(ASK) as events:
        return await events.finish()


@pytest.mark.parametrize("make", [chat, stream])
async def test_calls_are_charged_until_the_budget_is_used_up(make: Make) -> None:
    prices = extension(budget=20)
    async with toy_service(prices) as service:
        for _ in range(3):
            await make(service)
        assert prices.spent().spent == 3 * COST
        with pytest.raises(BudgetExceeded, match=r"may cost up to \$9: \$15 of \$20 are spent") as caught:
            await make(service)
    assert (caught.value.service, caught.value.worst_case) == ("toy", RESERVED)
    assert prices.spent().reserved == 0


@pytest.mark.parametrize("make", [chat, stream])
async def test_response_has_its_cost(make: Callable[[Service], Awaitable[ChatResponse]]) -> None:
    async with toy_service(extension()) as service:
        response = await make(service)
    found = cost(response)
    assert (found.total, found.input, found.output, found.price_model) == (COST, 2, 3, "m")


async def test_other_extensions_find_the_cost_in_the_state() -> None:
    seen: list[object] = []

    class Other(Observer, Middleware):
        @hookimpl
        def trunkline_observer(self, context: ServiceContext[Settings]) -> Observer:
            return self

        @hookimpl
        def trunkline_middleware(self, context: ServiceContext[Settings]) -> Middleware:
            return self

        def finished(self, call: Call, response: object) -> None:
            seen.append(call.state["trunkline-prices.cost"])

        async def chat(self, call: Call, request: ChatRequest, proceed: ChatProceed) -> ChatResponse:
            response = await proceed(request)
            seen.append(call.state["trunkline-prices.cost"])
            return response

    for extensions in ((Other(), extension()), (extension(), Other())):
        async with toy_service(*extensions) as service:
            await chat(service)
            await stream(service)
    assert [found.total for found in seen if isinstance(found, Cost)] == [COST] * 6


async def test_state_has_no_cost_of_another_call() -> None:
    seen: list[object] = []

    class Twice(Observer, Middleware):
        @hookimpl
        def trunkline_observer(self, context: ServiceContext[Settings]) -> Observer:
            return self

        @hookimpl
        def trunkline_middleware(self, context: ServiceContext[Settings]) -> Middleware:
            return self

        def failed(self, call: Call, error: BaseException) -> None:
            seen.append(call.state.get("trunkline-prices.cost"))

        def abandoned(self, call: Call, partial: ChatResponse) -> None:
            seen.append(call.state.get("trunkline-prices.cost"))

        async def chat(self, call: Call, request: ChatRequest, proceed: ChatProceed) -> ChatResponse:
            await proceed(request)
            answer.status = 429
            return await proceed(request)

    answer = Answer()
    async with toy_service(extension(), Twice(), answer=answer) as service:
        with pytest.raises(RateLimited):
            await chat(service)
        answer.status = 200
        await leave_early(service)
    first, second = seen
    assert first is None
    assert isinstance(second, Cost)
    assert (second.total, second.reason) == (None, "incomplete")


async def test_embeddings_are_reserved_and_charged() -> None:
    prices = extension(budget=3)
    async with toy_service(prices) as service:
        await service.embed("Hi")  # the toy does not report a usage, so the estimate is charged: 1.1 tokens, rounded up
        assert (prices.spent().spent, prices.spent().estimated) == (2, 2)
        with pytest.raises(BudgetExceeded):
            await service.embed("Hi")


async def test_label_has_a_budget_of_its_own() -> None:
    prices = extension(label_budget=10, label_budgets={"vip": 30})
    async with toy_service(prices) as service:
        tenant, vip = (service.with_options(state={"label": label}) for label in ("tenant", "vip"))
        await tenant.chat(ASK)
        with pytest.raises(BudgetExceeded, match="the budget of the label 'tenant' is too small"):
            await tenant.chat(ASK)
        for _ in range(3):
            await vip.chat(ASK)
            await service.chat(ASK)  # without a label, there is no limit
        assert [prices.spent(label).spent for label in (None, "tenant", "vip")] == [7 * COST, COST, 3 * COST]
        assert prices.labels() == ("vip", "tenant")


async def test_label_that_is_no_text_is_refused() -> None:
    prices = extension(label_budget=100)
    async with toy_service(prices) as service:
        with pytest.raises(CallError, match=r"state\['label'\], is a str, not int"):
            await service.with_options(state={"label": 7}).chat(ASK)
    assert (prices.spent().spent, prices.spent().reserved) == (0, 0)


async def test_many_calls_load_the_price_list_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[int] = []
    monkeypatch.setattr(middleware, "is_loaded", lambda: bool(loads))
    monkeypatch.setattr(middleware, "load", lambda: loads.append(threading.get_ident()))
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(middleware.ensure_loaded)
    assert len(loads) == 1
    assert loads != [threading.get_ident()]


async def test_services_share_the_budget_of_one_object() -> None:
    prices = extension(budget=10)
    async with toy_service(prices) as first, toy_service(prices) as second:
        await chat(first)
        with pytest.raises(BudgetExceeded):
            await chat(second)


async def test_budget_from_the_configuration_can_be_read() -> None:
    async with toy_service({"name": "prices", "budget": "12.50", "prices": PRICES}) as service:
        prices = prices_of(service)
        await chat(service)
        assert (prices.spent().spent, prices.spent().limit) == (COST, Decimal("12.50"))
        assert prices_of(service) is prices
    async with toy_service() as service:
        with pytest.raises(LookupError, match="does not have the extension 'prices'"):
            prices_of(service)


async def test_services_share_the_budget_with_the_same_name(anyio_backend_name: str) -> None:
    table = {"name": "prices", "label_budget": 10, "shared": f"users, {anyio_backend_name}", "prices": PRICES}
    charges: list[Charge] = []
    async with toy_service(dict(table)) as first, toy_service(dict(table)) as second:
        prices_of(second).on_charge = charges.append
        both = fallback(first, second).with_options(state={"label": "ann"})
        await both.chat(ASK)
        with pytest.raises(BudgetExceeded):
            await both.chat(ASK)
        assert prices_of(first).spent("ann").spent == prices_of(second).spent("ann").spent == COST
        assert [(charge.label, charge.amount) for charge in charges] == [("ann", COST)]
        async with toy_service({**table, "shared": "others"}) as other:
            await other.with_options(state={"label": "ann"}).chat(ASK)
            assert prices_of(first).spent("ann").spent == COST


async def test_shared_budget_ends_when_its_last_service_is_closed(anyio_backend_name: str) -> None:
    for budget in (10, 20):
        table = {"name": "prices", "budget": budget, "shared": f"{anyio_backend_name}, twice", "prices": PRICES}
        async with toy_service(dict(table)) as first:
            async with toy_service(dict(table)) as second:
                await stream(second)
                with pytest.raises(BudgetExceeded) if budget == 10 else nullcontext():
                    await chat(first)
            assert prices_of(first).spent().spent == COST * budget / 10


def test_shared_budget_ends_with_the_last_extension_that_has_it() -> None:
    first = Prices(PricesSettings(shared="the last", budget=1))
    second = Prices(PricesSettings(shared="the last", budget=1))
    first.add_spent(Decimal(1))
    del first
    gc.collect()
    assert second.spent().spent == 1
    del second
    gc.collect()
    third = Prices(PricesSettings(shared="the last", budget=2))
    assert (third.spent().spent, third.spent().limit) == (0, 2)


async def test_shared_budget_must_be_the_same_for_all_services(anyio_backend_name: str) -> None:
    table = {"name": "prices", "budget": 10, "shared": anyio_backend_name, "prices": PRICES}
    async with toy_service(table) as first, toy_service({**table, "budget": 20, "budget_period": "day"}) as second:
        await chat(first)
        with pytest.raises(
            ConfigurationError, match=r"share the budgets '\w+', but .* differ in budget, budget_period"
        ):
            await chat(second)


async def test_extension_that_was_found_before_the_first_call_is_that_of_the_calls() -> None:
    async with toy_service({"name": "prices", "budget": 10, "prices": PRICES}) as service:
        prices_of(service).add_spent(Decimal(7))
        gc.collect()
        with pytest.raises(BudgetExceeded):
            await chat(service)


async def test_extension_of_a_composed_service_is_that_of_a_member() -> None:
    async with toy_service(extension()) as first, toy_service() as second:
        with pytest.raises(LookupError, match="'main' is composed of other services"):
            prices_of(fallback(first, second, name="main"))


def test_extension_is_forgotten_with_the_settings_of_its_service() -> None:
    settings = PricesSettings(budget=1)
    made = weakref.ref(made_for(settings))
    gc.collect()
    assert made() is made_for(settings)
    del settings
    gc.collect()
    assert made() is None


async def test_concurrent_calls_spend_no_more_than_the_budget() -> None:
    prices = extension(budget=30)
    refused: list[BudgetExceeded] = []

    async def call(service: Service, make: Make) -> None:
        try:
            await make(service)
        except BudgetExceeded as error:
            refused.append(error)

    async with toy_service(prices) as service:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(call, service, chat)
                tasks.start_soon(call, service, stream)
    state = prices.spent()
    assert state.spent + len(refused) * COST == 20 * COST
    assert 3 * COST <= state.spent <= 30
    assert state.reserved == 0


def test_event_loops_in_threads_spend_no_more_than_the_budget(anyio_backend: str) -> None:
    prices = extension(budget=50)
    answered: list[ChatResponse] = []

    async def calls() -> None:
        async with toy_service(prices) as service:
            for _ in range(5):
                try:
                    answered.append(await chat(service))
                except BudgetExceeded:
                    return

    threads = [threading.Thread(target=functools.partial(anyio.run, calls, backend=anyio_backend)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert prices.spent().spent == len(answered) * COST
    assert 25 <= prices.spent().spent <= 50
    assert prices.spent().reserved == 0


# Calls that do not end well


@pytest.mark.parametrize("make", [chat, stream])
async def test_call_that_the_provider_refuses_costs_nothing(make: Make) -> None:
    prices = extension(budget=10)
    async with toy_service(prices, answer=Answer(status=429)) as service:
        for _ in range(3):
            with pytest.raises(RateLimited):
                await make(service)
    assert (prices.spent().spent, prices.spent().reserved) == (0, 0)


async def test_cost_of_a_refused_call_agrees_with_its_charge() -> None:
    charges: list[Charge] = []
    async with toy_service(extension(on_charge=charges.append), answer=Answer(status=429)) as service:
        events = service.stream(ASK)
        with pytest.raises(RateLimited) as caught:
            async with events:
                pass
    [charge] = charges
    assert charge.amount == cost(caught.value).total == 0
    assert (charge.usage.input_tokens, charge.usage.output_tokens, charge.usage.total_tokens) == (0, 0, 0)
    assert (charge.is_estimate, charge.model) == (False, "m")
    assert cost(events.partial).total is None  # it does not say whether the call was refused


async def test_call_that_is_not_sent_costs_nothing() -> None:
    prices = extension(budget=100)
    async with toy_service(prices, api_url="http://127.0.0.1:9", extensions=[prices]) as service:
        with pytest.raises(RemoteError):
            await chat(service)
    assert (prices.spent().spent, prices.spent().reserved) == (0, 0)


async def test_chat_that_times_out_is_charged_what_was_reserved() -> None:
    charges: list[Charge] = []
    prices = extension(budget=10, on_charge=charges.append)
    answer = Answer(hangs=True)
    async with toy_service(prices, answer=answer, total_timeout=0.05) as service:
        with pytest.raises(TotalTimeout):
            await chat(service)
        answer.released.set()
    state = prices.spent()
    assert (state.spent, state.estimated, state.reserved) == (RESERVED, RESERVED, 0)
    [charge] = charges
    assert (charge.usage.input_tokens, charge.usage.output_tokens, charge.usage.total_tokens) == (6, 3, 9)


async def leave_early(service: Service) -> None:
    async with service.stream(ASK) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                break


async def fail(service: Service) -> None:
    async with service.stream(ASK) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                raise KeyError


async def cancel(service: Service) -> None:
    with anyio.CancelScope() as scope:
        async with service.stream(ASK) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    scope.cancel()
    assert scope.cancelled_caught


async def close(service: Service) -> None:
    async with service.stream(ASK) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                await events.aclose()
                return


async def close_while_reading(service: Service) -> None:
    async with anyio.create_task_group() as tasks, service.stream(ASK) as events:
        with pytest.raises(StreamClosed):
            async for event in events:
                if isinstance(event, TextDelta):
                    tasks.start_soon(events.aclose)


async def close_the_service(service: Service) -> None:
    async with anyio.create_task_group() as tasks, service.stream(ASK) as events:
        with pytest.raises(ServiceClosed):
            async for event in events:
                if isinstance(event, TextDelta):
                    tasks.start_soon(service.aclose)


async def read_to_the_error(service: Service) -> None:
    with pytest.raises(RemoteError):
        await stream(service)


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (leave_early, {}),
        (fail, {}),
        (cancel, {}),
        (close, {}),
        (close_while_reading, {"hangs_in_stream": True}),
        (close_the_service, {"hangs_in_stream": True}),
        (read_to_the_error, {"error": 500}),
    ],
)
async def test_interrupted_stream_is_charged_an_estimate(make: Make, answer: dict[str, Any]) -> None:
    charges: list[Charge] = []
    prices = extension(budget=100, on_charge=charges.append)
    script = Answer(**answer)
    async with toy_service(prices, answer=script) as service:
        try:
            await make(service)
        except KeyError:
            assert make is fail
        script.released.set()
    state = prices.spent()
    assert state.reserved == 0
    assert state.spent == state.estimated > 6
    [charge] = charges
    assert (charge.amount, charge.is_estimate, charge.cost, charge.service) == (state.spent, True, None, "toy")
    assert charge.usage.total_tokens == charge.amount  # a dollar for each token
    assert charge.usage.input_tokens == 6
    assert charge.model == "toy"


async def test_cancelled_chat_is_charged_what_was_reserved() -> None:
    prices = extension(budget=100)
    answer = Answer(hangs=True)
    async with toy_service(prices, answer=answer) as service, anyio.create_task_group() as tasks:
        tasks.start_soon(chat, service)
        while not prices.spent().reserved:
            await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    answer.released.set()
    assert (prices.spent().spent, prices.spent().reserved) == (RESERVED, 0)


class SlowSignIn:
    """An `Auth` that never gets its credentials, in place of that of the service."""

    secrets = ()

    @hookimpl(wrapper=True)
    def trunkline_auth(self, context: ServiceContext[Settings]) -> Generator[None, Auth, Auth]:
        yield
        return self

    async def __aenter__(self) -> object:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def acquire(self, *, refresh: bool = False) -> object:
        await anyio.sleep_forever()
        raise AssertionError

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        return wire_request


@pytest.mark.parametrize("total_timeout", [None, 0.01])
@pytest.mark.parametrize("make", [chat, stream])
async def test_call_that_was_not_sent_costs_nothing(make: Make, total_timeout: float | None) -> None:
    prices = extension(budget=100)
    async with toy_service(prices, SlowSignIn(), total_timeout=total_timeout) as service:
        if total_timeout is not None:
            with pytest.raises(TotalTimeout):
                await make(service)
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(make, service)
                while not prices.spent().reserved:
                    await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
    assert (prices.spent().spent, prices.spent().reserved) == (0, 0)


@pytest.mark.parametrize("make", [chat, stream])
async def test_call_that_is_cancelled_before_it_is_sent_again_costs_nothing(make: Make) -> None:
    waits = anyio.Event()

    class Waiting(Observer):
        @hookimpl
        def trunkline_observer(self, context: ServiceContext[Settings]) -> Observer:
            return self

        def retried(self, call: Call, error: TrunklineError, delay: float) -> None:
            waits.set()

    prices = extension(budget=100)
    async with toy_service(prices, Waiting(), answer=Answer(status=503), max_retries=1) as service:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(make, service)
            await waits.wait()
            tasks.cancel_scope.cancel()
    assert (prices.spent().spent, prices.spent().reserved) == (0, 0)


async def test_response_without_usage_is_charged_an_estimate() -> None:
    prices = extension(budget=100)
    async with toy_service(prices, answer=Answer("nothing")) as service:
        response = await chat(service)
    assert (cost(response).total, cost(response).reason) == (None, "no_usage")
    assert (prices.spent().spent, prices.spent().estimated) == (6, 6)


@pytest.mark.parametrize("tokens", [-1, 10**12])
@pytest.mark.parametrize("make", [chat, stream])
async def test_usage_that_no_call_can_have_is_charged_an_estimate(make: Make, tokens: int) -> None:
    prices = extension(budget=100)
    async with toy_service(Reporting(tokens), prices) as service:
        await make(service)
    spent = prices.spent()
    assert 6 < spent.spent == spent.estimated < 50
    assert spent.reserved == 0


class Reporting(EventMiddleware):
    """Reports counts that a broken plugin makes."""

    def __init__(self, tokens: int) -> None:
        self._usage = Usage(input_tokens=tokens, output_tokens=tokens)

    @hookimpl(trylast=True)
    def trunkline_middleware(self, context: ServiceContext[Settings]) -> Middleware:
        return self

    @asynccontextmanager
    async def stream(
        self, call: Call, request: ChatRequest, proceed: StreamProceed
    ) -> AsyncGenerator[AsyncIterator[Event]]:
        async with proceed(request) as events:
            yield self._changed(events)

    async def _changed(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        async for event in events:
            yield attrs.evolve(event, usage=self._usage) if isinstance(event, Finished) else event


# Unknown prices


async def test_call_of_unknown_price_is_refused_if_there_is_a_budget() -> None:
    async with toy_service(Prices(PricesSettings(budget=1))) as service:
        for make in (chat, stream):
            with pytest.raises(UnknownPrice, match=r"no provider 'toy'.*set unknown_prices to 'allow'") as caught:
                await make(service)
        assert caught.value.cost.reason == "model"
    prices = Prices()
    async with toy_service(prices) as service:  # there is no budget
        response = await chat(service)
        assert (cost(response).reason, [warning.subject for warning in response.warnings]) == (
            "model",
            ["toys", "toys"],
        )
    assert prices.spent().unpriced == 1


@pytest.mark.parametrize("make", [chat, stream])
async def test_call_of_unknown_price_is_allowed_with_a_warning(
    make: Callable[[Service], Awaitable[ChatResponse]],
) -> None:
    prices = Prices(PricesSettings(budget=1, unknown_prices="allow"))
    async with toy_service(prices) as service:
        response = await make(service)
    [warning] = [warning for warning in response.warnings if warning.subject == "prices"]
    assert "not charged to the budget" in warning.message
    assert not warning.lossy
    assert (prices.spent().spent, prices.spent().unpriced) == (0, 1)


class Ranks(Middleware):
    """Answers `rerank` in place of the provider."""

    @hookimpl(trylast=True)
    def trunkline_middleware(self, context: ServiceContext[Settings]) -> Middleware:
        return self

    async def run(self, call: Call, operation: str, value: object, proceed: RunProceed) -> object:
        return RerankResponse(results=(RankedDocument(index=0, score=1.0),))


async def test_operation_without_prices_is_refused_if_there_is_a_budget() -> None:
    prices = extension(budget=1)
    async with toy_service(Ranks(), prices) as service:
        calls = (
            service.rerank("q", ["d"]),
            service.generate_images("a cat"),
            service.generate_speech("Hi", voice="v"),
            service.transcribe(Audio(data=b"RIFF", media_type="audio/wav")),
            service.submit_batch({"1": "Hi"}),
        )
        for made in calls:
            with pytest.raises(UnknownPrice, match="there is a budget, and the extension has no prices for") as caught:
                await made
            assert caught.value.cost.reason == "operation"
    assert prices.spent().unpriced == 0


async def test_operation_without_prices_is_made_without_a_budget_or_if_unknown_prices_are_allowed() -> None:
    async with toy_service(Ranks(), extension()) as service:
        assert (await service.rerank("q", ["d"])).results[0].score == 1
    prices = extension(budget=1, unknown_prices="allow")
    async with toy_service(Ranks(), prices) as service:
        assert (await service.rerank("q", ["d"])).results[0].score == 1
    assert (prices.spent().spent, prices.spent().reserved, prices.spent().unpriced) == (0, 0, 1)


async def test_request_without_a_limit_reserves_the_output_of_the_settings() -> None:
    prices = extension(budget=50, budget_output_tokens=45)
    async with toy_service(prices) as service:
        with pytest.raises(BudgetExceeded, match=r"up to \$51"):
            await service.chat("Hi")
    async with toy_service(prices, output_token_limit=40) as service:
        await service.chat("Hi")


async def test_answers_of_a_cache_are_not_charged() -> None:
    class Cache(Middleware):
        def __init__(self) -> None:
            self.stored: ChatResponse | None = None

        @hookimpl
        def trunkline_middleware(self, context: ServiceContext[Settings]) -> Middleware:
            return self

        async def chat(self, call: Call, request: ChatRequest, proceed: ChatProceed) -> ChatResponse:
            self.stored = self.stored or await proceed(request)
            return self.stored

    for order in (1, -1):
        prices = extension(budget=10)
        async with toy_service(*[prices, Cache()][::order]) as service:
            for _ in range(3):
                await chat(service)
        assert prices.spent().spent == COST


async def test_failing_callback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(charge: Charge) -> None:
        raise ValueError("the secret reason")

    async with toy_service(extension(on_charge=broken)) as service:
        with caplog.at_level(logging.ERROR, "trunkline"):
            await chat(service)
    assert [record.getMessage() for record in caplog.records] == [
        "on_charge of the extension 'prices' failed: ValueError"
    ]


async def test_callback_gets_what_a_call_was_charged() -> None:
    charges: list[Charge] = []
    async with toy_service(extension(label_budget=10, on_charge=charges.append)) as service:
        await service.with_options(state={"label": "tenant"}).chat(ASK)
    [charge] = charges
    assert (charge.label, charge.amount, charge.is_estimate) == ("tenant", COST, False)
    assert charge.cost is not None
    assert charge.cost.total == COST
    assert (charge.model, charge.usage.input_tokens, charge.usage.output_tokens) == ("toy", 2, 3)
    assert charge.usage.total_tokens == 5
    assert [(state.label, state.spent, state.reserved) for state in charge.spent] == [(None, 5, 0), ("tenant", 5, 0)]


async def test_fallback_goes_on_when_the_budget_is_used_up() -> None:
    prices = extension(budget=10)
    async with toy_service(prices) as dear, toy_service() as free:
        service = fallback(dear, free)
        for _ in range(3):
            await chat(service)
            await stream(service)
    assert prices.spent().spent == COST  # the second call might have cost more than was left


async def test_tier_that_the_request_asks_for_is_reserved() -> None:
    prices = Prices(PricesSettings(budget=1, models={"m": "gpt-4o-mini"}, price_provider="openai"))
    async with toy_service(prices) as service:
        for tier, price in (("default", "0.60"), ("priority", "1.00"), ("flex", "0.60")):
            with pytest.raises(BudgetExceeded) as caught:
                await service.chat(
                    "Hi", max_output_tokens=10_000_000, provider_options={"openai": {"service_tier": tier}}
                )
            assert 0 < caught.value.worst_case - 10 * Decimal(price) < Decimal("0.00001")


async def test_prompt_that_may_be_cached_for_an_hour_is_reserved_at_its_price() -> None:
    models = {"m": "claude-sonnet-4-5"}
    prices = Prices(PricesSettings(budget="0.001", models=models, price_provider="anthropic"))
    text = "word " * 10_000
    cases = (
        ChatRequest(messages=text),
        ChatRequest(messages=text, cache="1h"),
        ChatRequest(messages=[user(Text(text=text, cache="1h"))]),
    )
    reserved = []
    async with toy_service(prices) as service:
        for request in cases:
            with pytest.raises(BudgetExceeded) as caught:
                await service.chat(attrs.evolve(request, max_output_tokens=1))
            reserved.append(caught.value.worst_case)
    tokens = 13_755  # 50,000 bytes and the message, and a tenth of both
    assert reserved == [tokens * Decimal(price) / 10**6 + Decimal("0.000015") for price in ("3.75", "6", "6")]
