"""The follower against a chain in memory that reorganises, lags, lies and stops."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from memory_chain import DEPLOYMENT, FIRST_BLOCK, RELEASE_VERBS, Line, MemoryChain, emitted, enode, key, run, worker_id

from quietfleet.chain.agree import AgreeingSource
from quietfleet.chain.deployment import ContractRecord, Deployment
from quietfleet.chain.follower import NEAR, Follower
from quietfleet.chain.replica import Replica
from quietfleet.chain.types import BootstrapChanged, ConfigurationChanged, ReleaseChanged, WorkerChanged
from quietfleet.errors import AbiError, ChainDisagreement, ChainRefused, ChainUnavailable, ReplicaGap
from quietfleet.storage import Database

VERBS = ("enrol", "enrol", "toggle", "toggle", "accept", "suspend", "sell", "retire", "rekey", "offer", "cancel")
VERBS += ("rotate", "rotate", "name_relays", *RELEASE_VERBS, "propose", "approve", "open", "finalise")
ACTIONS = st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 7)), max_size=4)
BRANCH = st.lists(ACTIONS, min_size=1, max_size=8)


def plain(structs):
    return [msgspec.to_builtins(one, builtin_types=(bytes,)) for one in structs]


def assert_equal(replica, fleet):
    """Hold the whole replica against the model."""
    assert plain(replica.workers()) == [fleet.workers[worker] for worker in sorted(fleet.workers)]
    assert {known: tuple(replica.worker_of(known)) for known in fleet.keys} == {
        known: (worker, epoch, fleet.workers[worker]["epoch"] == epoch) for known, (worker, epoch) in fleet.keys.items()
    }
    assert len(replica._database.execute("SELECT key FROM chain_keys").fetchall()) == len(fleet.keys) - len(
        fleet.workers
    )
    latest, previous = replica.configuration()
    assert (latest.version if latest else 0, previous.version if previous else 0) == (fleet.version, fleet.previous)
    assert not latest or latest.epoch == fleet.versions[-1]["epoch"]
    assert not previous or previous.epoch == fleet.versions[fleet.previous - 1]["epoch"]
    assert replica.bootstrap() == fleet.relays
    for name in (bytes(32), b"\x01" * 32):
        channel, line = replica.channel(name), fleet.channels.get(name, Line())
        assert msgspec.to_builtins(channel.head) == line.head
        assert [release.manifest_hash for release in channel.releases] == line.manifests
        assert (channel.completed, channel.revoked) == (line.completed, line.revoked)


class Mirror:
    """A consumer that knows only the changes it was told; each must begin where the one before ended."""

    def __init__(self):
        self.states = {}

    def take(self, changes):
        for change in changes:
            if isinstance(change, WorkerChanged):
                assert change.before == self.states.get(change.id)
                assert change.after != change.before
                self.states[change.id] = change.after
            elif isinstance(change, ConfigurationChanged):
                self.states["configuration"] = change.configuration
            elif isinstance(change, BootstrapChanged):
                self.states["bootstrap"] = change.enodes
            elif isinstance(change, ReleaseChanged):
                assert change.release != self.states.get(change.channel)
                self.states[change.channel] = change.release

    def assert_equal(self, replica):
        workers = {worker.id: worker for worker in replica.workers()}
        assert {k: v for k, v in self.states.items() if str(k).startswith("0x") and v} == workers
        assert self.states.get("configuration") == replica.configuration()[0]
        assert self.states.get("bootstrap", ()) == replica.bootstrap()
        for channel in (bytes(32), b"\x01" * 32):
            assert self.states.get(channel) == replica.channel(channel).current()


class Following(RuleBasedStateMachine):
    """Extend, reorganise, step, crash, restart: after each catching up the replica is the canonical chain's fold."""

    @initialize(chunk=st.sampled_from([1, 3, 50]), ring=st.sampled_from([4, 12, 256]))
    def begin(self, chunk, ring):
        self.folder = tempfile.TemporaryDirectory()
        self.chain = MemoryChain()
        self.options = {"chunk": chunk, "ring": ring}
        self.mirror = Mirror()
        self.database = None
        self.open()

    def open(self):
        self.database = Database(Path(self.folder.name) / "worker.db")
        self.database.execute("PRAGMA synchronous=OFF")
        self.replica = Replica(self.database)
        self.follower = Follower(self.chain, self.replica, DEPLOYMENT, **self.options)

    @rule(branch=BRANCH)
    def extend(self, branch):
        for actions in branch:
            self.chain.extend(*actions)

    @rule(depth=st.integers(1, 8), branch=BRANCH)
    def reorganise(self, depth, branch):
        self.chain.drop(depth)
        self.extend(branch)

    @rule(depth=st.integers(1, 8), later=st.integers(0, 2))
    def repeat_branch(self, depth, later):
        """Replace blocks by ones with the same events, perhaps some blocks later, as most reorgs do."""
        branch = [block.actions for block in self.chain.drop(depth)]
        self.extend([[] for _ in range(later)] + branch)

    @rule()
    def step(self):
        self.mirror.take(run(self.follower.step()))

    @rule()
    def catch_up(self):
        while self.looks_like_a_lag():
            self.chain.extend()
        self.mirror.take(run(self.follower.catch_up()))
        assert_equal(self.replica, self.chain.fleet)
        self.mirror.assert_equal(self.replica)
        head = self.chain.blocks[-1].header
        assert self.replica.head.hash == head.hash

    def looks_like_a_lag(self):
        """Whether the endpoint shows less than is known and contradicts none of it: then what is known stays."""
        headers = [block.header for block in self.chain.blocks]
        ring = self.replica.ring()
        seen = [block for block in ring if block.number <= self.chain.height]
        return seen != ring and all(headers[block.number].hash == block.hash for block in seen[-1:])

    @rule(after=st.integers(1, 6), depth=st.integers(1, 8), branch=BRANCH)
    def step_while_the_chain_moves(self, after, depth, branch):
        count = itertools.count(1)

        def move():
            if next(count) == after:
                self.chain.between = lambda: None
                self.reorganise(depth, branch)

        self.chain.between = move
        self.step()
        self.chain.between = lambda: None

    @rule()
    def crash_before_saving(self):
        def power_cut(changes):
            raise KeyboardInterrupt

        crashing = Follower(self.chain, self.replica, DEPLOYMENT, effects=power_cut, **self.options)
        before = plain(self.replica.workers())
        with contextlib.suppress(KeyboardInterrupt):
            run(crashing.catch_up())
        assert plain(self.replica.workers()) == before
        self.restart()

    @rule()
    def restart(self):
        self.database.close()
        self.open()

    @invariant()
    def ring_is_bounded(self):
        if getattr(self, "replica", None):
            assert len(self.replica.ring()) <= self.options["ring"]

    def teardown(self):
        if getattr(self, "database", None):
            self.database.close()
            self.folder.cleanup()


