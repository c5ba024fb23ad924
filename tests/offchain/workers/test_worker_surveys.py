"""What makes a gateway train beside a drift: time, new readings, new code, and reports of a model that does badly."""
# ruff: noqa: F811 -- fixtures are imported, and asked for by their names

from __future__ import annotations

import json

import msgspec
import pytest
from test_worker_gateway import (  # noqa: F401 - fixtures
    bring,
    cloud,
    founded,
    gateway,
    idle,
    pipeline,
    releases,
    report_outcome,
    say,
)
from worker_world import DAY, HOUR, SITE, hours

from quietfleet.commands._story import Archive
from quietfleet.errors import DiskFull, PipelineError
from quietfleet.monitor.telling import SignedTold, Told
from quietfleet.pipeline.registry_catalogue import Catalogue
from quietfleet.pipeline.run_folder import read_trace
from quietfleet.storage import ObjectStore
from quietfleet.workers import _training as training
from quietfleet.workers._runs import BACKOFF
from quietfleet.workers._surveys import MEANINGFUL
from quietfleet.workers._training import fit
from quietfleet.workers.messages import MonitorReport, MonitorRun, Upload

MANY = 10 * MEANINGFUL


@pytest.fixture
def ask(cloud, gateway):
    """Has the gateway ask, and returns the question each processor heard."""

    async def ask():
        pens = [cloud.workers[name] for name in ("processor-1", "processor-2")]
        for pen in pens:
            pen.agent.events.clear()
        gateway.agent._state.set("monitor:due", None)
        await cloud.until(lambda: all(pen.agent.heard(MonitorRun) for pen in pens))
        return [next(one for one in pen.agent.events if isinstance(one.body, MonitorRun)) for pen in pens]

    return ask


@pytest.fixture
def answer(cloud, gateway):
    """Has a processor answer a question, in its own name or badly."""

    async def answer(name, question, *, signer=None, **changes):
        pen = cloud.workers[name]
        told = Told(question.body.nonce, 1, {}, judged=2, compared=MANY, rmse=3.0, persistence_rmse=3.5)
        signed = msgspec.structs.replace(told, **changes).signed(cloud.workers[signer or name].key)
        before = seen(gateway)
        await pen.do(lambda: pen.runtime.messenger.reply(question, MonitorReport(signed)))
        await cloud.until(lambda: seen(gateway) > before)

    return answer


def seen(gateway):
    reasons = ("unasked", "replayed", "forged", "oversize")
    refused = sum(gateway.metric("monitor_reports_refused", reason=reason) for reason in reasons)
    return gateway.metric("monitor_reports") + refused


def triggered(gateway):
    return [(one["trigger"], one.get("devices")) for one in gateway.journal("run-triggered")]


# reports


async def test_reports__bad_on_k_devices__trains_once_with_the_evidence(gateway, bring, ask, answer, pipeline, idle):
    await bring(2)
    first, second = await ask()
    await answer("processor-1", first)
    assert triggered(gateway) == [], "two devices are fewer than k"
    await answer("processor-2", second)
    await idle()
    assert triggered(gateway) == [("performance", 3)]
    (run,) = [one for one in gateway.agent._runs.all() if one.evidence[0]["trigger"] == "performance"]
    assert run.evidence[0]["found"]["rmse"] == 3.0
    assert [one["run"] for one in gateway.journal("trained")][-1] == run.id
    assert len(pipeline.runs) == 2


async def test_reports__worse_than_what_costs_nothing__trains(gateway, bring, ask, answer):
    await bring(2)
    for name, question in zip(("processor-1", "processor-2"), await ask(), strict=True):
        await answer(name, question, rmse=0.9, persistence_rmse=0.8)
    assert triggered(gateway) == [("performance", 3)]


@pytest.mark.parametrize(
    "figures",
    [
        {"rmse": 0.5},
        {"compared": MEANINGFUL - 1},
        {"judged": 0},
        {"release": 7},
        {"rmse": 0.0, "persistence_rmse": 0.0},
    ],
)
async def test_reports__no_reason__nobody_trains(gateway, bring, ask, answer, figures):
    await bring(2)
    for name, question in zip(("processor-1", "processor-2"), await ask(), strict=True):
        await answer(name, question, **figures)
    assert triggered(gateway) == []
    assert gateway.metric("monitor_reports") == 2


