"""A fleet of real processors takes releases up in waves from a real gateway, over the sessions of both."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
from test_worker_gateway import Releases
from test_worker_release import Stocked
from worker_world import HOUR, WEATHER, hours

from quietfleet.chain import events
from quietfleet.chain.channel import ReleaseState
from quietfleet.chain.types import Kind
from quietfleet.crypto import keccak256
from quietfleet.errors import ModelRejected
from quietfleet.settings import RolloutSection
from quietfleet.workers import _loading as loading
from quietfleet.workers import _rollout as rollout
from quietfleet.workers import gateway as module
from quietfleet.workers._rollout import LOOK_EVERY

NAMES = [f"processor-{number}" for number in range(6)]


class Releasing(Stocked):
    """A gateway that releases what the test brings, through all its steps."""

    def bring(self, model, personal=None):
        with self._runtime.transaction():
            self.stock(model)
            self._rollout.submit(model.manifest_hash, personal)


def variant(candidate, number):
    manifest = candidate.manifest + b" " * number
    return SimpleNamespace(manifest=manifest, artifact=candidate.artifact, manifest_hash=keccak256(manifest))


@pytest.fixture
def releases(world, monkeypatch):
    releases = Releases(world)
    monkeypatch.setattr(rollout, "ReleasesContract", releases)
    monkeypatch.setattr(rollout, "account", lambda *_: contextlib.nullcontext((None, None)))
    monkeypatch.setattr(module, "JOB_PAUSE", 0.0)
    return releases


@pytest.fixture
def found(world, releases):
    """An oracle, a gateway and six processors in session with it."""

    async def found(**section):
        world.rollout = RolloutSection(**{"waves": 3, "deadline": 40} | section)
        await world.add("oracle", Kind.ORACLE)
        gateway = await world.add("gateway", Kind.GATEWAY, agent=Releasing)
        processors = [await world.add(name, Kind.PROCESSOR) for name in NAMES]
        await world.rotate()
        await world.until(lambda: all(one.in_session_with(gateway) for one in processors))
        return gateway, processors

    return found


async def act(world, releases):
    """Let the gateway take the steps that are due, tell the chain, and let processors react."""
    gateway = world.workers["gateway"]
    world.clock.advance(LOOK_EVERY)
    await world.say()
    await gateway.beat()
    for job in list(gateway.agent._jobs):
        await job
    await releases.tell()
    await world.run(rounds=6)


async def until(world, releases, holds, within=60):
    for _ in range(within):
        if holds():
            return
        await act(world, releases)
    pytest.fail(f"waited {within} rounds in vain: {releases.steps}")


def running(processors, sequence):
    return [one.name for one in processors if one.agent.status()["release"] == sequence]


@pytest.fixture
def completed(world, releases):
    def completed(number):
        return lambda: number in releases.book.completed

    return completed


async def test_release__three_waves__canary_first_then_more_then_all(world, found, releases, candidate, completed):
    gateway, processors = await found()
    await gateway.do(lambda: gateway.agent.bring(candidate))
    sizes = []
    while not completed(1)():
        await act(world, releases)
        sizes.append((releases.book.head.wave, len(running(processors, 1))))
        assert len(sizes) < 60, sizes
    plan = gateway.agent._rollout._plan(candidate.manifest_hash)
    opened = {wave: max(count for at, count in sizes if at == wave) for wave in (1, 2, 3)}
    assert opened == {wave: sum(one <= wave for one in plan.waves.values()) for wave in (1, 2, 3)}
    assert opened[1] == 1
    assert opened[3] == 6
    assert releases.steps.count("WaveOpened") == 3
    assert [entry["succeeded"] for entry in gateway.journal("release-completed")] == [6]
    assert not [one for one in processors if one.journal("release-rejected")]


async def test_release__bad_at_the_canary__rolled_back_and_nobody_else_ever_had_it(
    world, found, releases, candidate, completed, monkeypatch
):
    gateway, processors = await found(trial=20)
    await gateway.do(lambda: gateway.agent.bring(candidate))
    await until(world, releases, completed(1), within=200)
    bad = variant(candidate, 1)
    await gateway.do(lambda: gateway.agent.bring(bad))
    await until(world, releases, lambda: running(processors, 2) != [])
    (canary,) = [world.workers[name] for name in running(processors, 2)]
    loaded = []
    monkeypatch.setattr(loading, "load_model", lambda *given, **_: loaded.append(given))
    monkeypatch.setattr(canary.agent._slot.model, "predict", crash)
    feed(canary)
    await until(world, releases, completed(3))
    await until(world, releases, lambda: running(processors, 3) == NAMES)
    (back,) = canary.journal("release-rolled-back")
    assert (back["sequence"], back["why"]) == (2, "crash")
    assert loaded == [], "what they went back to was in memory all the time"
    assert [one.name for one in processors if one.journal("release-verified")[1:]] == [canary.name]
    assert releases.book.releases[2].manifest_hash == candidate.manifest_hash
    assert gateway.journal("release-stopped")[-1]["why"] == "failures"


def crash(*_):
    raise RuntimeError


def feed(processor, count=30):
    """Have readings of one device come, an hour each, as its sensor's messages would bring them."""
    rows = hours(count, 1_370_044_800.0)
    for at, fields in rows:
        processor.world.reach(at + HOUR)
        processor.agent._week.append("device", at, fields)
    processor.agent._advice.advise("device", rows[-1][0], count)


