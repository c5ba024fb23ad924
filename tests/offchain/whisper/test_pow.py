from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.crypto import keccak256
from quietfleet.errors import PowTargetMissed
from quietfleet.whisper import Envelope, decode_envelope, legacy_pow_of, mine, pow_of, target_bits


def test_pow_of__envelope_from_geth__is_exactly_geths(geth_envelope: dict[str, Any]) -> None:
    assert pow_of(decode_envelope(geth_envelope["envelope_rlp"])) == geth_envelope["pow"]


def test_pow_of__fixed_case_from_geth__is_exactly_geths(geth_pow: dict[str, Any]) -> None:
    envelope = decode_envelope(geth_pow["envelope_rlp"])
    assert (pow_of(envelope), envelope.nonce) == (geth_pow["pow"], int(geth_pow["nonce"]))
    assert (envelope.hash, envelope.work[1]) == (geth_pow["hash"], geth_pow["rlp_without_nonce_len"])


def test_target_bits__envelope_from_geth__is_geths(geth_envelope: dict[str, Any]) -> None:
    target, size, ttl = geth_envelope["pow_target"], geth_envelope["data_len"], geth_envelope["ttl"]
    assert target_bits(target, size, ttl) == geth_envelope["target_bits"]


def test_target_bits__fixed_case_from_geth__is_geths(geth_pow: dict[str, Any]) -> None:
    envelope = decode_envelope(geth_pow["envelope_rlp"])
    for target in (0.2, 10):
        assert target_bits(target, len(envelope.data), envelope.ttl) == geth_pow[f"bits_for_pow_{target}"]


@pytest.mark.parametrize(("nonce", "expected"), [(100_000, 0.07692307692307693), (276, 19.692307692307693)])
def test_pow_of__cases_geth_and_nimbus_publish__are_theirs(nonce: int, expected: float) -> None:
    assert pow_of(Envelope(0, 1, bytes(4), bytes.fromhex("deadbeef"), nonce)) == expected


@pytest.mark.parametrize("nonce", [0, 1, 7, 2**64 - 1])
def test_legacy_pow_of__any_nonce__counts_trailing_zeros_of_the_double_hash(nonce: int) -> None:
    envelope = Envelope(100, 3, b"topi", b"data", nonce)
    buffer = keccak256(envelope.encode_without_nonce()) + bytes(24) + nonce.to_bytes(8, "big")
    bits = f"{int.from_bytes(keccak256(buffer), 'big'):b}"
    assert legacy_pow_of(envelope) == 2 ** (len(bits) - len(bits.rstrip("0"))) / 24 / 3


def test_pow_of__ttl_of_zero__is_infinite_as_in_geth(make_envelope: Callable[..., Envelope]) -> None:
    assert pow_of(make_envelope(ttl=0)) == legacy_pow_of(make_envelope(ttl=0)) == math.inf


def test_pow_of__extra_ttl__divides_by_the_sum(make_envelope: Callable[..., Envelope]) -> None:
    envelope = make_envelope(ttl=50)
    assert pow_of(envelope, 50) == pow_of(envelope) / 2


def test_target_bits__nothing_wanted__is_one() -> None:
    assert target_bits(0.0, 100, 50) == target_bits(1.0, 100, 0) == target_bits(1e-9, 1, 1) == 1


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0.0, 0.05),
    st.integers(1, 100_000),
    st.binary(max_size=100),
    st.one_of(st.just(0), st.integers(0, 10_000)),
)
def test_mine__any_envelope__reaches_its_target_with_the_first_nonce_that_does(
    target: float, ttl: int, data: bytes, start: int
) -> None:
    wanted = target_bits(target, len(data), ttl)
    if wanted > 12:
        return
    envelope = mine(2_000_000_000, ttl, b"topi", data, target, start=start)
    assert pow_of(envelope) >= target
    assert envelope.nonce >= start
    earlier = [Envelope(2_000_000_000, ttl, b"topi", data, nonce) for nonce in range(start, envelope.nonce)]
    assert all(envelope.work[0] > other.work[0] for other in earlier)


def test_mine__data_and_ttl_so_large_that_geths_formula_falls_short__still_reaches_its_target() -> None:
    ttl, data = 70_000, bytes(70_000)
    target = 2**8 / (20 + len(data)) / ttl
    assert target_bits(target, len(data), ttl) == 8
    envelope = mine(2_000_000_000, ttl, b"topi", data, target)
    assert 2**8 / envelope.work[1] / ttl < target <= pow_of(envelope)


def test_mine__same_envelope_as_geth__stops_at_geths_nonce(geth_envelope: dict[str, Any]) -> None:
    wanted = decode_envelope(geth_envelope["envelope_rlp"])
    found = mine(wanted.expiry, wanted.ttl, wanted.topic, wanted.data, geth_envelope["pow_target"])
    assert found.nonce == geth_envelope["nonce"]


def test_mine__solution_is_the_last_nonce_allowed__finds_it(geth_envelope: dict[str, Any]) -> None:
    wanted, target = decode_envelope(geth_envelope["envelope_rlp"]), geth_envelope["pow_target"]
    fields = (wanted.expiry, wanted.ttl, wanted.topic, wanted.data, target)
    start = max(0, wanted.nonce - 300)
    found = mine(*fields, start=start, max_iterations=wanted.nonce - start + 1)
    assert found.nonce == wanted.nonce
    with pytest.raises(PowTargetMissed):
        mine(*fields, start=start, max_iterations=wanted.nonce - start)


def test_mine__iterations_used_up__raises_with_the_best_nonce_found() -> None:
    with pytest.raises(PowTargetMissed) as missed:
        mine(2_000_000_000, 50, b"topi", b"data", 1e12, start=1000, max_iterations=700)
    tried = [Envelope(2_000_000_000, 50, b"topi", b"data", nonce).work[0] for nonce in range(1000, 1700)]
    assert missed.value.zero_bits == max(tried)
    assert tried[missed.value.nonce - 1000] == max(tried)
    assert missed.value.wanted_bits > missed.value.zero_bits


def test_mine__no_iterations__raises_without_a_try() -> None:
    with pytest.raises(PowTargetMissed) as missed:
        mine(2_000_000_000, 50, b"topi", b"data", 1.0, start=5, max_iterations=0)
    assert (missed.value.nonce, missed.value.zero_bits) == (5, 0)


def test_mine__last_nonces_of_all__does_not_run_past_them() -> None:
    with pytest.raises(PowTargetMissed) as missed:
        mine(2_000_000_000, 50, b"topi", b"data", 1e12, start=2**64 - 10)
    assert missed.value.nonce < 2**64


def test_mine__cancelled__stops_within_a_block() -> None:
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 3

    with pytest.raises(PowTargetMissed) as missed:
        mine(2_000_000_000, 50, b"topi", b"data", 1e12, cancelled=cancelled)
    assert (len(asked), missed.value.nonce < 3 * 256) == (4, True)
