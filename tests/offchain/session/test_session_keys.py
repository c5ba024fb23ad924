"""A messaging key is replaced: who holds the new one goes on, who holds the old one is nobody."""

from __future__ import annotations

import msgspec
import pytest
from session_world import REPLACED, Answer, Question

from quietfleet.crypto import PrivateKey
from quietfleet.errors import CardRefused, HandshakeRefused, KeystoreError
from quietfleet.session import Closed, Identity, Ignored, Opened, decode_card, encode_card
from quietfleet.session._card import draw_secrets
from quietfleet.whisper import open_symmetric


def ask(party, peer, text, within=30.0):
    party.messenger.request(peer.id, Question(text), (Answer,), within, context=f"asked {text}")


def thief(world, key):
    """Somebody with a worker's key, a machine of their own, and even the epoch key."""
    party = world._open("thief", key, Identity(key))
    world.grant(party)
    return party


def card_by(world, worker, key, version=1):
    return draw_secrets(worker, key, version, world.random.randbytes).card


@pytest.fixture
def meeting(world):
    """Two workers and the gateway of version 1, each in session with the first of them."""
    gateway, a, b = world.party("gateway"), world.party("a"), world.party("b")
    world.rotate()
    named = gateway.messenger.epochs.secrets(1).card
    for card, purpose in ((b.messenger.own_card(), "deal:1"), (named, "gateway")):
        a.messenger.connect(card, purpose)
    world.run()
    assert len(a.seen(Opened)) == 2
    return gateway, a, b


@pytest.mark.parametrize("whose", ["own", "peer's"])
def test_key_replaced__in_session__ended_on_both_sides_and_set_up_anew_under_the_new_one(world, whose):
    a, b = world.pair()
    key = world.rekey(b if whose == "own" else a)
    for party in (a, b):
        assert [(e.purpose, e.reason) for e in party.seen(Closed)] == [("deal:1", REPLACED)]
        assert party.messenger.table.sessions == {}
    a.messenger.connect(b.messenger.own_card(), "deal:2")
    world.run()
    session = a.messenger.session(b.id)
    assert key.public.id in (session.own.key, session.theirs.key)
    assert (a.messenger.id, session.peer) == (a.identity.public.id, b.identity.public.id)


def test_key_replaced__question_that_did_not_arrive__answered_in_the_new_session(world):
    a, b = world.pair()
    world.settle()
    ask(a, b, "still wanted")
    assert len(a.sendable()) == 1
    world.rekey(a)
    a.messenger.connect(b.messenger.own_card(), "deal:2")
    world.clock.advance(7)
    world.run()
    assert a.bodies(Answer) == [Answer("STILL WANTED")]
    assert a.messenger.conversations.pending == {}


def test_key_replaced__old_session_is_used_all_the_same__ignored_and_counted(world):
    a, b = world.pair()
    ask(a, b, "in flight")
    held = a.sendable()
    world.rekey(a)
    for transmission in held:
        b.take(transmission)
    assert b.bodies(Question) == []
    assert [event.peer for event in b.seen(Ignored)] == [a.id]


def test_key_replaced__recorded_messages__do_not_open_any_more(world):
    a, b = world.pair()
    ask(a, b, "recorded")
    recorded = a.sendable()[0]
    assert open_symmetric(b.messenger.table.find(recorded.topic)[0].message.key, recorded.data)
    world.rekey(b)
    assert b.messenger.table.find(recorded.topic) == []


@pytest.mark.parametrize("whose", ["the caller's", "the other's"])
def test_key_replaced__call_under_way__hung_up(world, whose):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    a.messenger.connect(b.messenger.own_card(), "deal:1")
    a.tick()
    calls = a.sendable()
    world.rekey(a if whose == "the caller's" else b)
    assert [(e.purpose, e.reason) for e in a.seen(Closed)] == [("deal:1", REPLACED)]
    for call in calls:
        b.take(call)
    world.clock.advance(7)
    a.tick()
    assert a.sendable() == b.sendable() == []


def test_key_replaced__call_about_to_leave__does_not_leave(world):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    a.messenger.connect(b.messenger.own_card(), "deal:1")
    a.tick()
    world.rekey(a)
    assert a.sendable() == []


