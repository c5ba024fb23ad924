from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest
from worker_world import DAY, HOUR, OWNER, WEATHER, Pen, hours

from quietfleet.chain.events import ReleaseApproved, ReleaseProposed, WaveOpened
from quietfleet.chain.types import Kind
from quietfleet.crypto import keccak256, recover
from quietfleet.pipeline.project import shipped
from quietfleet.pipeline.run import run_pipeline
from quietfleet.rollout import Outcome, Reason
from quietfleet.workers import _watch as watch
from quietfleet.workers.messages import (
    DriftReport,
    DriftVerdict,
    FetchRelease,
    MonitorReport,
    MonitorRun,
    NoSuchRelease,
    OutcomeHeard,
    ReleaseBundle,
    ReleaseOutcome,
    Upload,
)


@pytest.fixture
async def cloud(world):
    """The fleet with a gateway that notes what comes up and answers as the test says."""
    gateway = await world.found()
    gateway.agent.answers[DriftReport] = lambda _: DriftVerdict("wait", {})
    return world


@pytest.fixture
def processor(world):
    return world.workers["processor"]


@pytest.fixture
def feed(world):
    """Has the sensor measure some hours, six at a time."""

    async def feed(first, last, temperature=None):
        readings = hours(last, 0.0, temperature)[first:]
        for start in range(0, len(readings), 6):
            world.workers["sensor"].measure(readings[start : start + 6])
            await world.pass_time(1)
        await world.pass_time(3)

    return feed


def went_up(world):
    """The hours of data the gateway was given, in the order they came."""
    uploads = world.workers["gateway"].agent.heard(Upload)
    return [at / HOUR for upload in uploads for at, _ in upload.rows]


def needle(hour):
    """A thermometer that sticks for the whole fourth day."""
    return 8.0 if 72 <= hour < 96 else 10.0 + 5.0 * (hour % 24) / 24 + 0.1 * (hour % 7)


async def test_admit__introduced_sensor__for_that_deal_alone(fleet, processor):
    sensor = fleet.workers["sensor"]
    stranger = await fleet.add("stranger", Kind.SENSOR)
    (session,) = processor.runtime.messenger.table.with_peer(sensor.id)
    assert processor.agent.admit(sensor.id, session.purpose)
    assert not processor.agent.admit(stranger.id, session.purpose)
    assert not processor.agent.admit(sensor.id, "deal:" + "0" * 32)
    assert not processor.agent.admit(sensor.id, session.purpose.removeprefix("deal:"))
    assert not processor.agent.admit(sensor.id, "oracle")


async def test_introduction__of_somebody_the_chain_does_not_allow__not_expected(world):
    oracle = await world.add("oracle", Kind.ORACLE)
    processor = await world.add("processor", Kind.PROCESSOR)
    await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    processor.runtime.registry.can_cooperate = lambda _me, peer: peer == oracle.id
    await world.until(lambda: processor.journal("deal-accepted") != [])
    await world.pass_time(6)
    assert processor.journal("introduced") == []
    assert processor.rows("SELECT name FROM state WHERE name LIKE 'deal:%'") == []


async def test_switched_off_and_on__offers_again_and_serves_again(fleet, processor):
    sensor = fleet.workers["sensor"]
    await fleet.switch(processor, active=False)
    await fleet.pass_time(3)
    assert not sensor.in_session_with(processor)
    await fleet.switch(processor, active=True)
    await fleet.until(lambda: sensor.in_session_with(processor))
    assert len(processor.journal("session-open")) == 2


async def test_call__active_sensor_nobody_introduced__no_session(fleet, processor):
    stranger = await fleet.add("stranger", Kind.SENSOR, agent=Pen)
    await fleet.until(lambda: stranger.runtime.membership.complete)
    card = processor.runtime.messenger.own_card()
    await stranger.do(lambda: stranger.runtime.messenger.connect(card, "deal:" + "ab" * 16))
    await fleet.pass_time(5)
    assert not stranger.in_session_with(processor)
    assert processor.metric("handshakes_refused") > 0
    assert processor.runtime.messenger.table.with_peer(stranger.id) == []


async def test_readings__a_day_old__go_up_veiled_and_in_order(cloud, feed, processor):
    await feed(0, 60)
    assert went_up(cloud) == list(range(60 - 24))[: len(went_up(cloud))]
    assert len(went_up(cloud)) >= 30
    sensor = cloud.workers["sensor"].id
    uploads = cloud.workers["gateway"].agent.heard(Upload)
    assert len({upload.device for upload in uploads}) == 1
    assert all(sensor[2:].lower() not in upload.device.lower() for upload in uploads)


