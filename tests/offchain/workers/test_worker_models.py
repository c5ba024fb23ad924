"""The gateway's registry and the chain: what that opens, completes, revokes is moved; what people promote goes out."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from worker_world import WEATHER

from quietfleet.chain.events import ReleaseRevoked
from quietfleet.chain.types import Kind
from quietfleet.crypto import keccak256
from quietfleet.pipeline.registry import PRODUCTION, Registry, Stage
from quietfleet.pipeline.registry_check import check
from quietfleet.storage import AuditLog, Database
from quietfleet.workers._models import objects_of, open_registry
from quietfleet.workers.gateway import Gateway

BOTH = {"who": "anna", "approved_by": "ben", "why": "a third better in frost", "at": 2.0}


class Stocked(Gateway):
    """A gateway that never trains and has no account on chain: it has what the test brings."""

    def __init__(self, runtime):
        super().__init__(runtime, runtime.identity)
        self._begun = True

    async def after(self):
        self._models.follow(self._release)

    @property
    def wanted(self):
        """The manifest that is to be released."""
        draft = self._rollout._wanted
        return draft.manifest if draft else None


@pytest.fixture
async def gateway(world):
    await world.add("oracle", Kind.ORACLE)
    return await world.add("gateway", Kind.GATEWAY, agent=Stocked)


@pytest.fixture
def trained(gateway, candidate):
    """Has the gateway make a model that differs in its time alone."""

    async def trained(number, *, deploy=True):
        plain = json.loads(candidate.manifest) | {"created_at": number}
        manifest = json.dumps(plain).encode()

        def make():
            version = gateway.agent._registry.register("weather", manifest, candidate.artifact, at=1.0)
            gateway.agent._state.set(f"manifest:{keccak256(manifest).hex()}", version)
            gateway.agent._models.trained(version, "better", deploy=deploy)
            return version

        made = []
        await gateway.do(lambda: made.append(make()))
        return SimpleNamespace(version=made[0], manifest_hash=keccak256(manifest))

    return trained


@pytest.fixture
def person(gateway):
    """The command's side: the same registry by a second connection."""

    def act(work, secret=None):
        runtime = gateway.runtime
        with Database(runtime.folder / "worker.db") as database:
            key = secret or runtime.identity.to_bytes()
            work(open_registry(runtime.settings, database, key, AuditLog(database).append))

    return act


def stages(gateway):
    return [one.stage.value for one in gateway.agent._registry.versions("weather")]


async def test_chain__opens_and_completes_a_release__champion_and_production_by_the_chains_approval(
    world, gateway, trained
):
    model = await trained(1)
    assert stages(gateway) == ["staging"]
    await world.release(1, model.manifest_hash)
    await gateway.beat()
    registry = gateway.agent._registry
    assert (stages(gateway), registry.aliases("weather")) == (
        ["production"],
        {"challenger": 1, "champion": 1, "production": 1},
    )
    moves = [(move.alias, move.who, move.approved_by) for move in registry.history() if move.alias]
    assert moves == [
        ("challenger", "gateway", ""),
        ("champion", "gateway", "chain"),
        ("production", "gateway", "chain"),
    ]
    assert gateway.id not in json.dumps([move.told() for move in registry.history()])


async def test_chain__completes_another_then_brings_the_first_back__production_follows(world, gateway, trained):
    models = [await trained(number) for number in (1, 2)]
    for sequence, model in ((1, models[0]), (2, models[1])):
        await world.release(sequence, model.manifest_hash)
        await gateway.beat()
    assert stages(gateway) == ["archived", "production"]
    await world.release(3, models[0].manifest_hash)
    await gateway.beat()
    assert stages(gateway) == ["production", "archived"]
    assert gateway.agent._registry.previous("weather") == 2


async def test_chain__revokes_what_is_in_production__nothing_means_it_any_more(world, gateway, trained):
    model = await trained(1)
    await world.release(1, model.manifest_hash)
    await gateway.beat()
    await world.say(ReleaseRevoked(WEATHER, 1, model.manifest_hash, 2))
    await gateway.beat()
    registry = gateway.agent._registry
    assert (stages(gateway), PRODUCTION in registry.aliases("weather")) == (["archived"], False)
    count = len(registry.history())
    gateway.restart()
    await world.catch_up(gateway)
    await gateway.beat()
    assert len(gateway.agent._registry.history()) == count


