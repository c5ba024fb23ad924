"""Floods, junk, greed and silence: what each costs the network; in virtual time where there is no real link."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from dos_world import RULES, TTL, in_virtual_time

from quietfleet.crypto import PrivateKey
from quietfleet.errors import LinkError
from quietfleet.mixnet import PACKET_SIZES, OnionKeys, RelayBook
from quietfleet.network import Address, Enode, Message, Relaying, RlpxLinks, Tuning
from quietfleet.network.admission import Admission
from quietfleet.network.holding import Holding
from quietfleet.network.peer import Peer
from quietfleet.network.quota import Bucket, Fading
from quietfleet.network.shedding import HARMFUL, worst
from quietfleet.network.stemwire import ASK_DESCRIPTORS, PACKET
from quietfleet.network.wire import MESSAGES
from quietfleet.whisper import DropReason, pow_of, urgency

SECONDS = 10
GETH = 200  # envelopes a second that geth's miner finds at the network's default requirement
TUNING = Tuning()
LONGEST = SECONDS + 6  # four seconds' worth that was saved up, and two to come to rest
QUOTA = TUNING.new_rate * LONGEST
PACE = TUNING.pace * LONGEST


def dropped(node):
    """Return a node's drops by reason."""
    return Counter(
        {reason: int(n) for reason in DropReason if (n := node.metrics.value("network_dropped", reason=reason))}
    )


async def speak(world, worker, seconds):
    """Have a worker send a message a second; return them."""
    sent = []
    for _ in range(seconds):
        sent.append(world.envelope())
        await worker.publish(sent[-1])
        await asyncio.sleep(1)
    return sent


def arrived(node):
    """Return the hashes that reached a node's reader."""
    return {envelope.hash for envelope in node.inbox._queue}


@pytest.mark.parametrize("attackers", [1, 3])
def test_flood__valid_work_at_geths_speed__is_held_to_the_quota_and_honest_messages_pass(attackers):
    async def scene(world):
        first = await world.relay()
        second = await world.relay(first)
        speaker, listener = await world.worker(first), await world.worker(second)
        strangers = [await world.stranger(first) for _ in range(attackers)]

        async def act(stranger):
            await stranger.offer(*(world.envelope() for _ in range(10)))
            await asyncio.sleep(10 / GETH)

        floods = [asyncio.create_task(each.go_on(SECONDS, lambda each=each: act(each))) for each in strangers]
        sent = await speak(world, speaker, SECONDS)
        await asyncio.gather(*floods)
        await asyncio.sleep(1)
        assert {envelope.hash for envelope in sent} <= arrived(listener)
        assert 0 < second.metrics.value("network_received") - len(sent) <= attackers * QUOTA
        assert set(dropped(first)) <= {DropReason.EXPIRED}  # while it waited to be read
        assert first.metrics.value("network_throttled") > 0
        assert first.peers == 2 + attackers

    in_virtual_time(scene)


SPOILED = {
    DropReason.EXPIRED: {"early": -TTL - 5},
    DropReason.FROM_FUTURE: {"early": 60},
    DropReason.OVERSIZE: {"size": RULES.max_size + 1},
    DropReason.TTL_TOO_LONG: {"ttl": RULES.max_ttl + 1},
    DropReason.BLOOM_MISMATCH: {"inside": False},
    DropReason.LOW_POW: {"worked": False},
}


@pytest.mark.parametrize("reason", SPOILED)
def test_flood__of_what_breaks_a_rule__dropped_by_reason_slowed_down_and_not_expelled(reason):
    async def scene(world):
        first = await world.relay()
        second = await world.relay(first)
        speaker = await world.worker(first)
        stranger = await world.stranger(first)

        async def act():
            await stranger.offer(*(world.envelope(**SPOILED[reason]) for _ in range(10)))

        flood = asyncio.create_task(stranger.go_on(SECONDS, act))
        sent = await speak(world, speaker, SECONDS)
        await flood
        await asyncio.sleep(1)
        assert arrived(second) == {envelope.hash for envelope in sent}
        drops = dropped(first)
        assert set(drops) == {reason}
        assert drops.total() <= PACE / 10 + 1
        assert first.metrics.value("network_throttled") > 0
        assert first.peers == 3

    in_virtual_time(scene)