async def test_release__late_device__joins_with_the_last_wave_and_offline_ones_keep_their_word(
    world, found, releases, candidate, completed
):
    gateway, processors = await found(deadline=20, failure=0.3, success=0.6)
    offline = processors[0]
    await gateway.do(lambda: gateway.agent.bring(candidate))
    await until(world, releases, lambda: releases.book.head.state is ReleaseState.ROLLING)
    plan = gateway.agent._rollout._plan(candidate.manifest_hash)
    offline = next(one for one in processors if plan.wave(plan.name(one.id)) == 3)
    await until(world, releases, lambda: releases.book.head.wave == 3)
    offline.up = False
    late = await world.add("late", Kind.PROCESSOR)
    await until(world, releases, completed(1), within=100)
    await until(world, releases, lambda: late.agent.status()["release"] == 1)
    assert late.journal("release-committed")[0]["sequence"] == 1
    offline.up = True
    await world.catch_up(offline)
    await until(world, releases, lambda: offline.agent.status()["release"] == 1, within=100)
    await until(world, releases, lambda: gateway.journal("outcome-late") != [])
    assert releases.steps[-1] == "ReleaseFinalised"


async def test_release__first_one_fails__paused_for_a_person_as_there_is_nothing_to_go_back_to(
    world, found, releases, candidate, monkeypatch
):
    gateway, processors = await found()

    def refuse(*_, **_named):
        raise ModelRejected("no such operator here")

    monkeypatch.setattr(loading, "load_model", refuse)
    await gateway.do(lambda: gateway.agent.bring(candidate))
    await until(world, releases, lambda: releases.book.head.state is ReleaseState.PAUSED)
    for _ in range(4):
        await act(world, releases)
    assert releases.steps[-1] == "RolloutPaused"
    assert running(processors, 1) == []
    (canary,) = [one for one in processors if one.journal("release-rejected")]
    assert canary.journal("release-rejected")[0]["why"] == "unusable"
    assert len(canary.journal("release-rejected")) == 1, "what does not work here is not fetched again and again"


async def test_release__with_models_of_their_own__each_gets_its_own_in_the_same_release(
    world, found, releases, candidate, completed
):
    gateway, processors = await found(waves=1)
    own = variant(candidate, 2)
    personal = {processors[0].id: own.manifest_hash, processors[1].id: own.manifest_hash}
    await gateway.do(lambda: gateway.agent.stock(own))
    await gateway.do(lambda: gateway.agent.bring(candidate, personal))
    await until(world, releases, completed(1))
    installed = [one.journal("release-installed")[0]["manifest"] for one in processors]
    assert installed == [own.manifest_hash.hex()] * 2 + [candidate.manifest_hash.hex()] * 4


