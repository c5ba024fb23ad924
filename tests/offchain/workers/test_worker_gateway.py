from __future__ import annotations

import asyncio
import contextlib
import csv
import errno
import itertools
import os
import random
from dataclasses import replace
from types import SimpleNamespace

import msgspec
import pytest
from worker_world import DAY, HOUR, OWNER, WEATHER, Pen

from quietfleet.chain import events
from quietfleet.chain.channel import Channel, ReleaseState, Terms
from quietfleet.chain.fold import fold
from quietfleet.chain.types import Kind
from quietfleet.errors import ChainUnavailable, DataRejected, StoreOutOfReach
from quietfleet.pipeline.runtime import load_model
from quietfleet.rollout import Gate, Outcome, OutcomeReport, Reason, report_root
from quietfleet.workers import _intake as intake
from quietfleet.workers import _rollout as rollout
from quietfleet.workers import _training as training
from quietfleet.workers import gateway as module
from quietfleet.workers._rollout import LOOK_EVERY, OPEN_FOR
from quietfleet.workers._site_watch import left
from quietfleet.workers._veil import forget_device
from quietfleet.workers.gateway import PATIENCE
from quietfleet.workers.messages import (
    DriftReport,
    DriftVerdict,
    FetchRelease,
    NoSuchRelease,
    OutcomeHeard,
    ReleaseBundle,
    ReleaseOutcome,
    SiteVerdict,
    Stored,
    Upload,
)

MONTH = 30 * DAY
SITE = "garden"
SUMMER = 1_370_044_800.0  # 2013-06-01
JANUARY = 1_356_998_400.0  # what the first model was trained on


class Pipeline:
    """Stands in for the training: notes what it was given and hands out one candidate after another."""

    def __init__(self, candidate) -> None:
        self.candidate = candidate
        self.runs = []
        self.error = None

    def __call__(self, task):
        self.runs.append(task)
        if self.error is not None:
            raise self.error
        if len(self.runs) == 1:
            return self.candidate
        evaluation = replace(self.candidate.evaluation, champion_rmse=self.candidate.evaluation.rmse * 2 + 3)
        manifest = self.candidate.manifest + b" " * len(self.runs)
        return replace(
            self.candidate, evaluation=evaluation, package=replace(self.candidate.package, manifest=manifest)
        )


class Releases:
    """The contract as the gateway calls it, whose events the workers read only when they are told."""

    def __init__(self, world) -> None:
        self._world = world
        self._untold = []
        self.book = Channel(WEATHER)
        self.address = self.approver_address = OWNER
        self.steps = []
        self.down = False

    def __call__(self, _client, _wallet):
        return self

    @property
    def seen(self):
        return [release.manifest_hash for release in self.book.releases]

    async def tell(self):
        """Mine what happened since."""
        untold, self._untold = self._untold, []
        await self._world.say(*untold)

    async def head(self, channel):
        assert channel == WEATHER
        if self.down:
            raise ChainUnavailable
        return self.book.head

    async def release(self, _channel, manifest_hash):
        return self.book.record(manifest_hash)

    async def approver(self):
        return self.approver_address

    async def propose(self, channel, terms):
        assert self.book.record(terms.manifest_hash).sequence == 0
        return self.happens(events.ReleaseProposed(channel, len(self.seen) + 1, terms))

    async def approve(self, channel, sequence, manifest_hash):
        assert manifest_hash == self.seen[-1]
        return self.happens(events.ReleaseApproved(channel, sequence, self.address))

    async def open_wave(self, channel, sequence):
        return self.happens(events.WaveOpened(channel, sequence, self.book.head.wave + 1))

    async def pause(self, channel, sequence):
        return self.happens(events.RolloutPaused(channel, sequence, self.address))

    async def roll_back(self, channel, manifest_hash):
        back = self.book.record(manifest_hash).sequence
        return self.happens(events.RolledBack(channel, len(self.seen) + 1, manifest_hash, back))

    async def finalise(self, channel, manifest_hash, floor, report):
        assert manifest_hash == self.seen[-1]
        return self.happens(events.ReleaseFinalised(channel, self.book.head.sequence, floor, report))

    def happens(self, event):
        """Take a step, which the contract would refuse where the fold finds a gap."""
        self.book = fold(self.book, event, int(self._world.clock.now()))
        self._untold.append(event)
        self.steps.append(type(event).__name__)
        return SimpleNamespace(block=len(self.steps), transaction=b"\1" * 32)


@pytest.fixture
def pipeline(monkeypatch, candidate):
    pipeline = Pipeline(candidate)
    monkeypatch.setattr(training, "fit", pipeline)
    return pipeline


