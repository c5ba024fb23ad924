"""Whole nodes: what is published anywhere arrives everywhere, once, whatever happens to links."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from node_kit import MIN_POW, TUNING, Stranger, new_key

from quietfleet.clock import ManualClock
from quietfleet.errors import AddressError, LinkError, UnsendableError
from quietfleet.metrics import Metrics
from quietfleet.network import SHH, STEM, Address, EmbeddedNode, Enode, RlpxLinks
from quietfleet.network.node import _first_failure
from quietfleet.network.wire import (
    BLOOM_FILTER,
    MESSAGES,
    POW_REQUIREMENT,
    STATUS,
    Status,
    decode_bloom,
    decode_pow,
    encode_pow,
)
from quietfleet.testbed.anvil import free_port
from quietfleet.whisper import FULL_BLOOM, Rules, encode_bundle, topic_bloom


async def test_publish__line_of_four__reaches_the_far_end(start_node, make_envelope, receive):
    first = await start_node()
    second = await start_node(first)
    third = await start_node(second)
    fourth = await start_node(third)
    for node in (second, third):
        await node.connected(2)
    envelope = make_envelope()
    await first.publish(envelope)
    for node in (second, third, fourth):
        assert await receive(node) == {envelope.hash}


async def test_publish__full_mesh__each_delivers_each_exactly_once_and_never_its_own(
    start_node, make_envelope, receive
):
    nodes = []
    for _ in range(4):
        nodes.append(await start_node(*nodes))
    for node in nodes:
        await node.connected(3)
    own = {node: [make_envelope() for _ in range(25)] for node in nodes}
    await asyncio.gather(*(node.publish(each) for node in nodes for each in own[node]))
    for node in nodes:
        others = {each.hash for other in nodes if other is not node for each in own[other]}
        assert await receive(node, 75) == others
    for node in nodes:
        await node.stop()
        assert [each async for each in node.inbox] == []
        assert node.metrics.value("network_received") == 75


async def test_publish__no_peer_yet__is_sent_to_the_first(start_node, make_envelope, receive):
    relay = await start_node()
    envelopes = [make_envelope() for _ in range(5)]
    for envelope in envelopes:
        await relay.publish(envelope)
    late = await start_node(relay, listen=None)
    assert await receive(late, 5) == {envelope.hash for envelope in envelopes}


async def test_publish__twice__is_sent_once(start_node, make_envelope, meet):
    relay = await start_node()
    stranger = await meet(relay)
    envelope, marker = make_envelope(), make_envelope()
    for each in (envelope, envelope):
        await relay.publish(each)
    assert await stranger.hear() == (MESSAGES, encode_bundle([envelope]))
    await relay.publish(marker)
    assert await stranger.hear() == (MESSAGES, encode_bundle([marker]))


@pytest.mark.parametrize("spoil", ["too little work", "expired", "too large", "lives too long"])
async def test_publish__own_rules_refuse__raises_and_sends_nothing(
    start_node, make_envelope, make_idle_envelope, clock, spoil
):
    relay = await start_node()
    bad = {
        "too little work": make_idle_envelope,
        "expired": make_envelope,
        "too large": lambda: make_envelope(size=4097),
        "lives too long": lambda: make_envelope(ttl=121),
    }[spoil]()
    clock.advance(61 if spoil == "expired" else 0)
    with pytest.raises(UnsendableError):
        await relay.publish(bad)
    assert relay.metrics.value("network_published") == 0


async def test_publish__light_leaf_says_what_it_would_not_hear__arrives(start_node, make_envelope, receive, rules):
    relay = await start_node()
    leaf = await start_node(relay, listen=None, rules=replace(rules, bloom=topic_bloom(b"else")))
    await leaf.connected()
    envelope = make_envelope()
    await leaf.publish(envelope)
    assert await receive(relay) == {envelope.hash}


async def test_publish__one_relay_dead__goes_by_the_other(start_node, make_envelope, receive, until):
    dying, living = await start_node(), await start_node()
    sender = await start_node(dying, living, listen=None)
    receiver = await start_node(dying, living, listen=None)
    await sender.connected(2)
    await receiver.connected(2)
    await dying.stop()
    await until(sender, lambda: sender.peers == 1)
    envelope = make_envelope()
    await sender.publish(envelope)
    assert await receive(receiver) == {envelope.hash}


async def test_leaf__between_two_relays__passes_on_nothing_but_its_own(start_node, make_envelope, receive):
    left, right = await start_node(), await start_node()
    leaf = await start_node(left, right, listen=None)
    await leaf.connected(2)
    others, own = make_envelope(), make_envelope()
    await left.publish(others)
    assert await receive(leaf) == {others.hash}
    await leaf.publish(own)
    assert await receive(right) == {own.hash}


async def test_dial__relay_restarts__reconnects_and_catches_up(start_node, make_envelope, receive, until):
    relay = await start_node()
    address, enode = str(relay.address), relay.enode
    worker = await start_node(enode, listen=None)
    await worker.connected()
    await relay.stop()
    await until(worker, lambda: worker.peers == 0)
    envelope = make_envelope()
    await worker.publish(envelope)
    again = await start_node(listen=address, key=relay.key)
    assert await receive(again) == {envelope.hash}


async def test_dial__dead_address__keeps_trying_and_serves_the_others(start_node):
    gone = await start_node()
    address, enode = str(gone.address), gone.enode
    await gone.stop()
    relay = await start_node()
    worker = await start_node(enode, relay, listen=None)
    await worker.connected()
    async with asyncio.timeout(60):
        again = await start_node(listen=address, key=gone.key)
        await worker.connected(2)
        await again.connected()


async def test_dial__itself__is_no_peer(start_node, make_envelope, receive):
    key, port = new_key(), free_port()
    own = Enode(key.public.to_bytes(), Address("127.0.0.1", port))
    relay = await start_node(own, listen=str(own.address), key=key)
    friend = await start_node(relay, listen=None)
    envelope = make_envelope()
    await friend.publish(envelope)
    assert await receive(relay) == {envelope.hash}
    assert relay.peers == 1


async def test_dial__another_node_lives_at_that_address__is_no_peer(start_node, until):
    relay = await start_node()
    impostor = Enode(new_key().public.to_bytes(), relay.address)
    worker = await start_node(impostor, listen=None)
    await until(worker, lambda: worker.metrics.value("network_links", event="unreachable") > 0)
    assert (worker.peers, relay.peers) == (0, 0)


async def test_dial__both_dial_each_other__one_link_is_kept(start_node, make_envelope, receive):
    keys = [new_key(), new_key()]
    enodes = [Enode(key.public.to_bytes(), Address("127.0.0.1", free_port())) for key in keys]
    nodes = [
        await start_node(enodes[1 - index], listen=str(enodes[index].address), key=key)
        for index, key in enumerate(keys)
    ]
    for node in nodes:
        await node.connected()
    for sender, receiver in (nodes, nodes[::-1]):
        envelope = make_envelope()
        await sender.publish(envelope)
        assert await receive(receiver) == {envelope.hash}
    assert [node.peers for node in nodes] == [1, 1]


async def test_listen__inbound_limit_reached__refuses_the_next(start_node, until):
    relay = await start_node(tuning=replace(TUNING, max_inbound=1))
    worker = await start_node(relay, listen=None)
    await worker.connected()
    refused = await start_node(relay, listen=None)
    await until(refused, lambda: refused.metrics.value("network_links", event="lost") > 0)
    assert relay.metrics.value("network_links", event="refused") > 0
    assert (relay.peers, refused.peers) == (1, 0)


async def test_start__port_taken__raises_link_error(start_node):
    relay = await start_node()
    with pytest.raises(LinkError):
        await start_node(listen=str(relay.address))


def test_create__bad_address__raises_at_once():
    with pytest.raises(AddressError):
        EmbeddedNode(
            listen=None,
            peers=["relay"],
            rules=Rules(),
            metrics=Metrics(),
            clock=ManualClock(),
            rng=random.Random(1),
            links=RlpxLinks(new_key()),
        )


async def test_stop__reader_waiting__ends_its_iteration_and_leaves_no_task(start_node):
    relay = await start_node()
    worker = await start_node(relay, listen=None)
    await worker.connected()
    before = asyncio.all_tasks()
    reader = asyncio.create_task(anext(worker.inbox, None))
    await worker.stop()
    assert await reader is None
    assert worker.peers == 0
    assert len(asyncio.all_tasks()) < len(before)


async def test_envelopes__reader_too_slow__loses_the_oldest_and_counts(start_node, make_envelope, meet):
    relay = await start_node(tuning=replace(TUNING, inbox=2))
    prompt = relay.envelopes()
    stranger = await meet(relay)
    envelopes = [make_envelope() for _ in range(5)]
    for envelope in envelopes:
        await stranger.offer(envelope)
        assert await anext(prompt) == envelope
    assert relay.metrics.value("network_inbox_overflow") == 3
    assert [await anext(relay.inbox) for _ in range(2)] == envelopes[3:]


async def test_greet__leaf_and_relay__say_exactly_the_same(start_node):
    statuses = set()
    for listen in ("127.0.0.1:0", None):
        node = await start_node(listen=listen)
        statuses.add(node.flood.status().encode())
    assert len(statuses) == 1


async def test_set_rules__work_raised_with_grace__is_announced_only_when_grace_ends(
    start_node, meet, clock, rules, make_envelope, receive
):
    relay = await start_node()
    stranger = await meet(relay)
    relay.set_rules(replace(rules, min_pow=50.0, previous=rules, previous_until=clock.now() + 30))
    old = make_envelope()
    await stranger.offer(old)
    assert await receive(relay) == {old.hash}
    clock.advance(30)
    code, payload = await stranger.hear()
    assert (code, decode_pow(payload)) == (POW_REQUIREMENT, 50.0)
    assert (await stranger.hear())[0] == BLOOM_FILTER
    late, good = make_envelope(), make_envelope(ttl=2, work=50.0)
    await stranger.offer(late, good)
    assert await receive(relay) == {good.hash}
    assert relay.metrics.value("network_dropped", reason="low_pow") == 1


async def test_set_rules__while_a_peer_is_greeted__it_is_told_right_after(start_node, meet, rules):
    relay = await start_node()
    link = await RlpxLinks(new_key(), (SHH, STEM)).dial(relay.enode)
    stranger = Stranger(link)
    assert Status.decode((await stranger.hear())[1]).bloom == FULL_BLOOM  # the relay waits for ours now
    relay.set_rules(replace(rules, bloom=topic_bloom(b"else")))
    await stranger.say(STATUS, Status(0.0).encode())
    assert (await stranger.hear())[0] == POW_REQUIREMENT
    code, payload = await stranger.hear()
    assert (code, decode_bloom(payload)) == (BLOOM_FILTER, topic_bloom(b"else"))
    await link.close()


async def test_send__peer_wants_more_work__waits_until_it_asks_less(start_node, meet, make_envelope):
    relay = await start_node(tuning=replace(TUNING, max_delay=0.0))
    strict, easy = await meet(relay, Status(2.0)), await meet(relay)
    await relay.connected(2)
    weak, strong = make_envelope(), make_envelope(ttl=5, work=2.0)
    for envelope in (weak, strong):
        await relay.publish(envelope)
        assert await easy.hear() == (MESSAGES, encode_bundle([envelope]))
    assert await strict.hear() == (MESSAGES, encode_bundle([strong]))
    await strict.say(POW_REQUIREMENT, encode_pow(MIN_POW))
    assert await strict.hear() == (MESSAGES, encode_bundle([weak]))


async def test_send__peer_wants_other_topics__skips_it(start_node, meet, make_envelope):
    relay = await start_node()
    picky = await meet(relay, Status(0.0, topic_bloom(b"else")))
    envelope = make_envelope()
    await relay.publish(envelope)
    await picky.say(BLOOM_FILTER, b"\xb8\x40" + FULL_BLOOM)
    assert await picky.hear() == (MESSAGES, encode_bundle([envelope]))
    assert relay.metrics.value("network_sent") == 1


async def test_pool__envelope_expires__is_not_given_to_a_late_peer(start_node, make_envelope, clock, meet):
    relay = await start_node()
    short, long = make_envelope(ttl=10), make_envelope(ttl=60)
    await relay.publish(short)
    await relay.publish(long)
    clock.advance(11)
    relay._flood.sweep()
    stranger = await meet(relay)
    assert await stranger.hear() == (MESSAGES, encode_bundle([long]))
    assert relay.metrics.value("network_pool") == 1


async def test_dial__a_bug_while_serving__is_reported_and_dialling_goes_on(start_node, monkeypatch):
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    relay = await start_node()
    with monkeypatch.context() as patch:
        failed = asyncio.Event()

        async def stumble(self, peer):
            failed.set()
            raise ZeroDivisionError

        patch.setattr(EmbeddedNode, "_join", stumble)
        worker = await start_node(relay, listen=None)
        await failed.wait()
    async with asyncio.timeout(60):
        await worker.connected()
    assert {type(error) for error in reported} == {ZeroDivisionError}


async def test_first_failure__one_part_fails__raises_it_and_ends_the_other():
    ended = asyncio.Event()

    async def wait_for_ever():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fail():
        await asyncio.sleep(0)
        raise LinkError

    with pytest.raises(LinkError):
        await _first_failure(wait_for_ever(), fail())
    assert ended.is_set()


async def test_first_failure__cancelled_as_a_part_fails__stays_cancelled():
    gate = asyncio.Event()

    async def fail():
        await gate.wait()
        raise LinkError

    task = asyncio.create_task(_first_failure(fail(), asyncio.Event().wait()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gate.set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
