"""Back to an older model as a new release, and the models that never return."""

from __future__ import annotations

import ape
import pytest
from mirrors import State
from rollouts import CHANNEL, OTHER_CHANNEL, Rollout, manifest, terms, terms_digest


@pytest.mark.parametrize("role", ["publisher", "approver", "service_owner"])
def test_roll_back__to_what_once_completed__issues_it_anew(role, releases, rollout, request):
    rollout.reach(State.COMPLETED, 1)
    rollout.reach(State.COMPLETED, 2)
    tx = releases.rollBack(CHANNEL, manifest(1), sender=request.getfixturevalue(role))
    assert tx.events == [releases.RolledBack(channel=CHANNEL, sequence=3, manifestHash=manifest(1), target=1)]
    assert tuple(rollout.head) == (3, 3, 0, State.COMPLETED, 0, 0, tx.timestamp, 0, 0, 0)
    assert tuple(releases.release(CHANNEL, manifest(1))) == (3, True, False, terms_digest(terms(1)))


def test_roll_back__and_forth__numbers_each(releases, rollout):
    rollout.reach(State.COMPLETED, 1)
    rollout.reach(State.COMPLETED, 2)
    rollout.roll_back(1)
    tx = rollout.roll_back(2)
    assert tx.events == [releases.RolledBack(channel=CHANNEL, sequence=4, manifestHash=manifest(2), target=2)]
    assert rollout.roll_back(1).events[0].target == 3


def test_roll_back__after_a_floor__stands_above_it(rollout):
    rollout.reach(State.COMPLETED, 1)
    rollout.reach(State.ROLLING, 2)
    rollout.finalise(2, floor=2)
    rollout.roll_back(1)
    assert (rollout.head.sequence, rollout.head.floor) == (3, 2)


@pytest.mark.parametrize("state", [State.PROPOSED, State.APPROVED, State.ROLLING, State.PAUSED, State.REVOKED])
def test_roll_back__to_what_never_completed__reverts(state, releases, rollout):
    rollout.reach(State.COMPLETED, 1)
    rollout.reach(state, 2)
    rollout.roll_back(1)
    with ape.reverts(releases.BadTarget, channel=CHANNEL, manifestHash=manifest(2)):
        rollout.roll_back(2)


def test_roll_back__to_the_newest__reverts(releases, rollout):
    rollout.reach(State.COMPLETED, 1)
    with ape.reverts(releases.BadTarget, channel=CHANNEL, manifestHash=manifest(1)):
        rollout.roll_back(1)


def test_roll_back__to_an_unknown_manifest__reverts(releases, rollout):
    with ape.reverts(releases.BadTarget, channel=CHANNEL, manifestHash=manifest(1)):
        rollout.roll_back(1)
    rollout.reach(State.COMPLETED, 1)
    with ape.reverts(releases.BadTarget, channel=CHANNEL, manifestHash=manifest(9)):
        rollout.roll_back(9)


def test_roll_back__to_a_revoked_one__reverts(releases, rollout):
    rollout.reach(State.COMPLETED, 1)
    rollout.reach(State.COMPLETED, 2)
    rollout.revoke(1)
    with ape.reverts(releases.BadTarget, channel=CHANNEL, manifestHash=manifest(1)):
        rollout.roll_back(1)


@pytest.mark.parametrize("role", ["approver", "service_owner"])
def test_revoke__the_newest__ends_it_and_raises_the_floor(role, releases, rollout, request):
    rollout.reach(State.ROLLING, 1)
    tx = releases.revoke(CHANNEL, manifest(1), sender=request.getfixturevalue(role))
    expected = releases.ReleaseRevoked(channel=CHANNEL, sequence=1, manifestHash=manifest(1), floor=2)
    assert tx.events == [expected]
    assert (rollout.head.state, rollout.head.floor) == (State.REVOKED, 2)
    assert tuple(releases.release(CHANNEL, manifest(1))) == (1, False, True, terms_digest(terms(1)))


def test_revoke__an_older_one__leaves_the_newest_and_raises_the_floor(releases, rollout):
    rollout.reach(State.COMPLETED, 1)
    rollout.reach(State.ROLLING, 2)
    before = rollout.head
    assert rollout.revoke(1).events[0].floor == 2
    after = rollout.head
    assert (after.floor, tuple(after)[:2], tuple(after)[3:]) == (2, tuple(before)[:2], tuple(before)[3:])
    assert tuple(releases.release(CHANNEL, manifest(1)))[:3] == (1, True, True)
    rollout.finalise(2)


def test_revoke__below_the_floor__leaves_the_head(rollout):
    rollout.reach(State.COMPLETED, 1)
    rollout.reach(State.ROLLING, 2)
    rollout.finalise(2, floor=2)
    before = tuple(rollout.head)
    assert rollout.revoke(1).events[0].floor == 2
    assert tuple(rollout.head) == before


def test_revoke__brought_back__goes_by_its_newest_number(releases, rollout):
    rollout.reach(State.COMPLETED, 1)
    rollout.reach(State.COMPLETED, 2)
    rollout.roll_back(1)
    tx = rollout.revoke(1)
    expected = releases.ReleaseRevoked(channel=CHANNEL, sequence=3, manifestHash=manifest(1), floor=4)
    assert (tx.events, rollout.head.state) == ([expected], State.REVOKED)


def test_revoke__the_newest__leaves_a_way_on(rollout):
    rollout.reach(State.COMPLETED, 1)
    rollout.reach(State.REVOKED, 2)
    rollout.roll_back(1)
    assert (rollout.head.sequence, rollout.head.floor, rollout.head.state) == (3, 3, State.COMPLETED)
    rollout.reach(State.COMPLETED, 3)
    assert (rollout.head.sequence, rollout.head.completed) == (4, 4)


def test_revoke__never_proposed_here__bans_it(releases, rollout):
    rollout.reach(State.ROLLING, 1)
    before = tuple(rollout.head)
    tx = rollout.revoke(2)
    assert tx.events == [releases.ReleaseRevoked(channel=CHANNEL, sequence=0, manifestHash=manifest(2), floor=0)]
    assert tuple(rollout.head) == before
    rollout.finalise(1)
    with ape.reverts(releases.ManifestKnown, channel=CHANNEL, manifestHash=manifest(2)):
        rollout.propose(2)


def test_revoke__in_one_channel__leaves_the_others(releases, rollout):
    rollout.revoke(1)
    other = Rollout(releases, rollout.publisher, rollout.approver, OTHER_CHANNEL)
    other.reach(State.COMPLETED, 1)
    assert other.head.completed == 1


@pytest.mark.parametrize("proposed", [True, False])
def test_revoke__twice__reverts(proposed, releases, rollout):
    if proposed:
        rollout.propose(1)
    rollout.revoke(1)
    with ape.reverts(releases.Unchanged):
        rollout.revoke(1)


def test_revoke__nothing__reverts(releases, rollout):
    with ape.reverts(releases.MissingDigest):
        rollout.revoke(0)