@pytest.fixture
def releases(world, monkeypatch):
    releases = Releases(world)
    monkeypatch.setattr(rollout, "ReleasesContract", releases)
    monkeypatch.setattr(rollout, "account", lambda *_: contextlib.nullcontext((None, None)))
    monkeypatch.setattr(module, "JOB_PAUSE", 0.0)
    return releases


@pytest.fixture
async def founded(world, pipeline, releases):
    """An oracle and a gateway that is about to train its first model."""
    with (world.folder / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["device", "time", "temp"])
        writer.writerows([["EWR", 0.0, 1.5], ["JFK", HOUR, 2.5]])
    await world.add("oracle", Kind.ORACLE)
    await world.add("gateway", Kind.GATEWAY)
    await world.rotate()
    return world


@pytest.fixture
def gateway(founded):
    return founded.workers["gateway"]


@pytest.fixture
def idle(gateway):
    """Lets the gateway finish the job it started, and those that follow from it."""

    async def idle(jobs_at_most=8):
        gateway.world.clock.advance(LOOK_EVERY)
        for _ in range(jobs_at_most):
            await gateway.beat()
            while jobs := list(gateway.agent._jobs):
                await asyncio.gather(*jobs)
                await asyncio.sleep(0)

    return idle


@pytest.fixture
def report_outcome(founded, gateway, releases):
    """Has a processor tell the gateway how a release went there."""

    async def outcome(name, *, sequence, installed=True, signer=None, forged=None, **figures):
        pen = founded.workers[name]
        plan = gateway.agent._rollout._plan(releases.seen[min(sequence, 2) - 1])
        said = OutcomeReport(
            WEATHER,
            sequence,
            plan.proof(pen.id).pseudonym,
            Outcome.COMMITTED if installed else Outcome.ROLLED_BACK,
            Reason.NONE if installed else Reason.LOST_SAMPLES,
            **figures,
        )
        said = msgspec.structs.replace(said, **(forged or {}))
        body = ReleaseOutcome(said.signed(founded.workers[signer or name].key))
        pen.agent.events.clear()
        await pen.do(lambda: pen.runtime.messenger.request(gateway.id, body, (OutcomeHeard,), 20.0, "outcome"))
        await founded.until(lambda: pen.agent.heard(OutcomeHeard) != [])

    return outcome


@pytest.fixture
async def cloud(founded, gateway, releases, idle, report_outcome):
    """The gateway after its first release, with two processors that say what the test writes."""
    await idle()
    await releases.tell()
    await idle()
    await releases.tell()
    pens = [await founded.add(f"processor-{index}", Kind.PROCESSOR, agent=Pen) for index in (1, 2)]
    await founded.until(lambda: all(pen.runtime.membership.complete for pen in pens))
    await founded.until(lambda: all(pen.runtime.membership.gateway_card() for pen in pens))
    for pen in pens:
        card = pen.runtime.membership.gateway_card()
        await pen.do(lambda pen=pen, card=card: pen.runtime.messenger.connect(card, "gateway"))
    await founded.until(lambda: all(pen.in_session_with(gateway) for pen in pens))
    for pen in pens:
        await report_outcome(pen.name, sequence=1)
    await idle()
    await releases.tell()
    assert releases.steps[-1] == "ReleaseFinalised"
    return founded


@pytest.fixture
def say(cloud):
    """Has a processor ask the gateway something, and returns the answer."""

    async def say(name, body):
        pen = cloud.workers[name]
        pen.agent.events.clear()
        expects = (Stored, DriftVerdict, ReleaseBundle, NoSuchRelease)
        gateway = cloud.workers["gateway"].id
        await pen.do(lambda: pen.runtime.messenger.request(gateway, body, expects, 20.0, "said"))
        await cloud.until(lambda: pen.agent.heard(expects) != [])
        return pen.agent.heard(expects)[0]

    return say


@pytest.fixture
def bring(cloud, say, weather):
    """Uploads some days of three stations of one site: two behind one processor, one behind the other."""

    async def bring(days, since=SUMMER, warmer=None):
        for name, station in (("processor-1", "EWR"), ("processor-1", "JFK"), ("processor-2", "LGA")):
            more = (warmer or {}).get(station, 0.0)
            rows = [
                (at, {channel: value + more * (channel == "temp") for channel, value in fields.items()})
                for at, fields in weather[station]
                if since <= at < since + days * DAY
            ]
            cloud.reach(since + days * DAY)
            for first in range(0, len(rows), 240):
                await say(name, Upload(station.lower(), SITE, rows[first : first + 240]))

    return bring


def report(release=1, device="ewr"):
    return DriftReport(release, {device: {"temp": 120.0}})


