"""A processor knows when readings come: a clock that is off shows against the neighbours', a slow link does not."""

from __future__ import annotations

import pytest

from quietfleet.clock import ManualClock
from quietfleet.monitor import FindingKind
from quietfleet.workers._clocks import Arrivals

HOUR = 3600.0
SPEED = 600.0  # data time runs so much faster


@pytest.fixture
def arrivals():
    return Arrivals(ManualClock(), ManualClock())


@pytest.fixture
def deliver(arrivals):
    """Have devices deliver hourly readings; each device's clock is off by so much, and its link so slow."""

    def deliver(hours, errors, late=None):
        late = late or {}
        waiting = []
        for _ in range(hours):
            arrivals._clock.advance(HOUR / SPEED)
            arrivals._data_clock.advance(HOUR)
            now = arrivals._data_clock.now()
            waiting += [(now + late.get(device, 60.0), device, now + error) for device, error in errors.items()]
            for due in [one for one in waiting if one[0] <= now]:
                waiting.remove(due)
                arrivals.came(due[1], due[2])

    return deliver


def off(arrivals, devices):
    return {device: found.detail for device in devices if (found := arrivals.skew(device))}


def test_skew__one_clock_nine_hours_behind__is_told_and_no_other(arrivals, deliver):
    deliver(48, {"a": 0.0, "b": 0.0, "c": -9 * HOUR, "d": 0.0})
    assert off(arrivals, "abcd") == {"c": "9.0 h behind"}
    assert arrivals.skew("c").kind is FindingKind.CLOCK


def test_skew__one_clock_ahead__is_told(arrivals, deliver):
    deliver(48, {"a": 0.0, "b": 0.0, "c": 9 * HOUR})
    assert off(arrivals, "abc") == {"c": "9.0 h ahead"}


def test_skew__everything_takes_a_day__is_the_link(arrivals, deliver):
    deliver(80, dict.fromkeys("abc", 0.0), late=dict.fromkeys("abc", 24 * HOUR))
    assert off(arrivals, "abc") == {}


def test_skew__within_half_a_minute_of_the_clock__is_the_machine(arrivals, deliver):
    deliver(48, {"a": 0.0, "b": 0.0, "c": -25 * SPEED})
    assert off(arrivals, "abc") == {}


@pytest.mark.parametrize("errors", [{"a": -9 * HOUR}, {"a": -9 * HOUR, "b": 0.0}])
def test_skew__too_few_neighbours__nothing_is_said(arrivals, deliver, errors):
    deliver(48, errors)
    assert off(arrivals, errors) == {}


def test_skew__one_liar_of_three__cannot_have_another_accused(arrivals, deliver):
    """Readings stamped at will, here ever later: the one beside it that agrees with the accused speaks for it."""
    for lie in (-1000 * HOUR, 1000 * HOUR):
        deliver(48, {"honest": 0.0, "also": 0.0, "liar": lie})
        assert set(off(arrivals, ("honest", "also"))) == set()


def test_forget__device_has_set_its_clock__is_judged_by_what_it_reads_then(arrivals, deliver):
    deliver(48, {"a": 0.0, "b": 0.0, "c": -9 * HOUR})
    arrivals.forget("c")
    deliver(20, dict.fromkeys("abc", 0.0))
    assert off(arrivals, "abc") == {}


def test_keep__devices_that_left__are_forgotten(arrivals, deliver):
    deliver(48, {"a": 0.0, "b": 0.0, "c": -9 * HOUR})
    arrivals.keep("bc")
    assert set(arrivals._came) == {"b", "c"}
