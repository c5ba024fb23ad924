"""Minutes of everything at once, drawn by a seed: toggles, rotations, kills, partitions, outages of the chain.

`QUIETFLEET_SOAK` names the seconds, `QUIETFLEET_SOAK_SEED` the seed. At the end everybody's view must be the chain's.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import contextmanager, suppress

from quietfleet.chain.releases import ReleasesContract
from quietfleet.chain.replica import Replica
from quietfleet.chain.service import ServiceContract
from quietfleet.chain.types import Kind
from quietfleet.crypto import keccak256
from quietfleet.storage import Database

SECONDS = float(os.environ.get("QUIETFLEET_SOAK", "45"))
SEED = int(os.environ.get("QUIETFLEET_SOAK_SEED", "2013"))
FROZEN = 4.0  # seconds a process stands still, at most
DARK = 5.0  # seconds the chain is out, at most
WEATHER = keccak256(b"weather")
CALM = 12.0  # seconds after which the next configuration may be put on chain


class Soak:
    """What happens to a fleet, one thing after another."""

    def __init__(self, system, seed):
        self.system, self.dice = system, random.Random(seed)
        self.rotated = 0.0
        self.done = dict.fromkeys(("toggle", "rotate", "kill", "freeze", "dark"), 0)

    async def something(self):
        """Let one thing happen: each kind once, in any order, and then whatever the dice say."""
        missing = [name for name, times in self.done.items() if not times]
        (name,) = (
            [self.dice.choice(missing)] if missing else self.dice.choices(list(self.done), weights=(3, 2, 4, 3, 1))
        )
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


@contextmanager
def view_of(system, name):
    """What a worker has read of the chain, beside the running worker."""
    member = system.fleet.members[name]
    with Database.observe(member.folder / "state" / "worker.db") as database:
        yield Replica(database, member.key.to_bytes())  # a gateway's is sealed


async def agree(system):
    """Everybody's view is what the contracts say: registrations, configuration, relays to begin with, releases."""
    members = system.fleet.members.values()
    async with system._client() as client:
        service, releases = ServiceContract(client), ReleasesContract(client)
        latest, _ = await service.configuration()
        relays, head = await service.bootstrap(), await releases.head(WEATHER)
        registered = {member.id: await service.worker(member.id) for member in members}

    def as_the_chain_says(name):
        with view_of(system, name) as replica:
            known = replica.configuration()[0]
            sequences = {member.id: replica.worker(member.id) for member in members}
            return (
                known is not None
                and known.version == latest.version
                and known.epoch_key_commitment == latest.epoch_key_commitment
                and replica.bootstrap() == relays
                and replica.channel(WEATHER).head == head
                and all(
                    one is not None and one.usable and one.sequence == registered[id_].sequence
                    for id_, one in sequences.items()
                )
            )

    for name in system.named(*Kind):
        await system.until(f"{name} has read the chain", lambda name=name: as_the_chain_says(name))


def check_sessions(system, name):
    """Whoever is in session may be; the oracle's and the gateway's status names nobody."""
    peers, member = system.sessions(name), system.fleet.members[name]
    if member.kind in (Kind.ORACLE, Kind.GATEWAY):
        assert len(peers) < len(system.fleet.members)
        return
    with view_of(system, name) as replica:
        assert [peer for peer in peers if not replica.can_cooperate(member.id, peer)] == []


async def test_soak__everything_that_may_happen__nothing_lost_nothing_twice_and_all_views_are_the_chains(flowing):
    system, soak = flowing, Soak(flowing, SEED)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until or not all(soak.done.values()):
        await soak.something()
    await system.flowing()
    await agree(system)
    for name in system.named(*Kind):
        assert system.check_database(name) > 0
        check_sessions(system, name)
    system.check_nothing_lost()
    system.check_nothing_twice()
