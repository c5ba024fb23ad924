from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.chain.waves import proof_root
from quietfleet.errors import RolloutError
from quietfleet.rollout import Gate, make_plan

SEED, OTHER_SEED = b"\5" * 32, b"\6" * 32
MANIFEST, OWN = b"\1" * 32, b"\2" * 32


def workers(count):
    return [f"0x{number:040x}" for number in range(count)]


def plan(count, waves=3, seed=SEED, **more):
    return make_plan(MANIFEST, workers(count), seed=seed, gate=Gate(), waves=waves, **more)


@settings(max_examples=25)
@given(st.integers(0, 70), st.integers(1, 5))
def test_plan__any_fleet__each_in_one_wave_canaries_first_and_every_proof_leads_to_the_root(count, waves):
    made = plan(count, waves)
    dealt = [made.wave(made.name(worker)) for worker in workers(count)]
    assert made.wave_count == max(1, min(waves, count))
    if count:
        assert set(dealt) == set(range(1, made.wave_count + 1))
        assert dealt.count(1) <= max(1, count // made.wave_count**2)
    for worker in workers(count)[:5]:
        proof = made.proof(worker)
        assert proof_root(proof) == made.group_root
        assert (proof.pseudonym, proof.manifest_hash) == (made.name(worker), MANIFEST)


def test_plan__made_again__is_the_same():
    first, second = plan(30), plan(30)
    assert (first.group_root, first.waves) == (second.group_root, second.waves)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(first), type=type(first)).group_root == first.group_root


def test_plan__of_another_release__shares_no_name_no_salt_and_no_canaries():
    first, second = plan(60), plan(60, seed=OTHER_SEED)
    proofs = [(first.proof(worker), second.proof(worker)) for worker in workers(60)]
    assert not [one for one, other in proofs if one.pseudonym == other.pseudonym or one.salt == other.salt]
    assert {w for w in workers(60) if first.wave(first.name(w)) == 1} != {
        w for w in workers(60) if second.wave(second.name(w)) == 1
    }


@pytest.mark.parametrize(("count", "siblings"), [(0, 4), (1, 4), (15, 4), (16, 5), (31, 5), (32, 6)])
def test_plan__any_size__tree_shows_a_power_of_two_with_room_for_one_more(count, siblings):
    made = plan(count)
    assert len(made.proof(workers(1)[0]).siblings) == siblings
    assert len(made.places) == 2**siblings > count


def test_plan__index_in_the_tree__says_nothing_of_the_wave():
    made = plan(60)
    waves = [place.wave for place in made.places]
    assert waves not in (sorted(waves), sorted(waves, reverse=True))


def test_plan__who_joins_late__gets_a_spare_place_of_the_last_wave():
    made = plan(30)
    proof = made.proof("0x" + "ff" * 20)
    assert proof_root(proof) == made.group_root
    assert proof.wave == made.wave_count == made.wave(made.name("0x" + "ff" * 20))
    assert proof.pseudonym.hex() not in made.waves


def test_plan__with_models_of_their_own__each_leaf_names_its_own():
    first, second = workers(2)
    made = plan(20, personal={first: OWN, "0xstranger": OWN})
    assert made.proof(first).manifest_hash == OWN
    assert made.proof(second).manifest_hash == MANIFEST
    assert proof_root(made.proof(first)) == proof_root(made.proof(second)) == made.group_root
    assert made.terms(not_before=0, expires_at=9).manifest_hash == MANIFEST


@pytest.mark.parametrize("waves", [0, -1, 17])
def test_plan__in_no_or_too_many_waves__refused(waves):
    with pytest.raises(RolloutError):
        plan(3, waves)


def test_proof__moved_or_altered__leads_elsewhere():
    made = plan(20)
    proof = made.proof(workers(1)[0])
    for change in (
        {"index": proof.index ^ 1},
        {"index": proof.index + 32},
        {"wave": proof.wave + 1},
        {"salt": bytes(32)},
        {"manifest_hash": OWN},
        {"pseudonym": bytes(32)},
        {"siblings": proof.siblings[:-1]},
        {"siblings": (*proof.siblings, bytes(32))},
        {"siblings": ()},
    ):
        assert proof_root(msgspec.structs.replace(proof, **change)) != made.group_root
