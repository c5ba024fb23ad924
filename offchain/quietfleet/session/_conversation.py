"""Conversations: what was asked, what may answer it, what comes after what, and what has been seen before.

Every message names itself with 16 random bytes that only the two parties ever see; an answer carries the id it
answers. A request states its expectations beforehand (author, deadline, schema), so a late, foreign, repeated or
ill-formed answer is recognised and ignored (paper IV-B). Requests and notices are kept until answered and sent again
meanwhile; a message seen twice is handled once, and its answer sent again.

Messages of one conversation are heard in the order in which each side said them. A message names the last one before it
that is still unanswered (`after`) and those that were given up (`passed`), as they stand when it leaves. What comes
before its turn waits (`_waiting.py`), is not acknowledged, and comes again anyway.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from enum import StrEnum

import msgspec

from quietfleet.session._codec import HEARD, PASSED, Ack, Mode, Packet, encode_body
from quietfleet.session._tags import TAG, Tags
from quietfleet.session._timing import Timing
from quietfleet.session._vault import Mine, Random, Vault, everyone
from quietfleet.storage import Rows

MEMORY = 600.0  # seconds a handled message is remembered; no request may live longer
SET_BACK = 60.0  # seconds by which a clock may be corrected without a word
ANSWERS = 16  # of a peer, kept to be sent again; acknowledgements are small, and all kept
ANSWER_BYTES = 32 << 10  # more of them are kept while they come to less: a rotation may cost many short ones at once
SMALL = 16  # bytes of a body; an acknowledgement's has 12
HANDLED = 8192  # messages of a peer that are remembered
_ACK = encode_body(Ack())


class Unexpected(StrEnum):
    """Why an answer was ignored."""

    UNKNOWN = "unknown parent"
    AUTHOR = "wrong author"
    LATE = "late"
    SCHEMA = "wrong schema"
    UNASKED = "an answer to nothing"
    DEADLINE = "deadline out of bounds"


class Pending(msgspec.Struct, array_like=True):
    """A message of ours on its way, the `order`-th we said: sent again until `reply_by` unless answered."""

    id: bytes
    peer: str
    packet: Packet
    due: float
    reply_by: float
    expects: list[str]
    context: str = ""
    attempts: int = 0
    via: bytes = b""
    order: int = -1

    @property
    def mode(self) -> Mode:
        """What it asks of its receiver."""
        return self.packet.mode

    def precedes(self, other: Pending) -> bool:
        """Whether `other` is to be heard only after this: same peer, same conversation, said later."""
        same = (self.peer, self.packet.thread) == (other.peer, other.packet.thread)
        return same and self.mode is not Mode.REPLY and self.order < other.order


class Handled(msgspec.Struct, array_like=True):
    """A message of theirs that was handled, the packet that answered it, and its place among what we said."""

    peer: str
    at: float
    answer: Packet | None = None
    order: int = -1


_NOBODYS = Handled("", 0.0)


class Past(msgspec.Struct, array_like=True):
    """Ids of messages that were handled, of peers that were severed: not whose, nor what; the last was at `at`."""

    at: float
    ids: list[bytes]


class Conversations:
    """Our outbox and our memory of theirs."""

    def __init__(self, rows: Rows, secret: bytes, random: Random, timing: Timing, mine: Mine = everyone) -> None:
        self._timing = timing
        self._mine = mine
        self._random = random
        self.tags = Tags(secret)
        self._outbox = Vault(rows, "session_outbox", secret, random)
        self._abandoned = Vault(rows, "session_given_up", secret, random)
        self._inbox = Vault(rows, "session_handled", secret, random)
        self._pasts = Vault(rows, "session_past", secret, random)
        self.load()

    def load(self) -> None:
        """Read both from disk."""
        self.pending: dict[bytes, Pending] = {i: one for i, one in self._outbox.all(Pending) if self._mine(one.peer)}
        self._to: dict[str, dict[bytes, None]] = {}
        for pending in self.pending.values():
            self._to.setdefault(pending.peer, {})[pending.id] = None
        given_up = self._abandoned.all(Pending)
        self._given_up: dict[bytes, Pending] = {i: one for i, one in given_up if self._mine(one.peer)}
        self._handled: dict[bytes, Handled] = {}
        self._of_peer: dict[str, dict[bytes, None]] = {}
        self._answered: dict[str, dict[bytes, int]] = {}  # with the size of each
        handled = [row for row in self._inbox.all(Handled) if self._mine(row[1].peer)]
        for row_id, record in sorted(handled, key=lambda row: row[1].at):
            self._index(row_id[TAG:], record)
        self._past: dict[bytes, Past] = dict(self._pasts.all(Past))
        self._bare = {message_id for past in self._past.values() for message_id in past.ids}
        said = [pending.order for pending in (*self.pending.values(), *self._given_up.values())]
        self._next = 1 + max([*said, *(record.order for record in self._handled.values())], default=-1)

    def put(self, pending: Pending) -> None:
        """Store a message before it is sent; a new one takes the next place in order."""
        if pending.order < 0:
            pending.order, self._next = self._next, self._next + 1
        self.pending[pending.id] = pending
        self._to.setdefault(pending.peer, {})[pending.id] = None
        self._outbox.put(pending.id, pending)

    def remove(self, message_id: bytes) -> Pending | None:
        """Drop a message from the outbox."""
        pending = self.pending.pop(message_id, None)
        if pending is not None:
            self._outbox.delete(message_id)
            self._to[pending.peer].pop(message_id)
            if not self._to[pending.peer]:
                del self._to[pending.peer]
        return pending

    def asks(self, peer: str, about: str) -> bool:
        """Whether a message to `peer` whose context begins so is on its way."""
        return any(self.pending[message_id].context.startswith(about) for message_id in self._to.get(peer, ()))

    def due(self, now: float) -> list[Pending]:
        """Messages to send now, oldest deadline first."""
        ready = [p for p in self.pending.values() if p.due <= now <= p.reply_by]
        return sorted(ready, key=lambda p: (p.reply_by, p.order))

    def placed(self, pending: Pending) -> Packet:
        """Return a message's packet with its place in its conversation as it stands now."""
        if pending.packet.thread == pending.id:
            return pending.packet  # the first of its conversation
        before = [p for p in self.pending.values() if p.precedes(pending)]
        after = max(before, key=lambda p: p.order).packet.id if before else None
        passed = sorted((p.order, p.packet.id) for p in self._given_up.values() if p.precedes(pending))
        ids = tuple(message_id for _, message_id in passed[-PASSED:])
        return msgspec.structs.replace(pending.packet, after=after, passed=ids)

    def owed(self, pending: Pending, session: bytes) -> list[Pending]:
        """Acknowledgements that wait, and may go with a message through that session, oldest first."""
        waiting = (self.pending[message_id] for message_id in self._to.get(pending.peer, ()))
        acks = [p for p in waiting if p.packet.body == _ACK and p.via in (b"", session) and p is not pending]
        return acks[: HEARD - len(pending.packet.heard)]

    def carry(self, pending: Pending, acks: list[Pending]) -> None:
        """Have a message acknowledge, as often as it is said, what these would."""
        notices = (p.packet.parent for p in acks if p.packet.parent is not None)
        pending.packet = msgspec.structs.replace(pending.packet, heard=(*pending.packet.heard, *notices))
        for ack in acks:
            self.remove(ack.id)

    def acknowledged(self, message_id: bytes, author: str, now: float) -> None:
        """Take a notice for heard if its own receiver says so in time, whatever else that one says with it."""
        pending = self.pending.get(message_id)
        if pending is None or pending.mode is not Mode.NOTICE:
            return
        if pending.peer == author and now <= pending.reply_by:
            self.remove(message_id)

    def sent(self, pending: Pending, now: float) -> None:
        """Note a transmission: a reply is done with, the rest comes again."""
        if pending.mode is Mode.REPLY:
            self.remove(pending.id)
            return
        pending.attempts += 1
        pending.due = now + self._timing.wait(pending.attempts)
        self.put(pending)

    def expired(self, now: float) -> list[Pending]:
        """Take out every message whose time is over; what comes after one of them says so for a while.

        One that has longer than any may have was written under a clock that has been set back: nobody would take it.
        """
        late = [p for p in self.pending.values() if not now <= p.reply_by <= now + MEMORY + SET_BACK]
        for pending in late:
            self.remove(pending.id)
            if pending.mode is not Mode.REPLY:
                self._given_up[pending.id] = pending
                self._abandoned.put(pending.id, pending)
        return late

    def known(self) -> set[str]:
        """To whom anything is said, of whom anything was handled, or for whom anything was given up."""
        return self._to.keys() | self._of_peer.keys() | {pending.peer for pending in self._given_up.values()}

    def drop_peers(self, peers: AbstractSet[str]) -> list[Pending]:
        """Take out everything addressed to some peers, and erase what we know of theirs.

        The bare ids of what was handled stay, so that it is not handled again should the two meet again.
        """
        unsaid = [message_id for peer in peers & self._to.keys() for message_id in self._to.pop(peer)]
        dropped = [self.pending.pop(message_id) for message_id in unsaid]
        given_up = [m for m, pending in self._given_up.items() if pending.peer in peers]
        for message_id in given_up:
            del self._given_up[message_id]
        self._outbox.delete_many(unsaid)
        self._abandoned.delete_many(given_up)
        self._bury(peers & self._of_peer.keys())
        return sorted(dropped, key=lambda pending: pending.order)

    def _bury(self, peers: AbstractSet[str]) -> None:
        """Erase what was handled of these peers; their ids go into as few rows as are of a bounded size."""
        gone: list[bytes] = []
        for peer in peers:
            gone += self._of_peer.pop(peer)
            self._answered.pop(peer)
        self._inbox.delete_all(*map(self.tags.of, peers))
        pasts = {}
        for start in range(0, len(gone), HANDLED):
            ids = gone[start : start + HANDLED]
            pasts[self._random(16)] = Past(max(self._handled.pop(message_id).at for message_id in ids), ids)
        self._past |= pasts
        self._bare.update(gone)
        self._pasts.put_many(pasts.items())

    def judge(self, packet: Packet, author: str, tag: str, now: float) -> Pending | Unexpected:
        """Hold an answer against what was expected of it."""
        pending = self.pending.get(packet.parent or b"")
        if pending is None:
            return Unexpected.UNKNOWN
        if pending.peer != author:
            return Unexpected.AUTHOR
        if now > pending.reply_by:
            return Unexpected.LATE
        if tag not in pending.expects:
            return Unexpected.SCHEMA
        return pending

    def handled(self, message_id: bytes) -> Handled | None:
        """Return our record of a message handled before."""
        return self._handled.get(message_id) or (_NOBODYS if message_id in self._bare else None)

    def in_turn(self, packet: Packet, peer: str) -> bool:
        """Whether what a message comes after has been heard, or was given up."""
        before = self._handled.get(packet.after) if packet.after else None
        heard = before is not None and before.peer == peer
        return packet.after is None or heard or packet.after in self._bare

    def pass_over(self, packet: Packet, peer: str, now: float) -> list[bytes]:
        """Note which earlier messages a peer has given up, as if they had been heard; return those not known yet."""
        fresh = [message_id for message_id in packet.passed if message_id not in self._handled]
        for message_id in fresh:
            self.remember(message_id, peer, now)
        return fresh

    def remember(self, message_id: bytes, peer: str, now: float, answer: Packet | None = None) -> int:
        """Note that a message was handled, with the answer it got, and return the answer's place in order.

        Only a peer's last answers and last messages are kept.
        """
        order = -1
        if answer is not None:
            order, self._next = self._next, self._next + 1
        self._note(message_id, Handled(peer, now, answer, order))
        answered, of_peer = self._answered.get(peer, {}), self._of_peer[peer]
        while len(answered) > ANSWERS and sum(answered.values()) > ANSWER_BYTES:
            old = next(iter(answered))
            self._note(old, Handled(peer, self._handled[old].at))
        if len(of_peer) > HANDLED:
            self._drop(next(iter(of_peer)))
        return order

    def _note(self, message_id: bytes, record: Handled) -> None:
        known = self._handled.get(message_id)
        if known is not None and known.peer != record.peer:
            self._inbox.delete(self._row(message_id, known))
        self._index(message_id, record)
        self._inbox.put(self._row(message_id, record), record)

    def _row(self, message_id: bytes, record: Handled) -> bytes:
        return self.tags.of(record.peer) + message_id

    def _index(self, message_id: bytes, record: Handled) -> None:
        if message_id in self._handled and self._handled[message_id].peer != record.peer:
            self._unindex(message_id)
        self._handled[message_id] = record
        self._of_peer.setdefault(record.peer, {})[message_id] = None
        answered = self._answered.setdefault(record.peer, {})
        answered.pop(message_id, None)
        if record.answer is not None and len(record.answer.body) > SMALL:
            answered[message_id] = len(record.answer.body)

    def _drop(self, message_id: bytes) -> None:
        self._inbox.delete(self._row(message_id, self._handled[message_id]))
        self._unindex(message_id)

    def _unindex(self, message_id: bytes) -> None:
        peer = self._handled.pop(message_id).peer
        self._of_peer[peer].pop(message_id)
        self._answered[peer].pop(message_id, None)
        if not self._of_peer[peer]:
            del self._of_peer[peer], self._answered[peer]

    def forget(self, now: float) -> None:
        """Let go of messages handled or given up long ago."""
        for message_id in [m for m, record in self._handled.items() if record.at < now - MEMORY]:
            self._drop(message_id)
        for message_id in [m for m, pending in self._given_up.items() if pending.reply_by < now - MEMORY]:
            del self._given_up[message_id]
            self._abandoned.delete(message_id)
        for row_id in [row_id for row_id, past in self._past.items() if past.at < now - MEMORY]:
            self._bare.difference_update(self._past.pop(row_id).ids)
            self._pasts.delete(row_id)
