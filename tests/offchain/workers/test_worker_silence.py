"""Who is silent: devices at a processor, and processors at the gateway."""
# ruff: noqa: F811 -- fixtures are imported, and asked for by their names

from __future__ import annotations

import pytest
from test_worker_gateway import (  # noqa: F401 - fixtures
    SUMMER,
    bring,
    cloud,
    founded,
    gateway,
    idle,
    pipeline,
    releases,
    report_outcome,
    say,
)
from worker_world import DAY, HOUR, SITE

from quietfleet.clock import ManualClock
from quietfleet.workers._hearing import LIMIT, LOOK_EVERY
from quietfleet.workers._silence import QUIET, SILENT, Silence
from quietfleet.workers.messages import Upload

EVERY = 1.0


@pytest.fixture
def clocks():
    return ManualClock(), ManualClock(0.0)


@pytest.fixture
def silence(clocks):
    return Silence(*clocks)


def test_silent__both_clocks_say_so__and_not_one_alone(clocks, silence):
    clock, data = clocks
    assert silence.silent({"a", "b"}, EVERY) == set()
    data.advance(SILENT)
    clock.advance(QUIET)
    assert silence.silent({"a", "b"}, EVERY) == set(), "what is on its way is not lost"
    clock.advance(1)
    silence.came("b")
    assert silence.silent({"a", "b"}, EVERY) == {"a"}
    clock.advance(QUIET)
    assert silence.silent({"a", "b"}, EVERY) == {"a"}, "b was heard less than four hours of data time ago"


def test_silent__newcomer__has_its_time_from_then(clocks, silence):
    clock, data = clocks
    silence.silent({"a"}, EVERY)
    for _ in range(4):
        data.advance(SILENT)
        clock.advance(QUIET)
        silence.silent({"a"}, EVERY)
    assert silence.silent({"a", "b"}, EVERY) == {"a"}


@pytest.mark.parametrize("jump", [QUIET + 1, 10 * DAY, -DAY])
def test_silent__nobody_asked_for_long_or_a_clock_was_set__everybody_has_their_time_again(clocks, silence, jump):
    clock, data = clocks
    silence.silent({"a"}, EVERY)
    data.advance(SILENT)
    clock.advance(jump)
    assert silence.silent({"a"}, EVERY) == set()


def test_silent__device_that_left__is_forgotten(silence):
    silence.came("a")
    silence.silent({"b"}, EVERY)
    assert silence._heard.keys() == {"b"}


# the gateway's view


@pytest.fixture
async def two(cloud, say):
    """A gateway to which two processors have brought readings."""
    cloud.reach(SUMMER)
    for name in ("processor-1", "processor-2"):
        await say(name, Upload("leaf", SITE, [(SUMMER - HOUR, {"temp": 20.0})]))
    await cloud.pass_time(LOOK_EVERY + 1)
    return cloud


async def test_processor__silent_for_longer_than_any_that_lives__counted_and_heard_again(two, gateway, say):
    two.reach(SUMMER + LIMIT / 2)
    await say("processor-1", Upload("leaf", SITE, [(SUMMER + HOUR, {"temp": 20.0})]))
    two.reach(SUMMER + LIMIT)
    await two.pass_time(LOOK_EVERY + 1)
    assert gateway.metric("processors_silent") == 1
    (entry,) = gateway.journal("processor-silent")
    assert entry["who"] not in {worker.id for worker in two.workers.values()}, "a gateway's journal names nobody"
    await say("processor-2", Upload("leaf", SITE, [(SUMMER + 2 * HOUR, {"temp": 20.0})]))
    await two.pass_time(LOOK_EVERY + 1)
    assert gateway.metric("processors_silent") == 0
    assert gateway.journal("processor-heard") == [entry]
    assert len(gateway.journal("processor-silent")) == 1


async def test_processor__switched_off__is_not_missed(two, gateway):
    await two.switch(two.workers["processor-2"], active=False)
    two.reach(SUMMER + LIMIT)
    await two.pass_time(LOOK_EVERY + 1)
    assert gateway.metric("processors_silent") == 1
    assert len(gateway.journal("processor-silent")) == 1
