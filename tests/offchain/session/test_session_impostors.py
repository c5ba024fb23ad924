"""An oracle, a gateway or whoever else a worker calls turns what it hears in a handshake against somebody else."""

from __future__ import annotations

import pytest
from session_world import DOMAIN

from quietfleet.crypto import PrivateKey
from quietfleet.errors import HandshakeRefused
from quietfleet.session import Opened, Transmission
from quietfleet.session import _handshake as handshake
from quietfleet.session._calls import welcome_topic
from quietfleet.whisper import open_symmetric, seal_symmetric

CLASS = 4096


@pytest.fixture
def call(world):
    """A worker has called the gateway, which has opened the Hello: both, a bystander, and the Hello."""
    gateway, a, b = world.party("gateway"), world.party("a"), world.party("b")
    world.rotate()
    card = gateway.messenger.own_card()
    a.messenger.connect(card, "gateway")
    a.tick()
    (sent,) = a.sendable()
    sealed = open_symmetric(card.contact_key, sent.data).payload
    keys = gateway.messenger.epochs.meeting(1)
    hello, _ = handshake.open_hello(keys.hpke, keys.card, sealed, world.clock.now(), DOMAIN)
    return gateway, a, b, hello


def under(topic, key, payload):
    return Transmission("", topic, seal_symmetric(key, payload, pad_to=CLASS))


def test_hello__passed_on_by_whom_it_was_for__refused_by_everybody_else(call):
    _, _, b, hello = call
    card = b.messenger.own_card()
    b.take(under(b"\0" * 4, card.contact_key, handshake.seal_hello(hello, card)))
    assert b.metrics.value("handshakes_refused") == 1
    assert b.sendable() == []
    assert b.messenger.table.sessions == {}


def test_hello__for_another_contract__refused(world, call):
    gateway, a, _, _ = call
    keys, own = gateway.messenger.epochs.meeting(1), a.messenger.epochs.meeting(1)
    key = keys.hpke.public_bytes
    now, seed, domain = world.clock.now(), bytes(48), b"chain 1 contract"
    hello = handshake.make_hello(a.identity, own.card, keys.card, "gateway", now, seed, domain, key)
    with pytest.raises(HandshakeRefused):
        handshake.open_hello(keys.hpke, keys.card, handshake.seal_hello(hello, keys.card), now, DOMAIN)


def test_welcome__signed_by_another_than_was_called__not_taken(call):
    gateway, a, b, hello = call
    card = a.messenger.own_card()
    stranger = PrivateKey.from_bytes(b"\x21" * 32)
    own = gateway.messenger.own_card()
    opened = []
    for signer, shown in ((stranger, own), (b.identity, b.messenger.own_card()), (gateway.identity, own)):
        welcome = handshake.make_welcome(signer, hello, shown, bytes(32), DOMAIN)
        sealed = handshake.seal_welcome(welcome, hello, card)
        a.take(under(welcome_topic(hello, card), handshake.welcome_key(hello), sealed))
        opened.append(len(a.seen(Opened)))
    assert opened == [0, 0, 1]


def test_welcome__of_an_earlier_call__not_taken(world, call):
    gateway, a, _, hello = call
    welcome = handshake.make_welcome(gateway.identity, hello, gateway.messenger.own_card(), bytes(32), DOMAIN)
    sealed = handshake.seal_welcome(welcome, hello, a.messenger.own_card())
    world.clock.advance(60)
    a.tick()
    a.messenger.connect(gateway.messenger.own_card(), "gateway")
    card = a.messenger.own_card()
    a.take(under(welcome_topic(hello, card), handshake.welcome_key(hello), sealed))
    assert a.seen(Opened) == []
