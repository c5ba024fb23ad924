"""The ordered shelves against the plain way: look at everything, and sort."""

from __future__ import annotations

from dispatch_kit import READINGS, START, id_of, make_seek
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.dispatch import Between, Equals, Includes, Offer, OneOf
from quietfleet.dispatch._deal import ListedOffer, QueuedSeek
from quietfleet.dispatch._match import fits
from quietfleet.dispatch._shelf import Agenda, Places, Queue

WORDS = st.sampled_from(["north", "south", "steel"])
VALUES = st.one_of(WORDS, st.sampled_from([1.0, 2.0]), st.lists(WORDS, max_size=2).map(tuple))
NAMES = st.sampled_from(["region", "tags"])
CONSTRAINTS = st.one_of(
    st.builds(Equals, NAMES, VALUES),
    st.builds(OneOf, NAMES, st.lists(WORDS, max_size=2).map(tuple)),
    st.builds(Includes, NAMES, WORDS),
    st.builds(Between, NAMES, st.just(1.0), st.just(1.5)),
)
ATTRIBUTES = st.dictionaries(NAMES, VALUES)
OFFERS = st.lists(st.tuples(ATTRIBUTES, st.integers(0, 3), st.sampled_from([0.0, 1.0]), st.booleans()), max_size=12)


@settings(deadline=None)
@given(offers=OFFERS, constraints=st.lists(CONSTRAINTS, max_size=3), max_price=st.sampled_from([0.0, 1.0]))
def test_in_turn__any_offers_some_of_them_gone__as_looking_at_all_of_them(offers, constraints, max_price) -> None:
    places, kept = Places(), {}
    for turn, (attributes, used, price, stays) in enumerate(offers):
        offer = Offer(id_of(str(turn)), READINGS, attributes, 4, START, (), price)
        listed = ListedOffer(f"worker {turn}", offer, True, turn, (b"k",))
        places.put(listed, used)
        if stays:
            kept[listed.key] = (used, turn, listed)
        else:
            places.drop(listed.key)
    seek = make_seek("sensor", constraints=tuple(constraints), max_price=max_price)
    plain = [listed for _, _, listed in sorted(kept.values(), key=lambda rank: rank[:2]) if fits(seek, listed.offer)]
    assert list(places.in_turn(seek)) == plain
    for key in kept:
        places.drop(key)
    assert (places._kinds, places._saying, places._ranks) == ({}, {}, {})


@settings(deadline=None)
@given(seeks=st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 1.0]), st.booleans()), max_size=12))
def test_queue__any_seeks_some_of_them_gone__in_turn_with_those_that_lost_theirs_last(seeks) -> None:
    queue, kept = Queue(), []
    for turn, (behind, price, stays) in enumerate(seeks):
        seek = make_seek("sensor", seek_id=id_of(str(turn)), max_price=price)
        queued = QueuedSeek("sensor", seek, turn, b"k", behind)
        queue.put(queued)
        if stays:
            kept.append(queued)
        else:
            queue.drop(queued.id)
    assert list(queue.in_turn(lambda _: True)) == sorted(kept, key=lambda queued: (queued.behind, queued.turn))
    assert list(queue.in_turn(lambda seek: seek.max_price > 0)) == sorted(
        (queued for queued in kept if queued.seek.max_price > 0), key=lambda queued: (queued.behind, queued.turn)
    )


@given(moves=st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 5))), now=st.integers(0, 5))
def test_due__any_times_set_and_dropped__the_longest_overdue_first(moves, now) -> None:
    agenda, plain = Agenda[str](), {}
    for key, at in moves:
        if at is None:
            agenda.drop(key)
            plain.pop(key, None)
        else:
            agenda.set(key, at)
            plain[key] = at
    assert agenda.due(now) == [key for at, key in sorted((at, key) for key, at in plain.items()) if at <= now]
