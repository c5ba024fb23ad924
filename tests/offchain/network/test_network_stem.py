"""Stems on real nodes: what a relay, a guard or the clock can do to them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partial

import pytest
from dos_world import RULES
from stem_world import DOMAIN, Stems, among_stems

from quietfleet.errors import LinkError
from quietfleet.mixnet import OnionKeys, ReplayCache, build, coarse_expiry, draw_delays, sign_descriptor
from quietfleet.network import Relaying, Tuning
from quietfleet.network.peer import NOTHING
from quietfleet.network.stemwire import ASK_DESCRIPTORS, DESCRIPTORS, PACKET, packet, tell_descriptors
from quietfleet.testbed.memory_links import LoopClock


class LowOrder(OnionKeys):
    """A hostile relay's: its descriptors name a point with which no key can be agreed on."""

    def refresh(self, now):
        if self._held:
            return None
        where = (self._domain, self._host, self._port)
        descriptor = sign_descriptor(self._node_key, *where, bytes(32), int(now), int(now) + 3600)
        self._held = [(descriptor, None)]
        return descriptor


async def mesh(world: Stems, count, **how):
    """Start relays that are all connected with each other, and wait until all know all."""
    relays = []
    for _ in range(count):
        relays.append(await world.stem_relay(*relays, **how))
    await asyncio.sleep(5)
    return relays


async def heard(node, envelope, seconds=60):
    async with asyncio.timeout(seconds):
        while (await anext(node.inbox)).hash != envelope.hash:
            pass


def test_publish__by_a_worker__floods_from_an_exit_and_comes_back():
    async def scene(world):
        relays = await mesh(world, 4)
        worker = await world.stem_worker(*relays[:2])
        await asyncio.sleep(5)
        await worker.publish(envelope := world.envelope())
        await heard(relays[3], envelope)

    among_stems(scene)


def test_attack__registered_relay_with_an_onion_key_of_low_order__is_never_drawn_and_loses_nothing():
    async def scene(world):
        relays = await mesh(world, 4)
        await world.stem_relay(*relays, onion_keys=LowOrder)
        worker = await world.stem_worker(*relays[:2])
        await asyncio.sleep(120)
        assert worker.metrics.value("network_service_failures", service="Sending") == 0
        assert len(worker.book) == len(relays)

    among_stems(scene)


@pytest.mark.parametrize("lead", [-0.03, -0.01, 0.0, 0.01, 0.03])
def test_reach__both_sides_at_once__both_keep_the_same_link(lead):
    async def scene(world):
        world.memory.wire.latency = lambda: 0.02
        one, other = await world.stem_relay(), await world.stem_relay()

        async def later(seconds, reaching):
            await asyncio.sleep(max(0.0, seconds))
            return await reaching

        both = (later(-lead, one.reach(other.enode)), later(lead, other.reach(one.enode)))
        reached = await asyncio.gather(*both)
        await asyncio.sleep(1)
        assert (one.peers, other.peers) == (1, 1)
        assert [peer.node_id for peer in reached] == [other.node_id, one.node_id]

    among_stems(scene)


def test_reach__by_the_greater_first__does_not_delay_the_lessers_link_for_the_flood():
    async def scene(world):
        keys = sorted((world.key(), world.key()), key=lambda key: key.public.to_bytes())
        lesser, greater = [await world.stem_relay(key=key) for key in keys]
        await greater.reach(lesser.enode)
        lesser.keep_connected([greater.enode])
        await asyncio.sleep(0.1)
        envelope = world.envelope()
        lesser.flood.publish(envelope)
        await heard(greater, envelope, seconds=0.2)

    among_stems(scene)


def test_set_rules__link_for_packets_alone__does_not_become_one_for_envelopes():
    async def scene(world):
        one, other = await world.stem_relay(), await world.stem_relay()
        await one.reach(other.enode)
        one.set_rules(replace(RULES, min_pow=0.002))
        await asyncio.sleep(1)
        (seen,) = other.connected_peers
        assert seen.wanted.bloom == NOTHING

    among_stems(scene)


def test_reach__node_has_stopped__dials_nobody():
    async def scene(world):
        one, other = await world.stem_relay(), await world.stem_relay()
        await one.stop()
        with contextlib.suppress(LinkError):
            await one.reach(other.enode)
        await asyncio.sleep(1)
        assert other.peers == 0

    among_stems(scene)


