from __future__ import annotations

import time

from system_fleet import IGNORED

from quietfleet.chain.types import Kind


async def test_disable__a_processor__its_sensors_move_and_it_serves_nobody(flowing):
    system = flowing
    processor = system.processor_of("sensor-2")
    worker = system.fleet.members[processor].id
    sensors = [s for s in system.named(Kind.SENSOR) if system.processor_of(s) == processor]
    begun = time.time()
    async with system.switched_off(processor):
        await system.until("its sensors sever", lambda: all(system.severed(s, worker, begun) for s in sensors))
        severed = max(system.severed(s, worker, begun)[0].at for s in sensors)
        await system.until(
            "its sensors are answered by another",
            lambda: all(any(e.detail["processor"] != worker for e in system.answers(s, severed)) for s in sensors),
        )
        await system.until("it knows", lambda: bool(system.since(processor, "switched-off", begun)))
        await system.until("it is in session with nobody", lambda: system.sessions(processor) == set())
        assert system.since(processor, "readings", system.since(processor, "switched-off", begun)[0].at) == []
        assert not [e for s in sensors for e in system.answers(s, severed) if e.detail["processor"] == worker]
        system.check_nothing_lost()
    await system.until("it is back with the oracle", lambda: system.sessions(processor) != set())


async def test_disable__a_sensor_that_does_not_listen__ignored_counted_and_never_answered(flowing):
    system = flowing
    name = "sensor-1"
    device = system.fleet.members[name].id
    processor = system.processor_of(name)
    before = system.fleet.metric(processor, IGNORED)
    begun = time.time()
    async with system.switched_off(name):
        # its own reading of the chain too: that the deal is over may reach it as the oracle's word before that
        await system.until("it knows", lambda: bool(system.since(name, "switched-off", begun)))
        await system.until(
            "the others sever it", lambda: all(system.severed(n, device, begun) for n in (processor, "oracle"))
        )
        severed = system.severed(processor, device, begun)[0].at
        with system.faulty(name, ignore_severing=True):
            await system.until("it is counted", lambda: system.fleet.metric(processor, IGNORED) >= before + 3)
            taken = [e for e in system.fleet.journal(processor, "readings") if e.detail["sensor"] == device]
            assert [e for e in taken if e.at >= severed] == []
            last = taken[-1].detail["first"] + taken[-1].detail["rows"] - 1
            assert system.answers(name)[-1].detail["through"] <= last
            assert device not in system.sessions(processor)
        await system.until(
            "it is repaired", lambda: system.fleet.journal(name, "fault")[-1].detail == {"ignore_severing": False}
        )
    await system.flowing()


async def test_start__before_enrolment__waits_and_works_afterwards(flowing):
    system = flowing
    name = "sensor-3"
    system.add_sensor(name, "EWR", owner=10)
    try:
        system.fleet.start(name)
        await system.until("it follows the chain", lambda: system.fleet.status(name).get("configuration") == 1)
        block = system.fleet.status(name)["block"]
        await system.until("some blocks pass", lambda: system.fleet.status(name)["block"] >= block + 3)
        assert system.sessions(name) == set()
        assert system.fleet.status(name)["measured"] == 0
        await system.fleet.enrol([name])
        await system.until("it is answered", lambda: len(system.answers(name)) >= 2)
        assert [e.detail for e in system.fleet.journal(name, "registered")] == [{"usable": True}]
    finally:
        system.terminate(name)
        del system.fleet.members[name]


async def test_rotate__while_readings_flow__everyone_moves_on_and_nothing_is_lost(flowing):
    system = flowing
    talkers = system.named(Kind.ORACLE, Kind.GATEWAY, Kind.PROCESSOR, Kind.SENSOR)
    version = system.fleet.status("oracle")["configuration"]
    opened = {s: len(system.fleet.journal(s, "session-open")) for s in system.named(Kind.SENSOR)}
    await system.rotate()
    await system.until(
        "everyone retires the old version",
        lambda: all(
            {"version": version} in [e.detail for e in system.fleet.journal(n, "epoch-retired")] for n in talkers
        ),
    )
    await system.flowing()
    assert {s: len(system.fleet.journal(s, "session-open")) for s in system.named(Kind.SENSOR)} == opened
    system.check_nothing_lost()
