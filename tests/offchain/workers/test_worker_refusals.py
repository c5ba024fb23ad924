"""Whatever a processor is given instead of a good release it turns down, and says so to its gateway over its name."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import msgspec
import pytest
from hostile import DENSE, HOSTILE, made
from test_worker_release import Listening, Stocked, settle, until
from worker_world import OWNER, WEATHER, Pen

from quietfleet.chain.events import ReleaseApproved, ReleaseProposed, WaveOpened
from quietfleet.chain.types import Kind
from quietfleet.crypto import keccak256
from quietfleet.rollout import Gate, Outcome, Reason, make_plan
from quietfleet.workers.messages import SHELVED, FetchRelease, OutcomeHeard, ReleaseBundle, ReleaseOutcome

LONG_OVER = 1_600_000_000


def dressed(good, artefact, **changes):
    """A good model's manifest around another artefact, as somebody would write it who releases such a thing."""
    plain = json.loads(good.manifest) | changes
    plain["models"]["default"] |= {"size": len(artefact), "sha256": hashlib.sha256(artefact).hexdigest()}
    manifest = json.dumps(plain).encode()
    return SimpleNamespace(manifest=manifest, artifact=artefact, manifest_hash=keccak256(manifest))


@pytest.fixture
def found(world):
    """A gateway and a processor in session, with a shelf between them."""

    async def found(gateway, *, others=()):
        world.max_size = 1 << 20
        world.shelves = {"gateway": "shelf", "processor": "shelf"}
        await world.add("oracle", Kind.ORACLE)
        cloud = await world.add("gateway", Kind.GATEWAY, agent=gateway)
        processor = await world.add("processor", Kind.PROCESSOR, agent=Listening)
        for name in others:
            await world.add(name, Kind.PROCESSOR, agent=Pen)
        await world.rotate()
        await world.until(lambda: processor.in_session_with(cloud))
        return cloud, processor

    return found


def refused(processor):
    return [entry["why"] for entry in processor.journal("release-rejected")]


async def test_release__any_hostile_artefact__refused_before_it_is_loaded_and_the_gateway_counts_why(
    world, found, candidate
):
    gateway, processor = await found(Stocked)
    gateway.agent._champion = lambda: None  # a gateway that does not look at what it releases
    kinds = {name: made(name) for name in HOSTILE if name not in DENSE or name == "most numbers everywhere"}
    assert [name for name in kinds if len(kinds[name]) > SHELVED] == ["eight megabytes"], "which no shelf takes"
    fit = [name for name in kinds if len(kinds[name]) <= SHELVED]
    heard = {"outcome": Outcome.REJECTED, "reason": Reason.UNUSABLE}
    for number, name in enumerate(fit, 1):
        model = dressed(candidate, kinds[name])
        await gateway.do(lambda model=model: gateway.agent.stock(model))
        await settle(world)
        await world.release(number, model.manifest_hash)
        await until(world, lambda number=number: gateway.metric("outcomes_heard", **heard) == number)
    assert set(refused(processor)) == {Reason.UNUSABLE}
    assert processor.agent._slot.model is None
    assert processor.metric("releases_refused", reason=Reason.UNUSABLE) == len(fit)
    assert processor.metric("steps_failed") == gateway.metric("outcomes_refused", reason="signature") == 0


async def test_release__its_manifest_is_over__refused_for_good_and_counted_as_that(world, found, candidate):
    gateway, processor = await found(Stocked)
    model = dressed(candidate, candidate.artifact, expires_at=LONG_OVER)
    await gateway.do(lambda: gateway.agent.stock(model))
    await settle(world)
    await world.release(1, model.manifest_hash)
    heard = {"outcome": Outcome.REJECTED, "reason": Reason.MODEL_OVER}
    await until(world, lambda: gateway.metric("outcomes_heard", **heard) == 1)
    await world.pass_time(20)
    assert refused(processor) == [Reason.MODEL_OVER], "its number is not asked for again"


# a gateway that lies, about what the chain names


def swapped_baseline(world, good):
    plain = json.loads(good.manifest)
    name = next(iter(plain["baseline"]))
    plain["baseline"][name] = next(reversed(plain["baseline"].values()))
    return msgspec.structs.replace(world.bundle(1, good), manifest=json.dumps(plain).encode())


def another_artefact(world, good):
    return msgspec.structs.replace(world.bundle(1, good), artefact=good.artifact + b"\0")


def ticket_with(**changes):
    def lie(world, good):
        bundle = world.bundle(1, good)
        return msgspec.structs.replace(bundle, ticket=msgspec.structs.replace(bundle.ticket, **changes))

    return lie


LIES = {
    "swapped baseline": (swapped_baseline, Reason.WRONG_BYTES),
    "another artefact": (another_artefact, Reason.WRONG_BYTES),
    "somebody else's place": (ticket_with(pseudonym=bytes(32)), Reason.WRONG_PROOF),
    "another salt": (ticket_with(salt=bytes(32)), Reason.WRONG_PROOF),
    "a wave that there is not": (ticket_with(wave=9), Reason.WRONG_PROOF),
    "other terms": (ticket_with(terms=bytes(24)), Reason.WRONG_TERMS),
    "another gate": (ticket_with(gate=Gate(success=0.0, failure=1.0).canonical), Reason.WRONG_GATE),
    "no gate": (ticket_with(gate=b"\xff"), Reason.WRONG_GATE),
    "skipped sequence": (lambda world, good: world.bundle(7, good), Reason.SKIPPED),
    "a sequence of before": (lambda world, good: world.bundle(0, good), Reason.OLD_SEQUENCE),
}