def test_key_replaced__of_somebody_else__session_goes_on(world):
    a, b = world.pair()
    world.rekey(world.party("c"))
    ask(a, b, "undisturbed")
    world.run()
    assert a.bodies(Answer) == [Answer("UNDISTURBED")]
    assert a.seen(Closed) == []


def test_key_replaced__epoch_key_stays_and_card_is_another(world):
    a, _ = world.pair()
    before = a.messenger.own_card()
    key = world.rekey(a)
    after = a.messenger.own_card()
    assert (after.worker, after.key, after.version) == (a.id, key.public.id, before.version)
    assert after.hpke_public != before.hpke_public
    assert a.messenger.epochs.epoch_key(1) == world.epoch_keys[1]
    assert world.restart(a).messenger.own_card() == after


def test_thief__stolen_key_before_it_is_replaced__opens_a_session(world):
    a, b = world.pair()
    mallory = thief(world, a.identity)
    mallory.messenger.connect(b.messenger.own_card(), "deal:1")
    world.run()
    assert mallory.seen(Opened)


def test_thief__stolen_key_after_it_was_replaced__session_ends_and_no_other_opens(world):
    a, b = world.pair()
    mallory = thief(world, a.identity)
    mallory.messenger.connect(b.messenger.own_card(), "deal:1")
    world.run()
    world.rekey(a)
    assert b.messenger.table.sessions == {}
    refused = b.metrics.value("handshakes_refused")
    mallory.messenger.connect(b.messenger.own_card(), "deal:1")
    opened = len(mallory.seen(Opened))
    world.run()
    assert b.metrics.value("handshakes_refused") > refused
    assert len(mallory.seen(Opened)) == opened
    assert b.messenger.table.sessions == {}


def test_thief__old_key_at_the_oracle__no_session_to_ask_for_the_epoch_key_in(world):
    oracle, a = world.party("oracle"), world.party("a")
    world.rotate()
    mallory = thief(world, a.identity)
    world.rekey(a)
    for party in (mallory, a):
        party.messenger.connect(oracle.messenger.own_card(), "oracle")
    world.run()
    assert mallory.seen(Opened) == []
    assert len(oracle.seen(Opened)) == len(a.seen(Opened)) == 1


def test_connect__card_by_the_replaced_key__refused(world):
    a, b = world.pair()
    old = card_by(world, b.id, b.identity)
    assert a.messenger.vouched(old)
    world.rekey(b)
    with pytest.raises(HandshakeRefused):
        a.messenger.connect(old, "deal:2")


def test_connect__card_by_the_next_key_before_it_is_on_chain__refused(world):
    a, b = world.pair()
    following = PrivateKey.from_bytes(world.random.randbytes(32))
    early = card_by(world, b.id, following)
    with pytest.raises(HandshakeRefused):
        a.messenger.connect(early, "deal:2")
    world.registry.keys[b.id] = following.public.id
    a.messenger.connect(early, "deal:2")


def test_connect__card_in_somebody_elses_name__refused(world):
    a, b = world.pair()
    c = world.party("c")
    with pytest.raises(HandshakeRefused):
        a.messenger.connect(card_by(world, b.id, c.identity), "deal:2")


def test_hello__in_somebody_elses_name__refused(world):
    a, b = world.pair()
    c = world.party("c")
    world.grant(c)
    c.messenger.epochs._meeting[1] = draw_secrets(a.id, c.identity, 1, world.random.randbytes)
    c.messenger.connect(b.messenger.own_card(), "deal:2")
    world.run()
    assert b.metrics.value("handshakes_refused") > 0
    assert c.seen(Opened) == []


def test_card__worker_changed_after_signing__refused(world):
    a, b = world.pair()
    card = msgspec.structs.replace(a.messenger.own_card(), address=b.messenger.own_card().address)
    with pytest.raises(CardRefused):
        decode_card(encode_card(card))


@pytest.mark.parametrize("size", [0, 19, 21])
def test_card__worker_is_no_address__refused(world, size):
    a, _ = world.pair()
    with pytest.raises(CardRefused):
        decode_card(encode_card(card_by(world, "0x" + "11" * size, a.identity)))
    decode_card(encode_card(card_by(world, "0x" + "11" * 20, a.identity)))


def test_welcome__callee_is_replaced_but_event_not_processed__no_session(world):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    a.messenger.connect(b.messenger.own_card(), "deal:1")
    a.tick()
    for call in a.sendable():
        b.take(call)
    world.registry.keys[b.id] = "another"
    for answer in b.sendable():
        a.take(answer)
    assert a.seen(Opened) == []