STEPS = ["ReleaseProposed", "ReleaseApproved", "WaveOpened", "ReleaseFinalised"]


async def test_start__no_release_yet__trains_on_the_history_and_releases_it_once(gateway, pipeline, releases, idle):
    for _ in range(5):
        await idle()
    assert pipeline.runs[0].rows == [("EWR", 0.0, {"temp": 1.5}), ("JFK", HOUR, {"temp": 2.5})]
    assert pipeline.runs[0].champion is None
    assert releases.seen == [pipeline.candidate.manifest_hash]
    assert releases.steps == STEPS[:3], "what it did itself counts once the chain was read"
    assert len(pipeline.runs) == 1
    assert gateway.agent.status()["release"] == 0, "only the chain makes it current"


@pytest.mark.parametrize("room", range(4))  # both files, each with its two folders, take five
async def test_train__disk_full_as_the_model_is_registered__nothing_half_there_and_done_at_the_next_start(
    gateway, pipeline, releases, idle, monkeypatch, room
):
    real, calls = os.fsync, itertools.count()

    def full(file):
        if next(calls) >= room:
            raise OSError(errno.ENOSPC, "no room")
        real(file)

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        await idle(jobs_at_most=2)
    registry = gateway.agent._models.registry
    assert next(calls) > room
    assert (registry.versions(), registry.history(), registry.objects.names()) == ([], [], [])
    assert (gateway.journal("trained"), releases.steps) == ([], [])
    gateway.restart()
    for _ in range(3):
        await idle()
    registry = gateway.agent._models.registry
    assert [one.version for one in registry.versions()] == [1]
    assert registry.get("weather", "challenger").manifest.startswith(pipeline.candidate.manifest)
    assert releases.steps == STEPS[:3]


async def test_release__read_from_the_chain__is_current_and_served(cloud, gateway, say, candidate):
    assert gateway.agent.status()["release"] == 1
    bundle = await say("processor-1", FetchRelease("weather", 1))
    load_model(bundle.manifest, bundle.artefact, candidate.manifest_hash)
    assert await say("processor-1", FetchRelease("weather", 2)) == NoSuchRelease(2)
    assert await say("processor-1", FetchRelease("tides", 1)) == NoSuchRelease(1)


@pytest.fixture
def shelf(world):
    """The folder that the settings of the gateway, which is yet to start, name as shelf."""
    world.shelves["gateway"] = "shelf"
    return world.folder / "shelf"


async def test_train__with_a_shelf__artefact_is_there_before_the_release_is_open(shelf, gateway, releases, idle):
    for _ in range(2):
        await idle(jobs_at_most=1)
    while job := gateway.agent._handout._job:
        await job
    assert "WaveOpened" not in releases.steps
    assert [entry["version"] for entry in gateway.journal("shelved")] == [1]
    assert len([path for path in shelf.rglob("*") if path.is_file()]) == 1
    for _ in range(3):
        await idle()
    assert releases.steps == STEPS[:3]
    assert len(gateway.journal("shelved")) == 1


async def test_release__none_of_ours__noted_and_not_served(cloud, gateway, say):
    await cloud.release(2, b"\7" * 32)
    assert gateway.journal("release-unknown") == [{"sequence": 2}]
    assert gateway.agent.status()["release"] == 1
    assert await say("processor-1", FetchRelease("weather", 2)) == NoSuchRelease(2)


async def test_release__killed_after_every_step__each_is_taken_once(founded, gateway, releases, idle):
    for _ in range(10):
        await idle(jobs_at_most=1)
        gateway.restart()
        await releases.tell()
    assert releases.steps == STEPS[:3], "and waits for the first device"
    assert gateway.agent.status()["release"] == 1


async def test_release__its_terms__one_wave_for_all_under_a_salt_of_its_own(founded, gateway, releases, idle):
    await idle()
    (release,) = releases.book.releases
    terms = release.terms
    assert (terms.gate_hash, terms.wave_count, terms.soak, terms.not_before) == (Gate().hash, 1, 0, 0)
    assert OPEN_FOR - 60 < terms.expires_at - founded.clock.now() <= OPEN_FOR
    again = gateway.agent._rollout._make_plan(release.manifest_hash)
    assert terms.group_root not in (bytes(32), again.group_root)


async def test_release__somebody_else_approves__waits_for_that(gateway, releases, idle):
    releases.approver_address = "0x" + "bb" * 20
    for _ in range(3):
        await idle()
    assert releases.steps == STEPS[:1]
    await releases.approve(WEATHER, 1, releases.seen[-1])
    await idle()
    assert releases.steps == STEPS[:3]


