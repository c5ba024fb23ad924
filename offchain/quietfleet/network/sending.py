"""How a worker's own envelopes leave it: inside onion packets, one at a time, among cover that looks the same.

The schedule decides when a packet leaves, and never what is waiting: a real one takes the place of a cover one. What
does not come back with the flood is sent again by another path, for only relays start floods: an envelope that a
worker flooded itself would point at it.

What is withdrawn keeps its place, and a cover packet leaves in it: neither when packets leave nor how large they are
tells whoever watches the link that anything was withdrawn.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Final, Never

from quietfleet.clock import Clock
from quietfleet.errors import GuardUnavailable, PathUnavailable, QueueFull
from quietfleet.metrics import Metrics
from quietfleet.mixnet import (
    DEFAULT_LOADS,
    Embargo,
    Guards,
    Load,
    Path,
    Patience,
    Relay,
    RelayBook,
    Schedule,
    build,
    choose_path,
    coarse_expiry,
    draw_delays,
    size_class,
)
from quietfleet.network.address import Address, Enode
from quietfleet.network.directory import Directory
from quietfleet.network.link import Message
from quietfleet.network.node import EmbeddedNode
from quietfleet.network.peer import Peer
from quietfleet.network.stemwire import packet
from quietfleet.whisper import Envelope, admits

STALLED: Final = 1.0  # seconds until an emission that could not leave is tried again
_PATIENCE: Final = Patience()
LINK_GRACE: Final = 5.0  # seconds a guard has to be connected before that counts against it


@dataclass(frozen=True, slots=True)
class StemTuning:
    """`loads` are the schedules of the packets' size classes, smallest first; `hop_delay` (s) is the delays' scale.

    On average half of it passes at the guard, two and a half times as much at the middle, seven times at the exit.

    The two small classes carry readings, recommendations and handshakes, and have cover. The larger ones carry chunks
    of what is public anyway or rare; cover for them would cost more than all else together.
    """

    loads: tuple[Load, ...] = DEFAULT_LOADS
    hop_delay: float = 0.1
    patience: Patience = _PATIENCE


@dataclass(frozen=True, slots=True, eq=False)
class _Letter:
    """An envelope of ours on its way into a packet, and the paths it has taken in vain."""

    hash: bytes
    envelope: bytes
    expiry: float
    index: int
    watched: bool
    paths: tuple[Path, ...] = field(default=())


class Sending:
    """A `Service` without messages of its own: it only sends, through the guard."""

    codes: frozenset[int] = frozenset()

    def __init__(
        self,
        node: EmbeddedNode,
        book: RelayBook,
        guards: Guards,
        directory: Directory,
        metrics: Metrics,
        clock: Clock,
        rng: Random,
        random: Callable[[int], bytes],
        tuning: StemTuning | None = None,
        own_owner: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._node, self._book, self._guards, self._directory = node, book, guards, directory
        self._metrics, self._clock, self._rng, self._random = metrics, clock, rng, random
        self._tuning, self._own_owner = tuning or StemTuning(), own_owner
        now = clock.now()
        self._schedules = [Schedule[_Letter](load, rng, now) for load in self._tuning.loads]
        self._embargo = Embargo(self._tuning.patience, rng)
        self._late: dict[bytes, _Letter] = {}  # those waiting to be sent again
        self._changed = asyncio.Event()
        self._guard: Relay | None = None
        self._guard_since = 0.0
        self._withdrawn: dict[bytes, float] = {}  # by hash: when it expires
        node.flood.ours, node.send, node.recall = self._seen, self.publish, self.withdraw

    def publish(self, envelope: Envelope) -> None:
        """Queue an envelope; UnsendableError if peers would drop it, QueueFull if too many wait already."""
        self._node.flood.check(envelope)
        raw = envelope.encode()
        watched = admits(self._node.flood.rules.bloom, envelope.topic)
        letter = _Letter(envelope.hash, raw, envelope.expiry, size_class(len(raw)), watched)
        self._schedules[letter.index].offer(letter, letter.expiry, self._clock.now())
        self._metrics.count("network_published")
        self._changed.set()

    def withdraw(self, envelopes: Mapping[bytes, float]) -> None:
        """Have cover leave in the places of these envelopes, by hash and expiry; so too if they are to leave again."""
        self._withdrawn |= envelopes

    @property
    def guard(self) -> str | None:
        """The key address of the relay that our packets enter by; None before the first was chosen."""
        return self._guard.descriptor.id if self._guard else None

    @property
    def waiting(self) -> int:
        """How many envelopes have not left yet."""
        return sum(len(schedule) for schedule in self._schedules)

    def joined(self, peer: Peer) -> None:
        """Nothing: whoever joins is told nothing of what waits."""

    def left(self, peer: Peer) -> None:
        """Nothing: a guard that left is dialled again."""

    async def handle(self, peer: Peer, code: int, payload: bytes) -> None:
        """Nothing is ever sent to this service."""

    async def run(self) -> Never:
        """Emit packets on schedule."""
        while True:
            now = self._clock.now()
            due = [schedule.next_emission(now) for schedule in self._schedules]
            index = min(range(len(due)), key=due.__getitem__)
            if due[index] > now:
                await self._wait(due[index] - now)
            elif not self._emit(index, now):
                await asyncio.sleep(STALLED)

    def sweep(self, now: float) -> None:
        self._withdrawn = {digest: expiry for digest, expiry in self._withdrawn.items() if expiry >= now}
        for schedule in self._schedules:
            for letter in schedule.expired(now):
                self._lose(letter, "expired")
        for overdue in self._embargo.due(now):
            if overdue.hash in self._late:  # it has not left again yet, which is no guard's fault
                continue
            self._guards.path_failed(overdue.paths[-1].guard.descriptor.id, now)
            if overdue.exhausted:
                self._metrics.count("stem_envelopes_lost", reason="exhausted")
            else:
                letter = _Letter(
                    overdue.hash,
                    overdue.envelope,
                    overdue.expiry,
                    size_class(len(overdue.envelope)),
                    True,
                    overdue.paths,
                )
                self._again(letter, now)
        self._metrics.gauge("stem_waiting", self.waiting)
        self._metrics.gauge("stem_unseen", len(self._embargo))

    async def _wait(self, seconds: float) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == inf else seconds):
                await self._changed.wait()

    def _emit(self, index: int, now: float) -> bool:
        """Let one packet of a size class leave; False if there is no way to send it just now."""
        live = self._book.live(now)
        peer, guard = self._entry(live, now)
        if peer is None or guard is None:
            return False
        letter = self._schedules[index].emit(now)  # none of a smaller class: few packets are as large as this one
        path = self._path(live, guard, letter)
        if path is None:
            if letter:
                self._schedules[letter.index].offer(letter, letter.expiry, now)
            return False
        self._send(peer, path, index, letter, now)
        return True

    def _entry(self, live: Sequence[Relay], now: float) -> tuple[Peer | None, Relay | None]:
        """Return the link to our guard; a guard that cannot be reached is noted, and in time another serves."""
        try:
            guard = self._guards.current(live, now, self._directory.relays())
        except (GuardUnavailable, PathUnavailable):
            self._metrics.count("stem_no_guard")
            return None, None
        if self._guard is None or _enode(guard) != _enode(self._guard):
            self._guard, self._guard_since = guard, now
            self._node.hold(_enode(guard))
        peer = self._node.peer(guard.descriptor.node_id)
        self._guard_since = min(self._guard_since, now)  # the clock may have been set back
        if peer and not peer.stems:
            peer = None
        if peer is None and now - self._guard_since > LINK_GRACE:
            self._guard_since = now
            if self._node.peers:  # else it is we who are offline
                self._guards.link_failed(guard.descriptor.id, now)
        return peer, guard

    def _path(self, live: Sequence[Relay], guard: Relay, letter: _Letter | None) -> Path | None:
        """Draw a path apart from those that failed; where there are too few relays for that, apart from the last."""
        failed = letter.paths if letter else ()
        for avoid in dict.fromkeys((failed, failed[-1:], ())):
            with contextlib.suppress(PathUnavailable):
                return choose_path(
                    live,
                    guard,
                    self._rng,
                    own_owner=self._own_owner(),
                    avoid=avoid,
                    registered=self._directory.relays(),
                )
        self._metrics.count("stem_no_path")
        return None

    def _send(self, peer: Peer, path: Path, index: int, letter: _Letter | None, now: float) -> None:
        letter = self._unless_withdrawn(letter)
        delays = draw_delays(self._tuning.hop_delay, self._rng)

        def made(envelope: bytes | None) -> Message:
            return packet(build(path.descriptors, envelope, delays, coarse_expiry(now), index, self._random))

        def last_look(message: Message) -> Message:
            return message if letter is None or self._unless_withdrawn(letter) else made(None)

        message = made(letter.envelope if letter else None)
        if not peer.post(message, last_look):
            self._metrics.count("stem_packets_lost", reason="slow_guard")
        self._metrics.count("stem_emitted", size=str(index))
        self._metrics.count("stem_emitted_bytes", len(message.payload))
        if letter:
            self._metrics.count("stem_sent")
            self._late.pop(letter.hash, None)
            if letter.watched:
                self._embargo.sent(letter.hash, letter.envelope, letter.expiry, path, now)

    def _unless_withdrawn(self, letter: _Letter | None) -> _Letter | None:
        """Return a letter that may still leave; of another nothing is known any more, nor held against a guard."""
        if letter is None or letter.hash not in self._withdrawn:
            return letter
        self._late.pop(letter.hash, None)
        self._embargo.drop(letter.hash)
        self._metrics.count("stem_withdrawn")
        return None

    def _seen(self, digest: bytes) -> bool:
        """Recognise an envelope of ours that came back with the flood."""
        path = self._embargo.seen(digest)
        if path is None:
            return False
        self._guards.succeeded(path.guard.descriptor.id, self._clock.now())
        letter = self._late.pop(digest, None)
        if letter:
            self._schedules[letter.index].withdraw([letter])
        return True

    def _again(self, letter: _Letter, now: float) -> None:
        try:
            self._schedules[letter.index].offer(letter, letter.expiry, now)
        except QueueFull:  # it comes back after another timeout
            self._metrics.count("stem_queue_full")
            return
        self._metrics.count("stem_resent")
        self._late[letter.hash] = letter
        self._changed.set()

    def _lose(self, letter: _Letter, reason: str) -> None:
        self._late.pop(letter.hash, None)
        self._metrics.count("stem_envelopes_lost", reason=reason)


def _enode(relay: Relay) -> Enode:
    return Enode(relay.descriptor.node_id, Address(relay.descriptor.host, relay.descriptor.port))
