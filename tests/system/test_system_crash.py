from __future__ import annotations

import time

import pytest

from quietfleet.chain.types import Kind

VICTIMS = ["relay-1", "oracle", "gateway", "processor-1", "processor-2", "sensor-2"]


def again(system, victim, begun):
    """Whether a worker that was started again does its part."""
    status = system.fleet.status(victim)
    process = system.fleet.members[victim].process
    if status.get("pid") != process.pid or not status["running"] or not status["peers"] or status["stale"]:
        return False
    match system.fleet.members[victim].kind:
        case Kind.GATEWAY | Kind.ORACLE:
            return len(status["sessions"]) >= 2
        case Kind.PROCESSOR:
            return status["configuration"] >= 1
        case Kind.SENSOR:
            return len(system.answers(victim, begun)) >= 2
        case _:
            return True


@pytest.mark.parametrize("victim", VICTIMS)
async def test_kill__at_any_moment_while_readings_flow__whole_on_disk_and_back_at_work(flowing, victim):
    system = flowing
    await system.moment(1.5)
    system.fleet.kill(victim)
    length = system.check_database(victim)
    begun = time.time()
    system.fleet.start(victim)
    await system.until(f"{victim} is back", lambda: again(system, victim, begun))
    await system.flowing()
    assert system.check_database(victim) > length
    system.check_nothing_lost()


async def test_kill__everyone_at_once__the_fleet_comes_back_by_itself(flowing):
    system = flowing
    everyone = system.named(*Kind)
    for name in everyone:
        system.fleet.kill(name)
    for name in everyone:
        system.check_database(name)
    system.fleet.start(*system.fleet.members)
    await system.flowing()
    system.check_nothing_lost()