async def test_release__revoked_before_it_opened__given_up(gateway, releases, idle):
    releases.approver_address = "0x" + "bb" * 20
    await idle()
    releases.happens(events.ReleaseRevoked(WEATHER, 1, releases.seen[0], 2))
    for _ in range(3):
        await idle()
    assert gateway.journal("release-given-up") == [{"sequence": 1, "newest": 1, "why": "revoked"}]
    assert releases.steps == ["ReleaseProposed", "ReleaseRevoked"]


async def test_release__approved_after_its_time__given_up(founded, gateway, releases, idle):
    releases.approver_address = "0x" + "bb" * 20
    await idle()
    await releases.approve(WEATHER, 1, releases.seen[-1])
    founded.clock.advance(OPEN_FOR + 1)
    await founded.say()
    for _ in range(3):
        await idle()
    assert gateway.journal("release-given-up") == [{"sequence": 1, "newest": 1, "why": "expired"}]
    assert releases.steps == STEPS[:2]


async def test_release__all_before_it_is_paused__waits(cloud, gateway, bring, say, releases, idle):
    releases.happens(events.ReleaseProposed(WEATHER, 2, cloud.terms(b"\7" * 32)))
    await releases.approve(WEATHER, 2, releases.seen[-1])
    await releases.open_wave(WEATHER, 2)
    await releases.pause(WEATHER, 2)
    before = len(releases.steps)
    await bring(10)
    await say("processor-1", report())
    for _ in range(3):
        await idle()
    assert len(releases.steps) == before
    releases.happens(events.ReleaseRevoked(WEATHER, 2, b"\7" * 32, 3))
    await idle()
    assert releases.steps[before + 1 :] == STEPS[:3]


@pytest.fixture
async def rolling(cloud, gateway, bring, say, releases, idle):
    """The gateway with its second release open to two processors."""
    await bring(10)
    await say("processor-1", report())
    await idle()
    await releases.tell()
    assert gateway.agent.status()["release"] == 2
    return releases


@pytest.fixture
def outcome(rolling, report_outcome):
    """Has a processor tell the gateway how the second release went there."""
    return lambda name, **more: report_outcome(name, **{"sequence": 2} | more)


def reported(rolling):
    """How a release went, as it stands on chain."""
    report = rolling._untold[-1].report
    return report.succeeded, report.failed, report.silent


async def test_outcomes__every_processor_heard__completed_with_their_shares(gateway, rolling, outcome, idle):
    await outcome("processor-1", installed=True)
    await idle()
    assert rolling.steps[-1] == "WaveOpened", "one is missing"
    await outcome("processor-2", installed=True)
    await idle()
    assert reported(rolling) == (1000, 0, 0)
    reports = [one.signed for one in gateway.agent._rollout._outcomes._all(2).values()]
    assert rolling._untold[-1].report.root == report_root(reports) != bytes(32)
    (first, second) = gateway.journal("release-completed")
    assert (first["succeeded"], second["succeeded"]) == (2, 2)
    rows = str(gateway.rows("SELECT * FROM state WHERE name LIKE 'outcome:%' OR name LIKE 'plan:%'"))
    for worker in gateway.world.workers.values():
        assert worker.id[2:].lower() not in rows.lower()
        assert worker.key.public.to_bytes().hex() not in rows


async def test_outcomes__some_silent_for_too_long__paused_and_left_to_the_approver(
    cloud, gateway, rolling, outcome, idle
):
    await outcome("processor-1", installed=True)
    cloud.clock.advance(60 - LOOK_EVERY)
    await cloud.say()
    assert rolling.steps[-1] == "WaveOpened"
    await idle()
    assert rolling.steps[-1] == "RolloutPaused"
    assert (gateway.journal("release-stopped")[0]["why"], gateway.journal("release-stopped")[0]["silent"]) == (
        "silent",
        1,
    )
    for _ in range(3):
        await idle()
    assert rolling.steps[-1] == "RolloutPaused", "silence is no reason to go back"


async def test_outcomes__nobody_took_it_up__never_called_complete(cloud, rolling, idle):
    cloud.clock.advance(60 + LOOK_EVERY)
    await cloud.say()
    for _ in range(3):
        await idle()
    assert rolling.steps[-1] == "RolloutPaused"


async def test_outcomes__processor_switched_off__not_waited_for(cloud, rolling, outcome, idle):
    await cloud.switch(cloud.workers["processor-2"], active=False)
    await outcome("processor-1", installed=True)
    await idle()
    assert reported(rolling) == (1000, 0, 0)


