"""What each act does to the newest release in each of its states."""

from __future__ import annotations

from dataclasses import replace

import ape
import pytest
from mirrors import FAR, ZERO, State
from rollouts import CHANNEL, NO_REPORT, OTHER_CHANNEL, manifest, terms, terms_digest

FREE = {State.PROPOSED, State.APPROVED, State.COMPLETED, State.REVOKED}
EVERY = set(State)
NAMED = {"approve": (manifest(1),)}  # what an act names beside the number
ACTS = {  # what is called, in which states it may be, and the state it leads to
    "propose": (lambda rollout: rollout.propose(3), FREE, State.PROPOSED),
    "approve": (lambda rollout: rollout.approve(), {State.PROPOSED}, State.APPROVED),
    "open_wave": (lambda rollout: rollout.open_wave(), {State.APPROVED, State.ROLLING}, State.ROLLING),
    "pause": (lambda rollout: rollout.pause(), {State.ROLLING}, State.PAUSED),
    "resume": (lambda rollout: rollout.resume(), {State.PAUSED}, State.ROLLING),
    "roll_back": (lambda rollout: rollout.roll_back(1), EVERY, State.COMPLETED),
    "revoke": (lambda rollout: rollout.revoke(2), EVERY - {State.REVOKED}, State.REVOKED),
}


@pytest.mark.parametrize("state", list(State))
def test_any_act__in_each_state__leads_on_or_reverts(state, releases, rollout, chain):
    rollout.reach(State.COMPLETED, 1)
    rollout.reach(state, 2, waveCount=2)
    before = tuple(rollout.head)
    for name, (act, allowed, then) in ACTS.items():
        with chain.isolate():
            if state in allowed:
                assert len(act(replace(rollout)).events) == 1, name
                assert rollout.head.state == then, name
                continue
            inputs = {} if name == "revoke" else {"channel": CHANNEL, "state": state}
            with ape.reverts(releases.WrongState if inputs else releases.Unchanged, **inputs):
                act(rollout)
        assert tuple(rollout.head) == before, name


@pytest.mark.parametrize("state", [state for state in State if state != State.ROLLING])
def test_finalise__in_any_state_but_rolling__reverts(state, releases, rollout):
    rollout.reach(state, 2)
    with ape.reverts(releases.WrongState, channel=CHANNEL, state=state):
        rollout.finalise(2)


def test_head__of_an_unused_channel__is_all_zero(releases):
    assert tuple(releases.head(CHANNEL)) == (0,) * 10
    assert tuple(releases.release(CHANNEL, manifest(1))) == (0, False, False, bytes(24))


def test_propose__the_first__stands_with_its_terms(releases, publisher):
    given = terms(1, notBefore=7, expiresAt=FAR - 1, soak=2**24 - 1, waveCount=255)
    tx = releases.propose(CHANNEL, given, sender=publisher)
    (event,) = tx.events
    assert (event.event_name, event.channel, event.sequence) == ("ReleaseProposed", CHANNEL, 1)
    assert tuple(event.terms) == given
    assert tuple(releases.head(CHANNEL)) == (1, 0, 0, State.PROPOSED, 0, 255, 0, 7, FAR - 1, 2**24 - 1)
    assert tuple(releases.release(CHANNEL, manifest(1))) == (1, False, False, terms_digest(given))


def test_propose__while_another_waits__replaces_it(rollout, releases):
    rollout.reach(State.APPROVED, 1, soak=9, waveCount=4)
    rollout.propose(2)
    assert tuple(rollout.head) == (2, 0, 0, State.PROPOSED, 0, 1, 0, 0, FAR, 0)
    with ape.reverts(releases.NotNewest, channel=CHANNEL, sequence=1, newest=2):
        releases.approve(CHANNEL, 1, manifest(1), sender=rollout.approver)


def test_propose__in_another_channel__counts_apart(rollout, releases, publisher):
    rollout.reach(State.COMPLETED, 1)
    rollout.propose(2)
    releases.propose(OTHER_CHANNEL, terms(1), sender=publisher)
    assert (rollout.head.sequence, releases.head(OTHER_CHANNEL).sequence) == (2, 1)
    assert releases.release(OTHER_CHANNEL, manifest(2)).sequence == 0


@pytest.mark.parametrize("field", ["manifestHash", "groupRoot", "gateHash"])
def test_propose__with_a_digest_missing__reverts(field, releases, rollout):
    with ape.reverts(releases.MissingDigest):
        rollout.propose(1, **{field: bytes(32)})


def test_propose__without_waves__reverts(releases, rollout):
    with ape.reverts(releases.NoWaves):
        rollout.propose(1, waveCount=0)


def test_propose__times_that_exclude_each_other__reverts(releases, rollout, chain):
    later = chain.pending_timestamp + 100
    with ape.reverts(releases.BadTimes, notBefore=later + 1, expiresAt=later):
        rollout.propose(1, notBefore=later + 1, expiresAt=later)
    rollout.propose(1, notBefore=later, expiresAt=later)


def test_propose__expired__reverts(releases, rollout, chain):
    now = chain.pending_timestamp + 10
    chain.pending_timestamp = now
    with ape.reverts(releases.BadTimes, notBefore=0, expiresAt=now - 1, time=now):
        rollout.propose(1, expiresAt=now - 1)
    chain.pending_timestamp = now + 5
    rollout.propose(1, expiresAt=now + 5)