async def test_upload__not_answered__comes_again_from_its_first_row(cloud, feed):
    gateway = cloud.workers["gateway"].agent
    answer = gateway.answers.pop(Upload)
    await feed(0, 48)
    before = went_up(cloud)
    assert before
    await cloud.pass_time(22)
    gateway.answers[Upload] = answer
    gateway.events.clear()
    await cloud.pass_time(25)
    assert went_up(cloud)[0] == before[0]
    assert sorted(set(went_up(cloud))) == list(range(23)), "and nothing is missing after it"


async def test_readings__of_another_age__refused_and_nobody_elses_are_moved(cloud, feed, processor):
    await feed(0, 30)
    up = went_up(cloud)
    cloud.workers["sensor"].source.coming = hours(1, 300 * DAY) + hours(1, 31 * HOUR)
    await cloud.pass_time(3)
    last = processor.journal("readings")[-1]
    assert (last["rows"], last["new"], last["refused"]) == (2, 0, 2)
    assert "check the clock" in cloud.workers["sensor"].journal("recommendation")[-1]["advice"]
    await cloud.pass_time(12)
    assert went_up(cloud) == up
    kept = [at for (day,) in processor.rows("SELECT day FROM series_day") for (at,) in _times(processor, day)]
    assert min(kept) == 0
    assert max(kept) < 32 * HOUR


async def test_fault__needle_sticks__set_aside_and_its_days_never_go_up(cloud, feed, processor):
    await feed(0, 84, needle)
    sensor = cloud.workers["sensor"]
    assert "stuck" in processor.journal("quarantined")[0]["reason"]
    assert sensor.source.recalibrated == 1
    assert processor.agent.status()["devices"][sensor.id] != "fine"
    held = went_up(cloud)
    await feed(84, 108, needle)
    assert went_up(cloud) == held
    await feed(108, 160, needle)
    assert processor.journal("released") != []
    assert processor.agent.status()["devices"][sensor.id] == "fine"
    again = went_up(cloud)[len(held) :]
    assert again
    assert not [hour for hour in went_up(cloud) if 72 <= hour < 120]


async def test_fault__in_quarantine__still_answered(cloud, feed):
    await feed(0, 100, needle)
    assert sum(entry["rows"] for entry in cloud.workers["sensor"].journal("recommendation")) == 100


def another(candidate, manifest=None):
    """The same model, as another release."""
    manifest = manifest or candidate.manifest + b" "
    return SimpleNamespace(manifest=manifest, artifact=candidate.artifact, manifest_hash=keccak256(manifest))


@pytest.fixture
async def equipped(cloud, candidate, feed):
    """The fleet after its first release was taken up."""
    gateway = cloud.workers["gateway"].agent
    gateway.answers[FetchRelease] = lambda _: cloud.bundle(1, candidate)
    await cloud.release(1, candidate.manifest_hash)
    await cloud.until(lambda: cloud.workers["processor"].journal("release-installed") != [])
    await feed(0, 30)
    return cloud


async def test_release__as_anchored__forecasts_with_it(equipped):
    last = equipped.workers["sensor"].journal("recommendation")[-1]
    assert last["release"] == 1
    assert isinstance(last["forecast"], float)
    assert 0 < last["confidence"] <= 1


async def test_release__another_one_than_the_chain_names__rejected_and_the_old_one_goes_on(
    equipped, candidate, feed, processor
):
    manifest = candidate.manifest.replace(b'"sigma"', b'"Sigma"')
    true = keccak256(b"the true manifest")
    forged = ReleaseBundle(2, equipped.ticket(true), manifest, candidate.artifact)
    equipped.workers["gateway"].agent.answers[FetchRelease] = lambda _: forged
    await equipped.release(2, true)
    await equipped.pass_time(3)
    assert "not the one released on chain" in processor.journal("release-rejected")[0]["reason"]
    await feed(30, 36)
    assert equipped.workers["sensor"].journal("recommendation")[-1]["release"] == 1
    assert processor.agent.status()["release"] == 1
    heard = equipped.workers["gateway"].agent.heard(ReleaseOutcome)
    said = [(one.signed.report.sequence, one.signed.report.outcome, one.signed.report.reason) for one in heard]
    assert said[0] == (1, Outcome.COMMITTED, Reason.NONE)
    assert (2, Outcome.REJECTED, Reason.WRONG_BYTES) in said
    assert all(one.signed.by(processor.id) for one in heard)


