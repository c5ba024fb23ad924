"""Killed at every step of every handler: what is left on disk goes on, and nothing is lost or done twice."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import pkgutil
import signal
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from itertools import pairwise
from typing import Protocol, get_args

import pytest
from actuator_kit import Moved
from crash_scenes import BASES, SCENES, TAUGHT, Anchors, Repeated, Rotations, Scene
from crash_world import Mortal, Saved
from test_worker_release import heavy

from quietfleet import workers
from quietfleet.chain.types import Change, Kind
from quietfleet.pipeline.registry_check import check as registry_check
from quietfleet.session import Event
from quietfleet.session import _ratchet as ratchet
from quietfleet.storage import AuditLog, Database
from quietfleet.storage import _lake_work as lake_work
from quietfleet.storage._parquet import Parquet
from quietfleet.testbed.mortal import MortalDatabase, Steps, kill_me
from quietfleet.workers import _anchoring, _host, relay
from quietfleet.workers import _rollout as rollout
from quietfleet.workers import _rotation as rotation
from quietfleet.workers import _tide as tide
from quietfleet.workers import _training as training
from quietfleet.workers import gateway as gateway_module
from quietfleet.workers.messages import make_codec

WITHIN = 240.0  # seconds in which a world must have become what it would have been
LOOK = 2.0
ONCE = ("release-installed", "quarantined", "trained", "release-stopped", "release-rolled-back", "actuated")
CHAINS = 1 << 17  # steps of message chains whose keys are remembered: every trial of a scene begins with the same


# what must be the same


def week(worker):
    """What a processor or gateway keeps: the times of each device's readings."""
    series = getattr(worker.agent, "_week", None) or getattr(worker.agent, "_month", None)
    devices = series.devices() if series is not None else []
    intake = getattr(worker.agent, "_intake", None)  # a gateway's names hang on keys that a kill may have drawn anew
    owners = intake.processors() if intake is not None else []
    behind = {name: known for one in owners for name, known in intake.names(one).items()}
    kept = {behind.get(device, device): series.window(device, 0, float("inf")) for device in devices}
    return {device: [at for at, _ in rows] for device, rows in kept.items()}


def view(worker):
    """What one worker makes of the world."""
    names = {one.id: one.name for one in worker.world.workers.values()}
    messenger = worker.runtime.messenger
    open_now = [session for session in messenger.table.sessions.values() if session.confirmed]
    status = worker.agent.status()
    said = ("processor", "measured", "answered", "waiting", "actuators")
    told = said if worker.kind is Kind.SENSOR else ("release", "devices")
    commands = worker.rows("SELECT actuator, value, did FROM commands") if worker.kind is Kind.PROCESSOR else []
    shared = worker.kind is Kind.ORACLE and worker.world.store  # then sessions are with whoever of them is there
    sessions = ((names[s.peer], s.purpose.partition(":")[0], sorted(s.generations)) for s in open_now)
    return {
        "steps": list(worker.world.contract.steps) if worker.world.contract else [],
        "corrections": worker.agent._corrected.in_force if worker.kind is Kind.SENSOR else {},
        "commands": commands,
        "sessions": [] if shared else sorted(sessions),
        "wanted": worker.kind is Kind.GATEWAY and worker.agent._state.get("to release") is not None,
        "key": worker.runtime.keyring.epoch,
        "outbox": len(messenger.conversations.pending),
        "kept": week(worker),
        "configuration": messenger.epochs.latest.version if messenger.epochs.latest else None,
        "versions": sorted(messenger.epochs.live(worker.world.clock.now())),
    } | {name: status[name] for name in told if name in status}


def views(world):
    return {name: view(worker) if worker.up else None for name, worker in world.workers.items()}


def check(world):
    """What holds at any time, killed or not."""
    for worker in world.up():
        assert worker.rows("PRAGMA integrity_check") == [("ok",)]
        assert AuditLog(worker.runtime.database).verify() > 0
        assert worker.metric("steps_failed") == 0
        for kind in (
            "release-installed",
            "quarantined",
            "trained",
            "release-stopped",
            "release-rolled-back",
            "actuated",
        ):
            said = [str(entry) for entry in worker.journal(kind)]
            assert len(said) == len(set(said)), kind
        if models := getattr(worker.agent, "_models", None) if worker.kind is Kind.GATEWAY else None:
            assert registry_check(models.registry, AuditLog(worker.runtime.database)) == []
        anchored = worker.journal("anchored")
        assert all(one != other for one, other in pairwise(anchored)), "an older one may come back, none twice in a row"
    for sensor in (one for one in world.up() if one.kind is Kind.SENSOR):
        taken = sensor.journal("recommendation")
        assert all(entry["rows"] for entry in taken), "each answer is taken once"
        throughs = [entry["through"] for entry in taken]
        assert throughs == sorted(set(throughs))
        assert sum(entry["rows"] for entry in taken) == sensor.agent.status()["answered"]


