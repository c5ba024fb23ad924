"""A small world for sessions: workers with real keys, a registry in a set, a network that is a list."""

from __future__ import annotations

import random as randomness
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from quietfleet.chain.types import Configuration
from quietfleet.clock import ManualClock
from quietfleet.crypto import PrivateKey
from quietfleet.metrics import Metrics
from quietfleet.session import (
    Codec,
    Event,
    Identity,
    Messenger,
    Received,
    Transmission,
    epoch_commitment,
)
from quietfleet.session._card import BLOOM_BITS
from quietfleet.session._timing import Timing
from quietfleet.storage import Database

DOMAIN = b"chain 31337 contract"
REPLACED = "its key was replaced"


class Question(msgspec.Struct, frozen=True, tag="question/1"):
    text: str


class Answer(msgspec.Struct, frozen=True, tag="answer/1"):
    text: str


class Other(msgspec.Struct, frozen=True, tag="other/1"):
    text: str = ""


class Registry:
    """Everyone may talk to everyone unless switched off, and under the first key unless it was replaced."""

    def __init__(self) -> None:
        self.off: set[str] = set()
        self.keys: dict[str, str] = {}

    def can_cooperate(self, a: str, b: str) -> bool:
        return a != b and not {a, b} & self.off

    def speaks_for(self, worker: str, key: str) -> bool:
        return self.keys.get(worker, worker) == key

    def usable(self, worker: str) -> bool:
        return worker not in self.off

    def stopped(self, worker: str) -> bool:
        return worker in self.off


class Keys(Identity):
    """Every key a worker was given; the registry knows which is the present one."""

    def __init__(self, first: PrivateKey, registry: Registry) -> None:
        super().__init__(first)
        self.held = [first]
        self._registry = registry

    @property
    def present(self) -> PrivateKey | None:
        return next((key for key in self.held if self._registry.speaks_for(self.id, key.public.id)), None)

    def key_of(self, public_key: bytes) -> PrivateKey | None:
        return next((key for key in self.held if key.public.to_bytes() == public_key), None)


