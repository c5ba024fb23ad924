from __future__ import annotations

import itertools

import pytest
from dispatch_kit import READINGS, id_of, key_of

from quietfleet.dispatch import Terms
from quietfleet.dispatch._deal import Deal, DealState, Side

PROPOSED = Deal(
    deal_id=id_of("deal"),
    workers={Side.SEEKER: "sensor", Side.PROVIDER: "processor"},
    offer_id=id_of("offer"),
    seek_id=id_of("seek"),
    terms=Terms(READINGS, {}, 100.0),
    keys={Side.SEEKER: key_of("seeker"), Side.PROVIDER: key_of("provider")},
    ends=100.0,
    deadline=30.0,
)
INTRODUCED = PROPOSED.accept(Side.SEEKER, b"a").accept(Side.PROVIDER, b"b")


@pytest.mark.parametrize("order", list(itertools.permutations(Side)))
def test_accept__either_order__concludes_with_both_cards(order: tuple[Side, Side]) -> None:
    half = PROPOSED.accept(order[0], b"a")
    both = half.accept(order[1], b"b")
    assert (half.state, both.state) == (DealState.HALF_ACCEPTED, DealState.INTRODUCED)
    assert both.cards == {order[0]: b"a", order[1]: b"b"}


@pytest.mark.parametrize("side", list(Side))
def test_accept__same_side_again__changes_nothing(side: Side) -> None:
    half = PROPOSED.accept(side, b"a")
    assert half.accept(side, b"b") == half


def test_close__half_accepted__fails_and_drops_the_card() -> None:
    failed = PROPOSED.accept(Side.SEEKER, b"a").close()
    assert (failed.state, failed.cards) == (DealState.FAILED, {})
    assert failed.accept(Side.PROVIDER, b"b") == failed


@pytest.mark.parametrize("concluded", [INTRODUCED, INTRODUCED.settle()])
def test_close__concluded__ends(concluded: Deal) -> None:
    ended = concluded.close()
    assert (concluded.concluded, ended.state, ended.cards) == (True, DealState.ENDED, {})
    assert ended.close() == ended


def test_settle__introduced__keeps_neither_card_key_terms_nor_seek_until_they_end() -> None:
    settled = INTRODUCED.settle()
    assert (settled.state, settled.cards, settled.keys) == (DealState.SETTLED, {}, {})
    assert (settled.terms, settled.seek_id, settled.deadline) == (None, "", 100.0)
    assert settled.accept(Side.SEEKER, b"a") == settled


def test_settle__still_open__changes_nothing() -> None:
    assert PROPOSED.settle() == PROPOSED


def test_side_of__stranger__is_none() -> None:
    assert [PROPOSED.side_of(name) for name in ("sensor", "processor", "other")] == [Side.SEEKER, Side.PROVIDER, None]
