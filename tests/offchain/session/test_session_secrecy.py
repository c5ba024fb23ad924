"""Who records everything and later steals what is left: what opens, and what does not."""

from __future__ import annotations

import sqlite3
from collections import deque
from types import ModuleType

import msgspec
import pytest
from session_world import Answer, Question

from quietfleet.crypto import PrivateKey, derive, open_sealed
from quietfleet.crypto.hpke import HPKE_PRIVATE_SIZE, HpkePrivateKey, hpke_open
from quietfleet.errors import CryptoError, PayloadError
from quietfleet.session import _departures as departures
from quietfleet.session import _handshake as handshake
from quietfleet.session import decode_card
from quietfleet.session._epochs import generation_base
from quietfleet.session._ratchet import advance
from quietfleet.storage import Database
from quietfleet.whisper import open_symmetric

LABELS = (
    "welcome",
    "session root",
    "epoch",
    "next root",
    "to responder",
    "to initiator",
    "message",
    "chain",
    "storage",
)


class Thief:
    """Somebody with a recording of the wire, the keys of some workers, and copies of their databases."""

    def __init__(self, world):
        self._world = world
        self._loot = set()
        self._image = set()

    def steal(self, party):
        """Take a worker's identity keys and everything that its database holds, sealed or not."""
        party.database.truncate_log()
        secret = party.keys.secret
        self._loot |= {key.to_bytes() for key in party.keys.held}
        with sqlite3.connect(party.database.path) as copy:
            tables = [name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in (name for name in tables if name.startswith("session_")):
                key = derive(secret, "storage", table.encode())
                for row_id, row in copy.execute(f"SELECT id, row FROM {table}"):  # noqa: S608 - its own tables
                    self._loot |= set(texts(msgspec.msgpack.decode(open_sealed(key, row, associated=row_id))))
        copy.close()
        return self

    def image(self, party):
        """Take everything that a worker's memory holds."""
        self._image |= {text for text in remembered(party.messenger, set()) if len(text) == 32}
        return self

    def ahead(self, versions):
        """Every key that comes of any root and any epoch key in the loot, in these versions."""
        short = [text for text in self._loot if len(text) == 32]
        known = [key for key in self._world.epoch_keys.values() if key in self._loot]
        for version in versions:
            bases = {generation_base(root, 2, version, key)[0] for root in short for key in [*known, b""]}
            chains = {derive(base, label) for base in bases for label in ("to responder", "to initiator")}
            self._loot |= {derive(chain, "message") for chain in chains}
        return self

    def cards(self):
        for text in self._loot:
            try:
                yield decode_card(text)
            except Exception:  # noqa: BLE001, S112 - whatever is no card
                continue

    def secrets(self):
        """Everything of a key's size, and all that comes of it in two steps by the labels there are."""
        first = {text for text in self._loot if len(text) == 32}
        first |= {text[4:] for text in self._loot if len(text) == 36}  # a key kept for a message that was skipped
        first |= {card.contact_key for card in self.cards()}
        second = {derive(key, label) for key in first for label in LABELS}
        ahead = set()
        for key in first:
            for _ in range(8):
                ahead |= {derive(key, "message")}
                key = derive(key, "chain")  # noqa: PLW2901 - a chain is walked
        return first | second | ahead | self._image

    def opens(self, recorded):
        """Return those of the recorded envelopes that open, and how: as a first message, or as a word of a session."""
        hpke = [HpkePrivateKey(text) for text in self._loot if len(text) == HPKE_PRIVATE_SIZE]
        cards, secrets = list(self.cards()), self.secrets()
        found = []
        for transmission in recorded:
            for key in secrets:
                try:
                    payload = open_symmetric(key, transmission.data).payload
                except (CryptoError, PayloadError):
                    continue
                found += hellos(payload, hpke, cards) if key in {c.contact_key for c in cards} else ["message"]
        return found


def remembered(value, seen):
    """Every byte string that can be reached from an object."""
    if isinstance(value, bytes | bytearray):
        yield bytes(value)
        return
    if id(value) in seen or isinstance(value, str | int | float | type | ModuleType | Database):
        return
    seen.add(id(value))
    if isinstance(value, PrivateKey | HpkePrivateKey):
        yield value.to_bytes()
    if isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset | deque):
        parts = list(value)
    else:
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        fields = getattr(type(value), "__struct_fields__", ())
        parts = [getattr(value, name, None) for name in (*slots, *fields) if not name.startswith("__")]
        parts += list(getattr(value, "__dict__", {}).values())
        parts += [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    for part in parts:
        yield from remembered(part, seen)


def texts(value):
    """Every byte string in a decoded row."""
    if isinstance(value, bytes):
        yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from texts(part)


def hellos(payload, keys, cards):
    for key in keys:
        for card in cards:
            try:
                yield_ = hpke_open(key, payload, b"quietfleet hello" + card.digest)
            except CryptoError:
                continue
            return ["hello"] if yield_ else []
    return []


def ask(party, peer, text):
    party.messenger.request(peer.id, Question(text), (Answer,), 30.0)


def talk(world):
    """A handshake and a few words, recorded."""
    a, b = world.pair()
    for n in range(3):
        ask(a, b, f"question {n}")
        world.run()
    assert len(a.bodies(Answer)) == 3
    return a, b, list(world.wire)


def test_recording__both_robbed_after_the_version__opens_nothing(world):
    a, b, recorded = talk(world)
    world.rotate(lead=0, grace=5)
    world.clock.advance(6)
    world.run()
    ask(a, b, "still in session")
    world.run()
    thief = Thief(world).steal(a).steal(b)
    assert a.messenger.session(b.id) is not None
    assert thief.opens(recorded) == []


def test_recording__both_robbed_within_the_version__shows_who_called_and_not_a_word(world):
    a, b, recorded = talk(world)
    thief = Thief(world).steal(a).steal(b)
    assert thief.opens(recorded) == ["hello"]


def test_recording__the_caller_robbed_within_the_version__opens_nothing(world):
    a, _, recorded = talk(world)
    assert Thief(world).steal(a).opens(recorded) == []


def test_recording__the_callers_key_for_this_call_stolen_too__everything_opens(world):
    """The control: it is the key of the call, gone with the answer, that the above rests on."""
    a, b = world.party("a"), world.party("b")
    world.rotate()
    a.messenger.connect(b.messenger.own_card(), "deal:1")
    (call,) = a.messenger._calls._attempts.values()
    world.run()
    sealed = next(
        open_symmetric(handshake.welcome_key(call.hello), t.data).payload for t in world.wire if t.peer == a.id
    )
    keys, card = (call.own.hpke, call.answer_to), b.messenger.own_card()
    welcome = handshake.open_welcome(keys, call.own.card, sealed, call.hello, card, b"chain 31337 contract")
    root = handshake.root_key(call.hello, welcome, card, b"chain 31337 contract")
    base, _ = generation_base(root, 1, 1, world.epoch_keys[1])
    first, _ = advance(derive(base, "to responder"), 0, card.bloom)
    ready = next(t for t in world.wire if t.topic == first.topic)
    assert open_symmetric(first.key, ready.data)


def test_message_not_heard_yet__receiver_robbed__opens(world):
    """The control: what is still to be read can be read by who has the state to read it."""
    a, b = world.pair()
    ask(a, b, "in flight")
    recorded = a.sendable()
    assert Thief(world).steal(b).opens(recorded) == ["message"]


def test_call__answered__its_key_and_share_are_gone(world):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    a.messenger.connect(b.messenger.own_card(), "deal:1")
    (call,) = a.messenger._calls._attempts.values()
    world.run()
    assert a.messenger._calls._attempts == {}
    kept = set()
    for party in (a, b):
        kept |= Thief(world).steal(party)._loot
    assert call.hello.share not in kept
    assert call.answer_to.to_bytes() not in kept
    assert b.messenger.session(a.id).welcome == b""


@pytest.mark.parametrize("moment", ["in force", "in grace", "over"])
def test_replay__across_versions__nothing_is_heard_twice(world, moment):
    a, b, recorded = talk(world)
    world.rotate(lead=0 if moment != "in force" else 60, grace=10)
    world.clock.advance(11 if moment == "over" else 1)
    ask(a, b, "afterwards")
    world.run()
    before = len(a.events), len(b.events), len(b.messenger.table.sessions)
    for transmission in [*recorded, *world.wire]:
        world.deliver(transmission)
    world.run()
    assert (len(a.events), len(b.events), len(b.messenger.table.sessions)) == before


def seized(world):
    """A device is switched off and its owner, or a thief, has all of it; the epoch is ended at once for the others."""
    a, device = world.pair()
    c = world.party("c")
    world.grant(c)
    c.messenger.connect(a.messenger.own_card(), "deal:2")
    world.run()
    ask(a, device, "before")
    world.run()
    thief = Thief(world).steal(device).image(device)
    world.registry.off.add(device.id)
    for party in (a, c):
        party.note(party.messenger.sever(device.id, "switched off on chain"))
    del world.parties["b"]
    world.rotate(lead=0, grace=0, give_key_to=[a, c])
    return a, c, thief


def test_device_switched_off__all_of_it_seized__opens_nothing_of_the_new_epoch(world):
    a, c, thief = seized(world)
    begun = len(world.wire)
    newcomer = world.party("d")
    world.grant(newcomer)
    newcomer.messenger.connect(a.messenger.own_card(), "deal:3")
    for n in range(3):
        ask(c, a, f"question {n}")
        ask(newcomer, a, f"question {n}")
        world.run()
    assert len(c.bodies(Answer)) == len(newcomer.bodies(Answer)) == 3
    recorded = world.wire[begun:]
    assert len(recorded) > 10
    assert world.epoch_keys[1] in thief._loot
    assert world.epoch_keys[2] not in thief._loot
    assert thief.ahead([2, 3]).opens(recorded) == []


def test_device_switched_off__all_of_it_seized_and_the_new_epoch_key_too__opens_what_it_was_part_of(world):
    """The control: it is the new epoch key, mixed into the roots it has, that keeps the device out."""
    a, b = world.pair()
    thief = Thief(world).steal(b).image(b)
    world.rotate(lead=0, grace=0)
    begun = len(world.wire)
    ask(a, b, "in the new epoch")
    world.run()
    thief._loot.add(world.epoch_keys[2])
    assert thief.ahead([2]).opens(world.wire[begun:]) != []


def test_keys__of_every_message_of_two_workers__are_never_the_same(world, monkeypatch):
    used = []
    seal = departures.seal_symmetric
    monkeypatch.setattr(
        departures, "seal_symmetric", lambda key, *rest, **more: used.append(key) or seal(key, *rest, **more)
    )
    a, b = world.pair()
    for n in range(5):
        ask(a, b, str(n))
        ask(b, a, str(n))
        world.run()
    a = world.restart(a)
    world.rotate(grace=0)
    ask(a, b, "new version")
    world.run()
    sessions = [key for key in used if key not in {p.messenger.own_card().contact_key for p in (a, b)}]
    assert len(set(sessions)) == len(sessions) > 20
