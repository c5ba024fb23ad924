"""Real processes that kill themselves at a step of their work, drawn by a seed, and are back with nothing lost."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from test_system_crash import again

pytestmark = pytest.mark.second_fleet
VICTIMS = ["oracle", "gateway", "processor-1", "sensor-2", "relay-2"]
DEATHS = int(os.environ.get("QUIETFLEET_DEATHS", "1"))  # of each
STEPS = 400  # about as many as a busy worker takes in a few seconds
ALIVE = 90.0  # seconds after which one that has not died does too little to


def die_at(system, name, step):
    """Have a worker started again so that it kills itself before a step; it counts from the beginning of its work."""
    member = system.fleet.members[name]
    system.fleet.kill(name)
    program, member.program = member.program, ("quietfleet.testbed.mortal", member.kind.name.lower())
    member.environment = {"QUIETFLEET_DIE_AT": str(step), "QUIETFLEET_DIE_WORKING": "1"}
    try:
        system.fleet.start(name)
    finally:
        member.program, member.environment = program, {}
    return member.process


@pytest.mark.parametrize("victim", VICTIMS)
async def test_kill__itself_at_a_step_of_its_work__back_at_work_with_nothing_lost(flowing, victim):
    system = flowing
    for step in random.Random(victim).sample(range(1, STEPS), DEATHS):
        process = die_at(system, victim, 1 + step // 8 if victim.startswith("relay") else step)
        await system.until(f"{victim} dies", lambda process=process: process.poll() is not None, within=ALIVE)
        assert process.returncode == -signal.SIGKILL
        system.check_database(victim)
        begun = time.time()
        system.fleet.start(victim)
        await system.until(f"{victim} is back", lambda begun=begun: again(system, victim, begun))
    await system.flowing()
    system.check_nothing_lost()
    system.check_nothing_twice()
