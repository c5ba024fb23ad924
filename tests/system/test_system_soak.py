"""Minutes of everything at once, drawn by a seed: toggles, rotations, kills, partitions, outages of the chain.

`QUIETFLEET_SOAK` names the seconds, `QUIETFLEET_SOAK_SEED` the seed. At the end everybody's view must be the chain's.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

from quietfleet.chain.replica import Replica
from quietfleet.chain.service import ServiceContract
from quietfleet.chain.types import Kind
from quietfleet.storage import Database

SECONDS = float(os.environ.get("QUIETFLEET_SOAK", "45"))
SEED = int(os.environ.get("QUIETFLEET_SOAK_SEED", "2013"))
FROZEN = 4.0  # seconds a process stands still, at most
DARK = 5.0  # seconds the chain is out, at most
CALM = 12.0  # seconds after which the next configuration may be put on chain


class Soak:
    """What happens to a fleet, one thing after another."""

    def __init__(self, system, seed):
        self.system, self.dice = system, random.Random(seed)
        self.rotated = 0.0
        self.done = dict.fromkeys(("toggle", "rotate", "kill", "freeze", "dark"), 0)

    async def something(self):
        """Let one thing happen."""
        (name,) = self.dice.choices(list(self.done), weights=(3, 2, 4, 3, 1))
        if name == "rotate" and time.monotonic() < self.rotated + CALM:
            name = "kill"
        await getattr(self, name)()
        self.done[name] += 1
        await self.system.moment(1.5)

    async def toggle(self):
        name = self.dice.choice(self.system.named(Kind.SENSOR, Kind.PROCESSOR))
        async with self.system.switched_off(name):
            await self.system.moment(2.0)

    async def rotate(self):
        await self.system.rotate()
        self.rotated = time.monotonic()

    async def kill(self):
        name = self.dice.choice(self.system.named(*Kind))
        self.system.fleet.kill(name)
        self.system.check_database(name)
        await self.system.moment(1.0)
        self.system.fleet.start(name)

    async def freeze(self):
        """A part of the network, or a worker, stands still: to the others it is away."""
        names = self.dice.sample(self.system.named(*Kind), 2)
        processes = [self.system.fleet.members[name].process for name in names]
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            await self.system.moment(FROZEN)
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)

    async def dark(self):
        """The chain's endpoint is down."""
        self.system.anvil.stop()
        try:
            await self.system.moment(DARK)
        finally:
            self.system.anvil.start()


def replica_of(system, name):
    """What a worker has read of the chain: every registration, the configuration, the releases."""
    member = system.fleet.members[name]
    with Database(member.folder / "state" / "worker.db") as database:
        replica = Replica(database)
        workers = {one.id: one for one in replica.workers()}
        return workers, replica.configuration()[0]


async def agree(system):
    """Everybody's view is the same, and is what the contract says."""
    async with system._client() as client:
        latest, _ = await ServiceContract(client).configuration()
    everyone = system.named(*Kind)

    def same():
        views = [replica_of(system, name) for name in everyone]
        configured = all(view[1] is not None and view[1].version == latest.version for view in views)
        registered = {member.id for member in system.fleet.members.values()}
        known = all(registered <= set(view[0]) and view[0] == views[0][0] for view in views)
        return configured and known

    await system.until("everybody has read the same chain", same)
    workers, _ = replica_of(system, "oracle")
    for member in system.fleet.members.values():
        assert workers[member.id].usable, member.name
        assert workers[member.id].kind is member.kind


async def test_soak__everything_that_may_happen__nothing_lost_nothing_twice_and_all_views_are_the_chains(flowing):
    system, soak = flowing, Soak(flowing, SEED)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        await soak.something()
    assert sum(soak.done.values()) > 0
    await system.flowing()
    await agree(system)
    for name in system.named(*Kind):
        assert system.check_database(name) > 0
        for peer in system.sessions(name):
            assert peer in {member.id for member in system.fleet.members.values()} or name == "oracle"
    system.check_nothing_lost()
    system.check_nothing_twice()
