from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.whisper import DropReason, Envelope, Rules, decode_envelope, judge, pow_at, pow_of, topic_bloom

NOW = 1_700_000_000
OPEN = Rules(min_pow=0.0, max_ttl=100, max_size=64)


def test_judge__within_every_limit__lets_it_pass(make_envelope: Callable[..., Envelope]) -> None:
    assert judge(make_envelope(), NOW, OPEN) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ttl": 0, "expiry": NOW}, DropReason.MALFORMED),
        ({"ttl": 50, "expiry": 49}, DropReason.MALFORMED),
        ({"data": bytes(65)}, DropReason.OVERSIZE),
        ({"ttl": 101, "expiry": NOW + 101}, DropReason.TTL_TOO_LONG),
        ({"expiry": NOW - 1}, DropReason.EXPIRED),
        ({"expiry": NOW + 61}, DropReason.FROM_FUTURE),
    ],
)
def test_judge__one_limit_broken__names_it(
    make_envelope: Callable[..., Envelope], changes: dict[str, Any], reason: DropReason
) -> None:
    assert judge(make_envelope(**changes), NOW, OPEN) == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"data": bytes(64)},
        {"ttl": 100, "expiry": NOW + 100},
        {"expiry": NOW},
        {"expiry": NOW + 60},
        {"ttl": 1, "expiry": NOW + 1},
    ],
)
def test_judge__exactly_at_a_limit__lets_it_pass(
    make_envelope: Callable[..., Envelope], changes: dict[str, Any]
) -> None:
    assert judge(make_envelope(**changes), NOW, OPEN) is None


def test_judge__within_the_second_of_expiry__still_passes(make_envelope: Callable[..., Envelope]) -> None:
    assert judge(make_envelope(expiry=NOW), NOW + 0.9, OPEN) is None
    assert judge(make_envelope(expiry=NOW), NOW + 1.0, OPEN) == DropReason.EXPIRED


def test_judge__envelope_from_geth__passes_at_its_own_work_and_not_above(geth_envelope: dict[str, Any]) -> None:
    envelope, work = decode_envelope(geth_envelope["envelope_rlp"]), geth_envelope["pow"]
    assert judge(envelope, envelope.sent, Rules(min_pow=work)) is None
    assert judge(envelope, envelope.sent, Rules(min_pow=work * 1.0001)) == DropReason.LOW_POW


def test_judge__topic_outside_the_bloom__is_dropped_before_its_work_is_checked(
    make_envelope: Callable[..., Envelope],
) -> None:
    rules = Rules(min_pow=1e9, bloom=topic_bloom(b"else"))
    envelope = make_envelope()
    assert judge(envelope, NOW, rules) == DropReason.BLOOM_MISMATCH
    assert judge(envelope, NOW, Rules(min_pow=0.0, bloom=topic_bloom(envelope.topic))) is None


def test_pow_at__early_envelope__pays_for_the_time_until_it_is_sent(make_envelope: Callable[..., Envelope]) -> None:
    envelope = make_envelope(expiry=NOW + 55, ttl=50)
    assert pow_at(envelope, NOW) == pow_of(envelope, 6)
    assert pow_at(envelope, NOW + 5) == pow_of(envelope)


def test_judge__early_envelope__its_reduced_work_counts(make_envelope: Callable[..., Envelope]) -> None:
    envelope = make_envelope(expiry=NOW + 55, ttl=50)
    rules = Rules(min_pow=pow_of(envelope))
    assert judge(envelope, NOW, rules) == DropReason.LOW_POW
    assert judge(envelope, NOW + 5, rules) is None


@pytest.mark.parametrize(
    "stricter",
    [Rules(min_pow=1e9), Rules(min_pow=0.0, max_ttl=10), Rules(min_pow=0.0, max_size=2)],
)
def test_judge__configuration_just_changed__what_was_allowed_passes_until_grace_ends(
    make_envelope: Callable[..., Envelope], stricter: Rules
) -> None:
    current = Rules(stricter.min_pow, stricter.max_ttl, stricter.max_size, previous=OPEN, previous_until=NOW + 30.0)
    envelope = make_envelope()
    assert judge(envelope, NOW, stricter) is not None
    assert judge(envelope, NOW + 29.9, current) is None
    assert judge(envelope, NOW + 30, current) == judge(envelope, NOW + 30, stricter)


def test_judge__loosened_configuration__what_is_newly_allowed_passes_at_once(
    make_envelope: Callable[..., Envelope],
) -> None:
    current = Rules(min_pow=0.0, previous=Rules(min_pow=1e9), previous_until=NOW + 30.0)
    assert judge(make_envelope(), NOW, current) is None


def test_judge__expired_during_grace__previous_rules_do_not_revive_it(make_envelope: Callable[..., Envelope]) -> None:
    current = Rules(min_pow=0.0, previous=OPEN, previous_until=NOW + 30.0)
    assert judge(make_envelope(expiry=NOW - 5), NOW, current) == DropReason.EXPIRED


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=80), st.floats(0, 2**33), st.floats(0, 5)
)
def test_judge__whatever_passes__keeps_every_limit(
    expiry: int, ttl: int, data: bytes, now: float, min_pow: float
) -> None:
    rules = Rules(min_pow=min_pow, max_ttl=100, max_size=64)
    if judge(Envelope(expiry, ttl, b"topi", data, 0), now, rules) is None:
        assert 0 < ttl <= 100
        assert len(data) <= 64
        assert expiry - ttl - 10 <= now < expiry + 1
