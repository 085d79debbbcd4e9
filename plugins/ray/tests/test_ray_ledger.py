"""The ledger of shared limits: what it grants, to whom, and what a restart and the death of workers change."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from trunkline import ConfigurationError
from trunkline_ray.ledger import DEAD_AFTER, SILENT_AFTER, Exchange, Ledger, Limits
from trunkline_ray.limits import ClusterLimits, EntryLog

LIMIT = 5
PERIOD = 60.0

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["want", "send", "end", "die", "restart", "nothing"]),
        st.floats(0, 20) | st.just(0.0) | st.just(PERIOD),
    ),
    max_size=40,
)


class Workers:
    """Workers that send what they are granted, on a provider's clock; some of them die, and so does the ledger."""

    def __init__(self) -> None:
        self.limits = Limits(requests=LIMIT)
        self.ledger = Ledger(self.limits)
        self.entries: deque = deque()
        self.now = 1000.0
        self.number = 0
        self.wanted: dict[str, dict[int, int]] = {}
        self.granted: dict[str, list[int]] = {}
        self.running: dict[str, list[int]] = {}
        self.sent: list[float] = []

    def step(self, worker: str, step: str, seconds: float) -> None:
        for passed in range(0, int(seconds) + 1, 5):  # workers are heard of every five seconds
            self.now += min(5.0, seconds - passed)
            for name in self.wanted:
                self.exchange(name)
        wanted = self.wanted.setdefault(worker, {})
        granted, running = self.granted.setdefault(worker, []), self.running.setdefault(worker, [])
        if step == "want":
            self.number += 1
            wanted[self.number] = 0
            self.exchange(worker)
        elif step == "send" and granted:
            running.append(granted.pop())
            self.sent.append(self.now)
            self.exchange(worker, sent=(running[-1],))
        elif step == "end" and running:
            number = running.pop()
            self.exchange(worker, arrived=(number,), ended=((number, None),))
        elif step == "die":
            for names in (self.wanted, self.granted, self.running):
                names.pop(worker, None)
        elif step == "restart":
            ledger = Ledger(self.limits)
            for entry in self.entries:
                ledger.replay(entry)
            ledger.start(self.now)
            # It cannot know that a worker has died in the meantime.
            assert ledger.used(self.now) >= self.ledger.used(self.now)
            assert ledger.running >= self.ledger.running
            self.ledger = ledger

    def exchange(self, worker: str, **reports: tuple) -> None:
        wanted = self.wanted[worker]
        numbers, entry = self.ledger.exchange(
            self.now, Exchange(worker=worker, wanted=tuple(wanted.items()), **reports)
        )
        if entry.changes_something:
            self.entries.append(entry)
        for number in numbers:
            del wanted[number]
            self.granted[worker].append(number)


@given(STEPS)
def test_no_interval_has_more_requests_than_the_limit_whoever_dies_or_restarts(steps: list) -> None:
    workers = Workers()
    for worker, step, seconds in steps:
        workers.step(worker, step, seconds)
        now = workers.now
        assert sum(now - PERIOD < sent for sent in workers.sent) <= LIMIT


def want(ledger: Ledger, now: float, worker: str, *numbers: int, tokens: int = 0, **reports: tuple) -> tuple:
    wanted = tuple((number, tokens) for number in numbers)
    return ledger.exchange(now, Exchange(worker=worker, wanted=wanted, **reports))[0]


def test_workers_are_granted_in_the_order_in_which_they_wanted() -> None:
    ledger = Ledger(Limits(requests=2))
    assert want(ledger, 0, "a", 1, 2, 3) == (1, 2)
    assert want(ledger, 1, "b", 1) == ()
    assert want(ledger, 1, "a", 3, sent=(1, 2), arrived=(1, 2)) == ()
    assert want(ledger, 61, "b", 1) == (1,)
    assert want(ledger, 61, "a", 3) == (3,)