async def test_report__says_it_has_a_crowd__counts_for_the_devices_it_brought(gateway, bring, ask, answer):
    await bring(2)
    (_, second) = await ask()
    await answer("processor-2", second, judged=1_000)
    assert triggered(gateway) == []


async def test_report__signed_by_another__refused_and_counted(gateway, ask, answer):
    first, _ = await ask()
    await answer("processor-1", first, signer="processor-2")
    assert gateway.metric("monitor_reports_refused", reason="forged") == 1
    assert gateway.metric("monitor_reports") == 0


async def test_report__of_an_earlier_question__refused_and_counted(gateway, ask, answer):
    first, _ = await ask()
    await answer("processor-1", first)
    again, _ = await ask()
    await answer("processor-1", again, nonce=first.body.nonce)
    assert gateway.metric("monitor_reports_refused", reason="replayed") == 1
    assert gateway.metric("monitor_reports") == 1


async def test_report__nobody_asked__never_taken(cloud, gateway):
    pen = cloud.workers["processor-1"]
    before = gateway.metric("monitor_reports")
    body = MonitorReport(Told(bytes(16), 1, {}).signed(pen.key))
    await pen.do(lambda: pen.runtime.messenger.notify(gateway.id, body) and None)
    await cloud.pass_time(3)
    assert gateway.metric("monitor_reports") == before
    assert seen(gateway) == before, "the session layer has dropped it"


@pytest.mark.parametrize(
    "changes",
    [
        {"drift": {f"{number}": {"temp": 1.0} for number in range(65)}},
        {"drift": {"a": {f"{number}": 1.0 for number in range(17)}}},
        {"drift": {"a" * 33: {}}},
        {"rmse": float("nan")},
        {"rmse": float("inf")},
        {"persistence_rmse": -1.0},
        {"nonce": bytes(17)},
        {"judged": 2**31},
    ],
)
def test_report__more_than_one_may_say__is_not_read(changes):
    told = msgspec.structs.replace(Told(bytes(16), 1, {}), **changes)
    data = msgspec.msgpack.encode(SignedTold(told, bytes(65)))
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(data, type=SignedTold)


async def test_reports__on_disk__name_no_processor(cloud, gateway, ask, answer):
    first, _ = await ask()
    await answer("processor-1", first, drift={"c0ffee" * 4: {"temp": 90.0}})
    kept = repr(gateway.rows("SELECT name, value FROM state WHERE name GLOB 'monitor:*'"))
    for secret in (cloud.workers["processor-1"].id, cloud.workers["processor-1"].id[2:], "c0ffee"):
        assert secret not in kept


async def test_monitor__switched_off__asks_nobody(cloud, gateway):
    gateway.agent._surveys._every = 0.0
    gateway.agent._state.set("monitor:due", None)
    before = len(gateway.journal("monitor-run"))
    await cloud.pass_time(3)
    assert len(gateway.journal("monitor-run")) == before


# the other triggers


def rule(gateway, **changes):
    triggers = gateway.agent._triggers
    triggers._section = msgspec.structs.replace(triggers._section, **changes)


async def test_schedule__its_days_are_over__trains(cloud, gateway, pipeline, idle):
    rule(gateway, schedule_days=2.0)
    await idle()
    cloud.data.advance(2 * DAY - 1)
    await idle()
    assert triggered(gateway) == []
    cloud.data.advance(2)
    await idle()
    await idle()
    assert triggered(gateway) == [("schedule", None)]
    assert len(pipeline.runs) == 2


async def test_volume__so_many_new_readings__trains_once(cloud, gateway, say, idle):
    rule(gateway, volume_rows=40)
    cloud.reach(30 * HOUR)
    await say("processor-1", Upload("ewr", SITE, hours(24, 0.0)))
    await say("processor-1", Upload("ewr", SITE, hours(24, 0.0)))
    await idle()
    assert triggered(gateway) == [], "the same rows again are not new"
    await say("processor-1", Upload("jfk", SITE, hours(24, 0.0)))
    await idle()
    assert [one["rows"] for one in gateway.journal("run-triggered")] == [48]


async def test_code__changed_while_it_was_down__trains_at_the_next_start(cloud, gateway):
    assert triggered(gateway) == []
    gateway.agent._state.set("runs:code", "0" * 64)
    gateway.restart()
    assert triggered(gateway) == [("code", None)]
    gateway.restart()
    assert triggered(gateway) == [("code", None)]


# tries, and what they leave


