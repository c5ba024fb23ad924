from __future__ import annotations

import pytest
from worker_world import HOUR, Source, hours

from quietfleet.chain.types import Kind
from quietfleet.testbed.faulty import FaultyRuntime, FaultySensor

PATIENCE = 20  # seconds in which a message is sent four times


@pytest.fixture
async def sensor(world):
    """A sensor that can be made deaf, in session with a processor."""
    await world.add("oracle", Kind.ORACLE)
    await world.add("processor", Kind.PROCESSOR)
    faulty = await world.add(
        "sensor", Kind.SENSOR, runtime=FaultyRuntime, agent=lambda runtime: FaultySensor(runtime, Source())
    )
    faulty.source = faulty.agent.source
    await world.rotate()
    await world.until(lambda: faulty.journal("session-open"))
    return faulty


@pytest.fixture
def deafen(tmp_path):
    def deafen(*, on=True):
        (tmp_path / "faults.json").write_text(f'{{"ignore_severing": {str(on).lower()}}}')

    return deafen


def ignored(processor):
    return processor.metric("messages_ignored", reason="severed")


async def test_deaf__switched_off_before__goes_on_sending_unheard(world, sensor, deafen):
    processor = world.workers["processor"]
    await world.switch(sensor, active=False)
    deafen()
    sensor.measure(hours(3, 0.0))
    await world.pass_time(PATIENCE)
    assert ignored(processor) >= 3
    assert sensor.journal("recommendation") == []


async def test_deaf__severed_by_the_oracles_word_and_switched_off_only_then__goes_on_sending(world, sensor, deafen):
    processor = world.workers["processor"]
    await processor.do(lambda: processor.runtime.sever(sensor.id, "the deal is over"))
    await sensor.do(lambda: sensor.runtime.sever(processor.id, "the deal is over"))
    deafen()
    await sensor.beat()
    await world.switch(sensor, active=False)
    sensor.measure(hours(3, 0.0))
    await world.pass_time(PATIENCE)
    assert ignored(processor) >= 3


async def test_deaf__after_an_older_deal_with_another__pesters_the_last_processor(world, sensor, deafen):
    first = world.workers["processor"]
    await world.switch(first, active=False)
    second = await world.add("second", Kind.PROCESSOR)
    await world.until(lambda: sensor.in_session_with(second))
    await world.switch(first, active=True)
    await world.pass_time(3)
    deafen()
    await sensor.beat()
    await world.switch(sensor, active=False)
    sensor.measure(hours(3, 0.0))
    await world.pass_time(PATIENCE)
    assert ignored(second) >= 3


async def test_repaired__switched_on_again__through_dispatch_afresh(world, sensor, deafen):
    await world.switch(sensor, active=False)
    deafen()
    await world.pass_time(PATIENCE)
    deafen(on=False)
    await world.pass_time(1)
    assert [entry["ignore_severing"] for entry in sensor.journal("fault")] == [True, False]
    assert sensor.agent.status()["processor"] is None
    await world.switch(sensor, active=True)
    await world.until(lambda: len(sensor.journal("session-open")) == 2)
    sensor.measure(hours(2, HOUR))
    await world.pass_time(3)
    assert sensor.journal("recommendation") != []
