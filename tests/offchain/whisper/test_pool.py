from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quietfleet.whisper import Added, DropReason, Envelope, Pool, urgency

NOW = 1_700_000_000
MAX_BYTES, MAX_COUNT, REMEMBER = 400, 6, 3


@pytest.fixture
def pool() -> Pool:
    return Pool(max_bytes=10_000, max_count=3)


def test_add__new_envelope__is_held(pool: Pool, make_envelope: Callable[..., Envelope]) -> None:
    envelope = make_envelope()
    assert pool.add(envelope, 1.0, NOW) == Added()
    assert (list(pool), len(pool), pool.size) == ([envelope], 1, len(envelope.encode()))
    assert (envelope.hash in pool, pool.get(envelope.hash)) == (True, envelope)


def test_add__same_envelope_twice__is_a_duplicate(pool: Pool, make_envelope: Callable[..., Envelope]) -> None:
    pool.add(make_envelope(), 1.0, NOW)
    assert pool.add(make_envelope(), 1.0, NOW) == DropReason.DUPLICATE
    assert len(pool) == 1


def test_add__expired__is_dropped(pool: Pool, make_envelope: Callable[..., Envelope]) -> None:
    assert pool.add(make_envelope(expiry=NOW - 1), 1.0, NOW) == DropReason.EXPIRED
    assert len(pool) == 0


def test_iterate__several__most_urgent_first_and_the_older_of_equals(
    pool: Pool, make_envelope: Callable[..., Envelope]
) -> None:
    low, high, low_too = (make_envelope(nonce=nonce) for nonce in range(3))
    for envelope, work in ((low, 1.0), (high, 9.0), (low_too, 1.0)):
        pool.add(envelope, work, NOW)
    assert list(pool) == [high, low, low_too]


def test_add__pool_full_of_less_urgent__evicts_the_least_urgent(
    pool: Pool, make_envelope: Callable[..., Envelope]
) -> None:
    for nonce, work in enumerate((2.0, 1.0, 3.0)):
        pool.add(make_envelope(nonce=nonce), work, NOW)
    assert pool.add(make_envelope(nonce=9), 2.5, NOW) == Added((make_envelope(nonce=1),))
    assert [envelope.nonce for envelope in pool] == [2, 9, 0]


def test_add__pool_full_of_as_urgent__is_refused_and_nothing_leaves(
    pool: Pool, make_envelope: Callable[..., Envelope]
) -> None:
    for nonce in range(3):
        pool.add(make_envelope(nonce=nonce), 1.0, NOW)
    assert pool.add(make_envelope(nonce=9), 1.0, NOW) == DropReason.POOL_FULL
    assert [envelope.nonce for envelope in pool] == [0, 1, 2]


def test_add__refused_for_room_and_room_made__is_taken_then(pool: Pool, make_envelope: Callable[..., Envelope]) -> None:
    for nonce in range(3):
        pool.add(make_envelope(nonce=nonce, expiry=NOW + 1), 1.0, NOW)
    late = make_envelope(nonce=9)
    assert pool.add(late, 1.0, NOW) == DropReason.POOL_FULL
    pool.sweep(NOW + 2)
    assert pool.add(late, 1.0, NOW + 2) == Added()


def test_add__short_of_bytes__evicts_only_if_the_less_urgent_make_enough_room(
    make_envelope: Callable[..., Envelope],
) -> None:
    small, dear = make_envelope(data=bytes(100)), make_envelope(data=bytes(101))
    pool = Pool(max_bytes=400, max_count=10)
    pool.add(small, 1.0, NOW)
    pool.add(dear, 9.0, NOW)
    large = make_envelope(data=bytes(270))
    assert pool.add(large, 5.0, NOW) == DropReason.POOL_FULL
    assert list(pool) == [dear, small]
    assert pool.add(large, 10.0, NOW) == Added((small, dear))


def test_add__larger_than_the_pool__is_refused_and_nothing_leaves(
    pool: Pool, make_envelope: Callable[..., Envelope]
) -> None:
    pool.add(make_envelope(), 1.0, NOW)
    assert pool.add(make_envelope(data=bytes(10_000)), 1e9, NOW) == DropReason.POOL_FULL
    assert len(pool) == 1


def test_add__evicted_before__does_not_come_back(make_envelope: Callable[..., Envelope]) -> None:
    pool = Pool(max_bytes=10_000, max_count=1)
    first = make_envelope(nonce=1)
    pool.add(first, 1.0, NOW)
    pool.add(make_envelope(nonce=2), 2.0, NOW)
    assert first.hash in pool
    assert pool.get(first.hash) is None
    assert pool.add(first, 9.0, NOW) == DropReason.DUPLICATE


