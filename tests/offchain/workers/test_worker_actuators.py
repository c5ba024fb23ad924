from __future__ import annotations

import math

import msgspec
import pytest
from actuator_kit import Hanging, Moved, fan
from worker_world import HOUR

from quietfleet.actuators.commands import MOST, Command, Did, Effect, SignedEffect
from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey, recover
from quietfleet.errors import MessageRefused
from quietfleet.workers import _actuators as actuators
from quietfleet.workers.messages import CommandEffect, Recommendation, make_codec

HALF = 50.0


@pytest.fixture(autouse=True)
def motions(monkeypatch):
    monkeypatch.setattr(actuators, "Motion", Moved)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "fan"
    path.write_text("0\n")
    return path


@pytest.fixture
def make_fleet(world, file):
    """A sensor with a fan, and a processor that says what the test has it say."""

    async def make(*, commands=(), **limits):
        world.actuators = [fan(**limits)]
        world.commands = list(commands)
        for name, kind in (("oracle", Kind.ORACLE), ("processor", Kind.PROCESSOR), ("sensor", Kind.SENSOR)):
            await world.add(name, kind)
        await world.rotate()
        await world.until(lambda: world.workers["processor"].journal("session-open") != [])
        return Fleet(world, file)

    return make


class Fleet:
    """Says what a processor could, and looks at the fan."""

    def __init__(self, world, file):
        self.world, self._file, self._hour, self._ids = world, file, 0, 0
        self.sensor, self.processor = world.workers["sensor"], world.workers["processor"]

    @property
    def shown(self):
        return float(self._file.read_text())

    def command(self, value, *, lasts=300.0, actuator="fan", number=None):
        self._ids += 1
        serial = self._ids if number is None else number
        return Command(serial.to_bytes(16, "big"), actuator, value, self.world.clock.now() + lasts)

    async def recommend(self, *commands):
        """Have the processor answer the next reading with these commands, as if its rules had made them."""
        told = self.processor.agent._commands
        said, told.beside = told.beside, lambda _device, said: msgspec.structs.replace(said, commands=list(commands))
        now = self.world.clock.now()
        for one in commands:
            row = (one.id, self.sensor.id, one.actuator, one.value, now, one.until)
            insert = "INSERT OR IGNORE INTO commands (id, device, actuator, value, issued, until) VALUES (?,?,?,?,?,?)"
            self.processor.runtime.database.execute(insert, row)
        await self.measure()
        told.beside = said

    async def measure(self, **fields):
        self._hour += 1
        self.sensor.measure([(self._hour * HOUR, {"temp": 20.0, **fields})])
        await self.world.pass_time(3)

    def effects(self):
        return self.processor.journal("command-effect")


# a command's way


async def test_command__within_limits__moves_and_is_told_with_what_was_measured(make_fleet):
    fleet = await make_fleet(effect="temp", settle=2 * HOUR)
    await fleet.measure(temp=24.0)
    await fleet.recommend(fleet.command(HALF))
    assert fleet.shown == HALF
    assert fleet.effects() == []
    await fleet.measure(temp=23.0)
    await fleet.measure(temp=21.5)
    (told,) = fleet.effects()
    assert (told["did"], told["asked"], told["value"], told["channel"]) == ("moved", HALF, HALF, "temp")
    assert (told["before"], told["after"]) == (20.0, 21.5)
    (moved,) = fleet.sensor.journal("actuated")
    assert moved == {"actuator": "fan", "value": HALF}


async def test_command__its_time_is_over__back_at_the_safe_value(make_fleet):
    fleet = await make_fleet()
    await fleet.recommend(fleet.command(HALF, lasts=60))
    assert fleet.shown == HALF
    await fleet.world.pass_time(61)
    assert fleet.shown == 0
    assert fleet.sensor.journal("command-over")[-1]["reason"] == "expired"


async def test_command__asks_for_longer_than_any_is_held__cut_to_that(make_fleet):
    fleet = await make_fleet(hold=30.0)
    await fleet.recommend(fleet.command(HALF, lasts=1e6))
    assert fleet.shown == HALF
    await fleet.world.pass_time(31)
    assert fleet.shown == 0


async def test_command__another_comes__replaces_it_and_both_are_told(make_fleet):
    fleet = await make_fleet(effect="temp", settle=24 * HOUR)
    await fleet.recommend(fleet.command(HALF))
    await fleet.recommend(fleet.command(60.0))
    assert fleet.shown == 60
    (told,) = fleet.effects()
    assert (told["asked"], told["reason"], told["after"]) == (HALF, "replaced", None)


