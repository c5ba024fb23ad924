"""Who is a member, who owns a peer, who leads: in a file and in Redis, by a clock that is told to move."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from replica_kit import PEERS, SECRET, Team

from quietfleet.errors import Fenced, StoreReverted
from quietfleet.session import Vault
from quietfleet.workers._replicas import DEAD, View


@pytest.fixture
def team(openings):
    team = Team(openings())
    yield team
    team.close()


def owners(members, peer):
    return [member for member in members if member.replicas.mine(peer)]


def test_join__three__every_peer_has_exactly_one_owner_and_one_leads(team):
    members = team.start(3)
    assert all(len(owners(members, peer)) == 1 for peer in PEERS)
    assert all(any(member.replicas.mine(peer) for peer in PEERS) for member in members)
    assert [member.replicas.leads for member in members] == [True, False, False]


def test_owner__address_written_otherwise__the_same(team):
    (one, *_) = team.start(3)
    for peer in PEERS:
        assert one.replicas.owner(peer) == one.replicas.owner(peer.upper())


def test_leave__one_of_three__only_its_peers_move(team):
    gone, second, third = team.start(3)
    before = {peer: second.replicas.owner(peer) for peer in PEERS}
    gone.replicas.leave()
    team.pass_time(1, second, third)
    after = {peer: second.replicas.owner(peer) for peer in PEERS}
    assert {peer for peer in PEERS if before[peer] != after[peer]} == {
        peer for peer in PEERS if before[peer] == gone.replicas.me
    }
    assert second.replicas.leads
    assert not third.replicas.leads


def test_silence__a_member_dead__taken_out_after_its_time_and_not_before(team):
    _, second, third = team.start(3)
    team.pass_time(DEAD - 1, second, third)
    assert len(second.replicas.view.members) == 3
    team.pass_time(3, second, third)
    assert second.replicas.view == third.replicas.view
    assert second.replicas.view.members == (second.replicas.me, third.replicas.me)


def test_write__by_a_leader_that_slept__refused_until_it_looked(team):
    sleeper, second = team.start(2)
    assert sleeper.replicas.leads
    team.pass_time(DEAD + 3, second)
    assert second.replicas.leads
    assert sleeper.replicas.leads, "it does not know better yet"
    assert not sleeper.write(b"1", b"late")
    assert second.write(b"1", b"in time")
    sleeper.attend(team.clock.now())
    assert sleeper.write(b"2", b"as a member again")
    assert not sleeper.replicas.leads
    assert second.store.table("things").all() == [(b"1", b"in time"), (b"2", b"as a member again")]


def test_write__transaction_begun_before_the_change__refused(team):
    first, second = team.start(2)
    if type(first.store).__name__ == "SqliteStore":
        pytest.skip("a file has one writer at a time: the change waits")

    def write_around():
        with first.store.transaction():
            first.store.table("things").put(b"1", b"mine")
            second.replicas.leave()

    with pytest.raises(Fenced):
        write_around()
    assert second.store.table("things").all() == []


def test_look__the_one_who_looks_slept_itself__accuses_nobody(team):
    first, second = team.start(2)
    team.clock.advance(3600)
    first.attend(team.clock.now())
    assert len(first.replicas.view.members) == 2
    team.pass_time(2, first, second)
    assert len(first.replicas.view.members) == 2


def test_look__clock_set_back_a_day__beats_go_on(team):
    first, second = team.start(2)
    team.clock.advance(-86_400)
    team.pass_time(20, first, second)
    assert len(first.replicas.view.members) == 2


def test_write__by_nobody__refused(team):
    team.start(1)
    stranger = team.add()
    assert not stranger.write(b"1", b"x")


def views(member):
    return member.store.table("replica_view")


def test_attack__older_view_put_back__found_out_and_nothing_written(team):
    first, second = team.start(2)
    old = views(first).get(b"view")
    second.replicas.leave()
    first.attend(team.clock.now())
    first.store.guard = None
    views(first).put(b"view", old)
    with pytest.raises(StoreReverted):
        first.replicas.look(team.clock.now())


def test_attack__view_deleted__found_out(team):
    first, _ = team.start(2)
    first.store.guard = None
    views(first).delete(b"view")
    with pytest.raises(StoreReverted):
        first.replicas.join()


def test_attack__view_of_another_identity__found_out(team):
    (first,) = team.start(1)
    forged = Vault(first.store, "replica_view", b"another secret", bytes)
    first.store.guard = None
    views(first).put(b"view", forged.seal(b"view", View(9, (bytes(16),))))
    with pytest.raises(StoreReverted):
        first.replicas.look(team.clock.now())


def test_attack__store_emptied_while_a_replica_was_down__found_out_by_what_it_remembers(team):
    (first,) = team.start(1)
    first.store.guard = None
    views(first).delete(b"view")
    restarted = team.add(seen=first.replicas.view.generation)
    with pytest.raises(StoreReverted):
        restarted.replicas.join()


class Fencing(RuleBasedStateMachine):
    """Members join, sleep, wake, die and write at any time; what is written is by whoever the view has at that time."""

    opening: object

    @initialize(count=st.integers(1, 3))
    def begin(self, count):
        self.team = Team(self.opening())
        self.team.start(count)
        self.asleep = set()
        self.dead = set()
        self.written = 0
        self.judge = Vault(self.team.add().store, "replica_view", SECRET, bytes)
        self.outsider = self.team.members.pop()
        self.outsider.store.guard = None

    def living(self):
        return [m for m in range(len(self.team.members)) if m not in self.dead]

    def view(self):
        return self.judge.get(b"view", View)

    @rule(seconds=st.sampled_from([0.5, 2.0, 7.0]))
    def pass_time(self, seconds):
        awake = [self.team.members[m] for m in self.living() if m not in self.asleep]
        self.team.pass_time(seconds, *awake)

    @precondition(lambda self: len(self.team.members) < 5)
    @rule()
    def join(self):
        self.team.add().replicas.join()

    @rule(data=st.data())
    def sleep_or_wake(self, data):
        if self.living():
            self.asleep ^= {data.draw(st.sampled_from(self.living()))}

    @rule(data=st.data())
    def die(self, data):
        if len(self.living()) > 1:
            self.dead.add(data.draw(st.sampled_from(self.living())))

    @rule(data=st.data())
    def write(self, data):
        """Somebody writes as a leader or an owner by what it believes, asleep a moment ago or not."""
        if not self.living():
            return
        member = self.team.members[data.draw(st.sampled_from(self.living()))]
        believes_leading, view = member.replicas.leads, self.view()
        if member.write(b"row", str(self.written).encode()):
            self.written += 1
            assert member.replicas.view == view
            assert believes_leading == (view.members[0] == member.replicas.me)

    @invariant()
    def those_who_may_write_own_different_peers(self):
        view = self.view()
        current = [m.replicas for m in self.team.members if m.replicas.view == view]
        for peer in PEERS[:8]:
            assert sum(one.mine(peer) for one in current) <= 1
        assert sum(one.leads for one in current) <= 1

    def teardown(self):
        if hasattr(self, "team"):
            self.team.close()
            self.outsider.store.close()


def test_members__whatever_they_do__two_leaders_or_owners_never_both_commit(openings):
    machine = type("Fencing", (Fencing,), {"opening": staticmethod(openings)})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    chosen = settings(max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(machine, settings=chosen)