async def test_run__gateway_killed_in_the_middle__the_same_run_goes_on_in_its_folder(cloud, gateway, pipeline, idle):
    run = gateway.agent._triggers.pull("manual", {})
    gateway.agent._runs.start(run)
    gateway.restart()
    await idle()
    found = gateway.agent._runs.get(run)
    assert (found.state, found.tries) == ("done", 2)
    assert pipeline.runs[-1].folder.name == run


async def test_run__no_room_on_the_disk__nothing_registered_and_tried_again_later(cloud, gateway, pipeline, idle):
    pipeline.error = DiskFull("gateway")
    run = gateway.agent._triggers.pull("manual", {})
    await idle()
    found = gateway.agent._runs.get(run)
    assert (found.state, found.tries) == ("waiting", 1)
    assert gateway.journal("training-failed")[-1]["run"] == run
    assert len(gateway.agent._registry.versions("weather")) == 1
    pipeline.error = None
    cloud.clock.advance(BACKOFF)
    await cloud.say()
    await idle()
    assert gateway.agent._runs.get(run).state == "done"


async def test_run__real_fits_of_what_came_in__its_folder_has_them_and_salts_stay_in_the_store(
    cloud, gateway, bring, idle, monkeypatch
):
    await bring(10)
    learned = []

    def fits(task):
        learned.append(fit(task))
        return learned[-1]

    monkeypatch.setattr(training, "fit", fits)
    run = gateway.agent._triggers.pull("manual", {})
    await idle()
    found = gateway.agent._runs.get(run)
    assert found.state == "done", found.outcome
    folder = gateway.runtime.folder / "runs" / run
    assert {"report.html", "report.json", "evaluation.json"} <= {path.name for path in (folder / "model").iterdir()}
    scores = sorted(path.name for path in (folder / "fits").iterdir())
    assert scores
    assert read_trace(folder).salts == {}
    assert gateway.agent._registry.entry("weather", found.outcome["version"]).facts.run == run
    assert json.loads((folder / "run.json").read_bytes())["dataset"] == learned[0].report["dataset"]


async def test_folder__its_readings_have_left_the_store__goes_with_them(cloud, gateway, idle):
    folder = gateway.agent._folders.begin("0123456789abcdef")
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "evaluation.json").write_text("{}")
    cloud.data.advance(29 * DAY)
    await idle()
    assert folder.exists()
    cloud.data.advance(2 * DAY)
    await idle()
    assert not folder.exists()
    assert gateway.agent._state.starting("runs:folder:0123456789abcdef") == {}


# the whole story


@pytest.fixture
def archive(gateway):
    """What `quietfleet trace` reads."""

    def archive():
        database, folder = gateway.runtime.database, gateway.world.folder / "gateway" / "objects"
        return Archive(database, gateway.agent._runs, Catalogue(database, ObjectStore(folder)), "weather")

    return archive


async def test_trace__whatever_it_is_asked_by__the_run_its_model_and_its_release(
    cloud, gateway, bring, ask, answer, releases, idle, archive
):
    await bring(2)
    for name, question in zip(("processor-1", "processor-2"), await ask(), strict=True):
        await answer(name, question)
    await idle()
    await releases.tell()
    await idle()
    manifest = releases.seen[-1].hex()
    device = gateway.agent._month.devices()[0]
    (story,) = archive().stories(manifest)
    for subject in (story.run.id, "2", "weather:2", "release:2", "0x" + manifest, device):
        assert [one.run.id for one in archive().stories(subject)] == [story.run.id], subject
    assert [one["release"] for one in gateway.journal("monitor-reported")] == [1, 1]
    told = story.told()
    assert [line["trigger"] for line in told["run"]["evidence"]] == ["performance"]
    assert told["trail"][0]["kind"] == "run-triggered"
    assert {"training", "trained"} <= {one["kind"] for one in told["trail"]}
    assert told["version"]["version"] == 2
    assert "staging" in [one["stage"] for one in told["moves"]]
    (release,) = told["releases"]
    kinds = [one["kind"] for one in release["trail"]]
    assert kinds[:3] == ["release-proposed", "release-approved", "release-opened"]
    assert all(worker.id not in repr(told) for worker in cloud.workers.values())


async def test_trace__nothing_of_that_name__says_what_to_give(cloud, archive):
    with pytest.raises(PipelineError, match="give a run's id"):
        archive().stories("c0ffee")
