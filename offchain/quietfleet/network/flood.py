"""The flood: every valid envelope, once, to every peer but the one it came from.

One's own envelopes take the same path as everyone else's, so that a peer who watches when and in which order they
arrive sees no difference.
"""

from __future__ import annotations

import random
from weakref import WeakSet

from quietfleet.clock import Clock
from quietfleet.errors import EnvelopeError, UnsendableError
from quietfleet.metrics import Metrics
from quietfleet.network.peer import Peer
from quietfleet.network.subscription import Subscription
from quietfleet.network.tuning import Tuning
from quietfleet.network.wire import BLOOM_FILTER, POW_REQUIREMENT, Status, encode_bloom, encode_pow
from quietfleet.whisper import (
    Added,
    DropReason,
    Envelope,
    Pool,
    Rules,
    aggregate,
    decode_envelope,
    judge,
    pow_at,
    urgency,
)

_OVERHEAD = 64  # bytes: more than an envelope's RLP adds to its data


class Flood:
    """The pool, the peers and the readers of one node; no I/O of its own."""

    def __init__(self, rules: Rules, metrics: Metrics, clock: Clock, rng: random.Random, tuning: Tuning) -> None:
        self._rules, self._metrics, self._clock, self._rng, self._tuning = rules, metrics, clock, rng, tuning
        self._pool = Pool()
        self._peers: list[Peer] = []
        self._readers: WeakSet[Subscription] = WeakSet()
        self._announced = self.status()

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Who is connected now."""
        return tuple(self._peers)

    def status(self) -> Status:
        """Return what we let pass: in a time of grace, whatever the new rules or the old ones do."""
        rules, previous = self._rules, self._rules.previous
        if previous and self._clock.now() < rules.previous_until:
            return Status(min(rules.min_pow, previous.min_pow), aggregate((rules.bloom, previous.bloom)))
        return Status(rules.min_pow, rules.bloom)

    def set_rules(self, rules: Rules) -> None:
        self._rules = rules
        self._announce()

    def subscribe(self) -> Subscription:
        """Return a new reader, which gets what arrives from now on and ends when nobody holds it."""
        reader = Subscription(self._tuning.inbox, lambda: self._metrics.count("network_inbox_overflow"))
        self._readers.add(reader)
        return reader

    def unsubscribe_all(self) -> None:
        for reader in self._readers:
            reader.close()

    def join(self, peer: Peer) -> None:
        """Add a peer and offer it the whole pool."""
        self._peers.append(peer)
        self.offer_all(peer)

    def leave(self, peer: Peer) -> None:
        if peer in self._peers:
            self._peers.remove(peer)

    def look_up(self, digest: bytes) -> Envelope | None:
        return self._pool.get(digest)

    def publish(self, envelope: Envelope) -> None:
        """Send an envelope of our own; raise UnsendableError if our own rules would drop it."""
        reason = self._admit(envelope)
        if reason is None:
            self._metrics.count("network_published")
            self._spread(envelope, source=None)
        elif reason is not DropReason.DUPLICATE:
            raise UnsendableError(reason)

    def take_in(self, raw: bytes, source: Peer) -> DropReason | None:
        """Judge what a peer sent and pass it on if it is new and good; else count and return why not."""
        reason = self._receive(raw, source)
        if reason is None:
            self._metrics.count("network_received")
        else:
            self._metrics.count("network_dropped", reason=reason)
        return reason

    def offer_all(self, peer: Peer) -> None:
        """Offer a peer all that it may lack, in random order."""
        waiting = list(self._pool)
        for envelope in self._rng.sample(waiting, len(waiting)):
            self._offer(peer, envelope, self._tuning.max_delay)

    def sweep(self) -> None:
        """Let go of what expired, and tell peers when a time of grace is over."""
        self._forget(self._pool.sweep(self._clock.now()))
        self._metrics.gauge("network_pool", len(self._pool))
        self._announce()

    def _receive(self, raw: bytes, source: Peer) -> DropReason | None:
        if len(raw) > self._max_size() + _OVERHEAD:
            return DropReason.OVERSIZE
        try:
            envelope = decode_envelope(raw)
        except EnvelopeError:
            return DropReason.MALFORMED
        reason = self._admit(envelope)
        if self._pool.get(envelope.hash):
            source.has(envelope.hash)
        if reason is None:
            self._deliver(envelope)
            self._spread(envelope, source)
        return reason

    def _admit(self, envelope: Envelope) -> DropReason | None:
        """Judge and keep; a duplicate costs one hash and goes first, as most of what a flood brings is one."""
        if envelope.hash in self._pool:
            return DropReason.DUPLICATE
        now = self._clock.now()
        reason = judge(envelope, now, self._rules)
        if reason:
            return reason
        outcome = self._pool.add(envelope, pow_at(envelope, now), now)
        if isinstance(outcome, DropReason):
            return outcome
        self._evicted(outcome)
        return None

    def _evicted(self, added: Added) -> None:
        if added.evicted:
            self._metrics.count("network_evicted", len(added.evicted))
            self._forget(added.evicted)

    def _deliver(self, envelope: Envelope) -> None:
        for reader in self._readers:
            reader.put(envelope)

    def _spread(self, envelope: Envelope, source: Peer | None) -> None:
        others = [peer for peer in self._peers if peer is not source]
        max_delay = 0.0 if self._is_urgent(envelope) else self._tuning.max_delay
        for peer in self._rng.sample(others, len(others)):
            self._offer(peer, envelope, max_delay)

    def _is_urgent(self, envelope: Envelope) -> bool:
        work = pow_at(envelope, self._clock.now())
        return urgency(work, envelope.ttl) >= self._tuning.urgent_from

    def _offer(self, peer: Peer, envelope: Envelope, max_delay: float) -> None:
        if peer.offer(envelope.hash, self._rng.uniform(0.0, max_delay)):
            self._metrics.count("network_outbox_overflow")

    def _forget(self, gone: tuple[Envelope, ...] | list[Envelope]) -> None:
        digests = [envelope.hash for envelope in gone]
        for peer in self._peers if digests else ():
            peer.forget(digests)

    def _max_size(self) -> int:
        previous = self._rules.previous
        return max(self._rules.max_size, previous.max_size if previous else 0)

    def _announce(self) -> None:
        status, before = self.status(), self._announced
        self._announced = status
        for peer in self._peers if status != before else ():
            peer.notify(POW_REQUIREMENT, encode_pow(status.min_pow))
            peer.notify(BLOOM_FILTER, encode_bloom(status.bloom))