async def test_command__owner_switches_the_device_off__safe_at_once(make_fleet):
    fleet = await make_fleet()
    await fleet.recommend(fleet.command(HALF))
    await fleet.world.switch(fleet.sensor, active=False)
    await fleet.world.pass_time(1)
    assert fleet.shown == 0
    assert fleet.sensor.journal("actuator-safe")[-1]["value"] == 0


async def test_command__its_processor_is_switched_off__safe_at_once(make_fleet):
    fleet = await make_fleet()
    await fleet.recommend(fleet.command(HALF))
    await fleet.world.switch(fleet.processor, active=False)
    await fleet.world.pass_time(1)
    assert fleet.shown == 0
    assert fleet.sensor.journal("command-over")[-1]["reason"] == "its session ended"


async def test_command__chain_out_of_sight__safe(make_fleet):
    fleet = await make_fleet()
    await fleet.recommend(fleet.command(HALF))
    fleet.world.chain_runs = False
    await fleet.world.pass_time(25)
    assert fleet.shown == 0
    assert fleet.sensor.journal("command-over")[-1]["reason"] == actuators.OUT


async def test_command__killed_before_it_moved__moves_once_when_it_is_back(make_fleet, monkeypatch):
    fleet = await make_fleet()
    monkeypatch.setattr(actuators, "Motion", Hanging)
    fleet.sensor.agent._actuators._start = Hanging
    await fleet.recommend(fleet.command(HALF))
    assert fleet.shown == 0
    monkeypatch.setattr(actuators, "Motion", Moved)
    fleet.sensor.restart()
    await fleet.world.pass_time(3)
    assert fleet.shown == HALF
    assert len(fleet.sensor.journal("actuated")) == 1
    (told,) = fleet.effects()
    assert told["did"] == "moved"


async def test_command__killed_after_it_moved__read_back_and_entered_once(make_fleet, file):
    fleet = await make_fleet()
    fleet.sensor.agent._actuators._look = lambda: None  # killed before it could see that
    await fleet.recommend(fleet.command(HALF))
    assert (fleet.shown, fleet.sensor.journal("actuated")) == (HALF, [])
    fleet.sensor.restart()
    file.write_text("50\n")  # as a kill leaves it
    await fleet.world.pass_time(3)
    assert len(fleet.sensor.journal("actuated")) == 1
    assert file.read_text() == "50\n", "not written again"


async def test_command__was_over_while_the_worker_was_down__safe_as_it_starts(make_fleet, file):
    fleet = await make_fleet()
    await fleet.recommend(fleet.command(HALF, lasts=60))
    fleet.sensor.crash()
    file.write_text("50\n")  # a kill leaves it there
    fleet.world.clock.advance(120)
    fleet.sensor.start()
    fleet.sensor.runtime._reconcile()
    await fleet.world.pass_time(2)
    assert fleet.shown == 0


async def test_worker__ends__leaves_its_actuators_safe(make_fleet):
    fleet = await make_fleet()
    await fleet.recommend(fleet.command(HALF))
    fleet.sensor.crash()
    assert fleet.shown == 0


# drivers that fail


async def test_driver__fails__command_failed_and_the_safe_value_tried_until_it_works(make_fleet, file):
    fleet = await make_fleet()
    file.unlink()
    await fleet.recommend(fleet.command(HALF))
    await fleet.measure()
    (told,) = fleet.effects()
    assert (told["did"], told["reason"]) == ("failed", "No such file or directory")
    assert fleet.sensor.agent.status()["actuators"]["fan"]["fault"] == "No such file or directory"
    file.write_text("70\n")
    await fleet.world.pass_time(61)
    assert fleet.shown == 0
    assert "fault" not in fleet.sensor.agent.status()["actuators"]["fan"]
    assert len(fleet.sensor.journal("actuator-fault")) == 1


async def test_driver__hangs__worker_goes_on_and_says_so(make_fleet):
    fleet = await make_fleet()
    fleet.sensor.agent._actuators._start = Hanging
    await fleet.recommend(fleet.command(HALF))
    for _ in range(3):
        await fleet.measure()
    (told,) = fleet.effects()
    assert (told["did"], told["reason"]) == ("failed", "its driver does not come back")
    assert len(fleet.sensor.journal("actuator-fault")) == 1
    assert fleet.sensor.journal("recommendation")[-1]["rows"] == 1


async def test_effect__processor_is_down__told_when_it_is_back(make_fleet):
    fleet = await make_fleet(effect="temp", settle=HOUR)
    await fleet.recommend(fleet.command(HALF))
    fleet.processor.crash()
    fleet.sensor.measure([(9 * HOUR, {"temp": 19.0})])
    await fleet.world.pass_time(3)
    fleet.processor.start()
    fleet.processor.runtime._reconcile()
    await fleet.world.until(lambda: fleet.effects() != [])
    assert fleet.effects()[0]["after"] == 19.0


# attackers


