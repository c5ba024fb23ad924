"""The connection table: who we are in session with, under which keys, and whom we were severed from.

A session has a root that ratchets once a configuration version and, per version, a generation: one chain of message
keys in each direction, made from root and epoch key. A rotation adds a generation to every session; the end of its
predecessor's grace erases the old one. Severing erases all keys at once and leaves only the topics that were still
expected, so that what a severed device goes on sending is recognised, ignored and counted without being readable.

The index of topics holds no keys: an entry says which message of which session is expected there. When a session is
severed its keys go with its receivers, and its entries stay where they are as those of its tombstone, so that an owner
who switches a thousand devices off waits for as little as can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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

Place = tuple[bytes, int, int]  # where a topic is expected: session, version, number of the message


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
    """What is left of a severed session, under its id: topics its peer might still use."""

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
        self._index: dict[bytes, tuple[Place, ...]] = {}
        for session_id, session in self._vault.all(Session):
            if not self._mine(session.peer):
                continue
            self._enter(session)
            for version in session.generations:
                self._listen(session, version, known.get((session_id, version)))
        self._stones: dict[bytes, Tombstone] = {}
        self._graves_of: dict[str, dict[bytes, None]] = {}
        for stone_id, stone in sorted(self._graves.all(Tombstone), key=lambda row: row[1].version):
            if self._mine(stone.peer):
                self._set_up(stone_id, stone)
                self._expect(stone_id, stone.version, ((topic, 0) for topic in stone.topics))

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

    def expects(self, topic: bytes) -> bool:
        """Whether a message of a session, or of one that was severed, may come under that topic."""
        return topic in self._index

    def find(self, topic: bytes) -> list[Match]:
        """Return every expected message with that topic."""
        found = []
        for session_id, version, number in self._index.get(topic, ()):
            receiver = self._receivers.get((session_id, version))
            message = receiver.at(number) if receiver is not None else None
            if message is not None:
                found.append(Match(self.sessions[session_id], version, message))
        return found

    def spend(self, match: Match, now: float) -> None:
        """Use up a received message's key, for good; the peer is there."""
        match.session.unheard, match.session.heard_at = 0, now
        receiver = self._receivers[(match.session.id, match.version)]
        gone, fresh = receiver.used(match.message.number)
        self._forget(match.session.id, match.version, gone)
        self._expect(match.session.id, match.version, ((key.topic, key.number) for key in fresh))
        match.session.generations[match.version].receive = receiver.state
        self.save(match.session)

    def remove(self, session: Session) -> None:
        """Erase a session without a trace: its peer knows, or is not there."""
        for version in session.generations:
            self._unlisten(session, version)
        self._leave(session)
        self._vault.delete(session.id)

    def bury(self, sessions: Sequence[Session]) -> None:
        """Erase sessions, and remember the topics their peers might still use: keys first, then what is on disk."""
        stones = {
            session.id: Tombstone(session.peer, max(session.generations), topics)
            for session in sessions
            if (topics := self._fell(session))
        }
        self._vault.delete_many(session.id for session in sessions)
        self._graves.put_many(stones.items())
        for stone_id, stone in stones.items():
            self._set_up(stone_id, stone)
        self._clear([stone for peer in {session.peer for session in sessions} for stone in self._too_many(peer)])

    def _fell(self, session: Session) -> list[bytes]:
        """Let go of a session and its keys in memory; return the topics that are still entered in the index."""
        receivers = [self._receivers.pop((session.id, version), None) for version in session.generations]
        topics = [key.topic for receiver in receivers if receiver is not None for key in receiver.expected()]
        self._leave(session)
        self._unmark(session.id, set(topics[:-GRAVE]) - set(topics[-GRAVE:]))
        return topics[-GRAVE:]

    def _leave(self, session: Session) -> None:
        del self.sessions[session.id]
        self._of_peer[session.peer].pop(session.id, None)
        if not self._of_peer[session.peer]:
            del self._of_peer[session.peer]

    def _set_up(self, stone_id: bytes, stone: Tombstone) -> None:
        self._stones[stone_id] = stone
        self._graves_of.setdefault(stone.peer, {})[stone_id] = None

    def _too_many(self, peer: str) -> list[bytes]:
        """Return the oldest tombstones of a peer that has more topics remembered than it may."""
        stones = list(self._graves_of.get(peer, ()))
        known = sum(len(self._stones[stone_id].topics) for stone_id in stones)
        excess = []
        while known > GRAVE:
            excess.append(stones.pop(0))
            known -= len(self._stones[excess[-1]].topics)
        return excess

    def _clear(self, stone_ids: Sequence[bytes]) -> None:
        """Take tombstones away."""
        if not stone_ids:
            return
        self._graves.delete_many(stone_ids)
        for stone_id in stone_ids:
            stone = self._stones.pop(stone_id)
            self._graves_of[stone.peer].pop(stone_id)
            if not self._graves_of[stone.peer]:
                del self._graves_of[stone.peer]
            self._unmark(stone_id, stone.topics)

    def buried(self, topic: bytes) -> str | None:
        """Return the severed peer that topic belonged to, if any."""
        stones = (self._stones.get(session_id) for session_id, _, _ in self._index.get(topic, ()))
        return next((stone.peer for stone in stones if stone is not None), None)

    def exhume(self, live: Iterable[int]) -> None:
        """Forget tombstones of versions no longer live."""
        kept = set(live)
        self._clear([stone_id for stone_id, stone in self._stones.items() if stone.version not in kept])

    def with_peer(self, peer: str) -> list[Session]:
        """Sessions with `peer`, newest first."""
        found = [self.sessions[session_id] for session_id in self._of_peer.get(peer, ())]
        return sorted(found, key=lambda session: session.opened_at, reverse=True)

    def peers(self) -> set[str]:
        """Everyone we have a session with, confirmed or not."""
        return set(self._of_peer)

    def mourns(self, peer: str) -> bool:
        """Whether topics of a severed peer are still remembered."""
        return peer in self._graves_of

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
        self._expect(session.id, version, ((key.topic, key.number) for key in receiver.expected()))

    def _unlisten(self, session: Session, version: int) -> None:
        receiver = self._receivers.pop((session.id, version), None)
        if receiver is not None:
            self._forget(session.id, version, receiver.expected())

    def _expect(self, session_id: bytes, version: int, topics: Iterable[tuple[bytes, int]]) -> None:
        for topic, number in topics:
            self._index[topic] = (*self._index.get(topic, ()), (session_id, version, number))

    def _forget(self, session_id: bytes, version: int, keys: Iterable[MessageKey]) -> None:
        for key in keys:
            self._drop(key.topic, lambda place, gone=(session_id, version, key.number): place == gone)  # type: ignore[misc]

    def _unmark(self, stone_id: bytes, topics: Iterable[bytes]) -> None:
        for topic in topics:
            self._drop(topic, lambda place: place[0] == stone_id)

    def _drop(self, topic: bytes, gone: Callable[[Place], bool]) -> None:
        rest = tuple(place for place in self._index.pop(topic, ()) if not gone(place))
        if rest:  # somebody else expects that topic: almost never
            self._index[topic] = rest
