"""The oracle ends an epoch when a worker that knows its key may no longer: in one process, on a chain that is told."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest
from worker_world import DAY, PASSPHRASE, Pen, World

from quietfleet.chain.events import ConfigurationRotated, Enrolled, OwnerChanged, Retired, SuspendedChanged
from quietfleet.chain.service import NOBODY
from quietfleet.chain.types import Configuration, Kind
from quietfleet.chain.wallet import Receipt
from quietfleet.crypto import PrivateKey
from quietfleet.errors import ChainUnavailable, NotYetMined, SettingsError
from quietfleet.session import Received, epoch_commitment
from quietfleet.workers import _rotation
from quietfleet.workers._budget import HOUR, Budget
from quietfleet.workers._replicated import ReplicatedRuntime
from quietfleet.workers._rotation import PATIENCE
from quietfleet.workers.messages import EpochKeyGrant, EpochPrepared, PrepareEpoch
from quietfleet.workers.oracle import Oracle
from quietfleet.workers.start import make_agent

ROTATOR = PrivateKey.from_bytes(b"\7" * 32)
EVERY, MOST = 20.0, 8
OTHERS = "0x" + "bb" * 20


class RotatingWorld(World):
    """A world whose oracle has the rotator's key, and whose contract takes its rotations."""

    def settings(self, name):
        chosen = super().settings(name)
        oracle = msgspec.structs.replace(
            chosen.oracle, rotator="rotator.json", rotate_on_disable=True, rotate_every=EVERY, rotate_most=MOST
        )
        return msgspec.structs.replace(chosen, oracle=oracle)

    def agent(self, worker):
        return Oracle(worker.runtime, ROTATOR) if worker.kind is Kind.ORACLE else super().agent(worker)

    async def run(self, rounds=8):
        await super().run(rounds)
        for worker in self.up():
            jobs = list(getattr(worker.agent, "_jobs", ())) if worker.kind is Kind.ORACLE else []
            await asyncio.gather(*jobs)

    async def put(self, **changes):
        """Somebody else rotates at once: what the newest configuration says, but for some of it."""
        kept = {"version": self.latest.version + 1, "active_from": int(self.clock.now()), "grace": 0}
        self.latest = msgspec.structs.replace(self.latest, **(kept | changes))
        await self.say(ConfigurationRotated(self.latest))


class Contract:
    """The rotations that reach the chain, and a say in what becomes of each."""

    def __init__(self, world):
        self.world = world
        self.sent = []
        self.pending = {}  # whether they wait for a block
        self.fate = lambda _rotation: "mined"

    def service(self, _client, _wallet):
        return self

    @contextlib.asynccontextmanager
    async def account(self, _runtime, _key):
        if any(waits for waits in self.pending.values()):
            raise NotYetMined("it waits")
        yield self, None

    async def configuration(self):
        return self.world.latest, None

    async def rotate_at_once(self, rotation):
        self.sent.append(rotation)
        transaction = f"0x{len(self.sent):064x}"
        self.pending[transaction] = True
        fate = self.fate(rotation)
        if fate == "stuck":
            raise ChainUnavailable("no block took it")
        await self.mine(rotation)
        if fate == "unheard":
            raise ChainUnavailable("the receipt was lost")
        return Receipt(b"t", 1, 100_000)

    async def mine(self, rotation):
        self.pending.clear()
        kept = self.world.latest
        self.world.latest = Configuration(
            version=kept.version + 1,
            active_from=int(self.world.clock.now()),
            grace=0,
            min_pow=rotation.min_pow,
            max_ttl=rotation.max_ttl,
            max_size=rotation.max_size,
            oracle=rotation.oracle,
            gateway=rotation.gateway,
            epoch_key_commitment=rotation.epoch_key_commitment,
            oracle_card_digest=rotation.oracle_card_digest,
            gateway_card_digest=rotation.gateway_card_digest,
        )
        await self.world.say(ConfigurationRotated(self.world.latest))


@pytest.fixture
async def fleet(tmp_path, monkeypatch):
    world = rotating(tmp_path, monkeypatch)
    await world.add("oracle", Kind.ORACLE)
    await settle(world)
    yield world
    await world.close()


@pytest.fixture
async def replicated(tmp_path, monkeypatch):
    """The same with two replicas of the oracle."""
    world = rotating(tmp_path, monkeypatch)
    world.store = "sqlite:shared/oracle.db"
    for name in ("oracle", "oracle#2"):
        worker = await world.add(name, Kind.ORACLE, runtime=ReplicatedRuntime, enrol=name == "oracle")
        await worker.do(lambda: None)
    await settle(world)
    yield world
    await world.close()