@pytest.mark.parametrize("value", [100.5, -0.1])
async def test_processor__asks_for_more_than_the_device_allows__refused_whole_over_its_signature(make_fleet, value):
    fleet = await make_fleet()
    await fleet.recommend(fleet.command(value))
    await fleet.measure()
    assert fleet.shown == 0
    (told,) = fleet.effects()
    assert (told["did"], told["reason"]) == ("refused", "beyond its limits")
    assert len(bytes.fromhex(told["signature"])) == 65


async def test_processor__walks_in_steps__no_step_is_larger_and_none_sooner_than_allowed(make_fleet):
    fleet = await make_fleet(step=20.0, rest=60.0)
    await fleet.recommend(fleet.command(30.0))
    await fleet.recommend(fleet.command(20.0), fleet.command(40.0))
    assert fleet.shown == 20
    await fleet.recommend(fleet.command(40.0))
    assert fleet.shown == 20
    reasons = [entry["reason"] for entry in fleet.sensor.journal("command-refused")]
    assert set(reasons) == {"too far at once", "too soon after the one before"}


async def test_processor__says_the_same_again__no_rest_is_needed_and_nothing_moves_twice(make_fleet):
    fleet = await make_fleet(rest=600.0)
    await fleet.recommend(fleet.command(HALF, lasts=20))
    await fleet.recommend(fleet.command(HALF, lasts=300))
    await fleet.world.pass_time(30)
    assert fleet.shown == HALF
    assert fleet.sensor.journal("command-refused") == []
    assert [entry["did"] for entry in fleet.effects()] == ["moved", "moved"]


async def test_processor__replays_a_command__followed_once(make_fleet):
    fleet = await make_fleet()
    first = fleet.command(HALF, number=99)
    await fleet.recommend(first)
    await fleet.recommend(fleet.command(10.0))
    await fleet.recommend(first)
    assert fleet.shown == 10


async def test_processor__command_of_yesterday__refused(make_fleet):
    fleet = await make_fleet()
    await fleet.recommend(fleet.command(HALF, lasts=-1))
    assert fleet.shown == 0
    assert fleet.sensor.journal("command-refused")[0]["reason"] == "expired"


async def test_processor__names_what_is_not_there__refused(make_fleet):
    fleet = await make_fleet()
    await fleet.recommend(fleet.command(HALF, actuator="door"))
    assert fleet.sensor.journal("command-refused")[0]["reason"] == "no such actuator"


async def test_processor__floods__neither_journal_nor_disk_fills(make_fleet):
    fleet = await make_fleet()
    for _ in range(12):
        await fleet.recommend(*(fleet.command(500.0) for _ in range(MOST)))
    assert len(fleet.sensor.journal("command-refused")) <= 1 + 12 * 3 / 60
    ((kept,),) = fleet.sensor.rows("SELECT count(*) FROM orders")
    assert kept <= actuators.UNTOLD + 12 * 3
    assert fleet.sensor.metric("commands", did="refused") == 12 * MOST


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_command__no_number_of_this_world__never_decoded(value):
    said = Recommendation(1, "x", commands=[Command(bytes(16), "fan", value, 1.0)])
    with pytest.raises(MessageRefused):
        make_codec().body(msgspec.msgpack.encode(said))


async def test_effect__of_a_command_nobody_gave__refused_and_not_answered(make_fleet):
    fleet = await make_fleet()
    signed = Effect(bytes(16), Did.MOVED).signed(fleet.sensor.key)
    request = fleet.sensor.runtime.messenger.request
    await fleet.sensor.do(lambda: request(fleet.processor.id, CommandEffect(signed), (Recommendation,), 20, "made up"))
    await fleet.world.pass_time(3)
    assert fleet.processor.metric("effects_refused", reason="unasked") >= 1
    assert fleet.effects() == []


async def test_effect__under_another_key__refused(make_fleet):
    fleet = await make_fleet()
    other = PrivateKey.from_bytes(bytes(31) + b"\x07")
    said = fleet.sensor.agent._actuators._orders.answer
    fleet.sensor.agent._actuators._orders.answer = lambda order, signed: said(order, signed.effect.signed(other))
    await fleet.recommend(fleet.command(HALF))
    await fleet.measure()
    assert fleet.processor.metric("effects_refused", reason="forged") >= 1
    assert fleet.effects() == []


async def test_effect__told__signed_by_the_device_over_exactly_that(make_fleet):
    fleet = await make_fleet()
    await fleet.recommend(fleet.command(HALF))
    ((kept,),) = fleet.sensor.rows("SELECT answer FROM orders")
    signed = msgspec.msgpack.decode(kept, type=SignedEffect)
    assert recover(signed.effect.digest, signed.signature).id == fleet.sensor.id