TestFollowing = Following.TestCase
TestFollowing.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture
def chain():
    return MemoryChain()


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "worker.db") as database:
        yield database


@pytest.fixture
def replica(database):
    return Replica(database)


@pytest.fixture
def follower(chain, replica):
    return Follower(chain, replica, DEPLOYMENT)


def test_step__before_the_contracts_exist__rests(chain, follower, replica):
    del chain.blocks[FIRST_BLOCK:]
    assert run(follower.step()) == []
    assert follower.caught_up
    assert replica.head is None


def test_step__nothing_new__asks_once(chain, follower):
    run(follower.catch_up())
    chain.requests.clear()
    assert run(follower.step()) == []
    assert chain.requests == ["header"]


def test_step__one_block_more__takes_three_requests(chain, follower):
    run(follower.catch_up())
    chain.extend(("enrol", 1))
    chain.requests.clear()
    run(follower.step())
    assert chain.requests == ["header", "logs", "header"]


def test_step__off_and_on_in_one_chunk__tells_both(chain, follower):
    chain.extend(("enrol", 1))
    run(follower.catch_up())
    chain.extend(("toggle", 1))
    chain.extend(("toggle", 1))
    changes = run(follower.catch_up())
    assert [(change.before.active, change.after.active, change.lost) for change in changes] == [
        (True, False, True),
        (False, True, False),
    ]


