"""In a conversation, what one side says is heard in the order in which it was said, whatever the network does."""

from __future__ import annotations

import pytest
from session_world import Answer, Other, Question

from quietfleet.session import Expired, Received, Timing
from quietfleet.session import _waiting as waiting
from quietfleet.session._codec import PACKET_VERSION, Mode, Packet, encode_body, encode_packet
from quietfleet.session._conversation import HANDLED, MEMORY
from quietfleet.whisper import open_symmetric

RETRY = Timing().first_retry


def tell(party, peer, text, conversation=None, within=60.0):
    return party.messenger.notify(peer.id, Other(text), within, context=text, conversation=conversation)


def heard(party):
    return [body.text for body in party.bodies(Other)]


def send_raw(sender, receiver, packet):
    session = sender.messenger.session(receiver.id)
    receiver.take(sender.messenger._departures.seal(session, encode_packet(packet)))


def notice(world, number, after=None, passed=(), text=""):
    body = encode_body(Other(text or str(number)))
    until = world.clock.now() + 60
    return Packet(ident(number), None, Mode.NOTICE, until, body, ident(99), after, passed)


def ident(number):
    return number.to_bytes(16, "big")


@pytest.fixture
def three(world):
    """Three notices of one conversation, ready to leave."""
    a, b = world.pair()
    first = tell(a, b, "one")
    for text in ("two", "three"):
        tell(a, b, text, first)
    return a, b, a.sendable()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_conversation__reordered_on_the_way__heard_as_said(three, order):
    _, b, sent = three
    for n in order:
        b.take(sent[n])
    assert heard(b) == ["one", "two", "three"]


def test_conversation__one_lost__the_others_wait_for_it(world, three):
    a, b, sent = three
    for transmission in sent[1:]:
        b.take(transmission)
    assert heard(b) == []
    assert b.metrics.value("messages_early", kept="True") == 2
    assert b.sendable() == [], "what was not heard is not acknowledged"
    world.clock.advance(RETRY)
    world.run()
    assert heard(b) == ["one", "two", "three"]
    assert a.messenger.conversations.pending == {}


def test_conversation__the_lost_one_is_given_up__the_others_do_not_wait_for_ever_and_it_never_comes(world):
    a, b = world.pair()
    first = tell(a, b, "one", within=4)
    lost = a.sendable()
    tell(a, b, "two", first)
    world.run()
    assert heard(b) == []
    world.clock.advance(RETRY)
    world.run()
    assert [event.context for event in a.seen(Expired)] == ["one"]
    assert heard(b) == ["two"]
    for transmission in lost:
        b.take(transmission)
    world.run()
    assert heard(b) == ["two"]


def test_conversation__given_up_while_nothing_follows__still_does_not_come_after_the_next(world):
    a, b = world.pair()
    first = tell(a, b, "one", within=4)
    late = a.sendable()
    world.clock.advance(5)
    a.tick()
    a = world.restart(a)
    tell(a, b, "two", first)
    world.run()
    world.clock.advance(-2)  # a receiver whose clock is behind would still take it
    for transmission in late:
        b.take(transmission)
    assert heard(b) == ["two"]


def test_conversations__two_of_them__do_not_wait_for_each_other(world):
    a, b = world.pair()
    tell(a, b, "lost")
    a.sendable()
    tell(a, b, "another")
    world.run()
    assert heard(b) == ["another"]


def test_conversation__question_and_answer__heard_after_what_was_said_before(world):
    a, b = world.pair()
    first = tell(a, b, "one")
    a.messenger.request(b.id, Question("two"), (Answer,), 60, conversation=first)
    one, two = a.sendable()
    b.take(two)
    assert b.bodies(Question) == []
    b.take(one)
    assert [type(event.body) for event in b.seen(Received)] == [Other, Question]


def test_conversation__answer_after_a_notice_of_the_answering_side__in_that_order(world):
    a, b = world.pair()
    b.answering = False
    a.messenger.request(b.id, Question("first?"), (Answer,), 60)
    world.run()
    question = b.seen(Received)[-1]
    tell(b, a, "before the answer", question.conversation)
    b.messenger.reply(question, Answer("and this is it"))
    said = {len(packet_of(b, a, t).body): t for t in b.sendable()}
    before, answer = (said[len(encode_body(body))] for body in (Other("before the answer"), Answer("and this is it")))
    a.take(answer)
    assert a.bodies(Answer) == []
    a.take(before)
    assert [type(event.body) for event in a.seen(Received)] == [Other, Answer]
    assert a.seen(Received)[-1].conversation == question.conversation


