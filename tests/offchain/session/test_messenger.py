from __future__ import annotations

import pytest
from session_world import Answer, Other, Question

from quietfleet.crypto import derive
from quietfleet.errors import CryptoError, HandshakeRefused
from quietfleet.session import CardSeen, Closed, Expired, Ignored, Opened, Timing, VersionRetired
from quietfleet.session._conversation import Unexpected
from quietfleet.session._epochs import generation_base
from quietfleet.whisper import open_symmetric

RETRY = Timing().first_retry


def ask(party, peer, text, within=30.0):
    party.messenger.request(peer.id, Question(text), (Answer,), within, context=f"asked {text}")


def test_connect__two_active_workers__both_open_one_session(world):
    a, b = world.pair()
    assert [event.initiator for event in a.seen(Opened)] == [True]
    assert [event.initiator for event in b.seen(Opened)] == [False]
    assert a.messenger.session(b.id).id == b.messenger.session(a.id).id


def test_request__answered__answer_carries_the_context_of_its_question(world):
    a, b = world.pair()
    ask(a, b, "hot?")
    world.run()
    assert a.bodies(Answer) == [Answer("HOT?")]
    assert [e.answers for e in a.events if getattr(e, "body", None) == Answer("HOT?")] == ["asked hot?"]
    assert a.messenger.conversations.pending == {}


def test_wire__two_messages_same_content__nothing_repeats(world):
    a, b = world.pair()
    world.wire.clear()
    ask(a, b, "same")
    world.run()
    ask(a, b, "same")
    world.run()
    topics = [t.topic for t in world.wire]
    assert len(set(topics)) == len(topics)
    assert len({len(t.data) for t in world.wire}) == 1, "envelopes come in size classes"


def test_request__first_try_lost__sent_again_and_handled_once(world):
    a, b = world.pair()
    lost = []
    world.lose = lambda t: not lost and not lost.append(t)
    ask(a, b, "lost")
    world.run()
    assert b.bodies(Question) == []
    world.clock.advance(RETRY)
    world.run()
    assert b.bodies(Question) == [Question("lost")]
    assert a.bodies(Answer) == [Answer("LOST")]


def test_request__answer_lost__question_handled_once_and_answered_again(world):
    a, b = world.pair()
    ask(a, b, "once")
    world.lose = lambda _: bool(b.bodies(Question))
    world.run()
    world.lose = lambda _: False
    world.clock.advance(RETRY)
    world.run()
    assert b.bodies(Question) == [Question("once")]
    assert a.bodies(Answer) == [Answer("ONCE")]


def test_request__never_answered__expires_with_its_body(world):
    a, b = world.pair()
    b.answering = False
    ask(a, b, "silence", within=5)
    world.run()
    world.clock.advance(6)
    world.run()
    assert [e.body for e in a.seen(Expired)] == [Question("silence")]


def test_reply__after_the_deadline__ignored_as_late(world):
    a, b = world.pair()
    b.answering = False
    ask(a, b, "slow", within=5)
    world.run()
    question = next(e for e in b.events if getattr(e, "body", None) == Question("slow"))
    b.messenger.reply(question, Answer("too late"))
    held = b.sendable()
    world.clock.advance(6)
    for transmission in held:
        a.take(transmission)
    assert a.bodies(Answer) == []
    assert a.metrics.value("messages_ignored", reason=Unexpected.LATE.value) == 1


def test_reply__of_another_schema__ignored(world):
    a, b = world.pair()
    b.answering = False
    ask(a, b, "what")
    world.run()
    question = next(e for e in b.events if getattr(e, "body", None) == Question("what"))
    b.messenger.reply(question, Other("nonsense"))
    world.run()
    assert a.bodies(Other) == []
    assert a.metrics.value("messages_ignored", reason=Unexpected.SCHEMA.value) == 1


def test_reply__from_another_author__ignored(world):
    a, b = world.pair()
    c = world.party("c")
    world.grant(c)
    c.messenger.connect(a.messenger.own_card(), "deal:2")
    world.run()
    b.answering = False
    ask(a, b, "for b")
    world.run()
    question = next(e for e in b.events if getattr(e, "body", None) == Question("for b"))
    stolen = type(question)(a.id, question.packet, question.body, None)
    c.messenger.reply(stolen, Answer("from c"))
    world.run()
    assert a.bodies(Answer) == []
    assert a.metrics.value("messages_ignored", reason=Unexpected.AUTHOR.value) == 1


def test_replay__old_envelopes_again__nothing_happens(world):
    a, b = world.pair()
    ask(a, b, "replay me")
    world.run()
    before = len(a.events), len(b.events)
    for transmission in list(world.wire):
        world.deliver(transmission)
    world.run()
    assert (len(a.events), len(b.events)) == before