def test_flood__of_replays__slowed_down_and_kept_in_mind_only_as_long_as_they_are_carried():
    async def scene(world):
        relay = await world.relay()
        stranger = await world.stranger(relay)
        envelopes = [world.envelope() for _ in range(50)]
        sent = await stranger.go_on(TTL + SECONDS, lambda: stranger.offer(*envelopes))
        assert sent * 50 <= TUNING.pace * (TTL + LONGEST) + 256 * 50  # as many as the link itself holds
        assert set(dropped(relay)) == {DropReason.DUPLICATE}
        assert relay.metrics.value("network_received") == 50
        (peer,) = relay.connected_peers
        assert not peer._known
        assert len(arrived(relay)) == 50

    in_virtual_time(scene)


def test_hear__malformed_again_and_again__expelled():
    async def scene(world):
        relay = await world.relay()
        stranger, other = await world.stranger(relay), await world.stranger(relay)
        said = await stranger.go_on(SECONDS, lambda: stranger.say(MESSAGES, b"\xc5nothing like it"))
        assert 8 < said < 300
        assert relay.metrics.value("network_links", event="expelled") == 1
        await other.offer(envelope := world.envelope())
        await asyncio.sleep(0)
        assert (await anext(relay.inbox)).hash == envelope.hash

    in_virtual_time(scene)


def test_hear__message_larger_than_all_it_saved__read_on_once_it_is_paid():
    async def scene(world):
        relay = await world.relay()
        stranger = await world.stranger(relay)
        await stranger.say(99, bytes(12 << 20))
        await stranger.offer(envelope := world.envelope(ttl=60))
        assert (await anext(relay.inbox)).hash == envelope.hash
        now = asyncio.get_running_loop().time()
        assert now == pytest.approx((12 * 1024 + 1 - 4 * TUNING.pace) / TUNING.pace, abs=1)

    in_virtual_time(scene)


def test_forward__registered_relay_brings_thousands_at_once__never_slowed_nor_refused():
    async def scene(world):
        relay = await world.relay()
        honest = await world.stranger(relay, registered=True)
        envelopes = [world.envelope(size=RULES.max_size) for _ in range(3000)]
        stale = [world.envelope(early=-TTL - 1) for _ in range(3000)]  # as those that expire under way
        for at in range(0, 3000, 100):
            await honest.offer(*envelopes[at : at + 100], *stale[at : at + 100])
        await asyncio.sleep(0.5)
        assert relay.metrics.value("network_received") == 3000
        assert relay.metrics.value("network_throttled") == 0
        assert dropped(relay) == {DropReason.EXPIRED: 3000}

    in_virtual_time(scene)


def test_forward__relay_that_the_chain_no_longer_vouches_for__is_metered_from_then_on():
    async def scene(world):
        relay = await world.relay()
        key = world.key()
        stranger = await world.stranger(relay, registered=True, key=key)
        del world.registered[key.public.id]
        await asyncio.sleep(2 * TUNING.sweep_every)
        await stranger.offer(*(world.envelope() for _ in range(1000)))
        await asyncio.sleep(0.1)
        assert relay.metrics.value("network_received") <= 5 * TUNING.new_rate
        assert relay.metrics.value("network_throttled") > 0

    in_virtual_time(scene)


def test_offer__more_at_once_than_the_quota__comes_late_and_none_is_lost():
    async def scene(world):
        relay = await world.relay()
        bridge = await world.stranger(relay)
        envelopes = [world.envelope(ttl=60) for _ in range(400)]
        await bridge.offer(*envelopes)
        await asyncio.sleep(5)
        assert relay.metrics.value("network_received") <= 9 * TUNING.new_rate + 1
        await asyncio.sleep(15)
        assert arrived(relay) == {envelope.hash for envelope in envelopes}
        assert not dropped(relay)

    in_virtual_time(scene)


