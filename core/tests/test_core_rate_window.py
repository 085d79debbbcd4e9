"""The sliding window of a limit: exact whatever is reserved, sent, settled and cancelled."""

from __future__ import annotations

import math

from hypothesis import given, strategies as st
from trunkline._calls.turns import Turns
from trunkline.authoring.limits import RateWindow, Reservation

LIMIT = 10
PERIOD = 60.0

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "slow call", "cancelled call", "settle"]),
        st.integers(1, LIMIT),
        st.floats(0, 40, allow_nan=False) | st.just(0.0) | st.just(PERIOD),
    ),
    max_size=60,
)


def used_in(calls: list[tuple[float, Reservation]], start: float) -> int:
    """What the calls that were sent within a period from `start` used."""
    return sum(reservation.weight for sent, reservation in calls if start <= sent < start + PERIOD)


@given(STEPS)
def test_no_interval_has_more_than_the_limit(steps: list[tuple[str, int, float]]) -> None:
    window, now = RateWindow(LIMIT, PERIOD), 0.0
    calls: list[tuple[float, Reservation]] = []
    unsent: list[Reservation] = []
    for kind, weight, pause in steps:
        now += pause
        while unsent:  # a call that took long to be prepared
            reservation = unsent.pop()
            window.sent(reservation, now)
            calls.append((now, reservation))
        if kind == "settle":
            if calls:
                sent, reservation = calls[-1]
                used = min(weight, reservation.weight)
                window.settle(reservation, used, now)
                if now >= sent + PERIOD:
                    assert not reservation.is_counted
            continue
        now = max(now, window.ready_at(now, weight))
        assert now < math.inf
        reservation = window.reserve(weight)
        if kind == "cancelled call":
            window.cancel(reservation)
        elif kind == "slow call":
            unsent.append(reservation)
        else:
            window.sent(reservation, now)
            calls.append((now, reservation))
        assert all(used_in(calls, start) <= LIMIT for start, _ in calls)
        pending = sum(reservation.weight for reservation in unsent)
        recent = sum(reservation.weight for sent, reservation in calls if now < sent + PERIOD)
        assert window.used(now) == recent + pending


@given(STEPS, st.integers(1, LIMIT))
def test_a_call_waits_no_longer_than_it_must(steps: list[tuple[str, int, float]], weight: int) -> None:
    window, now = RateWindow(LIMIT, PERIOD), 0.0
    calls: list[tuple[float, int]] = []
    for _, amount, pause in steps:
        now = max(now + pause, window.ready_at(now + pause, amount))
        window.sent(window.reserve(amount), now)
        calls.append((now, amount))
    ready = window.ready_at(now, weight)
    assert ready == min(
        time
        for time in (now, *(sent + PERIOD for sent, _ in calls))
        if time >= now and sum(amount for sent, amount in calls if time < sent + PERIOD) + weight <= LIMIT
    )


@given(STEPS, st.lists(st.integers(1, LIMIT), min_size=1, max_size=30))
def test_no_call_is_refused_that_could_have_been_sent(steps: list[tuple[str, int, float]], queue: list[int]) -> None:
    window, now = RateWindow(LIMIT, PERIOD), 0.0
    for _, amount, pause in steps:
        now = max(now + pause, window.ready_at(now + pause, amount))
        window.sent(window.reserve(amount), now)
    certain = window.no_earlier_than(now, sum(queue))
    for amount in queue:
        now = max(now, window.ready_at(now, amount))
        window.sent(window.reserve(amount), now)
    assert certain <= now


def test_request_that_was_not_sent_keeps_its_place_however_long_it_takes() -> None:
    window = RateWindow(1, PERIOD)
    reservation = window.reserve(1)
    assert window.ready_at(10 * PERIOD, 1) == math.inf
    window.sent(reservation, 10 * PERIOD)
    assert window.ready_at(10 * PERIOD, 1) == 11 * PERIOD


def test_request_above_the_limit_is_alone() -> None:
    window = RateWindow(10, PERIOD)
    window.sent(window.reserve(1), 0.0)
    assert window.ready_at(1.0, 25) == PERIOD
    large = window.reserve(25)
    window.sent(large, PERIOD)
    assert window.ready_at(PERIOD, 1) == 2 * PERIOD
    window.settle(large, 4, PERIOD)
    assert window.ready_at(PERIOD, 6) == PERIOD


def test_what_was_used_beyond_the_reservation_counts_from_when_it_is_known() -> None:
    window = RateWindow(10, PERIOD)
    call = window.reserve(4)
    window.sent(call, 0.0)
    window.settle(call, 9, 30.0)
    assert (window.used(30.0), window.overshoot) == (9, 5)
    assert (window.used(60.0), window.used(90.0)) == (5, 0)
    window.settle(call, 15, 100.0)
    assert (window.used(100.0), window.overshoot) == (11, 16)


def test_time_that_goes_back_a_moment_changes_nothing() -> None:
    window = RateWindow(1, PERIOD)
    window.sent(window.reserve(1), 5.0)
    assert window.used(4.9) == 1
    assert window.ready_at(4.9, 1) == 65.0


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 5))
def test_turns_follow_the_weights_exactly_and_evenly(weights: list[int], rounds: int) -> None:
    turns = Turns(weights)
    chosen = [turns.next()[0] for _ in range(sum(weights) * rounds)]
    assert [chosen.count(number) for number in range(len(weights))] == [weight * rounds for weight in weights]


def test_each_turn_names_all_once() -> None:
    turns = Turns((3, 1, 1))
    assert all(sorted(turns.next()) == [0, 1, 2] for _ in range(10))


TRAVEL = 2.0

TRIPS = st.lists(
    st.tuples(
        st.floats(0, 40, allow_nan=False) | st.just(0.0),
        st.floats(0, TRAVEL, allow_nan=False),
        st.floats(0, 10, allow_nan=False),
    ),
    max_size=40,
)


@given(TRIPS)
def test_no_interval_of_the_server_has_more_however_long_requests_travel(
    trips: list[tuple[float, float, float]],
) -> None:
    window, now = RateWindow(3, PERIOD, TRAVEL), 0.0
    arrivals: list[float] = []
    answers: list[tuple[float, Reservation]] = []
    for pause, travel, answered_after in trips:
        wanted = now + pause
        while True:
            ready = window.ready_at(now, 1)
            upcoming = min((when for when, _ in answers), default=math.inf)
            now = max(now, min(upcoming, max(wanted, ready)))
            for when, reservation in [answer for answer in answers if answer[0] <= now]:
                window.arrived(reservation, now)
                answers.remove((when, reservation))
            if now >= wanted and window.ready_at(now, 1) <= now:
                break
        reservation = window.reserve(1)
        window.sent(reservation, now)
        arrivals.append(now + travel)
        answers.append((now + travel + answered_after, reservation))
        assert all(sum(start <= other < start + PERIOD for other in arrivals) <= 3 for start in arrivals)


def test_period_begins_when_the_response_arrives_or_the_request_has_had_time_to_travel() -> None:
    window = RateWindow(1, PERIOD, TRAVEL)
    quick = window.reserve(1)
    window.sent(quick, 0.0)
    assert window.ready_at(0.0, 1) == PERIOD + TRAVEL
    window.arrived(quick, 0.5)
    assert window.ready_at(0.5, 1) == PERIOD + 0.5
    slow = window.reserve(1)
    window.sent(slow, 100.0)
    window.arrived(slow, 130.0)
    assert window.ready_at(130.0, 1) == 100.0 + PERIOD + TRAVEL
