"""A sensor that has a relay do its proof of work, and those who would have it do theirs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from backfill_world import RULES, Scripted, World

from quietfleet.errors import PowTargetMissed
from quietfleet.network.delegated import DelegatedMining, WorkLimits, WorkService
from quietfleet.network.link import STEM, Message
from quietfleet.network.mining import Mining
from quietfleet.network.stemwire import ASK_WORK, WORK, WorkAsk, WorkDone
from quietfleet.whisper import Envelope, pow_of

TARGET = 0.05


class Hands:
    """A miner that works when it is let, and shows who is waiting."""

    def __init__(self, nonce=None):
        self.nonce, self.drafts, self.given_up, self.go = nonce, [], 0, asyncio.Event()
        self.changed = asyncio.Condition()

    async def work(self, draft, target, budget):  # noqa: ARG002
        await self._note(self.drafts.append, draft)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            await self._note(lambda: None)
            raise
        if self.nonce is None:
            raise PowTargetMissed(0, 0, 1)
        return replace(draft, nonce=self.nonce)

    async def until(self, condition):
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(condition)

    async def _note(self, change, *what):
        async with self.changed:
            change(*what)
            self.changed.notify_all()


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    yield world
    await world.end()


@pytest.fixture
def mining():
    miner = Mining()
    yield miner
    miner.close()


@pytest.fixture
def start_relay(world):
    """Return a factory of relays that work for others."""

    async def start(miner, limits=None):
        relay = await world.relay(archive=False)
        await relay.stop()
        relay = world._node(world.key(), listen="m:0", peers=())
        relay.add(WorkService(relay, miner, relay.metrics, world.clock, limits))
        return await world._start(relay, ())

    return start


@pytest.fixture
def start_sensor(world):
    """Return a factory of sensors that ask a relay; `mining` is how."""

    async def start(relay, itself=None):
        sensor = world._node(world.key(), listen=None, peers=[relay])
        sensor.itself = itself or Hands(nonce=0)
        sensor.itself.go.set()
        sensor.mining = DelegatedMining(sensor, relay.node_id, sensor.itself, sensor.metrics, world.rng.randbytes)
        sensor.add(sensor.mining)
        await world._start(sensor, ())
        await sensor.connected()
        return sensor

    return start


@pytest.fixture
def draft(world):
    """Return a factory of envelopes without work."""

    def make(size=300, ttl=20, age=0):
        return Envelope(int(world.clock.now()) + ttl - age, ttl, b"tppc", world.rng.randbytes(size), 0)

    return make


@pytest.fixture
def start_asker(world):
    """Return a factory of peers that send what a test says and remember the answers."""

    async def start(relay):
        asker = Scripted(code=WORK, read=WorkDone.decode)
        leaf = await world.leaf(relay, services=[asker])
        await leaf.connected()
        leaf.asker = asker
        leaf.say = leaf.peer(relay.node_id).post
        return leaf

    return start


async def answers(leaf, count):
    """Wait for this many answers; return their nonces by the request's name."""
    async with asyncio.timeout(60):
        while len(leaf.asker.asked) < count:
            leaf.asker.came.clear()
            await leaf.asker.came.wait()
    return {done.request: done.nonce for done in leaf.asker.asked}


def ask(draft, name=b"question", target=TARGET):
    return WorkAsk(name, draft, target).encode()


async def test_work__relay_that_does_it__is_enough_and_right(world, start_relay, start_sensor, draft, mining):
    relay = await start_relay(mining)
    sensor = await start_sensor(relay)
    plain = draft()
    async with asyncio.timeout(30):
        mined = await sensor.mining.work(plain, TARGET, 30.0)
    assert pow_of(mined) >= TARGET
    assert replace(mined, nonce=0) == plain
    assert sensor.itself.drafts == []
    assert sensor.metrics.value("work_delegated", outcome="done") == 1
    sensor.flood.check(mined)