async def test_outcomes__too_many_fail__stopped_and_rolled_back_by_itself(gateway, rolling, outcome, idle):
    before = gateway.agent._state.get("release:1")
    await outcome("processor-1", installed=False)
    for _ in range(3):
        await idle()
        await rolling.tell()
    assert rolling.steps[-2:] == ["RolloutPaused", "RolledBack"]
    stopped, back = gateway.journal("release-stopped")[0], gateway.journal("release-rolled-back")[0]
    assert (stopped["failed"], stopped["why"], stopped["condemned"]) == (1, "failures", True)
    assert (back["sequence"], back["bad"], back["manifest"]) == (3, 2, rolling.seen[0].hex())
    assert gateway.agent.status()["release"] == 3
    assert gateway.agent._state.get("release:3") == before
    assert gateway.agent._state.get("to release") is None


async def test_outcomes__it_dies_between_stopping_and_going_back__goes_back_after_its_restart(
    gateway, rolling, outcome, idle
):
    await outcome("processor-1", installed=False)
    for _ in range(4):
        await idle(jobs_at_most=1)
        await rolling.tell()
        gateway.restart()
    assert rolling.steps[-2:] == ["RolloutPaused", "RolledBack"]
    assert rolling.steps.count("RolledBack") == 1


async def test_outcomes__worse_in_the_shadow_on_most__rolled_back_though_all_committed(rolling, outcome, idle):
    for name in ("processor-1", "processor-2"):
        await outcome(name, installed=True, compared=40, ratio=1.2)
    for _ in range(3):
        await idle()
        await rolling.tell()
    assert rolling.steps[-2:] == ["RolloutPaused", "RolledBack"]


async def test_outcomes__approver_resumes_a_stopped_one__judged_by_what_is_heard_from_then_on(
    cloud, rolling, outcome, idle, gateway
):
    await outcome("processor-1", installed=True)
    cloud.clock.advance(60)
    await cloud.say()
    await idle()
    await rolling.tell()
    assert rolling.steps[-1] == "RolloutPaused"
    rolling.happens(events.RolloutResumed(WEATHER, 2, OWNER))
    await rolling.tell()
    await idle()
    assert rolling.steps[-1] == "RolloutResumed"
    await outcome("processor-2", installed=True)
    await idle()
    assert reported(rolling) == (1000, 0, 0)


async def test_outcomes__first_a_failure_to_fetch_then_a_success__the_last_word_counts(rolling, outcome, idle):
    rejected = {"outcome": Outcome.REJECTED, "reason": Reason.WRONG_BYTES, "pseudonym": bytes(32)}
    await outcome("processor-1", installed=False, forged=rejected)
    await outcome("processor-1", installed=True)
    await outcome("processor-2", installed=True)
    await idle()
    assert reported(rolling) == (1000, 0, 0)


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"signer": "processor-1"}, "signature"),
        ({"forged": {"pseudonym": b"\7" * 32}}, "another's name"),
        ({"forged": {"channel": b"\7" * 32}}, "another release"),
        ({"sequence": 3}, "unknown release"),
    ],
)
async def test_outcomes__forged_or_of_another_release__answered_and_not_counted(
    gateway, rolling, outcome, idle, lie, reason
):
    await outcome("processor-1", installed=True)
    await outcome("processor-2", installed=False, **lie)
    await idle()
    assert rolling.steps[-1] == "WaveOpened"
    assert gateway.metric("outcomes_refused", reason=reason) == 1


async def test_outcomes__of_a_release_that_is_over__kept_and_noted(gateway, rolling, outcome, idle):
    await outcome("processor-1", installed=True)
    await outcome("processor-2", installed=True)
    await idle()
    await rolling.tell()
    await outcome("processor-2", installed=False)
    assert gateway.journal("outcome-late") == [{"sequence": 2, "outcome": "rolled back"}]
    await idle()
    assert rolling.steps[-1] == "ReleaseFinalised"


async def test_release__rolling_that_is_none_of_ours__left_alone(cloud, gateway, releases, idle):
    releases.happens(events.ReleaseProposed(WEATHER, 2, Terms(b"\7" * 32, *[b"\1" * 32] * 2, 0, 2**31, 0, 1)))
    await releases.approve(WEATHER, 2, releases.seen[-1])
    await releases.open_wave(WEATHER, 2)
    await releases.tell()
    cloud.clock.advance(61)
    await cloud.say()
    await idle()
    assert releases.book.head.state is ReleaseState.ROLLING


async def test_release__endpoint_down__tried_again(gateway, releases, idle):
    releases.down = True
    await idle()
    assert releases.seen == []
    releases.down = False
    await idle()
    assert len(releases.seen) == 1
    assert gateway.metric("jobs_failed") == 0


