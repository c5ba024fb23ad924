"""What is being worked on, its proof of work perhaps, as an owner acts: it has not left, and does not leave."""

from __future__ import annotations

import pytest
from worker_world import hours

from quietfleet.chain.events import ActiveChanged, KeyRotated, OwnerChanged
from quietfleet.crypto import PrivateKey, keccak256

BUYER = "0x" + "bb" * 20


class Miner:
    """Takes so long over one envelope that something else happens meanwhile."""

    def __init__(self, miner, meanwhile):
        self._miner, self._meanwhile = miner, meanwhile
        self.drafts = []

    async def work(self, draft, target, budget):
        self.drafts.append(draft)
        if len(self.drafts) == 1:
            await self._meanwhile()
        return await self._miner.work(draft, target, budget)


class Presence:
    """A worker's presence with another miner."""

    def __init__(self, presence, miner):
        self._presence, self.miner = presence, miner

    def __getattr__(self, name):
        return getattr(self._presence, name)


@pytest.fixture
async def sender(fleet):
    """A sensor with readings to send to its processor, none of them sent yet."""
    sensor = fleet.workers["sensor"]
    await fleet.run()
    sensor.node.sent.clear()
    sensor.measure(hours(3, 0.0))
    fleet.clock.advance(1)
    await fleet.say()
    await sensor.beat()
    return sensor


async def flush_while(worker, meanwhile):
    real = worker.runtime.presence
    worker.runtime.presence = Presence(real, Miner(real.miner, meanwhile))
    await worker.runtime.flush()
    miner = worker.runtime.presence.miner
    worker.runtime.presence = real
    return miner


def withheld(sender, miner):
    """Whether the first envelope that was worked on did not leave."""
    counted = sender.metric("envelopes_withheld") == 1
    return counted and miner.drafts[0].topic not in {envelope.topic for envelope in sender.node.sent}


def next_number(worker):
    return worker.runtime.replica.worker(worker.id).sequence + 1


async def test_mined__nothing_happens_meanwhile__leaves(fleet, sender):
    async def nothing():
        pass

    await flush_while(sender, nothing)
    assert len(sender.node.sent) >= 1
    assert sender.metric("envelopes_withheld") == 0


async def test_mined__receiver_switched_off_meanwhile__does_not_leave(fleet, sender):
    processor = fleet.workers["processor"]
    miner = await flush_while(sender, lambda: fleet.switch(processor, active=False))
    assert withheld(sender, miner)


async def test_mined__receiver_switched_off_and_on_meanwhile__does_not_leave(fleet, sender):
    processor = fleet.workers["processor"]

    async def toggled():
        await fleet.switch(processor, active=False)
        await fleet.switch(processor, active=True)

    assert withheld(sender, await flush_while(sender, toggled))


async def test_mined__receiver_handed_over_meanwhile__does_not_leave(fleet, sender):
    processor = fleet.workers["processor"]
    before = processor.runtime.replica.worker(processor.id).owner
    changed = OwnerChanged(processor.id, before, BUYER, next_number(processor))
    assert withheld(sender, await flush_while(sender, lambda: fleet.say(changed)))


async def test_mined__sender_itself_switched_off_meanwhile__sends_nothing_more(fleet, sender):
    off = ActiveChanged(sender.id, BUYER, active=False, sequence=next_number(sender))
    miner = await flush_while(sender, lambda: fleet.say(off))
    assert len(miner.drafts) == 1
    assert sender.node.sent == []


async def test_mined__announcement_of_an_oracle_switched_off_meanwhile__does_not_leave(fleet):
    oracle = fleet.workers["oracle"]
    await fleet.run()
    oracle.node.sent.clear()
    fleet.clock.advance(4)
    await fleet.say()
    await oracle.beat()
    off = ActiveChanged(oracle.id, BUYER, active=False, sequence=next_number(oracle))
    miner = await flush_while(oracle, lambda: fleet.say(off))
    assert miner.drafts
    assert oracle.node.sent == []


async def nothing():
    pass


@pytest.fixture
async def published(fleet, sender):
    """The hashes of what the sensor has just given its node for the processor."""
    await flush_while(sender, nothing)
    return {envelope.hash for envelope in sender.node.sent}


async def test_published__receiver_switched_off__node_is_to_let_none_of_it_leave(fleet, sender, published):
    assert published
    assert sender.node.withdrawn == {}
    await fleet.switch(fleet.workers["processor"], active=False)
    assert published <= sender.node.withdrawn.keys()


async def test_published__another_is_switched_off__stays(fleet, sender, published):
    await fleet.switch(fleet.workers["oracle"], active=False)
    assert not published & sender.node.withdrawn.keys()


async def test_published__receivers_key_replaced__node_is_to_let_none_of_it_leave(fleet, sender, published):
    processor = fleet.workers["processor"]
    key = PrivateKey.from_bytes(keccak256(b"another"))
    rotated = KeyRotated(processor.id, key.public.id, key.public.to_bytes(), 1, next_number(processor))
    await fleet.say(rotated)
    assert published <= sender.node.withdrawn.keys()


async def test_published__sender_itself_switched_off__node_is_to_let_nothing_leave(fleet, sender, published):
    await fleet.say(ActiveChanged(sender.id, BUYER, active=False, sequence=next_number(sender)))
    assert published <= sender.node.withdrawn.keys()


async def test_published__long_ago__is_not_remembered(fleet, sender, published):
    fleet.clock.advance(3600)
    await fleet.say()
    for _ in range(3):
        await sender.beat()
        await flush_while(sender, nothing)
    assert published.isdisjoint(sender.runtime._under_way.take_all())
