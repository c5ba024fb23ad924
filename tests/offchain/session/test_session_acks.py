"""Acknowledgements: with the next word to the same peer, alone when there is none, and never one of another's."""

from __future__ import annotations

import pytest
from session_world import Other, Question

from quietfleet.session import Transmission
from quietfleet.session._codec import HEARD, Ack, Mode, Packet, encode_body, encode_packet
from quietfleet.session._departures import SIZE_CLASSES, size_class
from quietfleet.session._timing import Timing

TIMING = Timing()


@pytest.fixture
def pair(world):
    """Two workers in session that owe each other nothing."""
    a, b = world.pair()
    world.settle()
    world.settle()
    return a, b


def hand(party, transmissions: list[Transmission]) -> None:
    for transmission in transmissions:
        party.take(transmission)


def say(party, peer, *texts: str) -> list[bytes]:
    return [party.messenger.notify(peer.id, Other(text)) for text in texts]


def waiting(party) -> set[bytes]:
    return set(party.messenger.conversations.pending)


def slip(party, peer, heard: tuple[bytes, ...]) -> None:
    """Send what no worker of ours would: a word that acknowledges these."""
    session = party.messenger.session(peer.id)
    body = encode_body(Other("by the way"))
    packet = Packet(b"\7" * 16, None, Mode.NOTICE, session.opened_at + 30.0, body, heard=heard)
    with party.database.transaction():
        transmission = party.messenger._departures.seal(session, encode_packet(packet))
    peer.take(transmission)


def test_notice__answered_by_a_word_at_once__acknowledged_in_the_same_envelope(pair):
    a, b = pair
    say(a, b, "seek")
    hand(b, a.sendable())
    say(b, a, "proposal")
    sent = b.sendable()
    assert len(sent) == 1
    hand(a, sent)
    assert waiting(a) == {one for one in waiting(a) if a.messenger.conversations.pending[one].mode is Mode.REPLY}
    assert a.bodies(Other) == [Other("proposal")]


def test_notices__nothing_to_go_with__one_envelope_for_all_after_a_moment(world, pair):
    a, b = pair
    say(a, b, "one", "two", "three")
    hand(b, a.sendable())
    assert b.sendable() == []
    world.clock.advance(TIMING.acknowledge)
    sent = b.sendable()
    assert len(sent) == 1
    hand(a, sent)
    assert waiting(a) == set()
    assert waiting(b) == set()


def test_notices__more_than_one_message_acknowledges__the_rest_in_the_next(world, pair):
    a, b = pair
    say(a, b, *(f"{number}" for number in range(HEARD + 3)))
    hand(b, a.sendable())
    world.clock.advance(TIMING.acknowledge)
    sent = b.sendable()
    assert len(sent) == 2
    hand(a, sent)
    assert waiting(a) == set()


def test_acknowledgement__its_envelope_is_lost__comes_again_with_the_same_word(world, pair):
    a, b = pair
    say(a, b, "seek")
    hand(b, a.sendable())
    say(b, a, "proposal")
    assert len(b.sendable()) == 1
    b.messenger.reload()
    world.clock.advance(TIMING.first_retry - 0.1)
    a.sendable()
    world.clock.advance(0.1)
    hand(a, b.sendable())
    assert [one.mode for one in a.messenger.conversations.pending.values()] == [Mode.REPLY]


def test_acknowledgement__its_answer_is_lost__the_notice_comes_again_and_is_handled_once(world, pair):
    a, b = pair
    say(a, b, "news")
    b.answering = True
    hand(b, a.sendable())
    with a.database.transaction():
        a.messenger.request(b.id, Question("well?"), (), 30.0)
    hand(b, a.sendable())
    assert len(b.sendable()) == 1, "the answer and the acknowledgement"
    world.clock.advance(TIMING.first_retry)
    hand(b, a.sendable())
    world.run()
    world.settle()
    assert b.bodies(Other) == [Other("news")]
    assert all(one.mode is not Mode.NOTICE for one in a.messenger.conversations.pending.values())


def test_acknowledgement__would_make_the_word_larger_to_see__goes_alone(world, pair):
    a, b = pair
    say(a, b, "one")
    hand(b, a.sendable())
    longest = next(length for length in range(300, 600) if _grows(length)) - 1
    say(b, a, "x" * longest)
    word = b.sendable()
    world.clock.advance(TIMING.acknowledge)
    alone = b.sendable()
    assert [len(one.data) for one in word] == [len(one.data) for one in alone]
    assert len(word[0].data) < SIZE_CLASSES[1]


def _grows(length: int) -> bool:
    """Whether a notice of so many characters is no longer of the least size."""
    packet = Packet(bytes(16), None, Mode.NOTICE, 1.5e9, encode_body(Other("x" * length)))
    return size_class(len(encode_packet(packet))) > 0


def test_word__acknowledges_what_was_said_to_another__not_taken(world, pair):
    a, b = pair
    c = world.party("c")
    told = a.messenger.notify(c.id, Other("for c alone"))
    slip(b, a, (told,))
    assert told in waiting(a)


def test_word__acknowledges_a_request__not_taken(pair):
    a, b = pair
    asked = a.messenger.request(b.id, Question("well?"), (), 30.0)
    slip(b, a, (asked, b"\0" * 16))
    assert asked in waiting(a)


def test_acknowledgement__of_a_peer_switched_off_meanwhile__neither_sent_nor_taken(world, pair):
    a, b = pair
    told = say(a, b, "one")
    hand(b, a.sendable())
    say(b, a, "two")
    sent = b.sendable()
    world.registry.off.add(b.id)
    hand(a, sent)
    assert set(told) <= waiting(a)
    say(b, a, "three")
    assert b.sendable() == []


def test_ack__by_itself__is_what_it_was(world, pair):
    a, b = pair
    say(a, b, "one")
    hand(b, a.sendable())
    bodies = [one.packet.body for one in b.messenger.conversations.pending.values()]
    assert bodies == [encode_body(Ack())]
    world.settle()
    assert waiting(a) == set()
