"""The owners' allow-list: whom a worker takes, and what a malicious oracle gets by pairing everybody with its own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from worker_world import OWNER, World

from quietfleet.chain.events import OperatorChanged, OwnerChanged
from quietfleet.chain.types import Kind, Right
from quietfleet.crypto import checksum_address, keccak256
from quietfleet.errors import SettingsError
from quietfleet.settings import DispatchSection
from quietfleet.workers._partners import UNLISTED, addresses
from quietfleet.workers.messages import DEAL

FRIEND, MALLORY, OPERATOR = (checksum_address(keccak256(name)[12:]) for name in (b"friend", b"mallory", b"operator"))


def deals(world: World) -> list:
    return list(world.workers["oracle"].agent._dispatcher._store.deals())


async def found(world: World, *, processor: str = FRIEND, sensor: str = FRIEND) -> None:
    """An oracle, and a processor and a sensor of these owners."""
    await world.add("oracle", Kind.ORACLE)
    await world.add("processor", Kind.PROCESSOR, owner=processor)
    await world.add("sensor", Kind.SENSOR, owner=sensor)
    await world.rotate()


def allow(world: World, name: str, *whom: str) -> None:
    world.dispatch[name] = DispatchSection(allow=list(whom))


@pytest.mark.parametrize("guarded", ["sensor", "processor"])
async def test_introduction__owner_on_the_list__session(world, guarded):
    allow(world, guarded, FRIEND)
    await found(world)
    await world.until(lambda: world.workers["processor"].journal("session-open") != [])
    assert world.workers["sensor"].in_session_with(world.workers["processor"])


@pytest.mark.parametrize("guarded", ["sensor", "processor"])
async def test_introduction__owner_not_on_the_list__no_handshake_place_back_and_one_note(world, guarded):
    allow(world, guarded, FRIEND)
    other = "processor" if guarded == "sensor" else "sensor"
    await found(world, **{other: MALLORY})
    await world.until(lambda: world.workers[guarded].journal("introduction-refused") != [])
    refused = len(world.workers[guarded].journal("introduction-refused"))
    assert UNLISTED in world.workers[guarded].journal("introduction-refused")[0]["reason"]
    assert refused == len(world.workers[guarded].journal("deal-accepted"))
    await world.until(lambda: deals(world) == [], within=5)
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    assert not sensor.in_session_with(processor)
    assert not processor.in_session_with(sensor)
    assert world.workers[guarded].journal("introduced") == []


async def test_introduction__to_a_stranger_again_and_again__ever_longer_pauses(world):
    allow(world, "sensor", FRIEND)
    await found(world, processor=MALLORY)
    await world.pass_time(120)
    assert 3 <= len(world.workers["sensor"].journal("introduction-refused")) <= 8


async def test_malicious_oracle__pairs_everybody_with_its_own_workers__gets_nothing(world):
    """The oracle says that only its owner's workers fit; both kinds of honest worker keep to themselves."""
    for name in ("sensor", "processor"):
        allow(world, name, FRIEND)
    await found(world)
    mine = [await world.add("spy-processor", Kind.PROCESSOR, owner=MALLORY)]
    mine += [await world.add("spy-sensor", Kind.SENSOR, owner=MALLORY)]
    ours = [world.workers["sensor"], world.workers["processor"]]
    spies = {spy.id for spy in mine}
    dispatcher = world.workers["oracle"].agent._dispatcher
    dispatcher._registry = SimpleNamespace(
        usable=lambda _worker: True, can_cooperate=lambda one, other: (one in spies) != (other in spies)
    )
    await world.until(lambda: all(one.journal("introduction-refused") for one in ours), within=120)
    await world.pass_time(30)
    assert not [1 for one in ours for spy in mine if one.in_session_with(spy) or spy.in_session_with(one)]
    heard = [entry for spy in mine for entry in (*spy.journal("readings"), *spy.journal("recommendation"))]
    assert heard == []
    assert all(one.journal("session-open") == [] for one in (*ours, *mine))


async def test_owner__changed_to_a_stranger__severed_and_not_met_again(world):
    allow(world, "processor", FRIEND)
    await found(world)
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    await world.until(lambda: processor.journal("session-open") != [])
    await world.say(OwnerChanged(sensor.id, FRIEND, MALLORY, sequence_of(world, sensor) + 1))
    assert not processor.in_session_with(sensor)
    await world.pass_time(20)
    assert len(processor.journal("session-open")) == 1
    assert UNLISTED in processor.journal("introduction-refused")[-1]["reason"]


async def test_owner__changed_before_the_call__not_let_in_and_place_back(world):
    """Introduced, and sold before it calls: the call is judged by the owner of that moment."""
    allow(world, "processor", FRIEND)
    await found(world)
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    await introduce(world)
    (purpose,) = processor.agent._state.starting(DEAL)
    await world.say(OwnerChanged(sensor.id, FRIEND, MALLORY, sequence_of(world, sensor) + 1))
    assert not processor.agent.admit(sensor.id, purpose)
    await world.until(lambda: deals(world) == [], within=5)