def test_pinned_card__its_key_is_replaced__stands_until_the_next_configuration(world, meeting):
    gateway, a, b = meeting
    pinned = gateway.messenger.epochs.secrets(1).card
    key = world.rekey(gateway)
    assert gateway.messenger.epochs.secrets(1).card == pinned
    assert gateway.messenger.own_card().key == key.public.id, "no configuration names the other one"
    assert a.messenger.session(gateway.id) is not None
    b.messenger.connect(pinned, "gateway")
    world.run()
    assert b.messenger.session(gateway.id) is not None
    world.rotate(lead=0, grace=5)
    assert gateway.messenger.epochs.secrets(2).card.key == key.public.id
    world.clock.advance(6)
    world.run()
    for party in (a, b, gateway):
        party.note(party.messenger.disown(world.registry.speaks_for, REPLACED))
        assert party.seen(Closed)[-1].reason == REPLACED
    with pytest.raises(HandshakeRefused):
        a.messenger.connect(pinned, "gateway")
    a.messenger.connect(gateway.messenger.own_card(), "gateway")
    world.run()
    assert a.messenger.session(gateway.id) is not None


def test_pinned_card__gateway_restarts_after_its_key_was_replaced__still_serves(world, meeting):
    gateway, _, b = meeting
    world.rekey(gateway)
    gateway = world.restart(gateway)
    b.messenger.connect(gateway.messenger.epochs.secrets(1).card, "gateway")
    world.run()
    assert b.messenger.session(gateway.id) is not None


def test_pinned_card__thief_with_the_gateways_old_key_draws_another__refused(world, meeting):
    gateway, a, _ = meeting
    forged = card_by(world, gateway.id, gateway.identity)
    assert a.messenger.vouched(forged)
    world.rekey(gateway)
    with pytest.raises(HandshakeRefused):
        a.messenger.connect(forged, "gateway")


def test_pinned_card__thief_shows_the_gateways_own_card__cannot_read_the_answer(world, meeting):
    gateway, _, b = meeting
    mallory = thief(world, gateway.identity)
    mallory.messenger.epochs._meeting[1] = type(mallory.messenger.epochs._meeting[1])(
        mallory.messenger.epochs._meeting[1].hpke, gateway.messenger.epochs.secrets(1).card, gateway.identity
    )
    world.rekey(gateway)
    mallory.messenger.connect(b.messenger.own_card(), "deal:9")
    world.run()
    assert mallory.seen(Opened) == []
    assert b.messenger.session(gateway.id) is None


def test_prepare__key_replaced_after_a_version_was_prepared__its_card_stays(world):
    a, _ = world.pair()
    prepared = a.messenger.epochs.prepare(2).card
    world.rekey(a)
    assert a.messenger.epochs.prepare(2).card == prepared
    assert a.messenger.epochs.prepare(3).card.key != prepared.key


def test_new_key_is_missing__nothing_is_shown_called_or_kept(world):
    a, b = world.pair()
    world.rekey(a, handed_over=False)
    assert a.messenger.own_card() is None
    assert a.messenger.epochs.all_secrets() == []
    with pytest.raises(HandshakeRefused):
        a.messenger.connect(b.messenger.own_card(), "deal:2")
    with pytest.raises(KeystoreError):
        a.messenger.epochs.prepare(2)
    world.rotate(give_key_to=[b])
    assert a.messenger.own_card() is None


def test_new_key_is_missing__oracle_that_is_pinned__serves_on_and_keeps_what_it_has(world):
    oracle, a = world.party("oracle"), world.party("a")
    world.rotate()
    world.rekey(oracle, handed_over=False)
    oracle = world.restart(oracle)
    a.messenger.connect(oracle.messenger.epochs.secrets(1).card, "oracle")
    world.run()
    assert a.messenger.session(oracle.id) is not None
    assert oracle.messenger.epochs.granted(1, world.clock.now()) == world.epoch_keys[1]


def test_keystore_lost_and_found__card_of_before_is_still_there(world):
    a, _ = world.pair()
    key = world.rekey(a)
    card = a.messenger.own_card()
    a.keys.held.remove(key)
    lost = world.restart(a)
    assert lost.messenger.own_card() is None
    lost.keys.held.append(key)
    assert world.restart(lost).messenger.own_card() == card
