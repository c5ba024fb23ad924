"""Who may be worked with and under which configuration, as the replica answers it."""

from __future__ import annotations

import gc
import itertools
import weakref

import msgspec
import pytest
from memory_chain import DEPLOYMENT, GENESIS_TIME, MemoryChain, configuration_tuple, emitted, key, run, worker_id

from quietfleet.chain import events
from quietfleet.chain._journal import STEPS
from quietfleet.chain._memory import MOST, Memory
from quietfleet.chain.channel import Report, Terms
from quietfleet.chain.events import Retired
from quietfleet.chain.fold import fold
from quietfleet.chain.follower import Follower
from quietfleet.chain.replica import Replica
from quietfleet.chain.types import Kind, compatible
from quietfleet.errors import CryptoError, KeystoreError, ReplicaGap
from quietfleet.storage import Database

ON_CHAIN_PARTNERS = 0x0E_00_2C_2A_24_00  # the constant in contracts/registry/WorkerRegistry.sol
SECRET = bytes(range(32))
CHANNEL = b"\x07" * 32
TERMS = Terms(b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, 0, GENESIS_TIME, 0, 1)
SENSOR, PROCESSOR, GATEWAY, RELAY, ORACLE = 5, 1, 2, 8, 4  # numbers whose remainder by 5, plus 1, is the kind


@pytest.fixture
def chain():
    return MemoryChain()


@pytest.fixture(params=["plain", "sealed"])
def replica(tmp_path, request):
    with Database(tmp_path / "worker.db") as database:
        made = Replica(database)
        if request.param == "sealed":
            made.seal(SECRET)
        yield made


@pytest.fixture
def follow(chain, replica):
    follower = Follower(chain, replica, DEPLOYMENT)
    return lambda: run(follower.catch_up())


@pytest.fixture
def rotate(chain, follow):
    versions = itertools.count(1)

    def rotate(active_from, grace, keys=1):
        version = next(versions)
        commitment = bytes([keys]) * 32
        parts = configuration_tuple(version=version, activeFrom=active_from, grace=grace, epochKeyCommitment=commitment)
        chain.extend(extra=(emitted("ConfigurationRotated", version=version, configuration=parts),))
        follow()

    return rotate


@pytest.mark.parametrize(("a", "b"), itertools.product(Kind, Kind))
def test_compatible__any_two_kinds__is_the_contracts_matrix(a, b):
    assert compatible(a, b) == bool((ON_CHAIN_PARTNERS >> (a * 8 + b)) & 1)


def test_can_cooperate__sensor_and_processor__both_ways(chain, replica, follow):
    chain.extend(("enrol", SENSOR), ("enrol", PROCESSOR))
    follow()
    assert replica.can_cooperate(worker_id(SENSOR), worker_id(PROCESSOR))
    assert replica.can_cooperate(worker_id(PROCESSOR), worker_id(SENSOR))


@pytest.mark.parametrize("verb", ["toggle", "suspend", "retire"])
def test_can_cooperate__one_is_out__refused_at_once(chain, replica, follow, verb):
    chain.extend(("enrol", SENSOR), ("enrol", PROCESSOR))
    chain.extend((verb, SENSOR))
    follow()
    assert not replica.can_cooperate(worker_id(SENSOR), worker_id(PROCESSOR))


def test_can_cooperate__unknown_or_itself__refused(chain, replica, follow):
    chain.extend(("enrol", GATEWAY))
    follow()
    assert not replica.can_cooperate(worker_id(GATEWAY), worker_id(GATEWAY))
    assert not replica.can_cooperate(worker_id(GATEWAY), worker_id(77))


def test_can_cooperate__pending__only_after_acceptance(chain, replica, follow):
    chain.extend(("enrol", 0), ("enrol", PROCESSOR))
    follow()
    assert not replica.can_cooperate(worker_id(0), worker_id(PROCESSOR))
    chain.extend(("accept", 0))
    follow()
    assert replica.can_cooperate(worker_id(0), worker_id(PROCESSOR))


