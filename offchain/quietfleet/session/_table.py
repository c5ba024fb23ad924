"""The connection table: who we are in session with, under which keys, and whom we were severed from.

A session has a root that ratchets once a configuration version and, per version, a generation: one chain of message
keys in each direction, made from root and epoch key. A rotation adds a generation to every session; the end of its
predecessor's grace erases the old one. Severing erases all keys at once and leaves only the topics that were still
expected, so that what a severed device goes on sending is recognised, ignored and counted without being readable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from quietfleet.crypto import derive
from quietfleet.session._card import Credential
from quietfleet.session._epochs import generation_base
from quietfleet.session._pace import Pace
from quietfleet.session._ratchet import ChainState, MessageKey, Receiver, Sender
from quietfleet.session._vault import Mine, Random, Vault, everyone
from quietfleet.storage import Rows

GRAVE = 1024  # topics remembered of a severed peer


class Generation(msgspec.Struct, array_like=True):
    """The two chains of one configuration version."""

    send: ChainState
    receive: ChainState


class Session(msgspec.Struct, array_like=True):
    """One pair of workers talking, on the two credentials they showed each other.

    `mixes` tells whether epoch keys feed its roots (not so with the oracle); `said` and `heard` are how fast it goes.
    """

    id: bytes
    peer: str
    initiator: bool
    purpose: str
    own: Credential
    theirs: Credential
    version: int
    mixes: bool
    opened_at: float
    own_bloom: bytes
    peer_bloom: bytes
    root: bytes
    root_version: int
    generations: dict[int, Generation]
    confirmed: bool
    hello_id: bytes
    welcome: bytes = b""
    unheard: int = 0
    heard_at: float = 0.0
    said: Pace = msgspec.field(default_factory=Pace)
    heard: Pace = msgspec.field(default_factory=Pace)


class Tombstone(msgspec.Struct, array_like=True):
    """What is left of a severed session: topics its peer might still use."""

    peer: str
    version: int
    topics: list[bytes]


@dataclass(frozen=True, slots=True)
class Match:
    """A topic recognised: the key of message `message.number` in one generation of a session."""

    session: Session
    version: int
    message: MessageKey


class Table:
    """Sessions by id, an index of every topic expected, and the tombstones."""

    def __init__(self, rows: Rows, secret: bytes, random: Random, mine: Mine = everyone) -> None:
        self._mine = mine
        self._receivers: dict[tuple[bytes, int], Receiver] = {}
        self._vault = Vault(rows, "session_sessions", secret, random)
        self._graves = Vault(rows, "session_tombstones", secret, random)
        self.load()

    def load(self) -> None:
        """Read the table from disk; what was derived of a chain that has not moved since is kept."""
        known = self._receivers
        self.sessions: dict[bytes, Session] = {}
        self._of_peer: dict[str, dict[bytes, None]] = {}
        self._receivers = {}
        self._index: dict[bytes, list[tuple[bytes, int, MessageKey]]] = {}
        self._buried: dict[bytes, str] = {}
        for session_id, session in self._vault.all(Session):
            if not self._mine(session.peer):
                continue
            self._enter(session)
            for version in session.generations:
                self._listen(session, version, known.get((session_id, version)))
        self._stones: dict[str, tuple[bytes, Tombstone]] = {}
        for stone_id, stone in self._graves.all(Tombstone):
            if self._mine(stone.peer):
                self._set_up(stone_id, stone)

    def add(self, session: Session) -> None:
        """Enter a session with the generations it has."""
        self._enter(session)
        for version in session.generations:
            self._listen(session, version)
        self.save(session)

    def save(self, session: Session) -> None:
        """Write a session's present state."""
        self._vault.put(session.id, session)

    def add_generation(self, session: Session, version: int, epoch_key: bytes) -> None:
        """Give a session its chains for `version`; its root moves past it, so that they cannot be made again."""
        base, session.root = generation_base(session.root, session.root_version, version, epoch_key)
        session.root_version = version + 1
        there, back = derive(base, "to responder"), derive(base, "to initiator")
        send, receive = (there, back) if session.initiator else (back, there)
        session.generations[version] = Generation(ChainState(send), ChainState(receive))
        self._listen(session, version)
        self.save(session)

    def drop_generation(self, session: Session, version: int) -> None:
        """Erase one generation's keys."""
        self._unlisten(session, version)
        session.generations.pop(version, None)
        self.save(session)

    def next_key(self, session: Session, version: int) -> MessageKey:
        """Take and store the next key for sending."""
        generation = session.generations[version]
        sender = Sender(generation.send, session.peer_bloom)
        message = sender.next()
        generation.send = sender.state
        session.unheard += 1
        self.save(session)
        return message

    def find(self, topic: bytes) -> list[Match]:
        """Return every expected message with that topic."""
        return [Match(self.sessions[sid], version, message) for sid, version, message in self._index.get(topic, ())]

    def spend(self, match: Match, now: float) -> None:
        """Use up a received message's key, for good; the peer is there."""
        match.session.unheard, match.session.heard_at = 0, now
        receiver = self._receivers[(match.session.id, match.version)]
        gone, fresh = receiver.used(match.message.number)
        self._forget(match.session.id, match.version, gone)
        self._expect(match.session.id, match.version, fresh)
        match.session.generations[match.version].receive = receiver.state
        self.save(match.session)

    def remove(self, session: Session, *, bury: bool) -> None:
        """Erase a session; with `bury`, remember the topics its peer might still use."""
        keys = [key for version in session.generations for key in self._unlisten(session, version)]
        del self.sessions[session.id]
        self._of_peer[session.peer].pop(session.id, None)
        if not self._of_peer[session.peer]:
            del self._of_peer[session.peer]
        self._vault.delete(session.id)
        if bury:
            self._bury(session, [key.topic for key in keys])

    def _bury(self, session: Session, topics: list[bytes]) -> None:
        """Keep one grave a peer, of bounded size, until the last version it has topics of is over."""
        version = max(session.generations, default=0)
        former = self._clear(session.peer)
        if former is not None:
            topics, version = former.topics + topics, max(version, former.version)
        if topics:
            stone = Tombstone(session.peer, version, topics[-GRAVE:])
            self._graves.put(session.id, stone)
            self._set_up(session.id, stone)

    def _set_up(self, stone_id: bytes, stone: Tombstone) -> None:
        self._stones[stone.peer] = stone_id, stone
        self._buried.update(dict.fromkeys(stone.topics, stone.peer))

    def _clear(self, peer: str) -> Tombstone | None:
        """Take a peer's grave away, and return what it said."""
        stone_id, stone = self._stones.pop(peer, (b"", None))
        if stone is not None:
            self._graves.delete(stone_id)
            for topic in stone.topics:
                if self._buried.get(topic) == peer:
                    del self._buried[topic]
        return stone

    def buried(self, topic: bytes) -> str | None:
        """Return the severed peer that topic belonged to, if any."""
        return self._buried.get(topic)

    def exhume(self, live: Iterable[int]) -> None:
        """Forget tombstones of versions no longer live."""
        kept = set(live)
        for peer in [peer for peer, (_, stone) in self._stones.items() if stone.version not in kept]:
            self._clear(peer)

    def with_peer(self, peer: str) -> list[Session]:
        """Sessions with `peer`, newest first."""
        found = [self.sessions[session_id] for session_id in self._of_peer.get(peer, ())]
        return sorted(found, key=lambda session: session.opened_at, reverse=True)

    def mourns(self, peer: str) -> bool:
        """Whether topics of a severed peer are still remembered."""
        return peer in self._stones

    def _enter(self, session: Session) -> None:
        self.sessions[session.id] = session
        self._of_peer.setdefault(session.peer, {})[session.id] = None

    def _listen(self, session: Session, version: int, known: Receiver | None = None) -> None:
        generation = session.generations[version]
        if known is not None and (known.state, known.bloom) == (generation.receive, session.own_bloom):
            receiver, generation.receive = known, known.state
        else:
            receiver = Receiver(generation.receive, session.own_bloom)
        self._receivers[(session.id, version)] = receiver
        self._expect(session.id, version, receiver.expected())

    def _unlisten(self, session: Session, version: int) -> list[MessageKey]:
        receiver = self._receivers.pop((session.id, version), None)
        keys = list(receiver.expected()) if receiver is not None else []
        self._forget(session.id, version, keys)
        return keys

    def _expect(self, session_id: bytes, version: int, keys: Iterable[MessageKey]) -> None:
        for key in keys:
            self._index.setdefault(key.topic, []).append((session_id, version, key))

    def _forget(self, session_id: bytes, version: int, keys: Iterable[MessageKey]) -> None:
        for key in keys:
            entries = self._index.pop(key.topic, [])
            if len(entries) == 1 and entries[0][2] is key:
                continue  # nobody else expects that topic: almost always
            rest = [entry for entry in entries if entry != (session_id, version, key)]
            if rest:
                self._index[key.topic] = rest
