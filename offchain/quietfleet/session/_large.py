"""Large payloads, in pieces: who has one says so, who wants it asks for what is missing, and checks the whole.

Theory of operation. The sender repeats `Have` until it is asked. The receiver draws: it asks for at most `WINDOW`
pieces at a time by bitmap, again as half of them have come, and once more for what is missing when nothing comes.
Pieces are sent once and not acknowledged. Everything that came or waits lies sealed in the database, so that both sides
go on after a restart. When the last piece is there and the whole has the digest promised, it is handed over, once,
and `Got` ends the transfer.

    sender:    offered ──Want──→ sending … ──Got──→ over
    receiver:  ──Have──→ fetching ──last piece──→ checked ──Got──→ done (remembered, so that nothing is taken twice)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from itertools import islice

import msgspec

from quietfleet.crypto import derive
from quietfleet.errors import MessageRefused
from quietfleet.session._large_wire import (
    CHUNK,
    MAX_LARGE,
    Chunk,
    Got,
    Have,
    Want,
    chunk_size,
    chunks_of,
    want,
    wanted,
)
from quietfleet.session._timing import Timing
from quietfleet.session._vault import Mine, Random, Vault, everyone
from quietfleet.session.events import Event, LargeEnded, LargeReceived
from quietfleet.storage import Rows

WINDOW = 16  # pieces under way to one receiver at a time
CONCURRENT = 2  # transfers of a peer at a time, each way
INCOMING = 16  # transfers taken in at a time, of all peers
QUIET = 300.0  # seconds without a piece after which a transfer is given up
LIFE = 3600.0  # seconds a transfer may last, and is remembered after
DONE = 64  # transfers of a peer that are remembered
TIRED = 4  # times each piece is sent at most, on average

Admit = Callable[[str, str, int], bool]  # peer, kind, size


class Outgoing(msgspec.Struct, array_like=True):
    """A payload of ours on its way to one peer."""

    peer: str
    have: Have
    until: float
    due: float = 0.0
    attempts: int = 0
    sent: int = 0
    queue: list[int] = []


class Incoming(msgspec.Struct, array_like=True):
    """A payload of a peer's: what came of it, what is asked for, or only that it is done with (`over`)."""

    peer: str
    have: Have
    since: float
    over: bool = False
    taken: bool = False
    came: set[int] = set()
    asked: set[int] = set()
    due: float = 0.0
    attempts: int = 0
    heard: float = 0.0


class _Piece(msgspec.Struct, array_like=True):
    data: bytes


Key = tuple[str, bytes]  # peer, transfer