def packet_of(sender, receiver, transmission):
    match = receiver.messenger.table.find(transmission.topic)[0]
    return receiver.messenger._codec.packet(open_symmetric(match.message.key, transmission.data).payload)


def test_conversation__receiver_restarts_while_something_waits__nothing_is_lost(world, three):
    a, b, sent = three
    b.take(sent[2])
    b = world.restart(b)
    b.take(sent[0])
    assert heard(b) == ["one"]
    world.clock.advance(RETRY)
    world.run()
    assert heard(b) == ["one", "two", "three"]
    assert a.messenger.conversations.pending == {}


def test_conversation__sender_restarts__order_stays(world):
    a, b = world.pair()
    first = tell(a, b, "one")
    tell(a, b, "two", first)
    a = world.restart(a)
    tell(a, b, "three", first)
    for transmission in reversed(a.sendable()):
        b.take(transmission)
    assert heard(b) == ["one", "two", "three"]


def test_conversation__session_replaced_in_between__order_stays(world):
    a, b = world.pair()
    first = tell(a, b, "one")
    tell(a, b, "two", first)
    a.sendable()
    a.messenger.connect(b.messenger.own_card(), "deal:2")
    world.run()
    world.clock.advance(RETRY)
    world.run()
    assert heard(b) == ["one", "two"]


def test_early__too_many__dropped_and_counted_and_memory_is_bounded(world):
    a, b = world.pair()
    for n in range(waiting.HELD + 10):
        send_raw(a, b, notice(world, n + 1, after=ident(1000)))
    assert len(b.messenger._waiting._early[a.id]) == waiting.HELD
    assert b.metrics.value("messages_early", kept="False") == 10


def test_early__too_large_together__dropped(world):
    a, b = world.pair()
    for n in range(8):
        send_raw(a, b, notice(world, n + 1, after=ident(1000), text="x" * 99_000))
    held = b.messenger._waiting._early[a.id].values()
    assert sum(len(one.packet.body) for one in held) <= waiting.HELD_BYTES


def test_early__what_it_waits_for_never_comes__forgotten(world):
    a, b = world.pair()
    send_raw(a, b, notice(world, 1, after=ident(1000)))
    world.clock.advance(waiting.HOLD + 1)
    b.tick()
    assert b.messenger._waiting._early == {}


def test_early__circle__nobody_is_heard_and_nothing_breaks(world):
    a, b = world.pair()
    send_raw(a, b, notice(world, 1, after=ident(2)))
    send_raw(a, b, notice(world, 2, after=ident(1)))
    send_raw(a, b, notice(world, 3, after=ident(3)))
    assert heard(b) == []


def test_early__long_chain_freed_at_once__heard_in_order(world):
    a, b = world.pair()
    for n in range(waiting.HELD, 0, -1):
        send_raw(a, b, notice(world, n + 1, after=ident(n)))
    send_raw(a, b, notice(world, 1))
    assert heard(b) == [str(n) for n in range(1, waiting.HELD + 2)]


def test_after__names_what_somebody_else_said__waits(world):
    a, b = world.pair()
    c = world.party("c")
    world.grant(c)
    c.messenger.connect(b.messenger.own_card(), "deal:2")
    world.run()
    send_raw(a, b, notice(world, 1))
    send_raw(c, b, notice(world, 2, after=ident(1)))
    assert heard(b) == ["1"]


def test_id__of_somebody_elses_message__not_heard_and_its_answer_not_given(world):
    a, b = world.pair()
    c = world.party("c")
    world.grant(c)
    c.messenger.connect(b.messenger.own_card(), "deal:2")
    world.run()
    send_raw(a, b, notice(world, 1, text="mine"))
    b.sendable()
    send_raw(c, b, notice(world, 1, text="stolen"))
    assert heard(b) == ["mine"]
    assert b.sendable() == []


def test_memory__of_one_peer__is_bounded(world):
    a, b = world.pair()
    conversations, now = b.messenger.conversations, world.clock.now()
    with b.database.transaction():
        for n in range(HANDLED + 50):
            conversations.remember(n.to_bytes(16, "big"), a.id, now)
    assert len(conversations._handled) == HANDLED
    world.clock.advance(MEMORY + 1)
    b.tick()
    assert conversations._handled == conversations._of_peer == {}


def test_packet__of_another_version__refused(world):
    a, b = world.pair()
    session = a.messenger.session(b.id)
    data = encode_packet(notice(world, 1))
    assert data[:1] == PACKET_VERSION
    b.take(a.messenger._departures.seal(session, b"\x03" + data[1:]))
    assert heard(b) == []
    assert b.metrics.value("messages_ignored", reason="malformed") == 1