def test_sever__owner_switches_peer_off__later_messages_ignored_counted_unanswered(world):
    a, b = world.pair()
    b.note(b.messenger.sever(a.id, "disabled by its owner"))
    assert [e.reason for e in b.seen(Closed)] == ["disabled by its owner"]
    world.wire.clear()
    for n in range(3):
        ask(a, b, f"still here {n}")
    world.run()
    assert b.bodies(Question) == []
    assert len(b.seen(Ignored)) == 3
    assert b.metrics.value("messages_ignored", reason="severed") == 3
    assert b.sendable() == []


def test_sever__keys_are_gone__recorded_messages_do_not_open(world):
    a, b = world.pair()
    session = b.messenger.session(a.id)
    ask(a, b, "recorded")
    recorded = a.sendable()[0]
    match = next(m for m in b.messenger.table.find(recorded.topic))
    assert open_symmetric(match.message.key, recorded.data).payload
    b.messenger.sever(a.id, "disabled")
    assert b.messenger.table.find(recorded.topic) == []
    assert b.messenger.table.sessions.get(session.id) is None


def test_receive__registry_says_no_but_event_not_processed__ignored(world):
    a, b = world.pair()
    ask(a, b, "unseen event")
    held = a.sendable()
    world.registry.off.add(a.id)
    for transmission in held:
        b.take(transmission)
    assert b.bodies(Question) == []
    assert b.seen(Ignored)


def test_connect__switched_off_worker__no_session_and_no_answer(world):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    a.messenger.connect(b.messenger.own_card(), "deal:1")
    a.tick()
    calls = a.sendable()
    world.registry.off.add(a.id)
    for call in calls:
        b.take(call)
    assert b.sendable() == []
    assert b.metrics.value("handshakes_refused") >= 1
    assert a.seen(Opened) == []


def test_connect__nobody_answers__closed_after_patience(world):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    world.lose = lambda _: True
    a.messenger.connect(b.messenger.own_card(), "deal:1")
    world.run()
    world.clock.advance(Timing().call + 1)
    world.run()
    assert [e.reason for e in a.seen(Closed)] == ["no answer"]


def test_rotate__both_get_the_key__session_goes_on_and_old_keys_are_erased(world):
    a, b = world.pair()
    ask(a, b, "before")
    world.run()
    old = list(world.wire)
    world.rotate(lead=5, grace=10)
    ask(a, b, "pending")
    world.run()
    world.clock.advance(6)
    ask(a, b, "after")
    world.run()
    world.clock.advance(10)
    world.run()
    assert [e.version for e in a.seen(VersionRetired)] == [1]
    assert a.bodies(Answer) == [Answer("BEFORE"), Answer("PENDING"), Answer("AFTER")]
    assert list(a.messenger.session(b.id).generations) == [2]
    for transmission in old:
        assert b.messenger.table.find(transmission.topic) == []


def test_rotate__message_sent_under_the_old_version_arrives_in_grace__accepted(world):
    a, b = world.pair()
    ask(a, b, "in flight")
    held = a.sendable()
    world.rotate(lead=0, grace=10)
    world.clock.advance(5)
    for transmission in held:
        b.take(transmission)
    assert b.bodies(Question) == [Question("in flight")]


def test_rotate__message_of_the_old_version_after_grace__opens_nowhere(world):
    a, b = world.pair()
    ask(a, b, "too old")
    held = a.sendable()
    world.rotate(lead=0, grace=10)
    world.clock.advance(11)
    b.tick()
    for transmission in held:
        b.take(transmission)
    assert b.bodies(Question) == []


def test_rotate__one_side_gets_its_key_late__nothing_is_lost(world):
    a, b = world.pair()
    world.rotate(lead=0, grace=4, give_key_to=[a])
    world.clock.advance(1)
    ask(a, b, "early", within=60)
    world.run()
    world.clock.advance(6)
    world.run()
    assert b.bodies(Question) == []
    world.grant(b)
    world.clock.advance(Timing().last_retry)
    world.run()
    assert a.bodies(Answer) == [Answer("EARLY")]


def test_rotate__worker_never_gets_the_new_key__reads_nothing_any_more(world):
    a, b = world.pair()
    world.rotate(lead=0, grace=2, give_key_to=[a])
    world.clock.advance(3)
    world.run()
    ask(a, b, "secret")
    world.run()
    assert b.bodies(Question) == []
    assert b.messenger.session(a.id) is None


def test_set_epoch_key__not_the_committed_one__refused(world):
    a, _ = world.pair()
    with pytest.raises(HandshakeRefused):
        a.messenger.set_epoch_key(world.latest, b"x" * 32)


def test_restart__both_sides_killed__conversation_resumes_where_it_was(world):
    a, b = world.pair()
    ask(a, b, "one")
    world.run()
    ask(a, b, "two")
    a, b = world.restart(a), world.restart(b)
    world.run()
    assert a.bodies(Answer) == [Answer("TWO")]
    assert a.messenger.session(b.id) is not None


