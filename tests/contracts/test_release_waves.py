"""When a wave opens, how long it is watched, and whom an open one admits."""

from __future__ import annotations

import ape
import pytest
from eth_utils import keccak
from mirrors import FAR, State
from rollouts import CHANNEL, OTHER_CHANNEL, Rollout, manifest, terms
from waves import Place, WaveTree, node

TREE = WaveTree([Place.numbered(number, 1 + number // 3, manifest(1)) for number in range(6)])  # waves 1 1 1 2 2 2
TERMS = {"groupRoot": TREE.root, "waveCount": 2}
FIRST, SECOND = TREE.proof(1), TREE.proof(4)


@pytest.fixture
def admits(releases):
    def ask(proof, number=1, channel=CHANNEL, **changes):
        return bool(releases.admits(channel, terms(number, **TERMS | changes), proof.as_given))

    return ask


def test_open_wave__one_after_another__counts(releases, rollout):
    rollout.reach(State.APPROVED, 1, waveCount=2)
    for wave in (1, 2):
        tx = rollout.open_wave()
        assert tx.events == [releases.WaveOpened(channel=CHANNEL, sequence=1, wave=wave)]
        assert (rollout.head.wave, rollout.head.since) == (wave, tx.timestamp)
    with ape.reverts(releases.WrongWave, wave=2, waveCount=2):
        rollout.open_wave()


def test_open_wave__at_the_edges_of_its_window__works(rollout, chain):
    opens = chain.pending_timestamp + 100
    rollout.reach(State.APPROVED, 1, waveCount=2, notBefore=opens, expiresAt=opens + 50)
    for time in (opens, opens + 50):
        chain.pending_timestamp = time
        rollout.open_wave()
    assert rollout.head.wave == 2


@pytest.mark.parametrize("late", [-1, 51])
def test_open_wave__a_second_outside__reverts(late, releases, rollout, chain):
    opens = chain.pending_timestamp + 100
    rollout.reach(State.APPROVED, 1, notBefore=opens, expiresAt=opens + 50)
    chain.pending_timestamp = opens + late
    with ape.reverts(releases.OutsideWindow, opens=opens, closes=opens + 50, time=opens + late):
        rollout.open_wave()


def test_finalise__after_expiry__works(rollout, chain):
    expires = chain.pending_timestamp + 100
    rollout.reach(State.ROLLING, 1, expiresAt=expires)
    chain.pending_timestamp = expires + 1
    rollout.finalise(1)
    assert rollout.head.state == State.COMPLETED


def test_soak__between_two_waves__is_kept_to_the_second(releases, rollout, chain):
    rollout.reach(State.ROLLING, 1, waveCount=2, soak=100)
    until = rollout.head.since + 100
    chain.pending_timestamp = until - 1
    with ape.reverts(releases.StillSoaking, until=until, time=until - 1):
        rollout.open_wave()
    chain.pending_timestamp = until
    rollout.open_wave()


def test_soak__of_the_last_wave__is_kept_before_the_end(releases, rollout, chain):
    rollout.reach(State.ROLLING, 1, soak=100)
    until = rollout.head.since + 100
    chain.pending_timestamp = until - 1
    with ape.reverts(releases.StillSoaking, until=until, time=until - 1):
        rollout.finalise(1)
    chain.pending_timestamp = until
    rollout.finalise(1)


def test_soak__after_a_pause__begins_anew(releases, rollout, chain):
    rollout.reach(State.PAUSED, 1, waveCount=2, soak=100)
    chain.pending_timestamp = rollout.head.since + 500
    rollout.resume()
    until = rollout.head.since + 100
    chain.pending_timestamp = until - 1
    with ape.reverts(releases.StillSoaking, until=until, time=until - 1):
        rollout.open_wave()
    chain.pending_timestamp = until
    rollout.open_wave()


def test_finalise__before_the_last_wave__reverts(releases, rollout):
    rollout.reach(State.ROLLING, 1, waveCount=2)
    with ape.reverts(releases.WrongWave, wave=1, waveCount=2):
        rollout.finalise(1)
    rollout.open_wave()
    rollout.finalise(1)


def test_admits__while_rolling__the_open_waves_alone(rollout, admits):
    rollout.reach(State.APPROVED, 1, **TERMS)
    assert (admits(FIRST), admits(SECOND)) == (False, False)
    rollout.open_wave()
    assert [admits(TREE.proof(index)) for index in range(6)] == [True] * 3 + [False] * 3
    rollout.open_wave()
    assert [admits(TREE.proof(index)) for index in range(6)] == [True] * 6
    rollout.finalise(1)
    assert (admits(FIRST), admits(SECOND)) == (True, True)


@pytest.mark.parametrize("state", [State.PROPOSED, State.APPROVED, State.PAUSED, State.REVOKED])
def test_admits__neither_rolling_nor_completed__nobody(state, rollout, admits):
    rollout.reach(state, 1, **TERMS)
    assert not admits(FIRST)


def test_admits__paused_and_resumed__again(rollout, admits):
    rollout.reach(State.PAUSED, 1, **TERMS)
    rollout.resume()
    assert (admits(FIRST), admits(SECOND)) == (True, False)


@pytest.mark.parametrize(
    "proof",
    [
        FIRST.but(pseudonym=SECOND.place.pseudonym),
        FIRST.but(wave=0),
        FIRST.but(manifest=manifest(2)),
        FIRST.but(salt=bytes(32)),
        FIRST.but(index=0),
        FIRST.but(index=FIRST.index + 8),
        FIRST.but(index=FIRST.index + 2**255),
        FIRST.but(siblings=FIRST.siblings[:-1]),
        FIRST.but(siblings=(*FIRST.siblings, FIRST.siblings[-1])),
        FIRST.but(siblings=FIRST.siblings[::-1]),
        FIRST.but(siblings=(keccak(b"other"), *FIRST.siblings[1:])),
        FIRST.but(siblings=()),
        SECOND.but(wave=1),
    ],
)
def test_admits__with_anything_else_in_the_proof__refuses(proof, rollout, admits):
    rollout.reach(State.ROLLING, 1, **TERMS)
    assert admits(FIRST)
    assert not admits(proof)


def test_admits__an_inner_node_as_a_leaf__refuses(rollout, admits):
    """Were nodes hashed like leaves, the two halves of an inner node could be told as somebody's place."""
    rollout.reach(State.ROLLING, 1, **TERMS)
    leaves = [TREE.proof(index).place.leaf for index in (0, 1)]
    assert FIRST.siblings[0] == leaves[0]
    cut = leaves[0] + leaves[1]
    forged = Place(cut[:32], 0, cut[32:], bytes(32))
    assert forged.leaf != node(*leaves)
    assert not admits(FIRST.but(pseudonym=cut[:32], manifest=cut[32:], index=0, siblings=FIRST.siblings[1:]))


def test_admits__a_fleet_of_one_device__by_an_empty_proof(rollout, admits):
    alone = WaveTree([Place.numbered(0, 1, manifest(1))])
    rollout.reach(State.ROLLING, 1, groupRoot=alone.root)
    assert admits(alone.proof(0), groupRoot=alone.root, waveCount=1)
    assert not admits(alone.proof(0).but(index=1), groupRoot=alone.root, waveCount=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"groupRoot": WaveTree(TREE.places[:4]).root},
        {"gateHash": b"\x09" * 32},
        {"notBefore": 1},
        {"expiresAt": FAR - 1},
        {"soak": 1},
        {"waveCount": 3},
    ],
)
def test_admits__by_other_terms__refuses(changes, rollout, admits):
    rollout.reach(State.ROLLING, 1, **TERMS)
    proof = WaveTree(TREE.places[:4]).proof(1) if "groupRoot" in changes else FIRST
    assert admits(FIRST)
    assert not admits(proof, **changes)


def test_admits__expired__refuses_unless_completed(rollout, releases, chain, ask_at):
    expires = chain.pending_timestamp + 1000
    changes = TERMS | {"expiresAt": expires, "waveCount": 1}
    rollout.reach(State.ROLLING, 1, **changes)
    question = (CHANNEL, terms(1, **changes), FIRST.as_given)
    assert ask_at(expires, releases.admits, *question)
    assert not ask_at(expires + 1, releases.admits, *question)
    rollout.finalise(1)
    assert ask_at(expires + 9, releases.admits, *question)


def test_admits__once_another_is_proposed__the_older_one_no_longer(rollout, admits):
    rollout.reach(State.COMPLETED, 1, **TERMS)
    assert admits(FIRST)
    rollout.propose(2, **TERMS)
    assert not admits(FIRST)
    assert not admits(FIRST, number=2)


def test_admits__rolled_back_to__everybody_by_the_old_terms(rollout, admits):
    rollout.reach(State.COMPLETED, 1, **TERMS)
    rollout.reach(State.ROLLING, 2, **TERMS)
    assert not admits(FIRST)
    rollout.roll_back(1)
    assert (admits(FIRST), admits(SECOND)) == (True, True)
    assert not admits(FIRST, number=2)


def test_admits__in_another_channel__refuses(rollout, releases, admits):
    rollout.reach(State.ROLLING, 1, **TERMS)
    assert not admits(FIRST, channel=OTHER_CHANNEL)
    Rollout(releases, rollout.publisher, rollout.approver, OTHER_CHANNEL).reach(State.ROLLING, 1, **TERMS)
    assert admits(FIRST, channel=OTHER_CHANNEL)
