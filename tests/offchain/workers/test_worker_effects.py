"""What each act of an owner or of the service does to whoever works with a device, and what a reorg makes of it."""

from __future__ import annotations

import pytest
from worker_world import OWNER, hours

from quietfleet.chain.events import (
    ActiveChanged,
    ConfigurationRotated,
    Enrolled,
    KeyRotated,
    OperatorChanged,
    OwnerChanged,
    Retired,
    SuspendedChanged,
    TransferCancelled,
    TransferOffered,
)
from quietfleet.chain.types import Kind
from quietfleet.crypto import checksum_address
from quietfleet.settings import DispatchSection
from quietfleet.workers.messages import DEAL

BUYER = "0x" + "bb" * 20
OPERATOR = "0x" + "cc" * 20


def next_number(worker):
    return worker.runtime.replica.worker(worker.id).sequence + 1


def sessions(worker):
    return list(worker.runtime.messenger.table.sessions)


def between(a, b):
    """The sessions that two workers have with each other, by either's account."""
    tables = (one.runtime.messenger.table for one in (a, b))
    return {session.id for table in tables for session in table.sessions.values() if session.peer in (a.id, b.id)}


def reasons(worker):
    return [entry["reason"] for entry in worker.journal("severed")]


def outbox(worker):
    return [pending.peer for pending in worker.runtime.messenger.conversations.pending.values()]


def deals(worker):
    return {name for (name,) in worker.rows("SELECT name FROM state WHERE name GLOB ?", DEAL + "*")}


async def apart(fleet, sensor, processor):
    """Nothing is between them, and nothing comes of what either says."""
    before = len(sensor.journal("recommendation"))
    sensor.measure(hours(2, fleet.data.now()))
    await fleet.pass_time(4)
    assert not sensor.in_session_with(processor)
    assert not processor.in_session_with(sensor)
    assert len(sensor.journal("recommendation")) == before


async def paired(fleet, sensor, processor):
    await fleet.until(lambda: sensor.in_session_with(processor) and processor.in_session_with(sensor), within=90)


async def fresh(fleet, sensor, processor, known, old_deals):
    """They are together again, by another deal and in another session."""
    await paired(fleet, sensor, processor)
    assert not between(sensor, processor) & known
    assert not deals(processor) & old_deals
    sensor.measure(hours(2, fleet.data.now()))
    before = len(sensor.journal("recommendation"))
    await fleet.until(lambda: len(sensor.journal("recommendation")) > before)