class Large:
    """All transfers of one worker."""

    def __init__(
        self, rows: Rows, secret: bytes, random: Random, timing: Timing, admit: Admit, mine: Mine = everyone
    ) -> None:
        self._mine = mine
        self._names = derive(secret, "storage", b"large rows")
        self._random = random
        self._timing = timing
        self._admit = admit
        self._senders = Vault(rows, "session_large_out", secret, random)
        self._receivers = Vault(rows, "session_large_in", secret, random)
        self._pieces = Vault(rows, "session_large_pieces", secret, random)
        self.load()

    def load(self) -> None:
        """Read the transfers from disk; whatever was due is due at once."""
        self._said: dict[tuple[str, bytes, type], msgspec.Struct] = {}
        self.outgoing: dict[Key, Outgoing] = {
            (o.peer, o.have.transfer): o for _, o in self._senders.all(Outgoing) if self._mine(o.peer)
        }
        self.incoming: dict[Key, Incoming] = {}
        for _, one in self._receivers.all(Incoming):
            if not self._mine(one.peer):
                continue
            ids = [] if one.over else self._pieces.ids(self._theirs(one.peer, one.have.transfer))
            one.came = {int.from_bytes(row_id[-2:], "big") for row_id in ids}
            self.incoming[one.peer, one.have.transfer] = one

    def peers(self) -> set[str]:
        """Whom we have something large to send to."""
        return {one.peer for one in self.outgoing.values()}

    def known(self) -> set[str]:
        """With whom there is, or was of late, a transfer."""
        return self.peers() | {one.peer for one in self.incoming.values()}

    # sending

    def send(self, peer: str, kind: str, data: bytes, until: float) -> bytes:
        """Store a payload and offer it; returns the transfer's id. MessageRefused if too large or one too many."""
        if not 1 <= len(data) <= MAX_LARGE:
            raise MessageRefused(f"{len(data)} bytes: from 1 to {MAX_LARGE} go in pieces")
        if sum(one.peer == peer for one in self.outgoing.values()) >= CONCURRENT:
            raise MessageRefused(f"{CONCURRENT} large payloads are on their way there")
        digest = hashlib.sha256(data).digest()
        if not any(one.have.digest == digest for one in self.outgoing.values()):
            for index in range(chunks_of(len(data))):
                self._pieces.put(self._ours(digest, index), _Piece(data[index * CHUNK : (index + 1) * CHUNK]))
        one = Outgoing(peer, Have(self._random(16), digest, len(data), kind), until)
        self.outgoing[peer, one.have.transfer] = one
        self._senders.put(self._row(peer, one.have.transfer), one)
        return one.have.transfer

    def next(self, sendable: Callable[[str], bool]) -> tuple[str, msgspec.Struct] | None:
        """Take the next thing to say, and to whom: words before pieces, pieces of one transfer after another's."""
        for key in list(self._said):
            if sendable(key[0]):
                return key[0], self._said.pop(key)
        for one in sorted(self.outgoing.values(), key=lambda o: o.sent):
            if one.queue and sendable(one.peer):
                return one.peer, self._chunk(one)
        return None

    def _chunk(self, one: Outgoing) -> Chunk:
        index, one.sent = one.queue.pop(0), one.sent + 1
        piece = self._pieces.get(self._ours(one.have.digest, index), _Piece)
        assert piece is not None
        return Chunk(one.have.transfer, index, piece.data)

    def _wanted(self, peer: str, asked: Want, now: float) -> list[Event]:
        one = self.outgoing.get((peer, asked.transfer))
        if one is None:
            return []
        if one.sent >= TIRED * chunks_of(one.have.size) + WINDOW:
            return self._ended(one, delivered=False)
        room = WINDOW - len(one.queue)
        fresh = [index for index in wanted(asked, one.have.size, WINDOW) if index not in one.queue]
        one.queue += fresh[:room]
        one.attempts, one.due = 1, now + self._timing.last_retry
        return []

    def _ended(self, one: Outgoing, *, delivered: bool) -> list[Event]:
        del self.outgoing[one.peer, one.have.transfer]
        self._senders.delete(self._row(one.peer, one.have.transfer))
        if not any(other.have.digest == one.have.digest for other in self.outgoing.values()):
            self._pieces.delete_all(self._ours(one.have.digest))
        self._said.pop((one.peer, one.have.transfer, Have), None)
        return [LargeEnded(one.peer, one.have.transfer, one.have.kind, delivered)]

    # receiving

    def receive(self, peer: str, body: msgspec.Struct, now: float) -> list[Event]:
        """Take what a peer says about a transfer; what fits none is passed over."""
        if isinstance(body, Have):
            self._offered(peer, body, now)
            return []
        if isinstance(body, Want):
            return self._wanted(peer, body, now)
        if isinstance(body, Chunk):
            return self._came(peer, body, now)
        if isinstance(body, Got) and (one := self.outgoing.get((peer, body.transfer))):
            return self._ended(one, delivered=body.taken)
        return []

    def _offered(self, peer: str, have: Have, now: float) -> None:
        one = self.incoming.get((peer, have.transfer))
        if one is not None:
            if one.over:
                self._say(peer, Got(have.transfer, one.taken))
            return
        if self._busy(peer):
            return
        admitted = self._admit(peer, have.kind, have.size)
        one = Incoming(peer, have, now, over=not admitted, heard=now)
        self._keep(one)
        if one.over:
            self._say(peer, Got(have.transfer, taken=False))
        else:
            self._ask(one, now)

    def _busy(self, peer: str) -> bool:
        under_way = [one.peer for one in self.incoming.values() if not one.over]
        return len(under_way) >= INCOMING or under_way.count(peer) >= CONCURRENT

    def _came(self, peer: str, chunk: Chunk, now: float) -> list[Event]:
        one = self.incoming.get((peer, chunk.transfer))
        if one is None or one.over or chunk.index in one.came:
            return []
        if chunk.index >= chunks_of(one.have.size) or len(chunk.data) != chunk_size(one.have.size, chunk.index):
            return []
        self._pieces.put(self._theirs(peer, chunk.transfer, chunk.index), _Piece(chunk.data))
        one.came.add(chunk.index)
        one.asked.discard(chunk.index)
        one.attempts, one.heard, one.due = 1, now, now + self._timing.wait(1)
        if len(one.came) == chunks_of(one.have.size):
            return self._complete(one)
        if len(one.asked) <= WINDOW // 2:
            self._ask(one, now)
        return []

    def _complete(self, one: Incoming) -> list[Event]:
        rows = self._pieces.ids(self._theirs(one.peer, one.have.transfer))
        pieces = [self._pieces.get(row_id, _Piece) for row_id in rows]
        data = b"".join(piece.data for piece in pieces if piece is not None)
        one.taken = hashlib.sha256(data).digest() == one.have.digest
        self._over(one)
        self._say(one.peer, Got(one.have.transfer, one.taken))
        return [LargeReceived(one.peer, one.have.kind, one.have.digest, data)] if one.taken else []

    def _ask(self, one: Incoming, now: float) -> None:
        missing = (i for i in range(chunks_of(one.have.size)) if i not in one.came and i not in one.asked)
        fresh = list(islice(missing, WINDOW - len(one.asked)))
        if not fresh:
            return
        one.asked.update(fresh)
        unsaid = self._said.get((one.peer, one.have.transfer, Want))
        if isinstance(unsaid, Want):
            fresh += wanted(unsaid, one.have.size, WINDOW)
        self._say(one.peer, want(one.have.transfer, sorted(set(fresh) - one.came)))
        one.attempts += 1
        one.due = now + self._timing.wait(one.attempts)

    def _over(self, one: Incoming) -> None:
        """Erase the pieces, and remember no more than that it is done with."""
        one.over, one.came, one.asked = True, set(), set()
        self._pieces.delete_all(self._theirs(one.peer, one.have.transfer))
        self._said.pop((one.peer, one.have.transfer, Want), None)
        self._keep(one)

    # both

    def tick(self, now: float) -> list[Event]:
        """Offer and ask again where it is time; give up what lasts too long; forget what is long over."""
        events: list[Event] = []
        for out in list(self.outgoing.values()):
            if now > out.until:
                events += self._ended(out, delivered=False)
            elif now >= out.due:
                out.attempts += 1
                out.due = now + self._timing.wait(out.attempts)
                self._say(out.peer, out.have)
        for one in list(self.incoming.values()):
            if one.over and now > one.since + 2 * LIFE:
                self._forget(one)
            elif not one.over and now > min(max(one.heard, one.since) + QUIET, one.since + LIFE):
                self._over(one)
            elif not one.over and now >= one.due:
                one.asked.clear()
                self._ask(one, now)
        return events

    def drop_peers(self, peers: AbstractSet[str]) -> list[Event]:
        """Erase everything to and from some peers."""
        self._said = {key: body for key, body in self._said.items() if key[0] not in peers}
        for one in [one for one in self.incoming.values() if one.peer in peers]:
            self._pieces.delete_all(self._theirs(one.peer, one.have.transfer))
            self._forget(one)
        ours = [one for one in self.outgoing.values() if one.peer in peers]
        return [event for one in ours for event in self._ended(one, delivered=False)]

    def _say(self, peer: str, body: Have | Want | Got) -> None:
        """Queue a word; a newer one of its kind takes its place."""
        self._said[peer, body.transfer, type(body)] = body

    def _keep(self, one: Incoming) -> None:
        self.incoming[one.peer, one.have.transfer] = one
        self._receivers.put(self._row(one.peer, one.have.transfer), one)
        done = sorted((o.since, o.have.transfer) for o in self.incoming.values() if o.peer == one.peer and o.over)
        for _, transfer in done[:-DONE]:
            self._forget(self.incoming[one.peer, transfer])

    def _forget(self, one: Incoming) -> None:
        del self.incoming[one.peer, one.have.transfer]
        self._receivers.delete(self._row(one.peer, one.have.transfer))

    # ids of rows name neither a peer nor a payload

    def _row(self, peer: str, transfer: bytes) -> bytes:
        return self._name(peer.encode(), 20) + transfer

    def _theirs(self, peer: str, transfer: bytes, index: int | None = None) -> bytes:
        return b"i" + self._row(peer, transfer) + (b"" if index is None else index.to_bytes(2, "big"))

    def _ours(self, digest: bytes, index: int | None = None) -> bytes:
        return b"o" + self._name(digest, 32) + (b"" if index is None else index.to_bytes(2, "big"))

    def _name(self, of: bytes, size: int) -> bytes:
        return hashlib.blake2b(of, digest_size=size, key=self._names).digest()
