"""Conversations: what was asked, what may answer it, and what has been seen before.

Every message names itself with 16 random bytes that only the two parties ever see; an answer carries the id it
answers. A request states its expectations beforehand (author, deadline, schema), so a late, foreign, repeated or
ill-formed answer is recognised and ignored (paper IV-B). Requests and notices are kept until answered and sent again
meanwhile; a message seen twice is handled once, and its answer sent again.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from quietfleet.session._codec import Mode, Packet
from quietfleet.session._vault import Random, Vault
from quietfleet.storage import Database

FIRST_RETRY = 2.0  # seconds; doubles up to
LAST_RETRY = 8.0
MEMORY = 600.0  # seconds a handled message is remembered; no request may live longer
ANSWERS = 16  # of a peer, kept to be sent again


class Unexpected(StrEnum):
    """Why an answer was ignored."""

    UNKNOWN = "unknown parent"
    AUTHOR = "wrong author"
    LATE = "late"
    SCHEMA = "wrong schema"
    UNASKED = "an answer to nothing"
    DEADLINE = "deadline out of bounds"


class Pending(msgspec.Struct, array_like=True):
    """A message of ours on its way: sent again until `reply_by` unless answered."""

    id: bytes
    peer: str
    packet: bytes
    mode: Mode
    due: float
    reply_by: float
    expects: list[str]
    context: str = ""
    attempts: int = 0
    via: bytes = b""


class Handled(msgspec.Struct, array_like=True):
    """A message of theirs that was handled, and the packet that answered it."""

    peer: str
    at: float
    answer: bytes = b""


class Conversations:
    """Our outbox and our memory of theirs."""

    def __init__(self, database: Database, secret: bytes, random: Random) -> None:
        self._outbox = Vault(database, "session_outbox", secret, random)
        self._inbox = Vault(database, "session_handled", secret, random)
        self.load()

    def load(self) -> None:
        """Read both from disk."""
        self.pending: dict[bytes, Pending] = dict(self._outbox.all(Pending))
        self._handled: dict[bytes, Handled] = dict(self._inbox.all(Handled))

    def put(self, pending: Pending) -> None:
        """Store a message before it is sent."""
        self.pending[pending.id] = pending
        self._outbox.put(pending.id, pending)

    def remove(self, message_id: bytes) -> Pending | None:
        """Drop a message from the outbox."""
        pending = self.pending.pop(message_id, None)
        if pending is not None:
            self._outbox.delete(message_id)
        return pending

    def due(self, now: float) -> list[Pending]:
        """Messages to send now, oldest deadline first."""
        ready = [p for p in self.pending.values() if p.due <= now <= p.reply_by]
        return sorted(ready, key=lambda p: (p.reply_by, p.id))

    def sent(self, pending: Pending, now: float) -> None:
        """Note a transmission: a reply is done with, the rest comes again."""
        if pending.mode is Mode.REPLY:
            self.remove(pending.id)
            return
        pending.attempts += 1
        pending.due = now + min(LAST_RETRY, FIRST_RETRY * 2 ** (pending.attempts - 1))
        self.put(pending)

    def expired(self, now: float) -> list[Pending]:
        """Take out every message whose time is over."""
        late = [p for p in self.pending.values() if p.reply_by < now]
        for pending in late:
            self.remove(pending.id)
        return late

    def drop_peer(self, peer: str) -> list[Pending]:
        """Take out everything addressed to a peer."""
        mine = [p for p in self.pending.values() if p.peer == peer]
        for pending in mine:
            self.remove(pending.id)
        return mine

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
        return self._handled.get(message_id)

    def remember(self, message_id: bytes, peer: str, now: float, answer: bytes = b"") -> None:
        """Note that a message was handled, with the answer it got; only a peer's last answers are kept."""
        self._note(message_id, Handled(peer, now, answer))
        answered = [(r.at, m) for m, r in self._handled.items() if r.peer == peer and r.answer] if answer else []
        for at, old in sorted(answered)[:-ANSWERS]:
            self._note(old, Handled(peer, at))

    def _note(self, message_id: bytes, record: Handled) -> None:
        self._handled[message_id] = record
        self._inbox.put(message_id, record)

    def forget(self, now: float) -> None:
        """Let go of messages handled long ago."""
        for message_id in [m for m, record in self._handled.items() if record.at < now - MEMORY]:
            del self._handled[message_id]
            self._inbox.delete(message_id)