def test_write__one_peer_never_reads__costs_a_bounded_outbox_and_others_get_everything():
    async def scene(world):
        relay = await world.relay(tuning=Tuning(outbox=100))
        deaf, prompt = await world.stranger(relay), await world.worker(relay)
        envelopes = [world.envelope() for _ in range(1500)]
        for envelope in envelopes:
            await relay.publish(envelope)
            await asyncio.sleep(0.005)
        await asyncio.sleep(1)
        assert arrived(prompt) == {envelope.hash for envelope in envelopes}
        (slow,) = [peer for peer in relay.connected_peers if peer.node_id == deaf.link._layer.node_id]
        assert len(slow._outbox._heap) == 100
        assert relay.metrics.value("network_outbox_overflow") > 0

    in_virtual_time(scene)


def full_of_strangers(world):
    return world.relay(tuning=Tuning(max_inbound=4))


async def is_open(stranger):
    """Tell whether a node still reads us."""
    try:
        await stranger.say(99, b"")
    except LinkError:
        return False
    return True


def test_welcome__places_full_of_strangers__registered_relay_gets_in_and_the_worst_goes():
    async def scene(world):
        relay = await full_of_strangers(world)
        strangers = [await world.stranger(relay) for _ in range(4)]
        await strangers[1].offer(*(world.envelope(early=-TTL - 5) for _ in range(50)))
        await asyncio.sleep(0.1)
        await world.relay(relay)
        await asyncio.sleep(0.1)
        assert [await is_open(stranger) for stranger in strangers] == [True, False, True, True]
        assert relay.metrics.value("network_links", event="shed") == 1
        assert relay.peers == 4

    in_virtual_time(scene)


def test_welcome__places_full_of_harmless_strangers__another_one_does_not_displace_whoever_worked_longest():
    async def scene(world):
        relay = await full_of_strangers(world)
        busy = await world.stranger(relay)
        rest = [await world.stranger(relay) for _ in range(3)]
        for _ in range(100):
            await busy.offer(world.envelope())
            await asyncio.sleep(0.5)
        for _ in range(10):
            with pytest.raises(LinkError):
                await world.stranger(relay)
        assert all([await is_open(stranger) for stranger in (busy, *rest)])
        assert relay.metrics.value("network_links", event="refused") == 10

    in_virtual_time(scene)


def test_welcome__places_full_and_one_does_harm__a_stranger_takes_its_place():
    async def scene(world):
        relay = await full_of_strangers(world)
        strangers = [await world.stranger(relay) for _ in range(4)]
        await strangers[2].offer(*(world.envelope(early=-TTL - 5) for _ in range(50)))
        await asyncio.sleep(0.1)
        assert await is_open(await world.stranger(relay))
        await asyncio.sleep(0.1)
        assert [await is_open(stranger) for stranger in strangers] == [True, True, False, True]

    in_virtual_time(scene)


def test_join__one_key_again_and_again__only_the_newest_link_stays():
    async def scene(world):
        relay = await full_of_strangers(world)
        key = world.key()
        links = [await world.stranger(relay, registered=True, key=key) for _ in range(6)]
        await asyncio.sleep(0.1)
        assert [await is_open(link) for link in links] == [False] * 5 + [True]
        assert relay.peers == 1

    in_virtual_time(scene)


def test_join__strangers_come_again_and_again__are_not_each_offered_all_that_is_held():
    async def scene(world):
        relay = await world.relay(tuning=Tuning(pool_count=100))
        for _ in range(60):
            await relay.publish(world.envelope())
        for _ in range(5):
            await world.stranger(relay)
        assert [len(peer._outbox._heap) for peer in relay.connected_peers] == [60, 0, 0, 0, 0]
        assert relay.metrics.value("network_offers_refused") == 4
        await world.stranger(relay, registered=True)
        assert len(relay.connected_peers[-1]._outbox._heap) == 60
        await asyncio.sleep(1)
        await world.stranger(relay)
        assert len(relay.connected_peers[-1]._outbox._heap) == 60

    in_virtual_time(scene)


class Caller:
    """A link as far as shedding looks at it."""

    inbound, capabilities = True, frozenset({"shh"})

    def __init__(self, host):
        self.peer, self.remote = b"", Address(host, 1)


def inbound(hosts):
    return [Peer(Caller(host), TUNING) for host in hosts]


