"""Attackers at the session layer: strangers with bytes, members with bad manners."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager

import msgspec
import pytest
from session_world import DOMAIN, Answer, Other, Question

from quietfleet.errors import CardRefused, HandshakeRefused
from quietfleet.session import Closed, Expired, Opened, decode_card, encode_card
from quietfleet.session import _handshake as handshake
from quietfleet.session._calls import announcement
from quietfleet.session._codec import MAX_BODY, Mode, Packet, encode_body, encode_packet
from quietfleet.session._conversation import ANSWERS, MEMORY, SMALL
from quietfleet.session._keeping import SILENCE, UNHEARD
from quietfleet.session._ratchet import WINDOW
from quietfleet.whisper import TOPIC_ENTROPY, seal_symmetric, topic_within

DEEP = b"\x91" * 2000 + b"\xc0"  # an array in an array in an array …
BROKEN_TEXT = b"\x96\xc4\x10" + bytes(16) + b"\xc4\x00\xc4\x00\xa2\xff\xfe\xcb" + bytes(8) + b"\xc4\x00"


@contextmanager
def ordinary_recursion_limit():
    """Some plugins raise the limit, which would hide what a worker meets."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def ask(party, peer, text, within=30.0):
    party.messenger.request(peer.id, Question(text), (Answer,), within, context=f"asked {text}")


def send_raw(sender, receiver, packet):
    """A member sends what its own code never would."""
    session = sender.messenger.session(receiver.id)
    transmission = sender.messenger._departures.seal(session, encode_packet(packet))
    receiver.take(transmission)


def packet(body, *, parent=None, mode=Mode.REQUEST, reply_by=0.0, number=1):
    return Packet(bytes([number]) * 16, parent, mode, reply_by, encode_body(body))


@pytest.mark.parametrize(
    "junk", [DEEP, BROKEN_TEXT, b"", b"\xc1", bytes(2000)], ids=["deep", "text", "empty", "c1", "zeros"]
)
def test_announcement__junk_by_a_stranger_under_the_public_key__passed_over(world, junk):
    a, _ = world.pair()
    key, topic = announcement(DOMAIN, 1)
    with ordinary_recursion_limit():
        assert a.messenger.receive(topic, seal_symmetric(key, junk)) == []
    assert a.metrics.value("messages_passed_over") >= 1


@pytest.mark.parametrize("junk", [DEEP, BROKEN_TEXT, b"", bytes(2000)], ids=["deep", "text", "empty", "zeros"])
def test_hello__junk_sealed_to_a_known_card__refused_and_counted(world, junk):
    a, _ = world.pair()
    card = a.messenger.own_card()
    sealed = handshake.hpke_seal(card.hpke_public, junk, b"quietfleet hello" + card.digest)
    topic = topic_within(card.bloom, world.random.randbytes(TOPIC_ENTROPY))
    with ordinary_recursion_limit():
        assert a.messenger.receive(topic, seal_symmetric(card.contact_key, sealed)) == []
    assert a.metrics.value("handshakes_refused") == 1


def test_hello__of_another_configuration_version__refused(world):
    a, b = world.pair()
    own, card = a.messenger.epochs.prepare(77), b.messenger.own_card()
    seed, now = world.random.randbytes(48), world.clock.now()
    hello = handshake.make_hello(a.identity, own.card, card, "deal:9", now, seed, DOMAIN, card.hpke_public)
    secrets = b.messenger.epochs.meeting(1)
    with pytest.raises(HandshakeRefused):
        handshake.open_hello(secrets.hpke, secrets.card, handshake.seal_hello(hello, card), now, DOMAIN)


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf])
def test_hello__time_is_no_number__refused(world, at):
    a, b = world.pair()
    own, card = a.messenger.own_card(), b.messenger.own_card()
    seed = world.random.randbytes(48)
    hello = handshake.make_hello(a.identity, own, card, "deal:9", at, seed, DOMAIN, card.hpke_public)
    secrets = b.messenger.epochs.meeting(1)
    with pytest.raises(HandshakeRefused):
        handshake.open_hello(secrets.hpke, secrets.card, handshake.seal_hello(hello, card), world.clock.now(), DOMAIN)


