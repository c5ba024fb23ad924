"""Blooms, sizes, timing, and what a restart or a rollback costs."""

from __future__ import annotations

import msgspec
import pytest
from session_world import DOMAIN, Answer, Question

from quietfleet.crypto import SEAL_OVERHEAD, keccak256
from quietfleet.errors import BloomError, CardRefused, HandshakeRefused
from quietfleet.session import SIZE_CLASSES, Opened, State, Timing, decode_card, encode_card
from quietfleet.session import _handshake as handshake
from quietfleet.session._calls import announcement
from quietfleet.session._card import LEAST_BLOOM_BITS, draw_secrets
from quietfleet.session._codec import MAX_BODY, Mode, Packet, encode_packet
from quietfleet.whisper import FULL_BLOOM, TOPIC_ENTROPY, admits, matches, room, seal_symmetric, topic_within

JUNK_KEY = b"\xff" * 1216


def forged(world, party, **changes):
    """A member's card with something wrong in it, signed as it should be."""
    card = msgspec.structs.replace(party.messenger.own_card(), **changes)
    unsigned = msgspec.structs.replace(card, signature=b"")
    signature = party.identity.sign(keccak256(b"quietfleet card" + encode_card(unsigned)))
    return msgspec.structs.replace(card, signature=signature)


def ask(party, peer, text):
    party.messenger.request(peer.id, Question(text), (Answer,), 30.0)


def bits(bloom):
    return int.from_bytes(bloom, "big").bit_count()


def test_bloom__by_default__is_full(world):
    a, b = world.pair()
    assert a.messenger.blooms() == b.messenger.blooms() == {FULL_BLOOM}


def test_bloom__of_a_light_worker__everything_sent_to_it_lies_inside(world):
    world.bloom_bits = 64
    a, b = world.pair()
    for n in range(5):
        ask(a, b, str(n))
    world.run()
    ask(b, a, "back")
    world.run()
    assert len(a.bodies(Answer)) == 5
    for party, other in ((a, b), (b, a)):
        (bloom,) = party.messenger.blooms()
        to_it = [t for t in world.wire if t.peer == party.id]
        assert bits(bloom) == 64
        assert len(to_it) > 5
        assert all(admits(bloom, t.topic) for t in to_it)
        assert not all(admits(bloom, t.topic) for t in world.wire if t.peer == other.id)


def test_blooms__after_a_rotation__session_keeps_its_own_beside_the_new_cards(world):
    world.bloom_bits = 64
    a, b = world.pair()
    (before,) = a.messenger.blooms()
    world.rotate(grace=0)
    world.run()
    assert a.messenger.blooms() == {before, a.messenger.own_card().bloom}
    a.note(a.messenger.leave(b.id, "moving on"))
    assert a.messenger.blooms() == {a.messenger.own_card().bloom}


def test_blooms__after_a_restart__are_the_same(world):
    world.bloom_bits = 64
    a, _ = world.pair()
    assert world.restart(a).messenger.blooms() == a.messenger.blooms()


@pytest.mark.parametrize("size", [0, 513])
def test_bloom__of_impossible_width__is_not_drawn(world, size):
    a, _ = world.pair()
    with pytest.raises(BloomError):
        draw_secrets(a.id, a.identity, 1, world.random.randbytes, size)


@pytest.mark.parametrize("bloom", [bytes(64), b"\x01" + bytes(63), b"\xff" * 3 + b"\x7f" + bytes(60)])
def test_card__bloom_too_narrow_to_write_into__refused(world, bloom):
    a, _ = world.pair()
    assert bits(bloom) < LEAST_BLOOM_BITS
    with pytest.raises(CardRefused):
        decode_card(encode_card(forged(world, a, bloom=bloom)))
    decode_card(encode_card(forged(world, a, bloom=b"\xff" * 4 + bytes(60))))


def test_connect__card_with_a_key_that_is_none__refused_and_the_beat_goes_on(world):
    a, b = world.pair()
    with pytest.raises(HandshakeRefused):
        a.messenger.connect(forged(world, b, hpke_public=JUNK_KEY), "deal:2")
    world.run()
    ask(a, b, "undisturbed")
    world.run()
    assert a.bodies(Answer) == [Answer("UNDISTURBED")]


@pytest.mark.parametrize("broken", ["the card's", "the call's"])
def test_hello__key_to_answer_to_is_none__refused_and_counted(world, broken):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    card, own = b.messenger.own_card(), a.messenger.own_card()
    if broken == "the card's":
        own = forged(world, a, hpke_public=JUNK_KEY)
    answer_to = JUNK_KEY if broken == "the call's" else card.hpke_public
    seed, now = world.random.randbytes(48), world.clock.now()
    hello = handshake.make_hello(a.identity, own, card, "deal:1", now, seed, DOMAIN, answer_to)
    topic = topic_within(card.bloom, world.random.randbytes(TOPIC_ENTROPY))
    assert b.messenger.receive(topic, seal_symmetric(card.contact_key, handshake.seal_hello(hello, card))) == []
    assert b.metrics.value("handshakes_refused") == 1
    assert b.messenger.table.sessions == {}
    assert b.sendable() == []