def rotating(folder, monkeypatch):
    """A world without workers yet, with a contract."""
    world = RotatingWorld(folder)
    world.reach(30 * DAY)
    contract = world.contract = Contract(world)
    monkeypatch.setattr(_rotation, "account", contract.account)
    monkeypatch.setattr(_rotation, "ServiceContract", contract.service)
    monkeypatch.setattr("quietfleet.workers.oracle.JOB_PAUSE", 0.0)
    monkeypatch.setattr(
        "quietfleet.workers.gateway.Gateway._may_begin", lambda _: False
    )  # there is nothing to train on
    return world


async def settle(world):
    """Add who else there is, and have everybody get the first key."""
    await world.add("gateway", Kind.GATEWAY)
    for name, kind in (("processor", Kind.PROCESSOR), ("sensor", Kind.SENSOR), ("other", Kind.SENSOR)):
        await world.add(name, kind, agent=Pen)
    await world.rotate(grace=10)
    await world.until(lambda: all(holds(world, name, 1) for name in ("gateway", "processor", "sensor", "other")))
    await world.pass_time(12)


def epochs(world, name):
    return world.workers[name].runtime.messenger.epochs


def holds(world, name, version):
    return epochs(world, name).epoch_key(version) is not None


def version(world):
    return world.latest.version


async def say(world, worker, event, **values):
    state = world.workers["oracle"].runtime.replica.worker(worker.id)
    await world.say(event(worker.id, sequence=state.sequence + 1, **values))


async def suspended(world, worker):
    await say(world, worker, SuspendedChanged, suspended=True)


async def retired(world, worker):
    state = world.workers["oracle"].runtime.replica.worker(worker.id)
    await say(world, worker, Retired, owner=state.owner)


async def passed_on(world, worker):
    state = world.workers["oracle"].runtime.replica.worker(worker.id)
    await say(world, worker, OwnerChanged, previous=state.owner, current=OTHERS)


async def switched_off(world, worker):
    await world.switch(worker, active=False)


@pytest.mark.parametrize("act", [switched_off, suspended, retired, passed_on])
async def test_rotation__worker_loses_its_right__epoch_ends_at_once_for_everybody_else(fleet, act):
    before = fleet.latest
    await act(fleet, fleet.workers["sensor"])
    await fleet.until(lambda: version(fleet) == 2, within=PATIENCE / 2)
    await fleet.until(lambda: all(holds(fleet, name, 2) for name in ("gateway", "processor", "other")))
    assert fleet.latest.gateway == before.gateway
    assert fleet.latest.gateway_card_digest == epochs(fleet, "gateway").secrets(2).card.digest
    assert (fleet.latest.min_pow, fleet.latest.max_ttl, fleet.latest.max_size) == (0.0, 60, 1 << 20)
    assert not any(holds(fleet, name, 1) for name in ("oracle", "gateway", "processor", "other"))
    await fleet.pass_time(3 * EVERY)
    assert version(fleet) == 2


async def test_rotation__relay_is_switched_off__changes_nothing(fleet):
    relay = PrivateKey.from_bytes(b"\5" * 32)
    await fleet.say(Enrolled(relay.public.id, OTHERS, Kind.RELAY, relay.public.to_bytes()))
    state = fleet.workers["oracle"].runtime.replica.worker(relay.public.id)
    await fleet.say(SuspendedChanged(relay.public.id, True, state.sequence + 1))
    await fleet.pass_time(2 * EVERY)
    assert version(fleet) == 1


async def test_rotation__device_switched_off_goes_on_asking__gets_no_new_key(fleet):
    sensor = fleet.workers["sensor"]
    sensor.runtime.registry.can_cooperate = lambda *_: True
    sensor.runtime.registry.usable = lambda _: True
    sensor.runtime.sever = lambda *_: None
    await switched_off(fleet, sensor)
    await fleet.until(lambda: holds(fleet, "other", 2))
    await fleet.pass_time(20)
    assert not holds(fleet, "sensor", 2)
    granted = fleet.workers["oracle"].journal("epoch-key-granted")
    assert [entry["version"] for entry in granted].count(2) == 3


async def test_rotation__switched_on_again_before_it__gets_the_new_key_and_there_is_one_rotation(fleet):
    sensor = fleet.workers["sensor"]
    await switched_off(fleet, sensor)
    await fleet.switch(sensor, active=True)
    await fleet.until(lambda: holds(fleet, "sensor", 2))
    await fleet.pass_time(2 * EVERY)
    assert version(fleet) == 2


