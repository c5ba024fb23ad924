"""Models of single devices on their way from a run, which knows veiled names, to the one processor they are for."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
from test_worker_gateway import Releases
from test_worker_waves import Releasing, until
from worker_world import HOUR, SITE, hours

from quietfleet.chain.types import Kind
from quietfleet.pipeline.bundle import pack, unpack
from quietfleet.pipeline.choices import Choice, Errors, Personal, Why
from quietfleet.pipeline.choices import Kind as Gets
from quietfleet.pipeline.features import Features
from quietfleet.pipeline.linear_onnx import LinearTemplate
from quietfleet.pipeline.project import shipped
from quietfleet.pipeline.registry_check import check
from quietfleet.pipeline.run import run_pipeline
from quietfleet.pipeline.sessions import open_session
from quietfleet.settings import RolloutSection
from quietfleet.storage import AuditLog
from quietfleet.testbed.crowd import crowd
from quietfleet.workers import _rollout as rollout
from quietfleet.workers._personal import SUFFIX
from quietfleet.workers._veil import Device
from quietfleet.workers.messages import ARTEFACT

JUNE = 1_370_044_800.0
JANUARY = 1_356_998_400.0
DEVICES = ("greenhouse", "cellar")


@pytest.fixture
def releases(world, monkeypatch):
    releases = Releases(world)
    monkeypatch.setattr(rollout, "ReleasesContract", releases)
    monkeypatch.setattr(rollout, "account", lambda *_: contextlib.nullcontext((None, None)))
    return releases


@pytest.fixture
def fleet(world, releases):
    """An oracle, a gateway that does not train by itself, and so many processors in session with it."""

    async def fleet(count, waves=1):
        world.rollout = RolloutSection(waves=waves, deadline=40)
        await world.add("oracle", Kind.ORACLE)
        gateway = await world.add("gateway", Kind.GATEWAY, agent=Releasing)
        await gateway.do(lambda: gateway.agent._state.set("attempted", 1e12))
        processors = [await world.add(f"processor-{number}", Kind.PROCESSOR) for number in range(count)]
        await world.rotate()
        await world.until(lambda: all(one.in_session_with(gateway) for one in processors))
        return gateway, processors

    return fleet


def wide(candidate):
    """How many features a row of its has."""
    return len(Features.from_plain(json.loads(candidate.manifest)["features"]).names)


def constant(width, number):
    """A model that says a number, whatever it is asked."""
    return LinearTemplate(width).fill(np.zeros(width), np.ones(width), np.zeros(width), number)


def chosen(models, gains=None):
    """What a run has for these devices, by the names the run knows them by."""
    choices = []
    for device in models:
        gain = (gains or {}).get(device, 0.1)
        errors = Errors(1.0, 1.0 - gain, 2.0)
        choices.append(Choice(device, Gets.PERSONAL, Why.BETTER, 100, errors, errors))
    return Personal(tuple(choices), models)


def have(processor, device, count=30):
    """Let a sensor of this processor have measured for a while."""
    rows = hours(count, JUNE)
    processor.world.reach(rows[-1][0] + HOUR)
    for at, fields in rows:
        processor.agent._week.append(device, at, fields)
    processor.runtime.database.execute("INSERT OR IGNORE INTO devices VALUES (?, '', 0, NULL)", (device,))
    return rows[-1][0]


async def bring(gateway, processors):
    """Have every processor's devices come in at the gateway, as they do, and say what the gateway calls each."""
    named = {}
    for processor in processors:
        for device in DEVICES:
            have(processor, device)
    await gateway.world.until(
        lambda: all(len(gateway.agent._intake.names(one.id)) >= len(DEVICES) for one in processors)
    )
    for processor in processors:
        known = {first: second for second, first in gateway.agent._intake.names(processor.id).items()}
        for device in DEVICES:
            named[processor.name, device] = known[processor.agent._devices.pseudonym(device)]
    return named


async def release(world, releases, gateway, candidate, personal):
    """Consider a candidate that a run made, and take its release through."""
    await gateway.do(lambda: gateway.agent._trainer.consider(replace(candidate, personal=personal), "0" * 16))
    await until(world, releases, lambda: 1 in releases.book.completed, within=200)
    await until(world, releases, lambda: all(one.agent.status()["release"] == 1 for one in processors_of(world)))


