"""200 scenarios on a real node that reorganises and is killed, behind endpoints that misbehave: nothing is ever lost.

Each begins where the one before ended, with a seed of its own; ten of them share workers and a replica. Whatever came
between, the replica then equals the contracts, and so does a consumer that knows only the changes it was told.
"""

from __future__ import annotations

import asyncio
import random as randomness
from dataclasses import dataclass, field

import msgspec
import pytest
from chaos_kit import Endpoint, Node

from quietfleet.chain.configuration import configuration_digest
from quietfleet.chain.consent import Consent
from quietfleet.chain.endpoints import COMPARE_EVERY, REST, Endpoints
from quietfleet.chain.follower import Follower
from quietfleet.chain.new_key import KeyProof
from quietfleet.chain.replica import Replica
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import Rotation, ServiceContract, _arguments
from quietfleet.chain.types import ConfigurationChanged, Kind, WorkerChanged, WorkerRecord
from quietfleet.clock import ManualClock
from quietfleet.crypto import PrivateKey, checksum_address, keccak256
from quietfleet.errors import ChainError
from quietfleet.storage import Database
from quietfleet.testbed.anvil import Anvil
from quietfleet.testbed.contracts import deploy

ERAS, SCENARIOS, MOMENTS = 20, 10, 6
FEE, FAR, MAX_AGE = 1000, 2**40, 60.0
WORKERS = 5
ACTS = ("enrol", "enrol", "toggle", "toggle", "toggle", "suspend", "rekey", "offer", "take", "retire", "rotate")
FAULTS = ("refuse", "cut", "pause", "error", "twice", "removed", "forget")


class Died(BaseException):
    """The process ends, wherever it is."""


@pytest.fixture(scope="module")
def chain(artifacts):
    with Anvil() as anvil:
        keys = anvil.keys()
        place = asyncio.run(deploy(anvil.url, anvil.chain_id, artifacts, keys[0], fee=FEE))
        node = Node(anvil)
        accounts = [checksum_address(bytes.fromhex(one[2:])) for one in node.request("eth_accounts")]
        yield node, node.save(), place, accounts
        node.close()


class Consumers:
    """Two who hear of changes: one in the step's transaction, and one beside it, whose memory no rollback undoes.

    The second may so have heard what never was; as workers do, it looks at the replica when the process starts.
    """

    def __init__(self):
        self.within, self.beside = {}, {}
        self.heard = 0

    def take(self, changes):
        told = dict(self.within)
        for change in changes:
            self.heard += 1
            name = change.id if isinstance(change, WorkerChanged) else "configuration"
            after = change.after if isinstance(change, WorkerChanged) else change.configuration
            if isinstance(change, WorkerChanged):
                assert change.before == told.get(name), "a change begins where the one before ended"
                assert change.after != change.before
            assert isinstance(change, WorkerChanged | ConfigurationChanged)
            told[name] = self.beside[name] = after
        return told

    def start(self, replica):
        self.beside = {one.id: one for one in replica.workers()} | {"configuration": replica.configuration()[0]}

    def equal(self, replica):
        for known in (self.within, self.beside):
            assert {k: v for k, v in known.items() if v and k != "configuration"} == {
                one.id: one for one in replica.workers()
            }
            assert known.get("configuration") == replica.configuration()[0]