def test_usable__grant__waits_for_its_confirmations(chain, replica, follow):
    chain.extend(("enrol", SENSOR))
    for depth in range(4):
        follow()
        assert replica.usable(worker_id(SENSOR), confirmations=3) == (depth == 3)
        assert replica.usable(worker_id(SENSOR))
        chain.extend()


def test_usable__switched_off_and_on_again__waits_anew(chain, replica, follow):
    chain.extend(("enrol", SENSOR))
    for _ in range(5):
        chain.extend()
    chain.extend(("toggle", SENSOR), ("toggle", SENSOR))
    follow()
    assert replica.usable(worker_id(SENSOR), confirmations=0)
    assert not replica.usable(worker_id(SENSOR), confirmations=2)
    chain.extend()
    chain.extend()
    follow()
    assert replica.usable(worker_id(SENSOR), confirmations=2)


def test_usable__young_change_that_is_no_grant__does_not_wait(chain, replica, follow):
    chain.extend(("enrol", SENSOR))
    for _ in range(5):
        chain.extend()
    chain.extend(("sell", SENSOR))
    follow()
    assert replica.usable(worker_id(SENSOR), confirmations=3)


def test_usable__revocation__needs_no_confirmation(chain, replica, follow):
    chain.extend(("enrol", SENSOR))
    for _ in range(5):
        chain.extend()
    chain.extend(("toggle", SENSOR))
    follow()
    assert not replica.usable(worker_id(SENSOR), confirmations=3)


def test_is_stale__newest_block_older_than_the_limit__is_stale(chain, replica, follow):
    assert replica.is_stale(GENESIS_TIME, limit=1e9)
    follow()
    newest = replica.head.timestamp
    assert not replica.is_stale(newest + 30, limit=30)
    assert replica.is_stale(newest + 30.1, limit=30)


def test_workers__by_owner_and_kind__lists_those(chain, replica, follow):
    for number in range(8):
        chain.extend(("enrol", number))
    follow()
    assert [one.id for one in replica.workers(kind=Kind.SENSOR)] == sorted([worker_id(0), worker_id(5)])
    mine = replica.worker(worker_id(5))
    assert replica.workers(owner=mine.owner) == [mine]
    assert replica.workers(owner=mine.owner, kind=Kind.ORACLE) == []


def test_configuration__nothing_rotated__is_none(replica, follow):
    follow()
    assert replica.configuration() == (None, None)
    assert replica.history() == []


def versions(replica):
    return [one.version if one else 0 for one in replica.configuration()]


def test_configuration__each_in_force_before_the_next__the_one_before_is_previous(chain, replica, rotate):
    now = chain.blocks[-1].header.timestamp
    for active_from in (now + 12, now + 24, now + 36):
        rotate(active_from, 600)
    assert versions(replica) == [3, 2]


def test_configuration__replaced_while_it_waited__the_one_in_force_stays_previous(chain, replica, rotate):
    now = chain.blocks[-1].header.timestamp
    rotate(now + 12, 60)
    rotate(now + 500, 60)
    rotate(now + 900, 60)
    assert versions(replica) == [3, 1]
    assert [one.version for one in replica.history()] == [3, 2, 1]


def test_configuration__first_one_replaced_while_it_waited__there_is_no_previous(chain, replica, rotate):
    now = chain.blocks[-1].header.timestamp
    rotate(now + 500, 60)
    rotate(now + 900, 60)
    assert versions(replica) == [2, 0]


def test_configuration__emergency_while_one_waits__takes_its_place_at_once(chain, replica, rotate):
    now = chain.blocks[-1].header.timestamp
    rotate(now + 12, 60)
    rotate(now + 500, 60)
    rotate(now + 36, 0)
    assert versions(replica) == [3, 1]