@pytest.mark.parametrize("state", [State.PROPOSED, State.COMPLETED, State.REVOKED])
def test_propose__a_manifest_the_channel_had__reverts(state, releases, rollout):
    rollout.reach(state, 1)
    rollout.propose(2)
    with ape.reverts(releases.ManifestKnown, channel=CHANNEL, manifestHash=manifest(1)):
        rollout.propose(1, waveCount=3)


@pytest.mark.parametrize("sequence", [0, 2])
@pytest.mark.parametrize(("act", "role"), [("approve", "approver"), ("openWave", "publisher"), ("pause", "publisher")])
def test_act__on_no_such_release__reverts(act, role, sequence, releases, rollout, request):
    rollout.propose(1)
    with ape.reverts(releases.NotNewest, channel=CHANNEL, sequence=sequence, newest=1):
        getattr(releases, act)(CHANNEL, sequence, *NAMED.get(act, ()), sender=request.getfixturevalue(role))


@pytest.mark.parametrize("act", ["approve", "resume"])
def test_act__in_an_unused_channel__reverts(act, releases, approver):
    with ape.reverts(releases.NotNewest, channel=CHANNEL, sequence=0, newest=0):
        getattr(releases, act)(CHANNEL, 0, *NAMED.get(act, ()), sender=approver)


def test_approve__proposed__tells_by_whom(releases, rollout, approver):
    rollout.propose(1)
    assert rollout.approve().events == [releases.ReleaseApproved(channel=CHANNEL, sequence=1, by=approver)]


@pytest.mark.parametrize("named", [manifest(1), manifest(3), bytes(32)], ids=["older", "unknown", "none"])
def test_approve__naming_another_manifest__reverts(named, releases, rollout, approver):
    rollout.reach(State.COMPLETED, 1)
    rollout.propose(2)
    with ape.reverts(releases.OtherManifest, channel=CHANNEL, sequence=2, manifestHash=named):
        releases.approve(CHANNEL, 2, named, sender=approver)
    assert rollout.head.state == State.PROPOSED


def test_pause_and_resume__tell_by_whom_and_watch_anew(releases, rollout, publisher, approver):
    rollout.reach(State.ROLLING, 1, waveCount=2)
    opened = rollout.head.since
    assert rollout.pause().events == [releases.RolloutPaused(channel=CHANNEL, sequence=1, by=publisher)]
    assert rollout.head.since == opened
    tx = rollout.resume()
    assert tx.events == [releases.RolloutResumed(channel=CHANNEL, sequence=1, by=approver)]
    assert tuple(rollout.head) == (1, 0, 0, State.ROLLING, 1, 2, tx.timestamp, 0, FAR, 0)


def test_finalise__all_waves_open__completes_it(releases, rollout):
    rollout.reach(State.ROLLING, 1)
    tx = rollout.finalise(1)
    (event,) = tx.events
    assert (event.event_name, event.channel, event.sequence, event.floor) == ("ReleaseFinalised", CHANNEL, 1, 0)
    assert tuple(event.report) == NO_REPORT
    assert tuple(rollout.head) == (1, 1, 0, State.COMPLETED, 1, 1, tx.timestamp, 0, FAR, 0)
    assert tuple(releases.release(CHANNEL, manifest(1))) == (1, True, False, terms_digest(terms(1)))


@pytest.mark.parametrize("number", [1, 3])
def test_finalise__another_manifest__reverts(number, releases, rollout):
    rollout.reach(State.COMPLETED, 1)
    rollout.reach(State.ROLLING, 2)
    with ape.reverts(releases.NotNewest, channel=CHANNEL, newest=2):
        rollout.finalise(number)


@pytest.mark.parametrize("floor", [1, 2])
def test_finalise__with_a_floor__raises_it(floor, rollout):
    rollout.reach(State.COMPLETED, 1)
    rollout.reach(State.ROLLING, 2)
    (event,) = rollout.finalise(2, floor).events
    assert (event.floor, rollout.head.floor) == (floor, floor)


def test_finalise__without_a_floor__keeps_it(rollout):
    rollout.reach(State.ROLLING, 1)
    rollout.finalise(1, floor=1)
    rollout.reach(State.ROLLING, 2)
    (event,) = rollout.finalise(2, floor=0).events
    assert (event.floor, rollout.head.floor) == (1, 1)


@pytest.mark.parametrize("floor", [1, 4])
def test_finalise__floor_down_or_above_the_newest__reverts(floor, releases, rollout):
    rollout.reach(State.COMPLETED, 1)
    rollout.reach(State.ROLLING, 2)
    rollout.finalise(2, floor=2)
    rollout.reach(State.ROLLING, 3)
    with ape.reverts(releases.BadFloor, floor=floor, least=2, most=3):
        rollout.finalise(3, floor)
    rollout.finalise(3, floor=2)


def test_deploy__without_service__reverts(project, service_owner, releases):
    with ape.reverts(project.ModelReleases.ZeroAddress):
        service_owner.deploy(project.ModelReleases, service_owner, ZERO, service_owner)
