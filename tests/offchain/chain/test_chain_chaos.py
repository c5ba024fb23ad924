"""200 scenarios on a real node that reorganises and is killed, behind endpoints that misbehave: nothing is ever lost.

Each begins where the one before ended, with a seed of its own; ten of them share workers and a replica. Whatever came
between, the replica then equals the contracts, and so does a consumer that knows only the changes it was told.
"""

from __future__ import annotations

import asyncio
import random as randomness
from collections import Counter
from dataclasses import dataclass, field
from itertools import product

import msgspec
import pytest
from chaos_kit import Endpoint, Node

from quietfleet.chain.channel import ReleaseState
from quietfleet.chain.configuration import configuration_digest
from quietfleet.chain.consent import Consent
from quietfleet.chain.endpoints import COMPARE_EVERY, REST, Endpoints
from quietfleet.chain.events import operators_of
from quietfleet.chain.follower import Follower
from quietfleet.chain.new_key import KeyProof
from quietfleet.chain.releases import ReleasesContract
from quietfleet.chain.replica import Replica
from quietfleet.chain.rpc import ChainClient
from quietfleet.chain.service import NOBODY, Rotation, ServiceContract, _arguments
from quietfleet.chain.types import (
    BootstrapChanged,
    ConfigurationChanged,
    Kind,
    OperatorsChanged,
    ReleaseChanged,
    WorkerChanged,
    WorkerRecord,
)
from quietfleet.clock import ManualClock
from quietfleet.crypto import PrivateKey, checksum_address, keccak256
from quietfleet.errors import ChainError
from quietfleet.storage import Database
from quietfleet.testbed.anvil import Anvil
from quietfleet.testbed.contracts import deploy

ERAS, SCENARIOS, MOMENTS = 20, 10, 6
FEE, FAR, MONTH, MAX_AGE = 1000, 2**40, 30 * 86_400, 60.0
WORKERS = 5
ACTS = (
    *("enrol", "enrol", "toggle", "toggle", "toggle", "suspend", "rekey", "offer", "take", "retire", "rotate"),
    *("operate", "operate", "bootstrap", "publish", "propose", "propose", "release", "release", "release", "release"),
)
CHANNELS = (keccak256(b"kettle"), keccak256(b"toaster"))
MANIFESTS = tuple(bytes([number]) * 32 for number in range(1, 5))
ENODES = ("enode://one", "enode://other")
OTHER_ACTS = frozenset({"operate", "bootstrap", "publish", "propose", "release"})
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
        self.heard = Counter()

    def take(self, changes, replica):
        told = dict(self.within)
        for change in changes:
            self.heard[type(change).__name__] += 1
            if isinstance(change, WorkerChanged):
                assert change.before == told.get(change.id), "a change begins where the one before ended"
                assert change.after != change.before
            name, after = _news(change, replica)
            told[name] = self.beside[name] = after
        return told

    def start(self, replica):
        self.beside = _all(replica)

    def equal(self, replica):
        for known in (self.within, self.beside):
            assert {name: value for name, value in known.items() if value} == _all(replica)


def _news(change, replica):
    """What a change is about, and what is so from now on: who hears that an owner's operators are others, looks."""
    match change:
        case WorkerChanged():
            return change.id, change.after
        case ConfigurationChanged():
            return "configuration", change.configuration
        case BootstrapChanged():
            return "bootstrap", change.enodes
        case OperatorsChanged():
            known = replica._journal.operators(change.owner)
            return ("operators", change.owner), known.grants if known else {}
        case ReleaseChanged():
            return change.channel, change.release


