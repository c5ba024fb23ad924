from __future__ import annotations

from worker_world import Pen

from quietfleet.chain.types import Kind
from quietfleet.workers.messages import EpochKeyGrant, EpochKeyRequest


def deaf(worker):
    """A worker that does not hear its owner's switch: it goes on with whoever it likes."""
    worker.runtime.registry.can_cooperate = lambda *_: True
    worker.runtime.registry.usable = lambda _: True
    worker.runtime.sever = lambda *_: None


async def test_epoch_key__usable_workers__each_gets_the_committed_one(fleet, oracle):
    key = oracle.runtime.messenger.epochs.epoch_key(1)
    for name in ("processor", "sensor"):
        assert fleet.workers[name].runtime.messenger.epochs.epoch_key(1) == key
    assert len(oracle.journal("epoch-key-granted")) == 2


async def test_epoch_key__worker_switched_off_that_asks_all_the_same__does_not_get_the_next(fleet, oracle):
    sensor, processor = fleet.workers["sensor"], fleet.workers["processor"]
    deaf(sensor)
    await fleet.switch(sensor, active=False)
    await fleet.rotate()
    await fleet.until(lambda: processor.runtime.messenger.epochs.epoch_key(2) is not None)
    refused = oracle.metric("handshakes_refused")
    await fleet.until(lambda: oracle.metric("handshakes_refused") > refused)
    await fleet.pass_time(5)
    assert sensor.runtime.messenger.epochs.epoch_key(2) is None
    assert [entry["version"] for entry in oracle.journal("epoch-key-granted")].count(2) == 1


async def test_epoch_key__worker_enrolled_later__gets_it_then(fleet, oracle):
    late = await fleet.add("late", Kind.SENSOR, enrol=False)
    await fleet.pass_time(8)
    assert late.runtime.messenger.epochs.epoch_key(1) is None
    assert not late.runtime.membership.complete
    await fleet.enrol(late)
    await fleet.until(lambda: late.runtime.membership.complete)
    assert late.runtime.messenger.epochs.epoch_key(1) == oracle.runtime.messenger.epochs.epoch_key(1)


async def test_epoch_key__of_a_version_there_is_none_of__counted_and_not_answered(fleet, oracle):
    asker = await fleet.add("asker", Kind.PROCESSOR, agent=Pen)
    await fleet.until(lambda: asker.runtime.membership.complete)
    asker.agent.events.clear()
    request = EpochKeyRequest(9)
    await asker.do(lambda: asker.runtime.messenger.request(oracle.id, request, (EpochKeyGrant,), 5.0, "asked"))
    await fleet.pass_time(4)
    assert oracle.metric("epoch_keys_missing") == 1
    assert asker.agent.heard(EpochKeyGrant) == []


async def test_epoch_key__not_the_committed_one__refused_and_asked_for_again(fleet, oracle, monkeypatch):
    late = await fleet.add("late", Kind.PROCESSOR)
    with monkeypatch.context() as lying:
        lying.setattr(oracle.runtime.messenger.epochs, "granted", lambda *_: bytes(32))
        await fleet.until(lambda: late.journal("epoch-key-refused") != [])
        assert late.runtime.messenger.epochs.epoch_key(1) is None
    await fleet.until(lambda: late.runtime.membership.complete)


async def test_epoch_key__of_a_version_prepared_but_not_announced__not_granted(fleet, oracle, processor):
    oracle.runtime.messenger.epochs.prepare(2, b"k" * 32)
    oracle.restart()
    processor.runtime.messenger.request(oracle.id, EpochKeyRequest(2), (EpochKeyGrant,), 30, "early")
    await fleet.pass_time(3)
    assert oracle.metric("epoch_keys_missing") >= 1
    assert oracle.journal("epoch-key-granted")[-1] == {"version": 1}


async def test_rotation__announced_ahead__everyone_holds_both_and_then_only_the_new_one(fleet):
    everyone = list(fleet.workers.values())
    await fleet.rotate(lead=8, grace=6)
    await fleet.until(lambda: all(w.runtime.messenger.epochs.epoch_key(2) for w in everyone), within=8)
    assert all(w.runtime.messenger.epochs.epoch_key(1) for w in everyone)
    await fleet.pass_time(16)
    assert not any(w.runtime.messenger.epochs.epoch_key(1) for w in everyone)
    assert all({"version": 1} in w.journal("epoch-retired") for w in everyone)
    sensor, processor = fleet.workers["sensor"], fleet.workers["processor"]
    assert sensor.in_session_with(processor)
    assert len(sensor.journal("session-open")) == 1


async def test_journal__after_brokering__names_nobody(fleet, oracle):
    entries = str([oracle.journal(kind) for kind in set(oracle.kinds()) - {"started"}])
    assert oracle.journal("brokered") != []
    for worker in fleet.workers.values():
        assert worker.id.lower() not in entries.lower()


async def test_restart__with_a_deal_under_way__concluded(world):
    oracle = await world.add("oracle", Kind.ORACLE)
    processor = await world.add("processor", Kind.PROCESSOR)
    await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    await world.until(lambda: processor.journal("deal-accepted") != [])
    oracle.restart()
    await world.until(lambda: processor.journal("session-open") != [])


async def test_worker_lost__in_the_queue__forgotten(fleet, oracle):
    fleet.capacity = 8
    sensor = fleet.workers["sensor"]
    await fleet.switch(sensor, active=False)
    assert oracle.runtime.messenger.table.with_peer(sensor.id) == []
    assert sensor.id not in oracle.agent._dispatcher.workers()


async def test_admit__only_for_what_an_oracle_is_there_for(oracle):
    assert oracle.agent.admit("0x1", "oracle")
    assert not oracle.agent.admit("0x1", "gateway")
    assert not oracle.agent.admit("0x1", "deal:1")


async def test_rotation__another_oracle_is_named__members_move_over_and_the_deal_goes_on(fleet, oracle):
    sensor, processor = fleet.workers["sensor"], fleet.workers["processor"]
    opened = sensor.runtime.messenger.session(processor.id).id
    other = await fleet.add("oracle-2", Kind.ORACLE)
    fleet.workers["oracle"], fleet.workers["oracle-2"] = other, oracle
    await fleet.rotate(lead=3, grace=6)
    fleet.workers["oracle"], fleet.workers["oracle-2"] = oracle, other
    await fleet.until(lambda: all(w.runtime.messenger.epochs.epoch_key(2) is not None for w in (sensor, processor)))
    await fleet.pass_time(12)
    assert sensor.runtime.oracle == processor.runtime.oracle == other.id
    assert sensor.runtime.messenger.session(processor.id).id == opened
    assert all(w.runtime.membership.complete for w in (sensor, processor))
    oracle.crash()
    await fleet.switch(processor, active=False)
    await fleet.switch(processor, active=True)
    await fleet.until(lambda: sensor.in_session_with(processor), within=90)
