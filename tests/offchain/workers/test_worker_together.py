"""Sensors that speak at once: their forecasts are asked for in one step, and each is answered as if it were alone."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from worker_world import hours

from quietfleet.chain.types import Kind
from quietfleet.workers.messages import FetchRelease

NAMES = ("sensor", "second", "third")


@pytest.fixture
async def cloud(world, candidate):
    """A processor whose models run apart, with a release, and three sensors that have a day's history with it."""
    world.inference = "process"
    await world.found()
    for name in NAMES[1:]:
        await world.add(name, Kind.SENSOR)
    processor = world.workers["processor"]
    await world.until(lambda: all(processor.in_session_with(one) for one in sensors(world)))
    world.workers["gateway"].agent.answers[FetchRelease] = lambda _: world.bundle(1, candidate)
    await world.release(1, candidate.manifest_hash)
    fetching = processor.agent._slot.fetching
    await world.until(lambda: fetching._look)
    await fetching._look
    for one in sensors(world):
        one.measure(hours(30, 0.0))
    await world.pass_time(4)
    return world


@pytest.fixture
def processor(cloud):
    return cloud.workers["processor"]


@pytest.fixture
def frames(processor):
    """How many devices each question to the models' process was about."""
    home, found = processor.agent._slot.inference, []
    asked = home._asked

    def counting(process, request, rows):
        found.append(rows)
        return asked(process, request, rows)

    home._asked = counting
    return found


def sensors(world):
    return [world.workers[name] for name in NAMES]


async def spoken(world):
    """Envelopes of the next hour, one of each sensor, which nobody has heard yet."""
    taken = []
    for number, one in enumerate(sensors(world)):
        ((at, fields),) = hours(31, 0.0)[30:]
        one.measure([(at, {**fields, "temp": fields["temp"] + 3.0 * number})])
    world.clock.advance(1.0)
    for one in sensors(world):
        await one.beat()
        await one.runtime.flush()
        sent, one.node.sent = one.node.sent, []
        taken += sent
    return taken


def answers(world):
    return [one.journal("recommendation")[-1] for one in sensors(world)]


async def test_hear__several_speak_at_once__one_question_and_each_its_own_answer(cloud, processor, frames):
    before = [one.journal("recommendation")[-1]["through"] for one in sensors(cloud)]
    await processor.runtime.hear(await spoken(cloud))
    assert frames == [3]
    await cloud.run(2)
    told = answers(cloud)
    assert [one["through"] for one in told] == [place + 1 for place in before]
    assert len({one["forecast"] for one in told}) == 3
    assert processor.metric("steps_failed") == 0


async def test_hear__one_speaks__is_asked_for_alone(cloud, processor, frames):
    envelopes = await spoken(cloud)
    for envelope in envelopes:
        await processor.runtime.hear([envelope])
    assert frames == [1, 1, 1]


async def test_hear__together_or_one_by_one__the_same_forecasts(cloud, processor):
    advice, latest = processor.agent._advice, hours(31, 0.0)[-1][0]
    await processor.runtime.hear(await spoken(cloud))
    asked = [(one.id, latest, 1) for one in sensors(cloud)]
    together = advice.advise_each(asked)
    alone = [advice.advise(*one) for one in asked]
    assert [one.forecast for one in together] == pytest.approx([one.forecast for one in alone])
    assert {one.release for one in together} == {1}


async def test_hear__one_cannot_be_answered__the_others_are(cloud, processor, monkeypatch):
    """Whatever one device's readings do to us, it takes nobody else's answer along."""
    bad, told = cloud.workers["second"], processor.agent._advice._told

    def stumbling(device, latest):
        if device == bad.id:
            raise ValueError(device)
        return told(device, latest)

    before = [one["through"] for one in answers(cloud)]
    monkeypatch.setattr(processor.agent._advice, "_told", stumbling)
    await processor.runtime.hear(await spoken(cloud))
    monkeypatch.undo()
    await cloud.run(2)
    after = [one["through"] for one in answers(cloud)]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 0, 1]
    assert processor.metric("steps_failed") == 2  # together, then this one alone


async def test_hear__the_models_process_dies_of_it__all_are_told_so_and_it_comes_back(cloud, processor):
    home = processor.agent._slot.inference
    envelopes, pid = await spoken(cloud), home.pid
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    await processor.runtime.hear(envelopes)
    await cloud.run(2)
    assert [one["advice"] for one in answers(cloud)] == 3 * ["no forecast for the moment"]
    assert processor.metric("steps_failed") == 0
    await cloud.until(lambda: home.pid)
    home._revival.join()
    for one in sensors(cloud):
        one.measure(hours(33, 0.0)[31:])
    await cloud.pass_time(4)
    assert {one["release"] for one in answers(cloud)} == {1}


async def test_hear__what_was_undone__is_not_answered(cloud, processor, monkeypatch):
    """A batch of which nothing could be kept, for want of disk, leaves nothing that is answered later."""
    envelopes = await spoken(cloud)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(processor.agent, "_answer", full)
    await processor.runtime.hear(envelopes)
    monkeypatch.undo()
    assert processor.runtime.unanswered is None
    before = len(processor.journal("readings"))
    await processor.runtime.hear([])
    assert len(processor.journal("readings")) == before