def test_configuration__two_in_one_block__the_first_was_in_force(chain, replica, follow):
    chain.extend(("rotate", 0), ("rotate", 0))
    follow()
    assert versions(replica) == [2, 1]


def test_offered_to__until_the_offer_ends(chain, replica, follow):
    chain.extend(("enrol", SENSOR))
    for verb in ("sell", "cancel", "retire"):
        chain.extend(("offer", SENSOR))
        follow()
        assert replica.worker(worker_id(SENSOR)).offered_to is not None
        chain.extend((verb, SENSOR))
        follow()
        assert replica.worker(worker_id(SENSOR)).offered_to is None


def test_configuration__same_keys_again__epoch_stays(chain, replica, rotate):
    now = chain.blocks[-1].header.timestamp
    rotate(now + 12, 60)
    rotate(now + 24, 60)
    rotate(now + 500, 60, keys=2)
    rotate(now + 600, 60, keys=2)
    latest, previous = replica.configuration()
    assert (latest.epoch, previous.epoch) == (3, 1)
    rotate(now + 60, 0)
    latest, previous = replica.configuration()
    assert (latest.version, latest.epoch) == (5, 1), "an emergency may return to the keys in force"
    rotate(now + 72, 0, keys=3)
    assert replica.configuration()[0].epoch == 6


def test_current__while_it_rolls__until_its_time_is_over(chain, replica, follow):
    for verb in ("propose", "approve", "open", "finalise", "propose", "approve", "open"):
        chain.extend((verb, 0))
    follow()
    expires = replica.channel(bytes(32)).head.expires_at
    assert replica.channel(bytes(32)).current(expires).sequence == 2
    assert replica.channel(bytes(32)).current(expires + 1).sequence == 1


def test_current__not_open_yet__is_none(chain, replica, follow):
    for verb in ("propose", "approve"):
        chain.extend((verb, 0))
        follow()
        assert replica.channel(bytes(32)).current(0.0) is None


def test_current__next_one_paused__the_one_brought_back(chain, replica, follow):
    for verb in ("propose", "approve", "open", "finalise", "propose", "roll_back", "propose", "approve", "open"):
        chain.extend((verb, 0))
    follow()
    assert replica.channel(bytes(32)).current(0.0).sequence == 4
    chain.extend(("pause", 0))
    follow()
    assert replica.channel(bytes(32)).current(0.0).sequence == 3


def test_current__paused__the_last_completed_one(chain, replica, follow):
    for verb in ("propose", "approve", "open", "finalise", "propose", "approve", "open", "pause"):
        chain.extend((verb, 0))
    follow()
    assert replica.channel(bytes(32)).current(0.0).sequence == 1
    chain.extend(("resume", 0))
    follow()
    assert replica.channel(bytes(32)).current(0.0).sequence == 2


def test_release_changed__only_when_devices_should_run_another(chain, follow):
    told = []
    for verb in ("propose", "approve", "open", "pause", "resume", "finalise", "propose", "roll_back"):
        chain.extend((verb, 0))
        told += [(verb, change.release and change.release.sequence) for change in follow()]
    assert told == [("open", 1), ("pause", None), ("resume", 1), ("roll_back", 3)]


def test_worker_of__key_rotated_then_reorganised_away__is_nobodys_again(chain, replica, follow):
    chain.extend(("enrol", SENSOR))
    chain.extend(("rekey", SENSOR))
    follow()
    later = replica.worker(worker_id(SENSOR)).key
    assert replica.worker_of(later) == (worker_id(SENSOR), 1, True)
    assert replica.worker_of(worker_id(SENSOR)) == (worker_id(SENSOR), 0, False)
    chain.drop(1)
    chain.extend()
    chain.extend()
    follow()
    assert replica.worker_of(later) is None
    assert replica.worker_of(worker_id(SENSOR)) == (worker_id(SENSOR), 0, True)