@pytest.mark.parametrize("version", [-1, 0, 2**32])
def test_card__version_out_of_range__refused(world, version):
    a, _ = world.pair()
    card = msgspec.structs.replace(a.messenger.own_card(), version=version)
    with pytest.raises(CardRefused):
        decode_card(encode_card(card))


@pytest.mark.parametrize("reply_by", [math.nan, math.inf, 0.0, MEMORY + 1_000.0])
def test_request__deadline_out_of_bounds__not_taken_and_not_kept(world, reply_by):
    a, b = world.pair()
    due = reply_by if not math.isfinite(reply_by) or reply_by == 0.0 else world.clock.now() + reply_by
    world.settle()
    send_raw(a, b, packet(Question("for ever"), reply_by=due))
    assert b.bodies(Question) == []
    assert b.messenger.conversations.pending == {}


def test_answer__nobody_asked__ignored_whatever_its_mode(world):
    a, b = world.pair()
    soon = world.clock.now() + 10
    send_raw(a, b, packet(Answer("unasked"), mode=Mode.REPLY, number=1))
    send_raw(a, b, packet(Answer("as a notice"), mode=Mode.NOTICE, reply_by=soon, number=2))
    send_raw(a, b, packet(Answer("as a request"), mode=Mode.REQUEST, reply_by=soon, number=3))
    assert b.bodies(Answer) == []
    assert b.metrics.value("messages_ignored", reason="an answer to nothing") == 3


def test_body__deep_or_broken__ignored_and_the_session_goes_on(world):
    a, b = world.pair()
    with ordinary_recursion_limit():
        for number, body in enumerate((DEEP, b"\x82\xa4type\xaaquestion/1\xa4text\xa2\xff\xfe", b"")):
            send_raw(a, b, Packet(bytes([number]) * 16, None, Mode.REQUEST, world.clock.now() + 5, body))
    assert b.metrics.value("messages_ignored", reason="malformed") == 3
    ask(a, b, "still friends?")
    world.run()
    assert a.bodies(Answer) == [Answer("STILL FRIENDS?")]


def test_body__just_within_the_limit__goes_through_and_expires_like_any_other(world):
    a, b = world.pair()
    text = "x" * (MAX_BODY - 40)
    b.answering = False
    ask(a, b, text, within=5)
    world.run()
    assert b.bodies(Question) == [Question(text)]
    world.clock.advance(6)
    world.run()
    assert [e.body for e in a.seen(Expired)] == [Question(text)]


def test_answers__many_to_one_peer__only_the_last_are_kept(world):
    a, b = world.pair()
    for n in range(ANSWERS + 5):
        ask(a, b, f"q{n}" + 2500 * "x")
    world.run()
    handled = b.messenger.conversations._handled.values()
    kept = [record for record in handled if record.answer and len(record.answer.body) > SMALL]
    assert len(kept) == ANSWERS


def test_answers__many_short_ones_lost_at_once__every_one_is_said_again(world):
    """As when an epoch ends without grace while they are under way."""
    a, b = world.pair()
    for n in range(3 * ANSWERS):
        ask(a, b, f"a question of some length {n}")
    world.lose = lambda transmission: transmission.peer == a.id
    world.run()
    assert a.bodies(Answer) == []
    world.lose = lambda _: False
    world.clock.advance(10)
    world.run()
    assert len(a.bodies(Answer)) == len(b.bodies(Question)) == 3 * ANSWERS


def test_goodbye__said__both_sides_end_and_nothing_is_left_on_disk(world):
    a, b = world.pair()
    a.note(a.messenger.leave(b.id, "moving on"))
    world.run()
    assert [e.reason for e in a.seen(Closed)] == ["moving on"]
    assert [e.reason for e in b.seen(Closed)] == ["the peer said goodbye"]
    for party in (world.restart(a), world.restart(b)):
        assert party.messenger.table.sessions == {}