async def test_rotation__many_switched_off_in_a_row__make_one(fleet):
    names = ("sensor", "other", "processor")
    for name in names:
        await switched_off(fleet, fleet.workers[name])
    await fleet.until(lambda: version(fleet) == 2)
    await fleet.pass_time(3 * EVERY)
    assert version(fleet) == 2
    assert not any(holds(fleet, name, 2) for name in names)


async def test_rotation__one_more_lost_after_it__waits_its_time_and_follows(fleet):
    await switched_off(fleet, fleet.workers["sensor"])
    await fleet.until(lambda: version(fleet) == 2)
    begun = fleet.clock.now()
    await switched_off(fleet, fleet.workers["other"])
    await fleet.until(lambda: version(fleet) == 3, within=2 * EVERY)
    assert EVERY - 2 <= fleet.clock.now() - begun <= EVERY + PATIENCE / 2


async def test_rotation__owner_that_toggles__causes_a_quarter_of_the_hours_and_others_are_served(fleet):
    sensor, other = fleet.workers["sensor"], fleet.workers["other"]
    state = fleet.workers["oracle"].runtime.replica.worker(other.id)
    await fleet.say(OwnerChanged(other.id, state.owner, OTHERS, state.sequence + 1))
    await fleet.until(lambda: version(fleet) == 2)
    for _ in range(30):
        await fleet.switch(sensor, active=False)
        await fleet.pass_time(5)
        await fleet.switch(sensor, active=True)
        await fleet.pass_time(5)
    assert len(fleet.contract.sent) == Budget(EVERY, MOST).share
    await switched_off(fleet, other)
    await fleet.until(lambda: len(fleet.contract.sent) == Budget(EVERY, MOST).share + 1, within=2 * EVERY)


async def test_rotation__leader_of_the_replicas_is_killed__the_next_goes_on_with_what_was_spent(replicated):
    oracles = [worker for worker in replicated.up() if worker.kind is Kind.ORACLE]
    (first,) = [one for one in oracles if one.runtime.leads]
    (second,) = [one for one in oracles if one is not first]
    await switched_off(replicated, replicated.workers["sensor"])
    await replicated.until(lambda: version(replicated) == 2)
    begun = replicated.clock.now()
    first.crash()
    await switched_off(replicated, replicated.workers["other"])
    await replicated.until(lambda: second.runtime.leads)
    assert second.agent.status()["rotation"]["last_hour"] == 1
    await replicated.until(lambda: version(replicated) == 3, within=3 * EVERY)
    assert replicated.clock.now() - begun >= EVERY - 2
    assert second.agent.status()["rotation"]["last_hour"] == 2


async def test_rotation__owner_toggles_as_its_rotation_is_made__lends_the_next_none_of_its_time(fleet):
    sensor = fleet.workers["sensor"]
    for _ in range(6):
        await fleet.switch(sensor, active=False)
        before = version(fleet)
        for _ in range(int(EVERY) + 2):
            await fleet.pass_time(1)
            if version(fleet) > before:
                break
        await fleet.switch(sensor, active=True)
    assert len(fleet.contract.sent) == Budget(EVERY, MOST).share


async def test_rotation__gateway_is_silent__goes_ahead_without_it_and_names_it_when_it_is_back(fleet):
    gateway = fleet.workers["gateway"]
    gateway.crash()
    await switched_off(fleet, fleet.workers["sensor"])
    begun = fleet.clock.now()
    await fleet.until(lambda: version(fleet) == 2)
    assert fleet.clock.now() - begun >= PATIENCE
    assert (fleet.latest.gateway, fleet.latest.gateway_card_digest) == (NOBODY, bytes(32))
    await fleet.pass_time(2 * EVERY)
    assert version(fleet) == 2
    gateway.start()
    await fleet.catch_up(gateway)
    gateway.runtime._reconcile()
    await fleet.until(lambda: version(fleet) == 3, within=4 * EVERY)
    assert fleet.latest.gateway == gateway.id
    await fleet.until(lambda: holds(fleet, "gateway", 3) and holds(fleet, "other", 3))
    assert fleet.latest.gateway_card_digest == epochs(fleet, "gateway").secrets(3).card.digest


async def test_rotation__gateway_itself_is_switched_off__is_not_named(fleet):
    await switched_off(fleet, fleet.workers["gateway"])
    await fleet.until(lambda: version(fleet) == 2, within=PATIENCE / 2)
    assert fleet.latest.gateway == NOBODY
    await fleet.until(lambda: holds(fleet, "other", 2))
    assert not holds(fleet, "gateway", 2)


