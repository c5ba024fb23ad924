"""Whatever a processor is given instead of a good release it turns down, and says so to its gateway over its name."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import msgspec
import pytest
from hostile import DENSE, HOSTILE, made
from hypothesis import given
from hypothesis import strategies as st
from test_worker_release import Listening, Stocked, settle, until
from worker_world import MAX_AGE, OWNER, WEATHER

from quietfleet.chain.events import ReleaseApproved, ReleaseProposed, ReleaseRevoked, RolloutPaused, WaveOpened
from quietfleet.chain.types import Kind
from quietfleet.crypto import keccak256
from quietfleet.rollout import Gate, Outcome, Reason, make_plan
from quietfleet.session import Received
from quietfleet.workers import _fetching as fetching
from quietfleet.workers import _loading as loading
from quietfleet.workers._retries import Retries
from quietfleet.workers.messages import ARTEFACT, SHELVED, NoSuchRelease, ReleaseAt, ReleaseOutcome

LONG_OVER = 1_600_000_000


class Lying(Stocked):
    """A gateway that answers who asks for a release what the test has it say; else it is a real one."""

    def __init__(self, runtime):
        super().__init__(runtime)
        self.asked, self.said = [], []
        self.answer = lambda fetch: NoSuchRelease(fetch.sequence)

    def on_event(self, event):
        if isinstance(event, Received) and isinstance(event.body, ReleaseOutcome):
            self.said.append(event.body.signed)
        super().on_event(event)

    def _serve(self, event, request):
        self.asked.append(request)
        if (answer := self.answer(request)) is not None:
            self._runtime.messenger.reply(event, answer)


def dressed(good, artefact, **changes):
    """A good model's manifest around another artefact, as somebody would write it who releases such a thing."""
    plain = json.loads(good.manifest) | changes
    plain["models"]["default"] |= {"size": len(artefact), "sha256": hashlib.sha256(artefact).hexdigest()}
    manifest = json.dumps(plain).encode()
    return SimpleNamespace(manifest=manifest, artifact=artefact, manifest_hash=keccak256(manifest))


@pytest.fixture
def found(world):
    """A gateway and a processor in session, with a shelf between them."""

    async def found(gateway=Lying, *, others=()):
        world.max_size = 1 << 20
        world.shelves = {"gateway": "shelf", "processor": "shelf"}
        await world.add("oracle", Kind.ORACLE)
        cloud = await world.add("gateway", Kind.GATEWAY, agent=gateway)
        processor = await world.add("processor", Kind.PROCESSOR, agent=Listening)
        for name in others:
            await world.add(name, Kind.PROCESSOR)
        await world.rotate()
        await world.until(lambda: processor.in_session_with(cloud))
        return cloud, processor

    return found


def refused(processor):
    return [entry["why"] for entry in processor.journal("release-rejected")]


def heard(gateway, reason):
    """How often the gateway was told that a release was turned down for this."""
    return gateway.metric("outcomes_heard", outcome=Outcome.REJECTED, reason=reason)


FULL = "packed numbers"  # goes by the shelf as large as it can be; of its likes as much as a message takes


async def test_release__any_hostile_artefact__refused_before_it_is_loaded_and_the_gateway_counts_why(
    world, found, candidate
):
    gateway, processor = await found(Stocked)
    gateway.agent._champion = lambda: None  # a gateway that does not look at what it releases
    kinds = {name: made(name, ARTEFACT - 256) if name in DENSE and name != FULL else made(name) for name in HOSTILE}
    assert len(kinds.pop("eight megabytes")) > SHELVED, "which no shelf takes"
    for number, (name, artefact) in enumerate(kinds.items(), 1):
        model = dressed(candidate, artefact)
        await gateway.do(lambda model=model: gateway.agent.stock(model))
        await settle(world)
        await world.release(number, model.manifest_hash)
        await until(world, lambda number=number: heard(gateway, Reason.UNUSABLE) == number)
        assert refused(processor)[number - 1 :] == [Reason.UNUSABLE], name
        assert processor.agent._slot.model is None
    assert processor.metric("releases_refused", reason=Reason.UNUSABLE) == len(kinds) == len(HOSTILE) - 1
    assert processor.metric("steps_failed") == gateway.metric("outcomes_refused", reason="signature") == 0