@dataclass
class Era:
    """Some workers, a replica on disk, three endpoints, and everything that can happen to them."""

    node: Node
    place: object
    accounts: list[str]
    path: object
    random: randomness.Random
    number: int
    agreeing: int
    clock: ManualClock = field(default_factory=ManualClock)
    consumers: Consumers = field(default_factory=Consumers)
    crashes: int = 0

    async def __aenter__(self):
        self.floor = self.node.height
        self.devices = [PrivateKey.from_bytes(keccak256(b"era %d %d" % (self.number, n))) for n in range(WORKERS)]
        self.look()
        self.proxies = [Endpoint(self.node, self.random) for _ in range(3)]
        for proxy in self.proxies:
            await proxy.start()
        self.options = {"chunk": self.random.choice([1, 3, 50]), "ring": self.random.choice([6, 20, 256])}
        self.fatal = False
        self.open()
        return self

    async def __aexit__(self, *_):
        await self.shut()
        for proxy in self.proxies:
            proxy.close()
        await self.direct.close()

    def look(self):
        """The contracts as they are, without anything in between."""
        self.direct = ChainClient(f"http://127.0.0.1:{self.node.port}", self.place)
        self.service = ServiceContract(self.direct)
        self.abi = self.direct.abi(self.place.service)

    # the process under test

    def open(self):
        """What a fresh process does with what is on its disk."""
        self.database = Database(self.path)
        self.database.execute("PRAGMA synchronous=OFF")
        self.replica = Replica(self.database)
        self.clients = [ChainClient(proxy.url, self.place, timeout=5) for proxy in self.proxies]
        self.endpoints = Endpoints(self.clients, self.clock, MAX_AGE, agreeing=self.agreeing)
        self.follower = Follower(self.endpoints, self.replica, self.place, effects=self.effects, **self.options)
        self.consumers.start(self.replica)

    async def shut(self):
        for client in self.clients:
            await client.close()
        self.database.close()

    def effects(self, changes):
        self.told = self.consumers.take(changes)
        if self.fatal:
            raise Died

    async def step(self):
        self.told = None
        try:
            await self.follower.step()
        except ChainError as error:
            self.endpoints.failed(error)
            return
        if self.told is not None:
            self.consumers.within = self.told

    async def die_within_a_step(self):
        """End in the middle: before the commit, or at any of the requests."""
        self.fatal = self.random.random() < 0.5
        try:
            stepping = asyncio.create_task(self.step())
            for _ in range(self.random.randrange(40) if not self.fatal else 10_000):
                await asyncio.sleep(0)
                if stepping.done():
                    break
            stepping.cancel()
            await stepping
        except (Died, asyncio.CancelledError):
            self.crashes += 1
        self.fatal = False
        await self.restart()

    async def restart(self):
        await self.shut()
        self.open()

    # what happens

    async def happen(self):
        moment = self.random.choices(
            (
                self.transact,
                self.reorganise,
                self.misbehave,
                self.kill,
                self.die_within_a_step,
                self.restart,
                self.wait,
            ),
            (8, 4, 5, 0.5, 3, 1, 2),
        )[0]
        done = moment()
        if done is not None:
            await done
        for _ in range(self.random.randrange(3)):
            await self.step()

    async def transact(self):
        self.node.mark()
        for _ in range(self.random.randrange(1, 3)):
            for _ in range(self.random.randrange(1, 4)):
                await self.act(self.random.choice(ACTS))
            self.node.mine(self.random.choice([1, 1, 2]))

    def reorganise(self):
        if self.random.random() < 0.5:
            depth = self.node.depth(self.random.choice([1, 2, 3, 8, 30]), self.floor)
            if depth:
                self.node.reorganise(depth)
        else:
            self.node.go_back(self.random.choice([1, 1, 2, 8]))
        self.node.request("anvil_dropAllTransactions")
        self.node.mine(self.random.randrange(3))

    def misbehave(self):
        for proxy in self.random.sample(self.proxies, self.random.randrange(1, 4)):
            chosen = self.random.sample(FAULTS, self.random.randrange(3))
            proxy.faults = {name: self.random.choice([0.2, 0.5, 1.0]) for name in chosen}
            proxy.lag = self.random.choice([0, 0, 1, 2, 6])

    async def kill(self):
        """SIGKILL the node; it comes back, perhaps without its newest blocks."""
        if self.random.random() < 0.3:
            self.node.go_back(1)
        self.node.kill_and_load(self.node.save())
        await self.direct.close()
        self.look()

    def wait(self):
        self.clock.advance(self.random.choice([1.0, COMPARE_EVERY, REST]))

    async def act(self, verb):
        device = self.random.choice(self.devices)
        worker = device.public.id
        if verb == "rotate":
            waits = self.random.choice([0, 0, 5])
            rotation = Rotation(worker, self.random.randbytes(32), bytes(32), active_from=waits, min_pow=0.2, grace=0)
            name = self.random.choice(["rotate", "rotateAtOnce"])
            return self.send(self.accounts[0], name, _arguments(rotation))
        if verb == "enrol":
            kind = Kind(self.random.randrange(1, 6))
            where = (self.place.chain_id, self.place.service.address)
            consent = Consent.sign(device, *where, owner=self.accounts[1], kind=kind, deadline=FAR)
            return self.send(self.accounts[1], "enrol", consent.arguments, value=FEE)
        return await self.control(verb, worker)

    async def control(self, verb, worker):
        known = await self.service.worker(worker)
        if known is None:
            return
        other = self.accounts[2] if known.owner == self.accounts[1] else self.accounts[1]
        match verb:
            case "toggle":
                self.send(known.owner, "setActive", worker, not known.active)
            case "suspend":
                self.send(self.accounts[0], "setSuspended", worker, not known.suspended)
            case "offer":
                self.send(known.owner, "offerTransfer", worker, other)
            case "take":
                self.send(other, "acceptTransfer", worker)
            case "retire" if self.random.random() < 0.2:
                self.send(known.owner, "retire", worker)
            case "rekey":
                key = PrivateKey.from_bytes(self.random.randbytes(32))
                where = (self.place.chain_id, self.place.service.address)
                terms = {"worker": worker, "owner": known.owner, "epoch": known.epoch + 1, "deadline": FAR}
                self.send(known.owner, "rotateKey", KeyProof.sign(key, *where, **terms).arguments)

    def send(self, sender, function, *arguments, value=0):
        self.node.send(sender, self.place.service.address, self.abi.function(function).encode(arguments), value)

    # how it must end

    async def settle(self):
        for proxy in self.proxies:
            proxy.heal()
        for count in range(2000):
            if count % 50 == 0:  # an endpoint that shows less than is known, and contradicts nothing, seems to lag
                self.node.mine()
                self.clock.advance(REST + 1)
            await self.step()
            head = self.replica.head
            if self.follower.caught_up and head is not None and head.number == self.node.height:
                return
        raise AssertionError("the head is never reached")

    async def check(self):
        ids = [device.public.id for device in self.devices]
        for worker, found in zip(ids, await asyncio.gather(*map(self.service.worker, ids)), strict=True):
            assert _record(self.replica.worker(worker)) == found
            numbers = [one.event.sequence for one in self.replica._journal.events(worker)]
            assert numbers == list(range(1, (found.sequence if found else 0) + 1))
            for key in {state.key for state in [self.replica.worker(worker)] if state}:
                assert self.replica.worker_of(key) == await self.service.worker_of(key)
        anchor, (latest, _) = await self.service.anchor(), self.replica.configuration()
        assert anchor.version == (latest.version if latest else 0)
        if latest is not None:
            plain = msgspec.structs.replace(latest, keys_from=0)
            assert configuration_digest(plain, self.place.chain_id, self.place.service.address) == anchor.digest
        self.consumers.equal(self.replica)


def _record(state):
    return state and WorkerRecord(**{name: getattr(state, name) for name in WorkerRecord.__struct_fields__})


@pytest.mark.parametrize("number", range(ERAS))
async def test_follow__anything_happens_to_chain_endpoints_and_process__equals_the_contracts(chain, tmp_path, number):
    node, saved, place, accounts = chain
    node.kill_and_load(saved)
    agreeing = 2 if number % 4 == 3 else 1
    random = randomness.Random(number)
    async with Era(node, place, accounts, tmp_path / "worker.db", random, number, agreeing) as era:
        for scenario in range(SCENARIOS):
            random.seed(number * SCENARIOS + scenario)
            for _ in range(MOMENTS):
                await era.happen()
            await era.settle()
            await era.check()
        assert era.consumers.heard > 0
