"""Several oracle processes with one identity: each request answered exactly once, whichever of them dies, and when."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from worker_world import PASSPHRASE, Pen, Worker

from quietfleet.chain.events import OwnerChanged
from quietfleet.chain.types import Kind
from quietfleet.dispatch import Withdraw
from quietfleet.errors import StoreReverted, StoreUnavailable
from quietfleet.session import Expired
from quietfleet.testbed import redis as testbed
from quietfleet.workers._replicated import ReplicatedRuntime
from quietfleet.workers._runtime import Runtime
from quietfleet.workers.epoch import prepare_epoch
from quietfleet.workers.messages import EpochKeyGrant, EpochKeyRequest
from quietfleet.workers.start import make_runtime


class Died(BaseException):
    """A process that is gone; nothing handles it."""


class Mortal(ReplicatedRuntime):
    """A replica that dies as so many more steps reached the store: before its own disk has the last, or after it."""

    lives: int | None = None
    early = False
    _depth = 0

    @contextmanager
    def transaction(self):
        self._depth += 1
        try:
            with self.database.transaction():
                with self.rows.transaction():
                    yield self
                self._age(early=True)
        finally:
            self._depth -= 1
        self._age(early=False)

    def _age(self, *, early):
        outermost = self._depth == (1 if early else 0)
        if self.lives is None or not outermost or early != self.early:
            return
        self.lives -= 1
        if self.lives <= 0:
            raise Died


class Frail(Worker):
    """A worker whose process may end in the middle of anything."""

    async def _mortal(self, doing):
        try:
            await doing
        except Died:
            self.crash()

    async def beat(self):
        await self._mortal(super().beat())

    async def hear(self, envelope):
        if self.up:
            await self._mortal(super().hear(envelope))

    async def read(self, ancestor, batch):
        await self._mortal(super().read(ancestor, batch))


class Counting:
    """Counts, in the store and so exactly as often as it happened, which word was acted on."""

    def __init__(self, runtime):
        self._table = runtime.rows.table("counted_by_the_test")
        self._act = runtime.heed
        runtime.heed = self

    def __call__(self, peer, word):
        if isinstance(word, Withdraw):
            key = bytes.fromhex(word.offer_id)
            self._table.put(key, (self.of(word.offer_id) + 1).to_bytes(2, "big"))
        self._act(peer, word)

    def of(self, offer_id):
        return int.from_bytes(self._table.get(bytes.fromhex(offer_id)) or b"", "big")


@pytest.fixture(params=["sqlite", "redis"])
def store(request, monkeypatch):
    if request.param == "sqlite":
        return "sqlite:shared/oracle.db"
    server = request.getfixturevalue("redis_server")
    monkeypatch.setenv("QUIETFLEET_REDIS_PASSWORD", server.password)
    request.getfixturevalue("emptied_redis")
    return server.url


@pytest.fixture
def emptied_redis(redis_server):
    import redis  # noqa: PLC0415 - an extra

    with redis.Redis(port=redis_server.port, password=redis_server.password) as client:
        client.flushall()


async def replicas(world, count):
    """So many replicas of one oracle."""
    made = []
    for number in range(1, count + 1):
        name = "oracle" if number == 1 else f"oracle#{number}"
        worker = await world.add(name, Kind.ORACLE, runtime=Mortal, enrol=number == 1)
        worker.__class__ = Frail
        worker.counting = Counting(worker.runtime)
        made.append(worker)
    for one in made:
        await one.do(lambda: None)
    return made


@pytest.fixture
async def pair(world, store):
    world.store = store
    return await replicas(world, 2)


async def members(world, count, agent=Pen):
    kinds = (Kind.PROCESSOR, Kind.SENSOR)
    workers = [await world.add(f"worker{number}", kinds[number % 2], agent=agent) for number in range(count)]
    await world.rotate()
    await world.until(lambda: all(worker.runtime.membership.complete for worker in workers))
    return workers


def owners(oracles, worker):
    return [one for one in oracles if one.up and one.in_session_with(worker)]


def leader(oracles):
    return next(one for one in oracles if one.up and one.runtime.leads)


async def test_replicas__workers_that_call__each_is_with_exactly_one(world, pair):
    workers = await members(world, 6)
    await world.pass_time(2)
    assert [len(owners(pair, worker)) for worker in workers] == [1] * 6
    assert {id(owners(pair, worker)[0]) for worker in workers} == {id(one) for one in pair}
    assert sum(one.metric("steps_failed") for one in pair) == 0


async def test_replicas__cards__announced_by_the_one_that_leads(world, pair):
    await members(world, 2)
    leads, follows = leader(pair), next(one for one in pair if not one.runtime.leads)
    heard = []
    for one in pair:
        one.runtime.messenger.announce = lambda *_, name=one.name, **__: heard.append(name)
    await world.pass_time(5)
    assert set(heard) == {leads.name}
    assert follows.name not in heard


def say_all(worker, oracle, ids):
    for offer_id in ids:
        worker.runtime.messenger.notify(oracle.id, Withdraw(offer_id), 300.0, "said")


def acted_on(oracles, ids):
    counting = next(one for one in oracles if one.up).counting
    return [counting.of(offer_id) for offer_id in ids]


def offer_ids(number, count):
    return [f"{number:02x}{word:030x}" for word in range(1, count + 1)]


DEATHS = [
    (0, 1, True),
    (0, 2, False),
    (0, 4, True),
    (0, 7, False),
    (1, 1, False),
    (1, 2, True),
    (1, 3, False),
    (1, 6, True),
]


@pytest.mark.parametrize(("which", "lives", "early"), DEATHS)
async def test_words__a_replica_dies_in_between__each_is_acted_on_exactly_once(world, pair, which, lives, early):
    workers = await members(world, 4)
    said = {worker: offer_ids(number, 5) for number, worker in enumerate(workers)}
    for worker, ids in said.items():
        await worker.do(lambda worker=worker, ids=ids: say_all(worker, pair[0], ids))
    pair[which].runtime.lives, pair[which].runtime.early = lives, early
    everything = [offer_id for ids in said.values() for offer_id in ids]
    await world.until(lambda: min(acted_on(pair, everything)) >= 1, within=90)
    await world.pass_time(30)
    assert acted_on(pair, everything) == [1] * len(everything)
    assert not any(isinstance(event, Expired) for worker in workers for event in worker.agent.events)
    assert not pair[which].up


@pytest.mark.parametrize(("which", "lives"), [(0, 3), (0, 9), (1, 3), (1, 8)])
async def test_deal__a_replica_dies_in_the_middle_of_it__concluded(world, store, which, lives):
    world.store = store
    oracles = await replicas(world, 2)
    processor = await world.add("processor", Kind.PROCESSOR)
    sensor = await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    await world.until(lambda: processor.runtime.membership.complete and sensor.runtime.membership.complete)
    oracles[which].runtime.lives = lives
    await world.until(lambda: sensor.journal("session-open") != [], within=120)
    assert sensor.in_session_with(processor)
    assert len(sensor.journal("session-open")) == len(processor.journal("session-open")) == 1


async def test_replica__paused_and_woken__joins_again_and_answers_nothing_twice(world, pair):
    workers = await members(world, 4)
    sleeper = leader(pair)
    sleeper.up = False
    said = {worker: offer_ids(number, 3) for number, worker in enumerate(workers)}
    for worker, ids in said.items():
        await worker.do(lambda worker=worker, ids=ids: say_all(worker, pair[0], ids))
    everything = [offer_id for ids in said.values() for offer_id in ids]
    await world.until(lambda: min(acted_on(pair, everything)) >= 1, within=60)
    sleeper.up = True
    await sleeper.do(lambda: None)
    await world.catch_up(sleeper)
    await world.pass_time(20)
    assert acted_on(pair, everything) == [1] * len(everything)
    assert not sleeper.runtime.leads
    assert [len(owners(pair, worker)) for worker in workers] == [1] * 4


async def test_replica__stopped_cleanly__the_others_take_over_at_once(world, pair):
    workers = await members(world, 4)
    pair[0].runtime.replicas.leave()
    pair[0].crash()
    await world.pass_time(1)
    assert all(owners(pair, worker) == [pair[1]] for worker in workers)
    assert pair[1].runtime.leads


async def test_severing__owner_switched_off_what_a_dead_replica_had__no_session_left(world, pair):
    workers = await members(world, 4)
    for worker in workers:
        owner = owners(pair, worker)[0]
        if owner is pair[0]:
            break
    pair[0].crash()
    await world.switch(worker, active=False)
    await world.pass_time(10)
    assert owners(pair, worker) == []
    assert pair[1].runtime.messenger.table.with_peer(worker.id) == []
    assert pair[1].journal("severed") != []


async def toggled(world, worker):
    await world.switch(worker, active=False)
    await world.switch(worker, active=True)


async def handed_over(world, worker):
    state = next(iter(world.up())).runtime.replica.worker(worker.id)
    await world.say(OwnerChanged(worker.id, state.owner, "0x" + "bb" * 20, state.sequence + 1))


@pytest.mark.parametrize("part", [toggled, handed_over])
async def test_severing__parted_from_what_a_dead_replica_had_and_allowed_again__no_session_left(world, pair, part):
    workers = await members(world, 4)
    worker = next(one for one in workers if owners(pair, one)[0] is pair[0])
    await world.pass_time(30)
    kept = {session.id for session in pair[0].runtime.messenger.table.with_peer(worker.id)}
    pair[0].crash()
    worker.crash()  # whoever has a copy of its keys says nothing for now
    await part(world, worker)
    await world.pass_time(10)
    assert pair[1].runtime.mine(worker.id)
    assert kept.isdisjoint(pair[1].runtime.messenger.table.sessions)


async def test_severing__told_while_the_store_is_lost_and_killed__no_session_left(world, pair):
    workers = await members(world, 4)
    worker = next(one for one in workers if owners(pair, one)[0] is pair[0])
    await world.pass_time(30)
    kept = {session.id for session in pair[0].runtime.messenger.table.with_peer(worker.id)}
    worker.crash()
    for one in pair:
        lose_store(one)
    await toggled(world, worker)
    for one in pair:
        one.crash()
        one.start()
    await world.pass_time(10)
    for one in pair:
        assert kept.isdisjoint(one.runtime.messenger.table.sessions)


async def test_epoch_keys__two_replicas__both_grant_the_same(world, pair):
    workers = await members(world, 4)
    keys = {worker.runtime.messenger.epochs.epoch_key(1) for worker in workers}
    assert len(keys) == 1
    assert {one.runtime.messenger.epochs.epoch_key(1) for one in pair} == keys
    asker = workers[0]
    ask = EpochKeyRequest(1)
    await asker.do(lambda: asker.runtime.messenger.request(pair[0].id, ask, (EpochKeyGrant,), 60.0, "again"))
    asker.agent.events.clear()
    await world.pass_time(3)
    assert len(asker.agent.heard(EpochKeyGrant)) <= 1


async def test_prepare_epoch__beside_running_replicas__both_have_what_was_drawn(world, pair):
    await members(world, 2)
    settings, key = world.settings("oracle"), pair[0].key
    pair[0].keep_first_key()
    prepared = prepare_epoch(settings, key, PASSPHRASE, 2, epoch_key=True)
    assert prepare_epoch(world.settings("oracle#2"), key, PASSPHRASE, 2, epoch_key=True) == prepared
    await world.rotate()
    await world.pass_time(3)
    kept = [one.runtime.messenger.epochs for one in pair]
    assert {"0x" + one.secrets(2).card.digest.hex() for one in kept} == {prepared.card_digest}
    assert len({one.epoch_key(2) for one in kept}) == 1


async def test_status__of_replicas__says_who_leads_and_how_many_peers_are_whose(world, pair):
    await members(world, 4)
    shown = [one.runtime.status()["replicas"] for one in pair]
    assert [one["leads"] for one in shown] == [True, False]
    assert shown[0]["members"] == shown[1]["members"] == [one["id"] for one in shown]
    assert sum(one["peers"] for one in shown) == 4
    assert {one["store"] for one in shown} == {"in reach"}


# the store, lost or attacked


def lose_store(oracle):
    """Have every question to the store fail, as behind a broken line."""
    rows = oracle.runtime.rows.store

    def broken(*_, **__):
        raise StoreUnavailable("test")

    for name in ("read", "write", "ask", "written", "snapshot"):
        if hasattr(rows, name):
            setattr(rows, name, broken)
    return rows


def mend(rows):
    for name in ("read", "write", "ask", "written", "snapshot"):
        rows.__dict__.pop(name, None)


async def test_store__lost_and_back__nothing_answered_meanwhile_and_everything_after(world, pair):
    workers = await members(world, 2)
    rows = [lose_store(one) for one in pair]
    for number, worker in enumerate(workers):
        await worker.do(lambda worker=worker, number=number: say_all(worker, pair[0], offer_ids(number, 2)))
    sent = len([1 for sender, _ in world.wire if sender in pair])
    await world.pass_time(10)
    assert len([1 for sender, _ in world.wire if sender in pair]) == sent
    assert all(one.journal("store-lost") == [{"reason": "StoreUnavailable"}] for one in pair)
    assert all("cannot be reached" in one.runtime.status()["replicas"]["store"] for one in pair)
    for one in rows:
        mend(one)
    everything = offer_ids(0, 2) + offer_ids(1, 2)
    await world.until(lambda: min(acted_on(pair, everything)) >= 1, within=60)
    assert acted_on(pair, everything) == [1] * 4
    assert all(one.journal("store-back") for one in pair)


async def test_store__lost_while_an_owner_switches_off__severed_when_it_is_back(world, pair):
    workers = await members(world, 2)
    worker = workers[0]
    rows, told = [lose_store(one) for one in pair], {one.name: [] for one in pair}
    for one in pair:
        one.agent.on_change = told[one.name].append
    await world.switch(worker, active=False)
    assert not all(told.values()), "whoever had to change the store could not"
    assert all(one.runtime.replica.head.number == world._block for one in pair), "the chain is followed all the same"
    for one in rows:
        mend(one)
    await world.pass_time(5)
    assert [[change.id for change in heard] for heard in told.values()] == [[worker.id]] * 2
    assert owners(pair, worker) == []
    assert all(one.runtime.messenger.table.with_peer(worker.id) == [] for one in pair)


def raw(oracle, name):
    """A table as an intruder has it, who asks nobody."""
    rows = oracle.runtime.rows.store
    rows.guard = None
    return rows.table(name)


def altered(rows, before):
    row_id, row = rows.all()[0]
    rows.put(row_id, row[:-1] + bytes([row[-1] ^ 1]))


def put_back(rows, before):
    row_id = next(one for one, row in before.items() if rows.get(one) not in {None, row})
    rows.put(row_id, before[row_id])


def taken_away(rows, before):
    rows.delete(rows.ids()[0])


@pytest.mark.parametrize("attack", [altered, put_back, taken_away])
async def test_attack__row_of_a_session__whoever_takes_over_answers_nobody_and_says_so(world, pair, attack):
    workers = await members(world, 4)
    intruder = pair[0].runtime.rows.store.table("session_sessions")
    before = dict(intruder.all())
    for number, worker in enumerate(workers):
        await worker.do(lambda worker=worker, number=number: say_all(worker, pair[0], offer_ids(number, 1)))
    await world.pass_time(3)
    pair[0].crash()
    attack(raw(pair[1], "session_sessions"), before)
    await world.pass_time(8)
    sent = len([1 for sender, _ in world.wire if sender is pair[1]])
    await world.pass_time(8)
    assert pair[1].journal("store-lost") == [{"reason": StoreReverted.__name__}]
    assert len([1 for sender, _ in world.wire if sender is pair[1]]) == sent
    assert "altered or set back" in pair[1].runtime.status()["replicas"]["store"]


async def test_attack__names_of_rows__tell_nobody_who_talks_to_the_oracle(world, pair):
    workers = await members(world, 4)
    for worker in workers:
        await worker.do(lambda worker=worker: worker.runtime.messenger.send_large(pair[0].id, "x", b"y" * 100))
    await world.pass_time(3)
    seen = b"".join(part for name in TABLES for row in raw(pair[0], name).all() for part in row)
    for worker in workers:
        assert bytes.fromhex(worker.id[2:]) not in seen
        assert worker.id.lower().encode() not in seen.lower()
        assert worker.key.public.to_bytes() not in seen


TABLES = [
    "replica_view",
    "replica_beats",
    "replica_mail",
    "session_sessions",
    "session_tombstones",
    "session_outbox",
    "session_given_up",
    "session_handled",
    "session_epochs",
    "session_large_in",
    "session_large_out",
    "session_large_pieces",
]


async def test_disks__own_is_full_as_the_store_is_lost__answers_nothing_and_goes_on_when_both_are_back(
    world, pair, monkeypatch
):
    def lost(*_):
        raise StoreUnavailable("no room either")

    (worker,) = await members(world, 1)
    for oracle in pair:
        pages = oracle.rows("PRAGMA page_count")[0][0]
        oracle.rows(f"PRAGMA max_page_count = {pages}")
    with monkeypatch.context() as outage:
        for oracle in pair:
            outage.setattr(oracle.runtime.replicas, "look", lost)
        while not any("full" in oracle.runtime.disk.words for oracle in pair):
            for oracle in pair:
                oracle.runtime._outage = ""  # so that it has something to note down each time
                with oracle.runtime.disk.borne():
                    oracle.runtime.note("filled", why="x" * 2000)
        for oracle in pair:
            oracle.runtime._outage, oracle.runtime._look_due = "", 0.0
        world.wire.clear()
        await world.pass_time(5)
        assert [sender for sender, _ in world.wire if sender in pair] == []
        assert all(oracle.runtime._outage for oracle in pair)
    for oracle in pair:
        oracle.rows("PRAGMA max_page_count = 1000000")
    await worker.do(lambda: worker.runtime.messenger.notify(pair[0].id, Withdraw("ab" * 16)))
    await world.until(lambda: not worker.runtime.messenger.conversations.pending)
    assert all(oracle.metric("steps_failed") == 0 for oracle in pair)


def test_redis_server__missing__is_what_the_skipped_tests_say():
    assert "apt-get" in testbed.MISSING


@pytest.mark.parametrize(("kind", "store", "made"), [("oracle", "", Runtime), ("sensor", "sqlite:x.db", Runtime)])
def test_runtime__of_a_worker_without_replicas__is_the_plain_one(world, kind, store, made):
    world.store = store
    assert make_runtime(kind, world.settings("oracle")) is made


def test_runtime__of_an_oracle_with_a_store__shares_it(world):
    world.store = "sqlite:shared/oracle.db"
    assert make_runtime("oracle", world.settings("oracle")) is ReplicatedRuntime