async def test_release__only_proposed_or_approved__nothing_is_fetched(equipped, processor):
    gateway = equipped.workers["gateway"].agent
    gateway.events.clear()
    await equipped.say(ReleaseProposed(WEATHER, 2, equipped.terms(b"\7" * 32)))
    await equipped.say(ReleaseApproved(WEATHER, 2, OWNER))
    await equipped.pass_time(6)
    assert gateway.heard(FetchRelease) == []
    assert [entry["sequence"] for entry in processor.journal("release-announced")] == [1]
    await equipped.say(WaveOpened(WEATHER, 2, 1))
    await equipped.pass_time(2)
    assert gateway.heard(FetchRelease) == [FetchRelease("weather", 2)]
    assert [entry["sequence"] for entry in processor.journal("release-announced")] == [1, 2]


async def test_release__open_but_its_time_is_over__nothing_is_fetched(equipped, processor):
    gateway = equipped.workers["gateway"].agent
    gateway.events.clear()
    terms = msgspec.structs.replace(equipped.terms(b"\7" * 32), expires_at=int(equipped.clock.now()) - 1)
    await equipped.say(
        ReleaseProposed(WEATHER, 2, terms), ReleaseApproved(WEATHER, 2, OWNER), WaveOpened(WEATHER, 2, 1)
    )
    await equipped.pass_time(6)
    assert gateway.heard(FetchRelease) == []


async def test_release__artefact_swapped__rejected(equipped, candidate, processor):
    other = keccak256(candidate.manifest + b" ")
    swapped = ReleaseBundle(2, equipped.ticket(other), candidate.manifest + b" ", candidate.artifact + b"\0")
    equipped.workers["gateway"].agent.answers[FetchRelease] = lambda _: swapped
    await equipped.release(2, other)
    await equipped.pass_time(3)
    assert processor.journal("release-rejected") != []
    assert processor.agent.status()["release"] == 1


async def test_release__gateway_does_not_have_it__asked_again_until_it_has(equipped, candidate, processor):
    gateway = equipped.workers["gateway"].agent
    gateway.answers[FetchRelease] = lambda fetch: NoSuchRelease(fetch.sequence)
    other = another(candidate)
    await equipped.release(2, other.manifest_hash)
    await equipped.pass_time(3)
    gateway.answers[FetchRelease] = lambda _: equipped.bundle(2, other)
    await equipped.until(lambda: processor.agent.status()["release"] == 2)
    assert [entry["sequence"] for entry in processor.journal("release-committed")] == [1, 2]


async def test_release__brings_back_what_it_has__taken_up_without_asking_anybody(equipped, candidate, processor):
    gateway = equipped.workers["gateway"].agent
    other = another(candidate)
    gateway.answers[FetchRelease] = lambda _: equipped.bundle(2, other)
    await equipped.release(2, other.manifest_hash)
    await equipped.until(lambda: processor.agent.status()["release"] == 2)
    gateway.answers[FetchRelease] = lambda fetch: NoSuchRelease(fetch.sequence)
    gateway.events.clear()
    await equipped.release(3, candidate.manifest_hash)
    await equipped.until(lambda: processor.agent.status()["release"] == 3)
    assert gateway.heard(FetchRelease) == []
    assert processor.journal("release-committed")[-1]["manifest"] == candidate.manifest_hash.hex()


async def test_restart__with_a_model_and_a_session__same_ones(equipped, feed, processor):
    processor.restart()
    await feed(30, 36)
    assert equipped.workers["sensor"].journal("recommendation")[-1]["release"] == 1
    assert len(processor.journal("session-open")) == 1
    assert len(processor.journal("release-installed")) == 1


async def test_watch__world_left_the_baseline__reported_under_pseudonyms(equipped, feed, processor):
    await feed(30, 230, lambda hour: 30.0 + 5.0 * (hour % 24) / 24 + 0.1 * (hour % 7))
    reports = equipped.workers["gateway"].agent.heard(DriftReport)
    assert reports
    assert reports[-1].release == 1
    (device,) = reports[-1].drift
    assert device == equipped.workers["gateway"].agent.heard(Upload)[-1].device
    assert max(reports[-1].drift[device].values()) > 70
    assert processor.journal("drift-verdict")[-1] == {"fleet": "wait"}