async def test_release__manifest_promises_more_than_any_artefact_has__refused_and_nothing_of_it_fetched(
    world, found, candidate
):
    gateway, processor = await found()
    model = dressed(candidate, made("eight megabytes"))
    gateway.agent.answer = lambda _: ReleaseAt(
        1, world.ticket(model.manifest_hash), model.manifest, bytes(32), bytes(32)
    )
    await world.release(1, model.manifest_hash)
    await until(world, lambda: heard(gateway, Reason.UNUSABLE) == 1)
    assert processor.journal("shelf-failed") == []
    assert processor.agent._slot.fetching._look is None


async def test_release__its_manifest_is_over__refused_for_good_and_counted_as_that(world, found, candidate):
    gateway, processor = await found(Stocked)
    model = dressed(candidate, candidate.artifact, expires_at=LONG_OVER)
    await gateway.do(lambda: gateway.agent.stock(model))
    await settle(world)
    await world.release(1, model.manifest_hash)
    await until(world, lambda: heard(gateway, Reason.MODEL_OVER) == 1)
    await world.pass_time(20)
    assert refused(processor) == [Reason.MODEL_OVER], "its number is not asked for again"


async def test_release__a_check_stumbles_over_it__has_not_passed_it(world, found, candidate, monkeypatch):
    gateway, processor = await found(Stocked)

    def stumble(*_, **_named):
        raise RecursionError

    monkeypatch.setattr(loading, "load_model", stumble)
    await gateway.do(lambda: gateway.agent.stock(candidate))
    await settle(world)
    await world.release(1, candidate.manifest_hash)
    await until(world, lambda: heard(gateway, Reason.UNUSABLE) == 1)
    assert processor.journal("release-rejected")[0]["reason"].endswith("(a check failed: RecursionError)")
    assert processor.metric("steps_failed") == 0


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


@pytest.mark.parametrize("name", LIES)
async def test_release__not_what_the_chain_names__refused_with_a_signed_report(world, found, candidate, name):
    lie, reason = LIES[name]
    gateway, processor = await found()
    gateway.agent.answer = lambda _: lie(world, candidate)
    await world.release(1, candidate.manifest_hash)
    await until(world, lambda: heard(gateway, reason) == 1)
    first = gateway.agent.said[0]
    assert (first.report.sequence, first.report.outcome, first.report.reason) == (1, Outcome.REJECTED, reason)
    assert first.by(processor.id)
    assert not first.by(gateway.id)
    assert set(refused(processor)) == {reason}
    assert processor.agent.status()["release"] == 0
    assert gateway.metric("steps_failed") == processor.metric("steps_failed") == 0


async def test_release__replayed_in_place_of_the_newest__the_present_model_stays_and_the_gateway_is_told(
    world, found, candidate
):
    gateway, processor = await found()
    old = world.bundle(1, candidate)
    gateway.agent.answer = lambda _: old
    await world.release(1, candidate.manifest_hash)
    await until(world, lambda: processor.agent.status()["release"] == 1)
    newer = dressed(candidate, candidate.artifact, format=json.loads(candidate.manifest)["format"])
    await world.release(2, newer.manifest_hash)
    await until(world, lambda: heard(gateway, Reason.OLD_SEQUENCE) == 1)
    assert (gateway.agent.said[-1].report.sequence, processor.agent.status()["release"]) == (2, 1)


async def test_release__lied_about_for_long__a_remark_a_minute_and_no_more(world, found, candidate):
    gateway, processor = await found()
    gateway.agent.answer = lambda _: world.bundle(7, candidate)
    await world.release(1, candidate.manifest_hash)
    await world.pass_time(150)
    asked = len(gateway.agent.asked)
    assert heard(gateway, Reason.SKIPPED) <= 3 < asked
    assert processor.metric("releases_refused", reason=Reason.SKIPPED) == asked


async def test_release__nowhere_to_be_had__asked_for_ever_more_rarely(world, found, candidate):
    gateway, _ = await found()
    await world.release(1, candidate.manifest_hash)
    counts = []
    for _ in range(4):
        await world.pass_time(100)
        counts.append(len(gateway.agent.asked) - sum(counts))
    assert counts[0] > counts[-1]
    assert 1 <= counts[-1] <= 100 / (fetching.LONGEST_PAUSE / 2) + 1


