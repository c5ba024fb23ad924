"""What leaves: one message at a time, chosen as late as possible, so that a revocation stops all that has not left.

First what calls and goodbyes have to say, then what is due of conversations, then pieces of large payloads, and last
the cover for sessions that were severed. Each gets a fresh key, which is stored as spent before the message leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import msgspec

from quietfleet.clock import Clock
from quietfleet.errors import NoSession
from quietfleet.session._codec import Mode, Packet, encode_body, encode_packet
from quietfleet.session._conversation import MEMORY, Conversations, Pending
from quietfleet.session._ghosts import Ghosts
from quietfleet.session._keeping import Keeper
from quietfleet.session._large import Large
from quietfleet.session._table import Session, Table
from quietfleet.session._vault import Random
from quietfleet.whisper import TOPIC_ENTROPY, room, seal_symmetric, topic_within

SIZE_CLASSES: Final = (512, 4096, 32_768, 114_688)
CARRIED: Final = 18  # bytes that an acknowledgement adds to the message it goes with

Allowed = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Transmission:
    """A payload ready for an envelope: mine it, then publish it; `peer` is empty when it is for everyone, or nobody."""

    peer: str
    topic: bytes
    data: bytes


class Departures:
    """Everything of ours on its way out."""

    def __init__(
        self,
        table: Table,
        conversations: Conversations,
        large: Large,
        keeper: Keeper,
        ghosts: Ghosts,
        allowed: Allowed,
        clock: Clock,
        random: Random,
    ) -> None:
        self._table = table
        self._conversations = conversations
        self._large = large
        self._keeper = keeper
        self._ghosts = ghosts
        self._allowed = allowed
        self._clock = clock
        self._random = random
        self.controls: list[Transmission] = []
        self._leaving: Transmission | None = None

    def clear(self) -> None:
        """Forget what is in memory alone: a transaction was rolled back."""
        self.controls.clear()

    def drop(self, peers: AbstractSet[str]) -> None:
        """Have nothing more to say to these peers."""
        if self.controls:
            self.controls = [control for control in self.controls if control.peer not in peers]
        if self._leaving is not None and self._leaving.peer in peers:
            self._leaving = None

    def known(self) -> set[str]:
        """For whom something is on its way out: queued, or handed out and worked on."""
        leaving = {self._leaving.peer} if self._leaving is not None else set()
        return leaving | {control.peer for control in self.controls}

    def hand_out(self, transmission: Transmission | None) -> Transmission | None:
        """Note what is given away to be worked on, which may take seconds: until it leaves it can be dropped."""
        self._leaving = transmission
        return transmission

    def stands(self, transmission: Transmission) -> bool:
        """Whether what was handed out last was not dropped since, and its peer is one we work with."""
        return transmission is self._leaving and (transmission.peer == "" or self._allowed(transmission.peer))

    # taking in

    def control(self, peer: str, topic: bytes, key: bytes, payload: bytes) -> None:
        """Queue what is said outside of sessions."""
        self.controls.append(self._transmission(peer, topic, key, payload))

    def once(self, session: Session, body: msgspec.Struct) -> None:
        """Queue a word that is not repeated."""
        self.controls.append(self.seal(session, encode_packet(self._bare(body))))

    def post(
        self,
        peer: str,
        body: msgspec.Struct,
        mode: Mode,
        within: float,
        expects: Sequence[str],
        context: str = "",
        conversation: bytes | None = None,
        via: bytes = b"",
    ) -> bytes:
        """Ask or tell a peer something until it is answered; returns the message id."""
        now = self._clock.now()
        packet = Packet(
            self._random(16), None, mode, now + min(within, MEMORY), encode_body(body), conversation=conversation
        )
        pending = Pending(packet.id, peer, packet, now, packet.reply_by, list(expects), context, via=via)
        self._conversations.put(pending)
        return packet.id

    def answer(
        self, peer: str, asked: Packet, body: msgspec.Struct, until: float, via: bytes = b"", delay: float = 0.0
    ) -> None:
        """Answer, now or after so many seconds, and keep the answer in case it is asked for again."""
        now = self._clock.now()
        answer = Packet(
            self._random(16), asked.id, Mode.REPLY, asked.reply_by, encode_body(body), conversation=asked.conversation
        )
        order = self._conversations.remember(asked.id, peer, now, answer)
        self._conversations.put(Pending(answer.id, peer, answer, now + delay, until, [], via=via, order=order))

    # handing out

    def next_control(self) -> Transmission | None:
        """Take the next of what is said outside of conversations."""
        while self.controls:
            control = self.controls.pop(0)
            if control.peer == "" or self._allowed(control.peer):
                return control
        return None

    def next_due(self) -> Transmission | None:
        """Take the next message that is due; the caller's transaction stores its key as spent."""
        now = self._clock.now()
        for pending in self._conversations.due(now):
            session = self._table.sessions.get(pending.via) if pending.via else self._open(pending.peer)
            if session is None or self._keeper.version(session, now) is None or not self._allowed(session.peer):
                continue
            packet = self._laden(session, pending)
            self._conversations.sent(pending, now)
            return self.seal(session, encode_packet(packet))
        return self._next_large()

    def next_cover(self) -> Transmission | None:
        """Take the next envelope of a severed session's ghost: under a key that nobody has, not even we."""
        voice = self._ghosts.next(self._clock.now())
        if voice is None:
            return None
        topic = topic_within(voice.bloom, self._random(TOPIC_ENTROPY))
        size = SIZE_CLASSES[voice.size]
        payload = self._random(room(size, signed=False))
        return Transmission("", topic, seal_symmetric(self._random(32), payload, pad_to=size, random=self._random))

    def seal(self, session: Session, packet: bytes) -> Transmission:
        """Seal a packet under a session's next key."""
        now = self._clock.now()
        version = self._keeper.version(session, now)
        if version is None:
            raise NoSession("no keys for the version in force")
        session.said.count(size_class(len(packet)), now)
        message = self._table.next_key(session, version)
        return self._transmission(session.peer, message.topic, message.key, packet)

    def _laden(self, session: Session, pending: Pending) -> Packet:
        """Return a message's packet, with the acknowledgements owed to its peer if it grows no larger by them."""
        packet = self._conversations.placed(pending)
        owed = self._conversations.owed(pending, session.id)
        if not owed:
            return packet
        laden = len(encode_packet(packet)) + CARRIED * len(owed)
        if size_class(laden) != size_class(len(encode_packet(packet))):
            return packet
        self._conversations.carry(pending, owed)
        return self._conversations.placed(pending)

    def _open(self, peer: str) -> Session | None:
        return self._keeper.usable(peer, self._clock.now())

    def _next_large(self) -> Transmission | None:
        found = self._large.next(lambda peer: self._open(peer) is not None and self._allowed(peer))
        session = self._open(found[0]) if found else None
        if found is None or session is None:
            return None
        return self.seal(session, encode_packet(self._bare(found[1])))

    def _bare(self, body: msgspec.Struct) -> Packet:
        return Packet(self._random(16), None, Mode.REPLY, 0.0, encode_body(body))

    def _transmission(self, peer: str, topic: bytes, key: bytes, payload: bytes) -> Transmission:
        size = SIZE_CLASSES[size_class(len(payload))]
        pad_to = size if room(size, signed=False) >= len(payload) else None
        return Transmission(peer, topic, seal_symmetric(key, payload, pad_to=pad_to, random=self._random))


def size_class(payload: int) -> int:
    """Return the least size class that a payload of so many bytes fits into, else the largest."""
    fitting = (number for number, size in enumerate(SIZE_CLASSES) if room(size, signed=False) >= payload)
    return next(fitting, len(SIZE_CLASSES) - 1)