def test_worst__one_address_has_most_places__its_newest_goes_for_another_address():
    peers = inbound("abbbac")
    assert worst(peers, *inbound("d"), 0.0) is peers[3]


def test_worst__newcomers_address_has_as_many__nobody_goes():
    assert worst(inbound("abbac"), *inbound("b"), 0.0) is None
    assert worst(inbound("abbacc"), *inbound("a"), 0.0) is None


def test_worst__harm_long_ago__is_forgotten():
    peers = inbound("abc")
    peers[0].harm.add(0.0, 2 * HARMFUL)
    assert worst(peers, *inbound("d"), 0.0) is peers[0]
    assert worst(peers, *inbound("d"), 61.0) is None


def test_worst__all_are_registered__nobody_goes_for_anyone():
    peers, newcomer = inbound("aaa"), Peer(Caller("b"), TUNING, registered=True)
    for peer in peers:
        peer.registered = True
    assert worst(peers, newcomer, 0.0) is None


def test_pool__full__least_urgent_leave_first_and_less_urgent_ones_do_not_come_in():
    async def scene(world):
        relay = await world.relay(tuning=Tuning(pool_count=100, new_rate=1e6))
        stranger = await world.stranger(relay, registered=True)
        envelopes = [world.envelope(ttl=ttl) for ttl in (10, 20, 40) for _ in range(60)]
        world.random.shuffle(envelopes)
        await stranger.offer(*envelopes)
        await asyncio.sleep(0.5)
        ranked = sorted(envelopes, key=lambda each: urgency(pow_of(each), each.ttl), reverse=True)
        kept = {envelope.hash for envelope in relay.flood._pool}
        assert kept == {envelope.hash for envelope in ranked[:100]}
        refused = dropped(relay)[DropReason.POOL_FULL]
        assert refused + relay.metrics.value("network_evicted") == 80

    in_virtual_time(scene)


async def onion_relay(world):
    relay, key = await world.relay(), world.key()
    keys = OnionKeys(key, bytes(32), "memory", 1)
    keys.refresh(world.clock.now())
    service = Relaying(relay, RelayBook(bytes(32), world.owner_of), relay.metrics, world.clock, keys)
    relay.add(service)
    return relay


def test_packets__that_open_for_nobody__cost_their_sender_its_pace():
    async def scene(world):
        relay = await onion_relay(world)
        stranger = await world.stranger(relay)
        noise = world.random.randbytes(PACKET_SIZES[0])
        await stranger.go_on(SECONDS, lambda: stranger.link.send(Message("stem", PACKET, noise)))
        lost = {reason: relay.metrics.value("stem_packets_lost", reason=reason) for reason in ("sealed", "over_quota")}
        assert 0 < lost["sealed"] <= TUNING.packet_rate * LONGEST
        assert 12 * lost["sealed"] + 2 * lost["over_quota"] <= PACE
        assert relay.peers == 1

    in_virtual_time(scene)


def test_ask__for_descriptors_all_the_time__is_answered_now_and_then():
    async def scene(world):
        relay = await onion_relay(world)
        stranger = await world.stranger(relay)
        told = world.memory.wire.carried
        asked = await stranger.go_on(SECONDS, lambda: stranger.link.send(Message("stem", ASK_DESCRIPTORS, b"\xc0")))
        answers = asked - relay.metrics.value("stem_asked_too_often")
        assert answers <= 256 + SECONDS / 2 + 1  # what is on its way, and one in two seconds
        assert world.memory.wire.carried - told < 2 * asked * 57 + 600 * (SECONDS / 2 + 2)

    in_virtual_time(scene)


class Guest:
    """A connection that was not ended."""

    error = None

    def fail(self, error):
        self.error = error


def test_admission__one_address_comes_again_and_again__is_let_in_ever_more_rarely():
    admission, place, other = Admission(64, 16, exempt_loopback=True), Address("192.0.2.1", 1), Address("192.0.2.2", 1)

    def visits(count, now):
        let_in = 0
        for _ in range(count):
            guest = Guest()
            if admission.enter(guest, place, now):
                admission.leave(guest, place)
                let_in += 1
        return let_in

    assert visits(100, 0.0) == 32
    assert visits(100, 2.0) == 2
    assert admission.enter(Guest(), other, 2.0)


