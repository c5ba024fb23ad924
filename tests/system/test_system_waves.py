"""A release through three waves over thirty processors, and a bad one that ends at the canaries.

Real workers, sessions and gateway in one process; the chain's rules are those of the fold that every replica applies.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "offchain" / "workers"))  # the world of the workers' own tests

from test_worker_gateway import Releases
from test_worker_waves import Releasing, act, crash, feed, running, until, variant
from worker_world import World

from quietfleet.chain.types import Kind
from quietfleet.pipeline.project import shipped
from quietfleet.pipeline.run import run_pipeline
from quietfleet.settings import RolloutSection
from quietfleet.testbed.weather import load_weather
from quietfleet.workers import _host
from quietfleet.workers import _rollout as rollout
from quietfleet.workers import gateway as module

FLEET = 30
JANUARY = (1_356_998_400.0, 1_359_676_800.0)


class _Account:
    async def __aenter__(self):
        return None, None

    async def __aexit__(self, *_):
        return None


@pytest.fixture
def candidate():
    weather = load_weather()
    rows = [(name, *row) for name, rows in weather.items() for row in rows if JANUARY[0] <= row[0] < JANUARY[1]]
    return run_pipeline(rows, shipped(), seed=1, now=1_700_000_000.0)


def test_release__over_thirty_processors__three_waves_and_a_bad_one_ends_at_the_canaries(
    tmp_path, monkeypatch, candidate
):
    monkeypatch.setattr(rollout, "account", lambda *_: _Account())
    monkeypatch.setattr(module, "JOB_PAUSE", 0.0)
    world = World(tmp_path, rollout=RolloutSection(waves=3, trial=10, deadline=60, failure=0.1, success=0.9))
    releases = Releases(world)
    monkeypatch.setattr(rollout, "ReleasesContract", releases)
    try:
        asyncio.run(_story(world, releases, candidate, monkeypatch))
    finally:
        asyncio.run(world.close())
        _host.secrets = secrets


async def _story(world, releases, candidate, monkeypatch):
    await world.add("oracle", Kind.ORACLE)
    gateway = await world.add("gateway", Kind.GATEWAY, agent=Releasing)
    fleet = [await world.add(f"processor-{number}", Kind.PROCESSOR) for number in range(FLEET)]
    await world.rotate()
    await world.until(lambda: all(one.in_session_with(gateway) for one in fleet))

    await gateway.do(lambda: gateway.agent.bring(candidate))
    most = dict.fromkeys((0, 1, 2, 3), 0)
    while 1 not in releases.book.completed:
        await act(world, releases)
        most[releases.book.head.wave] = max(most[releases.book.head.wave], len(running(fleet, 1)))
    assert (most[1], most[2], most[3]) == (3, 13, FLEET)

    bad = variant(candidate, 1)
    await gateway.do(lambda: gateway.agent.bring(bad))
    await until(world, releases, lambda: len(running(fleet, 2)) == most[1])
    canaries = [world.workers[name] for name in running(fleet, 2)]
    for canary in canaries:
        monkeypatch.setattr(canary.agent._slot.model, "predict", crash)
        feed(canary)
    await until(world, releases, lambda: len(running(fleet, 3)) == FLEET)
    assert releases.book.head.sequence == 3
    assert releases.book.releases[2].manifest_hash == candidate.manifest_hash
    had_it = [one for one in fleet if bad.manifest_hash.hex() in str(one.journal("release-installed"))]
    assert had_it == canaries
    assert gateway.journal("release-stopped")[-1]["condemned"]
