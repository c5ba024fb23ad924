"""A processor whose models run in a process of their own: releases come, that process dies, the agent goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from types import SimpleNamespace

import pytest
from worker_world import hours

from quietfleet.crypto import keccak256
from quietfleet.pipeline.inference import Apart
from quietfleet.rollout import Gate, Outcome, Reason
from quietfleet.workers import _inference
from quietfleet.workers.messages import FetchRelease, ReleaseOutcome

DEADLY = """
import os, sys
from quietfleet.pipeline import sessions
made = []
def run(self, rows, device, before=sessions.Sessions.run):
    if self not in made:
        made.append(self)
    if made.index(self) and rows.any():
        os.abort()
    return before(self, rows, device)
sessions.Sessions.run = run
from quietfleet.pipeline.forecaster import main
main(*map(int, sys.argv[1:]))
"""
"""The program of the models' process, in which the second model that is opened crashes at its first real row."""


@pytest.fixture
async def cloud(world):
    """A fleet with a gateway that has releases, whose processor's models run apart."""
    world.inference = "process"
    await world.found()
    return world


@pytest.fixture
def processor(cloud):
    return cloud.workers["processor"]


@pytest.fixture
def sensor(cloud):
    return cloud.workers["sensor"]


@pytest.fixture
def released(cloud, processor):
    """Has a model released and opened by the processor, as a real one does it: beside its event loop."""

    async def released(sequence, model):
        cloud.workers["gateway"].agent.answers[FetchRelease] = lambda _: cloud.bundle(sequence, model)
        await cloud.release(sequence, model.manifest_hash)
        fetching = processor.agent._slot.fetching
        await cloud.until(lambda: fetching._look)
        await fetching._look

    return released


@pytest.fixture
def feed(cloud, sensor):
    """Has the sensor measure the hours between two."""

    async def feed(first, last):
        sensor.measure(hours(last, 0.0)[first:])
        await cloud.pass_time(3)
        return sensor.journal("recommendation")[-1]

    return feed


def another(candidate):
    manifest = candidate.manifest + b" "
    return SimpleNamespace(manifest=manifest, artifact=candidate.artifact, manifest_hash=keccak256(manifest))


def home(processor):
    return processor.agent._slot.inference


async def up_again(cloud, processor):
    """Let time pass until the process is there again, and its models in it."""
    await cloud.until(lambda: home(processor).pid)
    home(processor)._revival.join()


def outcomes(cloud):
    heard = cloud.workers["gateway"].agent.heard(ReleaseOutcome)
    return {(said.signed.report.sequence, said.signed.report.outcome, said.signed.report.reason) for said in heard}


async def test_release__models_run_apart__readings_are_answered_with_its_forecast(released, feed, candidate, processor):
    assert (home(processor).pid, processor.agent.status()["forecaster"]) == (None, "idle")
    await released(1, candidate)
    said = await feed(0, 30)
    assert (said["release"], type(said["forecast"])) == (1, float)
    assert processor.agent.status()["forecaster"] == "up"


async def test_restart__a_model_in_use__its_process_is_another_and_has_it_again(
    cloud, released, feed, candidate, processor
):
    await released(1, candidate)
    await feed(0, 30)
    before = home(processor).pid
    processor.restart()
    await cloud.catch_up(processor)
    await up_again(cloud, processor)
    await cloud.until(lambda: processor.in_session_with(cloud.workers["sensor"]))
    assert home(processor).pid != before
    assert (await feed(30, 33))["release"] == 1


async def test_models_process__killed__no_forecast_until_it_is_back_and_the_reading_is_kept(
    cloud, released, feed, candidate, processor
):
    await released(1, candidate)
    await feed(0, 30)
    pid = home(processor).pid
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    cloud.workers["sensor"].measure(hours(31, 0.0)[30:])
    await cloud.run(4)  # no time passes
    said = cloud.workers["sensor"].journal("recommendation")[-1]
    assert (said["rows"], said["forecast"], said["advice"]) == (1, None, "no forecast for the moment")
    await up_again(cloud, processor)
    assert (await feed(31, 33))["release"] == 1
    assert processor.metric("forecaster_ended", reason="died") == 1
    assert processor.metric("steps_failed") == 0
    assert outcomes(cloud) == {(1, Outcome.COMMITTED, Reason.NONE)}


@pytest.mark.parametrize(
    ("gate", "outcome"),
    [(Gate(trial=1000), Outcome.ROLLED_BACK), (Gate(shadow=1000), Outcome.REJECTED)],
    ids=["trial", "shadow"],
)
async def test_attack__a_model_that_kills_its_process__is_given_back_with_its_reason_and_the_old_one_goes_on(
    cloud, released, feed, candidate, processor, monkeypatch, gate, outcome
):
    monkeypatch.setattr(_inference, "Apart", partial(Apart, program=("-c", DEADLY)))
    processor.restart()
    await cloud.catch_up(processor)
    await cloud.until(lambda: processor.in_session_with(cloud.workers["sensor"]))
    await released(1, candidate)
    await feed(0, 30)
    cloud.gate = gate
    await released(2, another(candidate))
    assert processor.agent.status()["rollout"] == ("trial" if gate.trial else "shadow")
    await feed(30, 31)
    await up_again(cloud, processor)
    assert (await feed(31, 33))["release"] == 1
    assert (2, outcome, Reason.CRASH) in outcomes(cloud)
    assert processor.agent.status()["release"] == 1
    assert processor.metric("steps_failed") == 0
