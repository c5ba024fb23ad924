"""Who is offered what, in which order and after how long; recorded by stand-ins for peers."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from node_kit import MIN_POW
from rlp.codec import length_prefix

from quietfleet.metrics import Metrics
from quietfleet.network import Tuning
from quietfleet.network.flood import Flood
from quietfleet.network.peer import Peer
from quietfleet.network.wire import MESSAGES, Status
from quietfleet.whisper import encode_bundle, topic_bloom

TUNING = Tuning(max_delay=0.04)


class Recorder:
    """A peer that writes down what it is offered, in a log shared by all."""

    registered = True

    def __init__(self, name, log):
        self.name, self._log = name, log
        self.held = set()

    def hears(self, _ears):
        return True

    def offer(self, digest, delay):
        self._log.append((self.name, digest, delay))
        return False

    def has(self, digest):
        self.held.add(digest)

    def forget(self, digests):
        self.held.difference_update(digests)


class Mouth:
    """A link that only takes messages."""

    capabilities = frozenset({"shh", "stem"})

    def __init__(self):
        self.said = asyncio.Queue()

    async def send(self, message):
        self.said.put_nowait((message.code, message.payload))


@pytest.fixture
def make_flood(rules, clock):
    """Return a factory of floods with recording peers a to f; yields the flood, its peers and their log."""

    def make(seed=1, tuning=TUNING, names="abcdef"):
        flood, log = Flood(rules, Metrics(), clock, random.Random(seed), tuning), []
        peers = [Recorder(name, log) for name in names]
        for peer in peers:
            flood.join(peer, flood.status())
        return flood, peers, log

    return make


def test_publish__same_seed__same_order_and_delays(make_flood, make_envelope):
    envelope, logs = make_envelope(), []
    for _ in range(2):
        flood, _, log = make_flood(seed=7)
        flood.publish(envelope)
        logs.append(log)
    assert logs[0] == logs[1]


def test_publish__many_seeds__every_peer_comes_first_sometimes(make_flood, make_envelope):
    envelope, firsts = make_envelope(), set()
    for seed in range(60):
        flood, _, log = make_flood(seed=seed)
        flood.publish(envelope)
        firsts.add(log[0][0])
        assert sorted(name for name, _, _ in log) == list("abcdef")
        assert all(0 <= delay <= TUNING.max_delay for _, _, delay in log)
        assert len({delay for _, _, delay in log}) == 6
    assert firsts == set("abcdef")


def test_take_in__from_a_peer__goes_to_all_but_it(make_flood, make_envelope):
    flood, peers, log = make_flood()
    envelope = make_envelope()
    assert flood.take_in(envelope.encode(), peers[2]) is None
    assert sorted(name for name, _, _ in log) == list("abdef")
    assert peers[2].held == {envelope.hash}


def test_publish__compared_with_passing_on__looks_the_same(make_flood, make_envelope):
    """Six peers see an own envelope; six see one from a seventh: same order, same delays, for the same seed."""
    envelope = make_envelope()
    own, _, own_log = make_flood(seed=3)
    own.publish(envelope)
    passing, _, passing_log = make_flood(seed=3)
    passing.take_in(envelope.encode(), Recorder("outside", []))
    assert own_log == passing_log


def test_publish__as_much_work_as_seconds_to_live__goes_at_once(make_flood, make_envelope):
    flood, _, log = make_flood()
    flood.publish(make_envelope(ttl=3, work=3.0))
    assert {delay for _, _, delay in log} == {0.0}


class CountingRandom(random.Random):
    """Counts what is drawn: each draw of the real generator is a call to the system."""

    draws = 0

    def random(self):
        self.draws += 1
        return super().random()

    def getrandbits(self, bits):
        self.draws += 1
        return super().getrandbits(bits)


async def test_publish__a_thousand_light_peers__costs_draws_and_waits_for_those_who_listen_alone(
    rules, clock, make_envelope
):
    """A fleet's workers are light: what one is told must not cost a relay as much for each of the others."""
    envelope, rng = make_envelope(), CountingRandom(1)
    flood = Flood(rules, Metrics(), clock, rng, TUNING)
    ears = topic_bloom(envelope.topic)
    deaf = bytes(64 - 1) + b"\x80"
    peers = [Peer(Mouth(), TUNING) for _ in range(1_000)]
    for number, peer in enumerate(peers):
        peer.wanted = Status(0.0, ears if number in {3, 500} else deaf)
        flood.join(peer, flood.status())
    rng.draws = 0
    flood.publish(envelope)
    assert [number for number, peer in enumerate(peers) if peer.waiting] == [3, 500]
    assert rng.draws < 20
    newcomer = Peer(Mouth(), TUNING, registered=True)
    newcomer.wanted = Status(0.0, deaf)
    rng.draws = 0
    flood.join(newcomer, flood.status())
    assert (newcomer.waiting, rng.draws) == (0, 0)
    newcomer.wanted = Status(0.0, ears)  # as when its card changes: it is offered what it did not want before
    flood.offer_all(newcomer)
    assert newcomer.waiting == 1