def test_restart__killed_after_taking_a_key__no_key_is_used_twice(world):
    a, b = world.pair()
    ask(a, b, "one", within=60)
    first = a.sendable()
    a = world.restart(a)
    world.clock.advance(RETRY)
    second = a.sendable()
    assert {t.topic for t in first}.isdisjoint({t.topic for t in second})


def test_receive__handler_fails__rolled_back_and_read_again(world):
    a, b = world.pair()
    ask(a, b, "fail once", within=60)
    transmission = a.sendable()[0]
    with pytest.raises(ZeroDivisionError), b.database.transaction():
        _ = len(b.messenger.receive(transmission.topic, transmission.data)) / 0
    b.messenger.reload()
    b.take(transmission)
    assert b.bodies(Question) == [Question("fail once")]


def test_announce__gateway_card_matches_chain__seen_by_all(world):
    gateway, a = world.party("gateway"), world.party("a")
    world.rotate()
    gateway.messenger.announce()
    world.run()
    assert [e.card.worker for e in a.seen(CardSeen)] == [gateway.id]


def test_announce__by_someone_the_chain_does_not_name__passed_over(world):
    gateway, imposter, a = world.party("gateway"), world.party("imposter"), world.party("a")
    world.rotate()
    genuine = gateway.messenger.epochs.latest
    forged = genuine.__class__(
        **{
            **{f: getattr(genuine, f) for f in genuine.__struct_fields__},
            "gateway_card_digest": imposter.messenger.own_card().digest,
        }
    )
    imposter.messenger.epochs.latest = forged
    imposter.messenger.announce()
    world.run()
    assert a.seen(CardSeen) == []


def test_connect__to_the_oracle__works_without_an_epoch_key(world):
    oracle, a = world.party("oracle"), world.party("a")
    world.rotate(give_key_to=[])
    oracle.messenger.announce()
    world.run()
    a.messenger.connect(a.seen(CardSeen)[0].card, "oracle")
    world.run()
    ask(a, oracle, "key please")
    world.run()
    assert a.bodies(Answer) == [Answer("KEY PLEASE")]


@pytest.mark.parametrize("junk", [b"", b"\0", b"x" * 600, bytes(2000)], ids=["empty", "zero", "x", "zeros"])
def test_receive__junk_under_any_topic__dropped(world, junk):
    a, b = world.pair()
    world.wire.clear()
    ask(a, b, "x")
    expected_topic = a.sendable()[0].topic
    for topic in (b"\0\0\0\0", b"\xff\xff\xff\xff", expected_topic):
        assert b.messenger.receive(topic, junk) == []


def test_database__at_rest__holds_no_plaintext_and_no_key(world):
    a, b = world.pair()
    ask(a, b, "a very recognisable sentence")
    session = a.messenger.session(b.id)
    a.database.truncate_log()
    stored = a.database.path.read_bytes()
    assert b"recognisable" not in stored
    assert session.root not in stored
    assert all(generation.send.key not in stored for generation in session.generations.values())


def test_open_symmetric__message_key_of_another_number__does_not_open(world):
    a, b = world.pair()
    ask(a, b, "x")
    recorded = a.sendable()[0]
    key = b.messenger.table.find(recorded.topic)[0].message
    b.take(recorded)
    ask(a, b, "y")
    later = a.sendable()[0]
    with pytest.raises(CryptoError):
        open_symmetric(key.key, later.data)


def test_rotate__a_waiting_version_is_replaced__both_agree_on_the_next(world):
    a, b = world.pair()
    world.rotate(lead=60, give_key_to=[a])
    world.replace(lead=0, grace=5)
    world.clock.advance(6)
    world.run()
    ask(a, b, "still there?")
    world.run()
    assert a.bodies(Answer) == [Answer("STILL THERE?")]
    assert list(a.messenger.session(b.id).generations) == [3]


def test_root__after_a_generation_is_made__does_not_lead_back_to_it(world):
    a, b = world.pair()
    session = a.messenger.session(b.id)
    made = generation_base(session.root, session.root_version, session.root_version, world.epoch_keys[1])[0]
    assert derive(made, "to responder") != session.generations[1].send.key
    assert session.root_version == 2


def test_answer__initiator_never_uses_the_session__dropped_after_a_minute(world):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    a.messenger.connect(b.messenger.own_card(), "deal:1")
    a.tick()
    for transmission in a.sendable():
        b.take(transmission)
    assert len(b.messenger.table.sessions) == 1
    assert b.messenger.session(a.id) is None
    world.clock.advance(61)
    b.tick()
    assert b.messenger.table.sessions == {}


def test_connect__again_for_another_deal__replaces_and_says_so(world):
    a, b = world.pair("deal:1")
    a.messenger.connect(b.messenger.own_card(), "deal:2")
    world.run()
    assert [(e.purpose, e.reason) for e in b.seen(Closed)] == [("deal:1", "replaced by a new session")]
    assert b.messenger.session(a.id).purpose == "deal:2"
