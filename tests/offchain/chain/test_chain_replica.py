"""Who may be worked with and under which configuration, as the replica answers it."""

from __future__ import annotations

import itertools

import pytest
from memory_chain import DEPLOYMENT, GENESIS_TIME, MemoryChain, configuration_tuple, emitted, run, worker_id

from quietfleet.chain.events import Retired
from quietfleet.chain.fold import fold
from quietfleet.chain.follower import Follower
from quietfleet.chain.replica import Replica
from quietfleet.chain.types import Kind, compatible
from quietfleet.errors import ReplicaGap
from quietfleet.storage import Database

ON_CHAIN_PARTNERS = 0x0E_00_2C_2A_24_00  # the constant in contracts/registry/WorkerRegistry.sol
SENSOR, PROCESSOR, GATEWAY, RELAY, ORACLE = 5, 1, 2, 8, 4  # numbers whose remainder by 5, plus 1, is the kind


@pytest.fixture
def chain():
    return MemoryChain()


@pytest.fixture
def replica(tmp_path):
    with Database(tmp_path / "worker.db") as database:
        yield Replica(database)


@pytest.fixture
def follow(chain, replica):
    follower = Follower(chain, replica, DEPLOYMENT)
    return lambda: run(follower.catch_up())


@pytest.fixture
def rotate(chain, follow):
    versions = itertools.count(1)

    def rotate(active_from, grace):
        version = next(versions)
        parts = configuration_tuple(version=version, activeFrom=active_from, grace=grace)
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


def test_configuration_at__nothing_rotated__is_none(replica, follow):
    follow()
    assert replica.configuration() == (None, None)
    assert replica.configuration_at(GENESIS_TIME * 2) is None


def test_configuration_at__announced__takes_over_at_its_time_and_tolerates_for_the_grace(chain, replica, rotate):
    now = chain.blocks[-1].header.timestamp
    rotate(now + 12, 60)
    rotate(now + 1000, 30)
    assert replica.configuration_at(now + 11) is None
    in_force = [(now + 999, 1, []), (now + 1000, 2, [1]), (now + 1029.9, 2, [1]), (now + 1030, 2, [])]
    for time, current, tolerated in in_force:
        found = replica.configuration_at(time)
        assert (found.current.version, [one.version for one in found.tolerated]) == (current, tolerated)


def test_configuration_at__rotation_without_grace__ends_everything_before(chain, replica, rotate):
    now = chain.blocks[-1].header.timestamp
    rotate(now + 12, 60)
    rotate(now + 40, 600)
    rotate(now + 60, 0)
    assert replica.configuration_at(now + 61).tolerated == ()


def test_configuration_at__two_graces_overlap__both_are_tolerated(chain, replica, rotate):
    now = chain.blocks[-1].header.timestamp
    for active_from in (now + 12, now + 24, now + 36):
        rotate(active_from, 600)
    assert [one.version for one in replica.configuration_at(now + 40).tolerated] == [2, 1]


def test_configuration_at__replaced_while_it_waited__never_counts(chain, replica, rotate):
    now = chain.blocks[-1].header.timestamp
    rotate(now + 12, 60)
    rotate(now + 500, 60)
    rotate(now + 900, 60)
    assert replica.configuration_at(now + 600).current.version == 1
    assert [one.version for one in replica.configuration()] == [3, 1]


def test_public_key__unknown_worker__is_none(replica, follow):
    follow()
    assert replica.public_key(worker_id(1)) is None


def test_fold__first_event_is_not_an_enrolment__is_a_gap(chain):
    with pytest.raises(ReplicaGap):
        fold(None, Retired(worker_id(1), worker_id(2), 1), GENESIS_TIME)
