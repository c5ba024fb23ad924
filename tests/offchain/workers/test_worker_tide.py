"""The oracle with the rotator's key, on a real chain: the least proof of work rises in a flood and falls after it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from worker_world import PASSPHRASE, Node

from quietfleet.chain.consent import Consent
from quietfleet.chain.deployment import save_deployment
from quietfleet.chain.follower import Follower
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import Rotation, ServiceContract
from quietfleet.chain.types import Kind
from quietfleet.chain.wallet import Wallet
from quietfleet.clock import ManualClock
from quietfleet.crypto import PrivateKey
from quietfleet.crypto.keystore import create_keystore
from quietfleet.errors import KeystoreError
from quietfleet.session import epoch_commitment
from quietfleet.settings import ChainSection, OracleSection, Settings, WorkerSection
from quietfleet.storage import AuditLog
from quietfleet.testbed.anvil import Anvil
from quietfleet.testbed.contracts import compile_contracts, deploy
from quietfleet.workers._runtime import Runtime
from quietfleet.workers.oracle import Oracle
from quietfleet.workers.start import make_agent

FAR = 2**40
EPOCH_KEY = b"e" * 32
SECTION = OracleSection(capacity=100.0, window=20.0, calm=120.0)
FLOOD, QUIET = 300, 1


@pytest.fixture(scope="module")
def anvil():
    with Anvil() as anvil:
        yield anvil


@pytest.fixture(scope="module")
def artifacts(request):
    return compile_contracts(request.config.cache.mkdir("contracts"))


class Tidal:
    """An oracle, its chain, and how many envelopes reach it each second."""

    def __init__(self, anvil, client, folder, section):
        owner, rotator = anvil.keys()[0], anvil.keys()[2]
        self.anvil, self.client, self.folder, self.section = anvil, client, folder, section
        self.rotator = PrivateKey.from_bytes(rotator)
        self.owner = ServiceContract(client, Wallet(owner, client))
        self.key = PrivateKey.generate()
        self.clock = ManualClock(0.0)

    def start(self):
        chain = ChainSection("deployment.json", rpc=self.anvil.url)
        settings = Settings(WorkerSection("oracle"), chain, oracle=self.section, folder=str(self.folder))
        self.runtime = Runtime(settings, self.key, self.clock, PASSPHRASE)
        self.runtime.node = Node()
        self.runtime.agent = Oracle(self.runtime, self.rotator)
        self.runtime._reconcile()
        place = self.client.deployment
        self.follower = Follower(self.client, self.runtime.replica, place, effects=self.runtime.on_changes)

    async def found(self):
        """Enrol the oracle, and set the first configuration as the service owner would."""
        self.start()
        place, me = self.client.deployment, self.owner.address
        where = (place.chain_id, place.service.address)
        await self.owner.enrol(Consent.sign(self.key, *where, owner=me, kind=Kind.ORACLE, deadline=FAR))
        await self.owner.set_rotator(self.rotator.public.id)
        await self.rotate()
        await self.sync()

    async def rotate(self, **changes):
        version = (await self.owner.anchor()).version + 1
        card = self.runtime.messenger.epochs.prepare(version, EPOCH_KEY).card
        terms = {"oracle": self.key.public.id, "grace": 0, "min_pow": 0.2, "max_ttl": 60} | changes
        keys = {"epoch_key_commitment": epoch_commitment(EPOCH_KEY), "oracle_card_digest": card.digest}
        await self.owner.rotate_at_once(Rotation(**(keys | terms)))

    async def sync(self):
        """Bring chain and clock to one time, and have the oracle read."""
        head = await self.client.header()
        self.clock.advance(max(0.0, head.timestamp - self.clock.now()))
        if self.clock.now() > head.timestamp:
            self.anvil.request("evm_setNextBlockTimestamp", int(self.clock.now()))
        self.anvil.mine()
        await self.follower.catch_up()
        head = await self.client.header()
        self.clock.advance(max(0.0, head.timestamp - self.clock.now()))

    async def run(self, seconds, rate):
        """Let so many seconds pass in which so many envelopes reach the oracle, and let it act upon it."""
        for second in range(seconds):
            self.clock.advance(1)
            self.runtime.metrics.count("network_received", rate)
            if second % 20 == 0:
                await self.sync()
            await self.runtime.guarded(self.runtime.agent.on_tick)
            await self.settle()

    async def settle(self):
        jobs = list(self.runtime.agent._jobs)
        if jobs:
            await asyncio.gather(*jobs)
            await self.sync()

    @property
    def level(self):
        return self.runtime.replica.configuration()[0].min_pow

    def journal(self):
        return [entry.detail for entry in AuditLog(self.runtime.database).entries(kind="tide")]


@contextlib.asynccontextmanager
async def tidal(anvil, artifacts, folder, section=SECTION):
    place = await deploy(anvil.url, anvil.chain_id, artifacts, anvil.keys()[0])
    save_deployment(folder / "deployment.json", place)
    async with ChainClient(anvil.url, place) as client:
        world = Tidal(anvil, client, folder, section)
        await world.found()
        try:
            yield world
        finally:
            world.runtime.close()


@pytest.fixture
async def sea(anvil, artifacts, tmp_path, monkeypatch):
    monkeypatch.setattr("quietfleet.workers.oracle.JOB_PAUSE", 0.0)
    async with tidal(anvil, artifacts, tmp_path) as world:
        yield world


async def test_tide__flood_and_calm__level_rises_and_falls_on_chain_and_keys_stay(sea):
    first = sea.runtime.replica.configuration()[0]
    await sea.run(60, QUIET)
    assert sea.level == 0.2
    await sea.run(30, FLOOD)
    assert sea.level == 0.4
    risen, _ = await sea.owner.configuration()
    assert risen.shares_keys(first)
    assert (risen.min_pow, risen.max_ttl, risen.max_size) == (0.4, first.max_ttl, first.max_size)
    assert sea.runtime.messenger.epochs.epoch_key(first.epoch) == EPOCH_KEY
    await sea.run(300, QUIET)
    assert sea.level == 0.2
    assert [(entry["before"], entry["level"]) for entry in sea.journal()] == [(0.2, 0.4), (0.4, 0.2)]


async def test_tide__long_flood__never_faster_than_the_grace_and_within_the_owners_bounds(sea):
    await sea.owner.set_pow_bounds(0.1, 0.7)
    await sea.run(300, FLOOD)
    assert [entry["level"] for entry in sea.journal()] == [0.4, 0.7]
    configurations = [one async for one in sea.owner.history()]
    assert [one.version for one in configurations] == [3, 2, 1]
    assert configurations[0].active_from >= configurations[1].active_from + configurations[1].grace
    assert (await sea.owner.anchor()).version == 3


async def test_tide__oracle_restarts_while_risen__lowers_what_it_raised(sea):
    await sea.run(40, FLOOD)
    assert sea.level == 0.4
    sea.runtime.close()
    sea.start()
    await sea.sync()
    await sea.run(300, QUIET)
    assert sea.level == 0.2


async def test_tide__owner_sets_another_level_meanwhile__is_left_alone(sea):
    await sea.run(40, FLOOD)
    await sea.rotate(min_pow=1.5)
    await sea.sync()
    await sea.run(300, QUIET)
    assert sea.level == 1.5
    assert len(sea.journal()) == 1


async def test_tide__account_may_not_rotate__oracle_goes_on_and_tries_again_later(sea):
    await sea.owner.set_rotator(sea.owner.address)
    await sea.run(60, FLOOD)
    assert (sea.level, sea.journal()) == (0.2, [])
    await sea.owner.set_rotator(sea.rotator.public.id)
    await sea.run(30, FLOOD)
    assert sea.level == 0.4


@pytest.mark.parametrize(
    "changes",
    [{"oracle": "0x" + "0b" * 20}, {"epoch_key_commitment": epoch_commitment(b"x" * 32)}],
    ids=["another oracle", "another epoch key"],
)
async def test_tide__configuration_is_not_its_own__is_not_continued(changes, sea):
    await sea.rotate(**changes)
    await sea.sync()
    await sea.run(60, FLOOD)
    assert (await sea.owner.anchor()).version == 2
    assert sea.journal() == []


async def test_tide__chain_went_on_unread__is_not_continued_from_the_old_version(sea):
    await sea.rotate()
    for _ in range(40):
        sea.clock.advance(1)
        sea.runtime.metrics.count("network_received", FLOOD)
        await sea.runtime.guarded(sea.runtime.agent.on_tick)
        await asyncio.gather(*sea.runtime.agent._jobs)
    assert (await sea.owner.anchor()).version == 2
    assert sea.level == 0.2


async def test_tide__steps_that_fail__do_not_hide_the_flood(sea):
    def fails():
        raise ZeroDivisionError

    for _ in range(40):
        await sea.runtime.guarded(fails)
        await sea.run(1, FLOOD)
    assert sea.level == 0.4


async def test_oracle__without_a_rotator__watches_no_tide(sea):
    agent = make_agent("oracle", sea.runtime, PASSPHRASE)
    assert "tide" not in agent.status()
    assert "tide" in sea.runtime.agent.status()


async def test_oracle__rotators_keystore__is_opened_or_missed_at_the_start(anvil, artifacts, tmp_path):
    section = OracleSection(rotator="rotator.json")
    async with tidal(anvil, artifacts, tmp_path, section) as world:
        with pytest.raises(KeystoreError):
            make_agent("oracle", world.runtime, PASSPHRASE)
        create_keystore(tmp_path / "rotator.json", world.rotator, PASSPHRASE, light=True)
        assert make_agent("oracle", world.runtime, PASSPHRASE).status()["tide"] == {
            "pressure": 0.0,
            "level": None,
            "base": None,
        }