async def test_promote__by_two_persons_beside_the_gateway__is_released(gateway, trained, person):
    model = await trained(1, deploy=False)
    await gateway.beat()
    assert gateway.agent.wanted is None
    person(lambda registry: registry.promote("weather", 1, Stage.PRODUCTION, **BOTH))
    await gateway.beat()
    assert gateway.agent.wanted == model.manifest_hash
    (said,) = gateway.journal("promotion-released")
    assert (said["version"], said["who"], said["manifest"]) == (1, "anna", model.manifest_hash.hex())
    gateway.restart()
    await gateway.beat()
    assert len(gateway.journal("promotion-released")) == 1


async def test_promote__released_before__a_person_is_told_to_roll_back(world, gateway, trained, person):
    models = [await trained(number) for number in (1, 2)]
    for sequence, model in ((1, models[0]), (2, models[1])):
        await world.release(sequence, model.manifest_hash)
        await gateway.beat()
    person(lambda registry: registry.promote("weather", 1, Stage.PRODUCTION, **BOTH))
    await gateway.beat()
    assert gateway.agent.wanted is None
    (said,) = gateway.journal("promotion-not-released")
    assert "rollback on chain" in said["reason"]


async def test_attack__promoted_by_who_has_the_files_but_not_the_key__is_not_released(gateway, trained, person):
    await trained(1, deploy=False)
    person(lambda registry: registry.promote("weather", 1, Stage.PRODUCTION, **BOTH), secret=os.urandom(32))
    await gateway.beat()
    assert gateway.agent.wanted is None
    assert [entry["version"] for entry in gateway.journal("promotion-refused")] == [1]
    model = await trained(2, deploy=False)
    person(lambda registry: registry.promote("weather", 2, Stage.PRODUCTION, **BOTH))
    await gateway.beat()
    assert gateway.agent.wanted == model.manifest_hash, "what is not genuine keeps nothing else from being done"
    with Database(gateway.runtime.folder / "worker.db") as database:
        mine = open_registry(gateway.runtime.settings, database, gateway.runtime.identity.to_bytes(), lambda *_: None)
        faults = check(mine, AuditLog(database))
    assert any("was not written by this gateway" in str(one) for one in faults)


async def test_promote__its_bytes_are_damaged__said_and_not_released(gateway, trained, person):
    await trained(1, deploy=False)
    person(lambda registry: registry.promote("weather", 1, Stage.PRODUCTION, **BOTH))
    for path in objects_of(gateway.runtime.settings).directory.rglob("??*"):
        if path.is_file():
            path.write_bytes(b"mud")
    await gateway.beat()
    assert gateway.agent.wanted is None
    (said,) = gateway.journal("promotion-refused")
    assert "no longer match" in said["reason"]


async def test_chain__brings_back_what_was_pruned__said_and_the_gateway_goes_on(world, gateway, trained):
    processor = await world.add("processor", Kind.PROCESSOR)
    models = [await trained(number) for number in (1, 2)]
    for sequence, model in ((1, models[0]), (2, models[1])):
        await world.release(sequence, model.manifest_hash)
        await gateway.beat()
    registry = gateway.agent._registry
    registry.prune("weather", 1, who="anna", at=3.0, why="the disk fills")
    await world.release(3, models[0].manifest_hash)
    await gateway.beat()
    assert stages(gateway) == ["pruned", "production"]
    assert [entry["sequence"] for entry in gateway.journal("release-pruned")] == [3]
    assert gateway.metric("steps_failed") == 0
    await world.rotate()
    await world.until(lambda: processor.in_session_with(gateway))
    await world.pass_time(3)
    assert processor.agent._slot.fetching.asked == (gateway.id, 3)
    assert processor.agent.status()["release"] == 0, "there is no such release, as far as the gateway goes"
    assert gateway.metric("steps_failed") == 0


async def test_start__a_crash_left_objects_behind__they_are_collected(gateway, trained):
    await trained(1)
    stray = gateway.agent._registry.objects.put(b"left behind")
    gateway.crash()
    gateway.start()
    await gateway.beat()
    assert stray not in gateway.agent._registry.objects
    assert isinstance(gateway.agent._registry, Registry)
    assert gateway.agent._registry.get("weather", 1).version == 1