ACTS = {
    "switched off": (lambda w, n: ActiveChanged(w, OWNER, False, n), lambda w, n: ActiveChanged(w, OWNER, True, n)),
    "by an operator": (
        lambda w, n: ActiveChanged(w, OPERATOR, False, n),
        lambda w, n: ActiveChanged(w, OPERATOR, True, n),
    ),
    "suspended": (lambda w, n: SuspendedChanged(w, True, n), lambda w, n: SuspendedChanged(w, False, n)),
}
REASON = {
    "switched off": "switched off on chain",
    "by an operator": "switched off on chain",
    "suspended": "suspended by the service",
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("name", ["sensor", "processor"])
async def test_out_of_service__and_back__nothing_old_survives_and_a_fresh_deal_connects(
    fleet, sensor, processor, oracle, act, name
):
    end, resume = ACTS[act]
    worker, other = (sensor, processor) if name == "sensor" else (processor, sensor)
    known, old_deals = between(sensor, processor), deals(processor)
    await fleet.say(end(worker.id, next_number(worker)))
    assert reasons(other) == [REASON[act]]
    assert set(reasons(worker)) == {f"we were {REASON[act]}"}
    assert worker.journal("switched-off")[-1]["reason"] == REASON[act]
    assert sessions(worker) == []
    assert outbox(worker) == []
    assert worker.id not in outbox(other)
    assert deals(processor) == set()
    await apart(fleet, sensor, processor)
    assert not oracle.in_session_with(worker)
    await fleet.say(resume(worker.id, next_number(worker)))
    assert sessions(worker) == []
    await fresh(fleet, sensor, processor, known, old_deals)


async def test_switched_off_and_on_in_one_block__parted_all_the_same(fleet, sensor, processor):
    known, old_deals, number = between(sensor, processor), deals(processor), next_number(sensor)
    both = (ActiveChanged(sensor.id, OWNER, False, number), ActiveChanged(sensor.id, OWNER, True, number + 1))
    await fleet.say(*both)
    assert sessions(sensor) == []
    assert not processor.in_session_with(sensor)
    await fresh(fleet, sensor, processor, known, old_deals)


async def test_introduced_peer__switched_off_and_on_in_one_block__is_not_let_in_by_the_old_deal(fleet, processor):
    fleet.lose = lambda sender, _: sender.name == "late" and sender.journal("introduced") != []
    late = await fleet.add("late", Kind.SENSOR)
    await fleet.until(lambda: len(deals(processor)) == 2)
    purposes = [name for name in deals(processor) if processor.agent.admit(late.id, name)]
    assert len(purposes) == 1
    number = next_number(late)
    await fleet.say(ActiveChanged(late.id, OWNER, False, number), ActiveChanged(late.id, OWNER, True, number + 1))
    assert not processor.agent.admit(late.id, purposes[0])


@pytest.mark.parametrize("name", ["sensor", "processor"])
async def test_retired__parted_for_good(fleet, sensor, processor, name):
    worker, other = (sensor, processor) if name == "sensor" else (processor, sensor)
    await fleet.say(Retired(worker.id, OWNER, next_number(worker)))
    assert reasons(other) == ["retired"]
    assert worker.journal("switched-off")[-1]["reason"] == "retired"
    assert sessions(worker) == []
    await apart(fleet, sensor, processor)


async def test_transfer_offered_and_taken_back__nothing_happens(fleet, sensor, processor):
    known = sessions(sensor)
    await fleet.say(TransferOffered(sensor.id, BUYER, next_number(sensor)))
    await fleet.say(TransferCancelled(sensor.id, next_number(sensor)))
    await fleet.say(TransferOffered(processor.id, BUYER, next_number(processor)))
    await fleet.say(OperatorChanged(OWNER, OPERATOR, 7, int(fleet.clock.now()) + 3600))
    await fleet.say(OperatorChanged(OWNER, OPERATOR, 0, 0))
    assert sessions(sensor) == known
    assert reasons(sensor) == reasons(processor) == []
    sensor.measure(hours(2, 0.0))
    await fleet.until(lambda: sensor.journal("recommendation") != [])


@pytest.mark.parametrize("name", ["sensor", "processor"])
async def test_transfer_taken__both_part_and_a_fresh_deal_connects(fleet, sensor, processor, name):
    worker, other = (sensor, processor) if name == "sensor" else (processor, sensor)
    known, old_deals = between(sensor, processor), deals(processor)
    await fleet.say(OwnerChanged(worker.id, OWNER, BUYER, next_number(worker)))
    assert reasons(other) == ["handed over"]
    assert worker.journal("handed-over") == [{"reason": "handed over"}]
    assert sessions(worker) == []
    assert outbox(worker) == []
    assert not fleet.workers["oracle"].in_session_with(worker)
    await fresh(fleet, sensor, processor, known, old_deals)


async def test_transfer_taken__new_owner_is_not_on_the_list__not_worked_with_any_more(world):
    seller, buyer = checksum_address(b"\xaa" * 20), checksum_address(b"\xbb" * 20)
    world.dispatch["sensor"] = DispatchSection(allow=[seller])
    for name, kind in (("oracle", Kind.ORACLE), ("processor", Kind.PROCESSOR), ("sensor", Kind.SENSOR)):
        await world.add(name, kind, owner=seller)
    await world.rotate()
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    await paired(world, sensor, processor)
    await world.say(OwnerChanged(processor.id, seller, buyer, next_number(processor)))
    await world.pass_time(20)
    assert not sensor.in_session_with(processor)
    await world.say(OwnerChanged(processor.id, buyer, seller, next_number(processor)))
    await paired(world, sensor, processor)


@pytest.mark.parametrize("scheduled", [True, False])
async def test_key_replaced__both_part_from_the_old_key_and_go_on_under_the_new(fleet, sensor, processor, scheduled):
    """Scheduled: the device has drawn its next key; in an emergency it learns of a key that it does not hold."""
    known = between(sensor, processor)
    if scheduled:
        await fleet.rekey(sensor)
        assert reasons(processor) == ["its key was replaced"]
        assert set(reasons(sensor)) == {"our key was replaced"}
        await paired(fleet, sensor, processor)
        assert not between(sensor, processor) & known
        return
    stranger = fleet.workers["oracle"].key.public
    sensor.keep_first_key()
    await fleet.say(KeyRotated(sensor.id, "0x" + "12" * 20, stranger.to_bytes(), 1, next_number(sensor)))
    assert not processor.in_session_with(sensor)
    assert "key-missing" in sensor.kinds()
    await apart(fleet, sensor, processor)


async def test_switched_off__a_processor__answers_nobody_and_produces_nothing(fleet, sensor, processor):
    processor.runtime.sever = lambda *_: None  # deaf to its owner: what it could still do is looked at
    await fleet.say(ActiveChanged(processor.id, OWNER, False, next_number(processor)))
    fleet.wire.clear()
    sensor.measure(hours(3, 0.0))
    await fleet.pass_time(10)
    assert processor.journal("readings") == []
    assert "processor" not in {sender.name for sender, _ in fleet.wire}


async def test_switched_off__a_gateway__answers_nobody_and_trains_nothing(world):
    await world.add("oracle", Kind.ORACLE)
    gateway = await world.add("gateway", Kind.GATEWAY)
    processor = await world.add("processor", Kind.PROCESSOR)
    await world.rotate()
    await world.until(lambda: processor.in_session_with(gateway))
    begun = len(gateway.journal("training"))
    await world.say(ActiveChanged(gateway.id, OWNER, False, next_number(gateway)))
    assert reasons(processor) == ["switched off on chain"]
    assert sessions(gateway) == []
    gateway.agent._runs.begin("manual", {}, now=0.0)
    for job in list(gateway.agent._jobs):
        job.cancel()
    world.wire.clear()
    await world.pass_time(10)
    assert len(gateway.journal("training")) == begun
    assert "gateway" not in {sender.name for sender, _ in world.wire}


# reorgs


async def test_deep_reorg__takes_a_disable_away_and_brings_it_back__parts_twice_and_only_fresh_deals_connect(
    fleet, sensor, processor
):
    await fleet.say()
    ancestor, number = fleet._block, next_number(sensor)
    off = ActiveChanged(sensor.id, OWNER, False, number)
    first = between(sensor, processor)
    old_deals = deals(processor)
    await fleet.say(off)
    await fleet.pass_time(30)
    assert reasons(processor) == ["switched off on chain"]
    assert processor.runtime.replica.head.number - ancestor > 30
    await fleet.reorganise(ancestor)
    assert sensor.runtime.replica.usable(sensor.id)
    assert sessions(sensor) == []
    await fresh(fleet, sensor, processor, first, old_deals)
    second, newer_deals = between(sensor, processor), deals(processor)
    await fleet.reorganise(ancestor, off)
    assert reasons(processor) == ["switched off on chain"] * 2
    assert sessions(sensor) == []
    await apart(fleet, sensor, processor)
    await fleet.reorganise(ancestor)
    await fresh(fleet, sensor, processor, first | second, old_deals | newer_deals)


async def test_deep_reorg__takes_an_enrolment_away__as_if_it_had_never_been(fleet, sensor, processor, oracle):
    await fleet.say()
    ancestor = fleet._block
    late = await fleet.add("late", Kind.SENSOR)
    await paired(fleet, late, processor)
    known = between(late, processor)
    old_deals = {name for name in deals(processor) if processor.agent.admit(late.id, name)}
    await fleet.reorganise(ancestor)
    assert processor.journal("severed")[-1] == {"peer": late.id, "reason": "taken off the chain by a reorg"}
    assert sessions(late) == []
    assert not oracle.in_session_with(late)
    assert sensor.in_session_with(processor), "whom the reorg does not concern goes on"
    await apart(fleet, late, processor)
    await fleet.say(Enrolled(late.id, OWNER, Kind.SENSOR, late.key.public.to_bytes()))
    await paired(fleet, late, processor)
    assert not between(late, processor) & known
    assert not deals(processor) & old_deals


async def test_deep_reorg__a_device_comes_back_under_another_owner__is_parted_from(fleet, sensor, processor):
    events = [one.event for one in fleet._events]
    place = next(at for at, one in enumerate(events) if isinstance(one, Enrolled) and one.id == sensor.id)
    before = fleet._events[place].block - 1
    moved = [Enrolled(sensor.id, BUYER, Kind.SENSOR, sensor.key.public.to_bytes()), *events[place + 1 :]]
    await fleet.reorganise(before, *moved)
    assert reasons(processor) == ["handed over"]
    assert sessions(sensor) == []
    await paired(fleet, sensor, processor)


async def test_deep_reorg__takes_a_configuration_away_and_brings_it_back__all_follow(fleet, sensor, processor):
    await fleet.say()
    ancestor = fleet._block
    await fleet.rotate(lead=0, grace=30)
    rotated = ConfigurationRotated(fleet.latest)
    await fleet.pass_time(12)
    assert sensor.runtime.messenger.epochs.latest.version == 2
    await fleet.reorganise(ancestor)
    assert sensor.runtime.messenger.epochs.latest.version == 1
    await fleet.until(lambda: sensor.runtime.membership.complete and processor.runtime.membership.complete)
    await paired(fleet, sensor, processor)
    await fleet.reorganise(ancestor, rotated)
    assert sensor.runtime.messenger.epochs.latest.version == 2
    await fleet.until(lambda: sensor.runtime.membership.complete and processor.runtime.membership.complete)
    await paired(fleet, sensor, processor)
    sensor.measure(hours(2, 0.0))
    await fleet.until(lambda: sensor.journal("recommendation") != [])
