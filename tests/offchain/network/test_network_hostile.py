"""Peers that break the rules: each fault is counted, none takes the node down."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
import rlp
from hypothesis import given, settings
from hypothesis import strategies as st
from node_kit import MIN_POW, TUNING, Stranger, new_key
from rlp.codec import length_prefix

from quietfleet.clock import ManualClock
from quietfleet.errors import LinkError
from quietfleet.metrics import Metrics
from quietfleet.mixnet import RelayBook
from quietfleet.network import Address, EmbeddedNode, LinkTiming, Message, Relaying, RlpxLinks
from quietfleet.network.peer import Peer
from quietfleet.network.wire import BLOOM_FILTER, MESSAGES, POW_REQUIREMENT, STATUS, encode_pow
from quietfleet.whisper import DropReason, Envelope, Rules, encode_bundle, mine


@pytest.fixture
def spoiled(make_envelope, make_idle_envelope, clock):
    """One envelope for each rule it breaks, encoded."""
    now = int(clock.now())
    old = mine(now - 1, 60, b"tppc", b"old", MIN_POW)
    return {
        DropReason.LOW_POW: make_idle_envelope().encode(),
        DropReason.EXPIRED: old.encode(),
        DropReason.OVERSIZE: make_envelope(size=4097).encode(),
        DropReason.TTL_TOO_LONG: make_envelope(ttl=121).encode(),
        DropReason.FROM_FUTURE: make_envelope(early=11).encode(),
        DropReason.MALFORMED: rlp.encode([now + 60, 60, b"no topic", b"data"]),
    }


@pytest.mark.parametrize("reason", [reason for reason in DropReason if reason.name in "LOW_POW EXPIRED OVERSIZE"])
async def test_take_in__one_bad_in_a_bundle__drops_it_alone(start_node, meet, make_envelope, receive, spoiled, reason):
    relay = await start_node()
    stranger = await meet(relay)
    before, after = make_envelope(), make_envelope()
    parts = [rlp.decode(raw) for raw in (before.encode(), spoiled[reason], after.encode())]
    await stranger.say(MESSAGES, rlp.encode(parts))
    assert await receive(relay, 2) == {before.hash, after.hash}
    assert relay.metrics.value("network_dropped", reason=reason) == 1
    assert relay.peers == 1


async def test_take_in__every_reason__is_counted_under_its_name(start_node, meet, make_envelope, receive, spoiled):
    relay = await start_node()
    stranger = await meet(relay)
    good = make_envelope()
    for raw in [*spoiled.values(), good.encode(), good.encode()]:
        await stranger.say(MESSAGES, rlp.encode([rlp.decode(raw)]))
    await stranger.offer(marker := make_envelope())
    assert await receive(relay, 2) == {good.hash, marker.hash}
    counts = {reason: relay.metrics.value("network_dropped", reason=reason) for reason in [*spoiled, "duplicate"]}
    assert counts == dict.fromkeys(counts, 1)


async def test_take_in__clock_far_off__drops_every_envelope_and_keeps_the_peer(
    start_node, meet, make_envelope, receive
):
    relay = await start_node()
    stranger = await meet(relay)
    await stranger.offer(*(make_envelope(early=7 * 3600) for _ in range(40)))
    await stranger.offer(marker := make_envelope())
    assert await receive(relay) == {marker.hash}
    assert relay.metrics.value("network_dropped", reason="from_future") == 40
    assert relay.peers == 1


async def test_hear__a_little_garbage__is_forgiven_and_not_answered(start_node, meet, make_envelope, receive):
    relay = await start_node()
    stranger = await meet(relay)
    for code, payload in [(MESSAGES, b"\xff\xff"), (MESSAGES, b"\xc1\x80"), (POW_REQUIREMENT, b"\xc0"), (99, b"?")]:
        await stranger.say(code, payload)
    await stranger.offer(marker := make_envelope())
    assert await receive(relay) == {marker.hash}
    assert relay.metrics.value("network_faults") == 3
    await relay.publish(own := make_envelope())
    assert await stranger.hear() == (MESSAGES, encode_bundle([own]))


async def test_hear__garbage_again_and_again__expels_the_peer_alone(start_node, meet, make_envelope, receive):
    relay = await start_node()
    stranger, friend = await meet(relay), await meet(relay)
    await stranger.say(MESSAGES, length_prefix(8_000_000, 0xC0) + b"\x87garbage" * 1_000_000)
    async with asyncio.timeout(60):
        await stranger.closed()
    assert relay.metrics.value("network_faults") < 20
    assert relay.metrics.value("network_links", event="expelled") == 1
    await friend.offer(marker := make_envelope())
    assert await receive(relay) == {marker.hash}


async def test_hear__requirement_changed_again_and_again__expels_the_peer(start_node, meet):
    relay = await start_node()
    stranger = await meet(relay)
    for count in range(1, 20):
        await stranger.say(POW_REQUIREMENT, encode_pow(count))
    async with asyncio.timeout(60):
        await stranger.closed()
    assert relay.metrics.value("network_links", event="expelled") == 1


@pytest.mark.parametrize(
    "said",
    [
        pytest.param((MESSAGES, b"\xc0"), id="messages before the status"),
        pytest.param((STATUS, b"\xc1\x05"), id="status of version 5"),
        pytest.param((STATUS, b"\x06"), id="status that is no list"),
    ],
)
async def test_greet__not_as_the_protocol_says__closes_and_counts(
    start_node, meet, make_envelope, receive, until, said
):
    relay = await start_node()
    stranger = Stranger(await RlpxLinks(new_key()).dial(relay.enode))
    await stranger.say(*said)
    await stranger.closed()
    await until(relay, lambda: relay.metrics.value("network_links", event="bad_message") == 1)
    await (await meet(relay)).offer(marker := make_envelope())
    assert await receive(relay) == {marker.hash}


async def test_read__peer_silent_too_long__is_dropped_while_one_that_pings_stays(start_node, meet, until):
    relay = await start_node(timing=LinkTiming(read=0.3, ping=0.1))
    worker = await start_node(relay, listen=None, timing=LinkTiming(read=0.3, ping=0.1))
    (await meet(relay)).go_deaf()
    await relay.connected(2)
    await until(relay, lambda: relay.peers == 1)
    assert worker.peers == 1
    assert relay.metrics.value("network_links", event="lost") == 1


async def test_write__peer_does_not_read__is_shed_while_others_get_everything(start_node, meet, clock, until):
    relay = await start_node(
        rules=Rules(min_pow=0.0, max_ttl=120), timing=LinkTiming(write=0.3), tuning=replace(TUNING, max_delay=0.0)
    )
    (await meet(relay)).go_deaf()
    await relay.connected()
    prompt = await meet(relay)
    await relay.connected(2)
    now, noise = int(clock.now()), random.Random(1).randbytes  # what compresses would fit into the socket's buffers
    sent = [mine(now + 60, 60, b"tppc", noise(900_000), 0.0) for _ in range(24)]
    got = set()
    for envelope in sent:
        await relay.publish(envelope)
        got.add((await prompt.hear())[1])
    await until(relay, lambda: relay.peers == 1)
    assert got == {encode_bundle([envelope]) for envelope in sent}
    assert relay.metrics.value("network_links", event="lost") == 1


class Loopback:
    """A link whose other end is a list of messages, then silence for good."""

    peer, inbound, remote = new_key().public.to_bytes(), True, Address("there", 2)
    capabilities = frozenset({"shh", "stem"})

    def __init__(self, messages):
        self._messages = iter(messages)
        self.sent = []

    async def send(self, message):
        self.sent.append(message)

    async def receive(self):
        for message in self._messages:
            return message
        raise LinkError

    async def close(self, reason=None):
        pass


def lone_node():
    node = EmbeddedNode(
        listen=None,
        peers=[],
        rules=Rules(min_pow=0.0),
        metrics=Metrics(),
        clock=ManualClock(2_000_000_000.0),
        rng=random.Random(0),
        links=RlpxLinks(new_key()),
        relays=True,
    )
    node.inbox = node.envelopes()
    return node


nested = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=6), max_leaves=12)
payloads = st.one_of(st.binary(max_size=60), nested.map(rlp.encode))
codes = st.sampled_from([STATUS, MESSAGES, MESSAGES, POW_REQUIREMENT, BLOOM_FILTER, 126])
messages = st.one_of(
    st.builds(Message, st.just("shh"), codes, payloads),
    st.builds(Message, st.just("stem"), st.integers(0, 15), payloads),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(messages, max_size=12))
def test_serve__random_messages__never_raises_and_a_good_one_before_still_counts(tail):
    node = lone_node()
    good = Envelope(2_000_000_030, 60, b"tppc", b"data", 0)
    head = [Message("shh", STATUS, b"\xc1\x06"), Message("shh", MESSAGES, encode_bundle([good]))]

    async def run():
        node.add(Relaying(node, RelayBook(bytes(32), lambda _: None), Metrics(), ManualClock(2_000_000_000.0)))
        await node._serve(Peer(Loopback(head + tail), TUNING))
        return await anext(node.inbox)

    assert asyncio.run(run()) == good


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_serve__a_bundle_with_one_byte_changed__never_raises(data):
    good = Envelope(2_000_000_030, 60, b"tppc", b"data" * 20, 7)
    wire = bytearray(encode_bundle([good, good]))
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    said = [Message("shh", STATUS, b"\xc1\x06"), Message("shh", MESSAGES, bytes(wire))]

    async def run():
        await lone_node()._serve(Peer(Loopback(said), TUNING))

    asyncio.run(run())