@pytest.mark.parametrize("taken", [GATEWAY, PROCESSOR])
def test_worker_of__chain_shows_a_key_given_twice__is_a_gap_and_nothing_changes(chain, replica, follow, taken):
    """A contract never does: the endpoint makes it up. One is a worker's first key, the other one's later key."""
    chain.extend(("enrol", SENSOR), ("enrol", PROCESSOR), ("enrol", GATEWAY), ("rekey", PROCESSOR))
    follow()
    stolen = replica.worker(worker_id(taken))
    x, y = stolen.public_key[:32], stolen.public_key[32:]
    chain.extend(extra=(emitted("KeyRotated", id=worker_id(SENSOR), key=stolen.key, x=x, y=y, epoch=1, sequence=2),))
    with pytest.raises(ReplicaGap):
        follow()
    assert replica.worker_of(stolen.key).worker == stolen.id
    assert replica.worker(worker_id(SENSOR)).epoch == 0


def test_replica__written_under_former_contracts__is_read_anew(tmp_path, chain):
    path = tmp_path / "worker.db"
    with Database(path) as database:
        database.migrate("chain", STEPS[:1])
        database.execute("INSERT INTO chain_identity VALUES ('1337:former')")
        database.execute("INSERT INTO chain_blocks VALUES (1, x'00', 1)")
        database.execute("INSERT INTO chain_events VALUES (1, 0, 1, 'configuration', x'7b7d')")
        replica = Replica(database)
        assert (replica.head, replica.configuration(), replica.history()) == (None, (None, None), [])
        chain.extend(("enrol", SENSOR))
        run(Follower(chain, replica, DEPLOYMENT).catch_up())
        assert replica.usable(worker_id(SENSOR))


def test_fold__first_event_is_not_an_enrolment__is_a_gap(chain):
    with pytest.raises(ReplicaGap):
        fold(None, Retired(worker_id(1), worker_id(2), 1), GENESIS_TIME)


@pytest.mark.parametrize(
    "event",
    [
        events.ReleaseProposed(CHANNEL, 3, TERMS),
        events.ReleaseApproved(CHANNEL, 2, ""),
        events.ReleaseApproved(CHANNEL, 1, ""),
        events.WaveOpened(CHANNEL, 2, 2),
        events.WaveOpened(CHANNEL, 1, 1),
        events.RolloutPaused(CHANNEL, 2, ""),
        events.RolloutResumed(CHANNEL, 2, ""),
        events.ReleaseFinalised(CHANNEL, 2, 0, Report(0, 0, 0)),
        events.RolledBack(CHANNEL, 3, TERMS.manifest_hash, 2),
        events.RolledBack(CHANNEL, 3, bytes(32), 1),
        events.ReleaseRevoked(CHANNEL, 7, TERMS.manifest_hash, 8),
        events.ReleaseRevoked(CHANNEL, 0, TERMS.manifest_hash, 0),
    ],
    ids=lambda event: f"{type(event).__name__} {event.sequence}",
)
def test_fold__step_of_a_release_that_cannot_follow__is_a_gap(event):
    """The second release is approved; the first one reached the fleet."""
    other = msgspec.structs.replace(TERMS, manifest_hash=b"\x02" * 32)
    before = [
        events.ReleaseProposed(CHANNEL, 1, other),
        events.ReleaseApproved(CHANNEL, 1, ""),
        events.WaveOpened(CHANNEL, 1, 1),
        events.ReleaseFinalised(CHANNEL, 1, 0, Report(0, 0, 0)),
        events.ReleaseProposed(CHANNEL, 2, TERMS),
        events.ReleaseApproved(CHANNEL, 2, ""),
    ]
    state = None
    for step in before:
        state = fold(state, step, GENESIS_TIME)
    assert fold(state, events.WaveOpened(CHANNEL, 2, 1), GENESIS_TIME).current().sequence == 2
    if event.sequence == 3 and isinstance(event, events.ReleaseProposed):
        state = fold(state, events.WaveOpened(CHANNEL, 2, 1), GENESIS_TIME)
    with pytest.raises(ReplicaGap):
        fold(state, event, GENESIS_TIME)