def test_sweep__some_expired__removes_exactly_those(pool: Pool, make_envelope: Callable[..., Envelope]) -> None:
    gone, last, stays = (make_envelope(nonce=n, expiry=NOW + n) for n in range(3))
    for envelope in (stays, gone, last):
        pool.add(envelope, 1.0, NOW)
    assert pool.sweep(NOW + 1.9) == [gone]
    assert sorted(envelope.nonce for envelope in pool) == [1, 2]
    assert pool.sweep(NOW + 1.9) == []


def test_iterate__pool_changed_meanwhile__goes_on_over_the_snapshot(
    pool: Pool, make_envelope: Callable[..., Envelope]
) -> None:
    for nonce in range(3):
        pool.add(make_envelope(nonce=nonce), 1.0, NOW)
    seen = []
    for envelope in pool:
        pool.sweep(NOW + 100)
        seen.append(envelope.nonce)
    assert seen == [0, 1, 2]


class PoolAgainstAList(RuleBasedStateMachine):
    """The pool does what a plain list, sorted anew each time, would do."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(max_bytes=MAX_BYTES, max_count=MAX_COUNT, weight=0.5, remember=REMEMBER)
        self.held: list[tuple[float, int, Envelope]] = []  # urgency, minus arrival, envelope
        self.gone: list[Envelope] = []
        self.seen: list[tuple[Envelope, float]] = []
        self.now = float(NOW)
        self.arrivals = 0

    @rule(
        ttl=st.integers(1, 20),
        age=st.integers(0, 25),
        size=st.integers(0, 150),
        work=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        nonce=st.integers(0, 3),
    )
    def add_new(self, ttl: int, age: int, size: int, work: float, nonce: int) -> None:
        self._add(Envelope(int(self.now) + ttl - age, ttl, b"topi", bytes(size), nonce), work)

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def add_again(self, data: st.DataObject) -> None:
        self._add(*data.draw(st.sampled_from(self.seen)))

    @rule(seconds=st.floats(0, 8))
    def wait_and_sweep(self, seconds: float) -> None:
        self.now += seconds
        expired = sorted(
            (envelope for _, _, envelope in self.held if envelope.expiry < int(self.now)),
            key=lambda envelope: (envelope.expiry, envelope.hash),
        )
        assert self.pool.sweep(self.now) == expired
        self._leave(expired)

    @invariant()
    def same_contents_in_the_same_order(self) -> None:
        ordered = [envelope for _, _, envelope in sorted(self.held, key=lambda entry: entry[:2], reverse=True)]
        assert list(self.pool) == ordered
        assert self.pool.size == sum(len(envelope.encode()) for envelope in ordered) <= MAX_BYTES
        assert len(self.pool) == len(ordered) <= MAX_COUNT
        for envelope, _ in self.seen:
            assert (envelope.hash in self.pool) == (envelope in ordered or envelope in self.gone)
            assert self.pool.get(envelope.hash) == (envelope if envelope in ordered else None)

    def _add(self, envelope: Envelope, work: float) -> None:
        self.seen.append((envelope, work))
        assert self.pool.add(envelope, work, self.now) == self._expected(envelope, work)

    def _expected(self, envelope: Envelope, work: float) -> Any:
        if envelope in self.gone or envelope in [held for _, _, held in self.held]:
            return DropReason.DUPLICATE
        if envelope.expiry < int(self.now):
            return DropReason.EXPIRED
        rank = (urgency(work, envelope.ttl, 0.5), -self.arrivals)
        keep, victims = sorted([*self.held, (*rank, envelope)], key=lambda entry: entry[:2]), []
        while len(keep) > MAX_COUNT or sum(len(entry[2].encode()) for entry in keep) > MAX_BYTES:
            victims.append(keep.pop(0))
        if any(victim[2] == envelope for victim in victims):
            return DropReason.POOL_FULL
        self.arrivals += 1
        self.held = keep
        self._leave([victim[2] for victim in victims])
        return Added(tuple(victim[2] for victim in victims))

    def _leave(self, envelopes: list[Envelope]) -> None:
        self.held = [entry for entry in self.held if entry[2] not in envelopes]
        self.gone = (self.gone + envelopes)[-REMEMBER:]


PoolAgainstAList.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_pool__any_sequence_of_events__does_what_a_list_would = PoolAgainstAList.TestCase