async def test_rotation__somebody_else_rotates_meanwhile__counts_and_is_not_repeated(fleet):
    fleet.workers["gateway"].crash()  # so that the oracle waits
    await switched_off(fleet, fleet.workers["sensor"])
    await fleet.pass_time(2)
    fleet.workers["gateway"].start()
    await fleet.catch_up(fleet.workers["gateway"])
    named = epochs(fleet, "oracle").secrets(2).card.digest, epoch_commitment(epochs(fleet, "oracle").epoch_key(2))
    await fleet.put(oracle_card_digest=named[0], epoch_key_commitment=named[1])
    await fleet.pass_time(3 * EVERY)
    assert version(fleet) == 2
    assert fleet.contract.sent == []
    assert fleet.workers["oracle"].journal("rotation-done") == [{"version": 2}]


async def test_rotation__somebody_else_only_changes_the_limits__is_made_all_the_same(fleet):
    fleet.workers["gateway"].crash()
    await switched_off(fleet, fleet.workers["sensor"])
    await fleet.pass_time(2)
    await fleet.put(min_pow=0.5)
    await fleet.until(lambda: version(fleet) == 3, within=2 * EVERY)
    assert fleet.contract.sent[0].min_pow == 0.5
    await fleet.until(lambda: holds(fleet, "other", 3))


async def test_rotation__another_version_waits_with_a_grace__is_cut_short(fleet):
    await fleet.rotate(lead=30, grace=30)
    await switched_off(fleet, fleet.workers["sensor"])
    await fleet.until(lambda: version(fleet) == 3, within=2 * EVERY)
    await fleet.until(lambda: holds(fleet, "other", 3))
    assert not any(holds(fleet, "other", old) for old in (1, 2))


async def test_rotation__another_oracle_was_named__is_left_to_that_one(fleet):
    await fleet.put(oracle="0x" + "0b" * 20, epoch_key_commitment=b"c" * 32, oracle_card_digest=b"d" * 32)
    await switched_off(fleet, fleet.workers["sensor"])
    await fleet.pass_time(3 * EVERY)
    assert version(fleet) == 2


async def test_rotation__overtaken_so_that_the_chain_names_keys_that_are_not_here__mends_itself(fleet):
    """A transaction made for version 2 that lands after somebody else's: its cards are of another version."""
    stale = {"epoch_key_commitment": b"c" * 32, "oracle_card_digest": b"d" * 32}
    await fleet.put(**stale)
    await fleet.until(lambda: version(fleet) == 3, within=2 * EVERY)
    await fleet.until(lambda: all(holds(fleet, name, 3) for name in ("processor", "sensor", "other")))


@pytest.mark.parametrize("fate", ["unheard", "stuck"])
async def test_rotation__sent_and_then_killed__is_found_and_not_sent_twice(fleet, fate):
    oracle = fleet.workers["oracle"]
    fleet.contract.fate = lambda _: fate
    await switched_off(fleet, fleet.workers["sensor"])
    await fleet.until(lambda: len(fleet.contract.sent) == 1)
    oracle.restart()
    await fleet.pass_time(2 * EVERY)
    assert len(fleet.contract.sent) == 1
    if fate == "stuck":
        await fleet.contract.mine(fleet.contract.sent[0])
    await fleet.until(lambda: holds(fleet, "other", 2))
    await fleet.pass_time(2 * EVERY)
    assert version(fleet) == 2
    assert len(fleet.contract.sent) == 1


@pytest.mark.parametrize("seconds", range(4))
async def test_rotation__killed_on_the_way__is_made_once_all_the_same(fleet, seconds):
    oracle = fleet.workers["oracle"]
    await switched_off(fleet, fleet.workers["sensor"])
    for _ in range(seconds):
        await oracle.beat()
        await fleet.deliver()
    oracle.restart()
    await fleet.until(lambda: holds(fleet, "other", 2))
    await fleet.pass_time(2 * EVERY)
    assert version(fleet) == 2
    assert fleet.latest.gateway != NOBODY


async def test_rotation__lost_while_the_oracle_was_down__is_made_when_it_reads_of_it(fleet):
    oracle = fleet.workers["oracle"]
    oracle.crash()
    await fleet.say()
    await fleet.switch(fleet.workers["sensor"], active=False)
    oracle.start()
    await fleet.catch_up(oracle)
    oracle.runtime._reconcile()
    await fleet.until(lambda: holds(fleet, "other", 2))