def processors_of(world):
    return [one for name, one in world.workers.items() if name.startswith("processor")]


def says(processor, device):
    latest = have(processor, device)
    return processor.agent._advice.advise(device, latest, 1).forecast


def personal_of(processor):
    return processor.agent._slot.model.personal


def kept_on_disk(processor):
    folder = processor.runtime.folder
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_release__devices_with_models_of_their_own__each_processor_gets_its_own_and_no_others(
    world, fleet, releases, candidate
):
    gateway, processors = await fleet(3, waves=2)
    named = await bring(gateway, processors)
    width = wide(candidate)
    models = {
        named["processor-0", "greenhouse"]: constant(width, 10.0),
        named["processor-0", "cellar"]: constant(width, 11.0),
        named["processor-1", "greenhouse"]: constant(width, 13.0),
        "EWR": constant(width, 99.0),  # of the history, on no processor
    }
    await release(world, releases, gateway, candidate, chosen(models))
    zero, one, two = processors
    default = says(two, "greenhouse")
    assert default not in {10.0, 11.0, 13.0}
    assert [says(zero, "greenhouse"), says(zero, "cellar"), says(one, "greenhouse")] == [10.0, 11.0, 13.0]
    assert says(one, "cellar") == says(two, "cellar") == default
    assert personal_of(zero) == {zero.agent._devices.pseudonym(device) for device in DEVICES}
    assert personal_of(one) == {one.agent._devices.pseudonym("greenhouse")}
    assert personal_of(two) == frozenset()
    for one in processors:
        others = [
            other.agent._devices.pseudonym(device) for other in processors if other is not one for device in DEVICES
        ]
        assert not [name for name in others if name.encode() in kept_on_disk(one)]
    assert len(releases.book.releases) == 1


async def test_release__a_real_run_over_what_came_in__forecasts_each_device_as_the_run_chose(world, fleet, releases):
    gateway, processors = await fleet(2)
    named = await bring(gateway, processors)
    sensors = crowd(len(named), seed=3, since=JANUARY, days=30)
    renamed = zip(named.values(), sensors, strict=True)
    readings = [(name, at, fields) for name, one in renamed for _, at, fields in one.readings()]
    candidate = run_pipeline(readings, shipped(), seed=1, now=world.clock.now())
    assert candidate.personal.models
    await release(world, releases, gateway, candidate, candidate.personal)
    row = np.full((1, wide(candidate)), 8.0, dtype=np.float32)
    for (processor, device), name in named.items():
        worker = world.workers[processor]
        artefact = candidate.personal.models.get(name, candidate.artifact)
        expected = open_session(artefact, wide(candidate)).run(None, {"features": row})[0].item()
        said = worker.agent._slot.model.predict(row, worker.agent._devices.pseudonym(device)).value
        assert said == pytest.approx(expected, abs=1e-4)


async def test_restart__processor_with_models_of_its_own__has_them_again(world, fleet, releases, candidate):
    gateway, processors = await fleet(1)
    named = await bring(gateway, processors[:1])
    models = {named["processor-0", "cellar"]: constant(wide(candidate), 11.0)}
    await release(world, releases, gateway, candidate, chosen(models))
    processors[0].restart()
    assert personal_of(processors[0]) == {processors[0].agent._devices.pseudonym("cellar")}
    assert says(processors[0], "cellar") == 11.0


async def test_keep__names_that_a_processor_made_up__stay_out_of_every_manifest(world, fleet, candidate):
    gateway, processors = await fleet(2)
    evil = processors[0].id
    wanted = ["default", "../../etc/passwd", "a b", "fine"]
    for name in wanted:
        gateway.agent._intake.veil.saw(Device(evil, name, SITE, 1))
        gateway.agent._intake.veil.name(evil, name, 1)
    called = {first: second for second, first in gateway.agent._intake.names(evil).items()}
    models = {called[name]: constant(wide(candidate), 1.0) for name in wanted}
    kept = gateway.agent._personals
    assert kept.keep(candidate.manifest, candidate.artifact, chosen(models)) == {"processors": 1, "devices": 1}
    (manifest_hash,) = kept.given(candidate.manifest_hash).values()
    _, manifest, payload = kept.find(manifest_hash)
    default, personal = unpack(payload)
    assert (default, list(personal)) == (candidate.artifact, ["fine"])
    assert list(json.loads(manifest)["models"]["personal"]) == ["fine"]


