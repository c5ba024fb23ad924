"""Closed on an old head: entered once when it begins and ends, and said in words that tell the causes apart."""

from __future__ import annotations

import pytest
from worker_world import MAX_AGE

from quietfleet.chain.types import Kind
from quietfleet.errors import ChainUnavailable
from quietfleet.workers._sight import SETTLE, Sight


class Watched:
    """A watch whose latest step failed, or not."""

    def __init__(self, error=None):
        self.failing, self.last_error = error is not None, error


class Timer:
    """A steady timer that goes with the world's clock, but for the jumps that the test makes."""

    def __init__(self, clock):
        self.clock, self.jumped = clock, 0.0

    def __call__(self):
        return self.clock.now() - self.jumped

    def jump(self, seconds):
        self.jumped += seconds
        self.clock.advance(seconds)


@pytest.fixture
def timer(fleet, sensor):
    timer = Timer(fleet.clock)
    sensor.runtime.sight = Sight(sensor.runtime, timer)
    return timer


def entries(worker):
    return [kind for kind in worker.kinds() if kind in {"chain-stale", "chain-fresh"}]


async def blind(fleet, seconds=MAX_AGE + 10):
    fleet.chain_runs = False
    await fleet.pass_time(seconds, step=5)


async def test_sight__all_is_well__nothing_entered_and_said_so(fleet, sensor, timer):
    await fleet.pass_time(30)
    assert entries(sensor) == []
    assert sensor.runtime.status()["chain"] == f"block {sensor.runtime.replica.head.number}, 0 s old"


async def test_sight__chain_goes_out_and_comes_back__each_entered_once_with_block_and_age(fleet, sensor, timer):
    await blind(fleet)
    await fleet.pass_time(30, step=5)
    head = sensor.runtime.replica.head
    (entry,) = sensor.journal("chain-stale")
    assert (entry["block"], entry["age"]) == (head.number, 25)
    fleet.chain_runs = True
    await fleet.pass_time(5)
    (entry,) = sensor.journal("chain-fresh")
    assert entry == {"block": head.number + 1, "age": 0}
    await blind(fleet)
    assert entries(sensor) == ["chain-stale", "chain-fresh", "chain-stale"]


async def test_sight__restart_in_between__neither_entered_twice_nor_forgotten(fleet, sensor):
    await blind(fleet)
    sensor.restart()
    await fleet.pass_time(2 * SETTLE)
    assert entries(sensor) == ["chain-stale"]
    sensor.restart()
    fleet.chain_runs = True
    await fleet.pass_time(2)
    assert entries(sensor) == ["chain-stale", "chain-fresh"]


async def test_sight__start_after_a_night__nothing_entered_while_newer_blocks_are_read(fleet, sensor):
    sensor.crash()
    fleet.chain_runs = False
    await fleet.pass_time(3600, step=600)
    sensor.start()
    sensor.runtime._reconcile()
    await fleet.run(rounds=1)
    assert sensor.runtime.registry.stale
    fleet.chain_runs = True
    await fleet.pass_time(SETTLE + 2)
    assert entries(sensor) == []


async def test_sight__entry_rolled_back_with_its_step__entered_by_the_next(fleet, sensor, timer, monkeypatch):
    fleet.chain_runs = False
    with monkeypatch.context() as broken:

        def fail():
            raise ZeroDivisionError

        broken.setattr(sensor.runtime.messenger, "wanted", fail)
        await fleet.pass_time(MAX_AGE + 5, step=5)
        assert entries(sensor) == []
    await fleet.pass_time(1)
    assert entries(sensor) == ["chain-stale"]


async def test_words__endpoint_is_down__its_error_in_a_sentence_and_never_its_address(fleet, sensor, timer):
    await blind(fleet)
    sensor.runtime.sight.watch = Watched(ChainUnavailable("https://node.example/v3/secret-key"))
    words = sensor.runtime.status()["chain"]
    assert "s old, the limit is 20." in words
    assert "does not answer" in words
    assert "secret-key" not in words


async def test_words__endpoint_answers_with_old_blocks__says_what_it_may_be(fleet, sensor, timer):
    await blind(fleet)
    sensor.runtime.sight.watch = Watched()
    assert "the chain stands still" in sensor.runtime.status()["chain"]


@pytest.mark.parametrize("seconds", [86_400, -86_400])
async def test_words__this_machines_clock_jumped__told_apart(fleet, sensor, timer, seconds):
    await fleet.pass_time(2)
    timer.jump(seconds)
    await sensor.beat()
    assert sensor.runtime.registry.stale
    assert f"clock jumped by {seconds:+d} s" in sensor.runtime.status()["chain"]
    assert "set it right" in sensor.journal("chain-stale")[-1]["why"]
    timer.jump(-seconds)
    await sensor.beat()
    assert entries(sensor) == ["chain-stale", "chain-fresh"]


async def test_words__clock_is_slow_from_the_start__told_apart(fleet, sensor, timer):
    timer.clock.advance(-3600)
    timer.jumped = 0.0
    sensor.runtime.sight = Sight(sensor.runtime, timer)
    assert "ahead of this machine's clock" in sensor.runtime.status()["chain"]


async def test_words__nothing_read_yet__says_so(world):
    sensor = await world.add("sensor", Kind.SENSOR, enrol=False)
    assert "no block was read yet" in sensor.runtime.status()["chain"]