def test_peer__lost_its_state__given_up_and_reached_again(world):
    a, b = world.pair()
    b.messenger.table.remove(b.messenger.session(a.id))
    for n in range(UNHEARD):
        ask(a, b, f"anybody {n}?", within=500)
    world.run()
    world.clock.advance(SILENCE + 1)
    world.run()
    assert [e.reason for e in a.seen(Closed)] == ["no answer for too long"]
    a.messenger.connect(b.messenger.own_card(), "deal:2")
    world.run()
    assert len(a.bodies(Answer)) == UNHEARD


def test_peer__silent_through_half_a_window__given_up_before_the_keys_run_out(world):
    a, b = world.pair()
    world.lose = lambda _: True
    for n in range(WINDOW // 2):
        ask(a, b, f"{n}", within=500)
    world.run(rounds=2)
    assert a.messenger.session(b.id) is None


def test_answer_in_flight__severed_before_it_leaves__does_not_leave(world):
    a, b = world.pair()
    ask(a, b, "one")
    ask(a, b, "two")
    first = a.messenger.next_transmission()
    a.note(a.messenger.sever(b.id, "switched off"))
    assert first is not None
    assert a.sendable() == []


def test_call_under_way__peer_switched_off__no_more_hellos_and_no_session(world):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    a.messenger.connect(b.messenger.own_card(), "deal:1")
    a.tick()
    for call in a.sendable():
        b.take(call)
    answers = b.sendable()
    world.registry.off.add(b.id)
    for answer in answers:
        a.take(answer)
    assert a.seen(Opened) == []
    world.clock.advance(7)
    a.tick()
    assert a.sendable() == []


def test_graves__many_goodbyes__of_bounded_size_a_peer(world):
    a, b = world.pair()
    for n in range(12):
        b.note(b.messenger.sever(a.id, "again"))
        a.messenger.sever(b.id, "again")
        a.messenger.connect(b.messenger.own_card(), f"deal:{n + 2}")
        world.run()
    b.note(b.messenger.sever(a.id, "at last"))
    table = b.messenger.table
    assert 0 < len(table._index) <= 1024, "topics of older sessions are forgotten"
    assert {table.buried(topic) for topic in table._index} == {a.id}
    assert b.database.execute("SELECT count(*) FROM session_tombstones").fetchone() == (len(table._stones),)


def test_epoch_key__of_a_version_not_announced__not_granted(world):
    oracle = world.party("oracle")
    world.rotate()
    oracle.messenger.epochs.prepare(2, b"n" * 32)
    oracle.messenger.reload()
    assert oracle.messenger.epochs.granted(2, world.clock.now()) is None


def test_epoch_key__chain_reorganised_to_another__the_old_one_and_its_sessions_go(world):
    a, b = world.pair()
    other = msgspec.structs.replace(world.latest, epoch_key_commitment=b"o" * 32)
    a.note(a.messenger.adopt(other, None))
    assert a.messenger.epochs.epoch_key(1) is None
    assert a.messenger.session(b.id) is None
    assert [e.reason for e in a.seen(Closed)] == ["its configuration was reorganised away"]


def test_epoch_keys__newer_one_first__no_generation_is_skipped(world):
    a, b = world.pair()
    world.rotate(lead=30, grace=20, give_key_to=[b])
    waiting = world.latest
    ask(a, b, "early")
    a.messenger.set_epoch_key(waiting, world.epoch_keys[2])
    world.run()
    assert sorted(a.messenger.session(b.id).generations) == [1, 2]
    assert a.bodies(Answer) == [Answer("EARLY")]


def test_other_bodies__still_known_to_the_codec__are_delivered(world):
    a, b = world.pair()
    a.messenger.notify(b.id, Other("hello"))
    world.run()
    assert b.bodies(Other) == [Other("hello")]
