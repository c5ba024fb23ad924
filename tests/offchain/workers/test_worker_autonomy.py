"""A processor fits heads for its devices within what the release allows, tells the gateway, and lets go of them."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest
from worker_world import Pen, hours

from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.rollout.heads import HeadTold
from quietfleet.workers.gateway import Gateway
from quietfleet.workers.messages import (
    FetchRelease,
    HeadHeard,
    HeadReport,
)

DAYS = 7 * 24


class Settled(Gateway):
    """A gateway that never trains."""

    def __init__(self, runtime):
        super().__init__(runtime, runtime.identity)
        self._begun = True

    async def after(self):
        """It starts nothing."""


@pytest.fixture
async def cloud(world):
    gateway = await world.found()
    gateway.agent.answers[HeadReport] = lambda said: HeadHeard(said.signed.told.digest)
    return world


@pytest.fixture
def processor(cloud):
    return cloud.workers["processor"]


@pytest.fixture
def feed(cloud):
    async def feed(first, last):
        for start in range(first, last, 24):
            cloud.workers["sensor"].measure(hours(min(start + 24, last), 0.0)[start:])
            await cloud.pass_time(2)
        return cloud.workers["sensor"].journal("recommendation")[-1]

    return feed


@pytest.fixture
def release(cloud, processor):
    async def release(sequence, model):
        cloud.workers["gateway"].agent.answers[FetchRelease] = lambda _: cloud.bundle(sequence, model)
        await cloud.release(sequence, model.manifest_hash)
        await cloud.until(lambda: processor.agent.status()["release"] == sequence)

    return release


def another(candidate, change):
    manifest = candidate.manifest.replace(*change)
    return SimpleNamespace(manifest=manifest, artifact=candidate.artifact, manifest_hash=keccak256(manifest))


async def test_week__the_release_is_off_here__a_head_is_used_and_told_signed_without_a_reading(
    cloud, candidate, release, feed, processor
):
    await release(1, candidate)
    await feed(0, DAYS)
    (fitted,) = processor.journal("head-fitted")
    assert fitted["after"] < fitted["before"]
    assert fitted["rows"] >= 96
    await cloud.until(lambda: processor.agent._state.starting("head-told:") == {})
    (said,) = cloud.workers["gateway"].agent.heard(HeadReport)
    told = said.signed.told
    assert (told.head.hex(), told.manifest_hash) == (fitted["head"], candidate.manifest_hash)
    assert told.device == processor.agent._devices.pseudonym(cloud.workers["sensor"].id)
    assert {type(one) for one in msgspec.structs.astuple(told)} <= {str, bytes, int, float}
    (shown,) = processor.agent.status()["heads"].values()
    assert fitted["head"].startswith(shown["head"])
    assert processor.metric("heads_fitted") == 1


async def test_forecast__with_a_head__is_moved_by_at_most_what_the_release_allows(
    cloud, candidate, release, feed, processor
):
    await release(1, candidate)
    await feed(0, DAYS)
    slot, device = processor.agent._slot, cloud.workers["sensor"].id
    history = hours(DAYS, 0.0)[-30:]
    plain = slot.forecast("nobody's", history)
    moved = processor.agent._autonomy.corrected(device, plain, history, [])
    assert 0.0 < abs(moved.value - plain.value) <= 1.0
    assert processor.agent._autonomy.corrected("another", plain, history, []) == plain


async def test_restart__with_a_head__goes_on_with_it(cloud, candidate, release, feed, processor):
    await release(1, candidate)
    await feed(0, DAYS)
    before = processor.agent.status()["heads"]
    processor.restart()
    await cloud.catch_up(processor)
    assert processor.agent.status()["heads"] == before != {}


async def test_release__a_new_one__drops_the_head(cloud, candidate, release, feed, processor):
    await release(1, candidate)
    await feed(0, DAYS)
    await release(2, another(candidate, (b'"parent":null', b'"parent": null')))
    await cloud.pass_time(2)
    assert [one["why"] for one in processor.journal("head-dropped")] == ["another release"]


async def test_operator__allows_no_heads__the_one_in_use_goes(cloud, candidate, release, feed, processor):
    await release(1, candidate)
    await feed(0, DAYS)
    processor.agent._autonomy._every = 0.0
    await cloud.pass_time(1)
    assert [one["why"] for one in processor.journal("head-dropped")] == ["not allowed"]
    assert processor.agent.status()["heads"] == {}


async def test_release__names_no_bounds__nothing_is_fitted(candidate, release, feed, processor):
    await release(1, another(candidate, (b'"autonomy":{"max_shift":1.0,"min_rows":96},', b"")))
    await feed(0, DAYS)
    assert processor.journal("head-fitted") == []


async def test_head__worse_than_the_release_on_what_came_since__goes(cloud, candidate, release, feed, processor):
    await release(1, candidate)
    await feed(0, DAYS)
    autonomy, device = processor.agent._autonomy, cloud.workers["sensor"].id
    kept = autonomy._kept(device)
    wrong = msgspec.structs.replace(kept.head, weights=(0.0,) * 12, shift=-5.0 if kept.head.shift > 0 else 5.0)
    worse = msgspec.structs.replace(kept, head=msgspec.structs.replace(wrong, until=24 * 3600.0))
    await processor.do(lambda: autonomy._state.set(f"head:{device}", msgspec.msgpack.encode(worse).hex()))
    autonomy._due.clear()
    await cloud.pass_time(1)
    assert [one["why"] for one in processor.journal("head-dropped")] == ["worse than the release"]


@pytest.mark.parametrize("forged", [False, True])
async def test_gateway__is_told_of_a_head__notes_it_if_the_processor_signed_it(world, forged):
    await world.add("oracle", Kind.ORACLE)
    gateway = await world.add("gateway", Kind.GATEWAY, agent=Settled)
    processor = await world.add("processor", Kind.PROCESSOR, agent=Pen)
    await world.rotate()
    messenger = processor.runtime.messenger
    await world.until(processor.runtime.membership.gateway_card)
    await processor.do(lambda: messenger.connect(processor.runtime.membership.gateway_card(), "gateway"))
    await world.until(lambda: processor.in_session_with(gateway))
    told = HeadTold("device", 1, bytes(32), b"h" * 32, 120, 1.5, 1.2, 0)
    signed = told.signed(PrivateKey.from_bytes(b"\x07" * 32) if forged else processor.key)
    await processor.do(lambda: messenger.request(gateway.id, HeadReport(signed), (HeadHeard,), 20.0, "head"))
    await world.run()
    assert gateway.metric("heads_refused", reason="forged") == forged
    assert len(gateway.journal("head-reported")) == (not forged)
    assert bool(processor.agent.heard(HeadHeard)) is not forged
    assert gateway.metric("steps_failed") == 0