async def test_work__several_at_once__go_one_after_the_other(world, start_relay, start_sensor, draft, mining):
    relay = await start_relay(mining)
    sensor = await start_sensor(relay)
    async with asyncio.timeout(30):
        mined = await asyncio.gather(*(sensor.mining.work(draft(), TARGET, 30.0) for _ in range(5)))
    assert all(pow_of(each) >= TARGET for each in mined)
    assert sensor.itself.drafts == []
    assert relay.metrics.value("work_done") == 5


async def test_work__false_nonce__the_sensor_works_itself_and_never_asks_again(world, start_relay, start_sensor, draft):
    lying = Hands(nonce=12345)
    lying.go.set()
    sensor = await start_sensor(await start_relay(lying))
    for _ in range(2):
        await sensor.mining.work(draft(), 1.0, 10.0)
    assert len(lying.drafts) == 1
    assert len(sensor.itself.drafts) == 2
    assert sensor.metrics.value("work_delegated", outcome="false") == 1


async def test_work__relay_refuses_or_is_away__the_sensor_works_itself(world, start_relay, start_sensor, draft):
    unable = Hands()
    unable.go.set()
    relay = await start_relay(unable)
    sensor = await start_sensor(relay)
    await sensor.mining.work(draft(), TARGET, 10.0)
    assert sensor.metrics.value("work_delegated", outcome="refused") == 1
    await relay.stop()
    while sensor.peers:
        await sensor._peers_changed.wait()
    await sensor.mining.work(draft(), TARGET, 10.0)
    assert sensor.metrics.value("work_delegated", outcome="away") == 1
    assert len(sensor.itself.drafts) == 2


async def test_work__relay_takes_too_long_or_leaves__the_sensor_works_itself(world, start_relay, start_sensor, draft):
    slow = Hands(nonce=0)
    relay = await start_relay(slow)
    sensor = await start_sensor(relay)
    await sensor.mining.work(draft(), TARGET, 0.01)
    assert sensor.metrics.value("work_delegated", outcome="late") == 1
    assert len(sensor.itself.drafts) == 1


async def test_work__relay_leaves_meanwhile__the_sensor_does_not_wait(world, start_relay, start_sensor, draft):
    slow = Hands(nonce=0)
    relay = await start_relay(slow)
    sensor = await start_sensor(relay)
    working = asyncio.create_task(sensor.mining.work(draft(), TARGET, 3600.0))
    await slow.until(lambda: slow.drafts)
    await relay.stop()
    async with asyncio.timeout(60):
        await working
    assert len(sensor.itself.drafts) == 1
    assert slow.given_up == 1


async def test_left__peer_gone_while_its_work_goes_on__the_work_ends(world, start_relay, start_asker, draft):
    hands = Hands(nonce=0)
    relay = await start_relay(hands)
    leaf = await start_asker(relay)
    leaf.say(ask(draft()))
    await hands.until(lambda: hands.drafts)
    await leaf.stop()
    await hands.until(lambda: hands.given_up == 1)


@pytest.mark.parametrize("target", [1e300, 1e7, 10_000.0])
async def test_handle__absurd_target__is_refused_without_work(world, start_relay, start_asker, draft, target):
    hands = Hands(nonce=0)
    leaf = await start_asker(relay := await start_relay(hands))
    leaf.say(ask(draft(), target=target))
    assert await answers(leaf, 1) == {b"question": None}
    assert hands.drafts == []
    assert relay.metrics.value("work_refused", reason="absurd_target") == 1


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"age": 100}, "expired"),
        ({"age": -100}, "from_future"),
        ({"ttl": RULES.max_ttl + 1}, "ttl_too_long"),
        ({"ttl": 0}, "malformed"),
        ({"size": RULES.max_size + 1}, "oversize"),
    ],
)
async def test_handle__envelope_nobody_would_carry__is_refused(world, start_relay, start_asker, draft, how, reason):
    leaf = await start_asker(relay := await start_relay(Hands(nonce=0)))
    leaf.say(ask(draft(**how)))
    assert await answers(leaf, 1) == {b"question": None}
    assert relay.metrics.value("work_refused", reason=reason) == 1