def test_keep_connected__one_node_by_two_addresses__is_linked_once_and_stays():
    async def scene(world):
        relay = await world.stem_relay()
        node_id, accept = world.memory.doors[relay.enode.address]
        alias = replace(relay.enode, address=replace(relay.enode.address, host="alias"))
        world.memory.doors[alias.address] = (node_id, accept)
        worker = await world.worker(relay)
        worker.hold(alias)
        await asyncio.sleep(5)
        link = worker.peer(relay.node_id)
        await asyncio.sleep(600)
        assert worker.peer(relay.node_id) is link

    among_stems(scene)


def test_keep_connected__link_of_the_other_side_ends__dials_itself():
    async def scene(world):
        one = await world.stem_relay()
        other = await world.stem_relay(one)
        one.keep_connected([other.enode])
        await asyncio.sleep(60)
        other.keep_connected([])
        await asyncio.sleep(60)
        assert (one.peers, other.peers) == (1, 1)

    among_stems(scene)


def test_shed__stranger_whose_link_was_not_served_yet__is_closed():
    async def scene(world):
        relay = await world.relay(tuning=Tuning(max_inbound=1))
        stranger, registered = world.key(), world.key()
        world.register(registered)
        dials = (world.memory.links(key.public.to_bytes()).dial(relay.enode) for key in (stranger, registered))
        first, _ = await asyncio.gather(*dials)
        async with asyncio.timeout(60):
            with contextlib.suppress(LinkError):
                while True:
                    await first.receive()

    among_stems(scene)


def test_sweep__directory_fails_once__goes_on():
    async def scene(world):
        relay = await world.relay()
        await world.worker(relay)
        owner_of, world.owner_of = world.owner_of, lambda _: 1 / 0
        await asyncio.sleep(3)
        world.owner_of = owner_of
        relay.flood.take_in(world.envelope(ttl=5).encode(), None)
        await asyncio.sleep(20)
        assert len(relay.flood._pool) == 0

    among_stems(scene)


def test_guard__moves_to_another_address__is_followed_there():
    async def scene(world):
        relays = await mesh(world, 4)
        guard, entry = relays[0], relays[1]
        worker = await world.stem_worker(entry, guarded_by=guard)
        await asyncio.sleep(20)
        assert worker.peer(guard.node_id)
        await guard.stop()
        await asyncio.sleep(1)
        moved = await world.stem_relay(*relays[1:], key=guard.key, port=77)
        await asyncio.sleep(14)
        assert worker.peer(moved.node_id)
        assert len(worker.guards.entries) == 1

    among_stems(scene)


def test_attack__descriptors_of_nobody__do_not_make_a_relay_ask_all_its_peers_again_and_again():
    async def scene(world):
        relay, *others = await mesh(world, 3)
        asked = []
        world.memory.wire.tap = lambda _at, source, _to, message: (
            asked.append(message) if (source, message.code) == (relay.node_id, ASK_DESCRIPTORS) else None
        )
        stranger, key = await world.stranger(relay), world.key()
        now = int(world.clock.now())
        unknown = sign_descriptor(key, DOMAIN, "memory", 9, bytes(range(32)), now, now + 3600)
        await asyncio.sleep(60)
        asked.clear()
        for message in tell_descriptors([unknown]):
            assert message.code == DESCRIPTORS
            await stranger.link.send(message)
        await asyncio.sleep(59)
        stems = [message for message in asked if message.capability == "stem"]
        assert len(stems) <= 2 * (len(others) + 1)
        world.register(key)  # now the chain vouches for it
        asked.clear()
        await asyncio.sleep(4)
        assert [message for message in asked if message.capability == "stem"]

    among_stems(scene)


def test_attack__stranger_fills_the_memory_of_packets__relays_still_get_theirs_through():
    async def scene(world):
        relaying = partial(Relaying, replays=ReplayCache(1000))
        relay, *others = await mesh(world, 3, relaying=relaying, tuning=Tuning(max_inbound=4))
        path = [node.relaying._keys.current for node in (relay, *others)]

        def cover():
            delays = draw_delays(0.1, world.random)
            return packet(build(path, None, delays, coarse_expiry(world.clock.now()), 0, world.random.randbytes))

        stranger, honest = await world.stranger(relay), await world.stranger(relay, registered=True)
        await stranger.go_on(50, lambda: stranger.link.send(cover()))
        lost = relay.metrics.value("stem_packets_lost", reason="full")
        await honest.link.send(cover())
        await asyncio.sleep(1)
        assert relay.metrics.value("stem_packets_lost", reason="full") == lost == 0
        assert relay.metrics.value("stem_packets_lost", reason="crowded") > 0

    among_stems(scene)


