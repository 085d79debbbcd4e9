"""Ending a single read: at its deadline, or from another task, and nothing else with it."""

import asyncio
import sys
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from trunkline._calls.read_timeout import ReadTimeout, ReadTimeouts, ScopeReadTimeout, TaskReadTimeout, new_read_timeout

SHORT = 0.05
LONG = 30.0


@pytest.fixture(params=["the backend's", "a scope"])
def read(request: pytest.FixtureRequest, anyio_backend_name: str) -> ReadTimeout:
    """The way of the backend, and on asyncio the other one too."""
    if request.param == "a scope":
        return ScopeReadTimeout()
    return TaskReadTimeout() if anyio_backend_name == "asyncio" else ScopeReadTimeout()


@pytest.mark.anyio
async def test_the_backend_decides(anyio_backend_name: str) -> None:
    assert type(new_read_timeout()) is (TaskReadTimeout if anyio_backend_name == "asyncio" else ScopeReadTimeout)


@pytest.mark.anyio
async def test_read_that_takes_too_long_is_cancelled(read: ReadTimeout) -> None:
    read.extend(SHORT)
    with read:
        assert read.active
        await anyio.sleep(LONG)
    assert read.ended
    assert not read.active


@pytest.mark.anyio
async def test_the_next_read_is_another(read: ReadTimeout) -> None:
    read.extend(SHORT)
    with read:
        await anyio.sleep(LONG)
    read.extend(LONG)
    with read:
        await anyio.lowlevel.checkpoint()
    assert not read.ended
    read.extend(SHORT)
    with read:
        await anyio.sleep(LONG)
    assert read.ended
    await anyio.lowlevel.checkpoint()  # nothing of the cancellation is left


@pytest.mark.anyio
async def test_time_between_reads_does_not_count(read: ReadTimeout) -> None:
    read.extend(SHORT)
    with read:
        await anyio.lowlevel.checkpoint()
    with anyio.move_on_after(SHORT * 2):
        await anyio.sleep_forever()
    read.extend(LONG)
    with read:
        await anyio.lowlevel.checkpoint()
    assert not read.ended


@pytest.mark.anyio
async def test_running_read_can_get_more_time(read: ReadTimeout) -> None:
    read.extend(SHORT)
    with read:
        read.extend(LONG)
        with anyio.move_on_after(SHORT * 2):
            await anyio.sleep_forever()
        read.extend(SHORT)
        await anyio.sleep(LONG)
    assert read.ended


@pytest.mark.anyio
async def test_another_task_can_end_a_read(read: ReadTimeout) -> None:
    begun = anyio.Event()

    async def end() -> None:
        await begun.wait()
        read.end()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        read.extend(LONG)
        with read:
            begun.set()
            await anyio.sleep_forever()
    assert read.ended


@pytest.mark.anyio
async def test_ending_no_read_does_nothing(read: ReadTimeout) -> None:
    read.end()
    read.extend(LONG)
    with read:
        await anyio.lowlevel.checkpoint()
    assert not read.ended
    read.end()
    await anyio.lowlevel.checkpoint()
    read.close()


@pytest.mark.anyio
async def test_an_error_of_the_read_passes(read: ReadTimeout) -> None:
    read.extend(LONG)
    with pytest.raises(ZeroDivisionError), read:
        raise ZeroDivisionError
    assert not read.ended


@pytest.mark.anyio
async def test_a_scope_around_the_read_ends_it_and_is_not_taken_for_the_limit(read: ReadTimeout) -> None:
    with anyio.move_on_after(SHORT) as scope:
        read.extend(LONG)
        with read:
            await anyio.sleep_forever()
        raise AssertionError("the read went on")
    assert scope.cancelled_caught
    assert not read.ended


@pytest.mark.anyio
async def test_a_read_in_a_cancelled_scope_ends_at_once(read: ReadTimeout) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        read.extend(LONG)
        with read:
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert not read.ended


@pytest.mark.anyio
async def test_a_scope_inside_the_read_does_not_hide_the_end(read: ReadTimeout) -> None:
    read.extend(SHORT)
    with read:
        with anyio.fail_after(LONG):
            await anyio.sleep_forever()
    assert read.ended


async def _read_for_ever(read: ReadTimeout) -> None:
    read.extend(LONG)
    with read:
        await anyio.sleep_forever()


@pytest.mark.parametrize("end_first", [True, False])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_who_cancels_the_task_at_the_same_moment_sees_it_happen(end_first: bool) -> None:
    read = TaskReadTimeout()
    task = asyncio.create_task(_read_for_ever(read))
    await anyio.wait_all_tasks_blocked()
    for step in (read.end, task.cancel) if end_first else (task.cancel, read.end):
        step()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_timeout_of_asyncio_around_the_read_is_that_timeout() -> None:
    read = TaskReadTimeout()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORT):
            await _read_for_ever(read)
    assert not read.ended


def counted_timers(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.TimerHandle]:
    """The timers that the running event loop is asked for from now on."""
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    timers: list[asyncio.TimerHandle] = []

    def counted(*arguments: Any) -> asyncio.TimerHandle:
        timers.append(call_later(*arguments))
        return timers[-1]

    monkeypatch.setattr(loop, "call_later", counted)
    return timers


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_timer_is_not_set_anew_for_each_read(monkeypatch: pytest.MonkeyPatch) -> None:
    timers = counted_timers(monkeypatch)
    read = TaskReadTimeout()
    for _ in range(100):
        read.extend(LONG)
        with read:
            await asyncio.sleep(0)
    read.close()
    assert len(timers) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_reading_that_is_used_again_has_its_timer_still(monkeypatch: pytest.MonkeyPatch) -> None:
    timers = counted_timers(monkeypatch)
    read_timeouts = ReadTimeouts()
    for _ in range(100):
        read = read_timeouts.acquire()
        read.extend(LONG)
        with read:
            await asyncio.sleep(0)
        read_timeouts.release(read)
    assert len(timers) == 1
    read_timeouts.close()


@pytest.mark.anyio
async def test_reused_read_timeout_cancels_a_slow_read() -> None:
    read_timeouts = ReadTimeouts()
    first = read_timeouts.acquire()
    first.extend(LONG)
    with first:
        await anyio.lowlevel.checkpoint()
    read_timeouts.release(first)
    again = read_timeouts.acquire()
    again.extend(SHORT)
    with again:
        await anyio.sleep(LONG)
    assert again.ended
    read_timeouts.release(again)
    read_timeouts.close()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_timer_that_is_given_back_after_closing_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    timers = counted_timers(monkeypatch)
    read_timeouts = ReadTimeouts()
    read = read_timeouts.acquire()
    read.extend(LONG)
    read_timeouts.close()  # as a service does that is closed while a call reads
    assert not timers[0].cancelled()
    read_timeouts.release(read)
    assert timers[0].cancelled()


def test_a_reading_stays_in_its_event_loop() -> None:
    read_timeouts = ReadTimeouts()

    async def use() -> ReadTimeout:
        read = read_timeouts.acquire()
        read.extend(SHORT)
        with read:
            await asyncio.sleep(LONG)
        assert read.ended
        read_timeouts.release(read)
        return read

    assert asyncio.run(use()) is not asyncio.run(use())


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.anyio
async def test_asyncio_that_is_imported_and_does_not_run_is_not_taken_for_the_backend() -> None:
    assert "asyncio" in sys.modules
    assert type(new_read_timeout()) is ScopeReadTimeout
