"""A worker's messaging key is replaced while it works, while it is down, and when it is time to."""

from __future__ import annotations

import secrets
import stat

import msgspec
import pytest
from worker_world import OWNER, Pen, Worker, hours

from quietfleet.chain.events import OwnerChanged
from quietfleet.chain.new_key import KeyProof
from quietfleet.chain.replica import Batch
from quietfleet.chain.types import Head, Kind
from quietfleet.crypto import PrivateKey
from quietfleet.session._card import draw_secrets
from quietfleet.settings import KeysSection
from quietfleet.workers._keys import PROOF, RETRY, VALID

MONTH = 30 * 86_400.0
BUYER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


@pytest.fixture
async def scheduled(world, monkeypatch):
    """A processor in a fleet whose owner wants its key replaced every month."""
    settings = world.settings
    every = KeysSection(rotate_every=MONTH)
    monkeypatch.setattr(world, "settings", lambda name: msgspec.structs.replace(settings(name), keys=every))
    await world.add("oracle", Kind.ORACLE)
    processor = await world.add("processor", Kind.PROCESSOR)
    processor.keep_first_key()
    await world.rotate()
    await world.until(lambda: processor.runtime.membership.complete)
    return processor


def own_key(one: Worker, other: Worker) -> str:
    """The address of the key that a worker is in session under."""
    return one.runtime.messenger.session(other.id).own.key


async def jump(world, seconds):
    """Let much time pass at once."""
    world.clock.advance(seconds)
    await world.say()
    await world.run(rounds=2)


def proof_of(worker) -> KeyProof:
    return KeyProof.from_json((worker.runtime.folder / PROOF).read_bytes())


@pytest.mark.parametrize("name", ["sensor", "processor"])
async def test_key_replaced__at_work__both_sever_and_go_on_and_no_reading_is_lost(fleet, sensor, processor, name):
    sensor.measure(hours(3, 0.0))
    await fleet.until(lambda: sum(e["rows"] for e in sensor.journal("recommendation")) == 3)
    worker, peer = (sensor, processor) if name == "sensor" else (processor, sensor)
    key = await fleet.rekey(worker)
    assert worker.journal("key-replaced") == [{"epoch": 1}]
    assert {entry["reason"] for entry in worker.journal("severed")} == {"our key was replaced"}
    assert {entry["peer"]: entry["reason"] for entry in peer.journal("severed")} == {worker.id: "its key was replaced"}
    assert not worker.in_session_with(peer)
    sensor.measure(hours(6, 0.0)[3:])
    await fleet.until(lambda: sum(e["rows"] for e in sensor.journal("recommendation")) == 6)
    assert own_key(worker, peer) == key.public.id
    assert worker.runtime.messenger.epochs.epoch_key(1) is not None
    assert len(fleet.workers["oracle"].journal("epoch-key-granted")) == 2, "nobody had to ask for it again"


async def test_key_replaced__the_oracles__its_card_serves_until_the_next_configuration(
    fleet, sensor, processor, oracle
):
    key = await fleet.rekey(oracle)
    assert [worker.journal("severed") for worker in (sensor, processor, oracle)] == [[], [], []]
    assert own_key(oracle, sensor) == oracle.id
    late = await fleet.add("late", Kind.PROCESSOR)
    await fleet.until(lambda: late.runtime.membership.complete)
    await fleet.rotate(lead=5, grace=5)
    await fleet.pass_time(20)
    for worker in (sensor, processor, late):
        assert worker.runtime.membership.complete
        assert own_key(oracle, worker) == key.public.id


async def test_key_replaced__the_gateways__sessions_under_its_card_end_with_the_configuration(world):
    await world.add("oracle", Kind.ORACLE)
    gateway = await world.add("gateway", Kind.GATEWAY, agent=Pen)
    processor = await world.add("processor", Kind.PROCESSOR)
    await world.rotate()
    await world.until(lambda: processor.in_session_with(gateway))
    key = await world.rekey(gateway)
    assert own_key(gateway, processor) == gateway.id
    await world.rotate(lead=5, grace=5)
    await world.until(lambda: processor.journal("severed") != [])
    assert processor.journal("severed") == [{"peer": gateway.id, "reason": "its key was replaced"}]
    assert [entry["version"] for entry in processor.journal("epoch-retired")] == [1]
    await world.until(lambda: processor.in_session_with(gateway))
    assert own_key(gateway, processor) == key.public.id


