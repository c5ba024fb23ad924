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
from quietfleet.session._ratchet import ChainState, MessageKey, Receiver, Sender
from quietfleet.session._vault import Random, Vault
from quietfleet.storage import Database

GRAVE = 1024  # topics remembered of a severed peer


class Generation(msgspec.Struct, array_like=True):
    """The two chains of one configuration version."""

    send: ChainState
    receive: ChainState


class Session(msgspec.Struct, array_like=True):
    """One pair of workers talking, on the two credentials they showed each other.

    `mixes` tells whether epoch keys feed its roots (not so with the oracle).
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

    def __init__(self, database: Database, secret: bytes, random: Random) -> None:
        self._receivers: dict[tuple[bytes, int], Receiver] = {}
        self._vault = Vault(database, "session_sessions", secret, random)
        self._graves = Vault(database, "session_tombstones", secret, random)
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
            self._enter(session)
            for version in session.generations:
                self._listen(session, version, known.get((session_id, version)))
        for _, stone in self._graves.all(Tombstone):
            self._buried.update(dict.fromkeys(stone.topics, stone.peer))

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
        receivers = [self._receivers[(session.id, version)] for version in session.generations]
        topics = [message.topic for receiver in receivers for message in receiver.expected()]
        for version in list(session.generations):
            self._unlisten(session, version)
        del self.sessions[session.id]
        self._of_peer[session.peer].pop(session.id, None)
        if not self._of_peer[session.peer]:
            del self._of_peer[session.peer]
        self._vault.delete(session.id)
        if bury:
            self._bury(session, topics)

    def _bury(self, session: Session, topics: list[bytes]) -> None:
        """Keep one grave a peer, of bounded size, until the last version it has topics of is over."""
        version = max(session.generations, default=0)
        for stone_id, stone in list(self._graves.all(Tombstone)):
            if stone.peer == session.peer:
                self._graves.delete(stone_id)
                topics, version = stone.topics + topics, max(version, stone.version)
        kept = topics[-GRAVE:]
        self._buried = {topic: peer for topic, peer in self._buried.items() if peer != session.peer}
        self._graves.put(session.id, Tombstone(session.peer, version, kept))
        self._buried.update(dict.fromkeys(kept, session.peer))

    def buried(self, topic: bytes) -> str | None:
        """Return the severed peer that topic belonged to, if any."""
        return self._buried.get(topic)

    def exhume(self, live: Iterable[int]) -> None:
        """Forget tombstones of versions no longer live."""
        kept, known = set(live), list(self._graves.all(Tombstone))
        self._buried = {}
        for stone_id, stone in known:
            if stone.version in kept:
                self._buried.update(dict.fromkeys(stone.topics, stone.peer))
            else:
                self._graves.delete(stone_id)

    def with_peer(self, peer: str) -> list[Session]:
        """Sessions with `peer`, newest first."""
        found = [self.sessions[session_id] for session_id in self._of_peer.get(peer, ())]
        return sorted(found, key=lambda session: session.opened_at, reverse=True)

    def mourns(self, peer: str) -> bool:
        """Whether topics of a severed peer are still remembered."""
        return peer in self._buried.values()

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

    def _unlisten(self, session: Session, version: int) -> None:
        receiver = self._receivers.pop((session.id, version), None)
        if receiver is not None:
            self._forget(session.id, version, list(receiver.expected()))

    def _expect(self, session_id: bytes, version: int, keys: Iterable[MessageKey]) -> None:
        for key in keys:
            self._index.setdefault(key.topic, []).append((session_id, version, key))

    def _forget(self, session_id: bytes, version: int, keys: Iterable[MessageKey]) -> None:
        for key in keys:
            entries = [e for e in self._index.get(key.topic, ()) if e != (session_id, version, key)]
            if entries:
                self._index[key.topic] = entries
            else:
                self._index.pop(key.topic, None)