@pytest.mark.parametrize("field", ["hello_id", "share", "answer_to"])
def test_hello__field_of_another_length__refused(world, field):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    card, secrets = b.messenger.own_card(), b.messenger.epochs.meeting(1)
    now, seed = world.clock.now(), world.random.randbytes(48)
    hello = handshake.make_hello(a.identity, a.messenger.own_card(), card, "deal:1", now, seed, DOMAIN, JUNK_KEY)
    handshake.open_hello(secrets.hpke, card, handshake.seal_hello(hello, card), now, DOMAIN)
    short = msgspec.structs.replace(hello, **{field: getattr(hello, field)[:-1]})
    with pytest.raises(HandshakeRefused):
        handshake.open_hello(secrets.hpke, card, handshake.seal_hello(short, card), now, DOMAIN)


def test_handshake__call_and_answer__look_alike(world):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    a.messenger.connect(b.messenger.own_card(), "deal:0123456789abcdef0123456789abcdef")
    world.run()
    call, answer = world.wire[:2]
    assert len(call.data) == len(answer.data) == SIZE_CLASSES[1] + SEAL_OVERHEAD
    assert a.seen(Opened)


def test_size_classes__are_few_and_the_largest_body_fits():
    assert len(SIZE_CLASSES) <= 5
    assert SIZE_CLASSES[-1] <= 114_688
    packet = Packet(bytes(16), bytes(16), Mode.REPLY, 1e14, bytes(MAX_BODY), bytes(16), bytes(16), (bytes(16),) * 16)
    assert len(encode_packet(packet)) <= room(SIZE_CLASSES[-1], signed=False)


def test_timing__repetitions__double_up_to_the_last():
    assert [Timing().wait(n) for n in (1, 2, 3, 4, 1000)] == [6.0, 12.0, 20.0, 20.0, 20.0]


def test_reload__after_a_rollback__keeps_what_did_not_change(world):
    a, b = world.pair()
    c = world.party("c")
    world.grant(c)
    c.messenger.connect(b.messenger.own_card(), "deal:2")
    world.run()
    before = dict(b.messenger.table._receivers)
    ask(a, b, "undone")
    (transmission,) = a.sendable()
    with pytest.raises(ZeroDivisionError), b.database.transaction():
        _ = len(b.messenger.receive(transmission.topic, transmission.data)) / 0
    b.messenger.reload()
    after = b.messenger.table._receivers
    of_a, of_c = ((b.messenger.session(p.id).id, 1) for p in (a, c))
    assert after[of_c] is before[of_c]
    assert after[of_a] is not before[of_a]
    b.take(transmission)
    ask(c, b, "still in session")
    world.run()
    assert b.bodies(Question) == [Question("undone"), Question("still in session")]


def test_calls__of_two_workers_cross__both_end_up_in_the_same_session(world):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    for one, other in ((a, b), (b, a)):
        one.messenger.connect(other.messenger.own_card(), "deal:1")
        one.tick()
    sent = [(party, party.sendable()) for party in (a, b)]
    for party, transmissions in sent:
        for transmission in transmissions:
            world.deliver(transmission, party)
    world.run()
    (of_a,), (of_b,) = (party.messenger.table.sessions for party in (a, b))
    assert of_a == of_b
    ask(a, b, "hello?")
    ask(b, a, "hello?")
    world.run()
    assert a.bodies(Answer) == b.bodies(Answer) == [Answer("HELLO?")]


def test_call__first_word_never_arrives__given_up_by_the_caller_too(world):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    a.messenger.connect(b.messenger.own_card(), "deal:1")
    world.lose = lambda _: bool(a.seen(Opened)) or bool(b.seen(Opened))
    world.run()
    assert a.messenger.state(b.id) is State.OPEN
    for _ in range(10):
        world.clock.advance(10)
        world.run()
    assert a.messenger.state(b.id) is b.messenger.state(a.id) is State.APART


def test_wanted__light_worker__holds_its_own_bloom_and_the_announcements(world):
    world.bloom_bits = 64
    a, b = world.pair()
    for party in (a, b):
        wanted = party.messenger.wanted()
        assert all(matches(wanted, bloom) for bloom in party.messenger.blooms())
        assert admits(wanted, announcement(DOMAIN, party.messenger.epochs.latest.epoch)[1])
