"""A configuration that keeps the keys of the one before, as one that answers a flood does, costs nobody anything."""

from __future__ import annotations

import pytest
from worker_world import hours

from quietfleet.chain.types import Kind
from quietfleet.whisper import pow_of

KEYED = ("epoch-key", "epoch-key-granted", "epoch-retired", "session-open", "session-closed", "severed")


@pytest.fixture
def keyed(fleet):
    """Everything about keys and sessions that the workers have noted so far."""
    return lambda: {name: [kind for kind in worker.kinds() if kind in KEYED] for name, worker in fleet.workers.items()}


async def test_keys_kept__least_work_raised__nobody_re_keys_and_readings_flow_on(fleet, keyed):
    sensor, before = fleet.workers["sensor"], keyed()
    fleet.wire.clear()
    await fleet.keep_keys(min_pow=0.001)
    sensor.measure(hours(3, 0.0))
    await fleet.run()
    assert sum(entry["rows"] for entry in sensor.journal("recommendation")) == 3
    assert all(pow_of(envelope) >= 0.001 for _, envelope in fleet.wire)
    await fleet.pass_time(20)
    assert keyed() == before
    for worker in fleet.workers.values():
        assert worker.node.rules.min_pow == 0.001
        assert worker.journal("configuration")[-1]["version"] == 2
        assert worker.runtime.messenger.epochs.live(fleet.clock.now()) == [1]


async def test_keys_kept__worker_restarted_since__goes_on_with_them(fleet, keyed):
    await fleet.keep_keys(min_pow=0.001)
    sensor, before = fleet.workers["sensor"], keyed()
    sensor.restart()
    sensor.measure(hours(2, 0.0))
    await fleet.pass_time(3)
    assert sum(entry["rows"] for entry in sensor.journal("recommendation")) == 2
    assert keyed() == before


async def test_keys_kept__worker_enrolled_since__gets_them(fleet):
    await fleet.keep_keys(min_pow=0.001)
    late = await fleet.add("late", Kind.PROCESSOR)
    await fleet.until(lambda: late.runtime.membership.complete)
    assert late.journal("epoch-key") == [{"version": 1}]
    epochs = fleet.workers["oracle"].runtime.messenger.epochs
    assert late.runtime.messenger.epochs.epoch_key(1) == epochs.epoch_key(1)


async def test_keys_kept__then_new_ones__everybody_moves_on_and_the_old_ones_are_erased(fleet):
    await fleet.keep_keys(min_pow=0.001)
    await fleet.rotate(grace=5)
    talkers = [fleet.workers[name] for name in ("processor", "sensor")]
    await fleet.until(lambda: all({"version": 1} in worker.journal("epoch-retired") for worker in talkers))
    for worker in talkers:
        assert worker.journal("epoch-key")[-1] == {"version": 3}
        assert worker.runtime.messenger.epochs.secrets(1) is None
    sensor = fleet.workers["sensor"]
    sensor.measure(hours(2, 0.0))
    await fleet.pass_time(3)
    assert sum(entry["rows"] for entry in sensor.journal("recommendation")) == 2
    assert len(sensor.journal("session-open")) == 1


async def test_keys_kept__while_new_ones_wait__the_old_ones_stay_in_force(fleet):
    in_force = fleet.latest
    await fleet.rotate(lead=500)
    await fleet.pass_time(5)
    await fleet.keep_keys(min_pow=0.001, of=in_force)
    sensor = fleet.workers["sensor"]
    sensor.measure(hours(2, 0.0))
    await fleet.pass_time(3)
    assert sum(entry["rows"] for entry in sensor.journal("recommendation")) == 2
    await fleet.rotate()
    await fleet.until(lambda: sensor.journal("epoch-key")[-1] == {"version": 4})
    await fleet.until(lambda: sensor.runtime.messenger.epochs.live(fleet.clock.now()) == [4])
    await fleet.pass_time(5)
    assert {entry["version"] for entry in sensor.journal("epoch-retired")} == {1, 2}