async def test_watch__a_person_approves_a_lone_drift__the_gateway_is_told_that_it_is_right(equipped, feed, processor):
    await feed(30, 230, lambda hour: 30.0 + 5.0 * (hour % 24) / 24 + 0.1 * (hour % 7))
    reports = equipped.workers["gateway"].agent.heard
    assert reports(DriftReport)[-1].verified == []
    alarms = processor.agent._watch.alarms
    numbers = [alarm.number for alarm in alarms.open() if alarm.cause == "lone drift"]
    assert numbers

    def approve():
        for number in numbers:
            alarms.change(number, lambda alarm: alarm.approved("anna", "a new roof"))

    await processor.do(approve)
    before = len(reports(DriftReport))
    await equipped.until(lambda: len(reports(DriftReport)) > before + 1)
    assert reports(DriftReport)[-1].verified == list(reports(DriftReport)[-1].drift)


async def test_week__older_readings__erased(cloud, feed, processor):
    await feed(0, 12)
    await feed(240, 252)
    await cloud.pass_time(12)
    kept = [at for (day,) in processor.rows("SELECT day FROM series_day") for (at,) in _times(processor, day)]
    assert kept
    assert min(kept) >= 251 * HOUR - 7 * DAY


def _times(processor, day):
    return processor.rows(f"SELECT time FROM series_{day}")  # noqa: S608 - a day's number


async def test_sensor_comes_again__time_and_again__takes_one_place(world):
    world.capacity = 1
    await world.add("oracle", Kind.ORACLE)
    processor = await world.add("processor", Kind.PROCESSOR)
    sensor = await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    for times in range(1, 5):
        await world.until(lambda times=times: len(processor.journal("session-open")) == times)
        await sensor.do(lambda: sensor.runtime.sever(processor.id, "moved away"))
    await world.until(lambda: len(processor.journal("session-open")) == 5)
    sensor.measure(hours(2, 0.0))
    await world.until(lambda: sensor.journal("recommendation") != [])


async def test_step_fails__with_an_upload_just_asked_for__the_upload_is_made_up_for(equipped, monkeypatch, processor):
    def broken(*_args, **_named):
        raise ZeroDivisionError

    sensor, gateway = equipped.workers["sensor"], equipped.workers["gateway"].agent
    sensor.measure(hours(36, 0.0)[30:])
    await sensor.beat()
    await equipped.deliver()
    gateway.events.clear()
    equipped.clock.advance(1)
    with monkeypatch.context() as monitor:
        monitor.setattr(watch, "assess", broken)
        await processor.beat()
    assert processor.metric("steps_failed") == 1
    await equipped.pass_time(2)
    assert went_up(equipped) == list(range(5, 11))


async def test_restart__model_on_disk_is_corrupt__starts_all_the_same_and_fetches_it_anew(equipped, feed, processor):
    for path in (processor.runtime.folder / "objects").rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"not what it was")
    processor.restart()
    assert processor.journal("model-lost")
    await equipped.pass_time(8)
    await feed(30, 36)
    assert equipped.workers["sensor"].journal("recommendation")[-1]["release"] == 1
    assert len(processor.journal("release-installed")) == 2


class Broken:
    """A model's sessions that raise whatever they are asked."""

    personal = frozenset()

    def run(self, _rows, _device):
        raise ZeroDivisionError

    def run_each(self, _rows, _devices):
        raise ZeroDivisionError


async def test_model__fails_again_and_again_once_it_is_in_use__the_one_before_goes_on_and_says_so(
    equipped, candidate, feed, processor
):
    sensor, other = equipped.workers["sensor"], another(candidate)
    equipped.workers["gateway"].agent.answers[FetchRelease] = lambda _: equipped.bundle(2, other)
    await equipped.release(2, other.manifest_hash)
    await equipped.until(lambda: processor.agent.status()["release"] == 2)
    processor.agent._slot.model.runner = Broken()
    for hour in range(30, 33):
        await feed(hour, hour + 1)
    assert (processor.agent.status()["release"], processor.agent.status()["rollout"]) == (1, "rolled back")
    await feed(33, 36)
    said = sensor.journal("recommendation")[-1]
    assert (said["release"], said["fallback"]) == (1, "last-known model")
    assert isinstance(said["forecast"], float)
    await equipped.pass_time(20)
    assert processor.agent.status()["release"] == 1, "what failed is not taken up anew"
    reports = equipped.workers["gateway"].agent.heard(ReleaseOutcome)
    last = reports[-1].signed.report
    assert (last.sequence, last.outcome, last.reason) == (2, Outcome.ROLLED_BACK, Reason.CRASH)
    processor.restart()
    await equipped.pass_time(5)
    await feed(36, 38)
    assert sensor.journal("recommendation")[-1]["fallback"] == "last-known model"