def test_step__reorg_takes_an_enrolment_away__worker_is_lost(chain, follower, replica):
    chain.extend(("enrol", 1))
    run(follower.catch_up())
    chain.drop(1)
    chain.extend()
    (change,) = run(follower.catch_up())
    assert change.lost
    assert change.id == worker_id(1)
    assert replica.worker(worker_id(1)) is None
    assert replica.worker_of(worker_id(1)) is None


def test_step__reorg_takes_a_list_of_relays_away__the_one_before_is_back(chain, follower, replica):
    chain.extend(("name_relays", 1))
    chain.extend(("name_relays", 2))
    assert run(follower.catch_up()) == [
        BootstrapChanged((enode(0),), FIRST_BLOCK + 1),
        BootstrapChanged((enode(0), enode(1)), FIRST_BLOCK + 2),
    ]
    chain.drop(1)
    chain.extend()
    chain.extend()
    (change,) = run(follower.catch_up())
    assert change.enodes == replica.bootstrap() == (enode(0),)
    chain.drop(3)
    for _ in range(4):
        chain.extend()
    (change,) = run(follower.catch_up())
    assert change.enodes == replica.bootstrap() == ()


def test_step__list_of_relays_left_out__is_noticed_with_the_next_one(chain, follower, replica):
    chain.extend(extra=(emitted("BootstrapNamed", version=2, enodes=(enode(1),), previousBlock=FIRST_BLOCK),))
    with pytest.raises(ReplicaGap):
        run(follower.catch_up())
    assert replica.bootstrap() == ()


def test_step__reorg_moves_a_toggle_pair__tells_nothing(chain, follower):
    chain.extend(("enrol", 1))
    chain.extend(("toggle", 1))
    chain.extend(("toggle", 1))
    run(follower.catch_up())
    chain.drop(2)
    chain.extend()
    chain.extend(("toggle", 1), ("toggle", 1))
    assert run(follower.catch_up()) == []


def test_step__endpoint_lags_on_the_same_chain__revocation_stays(chain, follower, replica):
    chain.extend(("enrol", 1))
    run(follower.catch_up())
    chain.extend(("toggle", 1))
    run(follower.catch_up())
    chain.visible = chain.height - 1
    assert run(follower.step()) == []
    assert not replica.usable(worker_id(1))


def test_step__endpoint_far_below_the_ring__keeps_what_is_known(chain, replica):
    follower = Follower(chain, replica, DEPLOYMENT, ring=4)
    for _ in range(10):
        chain.extend()
        run(follower.catch_up())
    chain.visible = FIRST_BLOCK
    known = replica.head
    assert run(follower.step()) == []
    assert follower.caught_up
    assert replica.head == known


def test_step__reorg_deeper_than_the_ring__rebuilds(chain, replica):
    follower = Follower(chain, replica, DEPLOYMENT, ring=4)
    for number in range(10):
        chain.extend(("enrol", number))
        run(follower.catch_up())
    chain.drop(8)
    for _ in range(9):
        chain.extend(("toggle", 1))
    run(follower.catch_up())
    assert follower.rebuilds == 1
    assert_equal(replica, chain.fleet)


def test_step__reorg_within_the_ring__does_not_rebuild(chain, follower, replica):
    for number in range(10):
        chain.extend(("enrol", number))
        run(follower.catch_up())
    chain.drop(8)
    for _ in range(9):
        chain.extend(("toggle", 1))
    run(follower.catch_up())
    assert follower.rebuilds == 0
    assert_equal(replica, chain.fleet)


def test_step__long_ring__finds_the_ancestor_by_halves(chain, follower):
    for _ in range(200):
        chain.extend()
        run(follower.catch_up())
    chain.drop(150)
    for _ in range(151):
        chain.extend()
    chain.requests.clear()
    run(follower.step())
    assert chain.requests.count("header") < NEAR + 15


