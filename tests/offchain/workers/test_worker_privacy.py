from __future__ import annotations

import random
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worker_world import HOUR, hours

from quietfleet.clock import ManualClock
from quietfleet.crypto import PrivateKey, recover
from quietfleet.errors import SettingsError
from quietfleet.metrics import Metrics
from quietfleet.monitor import Baseline, privacy
from quietfleet.monitor.privacy import KINDS_EACH
from quietfleet.monitor.telling import Told
from quietfleet.settings import DataSection, PrivacySection, ProcessorSection, load_settings
from quietfleet.storage import Database
from quietfleet.workers._privacy import KINDS, Privacy, wrong_with
from quietfleet.workers.messages import FetchRelease, MonitorReport, MonitorRun

DAY = 24 * HOUR


@pytest.fixture
def make_fleet(world, candidate):
    """A processor with a model and a week of one device; its gateway is a pen."""

    async def make(**chosen):
        world.privacy = PrivacySection(**chosen)
        gateway = await world.found()
        gateway.agent.answers[FetchRelease] = lambda _: world.bundle(1, candidate)
        await world.release(1, candidate.manifest_hash)
        await world.until(lambda: world.workers["processor"].journal("release-installed") != [])
        readings = hours(60, 0.0)
        for start in range(0, 60, 12):
            world.workers["sensor"].measure(readings[start : start + 12])
            await world.pass_time(2)
        await world.pass_time(4)
        return Fleet(world)

    return make


class Fleet:
    """Asks as a gateway would, and more often."""

    def __init__(self, world):
        self.world, self.processor, self.gateway = world, world.workers["processor"], world.workers["gateway"]

    async def ask(self, nonce):
        request = self.gateway.runtime.messenger.request
        body = MonitorRun(nonce.to_bytes(16, "big"))
        await self.gateway.do(lambda: request(self.processor.id, body, (MonitorReport,), 60, "monitor"))
        await self.world.pass_time(3)
        return self.gateway.agent.heard(MonitorReport)[-1].signed

    def spent(self):
        return self.processor.agent.status()["privacy"]["spent"]


async def test_report__with_an_epsilon__of_the_group_alone_and_says_what_it_cost(make_fleet):
    fleet = await make_fleet(epsilon=1.0, budget=3.0)
    signed = await fleet.ask(1)
    told = signed.told
    assert (told.epsilon, told.epsilon_left) == (1.0, 2.0)
    assert told.drift == {}
    assert tuple(told.faults) == KINDS, "of each kind, found or not"
    assert all(count == int(count) >= 0 for count in told.faults.values())
    assert recover(told.digest, signed.signature).id == fleet.processor.id
    assert fleet.spent() == 1.0


async def test_report__without__as_ever_and_nothing_is_entered(make_fleet):
    fleet = await make_fleet()
    told = (await fleet.ask(1)).told
    assert (told.epsilon, told.epsilon_left) == (0.0, 0.0)
    assert "privacy" not in fleet.processor.agent.status()
    assert fleet.processor.rows("SELECT * FROM privacy") == []


async def test_gateway__asks_the_same_again__hears_the_same_and_pays_once(make_fleet):
    fleet = await make_fleet(epsilon=1.0, budget=3.0)
    first = await fleet.ask(1)
    assert await fleet.ask(2) != first
    assert await fleet.ask(1) == first
    assert fleet.spent() == 2.0


async def test_gateway__asks_without_end__budget_ends_and_no_average_takes_the_noise_away(make_fleet):
    fleet = await make_fleet(epsilon=0.5, budget=1.5)
    answers = [await fleet.ask(nonce) for nonce in range(12)]
    told = [one.told for one in answers if one.told.epsilon]
    assert len(told) == 3
    assert all(one.told == Told(one.told.nonce, 1, {}, spent=True) for one in answers[3:]), "nothing but that"
    assert fleet.spent() == 1.5
    assert fleet.processor.metric("privacy_refused") == 9
    ((kept,),) = fleet.processor.rows("SELECT count(*) FROM privacy")
    assert kept == 3, "who asks in vain fills no disk"


async def test_budget__a_week_later__there_again(make_fleet):
    fleet = await make_fleet(epsilon=1.0, budget=1.0)
    await fleet.ask(1)
    assert (await fleet.ask(2)).told.epsilon == 0
    fleet.world.clock.advance(7 * DAY + 1)
    await fleet.world.until(lambda: fleet.processor.in_session_with(fleet.gateway), within=120)
    assert (await fleet.ask(3)).told.epsilon == 1.0


