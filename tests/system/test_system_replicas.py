"""An oracle of three real processes: killed in the middle of deals, their store taken away and brought back."""

from __future__ import annotations

import signal
import time

import pytest
from system_fleet import System, standing

from quietfleet.chain.deployment import save_deployment
from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey
from quietfleet.testbed import redis as testbed
from quietfleet.testbed.contracts import compile_contracts, deploy
from quietfleet.testbed.fleet import SITE

REPLICAS = ("oracle", "oracle-2", "oracle-3")
PROCESSORS = ("processor-1", "processor-2")
PASSWORD = "a-word-for-this-test"


class Replicated(System):
    """A chain, two relays, three replicas of an oracle, two processors, and sensors that come one after the other."""

    def people(self, store):
        self.fleet.data = {"start": "2013-03-20", "epoch": time.time(), "speed": 3600.0}
        self.relays = self.fleet.add_relays(2, owner=11)
        key = PrivateKey.generate(self.fleet.random)
        for name in REPLICAS:
            self.add(name, Kind.ORACLE, owner=4, key=key, oracle={"store": store})
        self.add("gateway", Kind.GATEWAY, owner=5)  # its card belongs to a configuration; it need not run
        for index in (1, 2):
            self.add(f"processor-{index}", Kind.PROCESSOR, owner=5 + index, processor={"site": SITE, "capacity": 8})
        for index in range(1, 6):
            self.add_sensor(f"sensor-{index}", "JFK", owner=8)

    def add(self, name, kind, *, owner, **sections):
        network = {"peers": self.relays, "stem": "off", "ttl": 20}
        return super().add(name, kind, owner=owner, network=network, **sections)

    async def found(self, owner, artifacts):
        place = await deploy(self.anvil.url, self.anvil.chain_id, artifacts, owner, fee=1000)
        save_deployment(self.fleet.deployment, place)

    async def begin(self):
        """Enrol everybody, once each; start the services and wait until their offers are known."""
        twins = set(REPLICAS[1:])
        await self.fleet.enrol(name for name in self.fleet.members if name not in twins)
        self.fleet.start("relay-1", "relay-2", *REPLICAS, *PROCESSORS)
        await self.until("three replicas", lambda: all(len(self.replicas(name)["members"]) == 3 for name in REPLICAS))
        await self.rotate()
        await self.until("both offers are listed", lambda: all(self.offers(n) for n in PROCESSORS))

    def replicas(self, name):
        return {"members": [], "leads": False} | self.fleet.status(name).get("replicas", {})

    def leader(self):
        members = [name for name in REPLICAS if self.fleet.members[name].running]
        return next((name for name in members if self.replicas(name)["leads"]), members[0])

    def offers(self, name):
        return self.fleet.journal(name, "offer-listed") or self.sessions(name)

    def met(self, *sensors):
        return all(self.fleet.journal(sensor, "session-open") and self.served(sensor) for sensor in sensors)

    def served(self, sensor):
        """How often a processor has opened a session with a sensor."""
        opened = [one for name in PROCESSORS for one in self.fleet.journal(name, "session-open")]
        return [one.detail["peer"] for one in opened].count(self.fleet.members[sensor].id)

    def check_once(self, *sensors):
        """Each sensor found one processor, by one deal, and each knows of the same session."""
        for sensor in sensors:
            assert len(self.fleet.journal(sensor, "session-open")) == 1, self.account()
            assert self.served(sensor) == 1, self.account()

    async def sought(self, begun):
        """Wait until a replica has taken in that somebody seeks; return its name."""
        await self.until("somebody seeks", lambda: self._heard(begun) is not None)
        return self._heard(begun)

    def _heard(self, begun):
        taken = {name: self.since(name, "accepted", begun) for name in REPLICAS}
        return next((n for n, one in taken.items() if any(e.detail["what"] == "dispatch.seek/1" for e in one)), None)


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def store(request, tmp_path_factory):
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path_factory.mktemp('shared')}/oracle.db", None
        return
    if not testbed.installed():
        pytest.skip(testbed.MISSING)
    with (
        testbed.RedisServer(tmp_path_factory.mktemp("redis"), PASSWORD) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("QUIETFLEET_REDIS_PASSWORD", PASSWORD)
        yield server.url, server


@pytest.fixture
async def system(request, tmp_path, store):
    artifacts = compile_contracts(request.config.cache.mkdir("contracts"))
    with standing(Replicated, tmp_path) as system:
        await system.found(system.anvil.keys()[0], artifacts)
        system.people(store[0])
        await system.begin()
        yield system


async def test_deals__replicas_killed_and_the_store_away_in_the_middle__each_concluded_once(system, store):
    first, second, third = ("sensor-1", "sensor-2"), ("sensor-3",), ("sensor-4", "sensor-5")
    begun = time.time()
    system.fleet.start(*first)
    await system.sought(begun)
    gone = system.leader()
    system.fleet.kill(gone)
    await system.until("the first sensors are served, their leader dead", lambda: system.met(*first))
    system.check_once(*first)
    system.fleet.start(gone)
    await system.until("it is back", lambda: all(len(system.replicas(name)["members"]) == 3 for name in REPLICAS))
    if store[1] is not None:
        await outage(system, store[1], second)
    else:
        system.fleet.start(*second)
    await system.until("the next one is served", lambda: system.met(*second))
    begun = time.time()
    system.fleet.start(*third)
    system.fleet.kill(await system.sought(begun))
    await system.until("the last ones are served, whoever heard them dead", lambda: system.met(*third))
    system.check_once(*first, *second, *third)
    await paused_and_woken(system)
    assert sum(system.fleet.metric(name, "quietfleet_steps_failed_total") for name in REPLICAS) == 0
    assert system.terminate(system.leader())[0] == 0


async def paused_and_woken(system):
    """A leader sleeps until another one leads, and wakes believing it still does: it joins again as one of them."""
    sleeper = system.leader()
    process = system.fleet.members[sleeper].process
    process.send_signal(signal.SIGSTOP)
    try:
        others = [name for name in REPLICAS if name != sleeper and system.fleet.members[name].running]
        await system.until("another one leads", lambda: any(system.replicas(name)["leads"] for name in others))
    finally:
        process.send_signal(signal.SIGCONT)
    everybody = [sleeper, *others]
    await system.until(
        "it is one of them again",
        lambda: (
            all(len(system.replicas(name)["members"]) == len(everybody) for name in everybody)
            and [system.replicas(name)["leads"] for name in everybody].count(True) == 1
        ),
    )
    assert not system.replicas(sleeper)["leads"]


async def outage(system, server, sensors):
    """The store is away while somebody seeks, and comes back with all it had."""
    begun = time.time()
    system.fleet.start(*sensors)
    await system.sought(begun)
    server.kill()
    await system.until("all say that it is lost", lambda: all(system.fleet.journal(n, "store-lost") for n in REPLICAS))
    server.start()
    await system.until("all have it back", lambda: all(system.fleet.journal(n, "store-back") for n in REPLICAS))