def test_restart__with_the_clock_set_back__what_others_hold_of_the_relay_is_outdone():
    async def scene(world):
        relay, *others = await mesh(world, 3)
        right, world.clock = world.clock, LoopClock(1_900_000_060.0)
        await relay.stop()
        hasty = await world.stem_relay(*others, key=relay.key, port=1)
        await asyncio.sleep(5)
        await hasty.stop()
        world.clock = right
        again = await world.stem_relay(*others, key=relay.key, port=1)
        await asyncio.sleep(70)
        known = [node.book.find(again.key.public.address, right.now()).descriptor for node in others]
        assert known == [again.relaying._keys.current] * 2

    among_stems(scene)


def test_attack__registered_relay_names_somebody_elses_address__it_is_dialled_now_and_then_only():
    async def scene(world):
        relay, *others = await mesh(world, 3)
        gone = await world.stem_relay(*others)
        await asyncio.sleep(5)
        path = [node.relaying._keys.current for node in (relay, gone, others[0])]
        await gone.stop()
        dials, dial = [], relay._links.dial
        relay._links.dial = lambda enode: dials.append(enode) or dial(enode)
        sender = await world.stranger(relay)
        for _ in range(100):
            delays = draw_delays(0.1, world.random)
            content = build(path, None, delays, coarse_expiry(world.clock.now()), 0, world.random.randbytes)
            await sender.link.send(packet(content))
            await asyncio.sleep(0.1)
        assert 1 <= len(dials) <= 5

    among_stems(scene)


def test_guard__does_not_speak_of_stems__is_left_for_another():
    async def scene(world):
        relays = await mesh(world, 4)
        worker = await world.stem_worker(*relays, guarded_by=relays[0])
        await asyncio.sleep(10)
        said = []
        worker.peer(relays[0].node_id).stems = False
        worker.peer(relays[0].node_id).post = said.append
        await asyncio.sleep(60)
        assert worker.sending.guard != relays[0].key.public.id
        assert all(message.code != PACKET for message in said)

    among_stems(scene)


def test_restart__all_relays_at_once__envelopes_flood_again_by_the_same_guard():
    async def scene(world):
        relays = await mesh(world, 5)
        worker = await world.stem_worker(*relays[:2], guarded_by=relays[2])
        await asyncio.sleep(20)
        await asyncio.gather(*(relay.stop() for relay in relays))
        await asyncio.sleep(2)
        again = []
        for number, relay in enumerate(relays, 1):
            again.append(await world.stem_relay(*again, key=relay.key, port=number))
        await asyncio.sleep(10)
        await worker.publish(envelope := world.envelope())
        await heard(again[4], envelope)
        assert len(worker.guards.entries) == 1

    among_stems(scene)


def test_attack__guard_takes_packets_and_drops_them__another_serves_in_its_place():
    async def scene(world):
        relays = await mesh(world, 5)
        relays[0].relaying._release = lambda _: None
        worker = await world.stem_worker(*relays[1:3], guarded_by=relays[0])
        await asyncio.sleep(10)
        assert worker.sending.guard == relays[0].key.public.id
        async with asyncio.timeout(120):
            while worker.sending.guard == relays[0].key.public.id:
                await worker.publish(world.envelope())
                await asyncio.sleep(5)
        await asyncio.sleep(10)
        await worker.publish(envelope := world.envelope())
        await heard(relays[3], envelope)

    among_stems(scene)


def test_chain__takes_the_guard_back_and_lists_it_again__it_serves_again():
    async def scene(world):
        relays = await mesh(world, 5)
        worker = await world.stem_worker(*relays[1:3], guarded_by=relays[0])
        await asyncio.sleep(10)
        owner = world.registered.pop(relays[0].key.public.id)
        await asyncio.sleep(30)
        assert worker.sending.guard != relays[0].key.public.id
        world.registered[relays[0].key.public.id] = owner
        await asyncio.sleep(60)
        assert worker.sending.guard == relays[0].key.public.id
        await worker.publish(envelope := world.envelope())
        await heard(relays[3], envelope)

    among_stems(scene)