def test_fold__key_of_another_epoch_than_the_next__is_a_gap():
    enrolled = fold(None, events.Enrolled(worker_id(1), worker_id(2), Kind.SENSOR, key(1)), GENESIS_TIME)
    assert fold(enrolled, events.KeyRotated(worker_id(1), worker_id(3), key(3), 1, 2), GENESIS_TIME).epoch == 1
    with pytest.raises(ReplicaGap):
        fold(enrolled, events.KeyRotated(worker_id(1), worker_id(3), key(3), 2, 2), GENESIS_TIME)


def test_memory__a_step_is_rolled_back__what_was_read_meanwhile_is_forgotten(chain, replica, follow):
    chain.extend(("enrol", SENSOR))
    follow()
    chain.extend(("toggle", SENSOR))
    seen = []

    def effects(_changes):
        seen.append(replica.usable(worker_id(SENSOR)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Follower(chain, replica, DEPLOYMENT, effects=effects).catch_up())
    assert seen == [False]
    assert replica.usable(worker_id(SENSOR))
    assert replica.head.number == chain.height - 1


def test_memory__a_transaction_around_the_step_fails__forgotten_too(chain, replica, follow):
    chain.extend(("enrol", SENSOR))
    follow()
    known = replica.head
    chain.extend(("toggle", SENSOR))

    def around():
        with replica._database.transaction():
            follow()
            assert not replica.usable(worker_id(SENSOR))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        around()
    assert replica.usable(worker_id(SENSOR), confirmations=0)
    assert replica.head == known


def test_memory__another_replica_on_the_same_database_moves_on__both_see_it(chain, replica, follow):
    chain.extend(("enrol", SENSOR))
    follow()
    assert replica.usable(worker_id(SENSOR))
    chain.extend(("toggle", SENSOR))
    run(Follower(chain, Replica(replica._database, SECRET), DEPLOYMENT).catch_up())
    assert not replica.usable(worker_id(SENSOR))
    assert replica.head.number == chain.height


def test_memory__asked_about_a_million_made_up_workers__stays_small(replica):
    for number in range(MOST + 10):
        assert replica.worker(f"0x{number:040x}") is None
    assert len(Memory.of(replica._database)._answers) <= MOST


def test_memory__database_is_gone__so_is_its_memory(tmp_path):
    with Database(tmp_path / "other.db") as database:
        Replica(database).worker(worker_id(1))
        kept = weakref.ref(Memory.of(database))
    del database
    gc.collect()
    assert kept() is None


def test_seal__a_replica_in_use__says_the_same_and_names_nobody_on_disk(tmp_path, chain):
    with Database(tmp_path / "worker.db") as database:
        plain = Replica(database)
        chain.extend(*(("enrol", number) for number in (SENSOR, PROCESSOR, GATEWAY)))
        for verb in ("propose", "approve", "open"):
            chain.extend((verb, 0))
        run(Follower(chain, plain, DEPLOYMENT).catch_up())
        before = (plain.workers(), plain.channel(bytes(32)), plain.ring(), plain.configuration())
        plain.seal(SECRET)
        again = Replica(database, SECRET)
        for one in (plain, again):
            assert (one.workers(), one.channel(bytes(32)), one.ring(), one.configuration()) == before
        chain.extend(("enrol", RELAY))
        run(Follower(chain, again, DEPLOYMENT).catch_up())
        assert again.worker(worker_id(RELAY)) is not None
        database.truncate_log()
        data = (tmp_path / "worker.db").read_bytes().lower()
        for state in again.workers():
            assert state.id.lower().removeprefix("0x").encode() not in data
            assert bytes.fromhex(state.id[2:]) not in data
            assert state.owner.lower().removeprefix("0x").encode() not in data
        for secret in (None, bytes(32)):
            with pytest.raises((KeystoreError, CryptoError)):
                Replica(database, secret)