def test_grant_whose_reply_was_lost_is_granted_again_and_counts_once() -> None:
    ledger = Ledger(Limits(requests=5))
    assert want(ledger, 0, "a", 1) == want(ledger, 1, "a", 1) == (1,)
    assert ledger.used(1) == (1, 0)


def test_worker_that_falls_silent_does_not_hold_up_the_others() -> None:
    ledger = Ledger(Limits(tokens=10))
    want(ledger, 0, "a", 1, tokens=10, sent=(1,), ended=((1, 10),))
    want(ledger, 0, "a", sent=(1,), ended=((1, 10),))
    assert want(ledger, 1, "silent", 1, tokens=10) == ()
    assert want(ledger, 62, "b", 1, tokens=1) == (1,)
    assert SILENT_AFTER < 61


def test_grant_of_a_worker_that_dies_counts_for_a_minute_more_and_then_is_free() -> None:
    ledger = Ledger(Limits(requests=1, concurrency=1))
    want(ledger, 0, "dies", 1)
    assert want(ledger, DEAD_AFTER, "b", 1) == ()
    for second in range(5):
        assert want(ledger, DEAD_AFTER + 1 + second, "b", 1) == ()
    assert ledger.running == 0
    assert want(ledger, DEAD_AFTER + 60, "b", 1) == ()
    assert want(ledger, DEAD_AFTER + 64, "b", 1) == (1,)


def test_tokens_that_were_not_used_are_free_and_those_beyond_the_estimate_count() -> None:
    ledger = Ledger(Limits(tokens=100))
    assert want(ledger, 0, "a", 1, 2, tokens=60) == (1,)
    assert want(ledger, 1, "a", 2, tokens=60, sent=(1,), arrived=(1,), ended=((1, 30),)) == (2,)
    want(ledger, 2, "a", sent=(2,), ended=((2, 65),))
    assert ledger.used(2) == (0, 95)


def test_request_that_was_not_sent_becomes_free_when_it_ends() -> None:
    ledger = Ledger(Limits(requests=1, concurrency=1))
    assert want(ledger, 0, "a", 1) == (1,)
    assert want(ledger, 1, "a", 2, ended=((1, None),)) == (2,)


def test_wait_that_one_worker_reports_holds_up_all() -> None:
    ledger = Ledger(Limits(requests=100))
    ledger.exchange(0, Exchange(worker="a", pause=20))
    assert want(ledger, 19, "b", 1) == ()
    assert want(ledger, 20, "b", 1) == (1,)


def test_requests_that_run_across_a_restart_without_a_log_are_reported_again() -> None:
    ledger = Ledger(Limits(concurrency=2))
    assert want(ledger, 0, "a", 3, 4, held=(1,)) == (3,)
    assert want(ledger, 1, "a", 4, ended=((1, None),)) == (4,)


def test_log_keeps_the_entries_of_another_process_and_passes_over_a_torn_line(tmp_path: Path) -> None:
    log = EntryLog(tmp_path / "limits")
    assert log.entries() is None
    ledger = Ledger(Limits(requests=3, tokens=10))
    for exchange in (
        Exchange(worker="a", wanted=((1, 4), (2, 5))),
        Exchange(worker="a", sent=(1,), ended=((1, None),)),
    ):
        log.append(ledger.exchange(1.0, exchange)[1])
    log.close()
    with (tmp_path / "limits" / "new.jsonl").open("ab") as file:
        file.write(b'["torn')
    log = EntryLog(tmp_path / "limits")
    other = Ledger(Limits(requests=3, tokens=10))
    for entry in log.entries() or ():
        other.replay(entry)
    log.close()
    assert (other.used(1.0), other.running) == (ledger.used(1.0), ledger.running) == ((2, 9), 1)


@pytest.mark.parametrize(
    "limits", [{}, {"requests_per_minute": 0}, {"concurrency": True}, {"tokens_per_minute": 1, "name": "a/b"}]
)
def test_wrong_limits_are_refused(limits: dict) -> None:
    with pytest.raises(ConfigurationError):
        ClusterLimits(**{"name": "main", **limits})
