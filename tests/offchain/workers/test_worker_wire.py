"""A whole deal as strangers see it on the wire, and as each side sees it before both have accepted."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from worker_world import SITE, hours

from quietfleet.chain.types import Kind
from quietfleet.crypto import SEAL_OVERHEAD, PrivateKey, keccak256
from quietfleet.dispatch import FromOracle, Introduction, Proposal
from quietfleet.errors import CryptoError, PayloadError
from quietfleet.session import SIZE_CLASSES, Received, encode_card
from quietfleet.session._calls import announcement
from quietfleet.session._card import decode_card
from quietfleet.settings import DispatchSection
from quietfleet.whisper import open_symmetric

NAMES = ("oracle", "processor", "sensor")


async def start(world):
    for name, kind in zip(NAMES, (Kind.ORACLE, Kind.PROCESSOR, Kind.SENSOR), strict=True):
        await world.add(name, kind)
    await world.rotate()


@pytest.fixture
async def told(world):
    """A deal from nothing to an answered reading, with all that either side was told by the oracle noted."""
    await start(world)
    views = {name: [] for name in ("processor", "sensor")}
    for name, view in views.items():
        watch(world.workers[name], view)
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    await world.until(lambda: sensor.in_session_with(processor))
    sensor.measure(hours(2, 0.0))
    await world.pass_time(8)
    assert sensor.agent.status()["answered"] == 2
    return world, views


def watch(worker, view):
    react = worker.agent.on_event

    def on_event(event):
        if isinstance(event, Received) and isinstance(event.body, FromOracle):
            view.append(event.body)
        react(event)

    worker.agent.on_event = on_event


def marks(world):
    """Whatever would name a worker, what it does, or a deal, in every form it has in memory."""
    found = {}
    for name in NAMES:
        runtime = world.workers[name].runtime
        card = runtime.messenger.own_card()
        found[f"{name}'s id"] = card.address
        found[f"{name}'s id in hex"] = runtime.id[2:].encode()
        found[f"{name}'s id in lower case"] = runtime.id[2:].lower().encode()
        found[f"{name}'s messaging key"] = card.public_key
        found[f"{name}'s HPKE key"] = card.hpke_public[:64]
        found[f"{name}'s signature"] = card.signature
    capability = world.workers["sensor"].agent._seeking.wish.capability
    words = (capability, SITE, "readings", "recommendation", "dispatch", "deal:", "oracle", "static", "seek", "offer")
    return found | {word: word.encode() for word in words}


def deal_marks(views):
    proposals = [body for view in views.values() for body in view if isinstance(body, Proposal)]
    named = {"deal id": proposals[0].deal_id.encode()}
    keys = {key for body in proposals for key in (body.own_key, body.other_key)}
    return named | {f"one-time key {key.hex()}": key for key in keys}


def shown(data, marked):
    return [name for name, mark in marked.items() if mark in data]


async def test_wire__a_whole_deal__nothing_that_names_anybody_or_anything(told):
    world, views = told
    marked = marks(world) | deal_marks(views)
    assert len(world.wire) > 20
    for _, envelope in world.wire:
        assert shown(envelope.topic + envelope.data, marked) == []


async def test_wire__a_whole_deal__size_classes_alone_and_no_topic_but_announcements_twice(told):
    world, _ = told
    assert {len(envelope.data) - SEAL_OVERHEAD for _, envelope in world.wire} <= set(SIZE_CLASSES)
    _, public = announcement(world.workers["oracle"].runtime.domain, 1)
    topics = Counter(envelope.topic for _, envelope in world.wire if envelope.topic != public)
    assert max(topics.values()) == 1


async def test_wire__opened_with_all_that_a_member_knows__announced_cards_and_sealed_calls_alone(told):
    """A member has the epoch key and the announced card, whose contact key is around every call to the oracle."""
    world, views = told
    oracle = world.workers["oracle"].runtime
    card = oracle.messenger.epochs.secrets(1).card
    key, _ = announcement(oracle.domain, 1)
    marked = marks(world) | deal_marks(views)
    announced, calls = 0, 0
    for _, envelope in world.wire:
        if (opened := attempt(key, envelope.data)) is not None:
            assert decode_card(opened) == card
            announced += 1
        elif (opened := attempt(card.contact_key, envelope.data)) is not None:
            assert shown(opened, marked) == []
            calls += 1
        else:
            assert attempt(oracle.messenger.epochs.epoch_key(1), envelope.data) is None
    assert announced
    assert calls == 2


async def test_wire__oracle_tries_every_card_it_was_shown__recognises_no_call_of_the_deal(told):
    world, _ = told
    epochs = {name: world.workers[name].runtime.messenger.epochs for name in ("sensor", "processor")}
    shown_to_the_oracle = [epochs[name].secrets(1).card.contact_key for name in epochs]
    called = epochs["processor"].meeting(1).card.contact_key
    assert [envelope for _, envelope in world.wire for key in shown_to_the_oracle if attempt(key, envelope.data)] == []
    assert any(attempt(called, envelope.data) for _, envelope in world.wire), "the call was there to be recognised"


async def test_view__before_both_have_accepted__the_terms_and_keys_of_one_use_alone(told):
    world, views = told
    for name, other in (("sensor", "processor"), ("processor", "sensor")):
        before = before_introduction(views[name])
        assert [type(body) for body in before if isinstance(body, Proposal)] == [Proposal]
        runtime = world.workers[other].runtime
        card = runtime.messenger.own_card()
        theirs = {key: mark for key, mark in marks(world).items() if key.startswith(other)}
        theirs |= {"card": encode_card(card), "bloom": card.bloom if name != "sensor" else card.signature}
        assert [shown(msgspec.msgpack.encode(body), theirs) for body in before] == [[]] * len(before)


async def test_view__before_both_have_accepted__what_is_written_down_names_nobody(world):
    """Until the introduction neither side's own tables have anything of the other: nor would a thief of its disk."""
    await start(world)
    sensor, processor, oracle = (world.workers[name] for name in ("sensor", "processor", "oracle"))
    views = {name: [] for name in ("processor", "sensor")}
    for name, view in views.items():
        watch(world.workers[name], view)
    both = (sensor, processor)
    world.lose = lambda sender, _: sender is oracle and all(one.journal("deal-accepted") for one in both)
    await world.until(lambda: all(one.journal("deal-accepted") for one in both))
    assert not [body for view in views.values() for body in view if isinstance(body, Introduction)]
    for worker, other in ((sensor, processor), (processor, sensor)):
        assert worker.runtime.messenger.peers() == {oracle.id}
        kept = str(worker.rows("SELECT * FROM state")) + str(worker.rows("SELECT * FROM audit"))
        assert other.id not in kept


async def test_wire__static_peers_meet__nothing_that_names_anybody_or_anything(world):
    ids = {name: world_id(name) for name in ("processor", "sensor")}
    world.dispatch["sensor"] = DispatchSection(peers=[ids["processor"]])
    world.dispatch["processor"] = DispatchSection(peers=[ids["sensor"]])
    await start(world)
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    await world.until(lambda: sensor.in_session_with(processor))
    sensor.measure(hours(2, 0.0))
    await world.pass_time(8)
    marked = marks(world)
    oracle = world.workers["oracle"].runtime
    known = (oracle.messenger.epochs.secrets(1).card.contact_key, oracle.messenger.epochs.epoch_key(1))
    for _, envelope in world.wire:
        assert shown(envelope.topic + envelope.data, marked) == []
        for key in known:
            assert shown(attempt(key, envelope.data) or b"", marked) == []


def world_id(name):
    return PrivateKey.from_bytes(keccak256(name.encode())).public.id


def before_introduction(view):
    ends = next(at for at, body in enumerate(view) if isinstance(body, Introduction))
    return view[:ends]


def attempt(key, data):
    try:
        return open_symmetric(key, data).payload
    except (CryptoError, PayloadError):
        return None