async def test_answer__its_step_is_undone__costs_nothing(make_fleet, monkeypatch):
    fleet = await make_fleet(epsilon=1.0, budget=3.0)
    reply = fleet.processor.runtime.messenger.reply
    monkeypatch.setattr(fleet.processor.runtime.messenger, "reply", _broken)
    request = fleet.gateway.runtime.messenger.request
    body = MonitorRun(bytes(16))
    await fleet.gateway.do(lambda: request(fleet.processor.id, body, (MonitorReport,), 60, "monitor"))
    await fleet.world.pass_time(3)
    assert fleet.spent() == 0
    monkeypatch.setattr(fleet.processor.runtime.messenger, "reply", reply)
    assert (await fleet.ask(5)).told.epsilon_left == 2.0


def _broken(*_):
    raise RuntimeError("the disk is full")


async def test_reports__of_processors_in_one_moment__each_device_counted_by_itself(make_fleet):
    fleet = await make_fleet(epsilon=20.0, budget=1000.0)
    told = [(await fleet.ask(nonce)).told for nonce in range(8)]
    assert sum(one.judged for one in told) <= 8 * 2, "one device, and little noise"


async def test_processor__starts_anew__remembers_what_it_spent_and_said(make_fleet):
    fleet = await make_fleet(epsilon=1.0, budget=1.0)
    first = await fleet.ask(1)
    fleet.processor.restart()
    await fleet.world.pass_time(5)
    assert await fleet.ask(1) == first
    assert (await fleet.ask(2)).told.epsilon == 0


# what one device can do to what is told of the others

BASELINE = Baseline.fit({"temp": [10.0 + hour % 7 for hour in range(720)]})
NOW = 200 * HOUR
device = st.builds(
    lambda first, until, level, step, hole: [
        (hour * HOUR, {"temp": level + step * (hour % 5)})
        for hour in range(first, until)
        if not hole <= hour < hole + 12
    ],
    st.integers(30, 100),
    st.integers(120, 200),
    st.sampled_from([10.0, 12.0, 40.0, 200.0]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0, 150, 190]),
)


def counted(group):
    """The whole numbers that noise is added to when a processor tells of these devices."""
    seen = []

    def plain(value, sensitivity, _epsilon, _random):
        seen.append((value, sensitivity))
        return value

    with tempfile.TemporaryDirectory() as folder, Database(Path(folder) / "worker.db") as database:
        clock = ManualClock(NOW)
        runtime = SimpleNamespace(
            settings=SimpleNamespace(
                processor=ProcessorSection(privacy=PrivacySection(epsilon=1.0)), data=DataSection()
            ),
            clock=clock,
            data_clock=clock,
            database=database,
            metrics=Metrics(),
            random=random.Random(1).randbytes,
            keyring=SimpleNamespace(present=PrivateKey.from_bytes(bytes(31) + b"\x01")),
        )
        week = {str(place): rows for place, rows in enumerate(group)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(privacy, "noisy", plain)
            Privacy(runtime).tell(MonitorRun(bytes(16)), 1, week, BASELINE, [])
    return seen


@given(st.lists(device, min_size=1, max_size=5), device)
@settings(max_examples=40)
def test_told__one_device_more__moves_the_counts_no_further_than_their_noise_is_for(group, newcomer):
    """With a hole that all share, an early end, a drift that others have: what is looked at together elsewhere."""
    before, after = counted(group), counted([*group, newcomer])
    moved = [abs(value - other) for (value, _), (other, _) in zip(before, after, strict=True)]
    assert sum(moved[3:]) <= KINDS_EACH


def test_judged__by_itself__faults_and_drift_are_found():
    fine = [(hour * HOUR, {"temp": 10.0 + hour % 7}) for hour in range(32, 200)]
    assert wrong_with(fine, BASELINE, NOW) == []
    assert wrong_with([(at, {"temp": v["temp"] + 8.0}) for at, v in fine], BASELINE, NOW) == ["drifted"]
    assert "stuck" in wrong_with([(at, {"temp": 12.0}) for at, _ in fine], BASELINE, NOW)
    assert wrong_with(fine, None, NOW) == []


@pytest.mark.parametrize(
    ("written", "said"),
    [("epsilon = 2.0\nbudget = 1.0", "budget"), ("epsilon = 0.0001", "0.001 at least"), ("epsilon = -1.0", ">= 0")],
)
def test_settings__that_promise_nothing__refused(tmp_path, written, said):
    file = tmp_path / "worker.toml"
    head = '[worker]\nname = "p"\n[chain]\ndeployment = "d.json"\n'
    file.write_text(f"{head}[processor.privacy]\n{written}\n")
    with pytest.raises(SettingsError, match=said):
        load_settings(file, {})