async def test_model__fails_and_there_was_none_before__goes_on_without_a_forecast(equipped, feed, processor):
    processor.agent._slot.model.runner = Broken()
    for hour in range(30, 36):
        await feed(hour, hour + 1)
    assert processor.agent.status()["release"] == 1
    assert equipped.workers["sensor"].journal("recommendation")[-1]["advice"] == "not enough history yet"


async def test_model__fails_now_and_then__stays(equipped, candidate, feed, processor):
    other = another(candidate)
    equipped.workers["gateway"].agent.answers[FetchRelease] = lambda _: equipped.bundle(2, other)
    await equipped.release(2, other.manifest_hash)
    await equipped.until(lambda: processor.agent.status()["release"] == 2)
    sound = processor.agent._slot.model.runner
    for hour in range(30, 40):
        processor.agent._slot.model.runner = sound if hour % 3 == 2 else Broken()
        await feed(hour, hour + 1)
    assert processor.agent.status()["release"] == 2


async def test_restart__newest_model_on_disk_is_corrupt__the_one_before_goes_on_until_it_is_there_again(
    equipped, candidate, feed, processor
):
    gateway, other = equipped.workers["gateway"].agent, another(candidate)
    gateway.answers[FetchRelease] = lambda _: equipped.bundle(2, other)
    await equipped.release(2, other.manifest_hash)
    await equipped.until(lambda: processor.agent.status()["release"] == 2)
    gateway.answers[FetchRelease] = lambda fetch: NoSuchRelease(fetch.sequence)
    (name, _) = processor.agent._slot._slots.active.names
    kept = (processor.runtime.folder / "objects").rglob("*")
    (path,) = (one for one in kept if one.is_file() and name.endswith(one.name))
    path.chmod(0o600)
    path.write_bytes(b"not what it was")
    processor.restart()
    assert processor.agent.status()["release"] == 1
    await equipped.pass_time(8)
    await feed(30, 36)
    assert equipped.workers["sensor"].journal("recommendation")[-1]["fallback"] == "last-known model"
    gateway.answers[FetchRelease] = lambda _: equipped.bundle(2, other)
    await equipped.until(lambda: processor.agent.status()["release"] == 2, within=120)
    await feed(36, 38)
    assert "fallback" not in equipped.workers["sensor"].journal("recommendation")[-1]


async def test_upload__next_message_a_day_late__what_may_be_a_beginning_fault_waits_for_it(cloud, feed):
    await feed(0, 78, needle)
    cloud.data.advance(30 * HOUR)
    await cloud.pass_time(3)
    assert max(went_up(cloud)) < 72, "the needle has stuck for six hours, too short to be sure"


@pytest.fixture(scope="session")
def virtual_sensor(weather):
    """A model of what a thermometer should read by its neighbours, trained on January."""
    rows = [(name, *row) for name, rows in weather.items() for row in rows[: 31 * 24]]
    return run_pipeline(rows, shipped("virtual_sensor"), seed=1, now=1_700_000_000.0)


async def test_virtual_sensor__beside_another__answered_from_it_and_told_when_it_is_off(cloud, virtual_sensor):
    gateway, sensor = cloud.workers["gateway"].agent, cloud.workers["sensor"]
    neighbour = await cloud.add("neighbour", Kind.SENSOR)
    processor = cloud.workers["processor"]
    await cloud.until(lambda: neighbour.in_session_with(processor))
    gateway.answers[FetchRelease] = lambda _: cloud.bundle(1, virtual_sensor)
    gateway.answers[ReleaseOutcome] = lambda said: OutcomeHeard(said.signed.report.sequence)
    await cloud.release(1, virtual_sensor.manifest_hash)
    await cloud.until(lambda: processor.journal("release-installed") != [])

    sensor.measure(hours(1, 0.0))
    await cloud.pass_time(3)
    assert sensor.journal("recommendation")[-1]["advice"] == "not enough history yet", "nobody to compare with"

    neighbour.measure(hours(2, 0.0))
    await cloud.pass_time(3)
    told = neighbour.journal("recommendation")[-1]
    assert told["advice"] == "change nothing", "by the hour before, since the other's reading is on its way"
    assert told["forecast"] == pytest.approx(hours(1, 0.0)[0][1]["temp"], abs=1.5)

    sensor.measure(hours(2, 0.0, lambda _hour: 25.0)[1:])
    await cloud.pass_time(3)
    told = sensor.journal("recommendation")[-1]
    assert (told["advice"], told["release"]) == ("check the sensor", 1)
    assert told["forecast"] < 20.0