def _all(replica):
    """Everything of it that changes are told of."""
    subjects = replica._database.execute("SELECT subject FROM chain_lines").fetchall()
    owners = [owner for (subject,) in subjects if (owner := operators_of(subject))]
    grants = {("operators", owner): replica._journal.operators(owner).grants for owner in owners}
    known = {one.id: one for one in replica.workers()} | grants
    known |= {"configuration": replica.configuration()[0], "bootstrap": replica.bootstrap()}
    known |= {channel: replica.channel(channel).current() for channel in CHANNELS}
    return {name: value for name, value in known.items() if value}


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
        self.devices = [PrivateKey.from_bytes(keccak256(b"era %d %d" % (self.number, n))) for n in range(WORKERS)]
        self.look()
        self.proxies = [Endpoint(self.node, self.random) for _ in range(3)]
        for proxy in self.proxies:
            await proxy.start()
        self.options = {"chunk": self.random.choice([1, 3, 50]), "ring": self.random.choice([6, 20, 256])}
        self.fatal = False
        self.enrol(self.devices[0])
        self.send_release("setPublisher", self.accounts[0], self.devices[0].public.id)
        self.node.mine()
        self.floor = self.node.height
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
        self.releases = ReleasesContract(self.direct)

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
        self.told = self.consumers.take(changes, self.replica)
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
            return self.enrol(device)
        if verb in OTHER_ACTS:
            return await getattr(self, verb)()
        return await self.control(verb, worker)

    def enrol(self, device):
        """The first is the gateway that releases are published for."""
        kind = Kind.GATEWAY if device is self.devices[0] else Kind(self.random.randrange(1, 6))
        where = (self.place.chain_id, self.place.service.address)
        consent = Consent.sign(device, *where, owner=self.accounts[1], kind=kind, deadline=FAR)
        self.send(self.accounts[1], "enrol", consent.arguments, value=FEE)

    async def operate(self):
        """An owner gives rights to somebody, or takes them back."""
        rights = self.random.choice([0, 1, 2, 3, 7])
        owner, operator = self.random.choice(self.accounts[1:3]), self.random.choice(self.accounts[3:5])
        self.send(owner, "setOperator", operator, rights, self.node.timestamp() + MONTH if rights else 0)

    async def bootstrap(self):
        self.send(self.accounts[0], "setBootstrap", [one for one in ENODES if self.random.random() < 0.5])

    async def publish(self):
        gateway = self.devices[0].public.id if self.random.random() < 0.8 else NOBODY
        self.send_release("setPublisher", self.accounts[0], gateway)

    async def propose(self):
        now = self.node.timestamp()
        terms = (self.random.choice(MANIFESTS), b"\x07" * 32, b"\x08" * 32, now, now + 10_000, 0, 1)
        self.send_release("setPublisher", self.accounts[0], self.devices[0].public.id)
        self.send_release("propose", self.random.choice(CHANNELS), terms)

    async def release(self):
        """Take a channel a step on, as often as not one that it may take."""
        channel, manifest = self.random.choice(CHANNELS), self.random.choice(MANIFESTS)
        head = await self.releases.head(channel)
        steps = {
            "approve": (head.sequence, self._manifest(channel, manifest)),
            "openWave": (head.sequence,),
            "pause": (head.sequence,),
            "resume": (head.sequence,),
            "finalise": (self._manifest(channel, manifest), 0, (bytes(32), 3, 1, 2)),
            "rollBack": (manifest,),
            "revoke": (manifest,),
        }
        usual = {ReleaseState.PROPOSED: "approve", ReleaseState.APPROVED: "openWave", ReleaseState.PAUSED: "resume"}
        name = usual.get(head.state, "finalise") if self.random.random() < 0.7 else self.random.choice(tuple(steps))
        self.send_release(name, channel, *steps[name])

    def _manifest(self, channel, otherwise):
        known = self.replica.channel(channel).releases
        return known[-1].manifest_hash if known else otherwise

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
        self._send(self.place.service, sender, function, arguments, value)

    def send_release(self, function, *arguments):
        """Whoever deployed the contract approves and publishes too."""
        self._send(self.place.releases, self.accounts[0], function, arguments, 0)

    def _send(self, contract, sender, function, arguments, value):
        known = self.direct.abi(contract).function(function)
        data = known.encode(arguments[: len(known.inputs)])
        self.node.send(sender, contract.address, data, value)

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
        assert self.replica.bootstrap() == await self.service.bootstrap()
        for owner, operator in product(self.accounts[1:3], self.accounts[3:5]):
            rights = await self.service.operator_rights(owner, operator)
            assert self.replica.operator_rights(owner, operator) == rights
        for channel in CHANNELS:
            known = self.replica.channel(channel)
            assert known.head == await self.releases.head(channel)
            for manifest in MANIFESTS:
                assert known.record(manifest) == await self.releases.release(channel, manifest)
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
        told = era.consumers.heard
        assert told["WorkerChanged"] > 0
        assert told["OperatorsChanged"] + told["ReleaseChanged"] > 0