async def test_keep__more_models_than_travel__those_that_gain_most_go(world, fleet, candidate):
    gateway, processors = await fleet(2)
    devices = [f"{number:032x}" for number in range(250)]
    for device in devices:
        gateway.agent._intake.veil.saw(Device(processors[0].id, device, SITE, 1))
    gateway.agent._intake.veil.name(processors[0].id, devices[0], 1)
    called = {first: second for second, first in gateway.agent._intake.names(processors[0].id).items()}
    models = {called[device]: constant(wide(candidate), 1.0) for device in devices}
    gains = {called[device]: (place + 1) / 1000 for place, device in enumerate(devices)}
    kept = gateway.agent._personals
    kept.keep(candidate.manifest, candidate.artifact, chosen(models, gains))
    (manifest_hash,) = kept.given(candidate.manifest_hash).values()
    _, _, payload = kept.find(manifest_hash)
    personal = unpack(payload)[1]
    assert len(payload) <= ARTEFACT
    assert set(personal) == set(devices[-len(personal) :])


async def test_keep__whatever_it_writes__names_no_processor_in_the_clear(world, fleet, candidate):
    gateway, processors = await fleet(2)
    named = await bring(gateway, processors[:2])
    models = {name: constant(wide(candidate), 1.0) for name in named.values()}
    await gateway.do(lambda: gateway.agent._personals.keep(candidate.manifest, candidate.artifact, chosen(models)))
    rows = gateway.rows("SELECT name, value FROM state") + gateway.rows("SELECT * FROM model_version")
    rows += gateway.rows("SELECT * FROM model_artifact")
    for one in processors:
        assert not any(one.id[2:].lower() in repr(row).lower() for row in rows)
        assert one.id[2:].lower().encode() not in objects(gateway).lower()
    assert [one.name for one in gateway.agent._registry.versions()] == [f"weather{SUFFIX}"] * 2
    assert check(gateway.agent._registry, AuditLog(gateway.runtime.database)) == []


async def test_release__promoted_by_persons_later__takes_the_models_along(world, fleet, releases, candidate):
    gateway, processors = await fleet(1)
    named = await bring(gateway, processors[:1])
    models = {named["processor-0", "cellar"]: constant(wide(candidate), 11.0)}
    with gateway.runtime.transaction():
        gateway.agent.stock(candidate)
        gateway.agent._personals.keep(candidate.manifest, candidate.artifact, chosen(models))
        version = gateway.agent._state.get(f"manifest:{candidate.manifest_hash.hex()}")
        gateway.agent._release(version, candidate.manifest_hash)
    await until(world, releases, lambda: processors[0].agent.status()["release"] == 1)
    assert says(processors[0], "cellar") == 11.0


async def test_serve__a_gateway_that_swaps_two_devices_models__is_refused_and_reported(
    world, fleet, releases, candidate, monkeypatch
):
    gateway, processors = await fleet(1)
    named = await bring(gateway, processors[:1])
    numbers = {"greenhouse": 10.0, "cellar": 11.0}
    models = {named["processor-0", device]: constant(wide(candidate), number) for device, number in numbers.items()}
    honest = gateway.agent._personals.find

    def swapped(manifest_hash):
        place, manifest, payload = honest(manifest_hash)
        default, personal = unpack(payload)
        return place, manifest, pack(default, dict(zip(personal, reversed(personal.values()), strict=True)))

    monkeypatch.setattr(gateway.agent._personals, "find", swapped)
    await gateway.do(lambda: gateway.agent._trainer.consider(replace(candidate, personal=chosen(models)), "0" * 16))
    await until(world, releases, lambda: processors[0].journal("release-rejected"))
    assert processors[0].agent.status()["release"] == 0
    assert "not the one in the manifest" in processors[0].journal("release-rejected")[0]["reason"]


def objects(worker):
    return b"".join(path.read_bytes() for path in (worker.runtime.folder / "objects").rglob("*") if path.is_file())