def test_step__range_too_large__asks_for_less_and_grows_again(chain, replica):
    follower = Follower(chain, replica, DEPLOYMENT, chunk=64)
    for number in range(80):
        chain.extend(("enrol", number % 8))
    chain.most_blocks = 10
    run(follower.catch_up())
    assert_equal(replica, chain.fleet)
    chain.most_blocks = 64
    for _ in range(150):
        chain.extend()
    chain.requests.clear()
    run(follower.catch_up())
    assert chain.requests.count("logs") < 8


def test_step__logs_come_from_another_branch_than_the_head__commits_nothing(chain, follower, replica):
    run(follower.catch_up())
    known = replica.head
    chain.extend(("enrol", 1))
    chain.extend()

    def move():
        if chain.requests[-1] == "logs":
            chain.drop(2)
            chain.extend()
            chain.extend()

    chain.between = move
    assert run(follower.step()) == []
    assert not follower.caught_up
    assert replica.head == known


def test_step__chain_never_holds_still__is_unavailable(chain, follower, replica):
    chain.extend(("enrol", 1))

    def move():
        chain.drop(1)
        chain.extend(("enrol", 1))

    chain.between = move
    with pytest.raises(ChainUnavailable):
        run(follower.catch_up())
    assert replica.head is None


def test_step__endpoint_refuses_even_one_block__raises(chain, follower):
    chain.most_blocks = 0
    with pytest.raises(ChainRefused):
        run(follower.catch_up())


def test_step__endpoint_omits_the_head_blocks_logs__bloom_tells(chain, follower, replica):
    chain.extend(("enrol", 1))
    run(follower.catch_up())
    chain.extend(("toggle", 1))
    chain.hidden_logs.add(chain.height)
    run(follower.catch_up())
    assert not replica.usable(worker_id(1))
    assert "logs_in" in chain.requests


def test_step__lagging_node_omits_blocks_in_the_middle__bloom_tells(chain, follower, replica):
    chain.extend(("enrol", 1))
    run(follower.catch_up())
    chain.extend(("toggle", 1))
    chain.hidden_logs.add(chain.height)
    for _ in range(NEAR - 1):
        chain.extend()
    run(follower.catch_up())
    assert not replica.usable(worker_id(1))


def test_step__endpoint_repeats_logs__each_counts_once(chain, follower, replica, monkeypatch):
    honest = chain.logs

    async def twice(first, last):
        found = await honest(first, last)
        return found + found[::-1]

    monkeypatch.setattr(chain, "logs", twice)
    chain.extend(("enrol", 1), ("toggle", 1))
    assert len(run(follower.catch_up())) == 2
    assert_equal(replica, chain.fleet)


def test_step__endpoint_gives_two_logs_for_one_place__commits_nothing(chain, follower, replica, monkeypatch):
    honest = chain.logs

    async def twofold(first, last):
        return [log for one in await honest(first, last) for log in (one, msgspec.structs.replace(one, data=b""))]

    monkeypatch.setattr(chain, "logs", twofold)
    chain.extend(("enrol", 1))
    with pytest.raises(ChainUnavailable):
        run(follower.catch_up())
    assert replica.head is None


@pytest.mark.parametrize("request_name", ["logs", "logs_in"])
def test_step__endpoint_answers_with_blocks_not_asked_for__commits_nothing(
    chain, follower, replica, monkeypatch, request_name
):
    chain.extend(("enrol", 1))
    run(follower.catch_up())
    known = replica.head
    chain.extend(("toggle", 1))
    stray = run(MemoryChain.logs(chain, known.number, known.number))

    async def strays(*_):
        return stray

    chain.hidden_logs.add(chain.height)
    monkeypatch.setattr(chain, request_name, strays)
    with pytest.raises(ChainUnavailable):
        run(follower.catch_up())
    assert replica.head == known


def test_step__omitted_event_shows_later__rebuilds(chain, follower, replica):
    chain.extend(("enrol", 1))
    run(follower.catch_up())
    chain.extend(("toggle", 1))
    chain.hidden_logs.add(chain.height)
    chain.hidden_by_hash = True
    run(follower.catch_up())
    chain.hidden_logs.clear()
    chain.extend(("toggle", 1))
    run(follower.catch_up())
    assert follower.rebuilds == 1
    assert_equal(replica, chain.fleet)


