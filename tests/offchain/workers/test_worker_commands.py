"""From a forecast to an actuator and back: the processor's rules on a real model, the sensor's own limits."""

from __future__ import annotations

import pytest
from actuator_kit import Moved, fan
from worker_world import HOUR, hours

from quietfleet.rollout.device import Device
from quietfleet.settings import CommandSection
from quietfleet.workers import _actuators as actuators
from quietfleet.workers.messages import FetchRelease, Recommendation

FIT = CommandSection("fan", 40.0, confidence=0.0, lasts=300.0)


@pytest.fixture(autouse=True)
def motions(monkeypatch):
    monkeypatch.setattr(actuators, "Motion", Moved)


@pytest.fixture
def make_fleet(world, tmp_path, candidate):
    """A fleet whose processor has a model, and these rules."""

    async def make(*rules):
        world.actuators = [fan(file="", effect="temp", gain=-0.06, lag=HOUR, settle=2 * HOUR, rest=0.0)]
        world.commands = list(rules)
        gateway = await world.found()
        gateway.agent.answers[FetchRelease] = lambda _: world.bundle(1, candidate)
        await world.release(1, candidate.manifest_hash)
        await world.until(lambda: world.workers["processor"].journal("release-installed") != [])
        return Fleet(world)

    return make


class Fleet:
    """Has the sensor measure hour after hour."""

    def __init__(self, world):
        self.world, self._hour = world, 0
        self.sensor, self.processor = world.workers["sensor"], world.workers["processor"]

    async def live(self, count):
        first, self._hour = self._hour, self._hour + count
        for start in range(first, self._hour, 6):
            self.sensor.measure(hours(min(start + 6, self._hour), 0.0)[start:])
            await self.world.pass_time(2)
        await self.world.pass_time(2)

    def issued(self):
        return self.processor.journal("command-issued")


async def test_rule__fits_the_forecast__moves_the_fan_and_its_effect_is_measured(make_fleet):
    fleet = await make_fleet(FIT)
    await fleet.live(30)
    assert fleet.issued()[0]["value"] == 40.0
    assert fleet.sensor.agent.status()["actuators"]["fan"]["value"] == 40.0
    await fleet.live(6)
    told = fleet.processor.journal("command-effect")[0]
    assert (told["did"], told["asked"]) == ("moved", 40.0)
    usual = [fields["temp"] for _, fields in hours(40, 0.0)]
    assert told["before"] in usual
    assert told["after"] < min(usual), "the room is cooler than without the fan"
    assert fleet.sensor.metric("steps_failed") == fleet.processor.metric("steps_failed") == 0


async def test_rule__goes_on_to_fit__said_again_in_time_and_not_with_each_reading(make_fleet):
    fleet = await make_fleet(FIT)
    await fleet.live(36)
    assert len(fleet.issued()) == 1
    fleet.world.clock.advance(200)  # a third of its time is left
    await fleet.world.pass_time(2)
    await fleet.live(6)
    assert len(fleet.issued()) == 2
    assert fleet.sensor.agent.status()["actuators"]["fan"]["value"] == 40.0
    assert fleet.sensor.journal("command-over")[-1]["reason"] == "replaced"


@pytest.mark.parametrize(
    "rule",
    [
        CommandSection("fan", 40.0, above=60.0, confidence=0.0),
        CommandSection("fan", 40.0, below=-60.0, confidence=0.0),
        CommandSection("fan", 40.0, confidence=1.0),
        CommandSection("fan", 40.0, confidence=0.0, advice=["dance"]),
        CommandSection("fan", 40.0, confidence=0.0, sensors=["0x" + "ab" * 20]),
    ],
    ids=["above", "below", "confidence", "advice", "sensors"],
)
async def test_rule__does_not_fit__nothing_is_said(make_fleet, rule):
    fleet = await make_fleet(rule)
    await fleet.live(36)
    assert fleet.sensor.journal("recommendation")[-1]["forecast"] is not None
    assert fleet.issued() == []


async def test_rules__several_fit__the_first_decides(make_fleet):
    fleet = await make_fleet(CommandSection("fan", 10.0, confidence=0.0), FIT)
    await fleet.live(36)
    assert [entry["value"] for entry in fleet.issued()] == [10.0]


async def test_rule__device_is_set_aside__nothing_is_said(make_fleet):
    fleet = await make_fleet(FIT)
    await fleet.processor.do(lambda: fleet.processor.agent._devices.set_aside(fleet.sensor.id, "stuck"))
    device, told = fleet.sensor.id, fleet.processor.agent._commands
    assert not told._proven(device, said(1.0))


async def test_rule__forecast_stood_in_for__nothing_is_said(make_fleet):
    fleet = await make_fleet(FIT)
    await fleet.live(30)
    told = fleet.processor.agent._commands
    assert told._proven(fleet.sensor.id, said(1.0))
    assert not told._proven(fleet.sensor.id, said(1.0, fallback="imputed from neighbours"))
    assert not told._proven(fleet.sensor.id, said(None))


async def test_rule__release_is_on_trial__nothing_is_said(make_fleet, monkeypatch):
    fleet = await make_fleet(FIT)
    monkeypatch.setattr(type(fleet.processor.agent._slot), "state", Device.TRIAL)
    await fleet.live(30)
    assert fleet.sensor.journal("recommendation")[-1]["forecast"] is not None
    assert fleet.issued() == []


async def test_rule__device_has_no_such_actuator__asked_once_a_day(make_fleet):
    fleet = await make_fleet(CommandSection("door", 1.0, confidence=0.0, lasts=10.0))
    await fleet.live(60)
    assert len(fleet.issued()) == 1
    fleet.world.clock.advance(86_400)
    await fleet.world.pass_time(60)
    await fleet.live(12)
    assert len(fleet.issued()) == 2


async def test_rule__device_refuses__not_said_again_before_that_was_over(make_fleet):
    fleet = await make_fleet(CommandSection("fan", 400.0, confidence=0.0, lasts=60.0))
    await fleet.live(36)
    assert len(fleet.issued()) == 1
    await fleet.world.pass_time(60)
    await fleet.live(6)
    assert len(fleet.issued()) == 2


async def test_processor__killed_after_it_said_so__does_not_say_it_again(make_fleet):
    fleet = await make_fleet(FIT)
    await fleet.live(30)
    fleet.processor.restart()
    await fleet.live(6)
    assert len(fleet.issued()) == 1


def said(forecast, fallback=""):
    return Recommendation(1, "x", forecast, 0.9, 3.0, 1, fallback)