def test_publish__less_work__waits_a_little(make_flood, make_envelope):
    flood, _, log = make_flood()
    flood.publish(make_envelope(ttl=60, work=MIN_POW))
    assert all(delay > 0 for _, _, delay in log)


def test_take_in__known_already__is_not_passed_on_again(make_flood, make_envelope):
    flood, peers, log = make_flood()
    envelope = make_envelope()
    flood.take_in(envelope.encode(), peers[0])
    log.clear()
    assert flood.take_in(envelope.encode(), peers[1]) == "duplicate"
    assert log == []
    assert peers[1].held == {envelope.hash}


def test_join__pool_filled__offers_it_all(make_flood, make_envelope):
    flood, _, log = make_flood()
    envelopes = [make_envelope() for _ in range(5)]
    for envelope in envelopes:
        flood.publish(envelope)
    log.clear()
    flood.join(Recorder("late", log), flood.status())
    assert {digest for _, digest, _ in log} == {envelope.hash for envelope in envelopes}
    assert {name for name, _, _ in log} == {"late"}


def test_sweep__envelope_expired__peers_are_forgotten_to_have_it(make_flood, make_envelope, clock):
    flood, peers, _ = make_flood()
    envelope = make_envelope(ttl=10)
    flood.take_in(envelope.encode(), peers[0])
    clock.advance(11)
    flood.sweep()
    assert peers[0].held == set()
    assert flood.look_up(envelope.hash) is None


async def test_publish__outbox_full__drops_the_oldest_and_counts(rules, clock, make_envelope):
    metrics = Metrics()
    flood = Flood(rules, metrics, clock, random.Random(1), replace(TUNING, max_delay=0.0))
    flood.join(Peer(Mouth(), replace(TUNING, outbox=3)), flood.status())
    for _ in range(5):
        flood.publish(make_envelope())
    assert metrics.value("network_outbox_overflow") == 2


def test_take_in__larger_than_any_envelope__is_dropped_unread(make_flood):
    flood, peers, _ = make_flood()
    assert flood.take_in(length_prefix(5000, 0xC0) + b"\xff" * 5000, peers[0]) == "oversize"
    assert flood.take_in(length_prefix(3000, 0xC0) + b"\xff" * 3000, peers[0]) == "malformed"


async def test_write__peer_got_it_from_elsewhere_meanwhile__is_not_sent_it(make_envelope):
    known, twice, last = (make_envelope() for _ in range(3))
    peer = Peer(Mouth(), TUNING)
    for envelope in (known, twice, twice, last):
        peer.offer(envelope.hash, 0.0)
    peer.has(known.hash)
    held = {each.hash: each for each in (known, twice, last)}
    writing = asyncio.create_task(peer.write(held.get, lambda _: None, lambda: 0.0))
    assert await peer.link.said.get() == (MESSAGES, encode_bundle([twice, last]))
    writing.cancel()