async def test_operator__rights_taken_back_before_the_call__place_back_and_one_note(world):
    allow(world, "processor", OPERATOR)
    await found(world)
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    await entrust(world, FRIEND, until=int(world.clock.now()) + 3600)
    await switch_on(world, sensor, OPERATOR)
    await introduce(world)
    (purpose,) = processor.agent._state.starting(DEAL)
    await world.say(OperatorChanged(FRIEND, OPERATOR, Right(0), 0))
    assert not processor.agent.admit(sensor.id, purpose)
    assert processor.journal("introduction-refused")[-1] == {"peer": sensor.id, "reason": UNLISTED}
    await world.until(lambda: deals(world) == [], within=5)


async def let_in(world: World) -> tuple:
    """A sensor that the operator on the processor's list has switched on, in session with it; return the two."""
    allow(world, "processor", OPERATOR)
    await found(world)
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    await entrust(world, FRIEND, until=int(world.clock.now()) + 3600)
    await switch_on(world, sensor, OPERATOR)
    await world.until(lambda: processor.in_session_with(sensor), within=60)
    return sensor, processor


async def test_operator__on_the_list_and_switched_the_worker_on__let_in(world):
    sensor, processor = await let_in(world)
    assert processor.in_session_with(sensor)


async def test_operator__on_the_list_and_named_by_a_stranger_alone__refused(world):
    """Anybody may name anyone as its operator: without the operator's own act it says nothing."""
    allow(world, "processor", OPERATOR)
    await found(world, sensor=MALLORY)
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    await entrust(world, MALLORY, until=int(world.clock.now()) + 3600)
    await switch_on(world, sensor, MALLORY)
    await world.until(lambda: processor.journal("introduction-refused") != [], within=60)
    await world.pass_time(10)
    assert not processor.in_session_with(sensor)


async def test_operator__term_runs_out__severed_with_that_block(world):
    allow(world, "processor", OPERATOR)
    await found(world)
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    await entrust(world, FRIEND, until=int(world.clock.now()) + 30)
    await switch_on(world, sensor, OPERATOR)
    await world.until(lambda: processor.in_session_with(sensor), within=25)
    await world.until(lambda: not processor.in_session_with(sensor), within=32)
    assert processor.journal("severed")[-1]["reason"] == UNLISTED


async def test_operator__its_right_to_switch_on_taken_back_and_another_left__severed_at_once(world):
    """An owner that its operator would not let in any more cannot keep its word alive by some other right."""
    sensor, processor = await let_in(world)
    until = int(world.clock.now()) + 3600
    await world.say(OperatorChanged(FRIEND, OPERATOR, Right.REPLACE_KEYS, until))
    assert not processor.in_session_with(sensor)


async def test_operator__rights_taken_back__severed_at_once(world):
    sensor, processor = await let_in(world)
    await world.say(OperatorChanged(FRIEND, OPERATOR, Right(0), 0))
    assert not processor.in_session_with(sensor)


async def test_allow__empty__anyone(fleet):
    assert fleet.workers["sensor"].in_session_with(fleet.workers["processor"])


async def test_allow__changed_over_a_restart__session_of_before_ends(fleet):
    processor, sensor = fleet.workers["processor"], fleet.workers["sensor"]
    allow(fleet, "processor", FRIEND)
    processor.restart()
    await fleet.pass_time(2)
    assert not processor.in_session_with(sensor)


def test_addresses__written_in_any_case__one_form():
    plain = OWNER.lower()
    assert addresses([plain, plain.upper().replace("0X", "0x")], "allow") == (checksum_address(b"\xaa" * 20),)


def test_addresses__a_digit_mistyped_in_a_checksummed_one__refused_with_its_name():
    wrong = FRIEND[:-1] + ("1" if FRIEND[-1] != "1" else "2")
    assert wrong.removeprefix("0x") not in (wrong.removeprefix("0x").lower(), wrong.removeprefix("0x").upper())
    with pytest.raises(SettingsError, match="allow"):
        addresses([wrong], "allow")


async def introduce(world):
    """Come as far as the introduction; the sensor does not call."""
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    connect = sensor.runtime.messenger.connect
    sensor.runtime.messenger.connect = lambda card, why: None if why.startswith(DEAL) else connect(card, why)
    await world.until(lambda: processor.journal("introduced") != [], within=60)


def sequence_of(world, worker):
    return world.workers["oracle"].runtime.replica.worker(worker.id).sequence


async def entrust(world, owner, *, until):
    await world.say(OperatorChanged(owner, OPERATOR, Right.SWITCH_OFF | Right.SWITCH_ON, until))


async def switch_on(world, worker, by):
    await world.switch(worker, active=False, by=by)
    await world.switch(worker, active=True, by=by)