def test_admission__thousands_of_addresses_in_a_second__handshakes_stay_within_a_tenth_of_a_core():
    admission = Admission(64, 16, exempt_loopback=True)
    assert sum(admission.has_time(number / 5000) for number in range(5000)) <= 400 + 200
    for number in range(5000):
        admission.enter(Guest(), Address(f"10.0.{number >> 8}.{number & 255}", 1), 0.0)
    assert len(admission._visits) == 4096
    assert admission.pending == 64


async def test_receive__one_message_at_a_time_held_large__next_one_still_comes():
    """A message larger than all that is read ahead stops the reading; taking the next must start it again."""
    arrived = asyncio.Queue()
    listener = await (ours := RlpxLinks(PrivateKey.generate())).listen(Address("127.0.0.1", 0), arrived.put_nowait)
    link = await RlpxLinks(PrivateKey.generate()).dial(Enode(ours.node_id, listener.address))
    sending = asyncio.create_task(send_each(link, [3 << 20, 2 << 20, 10]))
    async with asyncio.timeout(60):
        inbound = await arrived.get()
        assert [len((await inbound.receive()).payload) for _ in range(3)] == [3 << 20, 2 << 20, 10]
        await sending
    listener.close()
    await asyncio.gather(link.close(), inbound.close())


async def send_each(link, sizes):
    for size in sizes:
        await link.send(Message("shh", 1, bytes(size)))


async def test_receive__messages_nobody_handles_on_many_links__whoever_holds_most_goes_first():
    arrived = asyncio.Queue()
    ours = RlpxLinks(PrivateKey.generate(), max_held=1_000_000)
    listener = await ours.listen(Address("127.0.0.1", 0), arrived.put_nowait)
    noise = random.Random(1).randbytes
    links, inbound = [], []
    async with asyncio.timeout(60):
        for size in (300_000, 500_000, 400_000):
            links.append(await RlpxLinks(PrivateKey.generate()).dial(Enode(ours.node_id, listener.address)))
            inbound.append(await arrived.get())
            await links[-1].send(Message("shh", 1, noise(size)))
        with pytest.raises(LinkError):  # it sends what nobody takes, so it hears of its end only
            await links[1].receive()
        assert len((await inbound[0].receive()).payload) == 300_000
        assert len((await inbound[2].receive()).payload) == 400_000
    listener.close()
    await asyncio.gather(*(link.close() for link in (*links, *inbound)))


def test_holding__more_than_the_limit__those_that_would_wait_longest_are_dropped():
    async def scene(_):
        held, gone = Holding(1000), []
        delays = [5.0, 1.0, 9.0, 3.0, 7.0, 0.5]
        dropped = sum(held.put(250, delay, lambda delay=delay: gone.append(delay)) for delay in delays)
        assert (dropped, held.size, len(held)) == (2, 1000, 4)
        await asyncio.sleep(10)
        assert gone == [0.5, 1.0, 3.0, 5.0]
        assert (held.size, len(held)) == (0, 0)

    in_virtual_time(scene)


def test_holding__years_of_packets__forgets_those_that_went():
    async def scene(_):
        held = Holding(1 << 20)
        for _ in range(5000):
            held.put(100, 0.1, lambda: None)
            await asyncio.sleep(0.05)
        assert len(held._latest) < 100

    in_virtual_time(scene)


def test_bucket__owes__waits_until_it_is_paid():
    bucket = Bucket(rate=10.0, burst=20.0)
    assert bucket.owe(0.0, 20.0) == 0.0
    assert bucket.owe(0.0, 30.0) == 3.0
    assert not bucket.take(2.0)
    assert bucket.owe(3.0, 0.0) == 0.0
    assert bucket.take(3.1)


def test_fading__a_half_life_later__is_half():
    harm = Fading(half_life=60.0)
    harm.add(0.0, 8.0)
    assert harm.at(120.0) == 2.0
    harm.add(120.0, 2.0)
    assert harm.at(180.0) == 2.0