async def test_train__data_is_no_good__said_once_and_the_release_stays(cloud, gateway, bring, say, pipeline, idle):
    pipeline.error = DataRejected("too few rows")
    await bring(10)
    await say("processor-1", report())
    for _ in range(3):
        await idle()
    assert ["too few rows" in entry["reason"] for entry in gateway.journal("training-failed")] == [True]
    assert gateway.agent.status()["release"] == 1


async def test_upload__second_veil__no_trace_of_processor_or_pseudonym(cloud, gateway, bring, say, pipeline, idle):
    await bring(10)
    rows = [(SUMMER, {"temp": 20.0})]
    for name in ("processor-1", "processor-2"):
        assert await say(name, Upload("leaf", "elsewhere", rows)) == Stored(1)
    await say("processor-1", report())
    await idle()
    learned_from = {device for device, _, _ in pipeline.runs[-1].rows}
    assert len(learned_from) == 5, "one pseudonym of two processors is two devices"
    traces = ["leaf", "ewr", "jfk", "lga", *(worker.id[2:10].lower() for worker in cloud.workers.values())]
    for name in [*learned_from, str(gateway.journal("training"))]:
        assert not [trace for trace in traces if trace in name]


async def test_upload__processor_makes_up_a_crowd__refused_beyond_its_share(cloud, gateway, say, monkeypatch):
    monkeypatch.setattr(intake, "MOST_DEVICES", 3)
    cloud.reach(SUMMER)
    rows = [(SUMMER, {"temp": 20.0})]
    answers = [await say("processor-1", Upload(f"device-{number}", SITE, rows)) for number in range(5)]
    assert answers == [Stored(1)] * 3 + [Stored(0)] * 2
    assert gateway.metric("uploads_refused") == 2
    assert await say("processor-1", Upload("device-0", SITE, [(SUMMER - HOUR, {"temp": 20.0})])) == Stored(1)
    assert await say("processor-2", Upload("device-0", SITE, rows)) == Stored(1), "each has a share of its own"


async def test_upload__twice__stored_once(cloud, say):
    cloud.reach(SUMMER + 2 * HOUR)
    rows = [(SUMMER + hour * HOUR, {"temp": 20.0}) for hour in range(3)]
    assert await say("processor-1", Upload("leaf", SITE, rows[:2])) == Stored(2)
    assert await say("processor-1", Upload("leaf", SITE, rows)) == Stored(1)


async def test_month__older_readings__erased(cloud, gateway, say):
    cloud.reach(SUMMER)
    await say("processor-1", Upload("leaf", SITE, [(SUMMER, {"temp": 20.0})]))
    cloud.reach(SUMMER + MONTH + HOUR)
    await say("processor-1", Upload("leaf", SITE, [(SUMMER + MONTH + HOUR, {"temp": 21.0})]))
    await cloud.pass_time(12)
    (device,) = gateway.agent._month.devices()
    assert [at for at, _ in gateway.agent._month.window(device, 0, float("inf"))] == [SUMMER + MONTH + HOUR]


async def test_upload__device_was_forgotten__old_rows_leave_no_trace_and_new_ones_are_taken(cloud, gateway, say):
    cloud.reach(SUMMER)
    old = Upload("leaf", SITE, [(SUMMER - HOUR, {"temp": 20.0})])
    assert await say("processor-1", old) == Stored(1)
    (device,) = gateway.agent._month.devices()
    lake, veil = gateway.agent._month.lake, gateway.agent._intake.veil
    assert forget_device(lake, veil, device, now=SUMMER, who="anna", why="its owner asks") == 1
    assert await say("processor-1", old) == Stored(0)
    assert gateway.rows("SELECT name FROM state WHERE name LIKE ? OR value LIKE ?", f"%{device}%", f"%{device}%") == []
    cloud.reach(SUMMER + HOUR)
    assert await say("processor-1", Upload("leaf", SITE, [(SUMMER + HOUR, {"temp": 21.0})])) == Stored(1)


async def test_month__bucket_out_of_reach__uploads_are_taken_and_filed_once_it_is_back(
    cloud, gateway, say, monkeypatch
):
    cloud.reach(SUMMER)
    month = gateway.agent._month
    files, put = month._lake._vessel.files, type(month._lake._vessel.files).put

    def away(*_):
        raise StoreOutOfReach("month: nobody answers")

    monkeypatch.setattr(month, "_local", False)
    monkeypatch.setattr(month, "_file_due", 0.0)
    monkeypatch.setattr(type(files), "put", away)
    assert await say("processor-1", Upload("leaf", SITE, [(SUMMER, {"temp": 20.0})])) == Stored(1)
    await filed(cloud, gateway, lambda: gateway.metric("store_faults") > 0)
    assert month._lake.waiting == 1
    monkeypatch.setattr(type(files), "put", put)
    await filed(cloud, gateway, lambda: not month._lake.waiting)
    assert [at for _, rows in month.readings(None, why="test").items() for at, _ in rows] == [SUMMER]
    assert month._lake.check() == []