@given(st.binary(min_size=4, max_size=4), st.integers(0, 12))
def test_pause__any_randomness_and_number_of_tries__in_the_upper_half_of_a_span_that_doubles(drawn, tries):
    retries = Retries(lambda _: drawn, 5.0, 60.0)
    pauses = [retries.pause("this") for _ in range(tries + 1)]
    span = min(60.0, 5.0 * 2**tries)
    assert span / 2 <= pauses[-1] <= span
    assert 2.5 <= retries.pause("that") <= 5.0, "another thing begins anew"


# the chain moves on while an answer is on its way


@pytest.fixture
def opened(world, found, candidate):
    """A processor that asked for release 1, of which the first wave is open, and waits for the answer it is given."""

    async def opened(waves=1, wave=1):
        gateway, processor = await found(others=("other",))
        gateway.agent.answer = lambda _: None
        members = [world.workers["other"].id, processor.id]
        seeds = (keccak256(bytes([salt])) for salt in range(256))
        plans = (make_plan(candidate.manifest_hash, members, seed=s, gate=Gate(), waves=waves) for s in seeds)
        world.plans[candidate.manifest_hash] = next(one for one in plans if one.wave(one.name(processor.id)) == wave)
        terms = world.terms(candidate.manifest_hash)
        await world.say(
            ReleaseProposed(WEATHER, 1, terms), ReleaseApproved(WEATHER, 1, OWNER), WaveOpened(WEATHER, 1, 1)
        )
        await until(world, lambda: processor.agent._slot.fetching.asked[1] == 1)
        return gateway, processor, world.bundle(1, candidate)

    return opened


async def give(processor, bundle):
    """Have what was under way arrive."""
    await processor.do(lambda: processor.agent._slot.fetching.install(bundle))


async def told(world, gateway, processor, reason):
    """Wait until the gateway counted it, once."""
    await until(world, lambda: heard(gateway, reason) == 1)
    assert refused(processor) == [reason]
    assert gateway.agent.said[-1].by(processor.id)
    assert processor.agent.status()["release"] == 0


async def test_release__given_before_its_wave__refused_as_that_and_counts_against_nothing(world, opened, candidate):
    gateway, processor, bundle = await opened(2, 2)
    await give(processor, bundle)
    await told(world, gateway, processor, Reason.NOT_OUR_WAVE)
    rollout = gateway.agent._rollout
    tally = rollout._outcomes.tally(
        rollout._plan(candidate.manifest_hash), gateway.runtime.replica.channel(WEATHER).head
    )
    assert (tally.counts.failed, len(tally.reports)) == (0, 1)


async def test_release__arrives_when_the_chain_is_out_of_sight__refused_and_told_once_it_is_back(world, opened):
    gateway, processor, bundle = await opened()
    world.chain_runs = False
    await world.pass_time(MAX_AGE + 2)
    assert processor.runtime.registry.stale
    for _ in range(3):
        await give(processor, bundle)
    await world.pass_time(5)
    assert refused(processor) == [Reason.STALE_CHAIN], "however often it comes"
    assert gateway.agent.said == []
    world.chain_runs = True
    await told(world, gateway, processor, Reason.STALE_CHAIN)


async def test_release__arrives_when_its_time_is_over__refused_as_expired(world, opened, candidate):
    gateway, processor, bundle = await opened()
    world.clock.advance(world.terms(candidate.manifest_hash).expires_at - world.clock.now() + 1)
    await world.say()  # the chain is in sight
    await give(processor, bundle)
    assert refused(processor) == [Reason.EXPIRED]
    await until(world, lambda: heard(gateway, Reason.EXPIRED) == 1)


async def test_release__arrives_when_it_is_paused__refused_as_not_open(world, opened):
    gateway, processor, bundle = await opened()
    await world.say(RolloutPaused(WEATHER, 1, OWNER))
    await give(processor, bundle)
    await told(world, gateway, processor, Reason.CLOSED)


async def test_release__arrives_when_it_is_revoked__refused_as_that(world, opened, candidate):
    gateway, processor, bundle = await opened()
    await world.say(ReleaseRevoked(WEATHER, 1, candidate.manifest_hash, 0))
    await give(processor, bundle)
    await told(world, gateway, processor, Reason.REVOKED)


async def test_release__arrives_when_the_floor_has_risen__refused_as_below_it(world, opened, candidate):
    gateway, processor, bundle = await opened()
    await world.say(ReleaseRevoked(WEATHER, 0, keccak256(b"another"), 2))
    await give(processor, bundle)
    await told(world, gateway, processor, Reason.BELOW_FLOOR)