def test_step__event_missing_for_good__raises_and_keeps_the_old_state(chain, follower, replica):
    chain.extend(("enrol", 1))
    run(follower.catch_up())
    before, head = replica.workers(), replica.head
    chain.extend(("toggle", 1))
    chain.hidden_logs.add(chain.height)
    chain.extend(("toggle", 1))
    chain.hidden_by_hash = True
    with pytest.raises(ReplicaGap):
        run(follower.catch_up())
    assert (replica.workers(), replica.head) == (before, head)


def test_step__effects_fail__nothing_is_saved(chain, replica, database):
    database.execute("CREATE TABLE severed (id TEXT)")

    def effects(changes):
        database.execute("INSERT INTO severed VALUES ('x')")
        raise RuntimeError

    chain.extend(("enrol", 1))
    with pytest.raises(RuntimeError):
        run(Follower(chain, replica, DEPLOYMENT, effects=effects).catch_up())
    assert replica.head is None
    assert database.execute("SELECT count(*) FROM severed").fetchone() == (0,)


def test_step__effects_succeed__are_saved_with_the_cursor(chain, replica, database):
    database.execute("CREATE TABLE seen (id TEXT)")

    def effects(changes):
        for change in changes:
            database.execute("INSERT INTO seen VALUES (?)", (change.id,))

    chain.extend(("enrol", 1), ("enrol", 2))
    run(Follower(chain, replica, DEPLOYMENT, effects=effects).catch_up())
    assert database.execute("SELECT id FROM seen").fetchall() == [(worker_id(1),), (worker_id(2),)]


def test_follower__another_deployment__begins_anew(chain, follower, replica):
    chain.extend(("enrol", 1))
    run(follower.catch_up())
    moved = Deployment(99, DEPLOYMENT.service, DEPLOYMENT.releases)
    Follower(chain, replica, moved)
    assert replica.head is None
    assert replica.workers() == []


def test_follower__same_deployment__goes_on(chain, follower, replica):
    chain.extend(("enrol", 1))
    run(follower.catch_up())
    Follower(chain, replica, DEPLOYMENT)
    assert replica.head.number == chain.height


def test_step__key_that_is_not_the_ids__raises(chain, follower):
    stranger = key(2)
    values = {"id": worker_id(1), "owner": worker_id(9), "kind": 1}
    chain.extend(extra=(emitted("Enrolled", **values, x=stranger[:32], y=stranger[32:]),))
    with pytest.raises(AbiError):
        run(follower.catch_up())


def test_follower__abi_without_an_event__is_refused(replica, chain):
    poor = Deployment(1, ContractRecord(DEPLOYMENT.service.address, (), 1), DEPLOYMENT.releases)
    with pytest.raises(AbiError):
        Follower(chain, replica, poor)


async def test_agreeing_source__one_endpoint_lags__follows_the_common_head(chain, replica):
    chain.extend(("enrol", 1))
    behind = MemoryChain()
    behind.blocks = chain.blocks
    behind.visible = chain.height - 1
    await Follower(AgreeingSource([chain, behind]), replica, DEPLOYMENT).catch_up()
    assert replica.head.number == chain.height - 1


async def test_agreeing_source__one_endpoint_hides_a_log__raises(chain, replica):
    liar = MemoryChain()
    chain.extend(("enrol", 1))
    liar.blocks = chain.blocks
    liar.hidden_logs.add(chain.height)
    with pytest.raises(ChainDisagreement):
        await Follower(AgreeingSource([chain, liar]), replica, DEPLOYMENT).catch_up()
    assert replica.head is None


async def test_agreeing_source__different_chains__raises(chain, replica):
    other = MemoryChain()
    other.drop(1)
    other.extend()
    with pytest.raises(ChainDisagreement):
        await Follower(AgreeingSource([chain, other]), replica, DEPLOYMENT).catch_up()
