"""The flood: every valid envelope, once, to every peer but the one it came from.

Only relays pass envelopes on. A leaf takes what it is sent and offers nothing to anyone, unless it has no other way to
send envelopes of its own than to flood them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from weakref import WeakSet

from quietfleet.clock import Clock
from quietfleet.crypto import keccak256
from quietfleet.errors import EnvelopeError, UnsendableError
from quietfleet.metrics import Metrics
from quietfleet.network.link import SHH, Message
from quietfleet.network.peer import Peer, ears_of
from quietfleet.network.quota import Bucket
from quietfleet.network.subscription import Subscription
from quietfleet.network.tuning import Tuning
from quietfleet.network.wire import BLOOM_FILTER, POW_REQUIREMENT, Status, encode_bloom, encode_pow
from quietfleet.whisper import (
    FULL_BLOOM,
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
_OFFERS = 20_000.0  # held envelopes a second that strangers who join are offered together: some percent of a core


class Flood:
    """The pool, the peers and the readers of one node; no I/O of its own.

    `relays` says whether others' envelopes are passed on; `ours` is told each hash that arrives and answers whether
    that envelope is one of our own coming back; `kept` gets every new envelope.
    """

    def __init__(
        self,
        rules: Rules,
        metrics: Metrics,
        clock: Clock,
        rng: random.Random,
        tuning: Tuning,
        *,
        relays: bool = True,
    ) -> None:
        self._rules, self._metrics, self._clock, self._rng, self._tuning = rules, metrics, clock, rng, tuning
        self._relays = relays
        self.ours: Callable[[bytes], bool] = lambda _: False
        self.kept: Callable[[Envelope], None] = lambda _: None
        self._pool = Pool(max_bytes=tuning.pool_bytes, max_count=tuning.pool_count)
        self._offers = Bucket(_OFFERS, tuning.pool_count)
        self._own: set[bytes] = set()  # what we flooded ourselves
        self._peers: list[Peer] = []
        self._readers: WeakSet[Subscription] = WeakSet()
        self._announced = self.status()

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Who is connected now."""
        return tuple(self._peers)

    @property
    def rules(self) -> Rules:
        """What envelopes are judged by."""
        return self._rules

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

    def join(self, peer: Peer, told: Status) -> None:
        """Add a peer and offer it what we have; `told` is what we greeted it with, which may be outdated by now."""
        self._peers.append(peer)
        if self.status() != told and not peer.quiet:
            _tell(peer, self.status())
        self.offer_all(peer)

    def leave(self, peer: Peer) -> None:
        if peer in self._peers:
            self._peers.remove(peer)

    def look_up(self, digest: bytes) -> Envelope | None:
        return self._pool.get(digest)

    def check(self, envelope: Envelope) -> None:
        """Raise UnsendableError if our own rules would drop an envelope of ours."""
        reason = judge(envelope, self._clock.now(), _whatever_topic(self._rules))
        if reason:
            raise UnsendableError(reason)

    def publish(self, envelope: Envelope) -> None:
        """Flood an envelope of our own; raise UnsendableError if our own rules would drop it."""
        known = envelope.hash in self._pool
        reason = DropReason.DUPLICATE if known else self._admit(envelope, _whatever_topic(self._rules))
        if reason is None:
            self._metrics.count("network_published")
            self._own.add(envelope.hash)
            self._spread(envelope, source=None)
        elif reason is not DropReason.DUPLICATE:
            raise UnsendableError(reason)

    def withdraw(self, hashes: Iterable[bytes]) -> None:
        """Offer these envelopes of our own to nobody any more, and take them from nobody as new."""
        self._forget([gone for digest in hashes if digest in self._own and (gone := self._pool.remove(digest))])

    def take_in(self, raw: bytes, source: Peer | None) -> DropReason | None:
        """Judge what a peer (or the end of a stem) brought and pass it on if it is new and good; else say why not."""
        reason = self._receive(raw, source)
        if reason is None:
            self._metrics.count("network_received")
        else:
            self._metrics.count("network_dropped", reason=reason)
        return reason

    def knows(self, digest: bytes) -> bool:
        """Tell whether an envelope with this hash was here, as far back as we remember."""
        return digest in self._pool

    def recover(self, envelope: Envelope) -> None:
        """Hand readers an envelope from an archive, whose time may be over: it is neither kept nor passed on."""
        self._pool.pass_over(envelope.hash)
        if not self.ours(envelope.hash):
            self._hand_out(envelope)

    @property
    def backlog(self) -> int:
        """How many envelopes wait for the slowest reader."""
        return max((reader.waiting for reader in self._readers), default=0)

    def offer_all(self, peer: Peer) -> None:
        """Offer a peer all that it wants and may lack, in random order; a leaf has only its own to offer.

        Strangers who come again and again get only what arrives while they are there.
        """
        waiting = [envelope for envelope in self._pool if self._relays or envelope.hash in self._own]
        if self._relays and not peer.registered and not self._offers.take(self._clock.now(), len(waiting)):
            self._metrics.count("network_offers_refused")
            return
        wanted = [envelope for envelope in waiting if peer.hears(ears_of(envelope.topic))]
        for envelope in self._rng.sample(wanted, len(wanted)):
            self._offer(peer, envelope, self._tuning.max_delay)

    def sweep(self) -> None:
        """Let go of what expired, and tell peers when a time of grace is over."""
        self._forget(self._pool.sweep(self._clock.now()))
        self._metrics.gauge("network_pool", len(self._pool))
        self._metrics.gauge("network_pool_bytes", self._pool.size)
        self._announce()

    def _receive(self, raw: bytes, source: Peer | None) -> DropReason | None:
        """Judge in order of cost: size, one hash, the decoding, the limits, the proof of work."""
        if len(raw) > self._max_size() + _OVERHEAD:
            return DropReason.OVERSIZE
        digest = keccak256(raw)
        if digest in self._pool:
            held = self._pool.get(digest)
            if source and self._relays and held:  # what is gone would never be forgotten again
                source.has(held.hash)
            return DropReason.DUPLICATE
        try:
            envelope = decode_envelope(raw, digest)
        except EnvelopeError:
            return DropReason.MALFORMED
        reason = self._admit(envelope, self._rules)
        if reason is None:
            if source and self._relays:
                source.has(digest)
            self._deliver(envelope)
            if self._relays:
                self._spread(envelope, source)
        return reason

    def _admit(self, envelope: Envelope, rules: Rules) -> DropReason | None:
        """Judge and keep."""
        now = self._clock.now()
        reason = judge(envelope, now, rules)
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
        self.kept(envelope)
        if not self.ours(envelope.hash):
            self._hand_out(envelope)

    def _hand_out(self, envelope: Envelope) -> None:
        for reader in self._readers:
            reader.put(envelope)

    def _spread(self, envelope: Envelope, source: Peer | None) -> None:
        ears = ears_of(envelope.topic)
        others = [peer for peer in self._peers if peer.hears(ears) and peer is not source]
        max_delay = 0.0 if not self._tuning.max_delay or self._is_urgent(envelope) else self._tuning.max_delay
        for peer in self._rng.sample(others, len(others)) if len(others) > 1 else others:
            self._offer(peer, envelope, max_delay)

    def _is_urgent(self, envelope: Envelope) -> bool:
        work = pow_at(envelope, self._clock.now())
        return urgency(work, envelope.ttl) >= self._tuning.urgent_from

    def _offer(self, peer: Peer, envelope: Envelope, max_delay: float) -> None:
        if peer.offer(envelope.hash, self._rng.uniform(0.0, max_delay) if max_delay else 0.0):
            self._metrics.count("network_outbox_overflow")

    def _forget(self, gone: tuple[Envelope, ...] | list[Envelope]) -> None:
        digests = [envelope.hash for envelope in gone]
        self._own.difference_update(digests)
        for peer in self._peers if digests else ():
            peer.forget(digests)

    def _max_size(self) -> int:
        previous = self._rules.previous
        return max(self._rules.max_size, previous.max_size if previous else 0)

    def _announce(self) -> None:
        status, before = self.status(), self._announced
        self._announced = status
        for peer in self._peers if status != before else ():
            if not peer.quiet:  # else it was told that we want nothing by this link, and that stays
                _tell(peer, status)


def _tell(peer: Peer, status: Status) -> None:
    peer.post(Message(SHH.name, POW_REQUIREMENT, encode_pow(status.min_pow)))
    peer.post(Message(SHH.name, BLOOM_FILTER, encode_bloom(status.bloom)))


def _whatever_topic(rules: Rules) -> Rules:
    """Return the rules for what we send: a light worker's bloom says what it wants to hear, not what it may say."""
    if rules.bloom == FULL_BLOOM:
        return rules
    return replace(rules, bloom=FULL_BLOOM, previous=_whatever_topic(rules.previous) if rules.previous else None)