def said(gateway):
    """What the gateway was told under a processor's name."""
    return [outcome.signed for outcome in gateway.agent.heard(ReleaseOutcome)]


@pytest.mark.parametrize("name", LIES)
async def test_release__not_what_the_chain_names__refused_with_a_signed_report(world, found, candidate, name):
    lie, reason = LIES[name]
    gateway, processor = await found(Pen)
    gateway.agent.answers[FetchRelease] = lambda _: lie(world, candidate)
    gateway.agent.answers[ReleaseOutcome] = lambda outcome: OutcomeHeard(outcome.signed.report.sequence)
    await world.release(1, candidate.manifest_hash)
    await until(world, lambda: said(gateway) != [])
    (first, *_) = said(gateway)
    assert (first.report.sequence, first.report.outcome, first.report.reason) == (1, Outcome.REJECTED, reason)
    assert first.by(processor.id)
    assert not first.by(gateway.id)
    assert set(refused(processor)) == {reason}
    assert processor.agent.status()["release"] == 0


async def test_release__replayed_in_place_of_the_newest__the_present_model_stays_and_the_gateway_is_told(
    world, found, candidate
):
    gateway, processor = await found(Pen)
    old = world.bundle(1, candidate)
    gateway.agent.answers[FetchRelease] = lambda _: old
    gateway.agent.answers[ReleaseOutcome] = lambda outcome: OutcomeHeard(outcome.signed.report.sequence)
    await world.release(1, candidate.manifest_hash)
    await until(world, lambda: processor.agent.status()["release"] == 1)
    newer = dressed(candidate, candidate.artifact, format=json.loads(candidate.manifest)["format"])
    await world.release(2, newer.manifest_hash)
    await until(world, lambda: Reason.OLD_SEQUENCE in refused(processor))
    await until(
        world, lambda: (2, Reason.OLD_SEQUENCE) in [(s.report.sequence, s.report.reason) for s in said(gateway)]
    )
    assert processor.agent.status()["release"] == 1


async def test_release__lied_about_for_long__a_remark_a_minute_and_no_more(world, found, candidate):
    gateway, processor = await found(Pen)
    gateway.agent.answers[FetchRelease] = lambda _: world.bundle(7, candidate)
    gateway.agent.answers[ReleaseOutcome] = lambda outcome: OutcomeHeard(outcome.signed.report.sequence)
    await world.release(1, candidate.manifest_hash)
    await world.pass_time(150)
    asked = len(gateway.agent.heard(FetchRelease))
    assert len({signed.signature for signed in said(gateway)}) <= 3 < asked
    assert processor.metric("releases_refused", reason=Reason.SKIPPED) == asked


# the chain moves on while an answer is on its way


@pytest.fixture
def opened(world, found, candidate):
    """A processor of the second wave of two, to which the chain has opened release 1; returns what it is then given."""

    async def opened(waves, wave):
        gateway, processor = await found(Pen, others=("other",))
        gateway.agent.answers[ReleaseOutcome] = lambda outcome: OutcomeHeard(outcome.signed.report.sequence)
        members = [world.workers["other"].id, processor.id]
        seeds = (keccak256(bytes([salt])) for salt in range(256))
        plans = (make_plan(candidate.manifest_hash, members, seed=s, gate=Gate(), waves=waves) for s in seeds)
        world.plans[candidate.manifest_hash] = next(one for one in plans if one.wave(one.name(processor.id)) == wave)
        terms = world.terms(candidate.manifest_hash)
        await world.say(
            ReleaseProposed(WEATHER, 1, terms), ReleaseApproved(WEATHER, 1, OWNER), WaveOpened(WEATHER, 1, 1)
        )
        await until(world, lambda: gateway.agent.heard(FetchRelease) != [])
        bundle = world.bundle(1, candidate)
        return gateway, processor, bundle

    return opened


async def give(processor, bundle):
    """Have what was under way arrive."""
    assert isinstance(bundle, ReleaseBundle)
    await processor.do(lambda: processor.agent._slot.install(bundle))


async def test_release__given_before_its_wave__refused_as_that_and_counts_against_nothing(world, opened):
    gateway, processor, bundle = await opened(2, 2)
    await give(processor, bundle)
    await until(world, lambda: said(gateway) != [])
    assert said(gateway)[0].report.reason is Reason.NOT_OUR_WAVE
    assert processor.agent.status()["release"] == 0


async def test_release__arrives_when_the_chain_is_out_of_sight__refused_and_told_once_it_is_back(world, opened):
    gateway, processor, bundle = await opened(1, 1)
    world.clock.advance(10_000)
    assert processor.runtime.registry.stale
    await give(processor, bundle)
    assert refused(processor) == [Reason.STALE_CHAIN]
    assert said(gateway) == []
    assert processor.agent.status()["release"] == 0
    (row,) = processor.rows("SELECT value FROM state WHERE name = 'outcome:00000001'")
    assert row, "it waits for the chain"


async def test_release__arrives_when_its_time_is_over__refused_as_expired(world, opened):
    _, processor, bundle = await opened(1, 1)
    terms = world.terms(bundle.ticket.manifest_hash)
    world.clock.advance(terms.expires_at - world.clock.now() + 1)
    await world.say()  # the chain is in sight
    await give(processor, bundle)
    assert refused(processor) == [Reason.EXPIRED]