async def settle(world, expected):
    """Let time pass until the world is what it would have been."""
    deadline, (doom,) = world.clock.now() + WITHIN, world.dooms.values()
    while not doom.buried or world.fallen or views(world) != expected:
        assert world.clock.now() < deadline, differences(views(world), expected)
        await world.pass_time(LOOK, step=LOOK)
    check(world)


def differences(seen, expected):
    """Who sees what otherwise."""
    return [
        (name, key, seen[name][key], value)
        for name, one in expected.items()
        for key, value in one.items()
        if seen[name] and seen[name][key] != value
    ]


# the trials


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """Each base is made once, and kept on disk."""
    return {}, tmp_path_factory.mktemp("bases")


@pytest.fixture
def play(bases, tmp_path, monkeypatch, candidate, noted):
    """Opens a scene's world, one of its people doomed, and lets the scene happen."""
    monkeypatch.setattr(ratchet, "advance", _advance)
    monkeypatch.setattr(lake_work, "Parquet", _parquet)
    monkeypatch.setattr(gateway_module, "JOB_PAUSE", 0.0)
    monkeypatch.setattr("quietfleet.crypto.keystore._LIGHT_SCRYPT_N", 2)
    monkeypatch.setattr("quietfleet.workers.oracle.JOB_PAUSE", 0.0)
    monkeypatch.setattr("quietfleet.workers._actuators.Motion", Moved)

    async def play(scene, victim, fatal=0):
        kept, folder = bases
        if scene.base not in kept:
            kept[scene.base] = await Saved.of(await begin(scene.base, folder / scene.base, candidate))
        world = await kept[scene.base].open(tmp_path / scene.base / victim / f"{fatal}", victim, fatal)
        if scene.contract is not None:
            world.contract = scene.contract(world)
            deploy(world.contract, monkeypatch)
            monkeypatch.setattr(training, "fit", Repeated(_trained(candidate, scene)))
        await scene.act(world)
        if not fatal:
            await world.pass_time(scene.rest)
            noted.played.add((scene, victim))
        return world

    return play


async def begin(base, folder, candidate):
    """Make a base; some begin with a model, one of them with as large a one as may be."""
    if base not in TAUGHT:
        return await BASES[base](folder)
    return await TAUGHT[base](folder, heavy(candidate) if base == "narrow" else candidate)


_advance = lru_cache(CHAINS)(ratchet.advance)
_parquet = cache(Parquet)  # it remembers nothing, and takes longer to start than all else of a gateway


def deploy(contract, monkeypatch):
    """Have whoever writes to the chain come upon this contract."""
    if isinstance(contract, Rotations):
        for module in (rotation, tide):
            opened = contract.client(), lambda _transaction: None
            monkeypatch.setattr(module, "account", lambda *_, opened=opened: contextlib.nullcontext(opened))
            monkeypatch.setattr(module, "ServiceContract", contract.service)
        return
    if isinstance(contract, Anchors):
        monkeypatch.setattr(_anchoring, "AnchorContract", contract)
        monkeypatch.setattr(_anchoring, "account", lambda *_: contextlib.nullcontext((None, contract)))
        return
    monkeypatch.setattr(rollout, "ReleasesContract", contract)
    monkeypatch.setattr(rollout, "account", lambda *_: contextlib.nullcontext((None, None)))


def _trained(candidate, scene):
    """What training comes to: the model, or a better one than that."""
    if scene.base != "drifted":
        return candidate
    evaluation = replace(candidate.evaluation, champion_rmse=candidate.evaluation.rmse * 2 + 3)
    better = replace(candidate.package, manifest=candidate.manifest + b" ")
    return replace(candidate, evaluation=evaluation, package=better)


def distinct(doom):
    """The last step of each mark: steps under one mark leave the same behind."""
    marks = [*doom.marks, None]
    return [step for step, mark in enumerate(doom.marks, start=1) if marks[step] != mark]


CASES = [(name, victim) for name, scene in SCENES.items() for victim in scene.victims]


@pytest.mark.parametrize(("name", "victim"), CASES)
async def test_killed__at_each_step_of_a_scene__ends_as_if_it_had_not_been(play, name, victim):
    scene = SCENES[name]
    plain = await play(scene, victim)
    deadline = plain.clock.now() + 60
    while any(one["outbox"] for one in views(plain).values()):
        assert plain.clock.now() < deadline, views(plain)
        await plain.pass_time(1)
    check(plain)
    expected, doom = views(plain), plain.dooms[victim]
    await plain.close()
    assert doom.marks, "a victim that leaves nothing behind shows nothing"
    for step in distinct(doom):
        world = await play(scene, victim, step)
        try:
            await settle(world, expected)
        except AssertionError as error:
            error.add_note(f"killed at step {step}, the last of {doom.steps.names[max(0, step - 6) : step]}")
            raise
        await world.close()