@dataclass
class Party:
    """One worker's messenger with what it saw, answering questions by itself."""

    name: str
    identity: PrivateKey
    keys: Keys
    messenger: Messenger
    database: Database
    metrics: Metrics
    answering: bool = True
    events: list[Event] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.messenger.id

    def sendable(self) -> list[Transmission]:
        """Everything that may leave now."""
        return list(iter(self.messenger.next_transmission, None))

    def take(self, transmission: Transmission) -> None:
        """Receive; of what is overheard nothing may come, and nothing be stored."""
        counted = self.metrics.value("messages_passed_over")
        if not self.messenger.overhears(transmission.topic, transmission.data):
            with self.database.transaction():
                self.note(self.messenger.receive(transmission.topic, transmission.data))
            return
        assert self.metrics.value("messages_passed_over") == counted + 1
        written = self.database._connection.total_changes
        with self.database.transaction():
            assert self.messenger.receive(transmission.topic, transmission.data) == []
        assert self.database._connection.total_changes == written

    def note(self, events: list[Event]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Received) and isinstance(event.body, Question) and self.answering:
                self.messenger.reply(event, Answer(event.body.text.upper()))

    def tick(self) -> None:
        with self.database.transaction():
            self.note(self.messenger.tick())

    def seen(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def bodies(self, kind: type) -> list[Any]:
        return [event.body for event in self.seen(Received) if isinstance(event.body, kind)]


class World:
    """Parties, one clock, and a network that hands everything to everybody."""

    def __init__(self, folder: Any) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.random = randomness.Random(7)
        self.registry = Registry()
        self.parties: dict[str, Party] = {}
        self.wire: list[Transmission] = []
        self.lose: Callable[[Transmission], bool] = lambda _: False
        self.takes: Callable[[str, str, int], bool] = lambda _peer, _kind, _size: True
        self.bloom_bits = BLOOM_BITS
        self.epoch_keys: dict[int, bytes] = {}
        self.latest: Configuration | None = None
        self.previous: Configuration | None = None

    def party(self, name: str) -> Party:
        identity = PrivateKey.from_bytes(self.random.randbytes(32))
        return self._open(name, identity, Keys(identity, self.registry))

    def restart(self, party: Party) -> Party:
        """Start again from what is on disk, as after SIGKILL."""
        party.database.close()
        return self._open(party.name, party.identity, party.keys)

    def _open(self, name: str, identity: PrivateKey, keys: Keys) -> Party:
        database = Database(self.folder / f"{name}.db")
        database.execute("PRAGMA synchronous=OFF")  # no test outlives a power cut
        metrics = Metrics()
        messenger = Messenger(
            keys,
            database,
            Codec(Question, Other, answers=(Answer,)),
            self.registry,
            metrics,
            self.clock,
            self.random.randbytes,
            DOMAIN,
            lambda _peer, _purpose: True,
            bloom_bits=self.bloom_bits,
            admit_large=lambda *offer: self.takes(*offer),  # noqa: PLW0108 - a test may change it later
        )
        party = self.parties[name] = Party(name, identity, keys, messenger, database, metrics)
        if self.latest is not None:
            party.note(messenger.adopt(self.latest, self.previous))
        return party

    def rotate(self, *, lead: float = 0.0, grace: int = 10, give_key_to: list[Party] | None = None) -> Configuration:
        version = self.latest.version + 1 if self.latest else 1
        self.epoch_keys[version] = self.random.randbytes(32)
        oracle, gateway = self.parties.get("oracle"), self.parties.get("gateway")
        digests = [p.messenger.epochs.prepare(version).card.digest if p else b"\0" * 32 for p in (oracle, gateway)]
        self.previous, self.latest = (
            self.latest,
            Configuration(
                version=version,
                active_from=int(self.clock.now() + lead),
                grace=grace,
                min_pow=0.0,
                max_ttl=60,
                max_size=131_072,
                oracle=oracle.id if oracle else "",
                gateway=gateway.id if gateway else "",
                epoch_key_commitment=epoch_commitment(self.epoch_keys[version]),
                oracle_card_digest=digests[0],
                gateway_card_digest=digests[1],
            ),
        )
        for party in self.parties.values():
            party.note(party.messenger.adopt(self.latest, self.previous))
        for party in self.parties.values() if give_key_to is None else give_key_to:
            self.grant(party)
        return self.latest

    def replace(self, *, lead: float, grace: int) -> None:
        """Rotate while a version still waits: it is replaced, its predecessor stays the one before."""
        in_force = self.previous
        self.rotate(lead=lead, grace=grace, give_key_to=[])
        self.previous = in_force
        for party in self.parties.values():
            party.note(party.messenger.adopt(self.latest, in_force))
            self.grant(party)

    def rekey(self, party: Party, *, handed_over: bool = True) -> PrivateKey:
        """Replace a worker's key on chain; unless `handed_over`, the worker itself does not have the new one."""
        key = PrivateKey.from_bytes(self.random.randbytes(32))
        if handed_over:
            party.keys.held.append(key)
        self.registry.keys[party.id] = key.public.id
        party.note(party.messenger.adopt(self.latest, self.previous))
        for other in self.parties.values():
            other.note(other.messenger.disown(self.registry.speaks_for, REPLACED))
        return key

    def grant(self, party: Party) -> None:
        assert self.latest is not None
        party.messenger.set_epoch_key(self.latest, self.epoch_keys[self.latest.version])

    def run(self, rounds: int = 6) -> None:
        """Let everybody send and receive until nothing moves."""
        for _ in range(rounds):
            for party in list(self.parties.values()):
                party.tick()
                for transmission in party.sendable():
                    self.wire.append(transmission)
                    if not self.lose(transmission):
                        self.deliver(transmission, party)

    def deliver(self, transmission: Transmission, sender: Party | None = None) -> None:
        for other in list(self.parties.values()):
            if other is not sender:
                other.take(transmission)

    def settle(self) -> None:
        """Have the acknowledgements leave that wait for a word to go with."""
        self.clock.advance(Timing().acknowledge)
        self.run()

    def pair(self, purpose: str = "deal:1") -> tuple[Party, Party]:
        """Two workers in an open session under version 1."""
        a, b = self.party("a"), self.party("b")
        self.rotate()
        card = b.messenger.own_card()
        assert card is not None
        a.messenger.connect(card, purpose)
        self.run()
        return a, b