async def test_key_replaced__the_new_one_is_not_here__works_with_nobody_and_says_what_to_do(fleet, sensor, processor):
    sensor.keep_first_key()
    prepared = sensor.runtime.keyring.next()
    hidden = fleet.folder / "elsewhere"
    sensor.runtime.keyring.file(1).rename(hidden)
    sensor.runtime.keyring._read.clear()
    await fleet.rekey(sensor, prepared)
    await fleet.pass_time(10)
    (entry,) = sensor.journal("key-missing")
    assert "sensor.1.json" in entry["reason"]
    assert "put it back" in entry["reason"]
    assert sensor.runtime.status()["sessions"] == []
    assert sensor.runtime.status()["key"] == {"epoch": 1, "here": False, "next": ""}
    assert sensor.metric("steps_failed") == 0
    sensor.measure(hours(4, 0.0))
    await fleet.pass_time(5)
    assert sensor.journal("recommendation") == []
    hidden.rename(sensor.runtime.keyring.file(1))
    sensor.restart()
    await fleet.until(lambda: sum(e["rows"] for e in sensor.journal("recommendation")) == 4)
    assert own_key(sensor, processor) == prepared.public.id


async def test_key_replaced__while_the_peer_was_down__its_session_is_gone_when_it_is_back(fleet, sensor, processor):
    processor.crash()
    await fleet.rekey(sensor)
    processor.start()
    effects, processor.runtime.on_changes = processor.runtime.on_changes, lambda _changes: None
    await fleet.catch_up(processor)
    assert processor.runtime.messenger.table.with_peer(sensor.id) != []
    processor.runtime.on_changes = effects
    processor.restart()
    assert processor.runtime.messenger.table.with_peer(sensor.id) == []
    assert processor.journal("severed")[-1] == {"peer": sensor.id, "reason": "a key was replaced while we were down"}
    sensor.measure(hours(3, 0.0))
    await fleet.until(lambda: sum(e["rows"] for e in sensor.journal("recommendation")) == 3)


async def test_key_replaced__while_the_worker_itself_was_down__comes_back_under_the_new_one(fleet, sensor, processor):
    sensor.keep_first_key()
    key = sensor.runtime.keyring.next()
    sensor.crash()
    await fleet.rekey(sensor, key)
    sensor.start()
    await fleet.catch_up(sensor)
    sensor.runtime._reconcile()
    sensor.measure(hours(3, 0.0))
    await fleet.until(lambda: sum(e["rows"] for e in sensor.journal("recommendation")) == 3)
    assert own_key(sensor, processor) == key.public.id


async def test_key_replaced__the_chain_is_reorganised_without_it__back_to_the_key_before(fleet, sensor, processor):
    await fleet.rekey(sensor)
    fleet.forget_newest()
    for worker in fleet.up():
        block = worker.runtime.replica.head.number
        other = Head(block, b"another branch".ljust(32), int(fleet.clock.now()))
        worker.runtime.replica.advance(block - 1, Batch((), (other,)), 256, worker.runtime.on_changes)
    sensor.measure(hours(3, 0.0))
    await fleet.until(lambda: sum(e["rows"] for e in sensor.journal("recommendation")) == 3)
    assert own_key(sensor, processor) == sensor.id
    assert [entry["epoch"] for entry in sensor.journal("key-replaced")] == [1, 0]


async def test_key_replaced__twice__session_under_the_third(fleet, sensor, processor):
    await fleet.rekey(sensor)
    key = await fleet.rekey(sensor)
    await fleet.until(lambda: sensor.in_session_with(processor))
    assert own_key(sensor, processor) == key.public.id
    sensor.restart()
    assert sensor.runtime.keyring.present.public == key.public
    assert sensor.in_session_with(processor)