async def test_release__gateway_and_processors_restart_after_every_round__all_the_same(
    world, found, releases, candidate, completed
):
    gateway, processors = await found(trial=4)
    await gateway.do(lambda: gateway.agent.bring(candidate))
    for number in range(80):
        if completed(1)():
            break
        await act(world, releases)
        world.workers[["gateway", *NAMES][number % 7]].restart()
    assert releases.steps.count("WaveOpened") == 3
    assert running(processors, 1) == NAMES
    assert [len(one.journal("release-installed")) for one in processors] == [1] * 6


async def test_release__revoked_once_everybody_runs_it__nobody_does_any_more(
    world, found, releases, candidate, completed
):
    gateway, processors = await found(waves=1)
    await gateway.do(lambda: gateway.agent.bring(candidate))
    await until(world, releases, completed(1))
    other = variant(candidate, 1)
    await gateway.do(lambda: gateway.agent.bring(other))
    await until(world, releases, completed(2))
    releases.happens(events.ReleaseRevoked(WEATHER, 2, other.manifest_hash, 3))
    await releases.tell()
    await act(world, releases)
    assert running(processors, 1) == NAMES, "back to the model in the other slot"
    releases.happens(events.ReleaseRevoked(WEATHER, 1, candidate.manifest_hash, 3))
    await releases.tell()
    await act(world, releases)
    assert running(processors, 0) == NAMES


async def test_shadow__new_model_forecasts_unused__worse_one_is_turned_down(
    world, found, releases, candidate, completed, monkeypatch
):
    gateway, processors = await found(waves=1, shadow=10, failure=0.5, success=0.5)
    await gateway.do(lambda: gateway.agent.bring(candidate))
    await until(world, releases, completed(1))
    await gateway.do(lambda: gateway.agent.bring(variant(candidate, 1)))
    await until(world, releases, lambda: all(one.agent.status()["rollout"] == "shadow" for one in processors))
    assert running(processors, 1) == NAMES
    for one in processors:
        worse = one.agent._slot.candidate
        right = worse.predict_many
        monkeypatch.setattr(worse, "predict_many", lambda rows, _device, right=right: right(rows) + np.float32(40))
        for count in range(26, 46):
            feed(one, count)
    await until(world, releases, lambda: releases.book.head.sequence == 3)
    reasons = {entry["why"] for one in processors for entry in one.journal("release-rejected")}
    assert reasons == {"shadow"}
    assert not [one for one in processors if len(one.journal("release-installed")) > 1 and running([one], 2)]


async def test_trial__samples_get_lost_once_it_is_used__given_back(world, found, releases, candidate, completed):
    gateway, processors = await found(waves=1, trial=30)
    await gateway.do(lambda: gateway.agent.bring(candidate))
    await until(world, releases, completed(1), within=100)
    for one in processors:
        for at in range(50):
            await one.do(lambda one=one, at=at: one.agent._slot.sampled("d", [(at * HOUR, {})], 1))
    await gateway.do(lambda: gateway.agent.bring(variant(candidate, 1)))
    await until(world, releases, lambda: running(processors, 2) == NAMES)
    for one in processors:
        for at in range(50, 80, 2):
            await one.do(lambda one=one, at=at: one.agent._slot.sampled("d", [(at * HOUR, {})], 1))
    await until(world, releases, lambda: releases.book.head.sequence == 3)
    assert {entry["why"] for one in processors for entry in one.journal("release-rolled-back")} == {"lost samples"}
    await until(world, releases, lambda: running(processors, 3) == NAMES)


async def test_chain__out_of_sight__nothing_new_is_taken_up(world, found, releases, candidate):
    gateway, processors = await found(waves=1, deadline=1000)
    await gateway.do(lambda: gateway.agent.bring(candidate))
    await until(world, releases, lambda: releases.book.head.state is ReleaseState.APPROVED)
    await releases.open_wave(WEATHER, 1)
    await releases.tell()
    world.clock.advance(60)
    await world.run(rounds=6)
    assert running(processors, 1) == []
    await world.say()
    await until(world, releases, lambda: running(processors, 1) == NAMES)