async def test_handle__second_before_the_first_is_done__is_refused(world, start_relay, start_asker, draft):
    hands = Hands(nonce=7)
    leaf = await start_asker(relay := await start_relay(hands))
    leaf.say(ask(draft(), b"question"))
    leaf.say(ask(draft(), b"too soon"))
    assert await answers(leaf, 1) == {b"too soon": None}
    hands.go.set()
    assert (await answers(leaf, 2))[b"question"] == 7
    assert relay.metrics.value("work_refused", reason="at_work_already") == 1


async def test_handle__more_peers_than_the_queue_holds__the_last_are_refused(world, start_relay, start_asker, draft):
    hands = Hands(nonce=7)
    relay = await start_relay(hands, WorkLimits(queue=2))
    crowd = [await start_asker(relay) for _ in range(3)]
    for leaf in crowd[:2]:
        leaf.say(ask(draft()))
    await hands.until(lambda: len(hands.drafts) == 2)
    crowd[2].say(ask(draft()))
    assert await answers(crowd[2], 1) == {b"question": None}
    assert relay.metrics.value("work_refused", reason="busy") == 1


async def test_handle__more_than_its_budget__is_refused_and_others_are_served(world, start_relay, start_asker, draft):
    hands = Hands(nonce=7)
    hands.go.set()
    relay = await start_relay(hands, WorkLimits(per_minute=2.0**10))
    greedy, modest = await start_asker(relay), await start_asker(relay)
    names = [bytes([at]) * 8 for at in range(5)]
    for at, name in enumerate(names):
        greedy.say(ask(draft(), name))
        await answers(greedy, at + 1)
    assert [nonce for _, nonce in sorted((await answers(greedy, 5)).items())] == [7, 7, None, None, None]
    modest.say(ask(draft()))
    assert await answers(modest, 1) == {b"question": 7}
    assert relay.metrics.value("work_refused", reason="over_budget") == 3


@pytest.mark.parametrize("payload", [b"", b"junk", b"\xc0", bytes(200_000)])
async def test_handle__junk__is_a_fault_and_is_not_answered(world, start_relay, start_asker, draft, payload):
    hands = Hands(nonce=7)
    hands.go.set()
    leaf = await start_asker(relay := await start_relay(hands))
    leaf.say(Message(STEM.name, ASK_WORK, payload))
    leaf.say(ask(draft()))
    assert await answers(leaf, 1) == {b"question": 7}
    assert relay.metrics.value("network_faults") == 1


async def test_handle__answer_by_another_than_the_relay__is_passed_over(world, start_relay, start_sensor, draft):
    slow = Hands(nonce=0)
    relay = await start_relay(slow)
    sensor = await start_sensor(relay)
    working = asyncio.create_task(sensor.mining.work(draft(), TARGET, 3600.0))
    await slow.until(lambda: slow.drafts)
    (name,) = sensor.mining._asked
    stranger = await world.leaf(relay)
    await stranger.connected()
    await sensor.mining.handle(stranger.peer(relay.node_id), WORK, WorkDone(b"wrong it", 1).encode().payload)
    assert not working.done()
    other = await world.relay(archive=False)
    sensor.keep_connected([relay.enode, other.enode])
    await sensor.connected(2)
    await sensor.mining.handle(sensor.peer(other.node_id), WORK, WorkDone(name, 1).encode().payload)
    assert not sensor.mining._asked[name].done()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_stop__in_the_middle_of_work__ends_it(world, start_relay, start_asker, draft):
    hands = Hands(nonce=0)
    relay = await start_relay(hands)
    leaf = await start_asker(relay)
    leaf.say(ask(draft()))
    await hands.until(lambda: hands.drafts)
    await relay.stop()
    assert hands.given_up == 1


def test_limits__as_they_are__let_a_peer_have_the_dearest_envelope_once_a_minute():
    assert WorkLimits().per_minute >= 2 ** WorkLimits().bits