@pytest.mark.parametrize("name", ["sensor", "processor"])
async def test_introduction__card_by_a_key_that_is_not_its_workers__refused(world, name):
    for one, kind in (("oracle", Kind.ORACLE), ("processor", Kind.PROCESSOR), ("sensor", Kind.SENSOR)):
        await world.add(one, kind)
    await world.rotate()
    worker, other = world.workers[name], world.workers["processor" if name == "sensor" else "sensor"]
    forged = draw_secrets(worker.id, PrivateKey.from_bytes(b"\7" * 32), 1, secrets.token_bytes).card
    worker.runtime.messenger.own_card = lambda: forged
    await world.until(lambda: worker.journal("deal-accepted") != [])
    await world.pass_time(6)
    assert other.journal("introduced") == []
    assert other.rows("SELECT name FROM state WHERE name LIKE 'deal:%'") == []
    assert not worker.in_session_with(other)


async def test_schedule__not_due_yet__nothing_drawn(world, scheduled):
    await jump(world, MONTH - 100)
    assert scheduled.journal("key-prepared") == []
    assert not (scheduled.runtime.folder / PROOF).exists()


async def test_schedule__due__proof_is_laid_out_once_and_the_present_key_stays(world, scheduled):
    await jump(world, MONTH)
    await world.pass_time(5)
    (entry,) = scheduled.journal("key-prepared")
    proof = proof_of(scheduled)
    service = scheduled.runtime.deployment.service.address
    proof.check(31337, service, world.clock.now(), owner=OWNER, epoch=1)
    assert entry == {"epoch": 1, "deadline": proof.deadline}
    assert stat.S_IMODE((scheduled.runtime.folder / PROOF).stat().st_mode) == 0o600
    assert scheduled.runtime.status()["key"] == {"epoch": 0, "here": True, "next": "processor.1.json"}
    assert scheduled.runtime.keyring.present.public.id == scheduled.id


async def test_schedule__owner_is_slow__same_key_again_before_the_deadline(world, scheduled):
    await jump(world, MONTH)
    first = proof_of(scheduled)
    await jump(world, VALID / 2 + 10)
    again = proof_of(scheduled)
    assert (again.public_key, again.epoch) == (first.public_key, 1)
    assert again.deadline > first.deadline > world.clock.now()


async def test_schedule__device_is_sold__proof_for_the_new_owner(world, scheduled):
    await jump(world, MONTH)
    sequence = scheduled.runtime.replica.worker(scheduled.id).sequence
    await world.say(OwnerChanged(scheduled.id, OWNER, BUYER, sequence + 1))
    await world.run(rounds=1)
    assert proof_of(scheduled).owner == BUYER


async def test_schedule__key_is_on_chain__counts_from_then(world, scheduled):
    await jump(world, MONTH)
    await world.rekey(scheduled)
    await jump(world, MONTH - 100)
    assert len(scheduled.journal("key-prepared")) == 1
    scheduled.restart()
    await jump(world, 200)
    assert [entry["epoch"] for entry in scheduled.journal("key-prepared")] == [1, 2]


async def test_schedule__shorter_than_a_proof_lasts__next_one_is_laid_out_in_time(world, scheduled):
    scheduled.runtime.schedule._every = VALID / 4
    await jump(world, MONTH)
    await world.rekey(scheduled)
    await jump(world, VALID / 4)
    assert [entry["epoch"] for entry in scheduled.journal("key-prepared")] == [1, 2]


async def test_schedule__key_cannot_be_drawn__said_once_and_tried_again_later(world, scheduled):
    first = world.folder / "processor.json"
    first.rename(world.folder / "elsewhere")
    await jump(world, MONTH)
    await world.pass_time(5)
    (entry,) = scheduled.journal("key-not-prepared")
    assert "processor.json" in entry["reason"]
    (world.folder / "elsewhere").rename(first)
    await jump(world, RETRY)
    assert len(scheduled.journal("key-prepared")) == 1


async def test_schedule__owner_wants_none__never(fleet, processor):
    await jump(fleet, 100 * MONTH)
    assert processor.journal("key-prepared") == []


async def test_schedule__switched_off__waits(world, scheduled):
    await world.switch(scheduled, active=False)
    await jump(world, MONTH)
    assert scheduled.journal("key-prepared") == []
    await world.switch(scheduled, active=True)
    await world.run(rounds=1)
    assert len(scheduled.journal("key-prepared")) == 1
