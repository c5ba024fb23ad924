"""Envelopes that are withdrawn while they wait in our own node: none leaves, and whoever watches sees what he saw."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from dos_world import RULES, in_virtual_time
from stem_world import among_stems
from test_network_stem import heard, mesh

from quietfleet.network import Tuning
from quietfleet.network.stemwire import PACKET
from quietfleet.whisper import draw_bloom

WAITING = 12
LIGHT = replace(RULES, bloom=draw_bloom(b"of nobody", 64))
"""The rules of a worker that does not watch for its own envelopes."""


async def sender(world, relays, **how):
    worker = await world.stem_worker(*relays[:2], **how)
    await asyncio.sleep(5)
    return worker


def expiries(envelopes):
    return {envelope.hash: envelope.expiry for envelope in envelopes}


async def left(worker):
    """Wait until a packet with an envelope in it was handed to the link."""
    async with asyncio.timeout(10):
        while not worker.metrics.value("stem_sent"):  # noqa: ASYNC110 -- the loop's time is virtual
            await asyncio.sleep(0.01)


def flooded(relay, envelopes):
    """Which of them a relay has had."""
    return [envelope for envelope in envelopes if relay.flood.knows(envelope.hash)]


def watched_link(*, withdrawing):
    """Return when packets left a worker, and how large they were; and how many of what waited was flooded."""
    seen = {}

    async def scene(world):
        relays = await mesh(world, 4)
        worker = await sender(world, relays)
        worker.flood.set_rules(LIGHT)
        packets = []

        def tap(at, source, _to, message):
            if source == worker.node_id and (message.capability, message.code) == ("stem", PACKET):
                packets.append((at, len(message.payload)))

        world.memory.wire.tap = tap
        envelopes = [world.envelope(size=size) for size in (100, 100, 100, 900) * (WAITING // 4)]
        for envelope in envelopes:
            await worker.publish(envelope)
        if withdrawing:
            worker.withdraw(expiries(envelopes))
        await asyncio.sleep(60)
        seen["packets"], seen["flooded"] = packets, len(flooded(relays[3], envelopes))

    among_stems(scene)
    return seen


def test_withdrawn__waits_for_its_packet__never_leaves():
    async def scene(world):
        relays = await mesh(world, 4)
        worker = await sender(world, relays)
        envelopes = [world.envelope() for _ in range(WAITING)]
        for envelope in envelopes:
            await worker.publish(envelope)
        gone, kept = envelopes[::2], envelopes[1::2]
        worker.withdraw(expiries(gone))
        await asyncio.sleep(60)
        assert flooded(relays[3], gone) == []
        assert flooded(relays[3], kept) == kept
        assert worker.metrics.value("stem_withdrawn") == len(gone)

    among_stems(scene)


def test_attack__owner_switches_off_as_messages_wait__link_to_the_guard_shows_the_same_packets_at_the_same_times():
    usual, switched_off = watched_link(withdrawing=False), watched_link(withdrawing=True)
    assert usual["flooded"] == WAITING
    assert switched_off["flooded"] == 0
    assert len(usual["packets"]) > WAITING
    assert switched_off["packets"] == usual["packets"]


def test_withdrawn__left_in_vain_before__is_not_sent_again_nor_held_against_a_guard():
    async def scene(world):
        relays = await mesh(world, 4)
        worker = await sender(world, relays)
        for relay in relays:  # whatever reaches an exit is lost there
            relay.relaying._release = lambda _: None
        await worker.publish(envelope := world.envelope(ttl=60))
        await left(worker)
        worker.withdraw(expiries([envelope]))
        await asyncio.sleep(30)
        assert worker.metrics.value("stem_sent") == 1
        assert worker.metrics.value("stem_envelopes_lost", reason="exhausted") == 0
        assert worker.metrics.value("stem_unseen") == 0

    among_stems(scene)


def test_withdrawn__in_a_packet_that_waits_for_a_slow_guard__cover_of_its_size_goes_instead():
    async def scene(world):
        relays = await mesh(world, 4)
        worker = await sender(world, relays)
        (link,) = (one.link for one in worker.connected_peers if one.node_id == guard_of(worker))
        gate = Gate(link)
        await gate.held.wait()
        await worker.publish(envelope := world.envelope())
        await left(worker)
        worker.withdraw(expiries([envelope]))
        gate.open()
        await asyncio.sleep(60)
        assert flooded(relays[3], [envelope]) == []
        assert len({len(message.payload) for message in gate.passed if message.code == PACKET}) <= 2
        assert worker.metrics.value("stem_withdrawn") == 1

    among_stems(scene)


def test_withdraw__left_and_came_back__changes_nothing():
    async def scene(world):
        relays = await mesh(world, 4)
        worker = await sender(world, relays)
        await worker.publish(envelope := world.envelope())
        await heard(relays[3], envelope)
        await asyncio.sleep(5)
        worker.withdraw(expiries([envelope]))
        await worker.publish(other := world.envelope())
        await heard(relays[3], other)
        assert worker.metrics.value("stem_withdrawn") == 0
        await asyncio.sleep(60)
        assert worker.sending._withdrawn == {}

    among_stems(scene)


@pytest.mark.parametrize("withdrawing", [True, False])
def test_withdrawn__flooded_by_ourselves_and_no_peer_there_yet__is_offered_to_nobody(withdrawing):
    async def scene(world):
        worker = await world.worker()
        await worker.publish(envelope := world.envelope())
        if withdrawing:
            worker.withdraw(expiries([envelope]))
        relay = await world.relay()
        worker.keep_connected([relay.enode])
        await asyncio.sleep(5)
        assert flooded(relay, [envelope]) == ([] if withdrawing else [envelope])

    in_virtual_time(scene)


def test_withdrawn__flooded_by_ourselves_and_not_due_yet__is_sent_to_nobody():
    async def scene(world):
        relay = await world.relay()
        worker = world._bare(world.key(), None, [relay], RULES, Tuning(max_delay=2.0))
        await world._up(worker, [relay])
        envelopes = [world.envelope(ttl=60) for _ in range(WAITING)]
        for envelope in envelopes:
            await worker.publish(envelope)
        worker.withdraw(expiries(envelopes))
        await asyncio.sleep(10)
        assert flooded(relay, envelopes) == []

    in_virtual_time(scene)


def guard_of(worker):
    guard = worker.sending._guard
    return guard.descriptor.node_id


class Gate:
    """Holds up what is sent over a link until it is opened."""

    def __init__(self, link):
        self._send, self._opened, self.passed = link.send, asyncio.Event(), []
        self.held = asyncio.Event()
        link.send = self.send

    async def send(self, message):
        self.held.set()
        await self._opened.wait()
        self.passed.append(message)
        await self._send(message)

    def open(self):
        self._opened.set()