async def test_release__its_model_has_expired__rejected(cloud, candidate, processor):
    manifest = candidate.manifest.replace(b'"expires_at":17', b'"expires_at":16')
    expired = another(candidate, manifest)
    cloud.workers["gateway"].agent.answers[FetchRelease] = lambda _: cloud.bundle(1, expired)
    await cloud.release(1, expired.manifest_hash)
    await cloud.until(lambda: processor.journal("release-rejected") != [])
    assert "time is over" in processor.journal("release-rejected")[0]["reason"]
    assert processor.agent.status()["release"] == 0


async def test_monitor__the_gateway_asks__told_under_pseudonyms_and_signed(equipped, feed, processor):
    await feed(30, 80)
    gateway = equipped.workers["gateway"]
    asked = MonitorRun(bytes(range(16)))
    messenger = gateway.runtime.messenger
    await gateway.do(lambda: messenger.request(processor.id, asked, (MonitorReport,), 20.0, "monitor"))
    await equipped.until(lambda: gateway.agent.heard(MonitorReport) != [])
    (report,) = gateway.agent.heard(MonitorReport)
    told = report.signed.told
    assert recover(told.digest, report.signed.signature).id == processor.id
    assert (told.nonce, told.release, told.judged) == (asked.nonce, 1, 1)
    assert told.compared >= 24
    assert told.rmse > 0 < told.persistence_rmse
    (name,) = told.drift
    assert name == processor.agent._devices.pseudonym(equipped.workers["sensor"].id)
    assert equipped.workers["sensor"].id[2:].encode() not in msgspec.msgpack.encode(report)


async def test_weekly__processor_restarts__errors_are_made_again_from_the_week_it_keeps(equipped, feed, processor):
    await feed(30, 80)
    devices, before = processor.agent._weekly.current()
    assert devices == 1
    assert before.n >= 24
    processor.restart()
    assert processor.agent._weekly.current() == (0, None)
    await equipped.pass_time(3)
    assert processor.agent._weekly.current()[1].n >= before.n


async def test_weekly__a_reading_comes_late__counts_for_its_own_time(equipped, feed, processor):
    await feed(30, 48)
    equipped.workers["sensor"].measure(hours(54, 0.0)[50:])
    await equipped.pass_time(1)
    await feed(54, 80)
    missing = processor.agent._weekly.current()[1].n
    equipped.workers["sensor"].source.coming = hours(50, 0.0)[48:]
    await equipped.pass_time(3)
    processor.agent._weekly._due.clear()
    await equipped.pass_time(2)
    assert processor.agent._weekly.current()[1].n > missing + 2, "their own truths, and forecasts that lacked them"


async def test_weekly__another_release_is_taken_up__begins_anew(equipped, candidate, feed, processor):
    await feed(30, 80)
    assert processor.agent._weekly.current()[0] == 1
    newer = another(candidate, candidate.manifest + b" ")
    equipped.workers["gateway"].agent.answers[FetchRelease] = lambda _: equipped.bundle(2, newer)
    await equipped.release(2, newer.manifest_hash)
    await equipped.until(lambda: processor.agent.status()["release"] == 2)
    await equipped.pass_time(2)
    assert processor.agent._weekly.current() == (0, None), "it may have learned from what came before"


async def test_monitor__a_sensor_asks__not_answered(equipped, processor):
    sensor = equipped.workers["sensor"]
    messenger = sensor.runtime.messenger
    await sensor.do(
        lambda: messenger.request(processor.id, MonitorRun(bytes(16)), (MonitorReport,), 20.0, "monitor") and None
    )
    await equipped.pass_time(3)
    assert processor.metric("monitor_refused", reason="no gateway") == 1
    assert processor.journal("monitor-told") == []