# nobody is forgotten

EXCUSED = {
    "Ignored": "only counted, and in no transaction",
    "BootstrapChanged": "the chain's list of relays is read again at every start",
    "View.open": "what it opens is opened anew at every start; it keeps nothing",
}
LOOPS = (_host.Host, relay.Relay)  # what a process runs for ever, which real processes are killed in (tests/system)


class NotingCodec:
    """What comes in under sessions, and a note of what it was."""

    def __init__(self, codec, met):
        self._codec, self._met = codec, met

    def __getattr__(self, name):
        return getattr(self._codec, name)

    def body(self, data):
        body = self._codec.body(data)
        self._met.add(type(body).__name__)
        return body


def noting(act, met):
    """Do the same, and note which classes it was given."""

    def noted(given):
        met.update(type(one).__name__ for one in (given if isinstance(given, list) else [given]))
        return act(given)

    return noted


@cache
def jobs():
    """The coroutines that workers have beside their loops: class, name."""
    found = []
    for module in pkgutil.iter_modules(workers.__path__, "quietfleet.workers."):
        for owner in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(owner) and owner.__module__ == module.name and not issubclass(owner, (*LOOPS, Protocol)):
                found += [(owner, name) for name, one in vars(owner).items() if inspect.iscoroutinefunction(one)]
    return found


def registered():
    """Whatever a worker may have to handle: bodies, events of sessions, changes of the chain, jobs."""
    kinds = [*get_args(make_codec()._bodies.type), *get_args(Event), *get_args(Change)]
    return {kind.__name__ for kind in kinds} | {f"{owner.__name__}.{name}" for owner, name in jobs()}


@dataclass
class Noted:
    """Which handlers those met who are killed in some scene, and which scenes were played to their end."""

    met: set[str] = field(default_factory=set)
    played: set[tuple[Scene, str]] = field(default_factory=set)


@pytest.fixture(scope="session")
def notes():
    """Scenes are played once for all tests."""
    return Noted()


@pytest.fixture
def noted(monkeypatch, notes):
    """Has all that the doomed meet noted."""
    met, rise = notes.met, Mortal._rise

    def rises(worker):
        rise(worker)
        if worker.name in worker.world.dooms:
            worker.runtime.feed = noting(worker.runtime.feed, met)
            worker.agent.on_change = noting(worker.agent.on_change, met)
            arrivals = worker.runtime.messenger._arrivals
            arrivals._codec = NotingCodec(arrivals._codec, met)

    monkeypatch.setattr(Mortal, "_rise", rises)
    for owner, name in jobs():
        monkeypatch.setattr(owner, name, _noted_job(vars(owner)[name], f"{owner.__name__}.{name}", met))
    return notes


def _noted_job(job, name, met):
    async def noted(*arguments, **options):
        met.add(name)
        return await job(*arguments, **options)

    return noted


async def test_handlers__each_one_registered__is_met_in_a_scene_that_somebody_is_killed_in(play, noted):
    for scene, victim in ((SCENES[name], victim) for name, victim in CASES):
        if (scene, victim) not in noted.played:
            world = await play(scene, victim)
            await world.close()
    missing = registered() - noted.met - set(EXCUSED)
    assert not missing, f"no scene of crash_scenes.py has {sorted(missing)}"


def test_kinds__each_one__is_killed_in_some_scene():
    victims = {victim.partition("#")[0] for scene in SCENES.values() for victim in scene.victims}
    assert victims == {kind.name.lower() for kind in Kind} - {"none", "relay"}


def _live(folder, fatal):
    """Write readings until death: three transactions of two statements."""
    steps = Steps(kill_me, fatal)
    database = MortalDatabase(folder / "worker.db", steps)
    for number in range(3):
        with database.transaction():
            database.execute("INSERT INTO kept VALUES (?, zeroblob(9000))", (number,))
            database.execute("INSERT INTO kept VALUES (?, zeroblob(9000))", (number + 10,))


STEPS_OF_ONE = 4  # two statements, the commit before and after


@pytest.mark.parametrize("fatal", range(1, 3 * STEPS_OF_ONE + 1))
def test_sigkill__at_each_statement_and_commit__whole_transactions_are_left(tmp_path, fatal):
    with Database(tmp_path / "worker.db") as database:
        database.execute("CREATE TABLE kept (number INTEGER, body BLOB) STRICT")
    child = os.fork()
    if child == 0:
        _live(tmp_path, fatal)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with Database(tmp_path / "worker.db") as database:
        database.check()
        whole = fatal // STEPS_OF_ONE
        assert database.execute("SELECT count(*) FROM kept").fetchone() == (2 * whole,)
