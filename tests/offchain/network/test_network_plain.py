"""What a plain Whisper peer must never get from us, as it would hang up."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from dos_world import RULES, WORK, Stranger, in_virtual_time

from quietfleet.network.wire import MAX_MESSAGE, MESSAGES, STATUS, Status
from quietfleet.whisper import CLOCK_SKEW, FULL_BLOOM, Envelope, encode_bundle, mine, pow_at, pow_of

LARGE = replace(RULES, max_size=MAX_MESSAGE, bloom=FULL_BLOOM, min_pow=0.0)


async def plain_peer(world, node, min_pow=0.0):
    """Connect to a node without our own capability."""
    link = await world.memory.links(world.key().public.to_bytes(), ("shh",)).dial(node.enode)
    peer = Stranger(link)
    await peer.say(STATUS, Status(min_pow).encode())
    await peer.hear()
    return peer


def test_send__envelope_larger_than_a_message_may_be__goes_to_our_own_kind_alone():
    async def scene(world):
        relay = await world.relay(rules=LARGE)
        plain, own = await plain_peer(world, relay), await world.stranger(relay)
        large = Envelope(int(world.clock.now()) + 20, 20, b"tppc", bytes(LARGE.max_size), 1)
        small = world.envelope()
        relay.flood.take_in(large.encode(), None)
        assert await own.hear() == (MESSAGES, encode_bundle([large]))
        await asyncio.sleep(1)
        relay.flood.take_in(small.encode(), None)
        assert await plain.hear() == (MESSAGES, encode_bundle([small]))

    in_virtual_time(scene)


def test_send__just_enough_work__waits_until_a_clock_that_is_behind_counts_it_too():
    async def scene(world):
        relay = await world.relay(rules=replace(LARGE, min_pow=WORK))
        now = int(world.clock.now())
        envelope = mine(now + 20, 20, b"tppc", bytes(100), 10 * WORK)
        plain = await plain_peer(world, relay, pow_of(envelope))
        relay.flood.take_in(envelope.encode(), None)
        assert await plain.hear() == (MESSAGES, encode_bundle([envelope]))
        assert pow_at(envelope, world.clock.now() - CLOCK_SKEW / 2) >= pow_of(envelope)
        assert world.clock.now() < now + CLOCK_SKEW

    in_virtual_time(scene)


def test_send__more_than_enough_work__goes_at_once():
    async def scene(world):
        relay = await world.relay(rules=replace(LARGE, min_pow=WORK))
        now = int(world.clock.now())
        envelope = mine(now + 20, 20, b"tppc", bytes(100), 10 * WORK)
        plain = await plain_peer(world, relay, pow_of(envelope) / 2)
        relay.flood.take_in(envelope.encode(), None)
        async with asyncio.timeout(1):
            assert await plain.hear() == (MESSAGES, encode_bundle([envelope]))

    in_virtual_time(scene)