async def filed(cloud, gateway, done):
    """Let time pass until the files have been seen to, in a thread."""
    for _ in range(200):
        if done():
            return
        await cloud.pass_time(12)
        if gateway.agent._month._away is not None:
            await gateway.agent._month._away
    raise AssertionError


async def test_drift__shared_by_the_site__trained_once_however_often_reported(
    cloud, gateway, bring, say, pipeline, releases, idle
):
    await bring(10)
    answer = await say("processor-1", report())
    assert (answer.fleet, answer.devices) == ("retrain", {"ewr": "retrain"})
    await say("processor-2", report(device="lga"))
    await idle()
    assert len(pipeline.runs) == 2
    assert pipeline.runs[1].champion is not None
    assert pipeline.runs[1].parent == 1
    assert len(gateway.journal("drift-shared")) == 1
    assert "temp" in gateway.journal("drift-shared")[0]["channels"]
    assert len(releases.seen) == 2


async def test_drift__again_within_patience__waits__after_it__trains_again(
    cloud, gateway, bring, say, pipeline, releases, idle
):
    await bring(10)
    await say("processor-1", report())
    await idle()
    await releases.tell()
    await bring(PATIENCE / DAY - 1, SUMMER + 10 * DAY)
    assert (await say("processor-1", report(release=2))).fleet == "retrain"
    await idle()
    assert len(pipeline.runs) == 2
    await bring(2, SUMMER + 10 * DAY + PATIENCE - DAY)
    await say("processor-1", report(release=2))
    await idle()
    assert len(pipeline.runs) == 3


async def test_drift__gateway_killed_before_the_training_ended__trains_after_all(
    cloud, gateway, bring, say, pipeline, idle, monkeypatch
):
    await bring(10)
    monkeypatch.setattr(gateway.agent, "_start", lambda job: job.close())
    await say("processor-1", report())
    assert len(pipeline.runs) == 1
    gateway.restart()
    await idle()
    assert len(pipeline.runs) == 2


async def test_drift__of_a_release_no_longer_current__outdated(say, bring, pipeline):
    await bring(10)
    assert await say("processor-1", report(release=7)) == DriftVerdict("outdated", {})
    assert await say("processor-1", DriftReport(1, {})) == DriftVerdict("outdated", {})
    assert len(pipeline.runs) == 1


async def test_drift__of_one_device_alone__nobody_trains(bring, say, pipeline, idle):
    await bring(8, JANUARY, warmer={"EWR": 15.0})
    answer = await say("processor-1", report())
    await idle()
    assert (answer.fleet, answer.devices) == ("wait", {"ewr": "verify"})
    assert len(pipeline.runs) == 1


async def test_after__switched_off__no_job_is_started(founded, gateway, pipeline, releases, idle):
    await founded.switch(gateway, active=False)
    started = len(pipeline.runs)
    await idle()
    assert releases.seen == []
    assert len(pipeline.runs) <= started + 1, "the one that was under way"


async def test_admit__only_for_what_a_gateway_is_there_for(gateway):
    assert gateway.agent.admit("0x1", "gateway")
    assert not gateway.agent.admit("0x1", "deal:1")
    assert not gateway.agent.admit("0x1", "oracle")


# the watch over a place


@pytest.fixture
def place(cloud, say, weather):
    """Uploads weeks of a place: three devices behind one processor, one behind the other, warmer from some day on."""

    async def place(days, *, warmer_from):
        since = SUMMER - 30 * DAY
        behind = {"leaf": "processor-1", "stem": "processor-1", "root": "processor-1", "alone": "processor-2"}
        dice = random.Random(4)
        cloud.reach(since + days * DAY)
        for name, processor in behind.items():
            own = 5.0 if name == "alone" else 0.0
            rows = [
                (at, {"temp": round(fields["temp"] + dice.gauss(0, 0.3) + own * (at >= since + warmer_from * DAY), 2)})
                for at, fields in weather["JFK"]
                if since <= at < since + days * DAY and "temp" in fields
            ]
            for first in range(0, len(rows), 240):
                await say(processor, Upload(name, SITE, rows[first : first + 240]))

    return place