async def test_rotation__a_replica_that_does_not_lead__writes_nothing(fleet, monkeypatch):
    runtime = fleet.workers["oracle"].runtime
    monkeypatch.setattr(type(runtime), "leads", property(lambda _: False))
    await switched_off(fleet, fleet.workers["sensor"])
    await fleet.pass_time(2 * EVERY)
    assert version(fleet) == 1
    monkeypatch.undo()


async def test_rotation__chain_out_of_sight__waits(fleet):
    await switched_off(fleet, fleet.workers["sensor"])
    fleet.clock.advance(60)
    await fleet.run()
    assert version(fleet) == 1
    await fleet.pass_time(3)
    assert version(fleet) == 2


async def test_prepare__asked_by_a_worker_that_is_no_oracle_or_for_another_version__draws_nothing(fleet):
    gateway, oracle, other = (fleet.workers[name] for name in ("gateway", "oracle", "other"))
    asked = (other.id, 2), (oracle.id, 1), (oracle.id, 3), (oracle.id, 2**30)
    for peer, number in asked:
        await gateway.do(lambda p=peer, n=number: _rotation.prepare_for(gateway.runtime, p, PrepareEpoch(n)))
    assert gateway.metric("epochs_not_prepared") == len(asked)
    assert [secrets.card.version for secrets in epochs(fleet, "gateway").all_secrets()] == [1]


async def test_prepare__asked_twice__draws_once(fleet):
    gateway, oracle = fleet.workers["gateway"], fleet.workers["oracle"]
    digests = set()
    for _ in range(2):
        await gateway.do(lambda: _rotation.prepare_for(gateway.runtime, oracle.id, PrepareEpoch(2)))
        digests.add(epochs(fleet, "gateway").secrets(2).card.digest)
    assert len(digests) == 1


async def test_prepared__said_by_somebody_else_than_the_gateway__is_not_believed(fleet):
    fleet.workers["gateway"].crash()
    await switched_off(fleet, fleet.workers["sensor"])
    await fleet.pass_time(2)
    other, oracle = fleet.workers["other"], fleet.workers["oracle"]
    await other.do(lambda: other.runtime.messenger.notify(oracle.id, EpochPrepared(2, b"x" * 32)))
    await fleet.until(lambda: version(fleet) == 2)
    assert fleet.latest.gateway_card_digest == bytes(32)


async def test_wire__rotation__shows_the_digest_and_the_key_to_nobody(fleet):
    await switched_off(fleet, fleet.workers["sensor"])
    await fleet.until(lambda: holds(fleet, "other", 2))
    key = epochs(fleet, "oracle").epoch_key(2)
    assert all(key not in envelope.data for _, envelope in fleet.wire)
    heard = [event for event in fleet.workers["other"].agent.events if isinstance(event, Received)]
    assert not any(isinstance(event.body, EpochKeyGrant) for event in heard)


async def test_oracle__is_to_rotate_and_has_no_account_for_it__says_so_at_the_start(world):
    oracle = await world.add("oracle", Kind.ORACLE)
    runtime = oracle.runtime
    section = msgspec.structs.replace(runtime.settings.oracle, rotate_on_disable=True)
    runtime.settings = msgspec.structs.replace(runtime.settings, oracle=section)
    with pytest.raises(SettingsError, match="needs rotator"):
        make_agent("oracle", runtime, PASSPHRASE)


def test_budget__within_it__at_once():
    assert Budget(60.0, 12).earliest([], "a", 100.0) == 100.0


def test_budget__after_one__waits_the_least_time():
    assert Budget(60.0, 12).earliest([(100.0, "a")], None, 101.0) == 160.0


def test_budget__owner_has_used_its_share__waits_for_its_own_hour_and_others_do_not():
    spent = [(100.0, "a"), (200.0, "a"), (300.0, "a"), (400.0, "b")]
    budget = Budget(60.0, 12)
    assert budget.earliest(spent, "a", 1000.0) == 100.0 + HOUR
    assert budget.earliest(spent, "b", 1000.0) == 1000.0


def test_budget__hour_is_used_up__everybody_waits():
    spent = [(100.0 * n, str(n)) for n in range(1, 13)]
    assert Budget(60.0, 12).earliest(spent, "new", 2000.0) == 2000.0
    assert Budget(60.0, 12).earliest(spent, None, 2000.0) == 100.0 + HOUR


def test_budget__clock_put_back__what_lies_ahead_is_forgotten():
    assert Budget(60.0, 12).kept([(50.0, "a"), (90_000.0, "a"), (3000.0, "b")], 4000.0) == [(3000.0, "b")]
