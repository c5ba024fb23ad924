"""The edge looks after itself, on real processes: what is wrong with a sensor is found, acted on, and over again."""

from __future__ import annotations

import time

import pytest

from quietfleet.chain.types import Kind
from quietfleet.storage import Database

FAULTY = "sensor-1"


def alarms(system, processor, cause, begun, kind="alarm"):
    """What a processor wrote down about that sensor's alarms of one cause."""
    me = system.fleet.members[FAULTY].id
    entries = [entry.detail for entry in system.since(processor, kind, begun)]
    return [entry for entry in entries if (entry["sensor"], entry["cause"]) == (me, cause)]


def stood_in(system, begun):
    """Forecasts that went on from something else than what the sensor read."""
    said = [entry.detail for entry in system.since(FAULTY, "recommendation", begun)]
    return [entry for entry in said if entry.get("fallback") and entry["forecast"] is not None]


def left_alone(system, begun):
    """Answers without a forecast: it stuck long ago and nobody is beside it, so that nothing could stand in."""
    said = [entry.detail for entry in system.since(FAULTY, "recommendation", begun)]
    return [entry for entry in said if entry.get("fallback") == "safe default" and entry["forecast"] is None]


def gone_up(system, processor):
    """Up to which moment of data time that sensor's readings have gone up."""
    with Database.observe(system.fleet.members[processor].folder / "state" / "worker.db") as database:
        sql = "SELECT uploaded FROM devices WHERE id = ?"
        return database.execute(sql, (system.fleet.members[FAULTY].id,)).fetchone()[0]


@pytest.fixture
async def advised(flowing):
    """The fleet once the faulty sensor gets forecasts; with the processor it works with."""
    system = flowing
    await system.until(
        "it gets forecasts",
        lambda: any(e.detail["forecast"] is not None for e in system.fleet.journal(FAULTY, "recommendation")[-4:]),
    )
    return system, system.processor_of(FAULTY)


async def test_stuck__alone__set_aside_asked_to_recalibrate_and_nothing_of_it_forecast_or_sent_up(advised):
    system, processor = advised
    async with system.switched_off("sensor-2"):
        begun = time.time()
        with system.faulty(FAULTY, stuck=True):
            await system.until("an alarm", lambda: alarms(system, processor, "stuck", begun))
            before = gone_up(system, processor)
            me = system.fleet.members[FAULTY].id
            await system.until(
                "it answers under its signature",
                lambda: me in [entry.detail["sensor"] for entry in system.since(processor, "recalibrated", begun)],
            )
            await system.until("nothing is forecast from it", lambda: left_alone(system, begun))
            assert gone_up(system, processor) == before
    assert {"quarantine", "recalibrate", "impute"} <= set(alarms(system, processor, "stuck", begun)[0]["actions"])
    await system.until("it is over", lambda: alarms(system, processor, "stuck", begun, "alarm-over"))
    await system.until("its readings go up again", lambda: gone_up(system, processor) > before)
    await system.flowing()


async def test_stuck__beside_a_sound_neighbour__forecast_from_a_virtual_sensor_alone(advised):
    system, processor = advised
    (other,) = set(system.named(Kind.PROCESSOR)) - {processor}
    async with system.switched_off(other):
        await system.until("both are with one", lambda: system.processor_of("sensor-2") == processor)
        await system.flowing()
        begun = time.time()
        with system.faulty(FAULTY, stuck=True):
            await system.until("an alarm", lambda: alarms(system, processor, "stuck", begun))
            await system.until("forecasts go on", lambda: len(stood_in(system, begun)) >= 3)
            assert {entry["fallback"] for entry in stood_in(system, begun)} == {"virtual sensor"}
        await system.until("it is over", lambda: alarms(system, processor, "stuck", begun, "alarm-over"))
    await system.flowing()


async def test_samples_dropped__on_real_processes__forecasts_go_on_until_they_return(advised):
    system, processor = advised
    begun = time.time()
    with system.faulty(FAULTY, drops=True):
        await system.until("an alarm", lambda: alarms(system, processor, "gap", begun))
        await system.until("forecasts go on", lambda: stood_in(system, begun))
    await system.until("it is over", lambda: alarms(system, processor, "gap", begun, "alarm-over"))
    ended = time.time()
    await system.flowing()
    await system.until("from its own readings", lambda: system.answers(FAULTY, ended))
    assert stood_in(system, ended + 5) == []


async def test_forecast__on_real_processes__moves_a_fan_which_is_off_again_once_its_owner_says_so(flowing):
    system = flowing
    begun = time.time()
    await system.until("the fan turns", lambda: system.fan.read_text() == "128\n")
    processor = system.processor_of("sensor-2")
    await system.until("its effect is told", lambda: effects(system, processor, begun))
    told = effects(system, processor, begun)[0]
    assert (told["asked"], told["value"], told["channel"]) == (128, 128, "temp")
    assert told["before"] is not None
    await system.switch("sensor-2", active=False)
    await system.until("the fan is off", lambda: system.fan.read_text() == "0\n")
    reasons = [entry.detail["reason"] for entry in system.since("sensor-2", "command-over", begun)]
    assert reasons[-1] in {"its session ended", "switched off, or out of sight of the chain"}
    await system.switch("sensor-2", active=True)
    await system.flowing()
    await system.until("the fan turns again", lambda: system.fan.read_text() == "128\n")


async def test_telemetry__on_real_processes__each_processor_knows_how_its_devices_do(flowing):
    system = flowing
    for name in ("sensor-1", "sensor-2"):
        me = system.fleet.members[name].id

        def told(me=me, name=name):
            return system.fleet.status(system.processor_of(name)).get("health", {}).get(me)

        await system.until("its health is known", told)
        assert 0 <= told()["score"] <= 100
        assert all("silent" not in reason and "told nothing" not in reason for reason in told()["reasons"])


def effects(system, processor, begun):
    """What sensor-2 told that processor of commands that moved its fan."""
    me = system.fleet.members["sensor-2"].id
    entries = [entry.detail for entry in system.since(processor, "command-effect", begun)]
    return [
        entry for entry in entries if entry["sensor"] == me and entry["did"] == "moved" and entry["after"] is not None
    ]