async def test_place__a_device_leaves_the_others_behind_another_processor__its_own_processor_is_told_and_nobody_else(
    cloud, place, idle, gateway
):
    await place(20, warmer_from=17)
    gateway.agent._site_watch._due = 0.0
    await idle()
    await cloud.pass_time(3)
    told = {name: cloud.workers[name].agent.heard(SiteVerdict) for name in ("processor-1", "processor-2")}
    assert [one.devices for one in told["processor-2"]] == [{"alone": ["temp"]}]
    assert told["processor-1"] == []
    assert gateway.agent._runs.open is False or not gateway.journal("drift-shared")
    assert "alone" not in str(gateway.journal("site-verdict"))


async def test_place__everybody_is_where_they_were__nobody_is_told_anything(cloud, place, idle, gateway):
    await place(20, warmer_from=99)
    gateway.agent._site_watch._due = 0.0
    await idle()
    await cloud.pass_time(3)
    assert all(cloud.workers[name].agent.heard(SiteVerdict) == [] for name in ("processor-1", "processor-2"))


def test_left__fewer_than_three_or_too_little_time__says_nothing(weather):
    rows = {name: some[:200] for name, some in weather.items()}
    assert left({}) == left(dict(list(rows.items())[:2])) == {}
    assert left({name: some[:100] for name, some in rows.items()}) == {}


# drift of a device that stands by itself


@pytest.fixture
def alone(say, cloud, weather):
    """Uploads some days of one station, which stands by itself at a place of its own."""

    async def alone(days, since=SUMMER):
        rows = [row for row in weather["JFK"] if since <= row[0] < since + days * DAY]
        cloud.reach(since + days * DAY)
        for first in range(0, len(rows), 240):
            await say("processor-1", Upload("hermit", "island", rows[first : first + 240]))

    return alone


def hermits(gateway):
    """How many readings of it may be learned from, of how many."""
    intake = gateway.agent._intake
    (device,) = (one for one in intake.veil.devices() if one.pseudonym == "hermit")
    names = set(intake.veil.aliases(device).values())

    def count(readings):
        return sum(len(rows) for name, rows in readings.items() if name in names)

    return count(intake.readings(why="a test")), count(gateway.agent._month.readings(None, why="a test"))


async def test_drift__of_a_lone_device__nothing_is_learned_from_it_until_a_person_confirmed_it(gateway, say, alone):
    await alone(20)
    before = hermits(gateway)
    assert before[0] == before[1]
    answer = await say("processor-1", report(device="hermit"))
    assert (answer.fleet, answer.devices) == ("wait", {"hermit": "verify"})
    assert not gateway.agent._runs.open
    sure, kept = hermits(gateway)
    assert kept - sure == pytest.approx(7 * 24, abs=3), "the week that is in doubt"
    await say("processor-1", report(device="hermit"))
    assert hermits(gateway) == (sure, kept), "said again, it is the same week"
    confirmed = msgspec.structs.replace(report(device="hermit"), verified=["hermit"])
    answer = await say("processor-1", confirmed)
    assert (answer.fleet, answer.devices) == ("retrain", {"hermit": "retrain"})
    assert hermits(gateway)[0] == kept
    (shared,) = gateway.journal("drift-shared")
    assert "temp" in shared["channels"]
    assert gateway.agent._runs.open


async def test_drift__another_model_is_released__what_was_in_doubt_is_looked_at_anew(gateway, say, alone):
    await alone(20)
    await say("processor-1", report(device="hermit"))
    assert hermits(gateway)[0] < hermits(gateway)[1]
    await gateway.do(gateway.agent._intake.believe)
    assert hermits(gateway)[0] == hermits(gateway)[1]


async def test_drift__processor_confirms_a_device_that_is_anothers__nothing_of_it_is_touched(gateway, say, alone):
    await alone(20)
    await say("processor-1", report(device="hermit"))
    before = hermits(gateway)
    await say("processor-2", msgspec.structs.replace(report(device="hermit"), verified=["hermit"]))
    assert hermits(gateway) == before
    assert gateway.journal("drift-shared") == []


async def test_submit__trained_while_a_persons_choice_waits__the_persons_stands(cloud, gateway):
    rollout = gateway.agent._rollout
    chosen, trained, other = (bytes([place]) * 32 for place in (1, 2, 3))
    await gateway.do(lambda: rollout.submit(trained))
    await gateway.do(lambda: rollout.submit(chosen, asked=True))
    await gateway.do(lambda: rollout.submit(trained))
    assert rollout._wanted.manifest == chosen
    assert gateway.journal("release-not-submitted")[-1]["manifest"] == trained.hex()
    await gateway.do(lambda: rollout.submit(other, asked=True))
    assert rollout._wanted.manifest == other
